//! A model call, and the seam behind which every model service stands.
//!
//! [`Provider`] is the contract: one request in, one reply or one classified error out. A provider knows its wire and
//! its key and nothing else: not the task that asks, not its limits, no retry and no queue. Those are decided once for
//! all providers, before a request gets here.

mod base64_data;
mod call;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::call::{Allowance, Ask, CallError, CallResult};

/// A model service: one kind of wire, one address, one key.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_core::llm::{Message, Options, Part, Provider, ProviderError, ProviderErrorKind, Reply, Request, Role, Stop, Usage};
/// use futures_util::future::BoxFuture;
///
/// /// Answers with what it was asked, in capitals.
/// #[derive(Debug)]
/// struct Loud;
///
/// impl Provider for Loud {
///     fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
///         Box::pin(async move {
///             let Some(Part::Text(text)) = request.messages.last().and_then(|message| message.content.last()) else {
///                 return Err(ProviderError::new(ProviderErrorKind::InvalidRequest, "nothing was asked"));
///             };
///             Ok(Reply {
///                 content: vec![Part::Text(text.to_uppercase())],
///                 model: request.model.clone(),
///                 stop: Stop::End,
///                 refusal: None,
///                 usage: Some(Usage { input: 5, output: 5, ..Usage::default() }),
///                 request_id: None,
///                 quota: None,
///             })
///         })
///     }
///
///     fn summary(&self) -> String {
///         "loud: capitals, no model is called".to_owned()
///     }
/// }
///
/// let request = Request {
///     model: "any".into(),
///     system: None,
///     messages: vec![Message { role: Role::User, content: vec![Part::Text("is anybody there?".into())] }],
///     max_tokens: 100,
///     schema: None,
///     options: Options::default(),
///     mark_prefix: None,
/// };
/// assert_eq!(Loud.complete(&request).await?.text(), "IS ANYBODY THERE?");
/// # Ok(())
/// # }
/// ```
pub trait Provider: Send + Sync + fmt::Debug {
    /// Sends `request` once and waits for the whole reply. Dropping the future closes the connection; the host charges a
    /// request that is dropped as if it had been answered at its full length.
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>>;

    /// One line for people: what it is and where, never a key.
    fn summary(&self) -> String;

    /// Whether answers are made up on this machine, so that reports can say so.
    fn is_offline(&self) -> bool {
        false
    }

    /// How the service counts tokens against its rate limits.
    fn counting(&self) -> Counting {
        Counting::AsUsed
    }

    /// What the service does with prompts that begin alike.
    fn caching(&self) -> Caching {
        Caching::None
    }
}

/// How a service counts tokens against its rate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Input and output apart, as they are used: cached input does not count, and neither does the output limit
    /// (Anthropic).
    AsUsed,
    /// What a request may use at the most, when it arrives: the larger of its input's estimate and its output limit
    /// (OpenAI).
    UpFront,
}

/// What a service does with prompts that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caching {
    /// Nothing that is known.
    None,
    /// Keeps what a request marks (Anthropic).
    Marked,
    /// Keeps prefixes by itself (OpenAI).
    Automatic,
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The task.
    User,
    /// The model.
    Assistant,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Plain text.
    Text(String),
    /// Bytes with their media type.
    Media {
        /// The media type, such as `image/png`.
        mime: String,
        /// The bytes; base64 in JSON.
        #[serde(with = "base64_data")]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    ///
    /// ```
    /// use agenthost_core::llm::{Effort, Options};
    ///
    /// assert_eq!(Options::parse([("effort", "low")])?.effort, Some(Effort::Low));
    /// assert!(Options::parse([("mood", "good")]).is_err());
    /// # Ok::<(), String>(())
    /// ```
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
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_core::llm::{Message, Options, Part, Request, Role};
/// use serde_json::json;
///
/// let request = Request {
///     model: "any".into(),
///     system: Some("Be brief.".into()),
///     messages: vec![Message { role: Role::User, content: vec![Part::Text("Name a colour.".into())] }],
///     max_tokens: 100,
///     schema: Some(json!({"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]})),
///     options: Options::default(),
///     mark_prefix: None,
/// };
/// assert_eq!(request.messages.len(), 1);
/// # Ok(())
/// # }
/// ```
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
    /// A JSON Schema for the reply's text, as the task wrote it; `agenthost_providers::schema::fit` makes it acceptable to the wire.
    pub schema: Option<Value>,
    /// Further settings.
    pub options: Options,
    /// Ask the service to keep what comes before the message part of this index (counted over all messages' parts; 0:
    /// the system text alone) in its prompt cache. A wire without such marks ignores it, and so does one that has
    /// nothing before that part.
    pub mark_prefix: Option<usize>,
}

impl Request {
    /// The UTF-8 bytes of everything that the model will read, and the number of messages: what an estimate of the input
    /// tokens is made from. Media count with their bytes, which is far more than they cost.
    pub fn size(&self) -> (u64, u64) {
        let parts = self
            .messages
            .iter()
            .flat_map(|message| &message.content)
            .map(|part| match part {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// What the answer's headers said of rate limits; none when no such header was there.
    #[serde(skip)]
    pub quota: Option<Box<Quota>>,
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

/// What an answer's headers say of the rate limits behind it; none where they do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests.
    pub requests: Option<RateLimit>,
    /// Input and output tokens together.
    pub tokens: Option<RateLimit>,
    /// Input tokens.
    pub input_tokens: Option<RateLimit>,
    /// Output tokens.
    pub output_tokens: Option<RateLimit>,
}

/// One rate limit, as the provider saw it when it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The most in a window, at least 1.
    pub limit: u64,
    /// What is left of it, at most `limit`.
    pub remaining: u64,
    /// Until it is full again, at most a year.
    pub reset: Option<Duration>,
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
///
/// ```
/// use std::time::Duration;
/// use agenthost_core::llm::{ProviderError, ProviderErrorKind};
///
/// let error = ProviderError {
///     status: Some(429),
///     retry_after: Some(Duration::from_secs(2)),
///     ..ProviderError::new(ProviderErrorKind::RateLimited, "slow down")
/// };
/// assert_eq!(error.to_string(), "slow down");
/// ```
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
    /// The provider itself says that another try cannot help.
    pub no_retry: bool,
    /// Whether the provider may bill the request: it was written, and no error answered it. Such a request is charged as
    /// it was reserved.
    pub may_be_billed: bool,
    /// The provider's id of this request.
    pub request_id: Option<String>,
    /// What the answer's headers said of rate limits; none when no such header was there.
    pub quota: Option<Box<Quota>>,
}

impl ProviderError {
    /// An error with no HTTP answer behind it. It may be billed if the kind says that a request was sent and no answer can
    /// be read: [`Timeout`](ProviderErrorKind::Timeout) and [`BadReply`](ProviderErrorKind::BadReply).
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            may_be_billed: matches!(kind, ProviderErrorKind::Timeout | ProviderErrorKind::BadReply),
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            no_retry: false,
            request_id: None,
            quota: None,
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
