//! The recorded model calls of a task: results to deliver again, and replies that are paid for.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Mode;
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::{CallError, CallResult, Reply, Request};
use agenthost_core::run::ModelReport;
use agenthost_journal::{AskRecord, AskResult, RequestEnd, RequestHash};

/// The recorded result of a model call, to be delivered again.
#[derive(Debug)]
pub(crate) struct RecordedReply {
    pub(crate) result: CallResult,
    /// The charge for the call; `None` if no request was sent.
    pub(crate) used: Option<Used>,
    pub(crate) models: Vec<ModelReport>,
}

impl RecordedReply {
    /// Returns `None` if the result is not that of a model call, or if its texts are not kept.
    pub(super) fn of(result: AskResult) -> Option<Self> {
        let (used, models) = result.charge()?;
        let (used, models) = (used.charged(), models.to_vec());
        Some(Self {
            result: result.into_call_result()?,
            used,
            models,
        })
    }
}

/// Returns whether asking for the same again would give no better result another time.
pub(super) fn is_final(result: &AskResult, mode: Mode) -> bool {
    let failed_again = mode == (Mode::Resume { failed: true });
    match result {
        AskResult::Reply { .. } => true,
        // Running failed tasks again includes making their failed calls again.
        AskResult::Error { .. } if failed_again => false,
        AskResult::Error { error, .. } => match error {
            CallError::Denied(_)
            | CallError::ContextOverflow
            | CallError::Refused(_)
            | CallError::InvalidReply(_)
            | CallError::InvalidRequest(_) => true,
            CallError::Exhausted(_) | CallError::Unavailable(_) | CallError::Other(..) => false,
        },
        AskResult::NotKept { .. } => false,
        AskResult::SubTask { ok, keeps, .. } => *keeps && (*ok || !failed_again),
    }
}

/// A reply that was paid for, with its cost.
#[derive(Debug)]
pub(crate) struct PaidReply {
    /// The digest of the request.
    pub(crate) hash: RequestHash,
    pub(crate) reply: Reply,
    pub(crate) used: Used,
}

/// The recorded history of a call whose result is not replayed.
#[derive(Debug, Default)]
pub(crate) struct PastCall {
    /// The replies to those of its requests that are not sent again.
    pub(crate) paid: Vec<PaidReply>,
    /// The resources that it used beyond those replies, without the requests that never ended; `None` if nothing was
    /// sent.
    pub(crate) lost: Option<Used>,
    /// The same by models, if known.
    pub(crate) models: Vec<ModelReport>,
    /// The models of its requests that never ended.
    pub(crate) in_flight: Vec<String>,
}

impl PastCall {
    pub(super) fn of(record: AskRecord) -> Self {
        let mut past = Self {
            in_flight: record.in_flight,
            ..Self::default()
        };
        for request in record.requests {
            match request.end {
                RequestEnd::Paid { reply, used } => past.paid.push(PaidReply {
                    hash: request.hash,
                    reply,
                    used: used.used(),
                }),
                RequestEnd::Lost { used, model } => {
                    let lost = used.used();
                    past.lost = Some(past.lost.map_or(lost, |sum| sum.plus(&lost)));
                    past.models.push(model);
                }
            }
        }
        // The recorded result has the sum of all requests, the lost ones included.
        let sum = record.result.as_ref().and_then(AskResult::charge);
        if let Some((Some(sum), models)) = sum.map(|(used, models)| (used.charged(), models)) {
            if past.paid.is_empty() {
                past.models = models.to_vec();
            }
            let paid = past.paid.iter().map(|paid| paid.used);
            past.lost = Some(paid.fold(sum, |rest, paid| rest.minus(&paid)));
        }
        past
    }
}

/// Returns the digest of a request to a model. It covers the prompt and the schema, and not the limit of the reply.
pub(crate) fn request_hash(model: &str, request: &Request) -> RequestHash {
    let told = json!([model, request.system, request.messages, request.schema]);
    Sha256::digest(told.to_string()).into()
}
