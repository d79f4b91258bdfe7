//! The checks of `doctor`, and its JSON document.

use serde::Serialize;

use super::super::hints::hint;
use agenthost::error::{Error, with_causes};

/// The result of one check.
#[derive(Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) state: CheckStatus,
    pub(super) found: String,
    /// For an advisory, whether it affects this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) affected: Option<bool>,
    /// The severity of an advisory, if it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) severity: Option<&'static str>,
    /// This project's own rating of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rating: Option<&'static str>,
    /// The address of an advisory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<String>,
    /// The reply of a model, with `--online`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) probe: Option<ProbeReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

impl Check {
    /// Creates a check that found nothing wrong.
    pub(super) fn new(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: CheckStatus::Ok,
            found: found.into(),
            affected: None,
            severity: None,
            rating: None,
            link: None,
            probe: None,
            hint: None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CheckStatus {
    /// Fine.
    Ok,
    /// Something is missing that only some uses need.
    Warn,
    /// Runs will fail.
    Fail,
}

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) format: u32,
    pub(super) version: &'static str,
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn add(
        &mut self,
        name: impl Into<String>,
        state: CheckStatus,
        found: impl Into<String>,
        hint: Option<&str>,
    ) {
        self.checks.push(Check {
            state,
            hint: hint.map(str::to_owned),
            ..Check::new(name, found)
        });
    }

    pub(super) fn failed(&mut self, name: &str, error: &Error) {
        self.add(name, CheckStatus::Fail, with_causes(error), hint(error).as_deref());
    }
}

/// The result of one request in the JSON document.
#[derive(Serialize)]
pub(super) struct ProbeReport {
    pub(super) model: String,
    pub(super) service: String,
    pub(super) served: String,
    pub(super) latency_ms: u64,
    /// `satisfied`, `in-prompt` or `violated`.
    pub(super) schema: &'static str,
    /// `null` if the service reports no counts.
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    /// `null` if the price is unknown.
    pub(super) cost_usd: Option<String>,
    /// The limits in the headers of the reply.
    pub(super) limits: Vec<LimitReport>,
}

#[derive(Serialize)]
pub(super) struct LimitReport {
    pub(super) of: &'static str,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) reset_ms: Option<u64>,
}
