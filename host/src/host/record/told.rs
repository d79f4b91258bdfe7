//! What a task was told in answer to a model call, and what was paid for it, as the journal keeps them.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Mode;
use crate::limits::Usd;
use crate::limits::ledger::Used;
use crate::llm::{CallError, CallResult, Reply, Request};
use crate::run::ModelReport;

/// What a task was told in answer to a model call, with what it used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::host) struct Told {
    #[serde(flatten)]
    result: Answer,
    pub(super) used: UsedJson,
    #[serde(default)]
    pub(in crate::host) models: Vec<ModelReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Ok(Reply),
    Err(CallError),
}

/// [`Used`], to the pico-dollar.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct UsedJson {
    input: u64,
    cached: u64,
    output: u64,
    pico_usd: Option<u64>,
    /// Whether a request was sent, so that it counts as a call.
    sent: bool,
}

impl Told {
    pub(in crate::host) fn new(result: &CallResult, used: &Used, sent: bool, models: Vec<ModelReport>) -> Self {
        Self {
            result: match result {
                Ok(reply) => Answer::Ok(reply.clone()),
                Err(error) => Answer::Err(error.clone()),
            },
            used: UsedJson {
                input: used.input,
                cached: used.cached_input,
                output: used.output,
                pico_usd: used.cost.map(Usd::pico),
                sent,
            },
            models,
        }
    }

    pub(in crate::host) fn result(self) -> CallResult {
        match self.result {
            Answer::Ok(reply) => Ok(reply),
            Answer::Err(error) => Err(error),
        }
    }

    /// What it used; none if nothing was sent.
    pub(in crate::host) fn used(&self) -> Option<Used> {
        let used = self.used;
        used.sent.then_some(Used {
            input: used.input,
            cached_input: used.cached,
            output: used.output,
            cost: used.pico_usd.map(Usd::from_pico),
        })
    }

    /// Whether the same ask may come out better another time.
    pub(super) fn is_final(&self, mode: Mode) -> bool {
        match &self.result {
            Answer::Ok(_) => true,
            // Whoever wants what failed to be tried again wants another answer.
            Answer::Err(_) if mode == (Mode::Resume { failed: true }) => false,
            Answer::Err(error) => match error {
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

pub(in crate::host) type Hash = [u8; 32];

/// A reply that was paid for, with what it cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::host) struct PaidReply {
    pub(in crate::host) reply: Reply,
    pub(super) used: UsedJson,
}

impl PaidReply {
    pub(in crate::host) fn used(&self) -> Used {
        Used {
            input: self.used.input,
            cached_input: self.used.cached,
            output: self.used.output,
            cost: self.used.pico_usd.map(Usd::from_pico),
        }
    }
}

/// The digest of a request to a model: what it is told, whatever the room for the answer.
pub(in crate::host) fn request_hash(model: &str, request: &Request) -> Hash {
    let told = json!([model, request.system, request.messages, request.schema]);
    Sha256::digest(told.to_string()).into()
}
