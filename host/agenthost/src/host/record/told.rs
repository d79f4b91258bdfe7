//! The results of model calls and their costs, in the form that the journal keeps.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Mode;
use agenthost_core::limits::Usd;
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::{CallError, CallResult, Reply, Request};
use agenthost_core::run::ModelReport;
use agenthost_journal::CallRecord;

/// The result of a model call that a task received, with what the call used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordedReply {
    #[serde(flatten)]
    result: RecordedResult,
    pub(super) used: UsedJson,
    #[serde(default)]
    pub(crate) models: Vec<ModelReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RecordedResult {
    Ok(Reply),
    Err(CallError),
}

/// [`Used`], with costs in pico-dollars.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct UsedJson {
    input: u64,
    cached: u64,
    output: u64,
    pico_usd: Option<u64>,
    /// Whether a request was sent, so that it counts as a call.
    sent: bool,
}

impl UsedJson {
    fn new(used: &Used, sent: bool) -> Self {
        Self {
            input: used.input,
            cached: used.cached_input,
            output: used.output,
            pico_usd: used.cost.map(Usd::pico),
            sent,
        }
    }

    fn used(&self) -> Used {
        Used {
            input: self.input,
            cached_input: self.cached,
            output: self.output,
            cost: self.pico_usd.map(Usd::from_pico),
        }
    }
}

impl RecordedReply {
    pub(crate) fn new(result: &CallResult, used: &Used, sent: bool, models: Vec<ModelReport>) -> Self {
        Self {
            result: match result {
                Ok(reply) => RecordedResult::Ok(reply.clone()),
                Err(error) => RecordedResult::Err(error.clone()),
            },
            used: UsedJson::new(used, sent),
            models,
        }
    }

    pub(crate) fn result(self) -> CallResult {
        match self.result {
            RecordedResult::Ok(reply) => Ok(reply),
            RecordedResult::Err(error) => Err(error),
        }
    }

    /// Returns what the call used; `None` if no request was sent.
    pub(crate) fn used(&self) -> Option<Used> {
        self.used.sent.then(|| self.used.used())
    }

    /// Returns whether the same request would give no better result another time.
    pub(super) fn is_final(&self, mode: Mode) -> bool {
        match &self.result {
            RecordedResult::Ok(_) => true,
            // Running failed tasks again includes making their failed calls again.
            RecordedResult::Err(_) if mode == (Mode::Resume { failed: true }) => false,
            RecordedResult::Err(error) => match error {
                CallError::Denied(_)
                | CallError::ContextOverflow
                | CallError::Refused(_)
                | CallError::InvalidReply(_)
                | CallError::InvalidRequest(_) => true,
                CallError::Exhausted(_) | CallError::Unavailable(_) | CallError::Other(..) => false,
            },
        }
    }
}

pub(crate) type Hash = [u8; 32];

/// A reply that was paid for, with its cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PaidReply {
    pub(crate) reply: Reply,
    pub(super) used: UsedJson,
}

impl PaidReply {
    pub(crate) fn used(&self) -> Used {
        self.used.used()
    }
}

/// A request that was abandoned after it had been sent, with what was charged for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LostRequest {
    lost: UsedJson,
    model: ModelReport,
}

impl LostRequest {
    pub(super) fn new(used: &Used, model: &ModelReport) -> Self {
        Self {
            lost: UsedJson::new(used, true),
            model: model.clone(),
        }
    }
}

/// The recorded history of a call whose result is not replayed.
#[derive(Debug, Default)]
pub(crate) struct PastCall {
    /// The replies to those of its requests that are not sent again.
    pub(crate) paid: Vec<(Hash, PaidReply)>,
    /// The resources that it used beyond those replies, without the requests that never ended; `None` if nothing was
    /// sent.
    pub(crate) lost: Option<Used>,
    /// The same by models, if known.
    pub(crate) models: Vec<ModelReport>,
    /// The models of its requests that never ended.
    pub(crate) in_flight: Vec<String>,
}

impl PastCall {
    pub(super) fn of(record: &CallRecord) -> Self {
        let mut past = Self {
            in_flight: record.in_flight.clone(),
            ..Self::default()
        };
        for reply in &record.replies {
            if let Ok(paid) = serde_json::from_str(&reply.body) {
                past.paid.push((reply.hash, paid));
            } else if let Ok(LostRequest { lost, model }) = serde_json::from_str(&reply.body) {
                let lost = lost.used();
                past.lost = Some(past.lost.map_or(lost, |sum| sum.plus(&lost)));
                past.models.push(model);
            }
        }
        // The recorded result has the sum of all requests, the lost ones included.
        #[derive(Deserialize)]
        struct Sum {
            used: UsedJson,
            #[serde(default)]
            models: Vec<ModelReport>,
        }
        let told = record
            .result
            .as_ref()
            .and_then(|told| serde_json::from_str::<Sum>(told).ok());
        if let Some(Sum { used: told, models }) = told.filter(|told| told.used.sent) {
            if past.paid.is_empty() {
                past.models = models;
            }
            let paid = past.paid.iter().map(|(_, paid)| paid.used());
            past.lost = Some(paid.fold(told.used(), |rest, paid| rest.minus(&paid)));
        }
        past
    }
}

/// Returns the digest of a request to a model. It covers the prompt and the schema, and not the limit of the reply.
pub(crate) fn request_hash(model: &str, request: &Request) -> Hash {
    let told = json!([model, request.system, request.messages, request.schema]);
    Sha256::digest(told.to_string()).into()
}
