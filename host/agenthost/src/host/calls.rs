//! The capabilities of a task: model calls, sub-tasks, documents, progress, and its remaining limits.
//!
//! Every request of a guest passes through this module. A model call is granted here, made by [`Call`] (one attempt or
//! several, each reserved and settled), and judged by [`judge`]; a reply that violates its schema gets one attempt to
//! repair it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, ready};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::{Judged, is_answer, judge, repair, request};
use super::attempts::{Answered, Call, SpentBefore};
use super::call_context::CallContext;
use super::documents::TaskDocuments;
use super::estimate::InputSize;
use super::record::{PaidReply, PastCall, Recorded, SubTaskReplay};
use super::server_tools::{MostUses, NarrowError, narrow, without_used};
use super::shares::Shares;
use super::{LoadedPlugin, SubAgent};
use crate::telemetry;
use agenthost_config::ModelRef;
use agenthost_core::document::{DocumentOperation, DocumentResult};
use agenthost_core::failpoint;
use agenthost_core::limits::ledger::{Account, Exhausted, Used};
use agenthost_core::limits::{LimitKind, Share};
use agenthost_core::llm::{
    Allowance, Ask, CallError, CallResult, Message, Reply, Request, Role, ServerToolGrants, Usage,
};
use agenthost_core::run::{Abandoned, Event, ModelReport};
use agenthost_core::task::{Failure, FailureClass, Outcome, TaskId};
use agenthost_journal::AskResult;
use agenthost_sandbox::{Capabilities, Input, Returned};

const TASKS_REACHED: &str = "the limit of sub-tasks is reached";
/// The most requests of one reply, if the provider pauses in the middle of it.
const MAX_SEGMENTS: u32 = 6;

/// The capabilities of one task, and what it has used.
pub(super) struct TaskContext {
    pub(super) call: CallContext,
    pub(super) run: Arc<dyn SubTasks>,
    /// The task's plugin, with its sub-agents.
    pub(super) loaded: Arc<LoadedPlugin>,
    /// Cancels the task and all tasks below it.
    pub(super) cancel: CancellationToken,
    /// The deepest level at which a task below this one may run.
    pub(super) deepest: u32,
    /// The accounts from which its sub-tasks spend.
    pub(super) shares: Shares,
    /// The documents of its plugin.
    pub(super) documents: Arc<TaskDocuments>,
    /// Sub-tasks started so far.
    pub(super) children: AtomicU32,
    pub(super) plugin: String,
    /// The model names that the task may use.
    pub(super) models: BTreeSet<String>,
    /// The tools of providers that the task may use.
    pub(super) server_tools: ServerToolGrants,
}

/// The run of a task, as far as the task can use it.
pub(super) trait SubTasks: Send + Sync {
    /// Runs a sub-task of `parent`. Dropping the future cancels the sub-task.
    fn sub_task<'a>(
        self: Arc<Self>,
        parent: &'a TaskContext,
        id: TaskId,
        account: Account,
        sub_agent: &'a SubAgent,
        input: Input,
    ) -> BoxFuture<'a, (Outcome, Option<Returned>)>;

    /// Runs `work` to its end even if the returned handle is dropped. The run waits for it.
    fn keep(&self, work: BoxFuture<'static, Started>) -> JoinHandle<Started>;
}

/// The result of a sub-task for the guest that started it.
pub(super) type Started = Result<Returned, String>;

/// The guest's handle to its [`TaskContext`].
pub(super) struct TaskHandle(pub(super) Arc<TaskContext>);

impl Capabilities for TaskHandle {
    fn complete(&self, ordinal: u64, ask: Ask) -> BoxFuture<'static, CallResult> {
        failpoint!("call.complete");
        // The record is looked up now and not when the future is first polled: the guest may have dropped it by then.
        let keep_body = self.0.may_be_sent(&ask);
        if let Some(apart) = self.0.call.log.apart(&ask) {
            let calls = Arc::clone(&self.0);
            let known = apart.spawn_blocking(move || {
                let recorded = calls.call.log.call(ordinal, &ask, keep_body, || None);
                calls.recorded(ordinal, ask, recorded)
            });
            return async move {
                match known.await {
                    Ok(answer) => answer.await,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // The host is shutting down.
                        Err(_) => pending().await,
                    },
                }
            }
            .boxed();
        }
        let refused = || self.0.loaded.ceiling.own_refusal(&self.0.plugin, &ask.model);
        let recorded = self.0.call.log.call(ordinal, &ask, keep_body, refused);
        Arc::clone(&self.0).recorded(ordinal, ask, recorded)
    }

    fn remaining(&self, fuel: u64) -> Allowance {
        failpoint!("call.remaining");
        self.0.call.log.remaining(|| self.0.left(fuel))
    }

    fn spend_from(&self, shares: Vec<Share>) {
        self.0.shares.spend_from(shares);
    }

    fn document(&self, operation: DocumentOperation) -> BoxFuture<'static, DocumentResult> {
        failpoint!("call.document");
        Arc::clone(&self.0.documents).apply(operation)
    }

    fn start(&self, ordinal: u64, import: &str, input: Input) -> BoxFuture<'static, Result<Returned, String>> {
        failpoint!("call.start");
        // The id and the permission of the sub-task are taken now, in the order of the guest's calls, which a replay
        // repeats.
        let id = self.0.call.task.child(self.0.children.fetch_add(1, Ordering::Relaxed));
        let begins = self.0.call.log.starts(ordinal, &id);
        let account = self.0.account_of(import);
        let allowed = self.0.allow(&id, &account).map(|()| account);
        let calls = Arc::clone(&self.0);
        let import = import.to_owned();
        match begins {
            SubTaskReplay::Now => async move { calls.start(ordinal, id, allowed, &import, input).await }.boxed(),
            SubTaskReplay::Again => {
                // The sub-task ends where it ended in the record, whatever its parent does.
                let run = Arc::clone(&self.0.run);
                let account = allowed.unwrap_or_else(|_| calls.account_of(&import));
                let ended =
                    run.keep(async move { calls.start(ordinal, id, Ok(account), &import, input).await }.boxed());
                let lost = || Err("the host failed while it ran the sub-task".to_owned());
                async move { ended.await.unwrap_or_else(|_| lost()) }.boxed()
            }
            SubTaskReplay::Refused => {
                let shared = || Failure::exhausted(LimitKind::Tasks, TASKS_REACHED);
                let refused = Err(allowed.err().unwrap_or_else(shared));
                async move { calls.start(ordinal, id, refused, &import, input).await }.boxed()
            }
            SubTaskReplay::Never => pending().boxed(),
            SubTaskReplay::Differs => {
                let why = "the task starts a sub-task that it did not start when it was recorded";
                ready(Err(why.to_owned())).boxed()
            }
        }
    }

    fn lease_fuel(&self) -> BoxFuture<'_, u64> {
        match self.0.call.log.fuel() {
            Some(fuel) => ready(fuel.saturating_sub(self.0.call.account.spent().fuel)).boxed(),
            None => self.0.call.account.lease_fuel().boxed(),
        }
    }

    fn settle_fuel(&self, leased: u64, used: u64) {
        // The fuel of a replay does not come from the account.
        let leased = if self.0.call.log.fuel().is_some() { 0 } else { leased };
        self.0.call.account.settle_fuel(leased, used);
    }

    fn progress(&self, done: u32, total: Option<u32>, message: String) {
        failpoint!("call.progress");
        self.0.call.emit(Event::Progress {
            task: self.0.call.task.clone(),
            done,
            total,
            message,
        });
    }
}

impl TaskContext {
    /// Returns the answer to a call, of which the journal has `recorded`. What was spent on it before is booked at once.
    fn recorded(self: Arc<Self>, ordinal: u64, ask: Ask, recorded: Recorded) -> BoxFuture<'static, CallResult> {
        match recorded {
            Recorded::Make(past) => {
                let before = self.restore_lost(ordinal, &ask, &past);
                async move { self.complete(ordinal, ask, past.paid, before).await }.boxed()
            }
            Recorded::Told(told) => {
                if let Some(used) = told.used {
                    self.call.account.restore(&used, 1);
                }
                if let (Ok(reply), Some(report)) = (&told.result, told.models.last()) {
                    let model = report.model.parse::<ModelRef>();
                    self.call
                        .echoes
                        .note(reply, model.as_ref().map_or("", |model| &model.provider));
                }
                for model in told.models {
                    self.call.note(model);
                }
                self.call.falls_short(told.shortage);
                ready(told.result).boxed()
            }
            Recorded::Unanswered => pending().boxed(),
            Recorded::Differs => {
                let why = "the task asks for something that it did not ask for when it was recorded";
                ready(Err(CallError::Other("replay".into(), why.into()))).boxed()
            }
        }
    }

    /// Returns the remaining limits of the task. `fuel` is the fuel that the guest has already leased and not used.
    fn left(&self, fuel: u64) -> Allowance {
        let (tokens, cost, calls) = self.call.account.left();
        let left = self
            .call
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Allowance {
            tokens,
            cost_micro_usd: cost.map(|cost| cost.pico() / 1_000_000),
            calls,
            fuel: self.call.account.fuel_left().map(|left| left.saturating_add(fuel)),
            time_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Returns whether `ask` can lead to a request. The body of a call that is refused at once is not worth keeping.
    fn may_be_sent(&self, ask: &Ask) -> bool {
        let (_, _, calls) = self.call.account.left();
        calls != Some(0) && self.granted(&ask.model).is_ok()
    }

    /// Charges an account for a sub-task, or returns the limit that forbids it.
    fn allow(&self, id: &TaskId, account: &Account) -> Result<(), Failure> {
        if id.depth() > self.deepest {
            let message = "the sub-task would be deeper than the limit allows";
            return Err(Failure::exhausted(LimitKind::Depth, message));
        }
        let full = |exhausted: Exhausted| Failure::exhausted(exhausted.limit, TASKS_REACHED);
        account.start_task().map_err(full)
    }

    /// Returns the account from which a sub-task of the agent behind `import` spends that starts now.
    fn account_of(&self, import: &str) -> Account {
        let sub_agent = self.loaded.sub_agents.get(import);
        self.shares
            .account(sub_agent.map_or("", |sub_agent| &sub_agent.plugin.id().name))
    }

    /// Runs a sub-task to its end if it is allowed, and converts its outcome to the type that the caller expects.
    async fn start(
        &self,
        ordinal: u64,
        id: TaskId,
        allowed: Result<Account, Failure>,
        import: &str,
        input: Input,
    ) -> Result<Returned, String> {
        let Some(sub_agent) = self.loaded.sub_agents.get(import) else {
            return Err(format!("no sub-agent is declared for {import}"));
        };
        self.call.log.caught_up(ordinal).await;
        failpoint!(await "call.started");
        let failure = match allowed {
            Err(refused) => refused,
            Ok(account) => {
                let sub_task = Arc::clone(&self.run).sub_task(self, id.clone(), account, sub_agent, input);
                let (outcome, returned) = sub_task.await;
                failpoint!(await "collect.sub-task");
                self.call.log.came_out(ordinal, &id, &outcome);
                match (outcome, returned) {
                    (_, Some(returned)) => return Ok(returned),
                    (Outcome::Failure(failure), None) => failure,
                    (Outcome::Ok(_), None) => Failure::new(FailureClass::Host, "the output of the sub-task is lost"),
                }
            }
        };
        let class = failure.class.name();
        sub_agent
            .plugin
            .loaded
            .code
            .returned_failure(class, &failure.message, failure.limit)
            .ok_or_else(|| {
                format!(
                    "the sub-agent {} gave no output: {class}: {}",
                    sub_agent.plugin.id(),
                    failure.message
                )
            })
    }

    /// Books what an earlier execution of the task spent on this call without a reply: requests that it abandoned, and
    /// requests that were in flight when its process ended, at their worst case. Returns these costs, or `None` if
    /// there are none.
    fn restore_lost(&self, ordinal: u64, ask: &Ask, past: &PastCall) -> Option<SpentBefore> {
        let mut sum = past.lost;
        let mut reports = past.models.clone();
        for model in &past.in_flight {
            let Ok(mut request) = request(ask.clone(), self.call.host.config.reply_tokens(), &self.call.echoes) else {
                break;
            };
            // It may have been the continuation or the repair of the replies before it.
            let paid = past.paid.iter().map(|paid| paid.reply.content.clone());
            request.messages.extend(paid.map(|content| Message {
                role: Role::Assistant,
                content,
            }));
            // If the grant has become narrower since, the request counts with what it asked for.
            let asked = request.options.server_tools.clone();
            if narrow(&mut request, &self.server_tools, |_| String::new()).is_err() {
                request.options.server_tools = asked;
            }
            let parsed = model.parse::<ModelRef>().ok();
            let served = parsed
                .as_ref()
                .and_then(|model| self.call.host.provider(&model.provider).ok());
            if let Some(model) = &parsed {
                request.model.clone_from(&model.model);
            }
            let kind = served.map_or("", |served| served.kind);
            let size = InputSize::of(&request, kind);
            let strict = self.call.host.config.run().strict_tokens;
            let host = &self.call.host;
            let price = parsed.and_then(|model| host.request_price(&model, kind, &request.options));
            let most = MostUses::of(&request.options.server_tools);
            let prompt = host.estimates.input(model, &size, strict);
            let input = most.input(prompt, price.as_ref(), host.estimates.tokens_per_use(model));
            let output = u64::from(request.max_tokens);
            let searches = most.cost(price.as_ref());
            let used = Used {
                input,
                cached_input: 0,
                output,
                cost: price.map(|price| price.worst(input, output).saturating_add(searches)),
            };
            let mut report = ModelReport::new(&ask.model, model).with_used(&used);
            report.requests = 1;
            report.abandoned = Abandoned::one(&used);
            // The journal has only the model of a request in flight. Later executions read the cost that is noted here.
            self.call.log.lost(ordinal, &used, &report);
            reports.push(report);
            sum = Some(sum.map_or(used, |sum| sum.plus(&used)));
        }
        // If the kept replies are all that it cost, the first of them counts the call.
        let used = sum.filter(|used| !reports.is_empty() || used.input > 0 || used.output > 0)?;
        self.call.account.restore_lost(&used, 1);
        if reports.iter().all(|report| report.calls == 0)
            && let Some(first) = reports.first_mut()
        {
            first.calls = 1;
        }
        reports.iter().cloned().for_each(|report| self.call.note(report));
        Some(SpentBefore { used, models: reports })
    }

    async fn complete(&self, ordinal: u64, ask: Ask, paid: Vec<PaidReply>, before: Option<SpentBefore>) -> CallResult {
        self.call.log.caught_up(ordinal).await;
        failpoint!(await "call.made");
        let name = ask.model.clone();
        let call = Call::new(&self.call, &name, ordinal, paid, before);
        let result = self.make(&call, ask).await.map_err(CallError::shortened);
        call.book_unused();
        failpoint!(await "settle.told");
        let told = call.told(&result);
        if let AskResult::Error { shortage, .. } = &told {
            self.call.falls_short(*shortage);
        }
        self.call.log.told(ordinal, told).await?;
        failpoint!(await "settle.durable");
        call.noted();
        if let Ok(reply) = &result {
            self.call.echoes.note(reply, &call.answered_by());
        }
        result
    }

    /// Makes a model call: the first try, and one to repair an invalid reply.
    async fn make(&self, call: &Call<'_>, ask: Ask) -> CallResult {
        let models = self.granted(&ask.model)?;
        let mut request = request(ask, self.call.host.config.reply_tokens(), &self.call.echoes)?;
        let config = &self.call.host.config;
        narrow(&mut request, &self.server_tools, |kind| {
            self.loaded.no_server_tool(config, kind)
        })
        .map_err(|error| match error {
            NarrowError::NotGranted(why) => CallError::Denied(why),
            NarrowError::Domains(why) => {
                let section = config.grant_section(&self.plugin, "server-tools");
                CallError::Denied(format!(
                    "{why}; {section}, the manifest and the policies bound the domains"
                ))
            }
        })?;
        let reply = self.whole(call, models, request.clone()).await?;
        let (broken, why) = match self.judged(call, reply, &request).await? {
            Judged::Fine(reply) => return Ok(reply),
            Judged::Wrong(error) => return Err(error),
            Judged::Broken { reply, why } => (reply, why),
        };
        // The model gets its own reply and the schema's complaint, once.
        call.repairs(&broken);
        let first = broken.usage;
        let invalid = |why: String| Err(CallError::InvalidReply(why));
        let repaired = match self.whole(call, models, repair(&request, &broken, &why)).await {
            Ok(reply) => reply,
            // With a higher limit, a resumed run repairs it.
            Err(error @ CallError::Exhausted(_)) => return Err(error),
            Err(error) => return invalid(format!("{why}; the attempt to repair it failed: {error}")),
        };
        match self.judged(call, repaired, &request).await? {
            Judged::Fine(mut reply) => {
                // The guest receives the sum of both requests, as it is booked.
                reply.usage = first.zip(reply.usage).map(|(first, second)| first.plus(&second));
                Ok(reply)
            }
            Judged::Wrong(error) => Err(error),
            Judged::Broken { why, .. } => invalid(format!("{why}, also after one repair")),
        }
    }

    /// Makes a request, and goes on with it as long as the provider pauses in the middle of the reply. Each of these
    /// requests is reserved, settled and recorded by itself. The task receives one reply.
    async fn whole(&self, call: &Call<'_>, models: &[ModelRef], mut request: Request) -> CallResult {
        let Answered { mut reply, model } = call.serve(models, request.clone()).await?;
        if !reply.paused {
            return Ok(reply);
        }
        // Another model does not understand the blocks of this one.
        let models = std::slice::from_ref(model);
        let tools = request.options.server_tools.clone();
        let mut before = Message {
            role: Role::Assistant,
            content: Vec::new(),
        };
        let mut usage = Some(Usage::default());
        let mut segments = 1;
        while reply.paused {
            call.keeps(&reply);
            if segments == MAX_SEGMENTS {
                let why = format!("the provider paused the reply {segments} times");
                return Err(CallError::Other("paused".to_owned(), why));
            }
            segments += 1;
            usage = usage.zip(reply.usage).map(|(sum, usage)| sum.plus(&usage));
            before.content.append(&mut reply.content);
            request.options.server_tools.clone_from(&tools);
            without_used(&mut request.options.server_tools, &before.content);
            let mut next = request.clone();
            next.messages.push(before.clone());
            reply = call.serve(models, next).await?.reply;
        }
        // The model, the stop reason and the id are those of the last segment.
        reply.usage = usage.zip(reply.usage).map(|(sum, usage)| sum.plus(&usage));
        before.content.append(&mut reply.content);
        reply.content = before.content;
        Ok(reply)
    }

    /// Validates a reply against its request. Schemas are checked on blocking threads.
    async fn judged(&self, call: &Call<'_>, reply: Reply, request: &Request) -> Result<Judged, CallError> {
        let accepted = match &request.schema {
            Some(schema) if is_answer(&reply) => Some(
                self.call
                    .host
                    .checks
                    .accept(schema, reply.text(), &self.call.checking)
                    .await?,
            ),
            _ => None,
        };
        if let Some(Ok(accepted)) = &accepted {
            telemetry::cleaned(&self.call.task.to_string(), &reply.model, &accepted.around);
        }
        Ok(judge(reply, accepted, call.output_limit()))
    }

    /// Returns the models behind a name, in the order in which they are tried, if the name exists and the task may use
    /// it.
    fn granted(&self, name: &str) -> Result<&[ModelRef], CallError> {
        let Some(models) = self.call.host.models(name) else {
            let known: Vec<_> = self.call.host.config.models().keys().map(String::as_str).collect();
            return Err(CallError::Denied(format!(
                "no model is named `{name}`: [models] has {}; map the name there",
                if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                }
            )));
        };
        if let Some(refusal) = self.loaded.ceiling.refusal(&self.plugin, name) {
            return Err(CallError::Denied(refusal));
        }
        if !self.models.contains(name) {
            return Err(CallError::Denied(format!(
                "{plugin} is not granted the model `{name}`; to allow it, add `{name}` to `models` in [grants.\"{plugin}\"]",
                plugin = self.plugin
            )));
        }
        Ok(models)
    }
}
