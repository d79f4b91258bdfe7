//! Finds the error in a reply of the Messages API.

use serde_json::Value;

use crate::http::HttpResponse;

/// The body, if it is an error.
pub(super) fn reported(body: &Value) -> Option<&Value> {
    let is_error = body.get("type").and_then(Value::as_str) == Some("error");
    let has_error = body.get("error").is_some_and(|error| !error.is_null());
    (is_error || has_error).then_some(body)
}

/// The API's id of this request, from the header or from the body.
pub(super) fn request_id(answer: &HttpResponse, body: Option<&Value>) -> Option<String> {
    let header = answer.headers.get("request-id").and_then(|value| value.to_str().ok());
    let in_body = || body.and_then(|body| body.get("request_id")).and_then(Value::as_str);
    header.or_else(in_body).map(str::to_owned)
}
