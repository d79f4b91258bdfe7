//! A model call as a task makes it, with a model *name*, before grants, limits and providers are applied.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::LimitKind;

use super::{Message, Part, Reply};

/// A model call of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ask {
    /// The model name: `fast`, `strong`, or another that the operator's config maps to a model.
    pub model: String,
    /// The system text.
    pub system: Option<String>,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The maximum number of output tokens; with `None`, the host chooses.
    pub max_tokens: Option<u32>,
    /// A JSON Schema, as text, that the text of the reply must satisfy.
    pub schema: Option<String>,
    /// Further settings by name.
    pub options: Vec<(String, String)>,
}

impl Ask {
    /// The bytes of its texts and media.
    pub fn bytes(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Text(text) => text.len(),
            Part::Media { mime, data } => mime.len() + data.len(),
            Part::Extension { kind, json } => kind.len() + json.len(),
        };
        let parts = self.messages.iter().flat_map(|message| &message.content).map(part);
        let texts = [&self.system, &self.schema].into_iter().flatten().map(String::len);
        let options = self.options.iter().map(|(name, value)| name.len() + value.len());
        self.model.len() + parts.chain(texts).chain(options).sum::<usize>()
    }

    /// Returns whether it has media.
    pub fn has_media(&self) -> bool {
        let mut parts = self.messages.iter().flat_map(|message| &message.content);
        parts.any(|part| matches!(part, Part::Media { .. }))
    }
}

/// The reason why a call has no reply, in the terms of the plugin contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallError {
    /// The grant does not allow this model.
    Denied(String),
    /// A limit of the task does not allow this call.
    Exhausted(LimitKind),
    /// The input does not fit the model's context.
    ContextOverflow,
    /// The model declined to answer.
    Refused(String),
    /// The reply does not satisfy the schema.
    InvalidReply(String),
    /// No provider replied.
    Unavailable(String),
    /// The request is invalid.
    InvalidRequest(String),
    /// Any other class, with its name and its message.
    Other(String, String),
}

/// The maximum size of an error's text in bytes. The text may repeat guest input, which can be 8 MiB.
const MAX_ERROR_BYTES: usize = 4 << 10;

impl CallError {
    /// Truncates the text of the error. A refusal keeps its full text, because the model wrote it.
    pub fn shortened(self) -> Self {
        let short = |mut text: String| {
            if text.len() > MAX_ERROR_BYTES {
                text.truncate(text.floor_char_boundary(MAX_ERROR_BYTES));
                text.push('…');
                text.shrink_to_fit();
            }
            text
        };
        match self {
            Self::Denied(text) => Self::Denied(short(text)),
            Self::InvalidReply(text) => Self::InvalidReply(short(text)),
            Self::Unavailable(text) => Self::Unavailable(short(text)),
            Self::InvalidRequest(text) => Self::InvalidRequest(short(text)),
            Self::Other(class, text) => Self::Other(short(class), short(text)),
            Self::Exhausted(_) | Self::ContextOverflow | Self::Refused(_) => self,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(text) => write!(f, "denied: {text}"),
            Self::Exhausted(limit) => write!(f, "the limit of {} is reached", limit.words()),
            Self::ContextOverflow => f.write_str("the input does not fit the model's context"),
            Self::Refused(text) => write!(f, "the model declined: {text}"),
            Self::InvalidReply(text) => write!(f, "the reply does not satisfy the schema: {text}"),
            Self::Unavailable(text) => write!(f, "unavailable: {text}"),
            Self::InvalidRequest(text) => write!(f, "invalid request: {text}"),
            Self::Other(class, text) => write!(f, "{class}: {text}"),
        }
    }
}

impl std::error::Error for CallError {}

/// The reply, or the reason why there is none.
pub type CallResult = Result<Reply, CallError>;

/// The remaining amounts of a task's limits; `None` for a limit that is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Allowance {
    /// Input and output tokens.
    pub tokens: Option<u64>,
    /// Micro-dollars (1e-6 USD), rounded down.
    pub cost_micro_usd: Option<u64>,
    /// Model calls.
    pub calls: Option<u64>,
    /// Fuel.
    pub fuel: Option<u64>,
    /// Milliseconds until the deadline.
    pub time_ms: Option<u64>,
}
