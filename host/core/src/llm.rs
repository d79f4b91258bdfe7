//! Model calls, and the interface that every model service implements.
//!
//! [`Provider`] is the contract: one request in, one reply or one classified error out. A provider knows its wire
//! format and its key, and nothing else: not the task behind a request, not its limits, no retries and no queue. The
//! host handles those for all providers, before a request gets here.

mod base64_data;
mod call;
pub mod extension;
mod message;
mod option_value;
mod options;
pub mod server_tool;
mod tool;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use futures_util::future::BoxFuture;

pub use self::call::{Allowance, Ask, CallError, CallResult};
pub use self::extension::{Citation, Echo, Extension, SearchHit, SearchReport, ToolCall, ToolResult};
pub use self::message::{Message, Part, Role};
pub use self::options::{CacheTtl, Effort, Options, Thinking};
pub use self::server_tool::{ServerTool, ServerToolGrant, ServerToolGrants, ServerToolKind};
pub use self::tool::{ToolChoice, ToolDefinition};

/// A model service: one wire format, one address, one key.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_core::llm::{
///     BoxFuture, Message, Options, Part, Provider, ProviderError, ProviderErrorKind, Reply, Request, Role, Usage,
/// };
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
///             let usage = Usage { input: 5, output: 5, ..Usage::default() };
///             Ok(Reply::new(text.to_uppercase()).with_model(&request.model).with_usage(usage))
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
    /// Sends `request` once and waits for the whole reply. Dropping the future closes the connection. The host charges
    /// a dropped request as if it had been answered at its full length.
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>>;

    /// Returns a one-line description for people: the service and its address, never a key.
    fn summary(&self) -> String;

    /// Returns the kind of service, as configuration files write it: `anthropic`, `openai` or `openai-responses` if it
    /// serves the models of that vendor. Token estimates and the built-in prices depend on it.
    fn kind(&self) -> &'static str {
        "custom"
    }

    /// Returns whether replies are made up on this machine, so that reports can mark them.
    fn is_offline(&self) -> bool {
        false
    }

    /// Returns how the service counts tokens against its rate limits.
    fn counting(&self) -> Counting {
        Counting::AsUsed
    }

    /// Returns how the service caches prompts with a common prefix.
    fn caching(&self) -> Caching {
        Caching::None
    }

    /// Returns the reason why the service cannot run this tool for a request; `None` if it can.
    fn lacks(&self, tool: &ServerTool) -> Option<String> {
        Some(format!("its provider has no {}", tool.kind))
    }
}

impl<P: Provider + ?Sized> Provider for Arc<P> {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        (**self).complete(request)
    }

    fn summary(&self) -> String {
        (**self).summary()
    }

    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn is_offline(&self) -> bool {
        (**self).is_offline()
    }

    fn counting(&self) -> Counting {
        (**self).counting()
    }

    fn caching(&self) -> Caching {
        (**self).caching()
    }

    fn lacks(&self, tool: &ServerTool) -> Option<String> {
        (**self).lacks(tool)
    }
}

/// The way in which a service counts tokens against its rate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Input and output separately, as they are used. Neither cached input nor the output limit counts (Anthropic).
    AsUsed,
    /// The maximum that a request may use, on its arrival: the larger of its input's estimate and its output limit
    /// (OpenAI).
    UpFront,
}

/// The way in which a service caches prompts with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caching {
    /// Not known.
    None,
    /// Caches the prefix that a request marks (Anthropic).
    Marked,
    /// Caches prefixes automatically (OpenAI).
    Automatic,
}

/// One model call as a provider receives it. Limits, grants and names are already resolved.
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
    /// The maximum number of output tokens, at least 1.
    pub max_tokens: u32,
    /// A JSON Schema for the reply's text, as the task wrote it. `agenthost_providers::schema::fit` converts it to a
    /// form that the provider accepts.
    pub schema: Option<Value>,
    /// Further settings.
    pub options: Options,
    /// The index of a message part, counted over the parts of all messages. It asks the service to keep everything
    /// before that part in its prompt cache; for 0, that is the system text alone. A provider without such marks
    /// ignores it, and so does one with nothing before that part.
    pub mark_prefix: Option<usize>,
}

impl Request {
    /// Returns the number of bytes of everything that the model will read, to estimate the input tokens. Text counts
    /// with its UTF-8 bytes, and media with their bytes, which is far more than they cost.
    pub fn bytes(&self) -> u64 {
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
        let tools = self.options.tools.iter().map(ToolDefinition::bytes);
        let bytes = parts.sum::<usize>() + system + schema + tools.sum::<usize>();
        bytes as u64
    }
}

/// The reason why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model was done.
    End,
    /// `max_tokens` was reached.
    MaxTokens,
    /// A stop sequence occurred.
    StopSequence,
    /// The model requested a tool.
    ToolUse,
    /// The model declined.
    Refusal,
    /// The context window was full before it was done.
    ContextFull,
    /// Anything else.
    Other,
}

/// Token counts of the provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Usage {
    /// All input, including cached input.
    pub input: u64,
    /// The part of `input` read from the provider's cache.
    pub cached_input: u64,
    /// The part of `input` written to the provider's cache.
    pub cache_write_input: u64,
    /// All output, including reasoning.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning_output: u64,
    /// The number of searches that the provider made and bills.
    #[serde(skip_serializing_if = "is_zero")]
    pub searches: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// Returns the sum of the usage of two replies.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write_input: self.cache_write_input.saturating_add(other.cache_write_input),
            output: self.output.saturating_add(other.output),
            reasoning_output: self.reasoning_output.saturating_add(other.reasoning_output),
            searches: self.searches.saturating_add(other.searches),
        }
    }
}

/// A provider's reply.
///
/// ```
/// use agenthost_core::llm::{Reply, Stop, Usage};
///
/// let usage = Usage { input: 5, output: 1, ..Usage::default() };
/// let reply = Reply::new("Blue.").with_usage(usage).with_stop(Stop::MaxTokens);
/// assert_eq!((reply.text(), reply.usage), ("Blue.".to_owned(), Some(usage)));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Reply {
    /// The parts of the reply. Thinking is in [`Echo`] parts, if the request has tools, and left out otherwise.
    pub content: Vec<Part>,
    /// The model that replied, as the provider names it; empty if it does not name it.
    pub model: String,
    /// The reason why the model stopped.
    pub stop: Stop,
    /// The model's reason for declining, if `stop` is [`Stop::Refusal`].
    pub refusal: Option<String>,
    /// The provider's token counts; `None` if the reply had none, or impossible ones.
    pub usage: Option<Usage>,
    /// The provider's id of this request, for its support.
    pub request_id: Option<String>,
    /// `true` if the provider paused in the middle of the reply, which goes on once the reply so far is sent back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The rate limits in the reply's headers; `None` if there were none.
    #[serde(skip)]
    pub quota: Option<Box<Quota>>,
}

impl Reply {
    /// Creates a complete reply with one part of text, without token counts. A request whose reply has no counts is
    /// charged in full.
    pub fn new(text: impl Into<String>) -> Self {
        Self::of(vec![Part::Text(text.into())])
    }

    /// Creates a complete reply with these parts.
    pub fn of(content: Vec<Part>) -> Self {
        Self {
            content,
            model: String::new(),
            stop: Stop::End,
            refusal: None,
            usage: None,
            request_id: None,
            paused: false,
            quota: None,
        }
    }

    /// Names the model that replied.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Sets the reason why the model stopped.
    #[must_use]
    pub fn with_stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Sets the model's reason for declining, for [`Stop::Refusal`].
    #[must_use]
    pub fn with_refusal(mut self, refusal: Option<String>) -> Self {
        self.refusal = refusal;
        self
    }

    /// Sets the provider's token counts.
    #[must_use]
    pub fn with_usage(mut self, usage: impl Into<Option<Usage>>) -> Self {
        self.usage = usage.into();
        self
    }

    /// Sets the provider's id of this request.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }

    /// Sets whether the provider paused in the middle of the reply.
    #[must_use]
    pub fn with_paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Sets the rate limits of the reply's headers.
    #[must_use]
    pub fn with_quota(mut self, quota: Option<Box<Quota>>) -> Self {
        self.quota = quota;
        self
    }

    /// Returns all text parts, joined.
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

/// The rate limits in the headers of a reply; each is `None` if the headers do not contain it.
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

/// One rate limit, as of the provider's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The limit per window, at least 1.
    pub limit: u64,
    /// The remaining amount, at most `limit`.
    pub remaining: u64,
    /// The time until the full limit is available again, at most a year.
    pub reset: Option<Duration>,
}

/// The kind of a provider failure. The gate decides by this alone whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderErrorKind {
    /// Too many requests or tokens at present.
    RateLimited,
    /// The service is overloaded, or a gateway in front of it is.
    Overloaded,
    /// The service failed.
    Server,
    /// The connection could not be made, or it broke.
    Connection,
    /// No reply in time.
    Timeout,
    /// A malformed reply: invalid JSON, too large, fields missing. It may have been billed.
    BadReply,
    /// The request is invalid.
    InvalidRequest,
    /// The input does not fit the model's context.
    ContextOverflow,
    /// The service rejects the key.
    Authentication,
    /// The key has no permission for this.
    Permission,
    /// No such model or address.
    NotFound,
    /// The account's money or spend cap is used up; waiting does not help.
    SpendCap,
    /// A single request larger than the rate limit or the service allows; it can never pass.
    TooLarge,
    /// A content filter declined the request or its reply.
    Refused,
    /// The service found that the model's reply violates the schema, and kept it.
    InvalidReply,
    /// The service does not support the form in which structured output was requested. The provider requests it in
    /// another form from now on, so another attempt can help at once.
    FormatRefused,
}

impl ProviderErrorKind {
    const NAMES: [(&'static str, Self); 16] = [
        ("rate-limited", Self::RateLimited),
        ("overloaded", Self::Overloaded),
        ("server", Self::Server),
        ("connection", Self::Connection),
        ("timeout", Self::Timeout),
        ("bad-reply", Self::BadReply),
        ("invalid-request", Self::InvalidRequest),
        ("context-overflow", Self::ContextOverflow),
        ("authentication", Self::Authentication),
        ("permission", Self::Permission),
        ("not-found", Self::NotFound),
        ("spend-cap", Self::SpendCap),
        ("too-large", Self::TooLarge),
        ("refused", Self::Refused),
        ("invalid-reply", Self::InvalidReply),
        ("format-refused", Self::FormatRefused),
    ];

    /// Returns the kind with this name in kebab-case.
    ///
    /// ```
    /// use agenthost_core::llm::ProviderErrorKind;
    ///
    /// assert_eq!(ProviderErrorKind::from_name("spend-cap"), Some(ProviderErrorKind::SpendCap));
    /// assert_eq!(ProviderErrorKind::from_name("tired"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
    }

    /// Returns the name of this kind.
    ///
    /// ```
    /// use agenthost_core::llm::ProviderErrorKind;
    ///
    /// assert_eq!(ProviderErrorKind::SpendCap.name(), "spend-cap");
    /// ```
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        known.map_or("other", |(name, _)| name)
    }

    /// Returns the names of all kinds.
    ///
    /// ```
    /// use agenthost_core::llm::ProviderErrorKind;
    ///
    /// assert!(ProviderErrorKind::names().all(|name| ProviderErrorKind::from_name(name).is_some()));
    /// ```
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(name, _)| *name)
    }
}

/// A failed call.
///
/// ```
/// use std::time::Duration;
/// use agenthost_core::llm::{ProviderError, ProviderErrorKind};
///
/// let error = ProviderError::new(ProviderErrorKind::RateLimited, "slow down")
///     .with_status(429)
///     .with_retry_after(Duration::from_secs(2));
/// assert_eq!(error.to_string(), "slow down");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProviderError {
    /// The kind of failure.
    pub kind: ProviderErrorKind,
    /// The provider's error text, shortened and without anything that looks like a key.
    pub message: String,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// The time to wait before the next request, as requested by the provider.
    pub retry_after: Option<Duration>,
    /// `true` if the provider reported that a retry cannot help.
    pub no_retry: bool,
    /// `true` if the provider may bill the request: it was written to the connection, and no error response arrived.
    /// The host charges such a request with its full reservation.
    pub may_be_billed: bool,
    /// The token counts that the error reports; `None` if it has none. The host charges these instead of the
    /// reservation.
    pub usage: Option<Box<Usage>>,
    /// The provider's id of this request.
    pub request_id: Option<String>,
    /// The rate limits in the response's headers; `None` if there were none.
    pub quota: Option<Box<Quota>>,
    /// The setting of the provider to look at, if the error shows which. The host adds its place to the message.
    pub setting: Option<ProviderSetting>,
}

/// A setting of a provider that is the likely cause of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderSetting {
    /// The key in the provider's section of a configuration file, such as `base-url`.
    pub key: &'static str,
    /// The value that avoids the error; `None` if it is not known.
    pub value: Option<&'static str>,
}

/// Writes what to do: `set max-tokens-field = "max-tokens"`, `check base-url`.
impl fmt::Display for ProviderSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(f, "set {} = \"{value}\"", self.key),
            None => write!(f, "check {}", self.key),
        }
    }
}

impl ProviderError {
    /// Creates an error without an HTTP response. It may be billed if a request of this kind was sent and its reply
    /// cannot be read: [`Timeout`](ProviderErrorKind::Timeout) and [`BadReply`](ProviderErrorKind::BadReply).
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            may_be_billed: matches!(kind, ProviderErrorKind::Timeout | ProviderErrorKind::BadReply),
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            no_retry: false,
            usage: None,
            request_id: None,
            quota: None,
            setting: None,
        }
    }

    /// Sets the HTTP status of the response.
    #[must_use]
    pub fn with_status(mut self, status: impl Into<Option<u16>>) -> Self {
        self.status = status.into();
        self
    }

    /// Sets the time to wait before the next request.
    #[must_use]
    pub fn with_retry_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.retry_after = wait.into();
        self
    }

    /// Marks the error as one that a retry cannot help.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.no_retry = true;
        self
    }

    /// Sets whether the provider may bill the request.
    #[must_use]
    pub fn with_billing(mut self, may_be_billed: bool) -> Self {
        self.may_be_billed = may_be_billed;
        self
    }

    /// Sets the token counts that the error reports.
    #[must_use]
    pub fn with_usage(mut self, usage: impl Into<Option<Usage>>) -> Self {
        self.usage = usage.into().map(Box::new);
        self
    }

    /// Sets the rate limits in the response's headers.
    #[must_use]
    pub fn with_quota(mut self, quota: Option<Box<Quota>>) -> Self {
        self.quota = quota;
        self
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(setting) = &self.setting {
            write!(f, "; {setting} for this provider")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProviderError {}
