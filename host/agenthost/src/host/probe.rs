//! Probes: one small request to a model, to see whether it can be used and how.

use std::time::Duration;

use tokio::time::Instant;

use super::attempts::call_error;
use super::estimate::InputSize;
use super::{Host, Served};
use agenthost_config::ModelRef;
use agenthost_core::limits::Usd;
use agenthost_core::llm::{
    CallError, Message, Options, Part, ProviderError, ProviderErrorKind, Quota, Reply, Request, Role, Usage,
};
use agenthost_gate::{FairnessKey, Ticket};
use agenthost_providers::schema;

/// The time within which a probe ends. A server on this machine may have to load the model first.
const TIMEOUT: Duration = Duration::from_mins(2);
/// The output limit of a probe, in tokens. Some models reason before they answer.
const OUTPUT: u32 = 256;

/// The result of a probe of a model that replied: see [`Host::probe`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelProbe {
    /// A one-line description of the service and its address.
    pub service: String,
    /// The model that replied, as the service names it; empty if it does not name it.
    pub served: String,
    /// The time from sending the request to its reply, without the wait for rate limits.
    pub latency: Duration,
    /// The way in which the model takes a JSON Schema.
    pub schema: SchemaSupport,
    /// The service's token counts; `None` if it does not report any, so that each request is charged in full.
    pub usage: Option<Usage>,
    /// The cost of the probe, if the price is known.
    pub cost: Option<Usd>,
    /// The rate limits in the headers of the reply; `None` if there were none.
    pub quota: Option<Box<Quota>>,
}

/// The way in which a model takes a JSON Schema.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaSupport {
    /// The service accepted the schema as it is configured, and the reply satisfies it.
    Satisfied,
    /// The service refused the schema as a parameter. The reply to the schema in the system text satisfies it.
    InPrompt,
    /// The reply violates the schema.
    Violated {
        /// The violation.
        why: String,
    },
}

impl Host {
    /// Sends one small request to `model`, with a JSON Schema, and reports what came back. It waits for rate limits as
    /// every request does, is never retried, and ends within two minutes.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost::Host;
    /// use agenthost::SchemaSupport;
    /// use agenthost::providers::script::Script;
    ///
    /// let script = Script::parse(r#"[[rule]]
    /// text = '{"ok": true}'"#, "script")?;
    /// let host = Host::builder().provider("own", script).build()?;
    /// let probe = host.probe(&"own/any".parse()?).await?;
    /// assert_eq!(probe.schema, SchemaSupport::Satisfied);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The error that a task would receive: [`CallError::Unavailable`] if the provider is unknown, has no key or does not
    /// answer, and the error of the service otherwise.
    pub async fn probe(&self, model: &ModelRef) -> Result<ModelProbe, CallError> {
        let name = model.to_string();
        let served = self.inner.provider(&model.provider)?;
        let request = request(model);
        let probed = tokio::time::timeout(TIMEOUT, async {
            match self.send(&name, served, &request).await {
                // The provider asks in another form from now on.
                Err(error) if error.kind == ProviderErrorKind::FormatRefused => {
                    self.send(&name, served, &request).await.map(|sent| (sent, true))
                }
                sent => sent.map(|sent| (sent, false)),
            }
        });
        let ended = probed.await;
        self.flush().await;
        let late = |_| CallError::Unavailable(format!("{name}: no answer within {} s", TIMEOUT.as_secs()));
        let probed = ended.map_err(late)?;
        let ((reply, latency), in_prompt) =
            probed.map_err(|error| call_error(&name, &self.inner.advised(&model.provider, error)))?;
        let schema = request.schema.unwrap_or_default();
        let schema = match schema::accept(&schema, &reply.text()) {
            Ok(_) if in_prompt => SchemaSupport::InPrompt,
            Ok(_) => SchemaSupport::Satisfied,
            Err(why) => SchemaSupport::Violated { why },
        };
        let price = self.inner.price(model);
        Ok(ModelProbe {
            service: served.provider.summary(),
            served: reply.model,
            latency,
            schema,
            usage: reply.usage,
            cost: reply.usage.and_then(|usage| Some(price?.cost(&usage))),
            quota: reply.quota,
        })
    }

    /// Sends `request` once, and measures the time until its reply.
    async fn send(&self, name: &str, served: &Served, request: &Request) -> Result<(Reply, Duration), ProviderError> {
        let strict = self.inner.config.run().strict_tokens;
        let size = InputSize::of(request, served.kind);
        let ticket = Ticket {
            model: &request.model,
            line: &FairnessKey::default(),
            again: false,
            input: self.inner.estimates.input(name, &size, strict),
            output: u64::from(request.max_tokens),
            prefix: None,
            deadline: None,
        };
        let late = |late: agenthost_gate::TooLate| ProviderError::new(ProviderErrorKind::RateLimited, late.to_string());
        let permit = served.gate.admit(ticket).await.map_err(late)?;
        let start = Instant::now();
        let answer = served.provider.complete(request).await;
        permit.settle(answer.as_ref());
        Ok((answer?, start.elapsed()))
    }
}

fn request(model: &ModelRef) -> Request {
    let text = "Reply with the JSON value {\"ok\": true}.";
    Request {
        model: model.model.clone(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text(text.into())],
        }],
        max_tokens: OUTPUT,
        schema: Some(serde_json::json!({
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": false,
        })),
        options: Options::default(),
        mark_prefix: None,
    }
}
