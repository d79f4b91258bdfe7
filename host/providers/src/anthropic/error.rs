//! Classifies the error replies of the Messages API.
//!
//! The status alone is misleading: an exhausted budget has the same status and type as a temporary rate limit, and a
//! gateway in front of the API replies with statuses and pages of its own. So the error's code is checked first, then
//! its message, then its type, then the status.

use serde_json::Value;

use crate::http::{Endpoint, HttpResponse, gateway_text, kind_of_status};
use agenthost_core::llm::{ProviderError, ProviderErrorKind};

/// Classifies the error of `answer`; `body` is its body if that is JSON.
pub(super) fn classify(endpoint: &Endpoint, answer: &HttpResponse, body: Option<&Value>) -> ProviderError {
    let error = body.and_then(|body| body.get("error"));
    let text = |name: &str| {
        error
            .and_then(|error| error.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let code = error
        .and_then(|error| error.pointer("/details/error_code"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = kind(answer.status, text("type"), code, text("message"));
    let fallback = String::from_utf8_lossy(&answer.body);
    let message = match text("message") {
        "" => gateway_text(answer.status, &fallback),
        message => message.to_owned(),
    };
    endpoint.error(answer, kind, &message, request_id(answer, body).as_deref())
}

/// The API's id of this request, from the header or from the body.
pub(super) fn request_id(answer: &HttpResponse, body: Option<&Value>) -> Option<String> {
    let header = answer.headers.get("request-id").and_then(|value| value.to_str().ok());
    let in_body = || body.and_then(|body| body.get("request_id")).and_then(Value::as_str);
    header.or_else(in_body).map(str::to_owned)
}

fn kind(status: u16, kind: &str, code: &str, message: &str) -> ProviderErrorKind {
    use ProviderErrorKind as Kind;
    match code {
        "enforced_spend_limit_reached" | "contract_spend_limit_reached" => return Kind::SpendCap,
        "ramp_limit_exceeded" => return Kind::RateLimited,
        _ => {}
    }
    if kind == "invalid_request_error" || kind.is_empty() {
        let said = message.to_ascii_lowercase();
        if said.contains("specified api usage limits") || said.contains("credit balance is too low") {
            return Kind::SpendCap;
        }
        if said.contains("prompt is too long") || said.contains("exceed context limit") {
            return Kind::ContextOverflow;
        }
    }
    match kind {
        "invalid_request_error" => Kind::InvalidRequest,
        "authentication_error" => Kind::Authentication,
        "billing_error" => Kind::SpendCap,
        "permission_error" => Kind::Permission,
        "not_found_error" => Kind::NotFound,
        // Two requests conflicted; the vendor's own SDK retries.
        "conflict_error" | "api_error" => Kind::Server,
        "request_too_large" => Kind::TooLarge,
        "rate_limit_error" => Kind::RateLimited,
        "timeout_error" => Kind::Timeout,
        "overloaded_error" => Kind::Overloaded,
        _ => kind_of_status(status),
    }
}
