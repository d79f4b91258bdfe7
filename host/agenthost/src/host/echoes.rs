//! The blocks of providers that a task has received and may send back.
//!
//! A guest sends such a block back as JSON that it could have written itself. A forged block could start a tool at the
//! provider, or make it fetch an address. So the task keeps a digest of every block that it received, and a request
//! carries only those. A reply that is replayed counts as received, so that a resumed run goes on in the same way.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use agenthost_config::ModelRef;
use agenthost_core::llm::{Extension, Message, Part, Reply, Request};

/// The digests of the parts with blocks that a task has received, each with the name of the provider that it came from.
#[derive(Default)]
pub(super) struct ReceivedEchoes(Mutex<HashMap<[u8; 32], String>>);

impl ReceivedEchoes {
    /// Notes the blocks of a reply of `provider`, before the guest receives it.
    pub(super) fn note(&self, reply: &Reply, provider: &str) {
        let extensions = reply.content.iter().filter_map(|part| Extension::of(part)?.ok());
        for extension in extensions.filter(|extension| extension.echo().is_some()) {
            self.lock().insert(digest(extension), provider.to_owned());
        }
    }

    /// Returns whether the task has received exactly this part.
    pub(super) fn has(&self, extension: &Extension) -> bool {
        self.lock().contains_key(&digest(extension.clone()))
    }

    /// Returns the request as `model` receives it, without the blocks of other providers: a service refuses what another
    /// one has encrypted, although both speak the same wire.
    pub(super) fn request_to<'a>(&self, request: &'a Request, model: &ModelRef) -> Cow<'a, Request> {
        let is_of_other = |part: &Part| {
            let extension = Extension::of(part)
                .and_then(Result::ok)
                .filter(|extension| extension.echo().is_some());
            extension.is_some_and(|extension| {
                self.lock()
                    .get(&digest(extension))
                    .is_some_and(|provider| *provider != model.provider)
            })
        };
        let mut parts = request.messages.iter().flat_map(|message| &message.content);
        if request.model == model.model && !parts.any(is_of_other) {
            return Cow::Borrowed(request);
        }
        let part = |part: &Part| match is_of_other(part) {
            false => Some(part.clone()),
            true => Extension::of(part)?.ok()?.without_echo().map(Extension::into_part),
        };
        let messages = request.messages.iter().map(|message| Message {
            role: message.role,
            content: message.content.iter().filter_map(part).collect(),
        });
        let messages = messages
            .filter(|message: &Message| !message.content.is_empty())
            .collect();
        Cow::Owned(Request {
            model: model.model.clone(),
            messages,
            ..request.clone()
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the digest of the part around a block: a block that moves to another place is another one.
fn digest(extension: Extension) -> [u8; 32] {
    let mut hasher = Sha256::new();
    // The names of an object keep their order, so that this is the JSON as it was received.
    if let Part::Extension { kind, json } = extension.into_part() {
        hasher.update(kind.as_bytes());
        hasher.update([0]);
        hasher.update(json.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use agenthost_core::llm::{Echo, Options, Role, ToolCall, extension::ToolArguments};

    use super::*;

    #[test]
    fn a_block_is_known_only_in_its_place() {
        let call = |id: &str, block: &str| {
            Extension::ToolCall(ToolCall {
                id: id.to_owned(),
                name: "add".to_owned(),
                arguments: ToolArguments::read("{}"),
                echo: Some(Echo {
                    wire: "anthropic".to_owned(),
                    model: "small".to_owned(),
                    block: serde_json::json!({"id": block}),
                }),
            })
        };
        let received = ReceivedEchoes::default();
        received.note(
            &Reply::of(vec![call("a", "a").into_part(), call("b", "b").into_part()]),
            "azure",
        );
        assert!(received.has(&call("a", "a")) && received.has(&call("b", "b")));
        assert!(!received.has(&call("b", "a")), "another call");
        assert!(!received.has(&call("a", "forged")));
        let echo = call("a", "a").echo().cloned().unwrap();
        assert!(
            !received.has(&Extension::Echo(echo)),
            "a call's block as a part of its own"
        );
    }

    #[test]
    fn a_block_does_not_go_to_another_provider() {
        let echo = Extension::Echo(Echo {
            wire: "openai-responses".to_owned(),
            model: "gpt".to_owned(),
            block: serde_json::json!({"type": "reasoning"}),
        });
        let received = ReceivedEchoes::default();
        received.note(&Reply::of(vec![echo.clone().into_part()]), "openai");
        let message = |content| Message {
            role: Role::Assistant,
            content,
        };
        let request = Request {
            model: "gpt".to_owned(),
            system: None,
            messages: vec![
                message(vec![echo.into_part()]),
                message(vec![Part::Text("hi".to_owned())]),
            ],
            max_tokens: 10,
            schema: None,
            options: Options::default(),
            mark_prefix: None,
        };
        let to = |provider: &str| {
            let model = format!("{provider}/gpt").parse().unwrap();
            received.request_to(&request, &model).messages.len()
        };
        assert_eq!((to("openai"), to("azure")), (2, 1));
    }
}
