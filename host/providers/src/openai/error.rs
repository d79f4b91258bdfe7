//! Finds the error in a reply of a chat completions service, and the setting to change.

use serde_json::Value;

use super::max_tokens::MaxTokensField;
use crate::http::{BASE_URL, Endpoint, HttpResponse};
use agenthost_core::llm::{ProviderError, ProviderErrorKind, ProviderSetting};

/// The error in `body`: at the top level, in a list, or in the first choice, where OpenRouter reports an error after the
/// start.
pub(super) fn find(body: &Value) -> Option<&Value> {
    let present = |value: &&Value| !value.is_null();
    let first = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    first
        .get("error")
        .filter(present)
        .or_else(|| body.pointer("/choices/0/error").filter(present))
}

/// Classifies the error of `answer`; `body` is its body if that is JSON.
pub(super) fn classify(
    endpoint: &Endpoint,
    answer: &HttpResponse,
    body: Option<&Value>,
    field: MaxTokensField,
) -> ProviderError {
    // The rest of such a body is a reply.
    let choice = body
        .and_then(|body| body.pointer("/choices/0/error"))
        .filter(|error| !error.is_null());
    let mut error = endpoint.classify(answer, choice.or(body), request_id(answer).as_deref());
    match error.kind {
        ProviderErrorKind::NotFound => with_address(endpoint, error),
        ProviderErrorKind::InvalidRequest => {
            error.setting = error.setting.or_else(|| other_field(&error, field));
            error
        }
        _ => error,
    }
}

/// Adds the address that was asked, unless the service only lacks the model.
fn with_address(endpoint: &Endpoint, mut error: ProviderError) -> ProviderError {
    if error.message.to_ascii_lowercase().contains("model") {
        return error;
    }
    let address = endpoint.address();
    let usual = if address.ends_with("/v1/chat/completions") || address.contains("/deployments/") {
        ""
    } else {
        "; the base-url of most such services ends in /v1"
    };
    error.message = format!("{}; the address was {address}{usual}", error.message);
    error.setting = Some(BASE_URL);
    error
}

/// Returns the other name of the output limit, if the service does not know the one that was sent.
fn other_field(error: &ProviderError, field: MaxTokensField) -> Option<ProviderSetting> {
    let said = error.message.to_ascii_lowercase();
    let at = |name: &str| said.find(name).unwrap_or(usize::MAX);
    let (old, new) = (at("max_tokens"), at("max_completion_tokens"));
    let words = [
        "unrecognized",
        "unsupported",
        "unknown",
        "not supported",
        "not permitted",
        "unexpected",
        "extra",
    ];
    if !words.iter().any(|word| said.contains(word)) {
        return None;
    }
    // A service that refuses one name often recommends the other, after it.
    let other = match field {
        MaxTokensField::MaxCompletionTokens if new < old => "max-tokens",
        MaxTokensField::MaxTokens if old < new => "max-completion-tokens",
        _ => return None,
    };
    Some(ProviderSetting {
        key: "max-tokens-field",
        value: Some(other),
    })
}

/// The service's id of this request.
pub(super) fn request_id(answer: &HttpResponse) -> Option<String> {
    answer
        .headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}
