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
                llm::Error::Other(("quota".into(), "none left".into())),
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
        assert_eq!(
            Failure::Other(("quota".into(), "none".into())).to_string(),
            "quota: none"
        );
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
