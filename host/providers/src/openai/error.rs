//! Classifies the error replies of chat completions services.
//!
//! The error's code is checked first, then its type, then its message, then the status: an exhausted budget has the
//! same status as a temporary rate limit, and a request that is larger than the limit even has the same code.

use serde_json::Value;

use crate::http::{Endpoint, HttpResponse, gateway_text, kind_of_status};
use agenthost_core::llm::{ProviderError, ProviderErrorKind};

/// The error in `body`: at the top level, or in the first choice, where OpenRouter reports an error after the start.
pub(super) fn find(body: &Value) -> Option<&Value> {
    let present = |value: &&Value| !value.is_null();
    body.get("error")
        .filter(present)
        .or_else(|| body.pointer("/choices/0/error").filter(present))
}

/// Classifies the error of `answer`; `body` is its body if that is JSON.
pub(super) fn classify(endpoint: &Endpoint, answer: &HttpResponse, body: Option<&Value>) -> ProviderError {
    let error = body.and_then(find);
    let text = |name: &str| {
        error
            .and_then(|error| error.get(name))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    // A numeric code is an HTTP status, and for an error inside a 200 it is the only correct one.
    let number = error
        .and_then(|error| error.get("code"))
        .and_then(Value::as_u64)
        .and_then(|code| u16::try_from(code).ok());
    let status = number.unwrap_or(answer.status);
    let said = match error {
        Some(Value::String(message)) => message.as_str(),
        _ => text("message"),
    };
    // FastAPI servers put their message into `detail`, and older vLLM into the top level of the body.
    let top = |name: &str| body.and_then(|body| body.get(name)).and_then(Value::as_str);
    let said = if said.is_empty() {
        top("message").or_else(|| top("detail")).unwrap_or_default()
    } else {
        said
    };
    let kind = kind(status, text("type"), text("code"), said);
    let message = if said.is_empty() {
        gateway_text(status, &String::from_utf8_lossy(&answer.body))
    } else {
        said.to_owned()
    };
    endpoint.error(answer, kind, &message, request_id(answer).as_deref())
}

/// The service's id of this request.
pub(super) fn request_id(answer: &HttpResponse) -> Option<String> {
    answer
        .headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

fn kind(status: u16, kind: &str, code: &str, message: &str) -> ProviderErrorKind {
    use ProviderErrorKind as Kind;
    let said = message.to_ascii_lowercase();
    match code {
        "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "project_spend_limit_exceeded"
        | "organization_usage_limit_exceeded"
        | "insufficient_quota"
        | "billing_hard_limit_reached" => return Kind::SpendCap,
        "rate_limit_exceeded" if never_fits(&said) => return Kind::TooLarge,
        "rate_limit_exceeded" | "slow_down" => return Kind::RateLimited,
        "context_length_exceeded" => return Kind::ContextOverflow,
        "server_is_overloaded" => return Kind::Overloaded,
        "invalid_api_key" => return Kind::Authentication,
        "model_not_found" => return Kind::NotFound,
        _ => {}
    }
    match kind {
        "insufficient_quota" => return Kind::SpendCap,
        "service_unavailable_error" => return Kind::Overloaded,
        // llama.cpp's server uses this type.
        "exceed_context_size_error" => return Kind::ContextOverflow,
        "rate_limit_error" => return Kind::RateLimited,
        _ => {}
    }
    match status {
        // vLLM, OpenRouter and Ollama have no code for this error.
        400 | 413 | 422 if said.contains("maximum context length") || said.contains("context size") => {
            Kind::ContextOverflow
        }
        429 if never_fits(&said) => Kind::TooLarge,
        // An error with a status of success and without a code.
        200..300 => Kind::Server,
        _ => kind_of_status(status),
    }
}

/// Returns whether the message of a rate limit error reports that this request alone exceeds the whole limit.
fn never_fits(said: &str) -> bool {
    let number = |name: &str| {
        said.match_indices(name).find_map(|(at, _)| {
            let after = said.get(at + name.len()..)?;
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().ok()
        })
    };
    match (number("limit "), number("requested ")) {
        (Some(limit), Some(requested)) => requested > limit,
        _ => said.starts_with("request too large"),
    }
}
