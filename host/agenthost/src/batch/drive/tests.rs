//! Tests of the loop with a runner that only waits, under a paused clock.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::*;
use crate::batch::items::ItemLocation;
use crate::batch::tasks::Bad;
use agenthost_core::task::{Failure, FailureClass, Outcome};
use agenthost_gate::Pressure;

/// Takes a given time for each task. The tasks in `failing` fail.
struct Waits<F> {
    takes: F,
    failing: BTreeSet<u64>,
    /// The requests that the gate admits at once. Further tasks wait there.
    gate: u64,
    /// The number of tasks that the limit on the sum allows.
    allowed: u64,
    running: AtomicU64,
    most: AtomicU64,
    started: Mutex<Vec<u64>>,
    /// The tasks whose outcomes are recorded.
    recorded: BTreeSet<u64>,
    cancelled: Cancellation,
    broken: AtomicBool,
}

fn waits<F: Fn(u64) -> Duration + Send + Sync>(takes: F) -> Waits<F> {
    Waits {
        takes,
        failing: BTreeSet::new(),
        gate: u64::MAX,
        allowed: u64::MAX,
        running: AtomicU64::new(0),
        most: AtomicU64::new(0),
        started: Mutex::default(),
        recorded: BTreeSet::new(),
        cancelled: Cancellation::new(),
        broken: AtomicBool::new(false),
    }
}

impl<F: Fn(u64) -> Duration + Send + Sync> Runner for Waits<F> {
    fn run(&self, number: u64, input: Value) -> BoxFuture<'_, ItemEnd> {
        self.started.lock().unwrap().push(number);
        let now = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Box::pin(async move {
            let cancelled = tokio::select! {
                () = tokio::time::sleep((self.takes)(number)) => false,
                () = self.cancelled.cancelled() => true,
            };
            self.running.fetch_sub(1, Ordering::Relaxed);
            let outcome = match cancelled {
                true => Outcome::Failure(Failure::new(FailureClass::Cancelled, "")),
                false if self.failing.contains(&number) => {
                    let why = format!("the part of root/{number} for task root/{number}/0 is used up");
                    Outcome::Failure(Failure::new(FailureClass::Failed, why))
                }
                false => Outcome::Ok(input),
            };
            ItemEnd {
                outcome,
                spent: Spent {
                    calls: 1,
                    ..Spent::default()
                },
                tasks: 1,
                models: Vec::new(),
                recorded: number == 0,
            }
        })
    }

    fn pressure(&self) -> Pressure {
        let running = self.running.load(Ordering::Relaxed);
        Pressure {
            in_flight: running.min(self.gate),
            waiting: running.saturating_sub(self.gate),
        }
    }

    fn exhausted(&self) -> Option<LimitKind> {
        let started = self.started.lock().unwrap().len() as u64;
        (started >= self.allowed).then_some(LimitKind::Calls)
    }

    fn fault(&self) -> Option<Error> {
        let broken = self.broken.load(Ordering::Relaxed);
        broken.then(|| Error::host("the book is locked").with_hint("Unlock it."))
    }

    fn next_recorded(&self, from: u64) -> Option<u64> {
        self.recorded.range(from..).next().copied()
    }
}

/// Returns tasks of `size` items each, with the items' indexes as input.
fn tasks(items: u64, size: u64) -> impl Iterator<Item = Result<Task>> {
    (0..items.div_ceil(size)).map(move |number| {
        let indexes = number * size..items.min((number + 1) * size);
        let places = indexes
            .clone()
            .map(|index| ItemLocation { index, line: index + 1 }.into());
        Ok(Task {
            number,
            items: places.collect(),
            input: Some(if size == 1 {
                json!(number)
            } else {
                json!(indexes.collect::<Vec<_>>())
            }),
            bad: Vec::new(),
        })
    })
}

fn settings(workers: Workers) -> Settings {
    Settings {
        workers,
        max_failures: None,
        layout: Layout::default(),
    }
}

const AUTO: Workers = Workers::Auto(64);

async fn run(
    runner: &dyn Runner,
    tasks: impl Iterator<Item = Result<Task>>,
    settings: Settings,
) -> (Summary, Vec<Value>) {
    let mut bytes = Vec::new();
    let mut output = Output::new(&mut bytes, "here");
    let stop = Cancellation::new();
    let summary = drive(runner, tasks, settings, &mut output, &stop, |_| {}).await;
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (summary, lines.collect())
}

fn indexes(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["index"].as_u64().unwrap()).collect()
}

fn second(_: u64) -> Duration {
    Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn growing_workers_are_five_times_as_fast_as_four() {
    let four = waits(second);
    let (summary, _) = run(&four, tasks(100, 1), settings(Workers::Fixed(4))).await;
    assert_eq!(summary.spent.wall.as_secs(), 25, "100 items over 4 workers");
    assert_eq!(four.most.load(Ordering::Relaxed), 4);

    // 4, 8, 16, 32 and the 40 that are left.
    let growing = waits(second);
    let (summary, lines) = run(&growing, tasks(100, 1), settings(AUTO)).await;
    assert_eq!(summary.spent.wall.as_secs(), 5);
    assert_eq!((summary.ok, summary.done(), summary.failures()), (100, 100, 0));
    assert_eq!(indexes(&lines), (0..100).collect::<Vec<_>>());
    assert!(growing.most.load(Ordering::Relaxed) <= 64);

    let many = waits(second);
    let (summary, _) = run(&many, tasks(100, 1), settings(Workers::Fixed(100))).await;
    assert_eq!(summary.spent.wall.as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_gate_keeps_them_from_growing_far_beyond_it() {
    let mut runner = waits(second);
    runner.gate = 6;
    let (summary, _) = run(&runner, tasks(200, 1), settings(AUTO)).await;
    assert_eq!(summary.ok, 200);
    let most = runner.most.load(Ordering::Relaxed);
    assert!((6..=12).contains(&most), "{most} at once, with room for 6 in the gate");
}

#[tokio::test(start_paused = true)]
async fn results_stand_in_the_order_of_the_items_whatever_their_tasks_take() {
    let runner = waits(|number| Duration::from_millis(number * 7_919 % 997));
    let (summary, lines) = run(&runner, tasks(500, 1), settings(AUTO)).await;
    assert_eq!(indexes(&lines), (0..500).collect::<Vec<_>>());
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["outcome"]["ok"], index);
    }
    assert_eq!(
        (summary.ok, summary.tasks, summary.spent.calls, summary.recorded),
        (500, 500, 500, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_task_holds_the_others_back_at_the_window() {
    let runner = waits(|number| Duration::from_secs(if number == 0 { 1_000 } else { 1 }));
    let fixed = settings(Workers::Fixed(4));
    let ((summary, lines), ()) = tokio::join!(run(&runner, tasks(1_000, 1), fixed), async {
        tokio::time::sleep(Duration::from_secs(999)).await;
        let started = runner.started.lock().unwrap().clone();
        assert_eq!(started, (0..window(4)).collect::<Vec<_>>());
    });
    assert_eq!((window(4), summary.ok, lines.len()), (80, 1_000, 1_000));
    // The other 920 begin when the slow one has ended.
    assert_eq!(summary.spent.wall.as_secs(), 1_000 + 920 / 4);
}

#[tokio::test(start_paused = true)]
async fn after_so_many_failures_nothing_more_is_started_and_what_runs_is_waited_for() {
    // Each a millisecond later than the one before.
    let mut runner = waits(|number| Duration::from_millis(1_000 + number));
    runner.failing = BTreeSet::from([1, 6]);
    let settings = Settings {
        max_failures: Some(2),
        ..settings(Workers::Fixed(4))
    };
    let (summary, lines) = run(&runner, tasks(100, 1), settings).await;
    assert!(matches!(summary.stop, Some(Stop::MaxFailures(2))));
    // When 6 fails, 7, 8 and 9 run.
    assert_eq!((summary.ok, summary.failures(), summary.running), (8, 2, 0));
    assert_eq!(indexes(&lines), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_the_sum_stops_what_has_not_begun() {
    let mut runner = waits(second);
    runner.allowed = 10;
    let (summary, lines) = run(&runner, tasks(100, 1), settings(Workers::Fixed(4))).await;
    assert!(matches!(summary.stop, Some(Stop::Limit(LimitKind::Calls))));
    assert_eq!((summary.ok, lines.len()), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn recorded_tasks_are_taken_over_whatever_has_stopped_the_batch() {
    let recorded: BTreeSet<u64> = (0..5).chain(300..310).chain([999]).collect();
    let mut runner = waits(second);
    runner.allowed = 0;
    runner.recorded = recorded.clone();
    let (summary, lines) = run(&runner, tasks(1_000, 1), settings(Workers::Fixed(2))).await;
    assert!(matches!(summary.stop, Some(Stop::Limit(LimitKind::Calls))));
    assert_eq!(indexes(&lines), recorded.iter().copied().collect::<Vec<_>>());
    assert_eq!(
        *runner.started.lock().unwrap(),
        indexes(&lines),
        "nothing else is started"
    );

    // With all of them recorded, nothing is left that a limit could stop.
    let mut runner = waits(second);
    runner.allowed = 0;
    runner.recorded = (0..100).collect();
    let (summary, lines) = run(&runner, tasks(100, 1), settings(Workers::Fixed(2))).await;
    assert_eq!((summary.stop.is_none(), summary.ok, lines.len()), (true, 100, 100));

    // An interrupted batch takes them over, too.
    let mut runner = waits(|_| Duration::ZERO);
    runner.recorded = recorded.clone();
    let (mut bytes, stop) = (Vec::new(), Cancellation::new());
    stop.cancel();
    let (fixed, mut output) = (settings(Workers::Fixed(2)), Output::new(&mut bytes, "here"));
    let summary = drive(&runner, tasks(1_000, 1), fixed, &mut output, &stop, |_| {}).await;
    assert!(matches!(summary.stop, Some(Stop::Interrupted)));
    assert_eq!(summary.ok, recorded.len() as u64);
    assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), recorded.len());
}

/// Fails at any write and any flush.
struct Untouched;

impl Write for Untouched {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        panic!("it is written to")
    }

    fn flush(&mut self) -> std::io::Result<()> {
        panic!("it is flushed")
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_if_all_items_were_cut_off() {
    let runner = waits(Duration::from_secs);
    let mut output = Output::new(Untouched, "here");
    let stop = runner.cancelled.clone();
    let fixed = settings(Workers::Fixed(4));
    let tasks = tasks(100, 1).skip(50);
    let drive = drive(&runner, tasks, fixed, &mut output, &stop, |_| {});
    let (summary, ()) = tokio::join!(drive, async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        stop.cancel();
    });
    assert_eq!((summary.done(), summary.cut_off), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_batch_starts_nothing_and_writes_what_it_has() {
    let runner = waits(Duration::from_secs);
    let mut bytes = Vec::new();
    let mut output = Output::new(&mut bytes, "here");
    let stop = runner.cancelled.clone();
    let drive = drive(
        &runner,
        tasks(100, 1),
        settings(Workers::Fixed(4)),
        &mut output,
        &stop,
        |_| {},
    );
    let (summary, ()) = tokio::join!(drive, async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        stop.cancel();
    });
    assert!(matches!(summary.stop, Some(Stop::Interrupted)));
    assert_eq!((summary.ok, summary.failures(), summary.cut_off), (2, 0, 4));
    assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_host_starts_nothing_more_and_fails_no_item() {
    let mut runner = waits(second);
    runner.failing = BTreeSet::from([0]);
    let ((summary, lines), ()) = tokio::join!(run(&runner, tasks(100, 1), settings(Workers::Fixed(4))), async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        runner.broken.store(true, Ordering::Relaxed);
        runner.cancelled.cancel();
    });
    let Some(Stop::Failed(error)) = &summary.stop else {
        panic!("{:?}", summary.stop);
    };
    assert_eq!(
        (error.to_string().as_str(), error.hint()),
        ("the book is locked", Some("Unlock it."))
    );
    assert_eq!((summary.ok, summary.failures(), summary.cut_off), (3, 1, 4));
    assert_eq!(lines.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn the_same_failure_of_many_items_is_one_message() {
    let mut runner = waits(second);
    runner.failing = (0..30).collect();
    let (summary, _) = run(&runner, tasks(30, 1), settings(AUTO)).await;
    let message = "the part of root/… for task root/…/0 is used up";
    assert_eq!(summary.messages, BTreeMap::from([(message.to_owned(), 30)]));
    assert_eq!(
        without_id("root/1 and root/17, root/1/7", 1),
        "root/… and root/17, root/…/7"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_makes_an_empty_batch() {
    let (summary, lines) = run(&waits(second), tasks(0, 1), settings(AUTO)).await;
    assert_eq!((summary.done(), lines.len(), summary.stop.is_none()), (0, 0, true));
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_of_ten_items_is_ten_failed_items() {
    let mut runner = waits(second);
    runner.failing = BTreeSet::from([10]);
    let settings = Settings {
        layout: Layout {
            grouped: true,
            results: false,
        },
        ..settings(Workers::Fixed(4))
    };
    let (summary, lines) = run(&runner, tasks(103, 10), settings).await;
    assert_eq!((summary.ok, summary.failures(), summary.tasks), (100, 3, 11));
    assert_eq!(summary.spent.wall.as_secs(), 3);
    assert_eq!(indexes(&lines), (0..=100).collect::<Vec<_>>());
    assert_eq!(lines[99]["outcome"]["ok"], 99);
    assert_eq!(lines[100]["items"], json!([100, 102]));
    let spent = lines.iter().filter(|line| line.get("spent").is_some()).count();
    assert_eq!(spent, 11, "what a task used stands in one of its lines");
}

#[tokio::test(start_paused = true)]
async fn a_bad_item_is_a_failure_that_runs_nothing() {
    let bad = |number: u64| {
        Ok(Task {
            number,
            items: Vec::new(),
            input: None,
            bad: vec![Bad::new(
                ItemLocation {
                    index: number,
                    line: number + 1,
                },
                "no",
            )],
        })
    };
    let runner = waits(second);
    let mixed = tasks(6, 1)
        .enumerate()
        .map(|(n, task)| if n % 2 == 1 { bad(n as u64) } else { task });
    let (summary, lines) = run(&runner, mixed, settings(AUTO)).await;
    assert_eq!((summary.ok, &summary.failed), (3, &BTreeMap::from([("input", 3)])));
    assert_eq!(indexes(&lines), [0, 1, 2, 3, 4, 5]);
    assert_eq!(*runner.started.lock().unwrap(), [0, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn items_that_cannot_be_read_any_more_end_the_batch_with_what_runs() {
    let broken = tasks(5, 1).chain([Err(Error::input("gone"))]).chain(tasks(9, 1));
    let (summary, lines) = run(&waits(second), broken, settings(AUTO)).await;
    assert!(matches!(summary.stop, Some(Stop::Failed(_))));
    assert_eq!((summary.ok, lines.len()), (5, 5));
}

/// Accepts whole lines until it is full.
struct Full<'a>(&'a AtomicBool, usize);

impl Write for Full<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(
            !self.0.load(Ordering::Relaxed),
            "nothing is written after a line was lost"
        );
        if self.1 == 0 {
            self.0.store(true, Ordering::Relaxed);
            return Err(ErrorKind::StorageFull.into());
        }
        self.1 -= 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_batch_once_what_runs_has_ended() {
    let runner = waits(second);
    let full = AtomicBool::new(false);
    let mut output = Output::new(Full(&full, 5), "out.jsonl");
    let stop = Cancellation::new();
    let fixed = settings(Workers::Fixed(4));
    let summary = drive(&runner, tasks(100, 1), fixed, &mut output, &stop, |_| {}).await;
    let Some(Stop::Failed(error)) = &summary.stop else {
        panic!("{summary:?}");
    };
    assert!(error.to_string().contains("out.jsonl"));
    assert!((6..=10).contains(&summary.done()), "{summary:?}");
    assert_eq!(
        summary.ok,
        runner.started.lock().unwrap().len() as u64,
        "all that was paid is counted"
    );
}
