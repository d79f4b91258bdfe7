//! A model service: the part that is the same for all wires.
//!
//! A [`Wire`] writes a request as its JSON and reads a reply from it. Everything else happens here: the settings, the
//! exchange, streams that were not asked for, errors in their places, and the form of structured output. So a further
//! wire is one file.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use agenthost_core::llm::{
    Caching, Counting, Provider, ProviderError, ProviderErrorKind, ProviderSetting, Reply, Request, ServerTool,
    ServerToolKind, Stop, Usage,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::body::{self, Assembled, Body};
use super::conversation::invalid;
use super::draft::Draft;
use super::error::ProviderSetupError;
use super::extra::ExtraValue;
use super::http::{Endpoint, HttpResponse};
use super::quota;
use super::refusals::{Feature, Refusals};
use super::structured::{Form, StructuredOutput};

/// The most searches that one use of a search is believed to have made: a model can put several queries into it.
const SEARCHES_PER_USE: u64 = 10;

/// A model service at one address with one key.
///
/// ```
/// use std::time::Duration;
///
/// use agenthost_core::llm::Provider as _;
/// use agenthost_providers::StructuredOutput;
/// use agenthost_providers::anthropic::Anthropic;
///
/// let provider = Anthropic::new(None, Some("sk-example".into()))?
///     .with_timeout(Duration::from_secs(60))?
///     .with_structured_output(StructuredOutput::Prompt);
/// assert_eq!(provider.kind(), "anthropic");
/// # Ok::<(), agenthost_providers::ProviderSetupError>(())
/// ```
#[derive(Debug)]
pub struct Service<W> {
    endpoint: Endpoint,
    structured_output: StructuredOutput,
    refusals: Refusals,
    wire: W,
}

/// The way in which one request is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The form of structured output.
    pub(crate) form: Form,
    /// The parts that the service has refused for this model.
    pub(crate) refused: BTreeSet<Feature>,
}

impl Variant {
    /// Returns whether the request has `feature`, as far as the service takes it.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        !self.refused.contains(&feature)
    }
}

/// One API: how a request becomes JSON, and a reply comes out of it.
pub(crate) trait Wire: fmt::Debug + Send + Sync {
    /// The name of the provider kind, which is also the wire of an [`Echo`](agenthost_core::llm::Echo).
    const KIND: &'static str;
    /// The name in a provider's summary.
    const SUMMARY: &'static str;
    /// How the service counts tokens against its rate limits.
    const COUNTING: Counting;
    /// How the service caches prompts.
    const CACHING: Caching;

    /// Returns the reason why the service cannot run `tool`.
    fn lacks(tool: &ServerTool) -> Option<String>;

    /// Writes a request, whose tools of the provider the service can run.
    ///
    /// # Errors
    ///
    /// Returns an invalid request if the API has no form for it.
    fn encode(&self, request: &Request, variant: &Variant) -> Result<Value, ProviderError>;

    /// Puts the events of a stream together; `ended` if there was an end marker.
    fn assembled(events: Vec<Value>, ended: bool) -> Assembled;

    /// Returns the part of a body that reports an error; `None` if it reports none.
    fn reported(body: &Value) -> Option<&Value>;

    /// Returns the service's id of an exchange.
    fn request_id(answer: &HttpResponse, body: Option<&Value>) -> Option<String>;

    /// Returns the token counts of a body; `None` if there are none.
    fn usage(body: &Value) -> Option<Usage>;

    /// Reads the content of a body into `draft`, and returns why the model stopped.
    ///
    /// # Errors
    ///
    /// Returns the reason if the body is not a reply.
    fn decode(body: &Value, draft: &mut Draft<'_>) -> Result<Stop, &'static str>;

    /// Adds to an error of the service what to change.
    fn explain(&self, _endpoint: &Endpoint, error: ProviderError) -> ProviderError {
        error
    }

    /// Returns the part of `request` that `error` refuses, other than the schema of the reply.
    fn refused(_request: &Request, _error: &ProviderError) -> Option<Feature> {
        None
    }
}

impl<W> Service<W> {
    pub(crate) fn over(endpoint: Endpoint, wire: W) -> Self {
        Self {
            endpoint,
            structured_output: StructuredOutput::default(),
            refusals: Refusals::default(),
            wire,
        }
    }

    fn variant(&self, model: &str) -> Variant {
        let refused = self.refusals.of(model);
        Variant {
            form: self.structured_output.form(refused.contains(&Feature::Schema)),
            refused,
        }
    }

    /// Sets the time until the body of a reply must begin (10 minutes by default). The reply must end within another
    /// minute.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `first_byte` is zero.
    pub fn with_timeout(self, first_byte: Duration) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_timeout(first_byte)?,
            ..self
        })
    }

    /// Sets the longest silence between two pieces of a reply (30 seconds by default).
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if `silence` is zero.
    pub fn with_silence(self, silence: Duration) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_silence(silence)?,
            ..self
        })
    }

    /// Adds a header to every request, such as one that a gateway reads.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if the name or the value is invalid, or if the host sets the header itself.
    pub fn with_header(self, name: &str, value: impl Into<ExtraValue>) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_header(name, value.into())?,
            ..self
        })
    }

    /// Adds a query parameter to the address of every request, such as `api-version`.
    ///
    /// # Errors
    ///
    /// Returns an error of class `config` if the name or the value is invalid.
    pub fn with_query(self, name: &str, value: impl Into<ExtraValue>) -> Result<Self, ProviderSetupError> {
        Ok(Self {
            endpoint: self.endpoint.with_query(name, value.into())?,
            ..self
        })
    }

    /// Sets the way in which structured output is requested. An API without a parameter for any JSON object takes
    /// [`StructuredOutput::JsonObject`] as [`StructuredOutput::Prompt`].
    #[must_use]
    pub fn with_structured_output(mut self, setting: StructuredOutput) -> Self {
        self.structured_output = setting;
        self
    }
}

impl<W: Wire> Provider for Service<W> {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        call(self, request).boxed()
    }

    fn kind(&self) -> &'static str {
        W::KIND
    }

    fn summary(&self) -> String {
        format!("{} at {}", W::SUMMARY, self.endpoint.address())
    }

    fn counting(&self) -> Counting {
        W::COUNTING
    }

    fn caching(&self) -> Caching {
        W::CACHING
    }

    fn lacks(&self, tool: &ServerTool) -> Option<String> {
        W::lacks(tool)
    }
}

async fn call<W: Wire>(service: &Service<W>, request: &Request) -> Result<Reply, ProviderError> {
    let variant = service.variant(&request.model);
    let body = write(service, request, &variant)?;
    let answer = service.endpoint.post(&body).await?;
    read(service, request, &answer).map_err(|error| judge(service, request, &variant, error))
}

/// Writes a request.
fn write<W: Wire>(service: &Service<W>, request: &Request, variant: &Variant) -> Result<Value, ProviderError> {
    match request.options.server_tools.iter().find_map(W::lacks) {
        Some(why) => Err(invalid(why)),
        None => service.wire.encode(request, variant),
    }
}

/// Remembers the part of `request` that the service refused, if the next request can be without it. Otherwise, the
/// request is invalid.
fn judge<W: Wire>(
    service: &Service<W>,
    request: &Request,
    variant: &Variant,
    mut error: ProviderError,
) -> ProviderError {
    let is_refused = error.kind == ProviderErrorKind::FormatRefused;
    let Some(feature) = W::refused(request, &error).or(is_refused.then_some(Feature::Schema)) else {
        return error;
    };
    let can_change = match feature {
        Feature::Schema => {
            let is_choice = service.structured_output == StructuredOutput::Auto;
            is_choice && variant.form == Form::Schema && request.schema.is_some()
        }
        Feature::EncryptedReasoning | Feature::OwnMembers => variant.has(feature),
    };
    if can_change {
        service.refusals.learn(&request.model, feature);
        error.kind = ProviderErrorKind::FormatRefused;
        return error;
    }
    error.kind = ProviderErrorKind::InvalidRequest;
    if feature == Feature::Schema {
        error.setting = (variant.form != Form::Prompt).then_some(ProviderSetting {
            key: "structured-output",
            value: Some("prompt"),
        });
    }
    error
}

/// Returns the token counts of a body. A count of searches is believed only as far as the request allows searches.
fn usage<W: Wire>(request: &Request, body: &Value) -> Option<Usage> {
    let usage = W::usage(body)?;
    let tools = request.options.server_tools.iter();
    let searches = tools.filter(|tool| tool.kind == ServerToolKind::WebSearch);
    let uses: u64 = searches.map(|tool| u64::from(tool.bounds().uses())).sum();
    Some(Usage {
        searches: usage.searches.min(uses * SEARCHES_PER_USE),
        ..usage
    })
}

/// Reads a reply.
fn read<W: Wire>(service: &Service<W>, request: &Request, answer: &HttpResponse) -> Result<Reply, ProviderError> {
    let Service { endpoint, wire, .. } = service;
    let failed = !(200..300).contains(&answer.status);
    let bad = |body: Option<&Value>, message: &str| {
        let id = W::request_id(answer, body);
        let error = endpoint.error(answer, ProviderErrorKind::BadReply, message, id.as_deref());
        error.with_usage(body.and_then(|body| usage::<W>(request, body)))
    };
    let classified = |body: Option<&Value>| {
        let id = W::request_id(answer, body);
        let reported = body.and_then(W::reported).or(body);
        let error = wire.explain(endpoint, endpoint.classify(answer, reported, id.as_deref()));
        error.with_usage(body.and_then(|body| usage::<W>(request, body)))
    };
    let body = match body::read(&answer.body) {
        Ok(Body::Document(document)) => endpoint.without_key(document),
        Ok(Body::Events { events, ended }) => {
            let Assembled { body, broke_off } = W::assembled(events, ended);
            if broke_off && !failed {
                let mut error = bad(Some(&body), "the answer is a stream that broke off");
                error.kind = ProviderErrorKind::Connection;
                return Err(error);
            }
            endpoint.without_key(body)
        }
        Err(_) if failed => return Err(classified(None)),
        Err(error) => return Err(bad(None, &format!("the answer is not valid JSON: {error}"))),
    };
    if failed || W::reported(&body).is_some() {
        let error = classified(Some(&body));
        return match error.kind {
            // The model has answered; its reply is judged as any other.
            ProviderErrorKind::InvalidReply if request.schema.is_some() => Ok(rejected(request, &body, error)),
            _ => Err(error),
        };
    }
    let mut draft = Draft::new(request, W::KIND);
    let stop = W::decode(&body, &mut draft).map_err(|message| bad(Some(&body), message))?;
    let model = body.get("model").and_then(Value::as_str);
    let id = W::request_id(answer, Some(&body));
    Ok(draft
        .finish(stop)
        .with_model(model.map_or_else(|| request.model.clone(), |model| endpoint.clean(model)))
        .with_usage(usage::<W>(request, &body))
        .with_request_id(id.and_then(|id| endpoint.clean_id(&id)))
        .with_quota(quota::quota(&answer.headers, SystemTime::now())))
}

/// The reply that a service rejected because it violates the schema, with the text that the service kept of it.
fn rejected(request: &Request, body: &Value, error: ProviderError) -> Reply {
    let mut draft = Draft::new(request, "");
    if let Some(text) = body.pointer("/error/failed_generation").and_then(Value::as_str) {
        draft.text(text);
    }
    draft
        .finish(Stop::Other)
        .with_model(&request.model)
        .with_usage(error.usage.map(|usage| *usage))
        .with_request_id(error.request_id)
        .with_quota(error.quota)
}

/// Access to a wire without a service, for fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub trait RawService {
    /// Writes the body of a request.
    ///
    /// # Errors
    ///
    /// Returns an error if the wire has no form for the request.
    fn write_request(&self, request: &Request) -> Result<Value, ProviderError>;

    /// Reads a reply as if it had come from the service.
    ///
    /// # Errors
    ///
    /// Returns the error that the reply reports, or an error if it is not valid.
    fn read_answer(&self, request: &Request, raw: super::RawAnswer<'_>) -> Result<Reply, ProviderError>;
}

#[cfg(any(test, feature = "fuzzing"))]
impl<W: Wire> RawService for Service<W> {
    fn write_request(&self, request: &Request) -> Result<Value, ProviderError> {
        write(self, request, &self.variant(&request.model))
    }

    fn read_answer(&self, request: &Request, raw: super::RawAnswer<'_>) -> Result<Reply, ProviderError> {
        read(self, request, &raw.into())
    }
}
