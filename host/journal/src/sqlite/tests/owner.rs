//! Which process may take over a run.

use std::process::{Child, Command};

use super::*;

/// Another process, and a run that it owns.
async fn of_another(journal: &Sqlite) -> Child {
    let child = Command::new("sleep").arg("60").spawn().unwrap();
    let mut record = run("r", 1);
    record.pid = child.id();
    journal.append(JournalEntry::RunStarted(record)).await.unwrap();
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_live_run_is_not_taken_over_and_the_refusal_breaks_nothing() {
    let (_directory, journal) = scratch();
    let child = of_another(&journal).await;
    assert_eq!(journal.running("r").unwrap(), Some(child.id()));
    let error = journal.take_over("r").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Usage);
    assert!(
        error.message().ends_with(&format!("in process {}", child.id())),
        "{error}"
    );
    assert!(error.hint().is_some());
    let before = journal.find("r").unwrap();
    assert_eq!(before.pid, child.id());
    journal.append(task_start("r", "root")).await.unwrap();
    end(child);
    assert_eq!(journal.running("r").unwrap(), None);
    journal.take_over("r").unwrap();
    assert_eq!(journal.find("r").unwrap().pid, std::process::id());
    assert_eq!(journal.running("r").unwrap(), Some(std::process::id()));
    assert!(journal.take_over("none").is_err());
    assert!(
        journal.take_over("r").is_ok(),
        "which part of a process has it is not the journal's to know"
    );
}

#[tokio::test]
async fn a_run_that_has_ended_is_taken_over_once() {
    let (directory, journal) = scratch();
    let child = of_another(&journal).await;
    let end_of = |run: &str| JournalEntry::RunEnded {
        run: run.into(),
        end: run_end(5),
    };
    journal.append(end_of("r")).await.unwrap();
    assert_eq!(journal.running("r").unwrap(), None);
    journal.take_over("r").unwrap();
    assert_eq!(journal.find("r").unwrap().end, None);
    // As another process would find it.
    let other = Sqlite::open(&directory.path().join("journal.db")).unwrap();
    assert_eq!(other.running("r").unwrap(), Some(std::process::id()));
    end(child);
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
#[tokio::test]
async fn a_later_process_of_the_same_number_is_another_one() {
    let (_directory, journal) = scratch();
    let child = of_another(&journal).await;
    if agenthost_core::process::start_of(child.id()).is_none() {
        eprintln!("skipped: the system does not say when a process began");
        return end(child);
    }
    let earlier = "UPDATE run_process SET start = 'earlier'";
    journal.probe(move |writer| writer.connection.execute(earlier, []).unwrap());
    assert_eq!(journal.running("r").unwrap(), None);
    journal.take_over("r").unwrap();
    end(child);
}

#[tokio::test]
async fn a_journal_that_knows_only_numbers_is_read_and_taken_over() {
    let (_directory, journal) = scratch();
    let child = of_another(&journal).await;
    journal.probe(|writer| writer.connection.execute("DROP TABLE run_process", []).unwrap());
    assert_eq!(journal.running("r").unwrap(), Some(child.id()));
    assert!(journal.take_over("r").is_err());
    end(child);
    journal.take_over("r").unwrap();
    let all = super::super::super::Keep::default();
    assert_eq!(journal.prune(&all).unwrap().runs, 0, "it is live");
}
