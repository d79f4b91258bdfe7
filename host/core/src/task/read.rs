//! Reads task reports back from their JSON.

use serde_json::Value;

use super::{Failure, FailureClass, Outcome, TaskId, TaskReport};
use crate::limits::{LimitKind, Spent};

impl TaskReport {
    /// Reads the form that the serialization writes. `None` if the JSON is anything else.
    #[doc(hidden)]
    pub fn read(json: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(json).ok()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let models = json.get("models")?.as_array()?;
        Some(Self {
            id: TaskId(text("id")?),
            parent: text("parent").map(TaskId),
            plugin: text("plugin")?,
            release: text("release"),
            models: models.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            outcome: Outcome::read(json.get("outcome")?)?,
            spent: Spent::read(json.get("spent")?)?,
            log: text("log").unwrap_or_default(),
            log_dropped_bytes: json
                .get("log_dropped_bytes")
                .and_then(Value::as_u64)
                .unwrap_or_default(),
            notes: json
                .get("notes")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|note| note.as_str().map(str::to_owned))
                .collect(),
        })
    }
}

impl Outcome {
    /// Reads the form that the serialization writes.
    #[doc(hidden)]
    pub fn read(json: &Value) -> Option<Self> {
        if let Some(value) = json.get("ok") {
            return Some(Self::Ok(value.clone()));
        }
        let failure = json.get("failure")?;
        let text = |name: &str| failure.get(name).and_then(Value::as_str);
        Some(Self::Failure(Failure {
            class: FailureClass::from_name(text("class")?)?,
            message: text("message")?.to_owned(),
            limit: text("limit").map(LimitKind::from_name),
            error: failure.get("error").cloned(),
        }))
    }
}

impl FailureClass {
    /// Returns the class with this name.
    fn from_name(name: &str) -> Option<Self> {
        const ALL: [FailureClass; 10] = [
            FailureClass::Failed,
            FailureClass::Exhausted,
            FailureClass::Denied,
            FailureClass::Model,
            FailureClass::ContextOverflow,
            FailureClass::Trapped,
            FailureClass::Cancelled,
            FailureClass::Escalated,
            FailureClass::Host,
            FailureClass::Other,
        ];
        ALL.into_iter().find(|class| class.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        for outcome in [
            Outcome::Ok(json!({"a": [1, null]})),
            Outcome::Failure(Failure::exhausted(LimitKind::Tokens, "no more")),
            Outcome::Failure(Failure {
                error: Some(json!({"code": 7})),
                ..Failure::new(FailureClass::Failed, "why")
            }),
        ] {
            let report = TaskReport {
                id: TaskId::root().child(3),
                parent: Some(TaskId::root()),
                plugin: "a:b@0.1.0".into(),
                release: Some("0.1.7".into()),
                models: vec!["x/y".into()],
                outcome,
                spent: Spent {
                    input_tokens: 10,
                    cost: crate::limits::Usd::from_pico(123_456_789),
                    calls: 2,
                    fuel: 12_345,
                    ..Spent::default()
                },
                log: "said\n".into(),
                log_dropped_bytes: 3,
                notes: vec!["/out is full".into()],
            };
            let read = TaskReport::read(&serde_json::to_string(&report).unwrap()).unwrap();
            assert_eq!(
                (&read.id, &read.parent, &read.plugin, &read.release),
                (&report.id, &report.parent, &report.plugin, &report.release)
            );
            assert_eq!((read.outcome, read.spent), (report.outcome, report.spent));
            assert_eq!(
                (read.log, read.log_dropped_bytes),
                (report.log, report.log_dropped_bytes)
            );
        }
        assert!(TaskReport::read("{}").is_none());
    }
}
