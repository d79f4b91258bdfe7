//! The path of a model call, in the one order that it has: grant, limits (reserve), provider, and back: settle, guest.
//!
//! Whatever a guest asks for passes here. A call that is refused costs nothing; one that was sent is in the books before
//! the guest learns how it went, and one that is dropped on the way (its task ended, or lost a race) gives back what it
//! held.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::run::RunState;
use super::{Inner, LoadedPlugin};
use crate::config::ModelRef;
use crate::limits::ledger::{Account, Exhausted, Used, Want};
use crate::limits::{LimitKind, Usd};
use crate::llm::{
    Allowance, Ask, CallError, CallResult, Options, Part, ProviderError, ProviderErrorKind, Reply, Request, Stop,
    Usage, schema,
};
use crate::run::{Event, ModelReport};
use crate::sandbox::{Capabilities, Input, Returned};
use crate::task::{Failure, FailureClass, Outcome, TaskId};

/// What one task may do, and what it did.
pub(super) struct TaskCalls {
    pub(super) host: Arc<Inner>,
    pub(super) run: Arc<RunState>,
    /// What the task runs; its sub-agents hang on it.
    pub(super) loaded: Arc<LoadedPlugin>,
    /// Ends the task, and with it all below.
    pub(super) cancel: CancellationToken,
    /// The deepest level that a task of this run may stand at, from here down.
    pub(super) deepest: u32,
    /// Sub-tasks started so far.
    pub(super) children: AtomicU32,
    pub(super) task: TaskId,
    pub(super) plugin: String,
    /// The model names that the task may use.
    pub(super) models: BTreeSet<String>,
    pub(super) account: Account,
    pub(super) deadline: Option<Instant>,
    pub(super) events: broadcast::Sender<Event>,
    /// What each model was used for, in the order of the first call.
    pub(super) used: Mutex<Vec<ModelReport>>,
}

/// [`TaskCalls`], as the guest's side holds it.
pub(super) struct Handle(pub(super) Arc<TaskCalls>);

impl Capabilities for Handle {
    fn complete(&self, ask: Ask) -> BoxFuture<'static, CallResult> {
        let calls = Arc::clone(&self.0);
        async move { calls.complete(ask).await }.boxed()
    }

    fn remaining(&self, fuel: u64) -> Allowance {
        let (tokens, cost, calls) = self.0.account.left();
        let left = self
            .0
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Allowance {
            tokens,
            cost_micro_usd: cost.map(|cost| cost.pico() / 1_000_000),
            calls,
            fuel: self.0.account.fuel_left().map(|left| left.saturating_add(fuel)),
            time_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn start(&self, import: &str, input: Input) -> BoxFuture<'static, Result<Returned, String>> {
        // The place in the tree is taken now, and whether there is one for it: in the order in which the guest calls, which
        // a replay repeats.
        let id = self.0.task.child(self.0.children.fetch_add(1, Ordering::Relaxed));
        let allowed = self.0.allow(&id);
        let calls = Arc::clone(&self.0);
        let import = import.to_owned();
        async move { calls.start(id, allowed, &import, input).await }.boxed()
    }

    fn lease_fuel(&self) -> BoxFuture<'_, u64> {
        self.0.account.lease_fuel().boxed()
    }

    fn settle_fuel(&self, leased: u64, used: u64) {
        self.0.account.settle_fuel(leased, used);
    }

    fn progress(&self, done: u32, total: Option<u32>, message: String) {
        self.0.emit(Event::Progress {
            task: self.0.task.clone(),
            done,
            total,
            message,
        });
    }
}

impl TaskCalls {
    /// Charges for a sub-task, or says which limit stands in its way.
    fn allow(&self, id: &TaskId) -> Result<(), Failure> {
        if id.depth() > self.deepest {
            let message = "the sub-task would stand deeper than the limit allows";
            return Err(Failure::exhausted(LimitKind::Depth, message));
        }
        let full = |exhausted: Exhausted| Failure::exhausted(exhausted.limit, "the limit of sub-tasks is reached");
        self.account.start_task().map_err(full)
    }

    /// Runs a sub-task to its end where it is allowed, and puts how it came out in the words of the caller's type.
    async fn start(
        &self,
        id: TaskId,
        allowed: Result<(), Failure>,
        import: &str,
        input: Input,
    ) -> Result<Returned, String> {
        let Some(sub_agent) = self.loaded.sub_agents.get(import) else {
            return Err(format!("no sub-agent is declared for {import}"));
        };
        let failure = match allowed {
            Err(refused) => refused,
            Ok(()) => match self.run.sub_task(self, id, sub_agent, input).await {
                (_, Some(returned)) => return Ok(returned),
                (Outcome::Failure(failure), None) => failure,
                (Outcome::Ok(_), None) => Failure::new(FailureClass::Host, "the output of the sub-task is lost"),
            },
        };
        let class = failure.class.name();
        sub_agent
            .plugin
            .code
            .returned_failure(class, &failure.message, failure.limit)
            .ok_or_else(|| {
                format!(
                    "the sub-agent {} gave no output: {class}: {}",
                    sub_agent.plugin.id, failure.message
                )
            })
    }

    async fn complete(&self, ask: Ask) -> CallResult {
        let model = self.granted(&ask.model)?;
        let (bytes, messages) = ask.size();
        let name = ask.model.clone();
        let mut request = request(ask, &model.model, self.host.config.reply_tokens())?;
        let provider = self.host.provider(&model.provider)?;
        let full_name = model.to_string();
        let price = self.host.price(model);
        if price.is_none() && self.account.has_cost_limit() {
            return Err(CallError::Denied(format!(
                "{full_name} has no known price and a cost limit is set; give its price in [prices.\"{full_name}\"]"
            )));
        }

        let input = self
            .host
            .estimates
            .input(&full_name, bytes, messages, self.host.config.run().strict_tokens);
        let worst = |input, output| price.map_or(Usd::ZERO, |price| price.worst(input, output));
        let want = Want {
            input,
            output: u64::from(request.max_tokens),
            cost: price.is_some().then_some(&worst),
        };
        let mut reservation = self
            .account
            .reserve(&want)
            .await
            .map_err(|exhausted| CallError::Exhausted(exhausted.limit))?;
        request.max_tokens = u32::try_from(reservation.output()).unwrap_or(u32::MAX);

        self.emit(Event::CallSent {
            task: self.task.clone(),
            model: full_name.clone(),
        });
        // In the books from here on, whether or not anyone waits for the answer.
        reservation.sent();
        let noted = ModelReport {
            name,
            model: full_name.clone(),
            calls: 1,
            input_tokens: 0,
            output_tokens: 0,
            cost_usd: price.map(|_| Usd::ZERO),
            offline: provider.is_offline(),
        };
        self.note(noted.clone());
        let answer = provider.complete(&request).await;

        let used = match &answer {
            Ok(Reply { usage: Some(usage), .. }) => {
                self.host.estimates.learn(&full_name, bytes, messages, usage.input);
                let cost = price.map(|price| price.cost(usage));
                Used {
                    input: usage.input,
                    cached_input: usage.cached_input,
                    output: usage.output,
                    cost,
                }
            }
            // It answered and nobody knows what it counted: what was held is charged.
            Ok(Reply { usage: None, .. })
            | Err(ProviderError {
                kind: ProviderErrorKind::BadReply,
                ..
            }) => {
                let output = reservation.output();
                let cost = price.map(|price| price.worst(input, output));
                Used {
                    input,
                    cached_input: 0,
                    output,
                    cost,
                }
            }
            Err(_) => Used {
                cost: price.map(|_| Usd::ZERO),
                ..Used::default()
            },
        };
        reservation.settle(used);
        self.note(ModelReport {
            calls: 0,
            input_tokens: used.input,
            output_tokens: used.output,
            cost_usd: used.cost,
            ..noted
        });

        let result = match answer {
            Ok(reply) => judge(reply, &request, &used),
            Err(error) => Err(call_error(&full_name, &error)),
        };
        self.emit(Event::CallSettled {
            task: self.task.clone(),
            spent: self.account.spent(),
            error: result.as_ref().err().map(ToString::to_string),
        });
        result
    }

    /// The model behind a name, if there is one and the task may use it.
    fn granted(&self, name: &str) -> Result<&ModelRef, CallError> {
        let Some(model) = self.host.model(name) else {
            let known: Vec<_> = self.host.config.models().keys().map(String::as_str).collect();
            return Err(CallError::Denied(format!(
                "no model is named `{name}`: [models] has {}; map the name there",
                if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                }
            )));
        };
        if !self.models.contains(name) {
            return Err(CallError::Denied(format!(
                "{plugin} is not granted the model `{name}`; to allow it, add `{name}` to `models` in [grants.\"{plugin}\"]",
                plugin = self.plugin
            )));
        }
        Ok(model)
    }

    fn note(&self, report: ModelReport) {
        report.into_list(&mut self.used.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn emit(&self, event: Event) {
        // Nobody has to watch.
        let _ = self.events.send(event);
    }
}

/// Makes the provider's request of the task's, or says what makes no sense in it.
fn request(ask: Ask, model: &str, reply_tokens: u32) -> Result<Request, CallError> {
    let wrong = |why: String| CallError::InvalidRequest(why);
    if ask.messages.iter().all(|message| message.content.is_empty()) {
        return Err(wrong("the request has no message with content".into()));
    }
    if ask.max_tokens == Some(0) {
        return Err(wrong("max-tokens is 0".into()));
    }
    let pairs = ask.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = Options::parse(pairs).map_err(wrong)?;
    let schema = ask
        .schema
        .map(|text| {
            let schema =
                serde_json::from_str(&text).map_err(|error| wrong(format!("the schema is no JSON: {error}")))?;
            schema::check(&schema).map_err(wrong)?;
            Ok::<_, CallError>(schema)
        })
        .transpose()?;
    Ok(Request {
        model: model.into(),
        system: ask.system,
        messages: ask.messages,
        max_tokens: ask.max_tokens.unwrap_or(reply_tokens),
        schema,
        options,
        mark_prefix: None,
    })
}

/// What the guest gets for a reply that arrived.
fn judge(mut reply: Reply, request: &Request, used: &Used) -> CallResult {
    // The guest sees what is in the books.
    let usage = reply.usage.get_or_insert(Usage {
        input: used.input,
        output: used.output,
        ..Usage::default()
    });
    let output = usage.output;
    match reply.stop {
        Stop::Refusal => {
            let why = reply.refusal.take().unwrap_or_else(|| reply.text());
            let why = if why.trim().is_empty() {
                "the model declined to answer".into()
            } else {
                why
            };
            return Err(CallError::Refused(why));
        }
        Stop::ContextFull => return Err(CallError::ContextOverflow),
        _ => {}
    }
    if let Some(schema) = &request.schema {
        match schema::accept(schema, &reply.text()) {
            Ok(value) => reply.content = vec![Part::Text(value.to_string())],
            Err(_) if reply.stop == Stop::MaxTokens => {
                return Err(CallError::InvalidReply(format!(
                    "the reply was cut off after {output} tokens, before its JSON was complete"
                )));
            }
            Err(why) => return Err(CallError::InvalidReply(why)),
        }
    }
    Ok(reply)
}

fn call_error(model: &str, error: &ProviderError) -> CallError {
    let text = format!("{model}: {error}");
    match error.kind {
        ProviderErrorKind::ContextOverflow => CallError::ContextOverflow,
        ProviderErrorKind::InvalidRequest | ProviderErrorKind::TooLarge => CallError::InvalidRequest(text),
        ProviderErrorKind::RateLimited
        | ProviderErrorKind::Overloaded
        | ProviderErrorKind::Server
        | ProviderErrorKind::Connection
        | ProviderErrorKind::Timeout
        | ProviderErrorKind::BadReply => CallError::Unavailable(text),
        ProviderErrorKind::Authentication => CallError::Other("authentication".into(), text),
        ProviderErrorKind::Permission => CallError::Other("permission".into(), text),
        ProviderErrorKind::NotFound => CallError::Other("not-found".into(), text),
        ProviderErrorKind::SpendCap => CallError::Other("spend-cap".into(), text),
    }
}
