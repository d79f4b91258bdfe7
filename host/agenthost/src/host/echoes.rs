//! The blocks of providers that a task has received and may send back.
//!
//! A guest sends such a block back as JSON that it could have written itself. A forged block could start a tool at the
//! provider, or make it fetch an address. So the task keeps a digest of every block that it received, and a request
//! carries only those. A reply that is replayed counts as received, so that a resumed run goes on in the same way.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use agenthost_core::llm::{Echo, Extension, Reply};

/// The digests of the blocks that a task has received.
#[derive(Default)]
pub(super) struct ReceivedEchoes(Mutex<HashSet<[u8; 32]>>);

impl ReceivedEchoes {
    /// Notes the blocks of a reply, before the guest receives it.
    pub(super) fn note(&self, reply: &Reply) {
        let extensions = reply.content.iter().filter_map(|part| Extension::of(part)?.ok());
        for extension in extensions {
            if let Some(echo) = extension.echo() {
                self.lock().insert(digest(echo));
            }
        }
    }

    /// Returns whether the task has received exactly this block.
    pub(super) fn knows(&self, echo: &Echo) -> bool {
        self.lock().contains(&digest(echo))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(echo: &Echo) -> [u8; 32] {
    // The names of an object keep their order, so that this is the JSON as it was received.
    let text = serde_json::to_vec(echo).unwrap_or_default();
    Sha256::digest(text).into()
}
