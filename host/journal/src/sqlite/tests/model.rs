//! After any sequence of entries, the journal returns the same as a model in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A run as it should be read.
#[derive(Default)]
struct Run {
    record: Option<RunRecord>,
    /// The tasks, by the numbers in their ids.
    tasks: BTreeMap<Vec<u32>, TaskRecord>,
    /// The calls, each with whether a reply may still arrive.
    spans: Vec<(CallSpan, bool)>,
}

fn numbers(task: &str) -> Vec<u32> {
    task.split('/').skip(1).map(|number| number.parse().unwrap()).collect()
}

/// A step, before it is known whether it fits.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    run: usize,
    task: usize,
    ask: u64,
    hash: u8,
    text: String,
    kept: bool,
    at_ms: u64,
}

const RUNS: [&str; 3] = ["alpha", "beta", "alphabet"];
const TASKS: [&str; 6] = ["root", "root/0", "root/2", "root/10", "root/2/0", "root/2/300"];

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof![4 => ".{0,20}", 1 => "[a-c\0é]{5}".prop_map(|text| text.repeat(900))];
    let places = (0..26u8, 0..RUNS.len(), 0..TASKS.len(), 0..3u64);
    (places, 0..2u8, text, any::<bool>(), 0..u64::MAX >> 1).prop_map(
        |((kind, run, task, ask), hash, text, kept, at_ms)| Step {
            kind,
            run,
            task,
            ask,
            hash,
            text,
            kept,
            at_ms,
        },
    )
}

/// Applies a step to the model and returns its entry; `None` if the journal would refuse it.
fn apply(model: &mut BTreeMap<&'static str, Run>, step: Step) -> Option<JournalEntry> {
    let Step {
        ask, text, kept, at_ms, ..
    } = step;
    let (name, task) = (RUNS[step.run], TASKS[step.task]);
    let (run, id) = (name.to_owned(), task.to_owned());
    let body = kept.then(|| json!(text));
    let hash = [step.hash; 32];
    let state = model.entry(name).or_default();
    let Some(record) = &mut state.record else {
        let mut record = super::run(name, at_ms);
        record.command = json!(text);
        state.record = Some(record.clone());
        return Some(JournalEntry::RunStarted(record));
    };
    match step.kind {
        0 => {
            record.pid = u32::from(step.hash);
            record.end = None;
            return Some(JournalEntry::RunResumed { run, pid: record.pid });
        }
        1 => {
            let end = RunEnd {
                ended_ms: at_ms,
                state: RunStatus::Failed,
                summary: RunSummary {
                    outcome: kept.then(|| Outcome::Ok(json!(text))),
                    ..RunSummary::default()
                },
            };
            record.end = Some(end.clone());
            return Some(JournalEntry::RunEnded { run, end });
        }
        2..6 => {
            let earlier = state.tasks.remove(&numbers(task)).unwrap_or_default();
            let started = TaskRecord {
                id: id.clone(),
                plugin: text.clone(),
                digest: "cd".into(),
                input: body.clone(),
                started_ms: at_ms,
                asks: earlier.asks,
                documents: earlier.documents,
                ..TaskRecord::default()
            };
            state.tasks.insert(numbers(task), started);
            for (span, open) in &mut state.spans {
                *open &= span.task != task;
            }
            return Some(JournalEntry::TaskStarted {
                run,
                task: id,
                plugin: text,
                digest: "cd".into(),
                input: body,
                at_ms,
            });
        }
        _ => {}
    }
    let record = state.tasks.get_mut(&numbers(task))?;
    let known = record.asks.iter().position(|known| known.ask == ask);
    Some(match step.kind {
        6..10 => {
            let what = match step.kind {
                6 => Asked::SubTask {
                    task: TaskId::root().child(step.hash.into()),
                },
                _ => Asked::Model {
                    hash,
                    request: kept.then(|| request(&text)),
                },
            };
            let same = |known: &AskRecord| match (&known.what, &what) {
                (Asked::Model { hash: known, .. }, Asked::Model { hash, .. }) => known == hash,
                (known, now) => known == now,
            };
            let fresh = AskRecord::new(ask, what.clone());
            match known {
                Some(at) if same(&record.asks[at]) => {}
                Some(at) => record.asks[at] = fresh,
                None => record.asks.push(fresh),
            }
            record.asks.sort_by_key(|known| known.ask);
            JournalEntry::Asked {
                run,
                task: id,
                ask,
                what,
            }
        }
        10..13 => {
            let span = CallSpan {
                task: id.clone(),
                ask,
                model: text.clone(),
                sent_ms: at_ms,
                ended_ms: None,
            };
            state.spans.push((span, true));
            JournalEntry::RequestSent {
                run,
                task: id,
                ask,
                model: text,
                at_ms,
            }
        }
        13..17 => {
            let known = &mut record.asks[known?];
            let end = kept.then(|| RequestRecord { hash, ..paid(&text) });
            known.requests.extend(end.clone());
            let mut open = state.spans.iter_mut();
            if let Some((span, open)) = open.find(|(span, open)| *open && span.task == task && span.ask == ask) {
                span.ended_ms = Some(at_ms);
                *open = false;
            }
            JournalEntry::RequestEnded {
                run,
                task: id,
                ask,
                request: end,
                at_ms,
            }
        }
        17..19 => {
            let result = match step.kind {
                17 => result(&text),
                _ => result(&text).without_texts(),
            };
            record.asks[known?].result = Some(result.clone());
            JournalEntry::Answered {
                run,
                task: id,
                ask,
                result,
            }
        }
        19..21 => {
            let turn = match step.hash {
                0 => Turn::Answer(ask),
                _ => Turn::Cut(Cut {
                    time_up: kept,
                    polls: at_ms,
                }),
            };
            record.turns.push(turn);
            JournalEntry::Turned { run, task: id, turn }
        }
        21 => {
            record.remaining.push(remaining(at_ms));
            JournalEntry::Remained {
                run,
                task: id,
                remaining: remaining(at_ms),
            }
        }
        22 => {
            let place = record.documents.len().min(usize::try_from(ask).unwrap());
            record.documents.truncate(place);
            record.documents.push(document(&text));
            JournalEntry::DocumentAsked {
                run,
                task: id,
                number: place as u64,
                operation: document(&text),
            }
        }
        23 => {
            let last = record.documents.last_mut()?;
            last.result = Some(DocumentResult::Done);
            let number = record.documents.len() as u64 - 1;
            JournalEntry::DocumentAnswered {
                run,
                task: id,
                number,
                result: DocumentResult::Done,
            }
        }
        _ => {
            let mut end = TaskEnd {
                ended_ms: at_ms,
                returned: body,
                ..task_end()
            };
            end.report.log = text;
            record.end = Some(end.clone());
            JournalEntry::TaskEnded { run, task: id, end }
        }
    })
}

/// Compares the results of all queries.
fn compare(journal: &Sqlite, model: &BTreeMap<&'static str, Run>) {
    assert_eq!(journal.runs(99).unwrap().len(), model.len());
    for (name, run) in model {
        assert_eq!(Some(journal.find(name).unwrap()), run.record);
        let spans: Vec<_> = run.spans.iter().map(|(span, _)| span.clone()).collect();
        assert_eq!(journal.calls(name, 999).unwrap(), spans);
        for task in TASKS {
            let mut expected = run.tasks.get(&numbers(task)).cloned();
            for call in expected.iter_mut().flat_map(|task| &mut task.asks) {
                let spans = run.spans.iter();
                let open = spans.filter(|(span, open)| *open && span.task == task && span.ask == call.ask);
                call.in_flight = open.map(|(span, _)| span.model.clone()).collect();
            }
            assert_eq!(journal.task(name, task).unwrap(), expected);
        }
        for under in ["", "root", "root/2", "root/10"] {
            let below = |numbers: &[u32]| match under {
                "" => true,
                _ => numbers.len() > self::numbers(under).len() && numbers.starts_with(&self::numbers(under)),
            };
            let expected = run
                .tasks
                .iter()
                .filter(|(numbers, _)| below(numbers))
                .map(|(_, task)| TaskRecord {
                    asks: vec![],
                    turns: vec![],
                    remaining: vec![],
                    documents: vec![],
                    ..task.clone()
                });
            let mut found: Vec<TaskRecord> = Vec::new();
            loop {
                let after = found.last().map(|task| task.id.clone());
                let page = journal.tasks(name, under, after.as_deref(), 2).unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            assert!(found.into_iter().eq(expected), "below `{under}`");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_journal_says_the_same_as_a_model(steps in prop::collection::vec((step(), any::<bool>()), 1..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_directory, journal) = scratch();
        let mut model = BTreeMap::new();
        let mut last = None;
        for (step, wait) in steps {
            let Some(entry) = apply(&mut model, step) else {
                continue;
            };
            if wait {
                last = Some(journal.append(entry));
            } else {
                journal.note(entry);
            }
        }
        if let Some(last) = last {
            runtime.block_on(last).unwrap();
        }
        // Closing and opening loses nothing, and waits for the notes.
        let path = journal.path().to_owned();
        drop(journal);
        compare(&Sqlite::open(&path).unwrap(), &model);
    }
}
