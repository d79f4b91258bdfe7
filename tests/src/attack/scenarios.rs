//! Attacks that take more than one run of a guest.

mod cancels;
mod leaks;
mod lifts;
mod spending;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cases::Case;
use super::component;
use super::run::{Measured, Program};
use super::watch::{Watched, watch};
use crate::env::TestEnv;
use crate::guests::workspace;
use crate::server::{Reply, Server};

/// Longer than any run of a scenario takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Does what the scenario of this name does.
///
/// # Panics
///
/// If there is no such scenario.
pub(super) fn scenario(name: &str, program: &Program, _case: &Case) -> Measured {
    match name {
        "neighbours" => neighbours(program),
        "overspend" => spending::overspend(program),
        "dropped-calls" => spending::dropped_calls(program),
        "retries" => spending::retries(program),
        "headers-injected" => leaks::headers_injected(program),
        "redirect" => leaks::redirect(program),
        "cancel" => cancel(program),
        "cancels-random" => cancels::cancels_random(program),
        "texts-random" => lifts::texts_random(program),
        "no-room" => no_room(program),
        "canary" => leaks::canary(program),
        "image-tampered" => leaks::image_tampered(program),
        "key-echoed" => leaks::key_echoed(program),
        "archives" => archives(),
        "advisories" => advisories(),
        other => panic!("no scenario is named {other}"),
    }
}

/// A machine with `guest` and `neighbour` as files, and this configuration.
fn machine(program: &Program, guest: &str, config: &str) -> TestEnv {
    let machine = program.machine().config(config);
    machine.write("guest.wasm", component::component(guest));
    machine.write("neighbour.wasm", component::component("neighbour"));
    machine
}

/// Runs the guest with this input, and gives the report.
fn run(machine: &TestEnv, input: &str, flags: &[&str]) -> (Watched, Value) {
    let input = format!("\"{input}\"");
    let mut args = vec!["run", "guest.wasm", "--json", "--input", &input];
    args.extend(flags);
    let watched = watch(machine.start(args, None), PATIENCE);
    let line = watched.output.stdout.lines().last().unwrap_or_default();
    let report = serde_json::from_str(line).unwrap_or_default();
    (watched, report)
}

const WITH: [&str; 2] = ["--with", "attack:neighbour=neighbour.wasm"];

/// Notes what every run of a scenario has to keep to.
fn looked_at(measured: &mut Measured, watched: &Watched) {
    measured.figure("memory", (watched.peak >> 20) as f64);
    measured.figure("listening", watched.listening as f64);
    if let Some(why) = &watched.killed {
        measured.misses.push(format!("killed: it {why}"));
    }
    let panicked = watched.output.stderr.contains("panicked at");
    measured.expect(!panicked, || format!("panicked: {}", watched.output.stderr));
}

fn tasks(report: &Value) -> impl Iterator<Item = &Value> {
    report["tasks"].as_array().into_iter().flatten()
}

/// Tasks that came out well, but for the root.
fn good(report: &Value) -> Vec<&Value> {
    let below = tasks(report).filter(|task| task["parent"].is_string());
    below.filter(|task| task["outcome"]["ok"].is_string()).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Fifty sub-tasks that each make ten calls of 100 ms, alone and beside two that loop over a host call: how much longer
/// the fifty take.
fn neighbours(program: &Program) -> Measured {
    const GOOD: usize = 50;
    const MOST: f64 = 1.5;
    let mut measured = Measured::default();
    let server = Server::start(|_| Reply::text("fine").after(Duration::from_millis(100)));
    let machine = machine(program, "crowd", &server.config());
    let times = |measured: &mut Measured, hostile: &str, seconds: f64| {
        // The hostile part continues until the time of the run is up.
        let timeout = format!("{:.0}ms", seconds * 1000.0);
        let flags = [&WITH[..], &["--timeout", &timeout, "--fuel", "none", "--calls", "none"]].concat();
        let (watched, report) = run(&machine, &format!("{}{hostile}", "g".repeat(GOOD)), &flags);
        looked_at(measured, &watched);
        let good = good(&report);
        measured.expect(good.len() == GOOD, || {
            format!(
                "beside {hostile:?}, {} of {GOOD} good tasks came to their end",
                good.len()
            )
        });
        median(
            good.iter()
                .filter_map(|task| task["spent"]["wall_ms"].as_f64())
                .collect(),
        )
    };
    // In a debug build, random bytes cost the host twenty times what the guest pays for them.
    let hostile: &[&str] = if program.is_optimized {
        &["pp", "ll", "rr"]
    } else {
        &["pp", "ll"]
    };
    for hostile in hostile.iter().copied() {
        let mut slowdown = f64::INFINITY;
        // Other work on the machine lengthens one of the two runs, and a plugin that disturbs its neighbors always the
        // second: the best of three pairs counts.
        for _ in 0..3 {
            let alone = times(&mut measured, "", 60.0);
            let beside = times(&mut measured, hostile, 3.0 * alone / 1000.0 + 2.0);
            slowdown = slowdown.min(beside / alone);
            if slowdown <= MOST {
                break;
            }
        }
        measured.figure("slowdown", slowdown);
        measured.expect(slowdown <= MOST, || {
            format!("beside {hostile:?} the good tasks took {slowdown:.2} times as long as alone")
        });
    }
    measured.ended = "the neighbours were done".into();
    measured
}

/// Interrupts at moments spread over a run of twenty sub-tasks.
fn cancel(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let server = Server::start(|_| Reply::text("fine").after(Duration::from_millis(20)));
    let machine = machine(program, "crowd", &server.config());
    for at in 0..24_u64 {
        let mut args = vec![
            "run",
            "guest.wasm",
            "--json",
            "--input",
            "\"gggggggggggggggggggg\"",
            "--calls",
            "none",
        ];
        args.extend(WITH);
        let running = machine.start(args, None);
        std::thread::sleep(Duration::from_millis(at * 25));
        running.interrupt();
        let start = Instant::now();
        let watched = watch(running, PATIENCE);
        looked_at(&mut measured, &watched);
        measured.figure("stop", start.elapsed().as_secs_f64() * 1000.0);
        let code = watched.output.code;
        // Before there is a handler, the signal itself ends the process.
        measured.expect([0, 130].contains(&code), || {
            format!("interrupted after {} ms: {}", at * 25, watched.output)
        });
    }
    server.wait_until("the end of every request", |seen| {
        seen.iter().all(|request| request.ended.is_some())
    });
    measured.figure("cancels", 24.0);
    measured.figure("open", server.in_flight() as f64);
    measured.ended = "interrupted 24 times".into();
    measured
}

/// Two hundred sub-tasks where there is room for twelve tasks, then sixty that each have as many parts as a plugin may
/// have and are alive for a while.
fn no_room(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let server = Server::start(|_| Reply::text("fine").after(Duration::from_millis(5)));
    let config = format!("[run]\nmax-concurrent-tasks = 12\n{}", server.config());
    let machine = machine(program, "crowd", &config);
    machine.write("wide.wasm", component::wide(&component::component("neighbour")));
    let wide = [
        "--with",
        "attack:neighbour=wide.wasm",
        "--calls",
        "none",
        "--tokens",
        "none",
    ];
    let (mut wanted, mut tasks) = (0, 0);
    for (input, flags) in [("x".repeat(200), &WITH[..]), ("g".repeat(60), &wide)] {
        let (watched, report) = run(&machine, &input, &[flags, &["--tasks", "none"]].concat());
        looked_at(&mut measured, &watched);
        let good = good(&report).len();
        wanted += input.len();
        tasks += good;
        measured.expect(watched.output.code == 0 && good == input.len(), || {
            format!("{good} of {} tasks came to their end: {}", input.len(), watched.output)
        });
    }
    measured.figure("tasks", tasks as f64);
    measured.figure("errors", (wanted - tasks) as f64);
    measured.ended = format!("{tasks} of {wanted} tasks came to their end");
    measured
}

/// No dependency can unpack an archive.
fn archives() -> Measured {
    const READERS: [&str; 8] = [
        "tar",
        "zip",
        "async-tar",
        "tokio-tar",
        "async_zip",
        "libarchive",
        "sevenz-rust",
        "unrar",
    ];
    let mut measured = Measured::default();
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    let names: Vec<_> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    let readers = names.iter().filter(|name| READERS.contains(name)).count();
    measured.figure("crates", names.len() as f64);
    measured.figure("readers", readers as f64);
    measured.expect(readers == 0, || "a dependency reads archives".into());
    measured.ended = format!("{readers} of {} crates read archives", names.len());
    measured
}

/// The advisories that are open against the version of the engine that is built in, and those that this host is open
/// to.
fn advisories() -> Measured {
    let mut measured = Measured::default();
    let open = agenthost::sandbox::advisories::open();
    let affecting: Vec<_> = open.iter().filter(|advisory| advisory.affects_this_host()).collect();
    measured.figure("advisories", open.len() as f64);
    measured.figure("affecting", affecting.len() as f64);
    measured.ended = format!("{} open, {} affect this host", open.len(), affecting.len());
    measured
}

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.next();
        random
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Counts the panics of this process, until it is ended.
struct Panics(Arc<AtomicU64>);

impl Panics {
    fn count() -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            counted.fetch_add(1, Ordering::SeqCst);
            usual(panic);
        }));
        Self(count)
    }

    fn end(self) -> u64 {
        drop(std::panic::take_hook());
        self.0.load(Ordering::SeqCst)
    }
}
