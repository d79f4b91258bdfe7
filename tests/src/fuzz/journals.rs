//! Journals that were damaged, or written by others.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use agenthost::error::{Error, Result};
use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{
    AskRecord, Asked, CallSpan, JournalEntry, JournalStore, Keep, Pruned, RequestRecord, RunEnd, RunKind, RunRecord,
    RunStatus, TaskEnd, TaskRecord, Turn,
};
use agenthost::limits::{Cap, LimitsPatch};
use agenthost::providers::script::Script;
use agenthost::{FailedTasks, Host, Journal, Plugin};
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{plugins, scratch};

/// The subject of a journal's run.
const QUESTION: &str = "Name a colour.";

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    })
}

/// A host that keeps `journal`, and the plugin `ask` in it.
fn host(journal: Arc<dyn JournalStore>) -> (Host, Plugin) {
    let script = Script::parse("[[rule]]\ntext = 'Blue.'", "blue").unwrap();
    let builder = Host::builder().provider("offline", Arc::new(script));
    let host = builder.journal(Journal::new(journal)).build().unwrap();
    let ask = host.load_bytes(&plugins::demo_ask()).unwrap();
    (host, ask)
}

/// The file of a journal with one run in it.
pub(super) fn whole() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    runtime().block_on(async {
        let (host, ask) = host(Arc::new(Sqlite::open(&path).unwrap()));
        let run = host.run(&ask, &json!(QUESTION)).start().unwrap();
        assert_eq!(run.outcome().await.ok(), Some(&json!("Blue.")));
    });
    std::fs::read(path).unwrap()
}

/// A journal of format 1, which is migrated when it is opened.
const OF_FORMAT_1: &[u8] = include_bytes!("../../../host/journal/testdata/format-1/journal.db");

/// The file of a journal. With 0 as the first byte the rest are patches of a good one: three bytes of an offset and one
/// to put there. With 2, they are patches of one of format 1. Otherwise the rest is the file.
pub fn journal(bytes: &[u8]) {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let (mut file, patches) = match kind {
        0 => (WHOLE.get_or_init(whole).clone(), rest),
        2 => (OF_FORMAT_1.to_vec(), rest),
        _ => (rest.to_vec(), &[][..]),
    };
    for &[high, middle, low, value] in patches.as_chunks().0 {
        let at = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let length = file.len();
        file[at % length] = value;
    }
    let path = scratch().join("journal.db");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(path.with_extension(format!("db{end}")));
    }
    std::fs::write(&path, file).unwrap();
    read_all(&path);
}

fn read_all(path: &Path) {
    let Ok(Some(journal)) = Sqlite::open_existing(path) else {
        return;
    };
    let Ok(runs) = journal.runs(10) else { return };
    let _ = journal.find("last");
    for run in runs {
        let _ = (
            journal.find(&run.id),
            journal.calls(&run.id, 10),
            Host::settled(&run, FailedTasks::Keep),
        );
        for task in journal.tasks(&run.id, "", None, 10).unwrap_or_default() {
            let _ = journal.task(&run.id, &task.id);
        }
    }
    let _ = journal.prune(&Keep {
        after_ms: Some(1),
        latest: Some(0),
    });
}

/// A journal of one run with records written by others; writes to it are dropped.
#[derive(Debug, Default)]
struct Forged {
    records: Mutex<Option<(RunRecord, TaskRecord)>>,
    /// The digest of the last call that a task made.
    asked: Mutex<[u8; 32]>,
}

impl Forged {
    fn task(&self) -> Option<TaskRecord> {
        self.records.lock().unwrap().as_ref().map(|(_, task)| task.clone())
    }

    fn run(&self) -> Result<RunRecord> {
        let records = self.records.lock().unwrap();
        let run = records.as_ref().map(|(run, _)| run.clone());
        run.ok_or_else(|| Error::usage("there is no run"))
    }
}

impl JournalStore for Forged {
    fn append(&self, _: JournalEntry) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn note(&self, entry: JournalEntry) {
        if let JournalEntry::Asked {
            what: Asked::Model { hash, .. },
            ..
        } = entry
        {
            *self.asked.lock().unwrap() = hash;
        }
    }

    fn runs(&self, _: usize) -> Result<Vec<RunRecord>> {
        self.run().map(|run| vec![run])
    }

    fn find(&self, _: &str) -> Result<RunRecord> {
        self.run()
    }

    fn task(&self, _: &str, task: &str) -> Result<Option<TaskRecord>> {
        Ok(self.task().filter(|_| task == "root"))
    }

    fn tasks(&self, _: &str, _: &str, _: Option<&str>, _: usize) -> Result<Vec<TaskRecord>> {
        Ok(self.task().into_iter().collect())
    }

    fn calls(&self, _: &str, _: usize) -> Result<Vec<CallSpan>> {
        Ok(Vec::new())
    }

    fn prune(&self, _: &Keep) -> Result<Pruned> {
        Err(Error::host("a forged journal"))
    }
}

/// The bodies of records, with a byte 0 between them: a run is resumed and replayed with those that can be read as what
/// belongs there. A journal refuses the others.
pub fn records(bytes: &[u8]) {
    static STAGE: OnceLock<(Host, Plugin, Arc<Forged>)> = OnceLock::new();
    let limits = LimitsPatch {
        fuel: Some(Cap::At(10_000_000)),
        ..LimitsPatch::default()
    };
    let (host, ask, journal) = STAGE.get_or_init(|| {
        let journal = Arc::new(Forged::default());
        runtime().block_on(async {
            let (host, ask) = host(Arc::clone(&journal) as Arc<dyn JournalStore>);
            // It tells the digest of the one call.
            host.run(&ask, &json!(QUESTION))
                .limits(&limits)
                .start()
                .unwrap()
                .report()
                .await;
            (host, ask, journal)
        })
    });
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let (flags, report, run_report, returned, models) = (part(), part(), part(), part(), part());
    let (result, reply, body, remaining) = (part(), part(), part(), part());
    let flag = |at: usize| flags.as_bytes().get(at).is_some_and(|byte| byte % 2 == 1);
    fn some<T: DeserializeOwned>(text: &str) -> Option<T> {
        serde_json::from_str(text).ok()
    }
    let hash = *journal.asked.lock().unwrap();
    let (plugin, digest) = (ask.id().to_string(), ask.digest().hex());
    let run = RunRecord {
        id: "1m843gzav-gts0e".into(),
        kind: if flag(0) { RunKind::Batch } else { RunKind::Run },
        plugin: plugin.clone(),
        digest: digest.clone(),
        seed: [7; 32],
        clock_ms: 1_795_000_000_000,
        started_ms: 1_795_000_000_000,
        command: Value::Null,
        pid: 1,
        end: some(&run_report).map(|summary| RunEnd {
            ended_ms: 1_795_000_000_001,
            state: RunStatus::Failed,
            summary,
        }),
    };
    let task = TaskRecord {
        id: "root".into(),
        plugin,
        digest,
        input: Some(json!(QUESTION)),
        started_ms: 1_795_000_000_000,
        end: some(&report).map(|report| TaskEnd {
            ended_ms: 1_795_000_000_001,
            report,
            returned: some(&returned),
            models: some(&models).unwrap_or_default(),
        }),
        asks: vec![AskRecord {
            requests: some(&reply)
                .map(|end| RequestRecord { hash, end })
                .into_iter()
                .collect(),
            result: some(&result),
            ..AskRecord::new(
                0,
                Asked::Model {
                    hash,
                    request: some(&body),
                },
            )
        }],
        turns: if flag(1) { vec![Turn::Answer(0)] } else { Vec::new() },
        remaining: some(&remaining).into_iter().collect(),
        documents: Vec::new(),
    };
    *journal.records.lock().unwrap() = Some((run.clone(), task));
    let failed = if flag(2) {
        FailedTasks::Repeat
    } else {
        FailedTasks::Keep
    };
    let _ = Host::settled(&run, failed);
    runtime().block_on(async {
        if let Ok(run) = host.resume(ask, &run, failed).limits(&limits).start().await {
            run.report().await;
        }
        if let Ok(run) = host.replay(ask, &run).limits(&limits).start().await {
            let report = run.report().await;
            assert!(report.differences.is_some());
            let _ = serde_json::to_string(&*report).unwrap();
        }
    });
    *journal.records.lock().unwrap() = None;
    // The call of the next run is the same.
    *journal.asked.lock().unwrap() = hash;
}
