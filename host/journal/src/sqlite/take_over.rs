//! Taking over a run that another process began: one process at a time runs a run.

use rusqlite::{Connection, TransactionBehavior};

use super::super::JournalEntry;
use super::fault::Trouble;
use super::{entries, owner};
use agenthost_core::error::Error;

/// Makes this process the one that runs `run`, unless another live one does. Nothing comes between looking and writing:
/// the transaction holds the lock of all writers from its first statement.
pub(super) fn take_over(db: &mut Connection, run: &str) -> Result<(), Trouble> {
    let me = std::process::id();
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(pid) = owner::running(&transaction, run)?.filter(|pid| *pid != me) {
        return Err(Trouble::Unknown(
            Error::usage(format!("run {run} is still going on, in process {pid}")).with_hint(format!(
                "Wait for its end. To stop it, check first that process {pid} is agenthost."
            )),
        ));
    }
    let run = run.to_owned();
    entries::write(&transaction, &JournalEntry::RunResumed { run, pid: me })?;
    Ok(transaction.commit()?)
}
