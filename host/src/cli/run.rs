//! `agenthost run`: one task.

mod report;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::report::{bound, print};
use super::cassettes::Recording;
use super::output::{Bound, Printer, exit_code};
use super::progress::Progress;
use super::{Global, recording_host};
use crate::config::{DirGrant, Env};
use crate::error::{Error, Result};
use crate::host::{Host, LoadOptions, LoadedPlugin, RunHandle};
use crate::journal::RunRecord;
use crate::limits::{Cap, Limits, LimitsPatch};
use crate::run::Difference;
use crate::sandbox::MAX_CALL_BYTES;

/// The most bytes of input JSON: what a guest could take over in one call, with room for JSON's own marks.
pub(super) const MAX_INPUT_BYTES: u64 = 4 * MAX_CALL_BYTES as u64;

pub(super) const OFFLINE: &str = "the offline provider made the answers up; set ANTHROPIC_API_KEY or OPENAI_API_KEY, or [models] \
                       in agenthost.toml, for real ones";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A .wasm file, or the directory of a plugin's crate, which is built first
    plugin: PathBuf,
    /// The task's input: JSON, @FILE, or - for stdin [default: stdin, where it is piped]
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Take the sub-agent NAMESPACE:NAME from this .wasm file or crate directory
    #[arg(long, value_name = "NAMESPACE:NAME=PLUGIN")]
    with: Vec<String>,
    /// Let the plugin, but not its sub-agents, read the directory HOST as GUEST, such as reports::/data; with :rw it may
    /// write there, too
    #[arg(long, value_name = "HOST::GUEST[:rw]")]
    dir: Vec<String>,
    /// Write the model calls and what comes out to this file, such as cassettes/first.json, for `agenthost test`
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    record: Option<PathBuf>,
    /// Print one JSON document with the outcome, what was spent, and every task
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Limits of the root task
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits of the task (or `none`)")]
pub(super) struct LimitArgs {
    /// Input and output tokens together, such as 50k
    #[arg(long, value_name = "N")]
    tokens: Option<String>,
    /// US dollars, such as 0.25
    #[arg(long, value_name = "USD")]
    cost: Option<String>,
    /// Model calls
    #[arg(long, value_name = "N")]
    calls: Option<String>,
    /// Units of computing, such as 20G
    #[arg(long, value_name = "N")]
    fuel: Option<String>,
    /// Linear memory, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Wall time, such as 90s
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// Sub-tasks, at any depth
    #[arg(long, value_name = "N")]
    tasks: Option<String>,
    /// Levels of sub-tasks
    #[arg(long, value_name = "N")]
    depth: Option<String>,
}

impl LimitArgs {
    pub(super) fn patch(&self) -> Result<LimitsPatch> {
        let mut patch = LimitsPatch::default();
        for (key, text) in self.given() {
            patch.set(&key, &text).map_err(|error| {
                Error::usage(format!("--{key}: {error}")).hint("Run the command with --help for all limits.")
            })?;
        }
        Ok(patch)
    }

    /// The limits that were given, as they were written.
    pub(super) fn given(&self) -> BTreeMap<String, String> {
        let all = [
            ("tokens", &self.tokens),
            ("cost", &self.cost),
            ("calls", &self.calls),
            ("fuel", &self.fuel),
            ("memory", &self.memory),
            ("timeout", &self.timeout),
            ("tasks", &self.tasks),
            ("depth", &self.depth),
        ];
        let given = all
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), text.clone()?)));
        given.collect()
    }
}

pub(super) async fn run(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let limits = args.limits.patch()?;
    let input = args.input.as_deref().map(|input| read_input(input, env)).transpose()?;
    let input = match input {
        None => read_piped()?,
        given => given,
    };
    let config = global.config(env)?;
    let memory = max_memory(&limits);
    let cassette = args.record.as_ref();
    let cassette = cassette.map(|file| Recording::begin(&env.cwd().join(file), &config, global, env));
    let cassette = cassette.transpose()?;
    let host = match &cassette {
        Some(cassette) => cassette.host(config, env, memory)?,
        None => recording_host(config, global, env, memory)?,
    };
    let path = env.cwd().join(&args.plugin);
    let options_with = sub_agents(&args.with, env)?;
    let options = LoadOptions {
        with: options_with.clone(),
        dirs: dirs(&args.dir, env)?,
    };
    let plugin = Arc::new(find(&host, &args.plugin, &path, options, printer).await?);
    if !args.dir.is_empty() && !plugin.reads_files() {
        printer.note(&format!("{} reads no files: --dir gives it nothing", plugin.id.name));
    }
    let Some(input) = input else {
        return Err(Error::input("no input: --input was not given and nothing was piped in")
            .hint(format!("Give one of this form: --input '{}'", plugin.sample_input())));
    };
    note_narrowed(&host, &plugin, &limits, printer);

    let command = Command {
        plugin: path,
        with: options_with,
        dirs: args.dir.clone(),
        cwd: env.cwd().to_owned(),
        limits: args.limits.given(),
    };
    let asked = host.config().limits().overridden_by(&limits);
    let run = host.spawn_as(&plugin, &input, &limits, &command.to_json()?)?;
    let code = watch(run, &host, &plugin, &asked, args.json, global, printer).await?;
    if let Some(cassette) = cassette {
        cassette.finish(&host.limits(&plugin, &limits), printer)?;
    }
    Ok(code)
}

/// Watches a run to its end and prints what became of it.
pub(super) async fn watch(
    run: RunHandle,
    host: &Host,
    plugin: &LoadedPlugin,
    asked: &Limits,
    json: bool,
    global: &Global,
    printer: &Printer,
) -> Result<ExitCode> {
    let progress = Progress::watch(&run, printer);
    let mut interrupted = false;
    let report = tokio::select! {
        report = run.report() => report,
        _ = tokio::signal::ctrl_c() => {
            interrupted = true;
            run.cancel();
            tokio::select! {
                report = run.report() => report,
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(super::output::exit::INTERRUPTED)),
            }
        }
    };
    progress.finish();
    let bound = report.outcome.failure().map_or(Bound::Task, |failure| {
        bound(failure, &plugin.id.name, asked, host.config())
    });
    print(&report, json, global, printer, bound)?;
    if host.config().is_offline_default() && report.is_offline() && !json {
        printer.note(OFFLINE);
    }
    if interrupted && host.keeps_journal() {
        printer.note(&format!(
            "what was paid for is kept; go on with `agenthost resume {}`",
            report.run
        ));
    }
    if !report.differences.is_empty() {
        differ(&report.differences, printer);
        return Ok(ExitCode::from(super::output::exit::FAILED));
    }
    Ok(exit_code(&report.outcome, interrupted))
}

/// Says where a replay differs, as far as a person wants to read it.
pub(super) fn differ(differences: &[Difference], printer: &Printer) {
    /// Differences that are shown.
    const SHOWN: usize = 20;
    for difference in differences.iter().take(SHOWN) {
        let ask = difference.ask.map(|ask| format!(", ask {ask}")).unwrap_or_default();
        printer.say(&format!("differs: {}{ask}: {}", difference.task, difference.what));
    }
    let more = differences.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" ({more} more differences)")
    } else {
        String::new()
    };
    printer.note(&format!("the replay is not what was recorded{more}"));
}

/// What it takes to start a run again, as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Command {
    pub(super) plugin: PathBuf,
    pub(super) with: BTreeMap<String, PathBuf>,
    /// As they were written, relative to `cwd`.
    pub(super) dirs: Vec<String>,
    pub(super) cwd: PathBuf,
    /// Limits as they were written, by key.
    pub(super) limits: BTreeMap<String, String>,
}

impl Command {
    pub(super) fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| Error::usage(format!("a path is not UTF-8: {error}")))
    }

    /// The command that a run was started with.
    pub(super) fn of(record: &RunRecord) -> Result<Self> {
        serde_json::from_str(&record.command).map_err(|_| {
            Error::usage(format!("run {} was not started from the command line", record.id))
                .hint("A program that embeds the host resumes its runs itself, with Host::resume.")
        })
    }

    /// The limits, with those of `over` in their place.
    pub(super) fn limits(&self, over: LimitsPatch) -> LimitsPatch {
        let mut patch = LimitsPatch::default();
        for (key, text) in &self.limits {
            // They were read when the run was started.
            let _ = patch.set(key, text);
        }
        over.over(patch)
    }

    /// Loads the plugin of the run as it was loaded then.
    pub(super) async fn load(&self, host: &Host, env: &Env, printer: &Printer) -> Result<LoadedPlugin> {
        let options = LoadOptions {
            with: self.with.clone(),
            dirs: dirs(&self.dirs, &env.at(&self.cwd))?,
        };
        find(host, &self.plugin, &self.plugin, options, printer).await
    }
}

/// The most memory that any task may be given, where a flag says.
pub(super) fn max_memory(limits: &LimitsPatch) -> Option<u64> {
    match limits.memory {
        Some(Cap::At(bytes)) => Some(bytes),
        Some(Cap::Unlimited) => Some(u64::MAX),
        None => None,
    }
}

/// Says so where a grant keeps limits below what the flags ask for.
pub(super) fn note_narrowed(host: &crate::host::Host, plugin: &LoadedPlugin, limits: &LimitsPatch, printer: &Printer) {
    let config = host.config();
    let asked = config.limits().overridden_by(limits);
    if asked.narrowed_by(&config.granted_limits(&plugin.id.name)) != asked && *limits != LimitsPatch::default() {
        printer.note(&format!(
            "[grants.\"{}\"] keeps some limits below what was asked for",
            plugin.id.name
        ));
    }
}

/// `--with NAMESPACE:NAME=PLUGIN`
pub(super) fn sub_agents(given: &[String], env: &Env) -> Result<BTreeMap<String, PathBuf>> {
    let parse = |text: &String| match text.split_once('=') {
        Some((name, path)) if name.contains(':') && !path.is_empty() => Ok((name.to_owned(), env.cwd().join(path))),
        _ => Err(
            Error::usage(format!("--with {text}: not of the form NAMESPACE:NAME=PLUGIN"))
                .hint("For example --with demo:competitor=plugins/competitor"),
        ),
    };
    given.iter().map(parse).collect()
}

/// `--dir HOST::GUEST[:rw]`
pub(super) fn dirs(given: &[String], env: &Env) -> Result<Vec<DirGrant>> {
    let parse = |text: &String| {
        let dir = DirGrant::parse(env, text).map_err(|error| error.context("--dir"))?;
        match dir.host.is_dir() {
            true => Ok(dir),
            false => Err(
                Error::usage(format!("--dir {text}: {} is not a directory", dir.host.display()))
                    .hint("Make the directory, or name another."),
            ),
        }
    };
    given.iter().map(parse).collect()
}

pub(super) async fn find(
    host: &crate::host::Host,
    given: &Path,
    path: &Path,
    options: LoadOptions,
    printer: &Printer,
) -> Result<LoadedPlugin> {
    let text = given.to_string_lossy();
    if !path.exists() && text.contains(':') && !text.contains('/') {
        return Err(Error::plugin(format!(
            "{text} looks like a reference to a registry, which this version cannot fetch"
        ))
        .hint("Give a .wasm file or a crate directory."));
    }
    let waiting = Progress::waiting(&format!("loading {text}"), printer);
    let plugin = host.load_with(path, options).await;
    waiting.finish();
    let plugin = plugin?;
    for note in plugin.notes() {
        printer.note(note);
    }
    Ok(plugin)
}

/// `--input`: JSON, `@FILE`, or `-` for stdin.
pub(super) fn read_input(given: &str, env: &Env) -> Result<Value> {
    const FORMS: &str = "Give JSON, @FILE to read it from a file, or - to read it from stdin.";
    match given.strip_prefix('@') {
        Some(file) => {
            let path = env.cwd().join(file);
            let failed = |error: std::io::Error| Error::input(format!("--input @{file}: {error}")).hint(FORMS);
            let text = bounded(std::fs::File::open(path).map_err(failed)?, &format!("--input @{file}"))?;
            parse(&text, file)
        }
        None if given == "-" => parse(&bounded(std::io::stdin(), "stdin")?, "stdin"),
        None => parse(given, "--input").map_err(|error| {
            // The most common slip: a file name without its `@`.
            match env.cwd().join(given).is_file() {
                true => Error::input(format!("--input is no JSON, but there is a file {given}"))
                    .hint(format!("To read the file, write --input @{given}")),
                false => error,
            }
        }),
    }
}

/// What was piped into stdin, if anything.
fn read_piped() -> Result<Option<Value>> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let text = bounded(std::io::stdin(), "stdin")?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    parse(&text, "stdin").map(Some)
}

fn bounded(reader: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::input(format!("{name}: {error}")).hint("Give an input that can be read."))?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        let limit = MAX_INPUT_BYTES >> 20;
        return Err(Error::input(format!("{name}: more than {limit} MiB")).hint("Split the input over several tasks."));
    }
    String::from_utf8(bytes)
        .map_err(|error| Error::input(format!("{name}: not UTF-8: {error}")).hint("JSON is UTF-8 text."))
}

fn parse(text: &str, name: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        Error::input(format!("{name} is no JSON: {error}"))
            .hint("Mind the shell's quoting: --input '{\"name\": \"value\"}', or --input @FILE.")
    })
}
