//! A task: one call of one plugin, and its outcome.
//!
//! A task ends in exactly one [`Outcome`]: the plugin's typed output, or a [`Failure`] with its class. Whatever happens
//! in a guest (a trap, a loop, a denied model) becomes a failure of its task only. A fault of the host itself is a
//! failure of class `host`.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::limits::ledger::Stopped;
use crate::limits::{LimitKind, LimitOwner, Limits, Shortage, Spent};

/// The position of a task in its run: `root`, `root/0`, `root/0/3`.
///
/// ```
/// use agenthost_core::task::TaskId;
///
/// assert_eq!(TaskId::root().to_string(), "root");
/// assert_eq!(TaskId::root().parent(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(String);

impl TaskId {
    /// The id of the first task of a run.
    pub fn root() -> Self {
        Self("root".into())
    }

    /// Wraps the recorded id of a task.
    #[doc(hidden)]
    pub fn recorded(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// The id of the `n`th task that this one started.
    pub fn child(&self, n: u32) -> Self {
        Self(format!("{}/{n}", self.0))
    }

    /// The number of tasks above this one.
    pub fn depth(&self) -> u32 {
        u32::try_from(self.0.matches('/').count()).unwrap_or(u32::MAX)
    }

    /// The sort key that lists ids as a tree: a task, its sub-tasks in order, the next task.
    pub fn order(&self) -> Vec<u32> {
        self.0
            .split('/')
            .skip(1)
            .map(|n| n.parse().unwrap_or(u32::MAX))
            .collect()
    }

    /// The id of the task that started this one.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a task has no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The plugin reports that it could not do the task.
    Failed,
    /// The task reached a limit.
    Exhausted,
    /// The task asked for something that was not granted.
    Denied,
    /// The model call failed permanently.
    Model,
    /// The input does not fit the model's context.
    ContextOverflow,
    /// The guest crashed.
    Trapped,
    /// The parent or the operator canceled the task.
    Cancelled,
    /// The task hands the decision to a person.
    Escalated,
    /// The host failed.
    Host,
    /// A class defined by the plugin.
    Other,
}

impl FailureClass {
    /// The name of the class in JSON output, which is the case of the contract's `failure`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::Denied => "denied",
            Self::Model => "model",
            Self::ContextOverflow => "context-overflow",
            Self::Trapped => "trapped",
            Self::Cancelled => "cancelled",
            Self::Escalated => "escalated",
            Self::Host => "host",
            Self::Other => "other",
        }
    }
}

/// A task's failure.
///
/// ```
/// use agenthost_core::task::{Failure, FailureClass};
/// use serde_json::json;
///
/// let failure = Failure::new(FailureClass::Escalated, "which of the two accounts?");
/// assert_eq!(failure.to_string(), "escalated: which of the two accounts?");
/// // For a plugin that takes the contract's `failure` as input:
/// assert_eq!(failure.to_contract_json(), json!({"escalated": "which of the two accounts?"}));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The class of the failure.
    pub class: FailureClass,
    /// The description of the failure.
    pub message: String,
    /// The limit that was reached, for [`FailureClass::Exhausted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitKind>,
    /// The owner of that limit, if it is not the task itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<LimitOwner>,
    /// The amount by which that limit was too low for a model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<Shortage>,
    /// The plugin's own error value, if its error type is not the contract's `failure`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// Deserializes a field that is present, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Failure {
    /// Creates a failure of `class`.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            limit: None,
            owner: None,
            shortage: None,
            error: None,
        }
    }

    /// Creates a failure for a limit that was reached.
    pub fn exhausted(limit: LimitKind, message: impl Into<String>) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(FailureClass::Exhausted, message)
        }
    }

    /// Adds the limit that stopped the task `own`, which may be that of another account, to the message too.
    #[doc(hidden)]
    #[must_use]
    pub fn stopped_by(mut self, stopped: Stopped, own: &TaskId) -> Self {
        let value = stopped.limit.describe_amount(stopped.most);
        let other = stopped
            .owner
            .filter(|owner| !matches!(owner, LimitOwner::Task(task) if *task == own.to_string()));
        let whose = other.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
        self.message = format!("{} (limit{whose}: {value})", self.message);
        self.owner = other;
        self
    }

    /// Appends the value of the reached limit to the message.
    pub fn with_limit_of(mut self, limits: &Limits) -> Self {
        let value = self
            .limit
            .and_then(|limit| Some(limit.with_unit(limits.describe(limit)?)));
        if let Some(value) = value {
            self.message = format!("{} (limit: {value})", self.message);
        }
        self
    }

    /// Returns whether both are the same failure, whatever the host's own words on a limit that was reached.
    #[doc(hidden)]
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self.class, other.class) {
            (FailureClass::Exhausted, FailureClass::Exhausted) => {
                (self.limit, &self.error) == (other.limit, &other.error)
            }
            _ => self == other,
        }
    }

    /// Returns the JSON form of the contract's `failure`, as input for a plugin that takes one.
    pub fn to_contract_json(&self) -> Value {
        let name = self.class.name();
        match self.class {
            FailureClass::ContextOverflow | FailureClass::Cancelled => name.into(),
            FailureClass::Exhausted => json!({ name: self.limit.unwrap_or(LimitKind::Other).name() }),
            FailureClass::Host => json!({ "other": [name, self.message] }),
            FailureClass::Other => {
                let (class, text) = self.message.split_once(": ").unwrap_or(("", &self.message));
                json!({ name: [class, text] })
            }
            _ => json!({ name: self.message }),
        }
    }

    /// Reads the JSON form of the contract's `failure`.
    pub fn from_json(json: &Value) -> Self {
        let (case, payload) = match json {
            Value::String(case) => (case.as_str(), None),
            Value::Object(fields) => match fields.iter().next() {
                Some((case, payload)) => (case.as_str(), Some(payload)),
                None => ("", None),
            },
            _ => ("", None),
        };
        let text = || payload.and_then(Value::as_str).unwrap_or_default().to_owned();
        match case {
            "failed" => Self::new(FailureClass::Failed, text()),
            "exhausted" => {
                let limit = LimitKind::from_name(&text());
                Self::exhausted(limit, format!("the task gave up at its limit of {}", limit.words()))
            }
            "denied" => Self::new(FailureClass::Denied, text()),
            "model" => Self::new(FailureClass::Model, text()),
            "context-overflow" => Self::new(
                FailureClass::ContextOverflow,
                "the input does not fit the model's context",
            ),
            "trapped" => Self::new(FailureClass::Trapped, text()),
            "cancelled" => Self::new(FailureClass::Cancelled, "the task says that it was cancelled"),
            "escalated" => Self::new(FailureClass::Escalated, text()),
            _ => {
                let item = |n| {
                    payload
                        .and_then(|pair| pair.get(n))
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                };
                Self::new(FailureClass::Other, format!("{}: {}", item(0), item(1)))
            }
        }
    }
}

/// `exhausted: the task used up its fuel`
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.message)?;
        match &self.shortage {
            Some(shortage) => write!(f, ": {shortage}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// The outcome of a task.
///
/// ```
/// use agenthost_core::limits::LimitKind;
/// use agenthost_core::task::{Failure, FailureClass, Outcome};
/// use serde_json::json;
///
/// let done = Outcome::Ok(json!({"answer": 42}));
/// assert_eq!(done.ok().map(|output| &output["answer"]), Some(&json!(42)));
///
/// let failed = Outcome::Failure(Failure::exhausted(LimitKind::Calls, "no call is left"));
/// assert_eq!(serde_json::to_value(&failed).unwrap()["failure"]["class"], "exhausted");
/// match failed.into_result() {
///     Err(failure) if failure.class == FailureClass::Exhausted => assert_eq!(failure.limit, Some(LimitKind::Calls)),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The plugin's output, as JSON.
    Ok(Value),
    /// The failure.
    Failure(Failure),
}

impl Outcome {
    /// Returns the output or the failure as a `Result`.
    ///
    /// # Errors
    ///
    /// Returns the failure of a task without an output.
    pub fn into_result(self) -> Result<Value, Failure> {
        match self {
            Self::Ok(value) => Ok(value),
            Self::Failure(failure) => Err(failure),
        }
    }

    /// Returns the output as a value of the program's own type. WIT names are in kebab case, so a type with fields of
    /// several words needs `#[serde(rename_all = "kebab-case")]`.
    ///
    /// ```
    /// use agenthost_core::task::{Failure, FailureClass, Outcome, OutputError};
    /// use serde_json::json;
    ///
    /// assert_eq!(Outcome::Ok(json!([1, 2])).output::<Vec<u8>>()?, [1, 2]);
    ///
    /// let failed = Outcome::Failure(Failure::new(FailureClass::Trapped, "unreachable"));
    /// match failed.output::<Vec<u8>>() {
    ///     Err(OutputError::Failure(failure)) => assert_eq!(failure.class, FailureClass::Trapped),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), OutputError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutputError::Failure`] if the task has no output, and [`OutputError::Type`] if the output is not a `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, OutputError> {
        match self {
            Self::Ok(output) => T::deserialize(output).map_err(OutputError::Type),
            Self::Failure(failure) => Err(OutputError::Failure(failure.clone())),
        }
    }

    /// The output, if there is one.
    pub fn ok(&self) -> Option<&Value> {
        match self {
            Self::Ok(value) => Some(value),
            Self::Failure(_) => None,
        }
    }

    /// The failure, if there is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Ok(_) => None,
            Self::Failure(failure) => Some(failure),
        }
    }
}

/// The reason why a task has no output of the requested type.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputError {
    /// The task failed.
    Failure(Failure),
    /// The task has an output of another type.
    Type(serde_json::Error),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(failure) => failure.fmt(f),
            Self::Type(error) => write!(f, "the output is not of the requested type: {error}"),
        }
    }
}

impl std::error::Error for OutputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failure(failure) => Some(failure),
            Self::Type(error) => Some(error),
        }
    }
}

/// The report of a task that has ended. `O` is the type of its outcome: see [`RecordedReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskReport<O = Outcome> {
    /// The position of the task in the run.
    pub id: TaskId,
    /// The task that started this one; `None` for the root.
    pub parent: Option<TaskId>,
    /// The plugin's identity, with the version of its interface.
    pub plugin: String,
    /// The release version of the plugin, if it differs from the interface version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The models that it called, as `provider/model`, in the order of their first call.
    #[serde(default)]
    pub models: Vec<String>,
    /// The outcome.
    pub outcome: O,
    /// The usage of the task itself, without its sub-tasks.
    pub spent: Spent,
    /// The task's output on stdout and stderr, up to a size limit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// The number of bytes of the log that were dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_dropped_bytes: u64,
    /// Notes of the host for people, for example that a directory was full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The report of a task as its record has it. Its outcome is `None` if an output is not kept.
pub type RecordedReport = TaskReport<Option<Outcome>>;

impl<O> TaskReport<O> {
    /// Creates the report of a task of `plugin` (`namespace:name@version`) that used nothing.
    ///
    /// ```
    /// use agenthost_core::task::{Outcome, TaskId, TaskReport};
    /// use serde_json::json;
    ///
    /// let report = TaskReport::new(TaskId::root().child(3), "demo:ask@0.1.0", Outcome::Ok(json!("yes")));
    /// assert_eq!((report.parent, report.spent.calls), (Some(TaskId::root()), 0));
    /// ```
    pub fn new(id: TaskId, plugin: impl Into<String>, outcome: O) -> Self {
        Self {
            parent: id.parent(),
            id,
            plugin: plugin.into(),
            release: None,
            models: Vec::new(),
            outcome,
            spent: Spent::default(),
            log: String::new(),
            log_dropped_bytes: 0,
            notes: Vec::new(),
        }
    }

    /// Describes the plugin that ran: `demo:competitor@0.1.0`, followed by `, release 0.1.3` if its release version
    /// differs.
    pub fn plugin_and_release(&self) -> String {
        match &self.release {
            Some(release) => format!("{}, release {release}", self.plugin),
            None => self.plugin.clone(),
        }
    }

    fn with_outcome<P>(self, outcome: impl FnOnce(O) -> P) -> TaskReport<P> {
        TaskReport {
            id: self.id,
            parent: self.parent,
            plugin: self.plugin,
            release: self.release,
            models: self.models,
            outcome: outcome(self.outcome),
            spent: self.spent,
            log: self.log,
            log_dropped_bytes: self.log_dropped_bytes,
            notes: self.notes,
        }
    }
}

impl TaskReport {
    /// Returns the report for the task's record.
    pub fn recorded(self) -> RecordedReport {
        self.with_outcome(Some)
    }
}

impl RecordedReport {
    /// Returns the whole report; `None` if the outcome is not kept.
    pub fn whole(mut self) -> Option<TaskReport> {
        let outcome = self.outcome.take()?;
        Some(self.with_outcome(|_| outcome))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(json: Value) -> (FailureClass, String, Option<LimitKind>) {
        let failure = Failure::from_json(&json);
        (failure.class, failure.message, failure.limit)
    }

    #[test]
    fn every_case_of_failure_has_its_class() {
        for class in [
            FailureClass::ContextOverflow,
            FailureClass::Cancelled,
            FailureClass::Other,
        ] {
            assert_eq!(json!(class), class.name());
        }
        for name in ["failed", "denied", "model", "trapped", "escalated"] {
            let (class, message, limit) = class(json!({ name: "why" }));
            assert_eq!((class.name(), message.as_str(), limit), (name, "why", None));
        }
        for name in ["context-overflow", "cancelled"] {
            assert_eq!(class(json!(name)).0.name(), name);
        }
        assert_eq!(class(json!({"exhausted": "calls"})).2, Some(LimitKind::Calls));
        let (other, message, _) = class(json!({"other": ["quota", "gone"]}));
        assert_eq!((other, message.as_str()), (FailureClass::Other, "quota: gone"));
    }

    #[test]
    fn a_failure_is_an_input_again() {
        for case in [
            json!({"failed": "why"}),
            json!({"exhausted": "calls"}),
            json!({"denied": "why"}),
            json!({"model": "why: because"}),
            json!("context-overflow"),
            json!({"trapped": "why"}),
            json!("cancelled"),
            json!({"escalated": "why"}),
            json!({"other": ["quota", "gone: all"]}),
        ] {
            assert_eq!(Failure::from_json(&case).to_contract_json(), case);
        }
        let host = Failure::new(FailureClass::Host, "why");
        assert_eq!(host.to_contract_json(), json!({"other": ["host", "why"]}));
        assert_eq!(host.to_string(), "host: why");
    }

    #[test]
    fn a_limit_that_was_reached_is_named_with_its_value() {
        let limits = Limits {
            calls: Some(1),
            tasks: Some(2),
            fuel: Some(20_000_000_000),
            tokens: Some(12_345),
            timeout: Some(std::time::Duration::from_secs(300)),
            ..Limits::none()
        };
        let said = |limit| Failure::exhausted(limit, "no").with_limit_of(&limits).message;
        assert_eq!(said(LimitKind::Calls), "no (limit: 1 call)");
        assert_eq!(said(LimitKind::Tasks), "no (limit: 2 sub-tasks)");
        assert_eq!(said(LimitKind::Fuel), "no (limit: 20 G fuel)");
        assert_eq!(said(LimitKind::Tokens), "no (limit: 12,345 tokens)");
        assert_eq!(said(LimitKind::Time), "no (limit: 5 min)");
        assert_eq!(said(LimitKind::Cost), "no");
    }

    #[test]
    fn the_hosts_own_words_on_a_limit_make_no_difference() {
        let tokens = |message: &str| Failure::exhausted(LimitKind::Tokens, message);
        assert!(tokens("a").agrees_with(&tokens("b")));
        assert!(!tokens("a").agrees_with(&Failure::exhausted(LimitKind::Calls, "a")));
        let failed = |message: &str| Failure::new(FailureClass::Failed, message);
        assert!(failed("a").agrees_with(&failed("a")) && !failed("a").agrees_with(&failed("b")));
    }

    #[test]
    fn ids_are_positional() {
        assert_eq!(TaskId("root/0/3".into()).parent(), Some(TaskId("root/0".into())));
        assert_eq!(TaskId::root().parent(), None);
    }

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        for outcome in [
            Outcome::Ok(json!({"a": [1, null]})),
            Outcome::Failure(Failure::exhausted(LimitKind::Tokens, "no more")),
            Outcome::Failure(Failure {
                error: Some(json!({"code": 7})),
                ..Failure::new(FailureClass::Failed, "why")
            }),
            Outcome::Failure(Failure {
                error: Some(Value::Null),
                ..Failure::new(FailureClass::ContextOverflow, "")
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
            let text = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<TaskReport>(&text).unwrap(), report);
            let recorded: RecordedReport = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&recorded).unwrap(), text);
            assert_eq!(recorded.whole(), Some(report));
        }
        assert!(serde_json::from_str::<RecordedReport>("{}").is_err());
    }
}
