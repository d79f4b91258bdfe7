//! Compiles schemas and validates replies on blocking threads, away from the runtime's workers.
//!
//! A schema and a reply come from a plugin. [`schema`](agenthost_providers::schema) bounds the work on them to about a
//! second of computing and tens of megabytes. This module bounds how much of that work runs at once: as many pieces as
//! half the machine's processors, and one for each task. Dropping the future leaves at most one piece of work of a task
//! behind, so a time limit or a cancellation ends the task at once.
//!
//! A compiled schema is kept if it is small. Others are compiled again for the reply, so that a call that waits for its
//! model holds no more than the schema's text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use agenthost_core::llm::CallError;
use agenthost_providers::schema::{Accepted, Checker, Unfit};

/// The number of small compiled schemas that are kept: more than the kinds of replies that a usual run asks for.
const KEPT: usize = 64;

type Kept = Arc<Mutex<HashMap<[u8; 32], Arc<Checker>>>>;

/// Compiles schemas and validates replies on threads of their own.
pub(super) struct Checks {
    at_once: Arc<Semaphore>,
    kept: Kept,
}

impl Checks {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            at_once: Arc::new(Semaphore::new(processors.div_ceil(2))),
            kept: Kept::default(),
        }
    }

    /// Checks that `schema` can be compiled. `own` admits one piece of work of the task at a time.
    pub(super) async fn check(&self, schema: &Value, own: &Arc<Semaphore>) -> Result<(), CallError> {
        let (kept, schema) = (Arc::clone(&self.kept), schema.clone());
        let checked = self.apart(own, move || checker(&kept, &schema).map(|_| ())).await?;
        checked.map_err(CallError::InvalidRequest)
    }

    /// Returns the value in `text` that satisfies `schema`, else a description of the faults.
    pub(super) async fn accept(
        &self,
        schema: &Value,
        text: String,
        own: &Arc<Semaphore>,
    ) -> Result<Result<Accepted, Unfit>, CallError> {
        let (kept, schema) = (Arc::clone(&self.kept), schema.clone());
        let accepted = move || Ok(checker(&kept, &schema)?.accept(&text));
        self.apart(own, accepted).await?.map_err(CallError::InvalidRequest)
    }

    /// Runs `work` on a blocking thread, after a permit of the task and then one of the machine.
    async fn apart<T: Send + 'static>(
        &self,
        own: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let failed = || CallError::Other("host".into(), "the host failed while it checked a schema".into());
        let own = Arc::clone(own).acquire_owned().await.map_err(|_| failed())?;
        let turn = Arc::clone(&self.at_once).acquire_owned().await.map_err(|_| failed())?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // The permits are held until the work is done, even if the task no longer waits for it.
            drop((own, turn));
            done
        });
        done.await.map_err(|_| failed())
    }
}

/// Returns the compiled form of `schema`.
fn checker(kept: &Kept, schema: &Value) -> Result<Arc<Checker>, String> {
    let lock = || kept.lock().unwrap_or_else(PoisonError::into_inner);
    let digest: [u8; 32] = Sha256::digest(schema.to_string()).into();
    if let Some(known) = lock().get(&digest) {
        return Ok(Arc::clone(known));
    }
    let checker = Arc::new(Checker::new(schema)?);
    if checker.is_small() {
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(digest, Arc::clone(&checker));
    }
    Ok(checker)
}
