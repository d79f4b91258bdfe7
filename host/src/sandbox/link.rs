//! The host functions of the plugin contract, and the one linker that holds them.
//!
//! Values are turned from the generated types into the host's own and back here, and nowhere else. What a call may do is
//! decided behind [`super::Capabilities`].

use std::sync::Arc;

use wasmtime::component::{Access, Accessor, HasData, Linker};
use wasmtime::{AsContext, Engine};

use super::Input;
use super::bindings::agenthost::plugin::{llm as wit, progress, types};
use super::store::State;
use crate::limits::LimitKind;
use crate::llm::{Ask, CallError, Message, Part, Reply, Role, Stop};

/// The longest progress message that is kept, in bytes.
const MAX_PROGRESS_BYTES: usize = 200;

/// Links the contract and the inert part of WASI.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    super::wasi::add_to_linker(&mut linker, State::clock)?;
    types::add_to_linker::<State, Contract>(&mut linker, |state| state)?;
    wit::add_to_linker::<State, Contract>(&mut linker, |state| state)?;
    progress::add_to_linker::<State, Contract>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Links the task of another plugin: every call of it starts a sub-task and waits, in a turn, for what it returns.
pub(super) fn sub_agent(linker: &mut Linker<State>, import: &str) -> wasmtime::Result<()> {
    let name: Arc<str> = import.into();
    linker
        .instance(import)?
        .func_new_concurrent("run", move |store, _, params, results| {
            let name = Arc::clone(&name);
            Box::pin(async move {
                failpoint!("guest.sub-agent", wasmtime::Error::new(super::EffectLost));
                let (Some(input), Some(result)) = (params.first(), results.first_mut()) else {
                    return Err(wasmtime::Error::msg("a sub-agent takes one value and gives one"));
                };
                let input = Input(input.clone());
                let returned = store.with(|mut store| {
                    let state = store.get();
                    let ordinal = state.asker.next();
                    state
                        .asker
                        .ask(ordinal, state.capabilities.start(ordinal, &name, input))
                });
                *result = returned.await?.map_err(wasmtime::Error::msg)?.0;
                Ok(())
            })
        })
}

struct Contract;

impl HasData for Contract {
    type Data<'a> = &'a mut State;
}

impl types::Host for State {}

impl wit::Host for State {}

impl wit::HostWithStore<State> for Contract {
    async fn complete(
        store: &Accessor<State, Self>,
        request: wit::Request,
    ) -> wasmtime::Result<Result<wit::Reply, wit::Error>> {
        failpoint!("guest.complete", wasmtime::Error::new(super::EffectLost));
        let reply = store.with(|mut store| {
            let state = store.get();
            let ordinal = state.asker.next();
            state
                .asker
                .ask(ordinal, state.capabilities.complete(ordinal, ask(request)))
        });
        let reply = reply.await?;
        failpoint!("guest.reply", wasmtime::Error::new(super::EffectLost));
        Ok(match reply {
            Ok(reply) => Ok(to_wit(reply)),
            Err(error) => Err(error_to_wit(error)),
        })
    }

    fn remaining(mut store: Access<'_, State, Self>) -> wasmtime::Result<wit::Allowance> {
        let fuel = store.as_context().get_fuel()?;
        let left = store.get().capabilities.remaining(fuel);
        Ok(wit::Allowance {
            tokens: left.tokens,
            cost_micro_usd: left.cost_micro_usd,
            calls: left.calls,
            fuel: left.fuel,
            time_ms: left.time_ms,
        })
    }
}

impl progress::Host for State {
    fn report(&mut self, done: u32, total: Option<u32>, mut message: String) -> wasmtime::Result<()> {
        // Shown on the operator's terminal: one line, no escape sequences.
        message.retain(|c| !c.is_control());
        message.truncate(message.floor_char_boundary(MAX_PROGRESS_BYTES));
        self.capabilities.progress(done, total, message);
        Ok(())
    }
}

fn ask(request: wit::Request) -> Ask {
    let message = |message: wit::Message| Message {
        role: match message.role {
            wit::Role::User => Role::User,
            wit::Role::Assistant => Role::Assistant,
        },
        content: message.content.into_iter().map(part_from_wit).collect(),
    };
    Ask {
        model: request.model,
        system: request.system,
        messages: request.messages.into_iter().map(message).collect(),
        max_tokens: request.max_tokens,
        schema: request.schema,
        options: request.options,
    }
}

fn part_from_wit(part: wit::Part) -> Part {
    match part {
        wit::Part::Text(text) => Part::Text(text),
        wit::Part::Media(wit::Media { mime, data }) => Part::Media { mime, data },
        wit::Part::Extension(wit::Extension { kind, json }) => Part::Extension { kind, json },
    }
}

fn to_wit(reply: Reply) -> wit::Reply {
    let part = |part| match part {
        Part::Text(text) => wit::Part::Text(text),
        Part::Media { mime, data } => wit::Part::Media(wit::Media { mime, data }),
        Part::Extension { kind, json } => wit::Part::Extension(wit::Extension { kind, json }),
    };
    let usage = reply.usage.unwrap_or_default();
    wit::Reply {
        content: reply.content.into_iter().map(part).collect(),
        model: reply.model,
        stop: match reply.stop {
            Stop::End => wit::Stop::End,
            Stop::MaxTokens => wit::Stop::MaxTokens,
            Stop::StopSequence => wit::Stop::StopSequence,
            Stop::ToolUse => wit::Stop::ToolUse,
            Stop::Refusal => wit::Stop::Refusal,
            Stop::ContextFull | Stop::Other => wit::Stop::Other,
        },
        usage: wit::Usage {
            input: usage.input,
            cached_input: usage.cached_input,
            cache_write_input: usage.cache_write_input,
            output: usage.output,
            reasoning_output: usage.reasoning_output,
        },
    }
}

fn error_to_wit(error: CallError) -> wit::Error {
    match error {
        CallError::Denied(text) => wit::Error::Denied(text),
        CallError::Exhausted(limit) => wit::Error::Exhausted(limit_to_wit(limit)),
        CallError::ContextOverflow => wit::Error::ContextOverflow,
        CallError::Refused(text) => wit::Error::Refused(text),
        CallError::InvalidReply(text) => wit::Error::InvalidReply(text),
        CallError::Unavailable(text) => wit::Error::Unavailable(text),
        CallError::InvalidRequest(text) => wit::Error::InvalidRequest(text),
        CallError::Other(class, text) => wit::Error::Other((class, text)),
    }
}

fn limit_to_wit(limit: LimitKind) -> types::Limit {
    match limit {
        LimitKind::Tokens => types::Limit::Tokens,
        LimitKind::Cost => types::Limit::Cost,
        LimitKind::Calls => types::Limit::Calls,
        LimitKind::Fuel => types::Limit::Fuel,
        LimitKind::Memory => types::Limit::Memory,
        LimitKind::Time => types::Limit::Time,
        LimitKind::Tasks => types::Limit::Tasks,
        LimitKind::Depth => types::Limit::Depth,
        LimitKind::Size => types::Limit::Size,
        LimitKind::Other => types::Limit::Other,
    }
}
