//! Runs that are canceled at moments drawn at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agenthost::config::Config;
use agenthost::gate::Pressure;
use agenthost::llm::{Provider, ProviderError, Reply, Request};
use agenthost::providers::script::Script;
use agenthost::task::FailureClass;
use agenthost::{Cap, Host, LimitsPatch, LoadOptions, Plugin, PluginSource};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::super::run::{Measured, Program};
use super::{Panics, Random, machine};

/// Runs that are canceled, and for a soak.
const CANCELS: u64 = 2_000;
const SOAK: u64 = 100_000;
/// Runs at a time, and the tasks that have a place at once.
const WORKERS: u64 = 8;
const PLACES: usize = 24;
/// How long the host may take to be done once the last run was canceled.
const PATIENCE: Duration = Duration::from_secs(60);

/// Drops or cancels runs of a few sub-tasks that call a model, and then looks for what they left.
pub(super) fn cancels_random(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let wanted = if program.soaks { SOAK } else { CANCELS };
    let machine = machine(program, "crowd", &format!("[run]\nmax-concurrent-tasks = {PLACES}\n"));
    let open = Arc::new(AtomicU64::new(0));
    let provider = Moody {
        replies: Script::parse("[[rule]]\ntext = 'fine'", "fine").unwrap(),
        asked: AtomicU64::new(0),
        open: Arc::clone(&open),
    };
    let host = Host::builder()
        .config(Config::load(&machine.surroundings()).unwrap())
        .provider("offline", Arc::new(provider))
        .build()
        .unwrap();
    let panics = Panics::count();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (misses, counts) = runtime.block_on(async {
        let place = |name: &str| PluginSource::parse(name, &machine.cwd()).unwrap();
        let options = LoadOptions::new().sub_agent("attack:neighbour", place("neighbour.wasm"));
        let crowd = host.load_with(place("guest.wasm"), options).await.unwrap();
        let bench = Arc::new(Bench {
            host,
            crowd,
            wanted,
            next: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        });
        let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(Arc::clone(&bench).work())).collect();
        let mut misses = Vec::new();
        for worker in workers {
            misses.extend(worker.await.unwrap().err());
        }
        misses.extend(bench.left(&open).await.err());
        (
            misses,
            (
                bench.cancelled.load(Ordering::Relaxed),
                bench.ended.load(Ordering::Relaxed),
            ),
        )
    });
    let panics = panics.end();
    let (cancelled, ended) = counts;
    measured.misses.extend(misses);
    measured.expect(panics == 0, || format!("{panics} panics"));
    measured.expect(cancelled > ended * 4, || {
        format!("{ended} runs had ended before they were cancelled, and {cancelled} had not")
    });
    measured.figure("random-cancels", wanted as f64);
    measured.figure("cancel-panics", panics as f64);
    measured.figure("slots", if measured.misses.is_empty() { 0.0 } else { f64::NAN });
    measured.ended = format!("{wanted} runs cancelled, {ended} of {} had ended", cancelled + ended);
    measured
}

struct Bench {
    host: Host,
    crowd: Plugin,
    wanted: u64,
    next: AtomicU64,
    /// Of the runs that were canceled and waited for: those that ended so, and those that ended by themselves.
    cancelled: AtomicU64,
    ended: AtomicU64,
}

impl Bench {
    async fn work(self: Arc<Self>) -> Result<(), String> {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.wanted {
                return Ok(());
            }
            self.cancel(seed)
                .await
                .map_err(|error| format!("run {seed}: {error}"))?;
        }
    }

    /// Starts a run, and ends it at a moment.
    async fn cancel(&self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let input = "g".repeat(random.below(5) as usize + 1);
        let run = self.host.run(&self.crowd, &json!(input)).start();
        let run = run.map_err(|error| error.to_string())?;
        match random.below(3) {
            0 => {
                for _ in 0..random.below(200) {
                    tokio::task::yield_now().await;
                }
            }
            1 => tokio::time::sleep(Duration::from_micros(random.below(20_000))).await,
            // Its outcome is waited for, and that given up.
            _ => {
                let moment = Duration::from_micros(random.below(10_000));
                let _ = tokio::time::timeout(moment, run.outcome()).await;
            }
        }
        match random.below(4) {
            // Dropped tasks are not waited for: they end while others start.
            0 => drop(run),
            1 => {
                run.cancel();
                drop(run);
            }
            _ => {
                run.cancel();
                let outcome = run.outcome().await;
                let counted = match outcome.failure() {
                    None => &self.ended,
                    Some(failure) if failure.class == FailureClass::Cancelled => &self.cancelled,
                    Some(_) => return Err(format!("ended as {outcome:?}")),
                };
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Sees to it that no task has a place, no request is open, and every place can be had.
    async fn left(&self, open: &AtomicU64) -> Result<(), String> {
        let start = Instant::now();
        while !self.host.is_idle() || open.load(Ordering::SeqCst) > 0 {
            if start.elapsed() > PATIENCE {
                let Pressure { in_flight, waiting, .. } = self.host.pressure();
                let open = open.load(Ordering::SeqCst);
                return Err(format!(
                    "left: {in_flight} requests in flight, {waiting} waiting, {open} open, or a task"
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let input = json!("x".repeat(8 * PLACES));
        let limits = LimitsPatch {
            tasks: Some(Cap::Unlimited),
            ..LimitsPatch::default()
        };
        let run = self.host.run(&self.crowd, &input).limits(&limits).start();
        let report = run.map_err(|error| error.to_string())?.report().await;
        let good = report.tasks.iter().filter(|task| task.outcome.ok().is_some()).count();
        match good == 8 * PLACES + 1 {
            true => Ok(()),
            false => Err(format!(
                "afterwards {good} of {} tasks came to their end",
                8 * PLACES + 1
            )),
        }
    }
}

/// A provider that answers at once, after a few polls, after a moment or never.
#[derive(Debug)]
struct Moody {
    replies: Script,
    asked: AtomicU64,
    open: Arc<AtomicU64>,
}

/// A request that is open for as long as this lives.
struct Open(Arc<AtomicU64>);

impl Open {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Provider for Moody {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        let mut random = Random::new(!self.asked.fetch_add(1, Ordering::Relaxed));
        async move {
            let _open = Open::new(&self.open);
            match random.below(8) {
                0..3 => {}
                3 | 4 => {
                    for _ in 0..random.below(20) {
                        tokio::task::yield_now().await;
                    }
                }
                5 | 6 => tokio::time::sleep(Duration::from_micros(random.below(3_000))).await,
                _ => std::future::pending().await,
            }
            self.replies.complete(request).await
        }
        .boxed()
    }

    fn summary(&self) -> String {
        "moody".into()
    }

    fn is_offline(&self) -> bool {
        true
    }
}
