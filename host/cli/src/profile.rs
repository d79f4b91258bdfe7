//! `agenthost profile`: limits for a manifest, from measured runs.
//!
//! The suggestion is twice the most that was measured, in round figures, and at least the tokens of replies as long as the
//! prompts allow. Cassettes cost nothing and do not measure time; inputs are run with the configured models, as `run` does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cassettes::{needed, offline_host, play, tape};
use super::crates::{ask, rules_alone};
use super::global::Global;
use super::host::{check_scripts, host_with, open_journal};
use super::offline::{OFFLINE, refuse_unasked};
use super::output::{Bound, Printer, counted, exit_code};
use super::run::read_input;
use super::table::{thousands, time};
use super::which::{find, options, sub_agents};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::journal::cassette::Cassette;
use agenthost::journal::cassette::tape::Tape;
use agenthost::limits::units::{rounded, show_bytes, show_fuel};
use agenthost::limits::{LimitsPatch, Percent};
use agenthost::providers::offline::is_made_up;
use agenthost::run::RunReport;
use agenthost::{Host, Journal, Plugin, PluginSource};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The plugin: a crate directory to build; with --input, also a .wasm file
    plugin: PathBuf,
    /// Run this input with the configured models instead of the cassettes; can be repeated
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Vec<String>,
    /// Run each input N times
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1_000), requires = "input")]
    times: u32,
    /// Use this .wasm file or crate directory as the sub-agent NAMESPACE:NAME
    #[arg(long, value_name = "NAMESPACE:NAME=PLUGIN")]
    with: Vec<String>,
    /// Print one JSON document with the measurements and the suggested limits
    #[arg(long)]
    pub(super) json: bool,
}

/// The most that any run used.
#[derive(Debug, Default, PartialEq)]
struct Most {
    runs: u64,
    tokens: u64,
    /// The tokens of a run whose replies are as long as its prompts allow.
    full_tokens: u64,
    calls: u64,
    fuel: u64,
    /// The peak of any task of the plugin itself.
    memory: u64,
    /// `None` unless models answered.
    wall: Option<Duration>,
    tasks: u64,
    depth: u64,
    /// `true` if answers of any run were made up.
    made_up: bool,
}

/// A run that was measured.
struct Measured<'a> {
    report: &'a RunReport,
    tokens: u64,
    full_tokens: u64,
    made_up: bool,
    /// `true` if its time is that of models.
    timed: bool,
}

impl Most {
    fn add(&mut self, run: &Measured<'_>) {
        let report = run.report;
        let spent = &report.spent;
        let root = report.tasks.first().map(|root| root.plugin.as_str());
        let own = report.tasks.iter().filter(|task| Some(task.plugin.as_str()) == root);
        self.runs += 1;
        self.tokens = self.tokens.max(run.tokens);
        self.full_tokens = self.full_tokens.max(run.full_tokens);
        self.calls = self.calls.max(spent.calls);
        self.fuel = self.fuel.max(spent.fuel);
        let memory = own.map(|task| task.spent.peak_memory).max();
        self.memory = self.memory.max(memory.unwrap_or_default());
        self.wall = self.wall.max(run.timed.then_some(spent.wall));
        self.tasks = self.tasks.max(report.tasks.len().saturating_sub(1) as u64);
        let deepest = report.tasks.iter().map(|task| u64::from(task.id.depth())).max();
        self.depth = self.depth.max(deepest.unwrap_or_default());
        self.made_up |= run.made_up;
    }

    /// Returns the suggested limits in the form of a manifest.
    fn suggested(&self, kept: Percent) -> Map<String, Value> {
        let twice = |measured: u64| measured.saturating_mul(2);
        let mut limits = Map::new();
        let mut set = |key: &str, value: Value| limits.insert(key.to_owned(), value);
        if self.calls > 0 {
            // The sub-tasks do not get what the plugin keeps back.
            set(
                "tokens",
                round(kept.whole(twice(self.tokens).max(self.full_tokens))).into(),
            );
            set("calls", kept.whole(twice(self.calls)).into());
        }
        set("fuel", count(round(twice(self.fuel))).into());
        set("memory", format!("{}MiB", mebibytes(twice(self.memory))).into());
        if let Some(wall) = self.wall {
            set("timeout", duration(wall.saturating_mul(2)).into());
        }
        if self.tasks > 0 {
            set("tasks", twice(self.tasks).into());
            set("depth", self.depth.into());
        }
        limits
    }
}

pub(super) async fn profile(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let path = env.cwd().join(&args.plugin);
    let options = options(sub_agents(&args.with, env)?, Vec::new());
    let mut most = Most::default();
    let plugin = if args.input.is_empty() {
        let cassettes = needed(&path, &args.plugin)?;
        ask(&path, None, env, printer)?;
        let host = offline_host(env, &path, &cassettes, rules_alone(env))?;
        let plugin = Arc::new(
            find(
                &host,
                &args.plugin.to_string_lossy(),
                &path.as_path().into(),
                options,
                printer,
            )
            .await?,
        );
        for (file, cassette) in &cassettes {
            let played = play(&host, &plugin, (file, cassette)).await?;
            let (Some(now), Some(report), []) = (&played.now, &played.report, played.changes.as_slice()) else {
                return Err(
                    Error::usage(format!("{}: the plugin has changed since", file.display()))
                        .with_hint("Run `agenthost test` to see what has changed."),
                );
            };
            most.add(&Measured {
                report,
                tokens: now.expect.tokens,
                full_tokens: full_tokens(now, host.config().reply_tokens()),
                made_up: has_made_up(cassette),
                timed: false,
            });
        }
        printer.note("a cassette records no times; for a timeout, give --input with a model that answers");
        plugin
    } else {
        let inputs: Result<Vec<Value>> = args.input.iter().map(|input| read_input(input, env)).collect();
        let config = global.config(env)?;
        check_scripts(&config)?;
        let journal = open_journal(&config, global, env)?;
        // The requests have the lengths of replies that the prompts allow.
        let tape = tape(journal, &config);
        let recorder = Journal::new(tape.clone());
        let host = host_with(config, env, None, Some(recorder))?;
        let place = PluginSource::parse(&args.plugin.to_string_lossy(), env.cwd())?;
        ask(&path, host.project(), env, printer)?;
        let plugin = Arc::new(find(&host, &args.plugin.to_string_lossy(), &place, options, printer).await?);
        refuse_unasked(&host, &plugin, &host.limits(&plugin, LimitsPatch::default()), printer)?;
        if let Some(code) = measure((&host, &tape), &plugin, (&inputs?, args.times), &mut most, printer).await? {
            return Ok(code);
        }
        plugin
    };
    if most.made_up {
        printer.note(
            "the measured tokens rest on made-up answers: real ones are longer, up to `max_tokens` of each prompt",
        );
    }
    print(&plugin, &most, args.json, printer)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs every input `times` times. Returns the exit code of the first run that fails.
async fn measure(
    (host, tape): (&Host, &Tape),
    plugin: &Plugin,
    (inputs, times): (&[Value], u32),
    most: &mut Most,
    printer: &Printer,
) -> Result<Option<ExitCode>> {
    for input in inputs {
        for _ in 0..times {
            let report = host.run(plugin, input).await?;
            if let Some(failure) = report.outcome.failure() {
                printer.failure(&format!("run {}", report.run), failure, Bound::Task);
                return Ok(Some(exit_code(&report.outcome, false)));
            }
            if report.is_offline() && most.runs == 0 {
                printer.note(OFFLINE);
            }
            let tokens = report.spent.input_tokens.saturating_add(report.spent.output_tokens);
            let recorded = tape.cassette(Map::new());
            let full = recorded.map(|recorded| full_tokens(&recorded, host.config().reply_tokens()));
            most.add(&Measured {
                report: &report,
                tokens,
                full_tokens: full.unwrap_or_default(),
                made_up: report.is_offline(),
                timed: !report.is_offline(),
            });
        }
    }
    Ok(None)
}

/// Returns the tokens of a recorded run if each reply were as long as its prompt allows. `reply_tokens` is the length of a
/// reply whose prompt names none.
fn full_tokens(run: &Cassette, reply_tokens: u32) -> u64 {
    let asks = run.tasks.iter().flat_map(|task| &task.asks);
    let full = asks.filter_map(|ask| {
        let used = ask.tokens()?;
        let request = ask.request.as_ref()?.as_object()?;
        let most = request.get("max-tokens").and_then(Value::as_u64);
        let output = most.unwrap_or(reply_tokens.into()).max(used.output);
        // The input is reserved at an estimate, which is at most about twice the count.
        Some(used.input.saturating_mul(2).saturating_add(output))
    });
    full.fold(0, u64::saturating_add)
}

/// Returns whether any reply of a cassette bears the mark of the offline provider.
fn has_made_up(cassette: &Cassette) -> bool {
    let asks = cassette.tasks.iter().flat_map(|task| &task.asks);
    let mut replies = asks.filter_map(|ask| ask.reply.as_ref());
    replies.any(|reply| serde_json::to_string(reply).is_ok_and(|text| is_made_up(&text)))
}

fn print(plugin: &Plugin, most: &Most, json: bool, printer: &Printer) -> Result<()> {
    let kept = match most.tasks {
        0 => Percent::ZERO,
        _ => plugin.info().keep_back().share,
    };
    let suggested = most.suggested(kept);
    if json {
        return printer.data(&json!({
            "format": 1,
            "plugin": plugin.id().to_string(),
            "runs": most.runs,
            "measured": {
                "tokens": most.tokens,
                "calls": most.calls,
                "fuel": most.fuel,
                "memory_bytes": most.memory,
                "wall_ms": most.wall.map(millis),
                "tasks": most.tasks,
                "depth": most.depth,
            },
            "offline": most.made_up,
            "suggested": suggested,
        }));
    }
    let wall = most
        .wall
        .map_or_else(String::new, |wall| format!(", {}", time(millis(wall))));
    printer.say(&format!(
        "the most of {}: {}, {}, {} fuel, {} of memory{wall}, {}",
        counted(most.runs, "runs"),
        counted(most.tokens, "tokens"),
        counted(most.calls, "calls"),
        show_fuel(rounded(most.fuel)),
        show_bytes(most.memory),
        counted(most.tasks, "sub-tasks"),
    ));
    printer.raw(&table(&suggested))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the limits as the table of a manifest and nothing else, so that it can replace the existing one.
fn table(limits: &Map<String, Value>) -> String {
    let mut text = "[package.metadata.agenthost.limits]".to_owned();
    for (key, value) in limits {
        let value = match value.as_u64() {
            Some(number) => thousands(&number.to_string()).replace(',', "_"),
            None => value.to_string(),
        };
        text.push_str(&format!("\n{key} = {value}"));
    }
    text
}

/// Returns the next readable figure that is not smaller.
fn round(least: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for tenths in [10, 12, 15, 20, 25, 30, 40, 50, 60, 80] {
            let figure = unit.saturating_mul(tenths) / 10;
            // Small units have no such fractions.
            if figure >= least && unit.saturating_mul(tenths).is_multiple_of(10) {
                return figure;
            }
        }
        match unit.checked_mul(10) {
            Some(next) => unit = next,
            None => return least,
        }
    }
}

/// Formats a count with k, M or G if that is exact.
fn count(number: u64) -> String {
    for (unit, name) in [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")] {
        if number >= unit && (number * 10).is_multiple_of(unit) {
            let tenths = number * 10 / unit;
            return match tenths % 10 {
                0 => format!("{}{name}", tenths / 10),
                tenth => format!("{}.{tenth}{name}", tenths / 10),
            };
        }
    }
    number.to_string()
}

/// Returns the next power of two in MiB.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20).max(1).next_power_of_two()
}

/// Returns the next readable time, at least 5 s: a provider may be slow.
fn duration(least: Duration) -> String {
    for seconds in [5, 10, 20, 30] {
        if least.as_secs() < seconds {
            return format!("{seconds}s");
        }
    }
    for minutes in [1, 2, 3, 5, 10, 15, 20, 30] {
        if least.as_secs() < 60 * minutes {
            return format!("{minutes}m");
        }
    }
    format!("{}h", least.as_secs() / 3_600 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_up_to_readable_ones() {
        for (least, figure) in [
            (0, 1),
            (1, 1),
            (9, 10),
            (13, 15),
            (1_201, 1_500),
            (81_000, 100_000),
            (2_500, 2_500),
        ] {
            assert_eq!(round(least), figure, "{least}");
        }
        assert_eq!(
            [1_500_000_000, 2_000_000, 1_250, 999].map(count),
            ["1.5G", "2M", "1250", "999"]
        );
        assert_eq!([0, 1 << 20, 5 << 20].map(mebibytes), [1, 1, 8]);
        let times = [0, 5_000, 59_000, 60_000, 4_000_000].map(Duration::from_millis);
        assert_eq!(times.map(duration), ["5s", "10s", "1m", "2m", "2h"]);
    }

    #[test]
    fn what_was_measured_is_suggested_twice() {
        let most = Most {
            runs: 2,
            tokens: 900,
            full_tokens: 1_500,
            calls: 4,
            fuel: 700_000,
            memory: 1_200_000,
            wall: Some(Duration::from_secs(4)),
            tasks: 3,
            depth: 1,
            made_up: false,
        };
        let suggested = Value::Object(most.suggested(Percent::ZERO));
        let expected = json!({"tokens": 2_000, "calls": 8, "fuel": "1.5M", "memory": "4MiB", "timeout": "10s", "tasks": 6, "depth": 1});
        assert_eq!(suggested, expected);
        assert!(
            serde_json::from_value::<LimitsPatch>(suggested).is_ok(),
            "a manifest can hold it"
        );
        let shown = table(&most.suggested(Percent::ZERO));
        assert!(
            shown.starts_with("[package.metadata.agenthost.limits]\ntokens = 2_000\ncalls = 8\nfuel = \"1.5M\"\n"),
            "{shown}"
        );
        let full = Most {
            full_tokens: 2_600,
            ..most
        };
        assert_eq!(
            full.suggested(Percent::ZERO).get("tokens"),
            Some(&json!(3_000)),
            "the prompts allow more"
        );
        let idle = Most::default().suggested(Percent::ZERO);
        assert_eq!(Value::Object(idle), json!({"fuel": "1", "memory": "1MiB"}));
    }
}
