//! A model call, and the seam behind which every model service stands.
//!
//! [`Provider`] is the contract: one request in, one reply or one classified error out. A provider knows its wire and
//! its key and nothing else: not the task that asks, not its limits, no retry and no queue. Those are decided once for
//! all providers, before a request gets here.

pub mod anthropic;
mod call;
mod http;
pub mod offline;
pub mod openai;
pub mod schema;
pub mod script;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

pub use self::call::{Allowance, Ask, CallError, CallResult};

/// A model service: one kind of wire, one address, one key.
pub trait Provider: Send + Sync + fmt::Debug {
    /// Sends `request` once and waits for the whole reply. Dropping the future closes the connection.
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>>;

    /// One line for people: what it is and where, never a key.
    fn summary(&self) -> String;

    /// Whether answers are made up on this machine, so that reports can say so.
    fn is_offline(&self) -> bool {
        false
    }
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The task.
    User,
    /// The model.
    Assistant,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Plain text.
    Text(String),
    /// Bytes with their media type.
    Media {
        /// The media type, such as `image/png`.
        mime: String,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A kind of content that the contract has no case for, as JSON.
    Extension {
        /// Its name.
        kind: String,
        /// Its JSON text.
        json: String,
    },
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Vec<Part>,
}

/// How hard the model should think, where it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the cases are the vendors' own words")]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

/// How long the provider should keep the prompt's prefix in its cache, where it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheTtl {
    /// Five minutes, the vendors' default.
    FiveMinutes,
    /// One hour.
    OneHour,
}

/// Further settings of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// `effort`: `low`, `medium`, `high`, `xhigh` or `max`.
    pub effort: Option<Effort>,
    /// `cache`: `5m` or `1h`.
    pub cache: Option<CacheTtl>,
}

impl Options {
    /// Reads the contract's name and value pairs; an unknown name or value is an error that lists the known ones.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in pairs {
            match name {
                "effort" => {
                    options.effort = Some(match value {
                        "low" => Effort::Low,
                        "medium" => Effort::Medium,
                        "high" => Effort::High,
                        "xhigh" => Effort::Xhigh,
                        "max" => Effort::Max,
                        _ => {
                            return Err(format!(
                                "option `effort` is low, medium, high, xhigh or max, not `{value}`"
                            ));
                        }
                    });
                }
                "cache" => {
                    options.cache = Some(match value {
                        "5m" => CacheTtl::FiveMinutes,
                        "1h" => CacheTtl::OneHour,
                        _ => return Err(format!("option `cache` is 5m or 1h, not `{value}`")),
                    });
                }
                _ => return Err(format!("unknown option `{name}`; the known ones are effort and cache")),
            }
        }
        Ok(options)
    }
}

/// One model call as a provider gets it: everything about limits, grants and names is settled.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's id at this provider.
    pub model: String,
    /// The system text.
    pub system: Option<String>,
    /// The conversation, not empty.
    pub messages: Vec<Message>,
    /// The most output tokens, at least 1.
    pub max_tokens: u32,
    /// A JSON Schema for the reply's text, as the task wrote it; [`schema::fit`] makes it acceptable to the wire.
    pub schema: Option<Value>,
    /// Further settings.
    pub options: Options,
}

impl Request {
    /// The UTF-8 bytes of everything that the model will read, and the number of messages: what an estimate of the input
    /// tokens is made from. Media count with their bytes, which is far more than they cost.
    pub fn size(&self) -> (u64, u64) {
        let parts = self.messages.iter().flat_map(|message| &message.content).map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Media { data, .. } => data.len(),
            Part::Extension { json, .. } => json.len(),
        });
        let system = self.system.as_ref().map_or(0, String::len);
        let schema = self.schema.as_ref().map_or(0, |schema| schema.to_string().len());
        let bytes = parts.sum::<usize>() + system + schema;
        (bytes as u64, self.messages.len() as u64)
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// It was done.
    End,
    /// `max_tokens` was reached.
    MaxTokens,
    /// A stop sequence came up.
    StopSequence,
    /// It wants a tool.
    ToolUse,
    /// It declined.
    Refusal,
    /// The context window was full before it was done.
    ContextFull,
    /// Anything else.
    Other,
}

/// Tokens as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// All input, cached input included.
    pub input: u64,
    /// The part of `input` read from the provider's cache.
    pub cached_input: u64,
    /// The part of `input` written to the provider's cache.
    pub cache_write_input: u64,
    /// All output, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning_output: u64,
}

impl Usage {
    /// What two replies used together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write_input: self.cache_write_input.saturating_add(other.cache_write_input),
            output: self.output.saturating_add(other.output),
            reasoning_output: self.reasoning_output.saturating_add(other.reasoning_output),
        }
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The parts of the answer; thinking is left out.
    pub content: Vec<Part>,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// Why it stopped.
    pub stop: Stop,
    /// The model's words on why it declined, where `stop` is [`Stop::Refusal`].
    pub refusal: Option<String>,
    /// The provider's count; none when the reply carried none or one that cannot be true.
    pub usage: Option<Usage>,
    /// The provider's id of this request, for its support.
    pub request_id: Option<String>,
}

impl Reply {
    /// All text parts, joined.
    pub fn text(&self) -> String {
        self.content
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Media { .. } | Part::Extension { .. } => None,
            })
            .collect()
    }
}

/// What kind of failure a provider met. The gate decides by this alone whether another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderErrorKind {
    /// Too many requests or tokens for now.
    RateLimited,
    /// The service is overloaded, or a gateway in front of it is.
    Overloaded,
    /// The service failed.
    Server,
    /// No connection, or it broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// An answer that is not of the wire: no JSON, too large, fields missing. It may have been billed.
    BadReply,
    /// The request is wrong.
    InvalidRequest,
    /// The input does not fit the model's context.
    ContextOverflow,
    /// The service refuses the key.
    Authentication,
    /// The key may not do this.
    Permission,
    /// No such model or address.
    NotFound,
    /// The account's money or spend cap is used up; waiting does not help.
    SpendCap,
    /// A single request larger than the rate limit or the service allows; it can never pass.
    TooLarge,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderError {
    /// What kind of failure.
    pub kind: ProviderErrorKind,
    /// What the provider said, shortened and without anything that looks like a key.
    pub message: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// Before this has passed, the provider wants no further request.
    pub retry_after: Option<Duration>,
    /// The provider's id of this request.
    pub request_id: Option<String>,
}

impl ProviderError {
    /// An error with no HTTP answer behind it.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            request_id: None,
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProviderError {}
