//! Taking over a run that another process began: one process at a time runs a run.

use rusqlite::{Connection, TransactionBehavior};

use super::super::JournalEntry;
use super::fault::Trouble;
use super::{entries, owner};
use crate::error::JournalError;

/// Makes this process the one that runs `run`, unless another live one does. Nothing comes between looking and writing:
/// the transaction holds the lock of all writers from its first statement.
pub(super) fn take_over(db: &mut Connection, run: &str) -> Result<(), Trouble> {
    let me = std::process::id();
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(pid) = owner::running(&transaction, run)?.filter(|pid| *pid != me) {
        return Err(Trouble::Complete(JournalError::Running {
            run: run.to_owned(),
            pid,
        }));
    }
    let run = run.to_owned();
    entries::write(&transaction, &JournalEntry::RunResumed { run, pid: me })?;
    Ok(transaction.commit()?)
}
