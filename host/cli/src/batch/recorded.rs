//! A batch as the journal keeps it, and how it is continued.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::shape::SetField;
use agenthost::config::{Env, trust};
use agenthost::error::{Error, Result};
use agenthost::journal::RunRecord;
use agenthost::limits::LimitsPatch;
use agenthost::task::TaskId;

/// A recorded batch to be resumed or replayed.
pub(crate) struct Earlier {
    pub(crate) record: RunRecord,
    pub(crate) how: How,
    /// `true` if plugins may have changed.
    pub(crate) changed_plugins: bool,
    /// `true` if the operator has read the command line, even if another user gave it.
    pub(crate) accept_command: bool,
}

/// How to continue a recorded batch.
pub(crate) enum How {
    /// Resume it. The limits of each task and of all together override the recorded ones, and the model calls of the task
    /// `again` are made anew.
    Resume {
        failed: bool,
        limits: Box<(LimitsPatch, LimitsPatch)>,
        again: Vec<TaskId>,
    },
    /// Replay it from its record. The results go to stdout.
    Replay,
}

/// The command of a batch, as the journal keeps it, to start the batch again.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordedBatchCommand {
    /// The arguments, `batch` first.
    pub(super) argv: Vec<String>,
    pub(super) cwd: PathBuf,
    /// The digest of the items and of `--set`, in hex; `None` if they came through a pipe.
    pub(super) items: Option<String>,
    /// The proof that this user gave the command; see [`trust::seal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seal: Option<String>,
}

impl RecordedBatchCommand {
    /// Returns the command with the proof that this user gave it.
    pub(super) fn sealed(mut self, env: &Env) -> Self {
        self.seal = trust::seal::seal(env, &self.unsealed());
        self
    }

    pub(super) fn is_own(&self, env: &Env) -> bool {
        self.seal
            .as_ref()
            .is_some_and(|seal| trust::seal::is_sealed(env, &self.unsealed(), seal))
    }

    /// Returns the sealed text.
    fn unsealed(&self) -> String {
        json!([self.argv, self.cwd, self.items]).to_string()
    }
}

/// Returns the digest of a file's content, and of the fields that are the same for all items, in hex.
pub(super) fn digest(file: &File, set: &[SetField]) -> Result<String> {
    let mut file = file;
    let mut hasher = Sha256::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    });
    read.map_err(|error| {
        Error::input(format!("the items cannot be read: {error}")).with_hint("Give a file that can be read.")
    })?;
    for SetField { name, text } in set {
        hasher.update(json!([name, text]).to_string());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
