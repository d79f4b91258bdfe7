//! The recorded model calls of a task: results to deliver again, and replies that are paid for.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Mode;
use agenthost_core::limits::Shortage;
use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::{CallError, CallResult, Reply, Request};
use agenthost_core::run::ModelReport;
use agenthost_journal::{AskRecord, AskResult, Asked, RecordedUse, RequestEnd, RequestHash, RequestRecord};

/// The recorded result of a model call, to be delivered again.
#[derive(Debug)]
pub(crate) struct RecordedReply {
    pub(crate) result: CallResult,
    /// The charge for the call; `None` if no request was sent.
    pub(crate) used: Option<Used>,
    pub(crate) models: Vec<ModelReport>,
    /// The amount by which a limit was too low for the call.
    pub(crate) shortage: Option<Shortage>,
}

impl RecordedReply {
    /// Returns `None` if the result is not that of a model call, or if its texts are not kept.
    pub(super) fn of(result: AskResult) -> Option<Self> {
        let (used, models) = result.charge()?;
        let (used, models) = (used.charged(), models.to_vec());
        let shortage = match &result {
            AskResult::Error { shortage, .. } => *shortage,
            _ => None,
        };
        Some(Self {
            result: result.into_call_result()?,
            used,
            models,
            shortage,
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
                RequestEnd::Lost { used, model, .. } => {
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

/// Returns the charges for a call that is asked again or replaced by another, with the replies to it, which its task no
/// longer receives. Texts are left out unless `keeps_texts` is true.
pub(super) fn replaced(record: &AskRecord, keeps_texts: bool) -> Vec<RequestRecord> {
    let lost = |used: RecordedUse, model: ModelReport, replaced: Vec<Reply>| RequestRecord {
        hash: RequestHash::default(),
        end: RequestEnd::Lost {
            used,
            model,
            replaced: if keeps_texts { replaced } else { Vec::new() },
        },
    };
    let name = match &record.what {
        Asked::Model { request, .. } => request.as_ref().map_or("", |request| &request.model),
        Asked::SubTask { .. } => return Vec::new(),
    };
    let report = |reply: Option<&Reply>, used: &RecordedUse| {
        let model = reply.map_or("", |reply| &reply.model);
        let mut report = ModelReport::new(name, model).with_used(&used.used());
        (report.calls, report.requests) = (1, 1);
        report
    };
    let Some((sum, models)) = record
        .result
        .as_ref()
        .and_then(AskResult::charge)
        .filter(|(used, _)| used.sent)
    else {
        let each = |request: &RequestRecord| match &request.end {
            RequestEnd::Paid { reply, used } => lost(*used, report(Some(reply), used), vec![reply.clone()]),
            RequestEnd::Lost { used, model, replaced } => lost(*used, model.clone(), replaced.clone()),
        };
        return record.requests.iter().map(each).collect();
    };
    // The sum of the result includes the requests before it.
    let mut replies: Vec<Reply> = Vec::new();
    for request in &record.requests {
        match &request.end {
            RequestEnd::Paid { reply, .. } => replies.push(reply.clone()),
            RequestEnd::Lost { replaced, .. } => replies.extend(replaced.iter().cloned()),
        }
    }
    let last = match &record.result {
        Some(AskResult::Reply { reply, .. }) => Some(reply),
        _ => None,
    };
    replies.extend(last.cloned());
    let (first, rest) = match models.split_first() {
        Some((first, rest)) => (first.clone(), rest),
        None => (report(last, sum), models),
    };
    let nothing = RecordedUse {
        pico_usd: Some(0),
        sent: true,
        ..RecordedUse::default()
    };
    let mut all = vec![lost(*sum, first, replies)];
    all.extend(rest.iter().map(|model| lost(nothing, model.clone(), Vec::new())));
    all
}

/// Returns whether an earlier reply to a call was replaced.
pub(super) fn is_replaced(record: &AskRecord) -> bool {
    let replaced =
        |request: &RequestRecord| matches!(&request.end, RequestEnd::Lost { replaced, .. } if !replaced.is_empty());
    record.requests.iter().any(replaced)
}

/// Returns the digest of a request to a model. It covers the prompt and the schema, and not the limit of the reply.
pub(crate) fn request_hash(model: &str, request: &Request) -> RequestHash {
    let told = json!([model, request.system, request.messages, request.schema]);
    Sha256::digest(told.to_string()).into()
}
