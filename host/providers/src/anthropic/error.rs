//! Finds the error in a reply of the Messages API.

use serde_json::Value;

use crate::http::{Endpoint, HttpResponse};
use agenthost_core::llm::ProviderError;

/// The error in `body`, if it is one.
pub(super) fn find(body: &Value) -> Option<&Value> {
    let is_error = body.get("type").and_then(Value::as_str) == Some("error");
    let error = body.get("error").filter(|error| !error.is_null());
    error.or(is_error.then_some(body))
}

/// Classifies the error of `answer`; `body` is its body if that is JSON.
pub(super) fn classify(endpoint: &Endpoint, answer: &HttpResponse, body: Option<&Value>) -> ProviderError {
    endpoint.classify(answer, body, request_id(answer, body).as_deref())
}

/// The API's id of this request, from the header or from the body.
pub(super) fn request_id(answer: &HttpResponse, body: Option<&Value>) -> Option<String> {
    let header = answer.headers.get("request-id").and_then(|value| value.to_str().ok());
    let in_body = || body.and_then(|body| body.get("request_id")).and_then(Value::as_str);
    header.or_else(in_body).map(str::to_owned)
}
