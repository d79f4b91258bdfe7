//! The blocks of providers that a task has received and may send back.
//!
//! A guest sends such a block back as JSON that it could have written itself. A forged block could start a tool at the
//! provider, or make it fetch an address. So the task keeps a digest of every block that it received, and a request
//! carries only those. A reply that is replayed counts as received, so that a resumed run goes on in the same way.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use agenthost_core::llm::{Extension, Part, Reply};

/// The digests of the parts with blocks that a task has received.
#[derive(Default)]
pub(super) struct ReceivedEchoes(Mutex<HashSet<[u8; 32]>>);

impl ReceivedEchoes {
    /// Notes the blocks of a reply, before the guest receives it.
    pub(super) fn note(&self, reply: &Reply) {
        let extensions = reply.content.iter().filter_map(|part| Extension::of(part)?.ok());
        for extension in extensions.filter(|extension| extension.echo().is_some()) {
            self.lock().insert(digest(extension));
        }
    }

    /// Returns whether the task has received exactly this part.
    pub(super) fn has(&self, extension: &Extension) -> bool {
        self.lock().contains(&digest(extension.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
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
    use agenthost_core::llm::{Echo, ToolCall, extension::ToolArguments};

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
        received.note(&Reply::of(vec![call("a", "a").into_part(), call("b", "b").into_part()]));
        assert!(received.has(&call("a", "a")) && received.has(&call("b", "b")));
        assert!(!received.has(&call("b", "a")), "another call");
        assert!(!received.has(&call("a", "forged")));
        let echo = call("a", "a").echo().cloned().unwrap();
        assert!(
            !received.has(&Extension::Echo(echo)),
            "a call's block as a part of its own"
        );
    }
}
