//! The host functions of the plugin contract, and the linker that holds them.
//!
//! Values are converted between the generated types and the host's own types here and nowhere else.
//! [`super::Capabilities`] decides what a call may do.

use std::sync::Arc;

use wasmtime::component::{Access, Accessor, HasData, Linker};
use wasmtime::{AsContext, Engine};

use super::bindings::agenthost::plugin::{llm as wit, memory, progress, shares, types};
use super::call::Input;
use super::charges::{cost_of, price};
use super::hostcalls::charge;
use super::store::StoreData;
use agenthost_core::document::{DocumentAction, DocumentError, DocumentOperation, DocumentResult};
use agenthost_core::failpoint;
use agenthost_core::limits::{LimitKind, Share};
use agenthost_core::llm::{Ask, CallError, Message, Part, Reply, Role, Stop};

/// The bytes charged for a message, a part or an option besides its texts: the fields around them.
const PART_BYTES: usize = 64;
/// The maximum length of a progress message, in bytes.
const MAX_PROGRESS_BYTES: usize = 200;

/// Links the contract and the inert part of WASI.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    super::wasi::add_to_linker(&mut linker)?;
    types::add_to_linker::<StoreData, Contract>(&mut linker, |state| state)?;
    wit::add_to_linker::<StoreData, Contract>(&mut linker, |state| state)?;
    shares::add_to_linker::<StoreData, Contract>(&mut linker, |state| state)?;
    memory::add_to_linker::<StoreData, Contract>(&mut linker, |state| state)?;
    progress::add_to_linker::<StoreData, Contract>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Links the task of another plugin: every call starts a sub-task and waits, in a turn, for its returned value.
pub(super) fn sub_agent(linker: &mut Linker<StoreData>, import: &str) -> wasmtime::Result<()> {
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
                let bytes = crate::value::size(input);
                let returned = store.with(|mut store| -> wasmtime::Result<_> {
                    charge(&mut store, cost_of(price::SUB_TASK, price::CALL_BYTE, bytes))?;
                    let state = store.get();
                    let share = state.open_bytes.take(bytes)?;
                    let input = Input::of_guest(input, bytes, state.held.run());
                    let ordinal = state.asker.next();
                    let effect = state.capabilities.start(ordinal, &name, input);
                    Ok(state.asker.ask(ordinal, share, effect))
                })?;
                *result = returned.await?.map_err(wasmtime::Error::msg)?.0;
                let bytes = crate::value::size(result);
                store.with(|mut store| store.get().charges.bytes(bytes));
                Ok(())
            })
        })
}

struct Contract;

impl HasData for Contract {
    type Data<'a> = &'a mut StoreData;
}

impl types::Host for StoreData {}

impl wit::Host for StoreData {}

impl wit::HostWithStore<StoreData> for Contract {
    async fn complete(
        store: &Accessor<StoreData, Self>,
        request: wit::Request,
    ) -> wasmtime::Result<Result<wit::Reply, wit::Error>> {
        failpoint!("guest.complete", wasmtime::Error::new(super::EffectLost));
        let bytes = request_bytes(&request);
        let asked = store.with(|mut store| -> wasmtime::Result<_> {
            charge(&mut store, cost_of(price::CALL, price::CALL_BYTE, bytes))?;
            let state = store.get();
            let Ok(share) = state.open_bytes.take(bytes) else {
                return Ok(Err(CallError::Exhausted(LimitKind::Size)));
            };
            // Once here, and once as the body of the request that is sent.
            let Ok(kept) = state.held.run().keep(2 * bytes) else {
                return Ok(Err(CallError::Exhausted(LimitKind::Memory)));
            };
            let ordinal = state.asker.next();
            let effect = state.capabilities.complete(ordinal, ask(request));
            Ok(Ok(state.asker.ask(ordinal, (share, kept), effect)))
        })?;
        let reply = match asked {
            Ok(reply) => reply.await?,
            Err(refused) => return Ok(Err(error_to_wit(refused))),
        };
        let bytes = reply.as_ref().map_or(0, reply_bytes);
        store.with(|mut store| store.get().charges.bytes(bytes));
        failpoint!("guest.reply", wasmtime::Error::new(super::EffectLost));
        Ok(match reply {
            Ok(reply) => Ok(to_wit(reply)),
            Err(error) => Err(error_to_wit(error)),
        })
    }

    fn remaining(mut store: Access<'_, StoreData, Self>) -> wasmtime::Result<wit::Allowance> {
        charge(&mut store, price::REMAINING)?;
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

impl shares::Host for StoreData {
    fn spend_from(&mut self, shares: Vec<shares::Share>) -> wasmtime::Result<()> {
        self.charges.add(price::SHARES);
        self.charges.bytes(size_of_val(shares.as_slice()) as u64);
        let share = |share: shares::Share| Share {
            group: share.group,
            keep_back: share.keep_back,
            parts: share.parts,
            part: share.part,
            least_tokens: share.least_tokens,
        };
        self.capabilities.spend_from(shares.into_iter().map(share).collect());
        Ok(())
    }
}

impl memory::Host for StoreData {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, memory::Error>> {
        let result = self.document(DocumentAction::Get, name, None).await;
        Ok(match result {
            DocumentResult::Document { json } => Ok(json),
            other => Err(not_done(other)),
        })
    }

    async fn put(&mut self, name: String, document: String) -> wasmtime::Result<Result<(), memory::Error>> {
        let result = self.document(DocumentAction::Put, name, Some(document)).await;
        Ok(done(result))
    }

    async fn remove(&mut self, name: String) -> wasmtime::Result<Result<(), memory::Error>> {
        let result = self.document(DocumentAction::Remove, name, None).await;
        Ok(done(result))
    }

    async fn list(&mut self, prefix: String) -> wasmtime::Result<Result<Vec<String>, memory::Error>> {
        let result = self.document(DocumentAction::List, prefix, None).await;
        Ok(match result {
            DocumentResult::Names { names, entries } => {
                self.charges.add(entries.saturating_mul(price::DIRECTORY_ENTRY));
                Ok(names)
            }
            other => Err(not_done(other)),
        })
    }
}

impl StoreData {
    /// Does something with a document of the plugin's memory, while the guest waits in its call.
    async fn document(&mut self, action: DocumentAction, name: String, json: Option<String>) -> DocumentResult {
        let operation = DocumentOperation { action, name, json };
        self.charges
            .add(cost_of(price::DOCUMENT, price::CALL_BYTE, operation.bytes()));
        let effect = self.capabilities.document(operation);
        let result = self.in_call.wait(effect).await;
        self.charges.add(cost_of(0, price::CALL_BYTE, result.bytes()));
        result
    }
}

fn done(result: DocumentResult) -> Result<(), memory::Error> {
    match result {
        DocumentResult::Done => Ok(()),
        other => Err(not_done(other)),
    }
}

/// Converts the result of an operation that was not done.
fn not_done(result: DocumentResult) -> memory::Error {
    match result {
        DocumentResult::Error { error } => match error {
            DocumentError::NotGranted => memory::Error::NotGranted,
            DocumentError::ReadOnly => memory::Error::ReadOnly,
            DocumentError::InvalidName(text) => memory::Error::InvalidName(text),
            DocumentError::InvalidJson(text) => memory::Error::InvalidJson(text),
            DocumentError::TooLarge(text) => memory::Error::TooLarge(text),
            DocumentError::QuotaFull(text) => memory::Error::QuotaFull(text),
            DocumentError::Io(text) => memory::Error::Io(text),
            DocumentError::Other(class, text) => memory::Error::Other((class, text)),
        },
        _ => memory::Error::Other(("host".to_owned(), "not the result of this operation".to_owned())),
    }
}

impl progress::Host for StoreData {
    fn report(&mut self, done: u32, total: Option<u32>, message: String) -> wasmtime::Result<()> {
        self.charges.add(price::PROGRESS);
        self.charges.bytes(message.len() as u64);
        self.capabilities.progress(done, total, progress_line(&message));
        Ok(())
    }
}

/// Returns the beginning of a progress message, on one line. It is a copy, because the guest's message may be 8 MiB and
/// an event with it waits for every watcher.
fn progress_line(message: &str) -> String {
    let beginning = message
        .get(..message.floor_char_boundary(4 * MAX_PROGRESS_BYTES))
        .unwrap_or_default();
    let mut line: String = beginning.chars().filter(|c| !c.is_control()).collect();
    line.truncate(line.floor_char_boundary(MAX_PROGRESS_BYTES));
    line.shrink_to_fit();
    line
}

/// Returns the bytes that a guest passes with a call: its texts and media, and a fixed amount for each part.
fn request_bytes(request: &wit::Request) -> u64 {
    let part = |part: &wit::Part| match part {
        wit::Part::Text(text) => text.len(),
        // As base64, which the journal and the wire have it in.
        wit::Part::Media(media) => media.mime.len() + media.data.len().div_ceil(3) * 4,
        wit::Part::Extension(extension) => extension.kind.len() + extension.json.len(),
    };
    let message = |message: &wit::Message| message.content.iter().map(|p| PART_BYTES + part(p)).sum::<usize>();
    let messages = request.messages.iter().map(|m| PART_BYTES + message(m)).sum::<usize>();
    let options = request.options.iter();
    let options = options
        .map(|(name, value)| PART_BYTES + name.len() + value.len())
        .sum::<usize>();
    let texts = [request.system.as_ref(), request.schema.as_ref()].into_iter().flatten();
    let texts = request.model.len() + texts.map(String::len).sum::<usize>();
    (messages + options + texts) as u64
}

fn reply_bytes(reply: &Reply) -> u64 {
    let part = |part: &Part| match part {
        Part::Text(text) => text.len(),
        Part::Media { mime, data } => mime.len() + data.len(),
        Part::Extension { kind, json } => kind.len() + json.len(),
    };
    reply.content.iter().map(|p| PART_BYTES + part(p)).sum::<usize>() as u64
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
