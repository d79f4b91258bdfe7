//! Errors: their texts, and their conversion with `?`.
//!
//! A model call's error keeps its class if `Failure` has the same one; all others become `Failure::Model` with the
//! error's text.

use std::fmt::{Display, Formatter, Result};

use crate::{Failure, Limit, llm};

impl Failure {
    /// Returns the failure of a task that could not be done, with the reason.
    ///
    /// ```
    /// use agenthost_sdk::Failure;
    ///
    /// assert_eq!(Failure::failed("no such company").to_string(), "no such company");
    /// ```
    pub fn failed(reason: impl Into<String>) -> Failure {
        Failure::Failed(reason.into())
    }

    /// Returns a failure of a class that the contract has no case for, with its text.
    ///
    /// ```
    /// use agenthost_sdk::Failure;
    ///
    /// let failure = Failure::other("quota", "no pages are left");
    /// assert_eq!((failure.class(), failure.text()), ("quota", Some("no pages are left")));
    /// assert_eq!(failure.to_string(), "quota: no pages are left");
    /// ```
    pub fn other(class: impl Into<String>, text: impl Into<String>) -> Failure {
        Failure::Other((class.into(), text.into()))
    }

    /// The class as reports name it, such as `context-overflow`. For a class that the contract has no case for, its
    /// name.
    ///
    /// ```
    /// use agenthost_sdk::{Failure, Limit};
    ///
    /// assert_eq!(Failure::Exhausted(Limit::Calls).class(), "exhausted");
    /// ```
    pub fn class(&self) -> &str {
        match self {
            Failure::Failed(_) => "failed",
            Failure::Exhausted(_) => "exhausted",
            Failure::Denied(_) => "denied",
            Failure::Model(_) => "model",
            Failure::ContextOverflow => "context-overflow",
            Failure::Trapped(_) => "trapped",
            Failure::Cancelled => "cancelled",
            Failure::Escalated(_) => "escalated",
            Failure::Other((class, _)) => class,
        }
    }

    /// The text without the class; `None` if a failure of this class has none.
    ///
    /// ```
    /// use agenthost_sdk::Failure;
    ///
    /// assert_eq!(Failure::failed("no such company").text(), Some("no such company"));
    /// assert_eq!(Failure::Cancelled.text(), None);
    /// ```
    pub fn text(&self) -> Option<&str> {
        match self {
            Failure::Failed(text)
            | Failure::Denied(text)
            | Failure::Model(text)
            | Failure::Trapped(text)
            | Failure::Escalated(text)
            | Failure::Other((_, text)) => Some(text),
            Failure::Exhausted(_) | Failure::ContextOverflow | Failure::Cancelled => None,
        }
    }
}

impl llm::Error {
    /// Returns an error of a class that the contract has no case for, with its text; for a test's scripted model.
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    ///
    /// let error = Error::other("spend-cap", "the month's budget is used up");
    /// assert_eq!((error.class(), error.text()), ("spend-cap", Some("the month's budget is used up")));
    /// ```
    pub fn other(class: impl Into<String>, text: impl Into<String>) -> llm::Error {
        llm::Error::Other((class.into(), text.into()))
    }

    /// The class as the contract names it, such as `context-overflow`. For a class that the contract has no case for,
    /// its name.
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    ///
    /// assert_eq!(Error::Unavailable("503".into()).class(), "unavailable");
    /// ```
    pub fn class(&self) -> &str {
        match self {
            llm::Error::Denied(_) => "denied",
            llm::Error::Exhausted(_) => "exhausted",
            llm::Error::ContextOverflow => "context-overflow",
            llm::Error::Refused(_) => "refused",
            llm::Error::InvalidReply(_) => "invalid-reply",
            llm::Error::Unavailable(_) => "unavailable",
            llm::Error::InvalidRequest(_) => "invalid-request",
            llm::Error::Other((class, _)) => class,
        }
    }

    /// The text without the class; `None` if an error of this class has none.
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    ///
    /// assert_eq!(Error::Refused("not about people".into()).text(), Some("not about people"));
    /// assert_eq!(Error::ContextOverflow.text(), None);
    /// ```
    pub fn text(&self) -> Option<&str> {
        match self {
            llm::Error::Denied(text)
            | llm::Error::Refused(text)
            | llm::Error::InvalidReply(text)
            | llm::Error::Unavailable(text)
            | llm::Error::InvalidRequest(text)
            | llm::Error::Other((_, text)) => Some(text),
            llm::Error::Exhausted(_) | llm::Error::ContextOverflow => None,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Failure::Failed(reason) => f.write_str(reason),
            Failure::Exhausted(limit) => write!(f, "limit reached: {limit}"),
            Failure::Denied(what) => write!(f, "denied: {what}"),
            Failure::Model(text) => write!(f, "the model call failed: {text}"),
            Failure::ContextOverflow => f.write_str("the input does not fit the model's context"),
            Failure::Trapped(text) => write!(f, "crashed: {text}"),
            Failure::Cancelled => f.write_str("cancelled"),
            Failure::Escalated(text) => write!(f, "a person must decide: {text}"),
            Failure::Other((class, text)) => write!(f, "{class}: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Display for llm::Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            llm::Error::Denied(what) => write!(f, "denied: {what}"),
            llm::Error::Exhausted(limit) => write!(f, "limit reached: {limit}"),
            llm::Error::ContextOverflow => f.write_str("the input does not fit the model's context"),
            llm::Error::Refused(text) => write!(f, "the model declined: {text}"),
            llm::Error::InvalidReply(text) => write!(f, "invalid reply: {text}"),
            llm::Error::Unavailable(text) => write!(f, "unavailable: {text}"),
            llm::Error::InvalidRequest(text) => write!(f, "invalid request: {text}"),
            llm::Error::Other((class, text)) => write!(f, "{class}: {text}"),
        }
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Limit::Tokens => "tokens",
            Limit::Cost => "cost",
            Limit::Calls => "calls",
            Limit::Fuel => "fuel",
            Limit::Memory => "memory",
            Limit::Time => "time",
            Limit::Tasks => "tasks",
            Limit::Depth => "depth",
            Limit::Size => "size",
            Limit::Other => "other",
        })
    }
}

/// Lets `?` return a model call's error from `run`.
///
/// ```
/// use agenthost_sdk::{Failure, Limit, llm};
///
/// assert_eq!(Failure::from(llm::Error::Exhausted(Limit::Calls)), Failure::Exhausted(Limit::Calls));
/// let busy = llm::Error::Unavailable("529 overloaded".into());
/// assert_eq!(Failure::from(busy), Failure::Model("unavailable: 529 overloaded".into()));
/// ```
impl From<llm::Error> for Failure {
    fn from(error: llm::Error) -> Failure {
        match error {
            llm::Error::Denied(what) => Failure::Denied(what),
            llm::Error::Exhausted(limit) => Failure::Exhausted(limit),
            llm::Error::ContextOverflow => Failure::ContextOverflow,
            other => Failure::Model(other.to_string()),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_error_keeps_its_class_where_failure_has_it() {
        let cases = [
            (llm::Error::Denied("strong".into()), Failure::Denied("strong".into())),
            (llm::Error::Exhausted(Limit::Cost), Failure::Exhausted(Limit::Cost)),
            (llm::Error::ContextOverflow, Failure::ContextOverflow),
            (
                llm::Error::Refused("no".into()),
                Failure::Model("the model declined: no".into()),
            ),
            (
                llm::Error::InvalidReply("x".into()),
                Failure::Model("invalid reply: x".into()),
            ),
            (
                llm::Error::Unavailable("503".into()),
                Failure::Model("unavailable: 503".into()),
            ),
            (
                llm::Error::InvalidRequest("bad".into()),
                Failure::Model("invalid request: bad".into()),
            ),
            (
                llm::Error::other("quota", "none left"),
                Failure::Model("quota: none left".into()),
            ),
        ];
        for (error, failure) in cases {
            assert_eq!(Failure::from(error), failure);
        }
    }

    #[test]
    fn a_json_error_is_the_tasks_own_failure() {
        let error = serde_json::from_str::<u8>("x").unwrap_err();
        let text = error.to_string();
        assert_eq!(Failure::from(error), Failure::Failed(text));
    }

    #[test]
    fn texts_name_the_limit_as_the_interface_does() {
        assert_eq!(Failure::Exhausted(Limit::Tokens).to_string(), "limit reached: tokens");
        assert_eq!(llm::Error::Exhausted(Limit::Time).to_string(), "limit reached: time");
        assert_eq!(Failure::other("quota", "none").to_string(), "quota: none");
        for limit in [Limit::Tokens, Limit::Cost, Limit::Fuel, Limit::Depth, Limit::Other] {
            assert_eq!(serde_json::to_value(limit).unwrap(), limit.to_string());
        }
    }

    #[test]
    fn a_failure_in_json_has_the_names_of_the_interface() {
        let value = serde_json::to_value([Failure::ContextOverflow, Failure::Exhausted(Limit::Calls)]).unwrap();
        assert_eq!(value, serde_json::json!(["context-overflow", {"exhausted": "calls"}]));
    }
}
