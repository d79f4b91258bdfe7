//! Converts the end of a guest to the outcome of its task.

use serde_json::Value;

use agenthost_core::task::{Failure, FailureClass, Outcome};

use super::call::End;

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        Self::Failure(match end {
            End::Output(value) => return Self::Ok(value),
            End::Failure(json) => Failure::from_json(&json),
            End::Text(text) => Failure {
                error: Some(Value::String(text.clone())),
                ..Failure::new(FailureClass::Failed, text)
            },
            End::Error(error) => {
                let message = match &error {
                    Value::Null => "the plugin gave no output and no reason".into(),
                    error => format!("the plugin gave an error: {error}"),
                };
                Failure {
                    error: Some(error),
                    ..Failure::new(FailureClass::Failed, message)
                }
            }
            End::Exhausted(limit, message) => Failure::exhausted(limit, message),
            End::Trapped(message) => Failure::new(FailureClass::Trapped, message),
            End::Cancelled => Failure::new(FailureClass::Cancelled, "the task was cancelled"),
            End::Host(message) => Failure::new(FailureClass::Host, message),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugins_own_error_is_kept_as_a_value() {
        let outcome = Outcome::from(End::Error(json!({"code": 7})));
        assert_eq!(
            serde_json::to_value(&outcome).unwrap(),
            json!({"failure": {"class": "failed", "message": "the plugin gave an error: {\"code\":7}", "error": {"code": 7}}})
        );
        let text = Outcome::from(End::Text("no".into()));
        assert_eq!(text.failure().unwrap().error, Some(json!("no")));
    }
}
