//! Finds the error in a reply of a chat completions service, and the setting to change.

use serde_json::Value;

use super::max_tokens::MaxTokensField;
use crate::http::Endpoint;
use crate::openai_api::with_address;
use agenthost_core::llm::{ProviderError, ProviderErrorKind, ProviderSetting};

/// The setting of a model that OpenAI serves on its other API only.
const RESPONSES: ProviderSetting = ProviderSetting {
    key: "kind",
    value: Some("openai-responses"),
};

/// The part of `body` that is an error: the body if it or its first item has one, or the error of the first choice,
/// where OpenRouter reports an error after the start.
pub(super) fn reported(body: &Value) -> Option<&Value> {
    let present = |value: &&Value| !value.is_null();
    let choice = body.pointer("/choices/0/error").filter(present);
    // The rest of a body with a choice is a reply.
    choice.or_else(|| {
        let first = body.as_array().and_then(|list| list.first()).unwrap_or(body);
        first.get("error").filter(present).map(|_| body)
    })
}

/// Adds to an error of the service what to change.
pub(super) fn explain(endpoint: &Endpoint, mut error: ProviderError, field: MaxTokensField) -> ProviderError {
    let is_refusal = matches!(
        error.kind,
        ProviderErrorKind::InvalidRequest | ProviderErrorKind::NotFound
    );
    if is_refusal && error.message.contains("v1/responses") {
        error.kind = ProviderErrorKind::InvalidRequest;
        error.setting = Some(RESPONSES);
        return error;
    }
    match error.kind {
        ProviderErrorKind::NotFound => with_address(endpoint, error, "/v1/chat/completions"),
        ProviderErrorKind::InvalidRequest => {
            error.setting = error.setting.or_else(|| other_field(&error, field));
            error
        }
        _ => error,
    }
}

/// Returns whether the service does not know one of these members of a message.
pub(super) fn refuses_one_of<'a>(error: &ProviderError, mut names: impl Iterator<Item = &'a str>) -> bool {
    let said = error.message.to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let words: Vec<&str> = said.split(|c| !is_part(c)).collect();
    error.kind == ProviderErrorKind::InvalidRequest
        && is_unknown(&said)
        && names.any(|name| words.iter().any(|word| word.eq_ignore_ascii_case(name)))
}

/// Returns whether a message, in lower case, is about something that the service does not know.
fn is_unknown(said: &str) -> bool {
    let words = [
        "unrecognized",
        "unsupported",
        "unknown",
        "not supported",
        "not permitted",
        "unexpected",
        "extra",
    ];
    words.iter().any(|word| said.contains(word))
}

/// Returns the other name of the output limit, if the service does not know the one that was sent.
fn other_field(error: &ProviderError, field: MaxTokensField) -> Option<ProviderSetting> {
    let said = error.message.to_ascii_lowercase();
    let at = |name: &str| said.find(name).unwrap_or(usize::MAX);
    let (old, new) = (at("max_tokens"), at("max_completion_tokens"));
    if !is_unknown(&said) {
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
