//! `agenthost run`: one task.

mod report;
mod show;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::Value;

use self::report::{bound, print};
pub(super) use self::show::Show;
use super::allowance;
use super::cassettes::Recording;
use super::command::RecordedRunCommand;
use super::global::Global;
use super::host::{check_scripts, recording_host};
use super::offline::{note_offline, refuse_unasked};
use super::output::{Bound, Printer, exit_code};
use super::progress::Progress;
use super::signals;
use super::spawn::{FailedTask, Text};
use super::start::{Spawned, StartArgs, Starts, before_start};
use super::which::PluginArgs;
use agenthost::config::{Config, Env};
use agenthost::error::{Error, Result};
use agenthost::limits::{Cap, Limits, LimitsPatch};
use agenthost::registry::policy::POLICY_FILE;
use agenthost::run::Difference;
use agenthost::sandbox::MAX_CALL_BYTES;
use agenthost::{Host, Plugin, RunHandle};

/// The most bytes of input JSON: the most that a guest can receive in one call, with room for JSON's punctuation.
pub(super) const MAX_INPUT_BYTES: u64 = 4 * MAX_CALL_BYTES as u64;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: PluginArgs,
    /// The task's input: JSON, @FILE, or - for stdin [default: stdin, if piped]
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Record the model calls and the outcome in this file, such as cassettes/first.json, for `agenthost test`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print one JSON document with the outcome, the amounts spent, and every task
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// The work of `spawn`, of which more is known than of other runs.
    #[arg(skip)]
    spawned: Option<Spawned>,
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
    /// Wall-clock time, such as 90s
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
    /// Allows as many sub-tasks and calls as `spawned` needs, unless the command line or a file sets another limit.
    fn for_spawned(mut self, spawned: &Spawned, config: &Config) -> Self {
        let Some(tasks) = spawned.tasks else { return self };
        let is_free = |key: &str| config.origin(&format!("limits.{key}")).is_none();
        let is_low = |limit: Option<u64>| limit.is_some_and(|limit| limit < tasks as u64);
        if self.tasks.is_none() && is_free("tasks") {
            self.tasks = Some(tasks.to_string());
        }
        if self.calls.is_none() && is_free("calls") && is_low(config.limits().calls) {
            self.calls = Some(tasks.to_string());
        }
        self
    }

    pub(super) fn patch(&self) -> Result<LimitsPatch> {
        let mut patch = LimitsPatch::default();
        for (key, text) in self.given() {
            patch.set(&key, &text).map_err(|error| {
                Error::usage(format!("--{key}: {error}")).with_hint("Run the command with --help for all limits.")
            })?;
        }
        Ok(patch)
    }

    /// Returns the limits on the command line, as they were written.
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
    let input = args.input.as_deref().map(|input| read_input(input, env)).transpose()?;
    let input = match input {
        None => read_piped()?,
        given => given,
    };
    let show = Show::of(args.json);
    start(args, input, show, global, env, printer).await
}

impl Args {
    /// Creates the arguments of a run that `spawn` starts.
    pub(super) fn spawn(
        plugin: &str,
        spawned: Spawned,
        record: Option<PathBuf>,
        json: bool,
        start: StartArgs,
        limits: LimitArgs,
    ) -> Self {
        Self {
            which: PluginArgs::of(plugin),
            input: None,
            record,
            json,
            start,
            limits,
            spawned: Some(spawned),
        }
    }
}

/// Runs a task to its end, and shows its output.
pub(super) async fn start(
    mut args: Args,
    input: Option<Value>,
    show: Show,
    global: &Global,
    env: &Env,
    printer: &Printer,
) -> Result<ExitCode> {
    let config = global.config(env)?;
    if let Some(spawned) = &args.spawned {
        args.limits = args.limits.for_spawned(spawned, &config);
    }
    let limits = args.limits.patch()?;
    check_scripts(&config)?;
    let memory = max_memory(&limits);
    let cassette = args.record.as_ref();
    let cassette = cassette.map(|file| Recording::begin(&env.cwd().join(file), &config, global, env));
    let cassette = cassette.transpose()?;
    let host = match &cassette {
        Some(cassette) => cassette.host(config, env, memory)?,
        None => recording_host(config, global, env, memory)?,
    };
    let plugin = args.which.load(&host, env, printer).await?;
    if cassette.is_some() && plugin.info().reads_files() && !args.which.given_dirs().is_empty() {
        let name = &plugin.id().name;
        return Err(Error::usage(format!(
            "--record: {name} uses files of a directory, which a cassette does not have"
        ))
        .with_hint("Run it without --record; `agenthost replay` needs the files, too."));
    }
    let Some(input) = input else {
        return Err(Error::input("no input: --input was not given and nothing was piped in")
            .with_hint(format!("Give one of this form: --input '{}'", plugin.sample_input())));
    };
    note_narrowed(&host, &plugin, &limits, printer);
    let own = host.limits(&plugin, &limits);
    refuse_unasked(&host, &plugin, &own, printer)?;
    let all = &host.config().run().limits;
    if let Some(spawned) = &args.spawned {
        spawned.check(&host, &plugin, &own)?;
    }
    let starts = args.spawned.as_ref().map_or(Starts::Task, Starts::Spawned);
    before_start(&host, &plugin, (own, all), starts, args.start, (global, env, printer))?;

    let command = RecordedRunCommand::new(&args.which, args.limits.given(), global.offline_models, env)?;
    let command = command.shown_as_text(args.spawned.is_some());
    let command = match host.keeps_journal() {
        true => command.sealed(env)?,
        false => command,
    };
    let asked = asked_limits(&host, &plugin, &limits);
    let run = host.run(&plugin, &input).limits(&limits).command(command.to_json()?);
    let run = run.start()?;
    let code = watch(run, &host, &plugin, &asked, show, global, printer).await?;
    if let Some(cassette) = cassette {
        cassette.finish(&host.limits(&plugin, &limits), printer)?;
    }
    Ok(code)
}

/// Waits for the end of a run and prints its report.
pub(super) async fn watch(
    run: RunHandle,
    host: &Host,
    plugin: &Plugin,
    asked: &Limits,
    show: Show,
    global: &Global,
    printer: &Printer,
) -> Result<ExitCode> {
    let progress = Progress::watch(&run);
    let mut interrupted = false;
    let report = tokio::select! {
        report = run.report() => report,
        () = signals::interrupted() => {
            interrupted = true;
            run.cancel();
            tokio::select! {
                report = run.report() => report,
                () = signals::interrupted() => return Ok(ExitCode::from(super::output::exit::INTERRUPTED)),
            }
        }
    };
    progress.finish();
    let more = report.outcome.failure().and_then(|failure| {
        let owner = failure.owner.as_ref()?;
        allowance::more(owner, host.config(), SystemTime::now())
    });
    let bound = match (report.outcome.failure(), more) {
        _ if let Some(hint) = &report.hint => Bound::Fault(hint.clone()),
        (_, Some(more)) => Bound::Allowance(match host.keeps_journal() {
            true => format!(
                "What was paid for is kept. To go on, {more}; then run `agenthost resume {}`.",
                report.run
            ),
            false => format!("To go on, {more}; then run it again."),
        }),
        (Some(failure), None) => bound(failure, &plugin.id().name, asked, plugin.allowed(), host.config()),
        (None, None) => Bound::Task,
    };
    let json = matches!(show, Show::Document);
    print(&report, &show, global, printer, bound)?;
    if let (Show::Text(text), true) = (&show, host.keeps_journal()) {
        let failed = report
            .tasks
            .iter()
            .filter(|task| task.parent.is_some())
            .filter_map(|task| {
                let failure = task.outcome.failure()?;
                FailedTask::of(&task.id.to_string(), failure)
            });
        let hint = text.how_to_ask_again(report.run.as_ref(), &failed.collect::<Vec<_>>());
        hint.iter().for_each(|note| printer.note(note));
    }
    if report.is_offline() && report.differences.is_none() {
        note_offline(host.config(), json, printer);
    }
    if interrupted && host.keeps_journal() {
        printer.note(&format!(
            "what was paid for is kept; go on with `agenthost resume {}`",
            report.run
        ));
    }
    if report
        .differences
        .as_ref()
        .is_some_and(|differences| differ(differences, printer))
    {
        return Ok(ExitCode::from(super::output::exit::FAILED));
    }
    let is_complete = match (report.outcome.ok(), report.tasks.first()) {
        (Some(output), Some(root)) => Text::is_complete(&root.plugin, output),
        _ => true,
    };
    Ok(match is_complete {
        true => exit_code(&report.outcome, interrupted),
        false => ExitCode::from(super::output::exit::FAILED),
    })
}

/// Prints the differences of a replay, up to a readable number, and returns whether there are any.
pub(super) fn differ(differences: &[Difference], printer: &Printer) -> bool {
    /// The most differences that are shown.
    const SHOWN: usize = 20;
    for difference in differences.iter().take(SHOWN) {
        let ask = difference.ask.map(|ask| format!(", ask {ask}")).unwrap_or_default();
        printer.say(&format!("differs: {}{ask}: {}", difference.task, difference.what));
    }
    printer.note(&match (differences.len(), differences.len().saturating_sub(SHOWN)) {
        (0, _) => "the replay is what was recorded, to the unit of fuel".to_owned(),
        (_, 0) => "the replay is not what was recorded".to_owned(),
        (_, more) => format!("the replay is not what was recorded ({more} more differences)"),
    });
    !differences.is_empty()
}

/// Returns the most memory that any task may get, if a flag sets it.
pub(super) fn max_memory(limits: &LimitsPatch) -> Option<u64> {
    match limits.memory {
        Some(Cap::At(bytes)) => Some(bytes),
        Some(Cap::Unlimited) => Some(u64::MAX),
        None => None,
    }
}

/// Returns the limits of a root task before anything narrows them.
pub(super) fn asked_limits(host: &Host, plugin: &Plugin, limits: &LimitsPatch) -> Limits {
    let suggested = plugin.info().suggested_limits();
    host.config().limits_with(&suggested).overridden_by(limits)
}

/// Prints a note if a grant keeps limits below those of the flags.
pub(super) fn note_narrowed(host: &Host, plugin: &Plugin, limits: &LimitsPatch, printer: &Printer) {
    let config = host.config();
    let asked = asked_limits(host, plugin, limits);
    for note in host.config_notes() {
        printer.note(&note);
    }
    if *limits == LimitsPatch::default() {
        return;
    }
    let grant = format!("[grants.\"{}\"]", plugin.id().name);
    for (by, most) in [
        (grant.as_str(), &config.granted_limits(&plugin.id().name)),
        (POLICY_FILE, plugin.allowed()),
    ] {
        if asked.narrowed_by(most) != asked {
            printer.note(&format!("{by} keeps some limits below what was asked for"));
        }
    }
}

/// Reads `--input`: JSON, `@FILE`, or `-` for stdin.
pub(super) fn read_input(given: &str, env: &Env) -> Result<Value> {
    const FORMS: &str = "Give JSON, @FILE to read it from a file, or - to read it from stdin.";
    match given.strip_prefix('@') {
        Some(file) => {
            let path = env.cwd().join(file);
            let failed = |error: std::io::Error| Error::input(format!("--input @{file}: {error}")).with_hint(FORMS);
            let text = bounded(std::fs::File::open(path).map_err(failed)?, &format!("--input @{file}"))?;
            parse(&text, file)
        }
        None if given == "-" => parse(&read_stdin()?, "stdin"),
        None => parse(given, "--input").map_err(|error| {
            // The most common mistake: a file name without its `@`.
            match env.cwd().join(given).is_file() {
                true => Error::input(format!("--input is not valid JSON, but there is a file {given}"))
                    .with_hint(format!("To read the file, write --input @{given}")),
                false => error,
            }
        }),
    }
}

/// Reads the input that is piped into stdin, if there is any.
fn read_piped() -> Result<Option<Value>> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let text = read_stdin()?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    parse(&text, "stdin").map(Some)
}

pub(super) fn read_stdin() -> Result<String> {
    bounded(std::io::stdin(), "stdin")
}

/// Reads a text file for an input. `name` is its name in errors.
pub(super) fn read_text(path: &Path, name: &str) -> Result<String> {
    let failed =
        |error: std::io::Error| Error::input(format!("{name}: {error}")).with_hint("Give a file that can be read.");
    bounded(std::fs::File::open(path).map_err(failed)?, name)
}

fn bounded(reader: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::input(format!("{name}: {error}")).with_hint("Give an input that can be read."))?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        let limit = MAX_INPUT_BYTES >> 20;
        return Err(
            Error::input(format!("{name}: more than {limit} MiB")).with_hint("Split the input over several tasks.")
        );
    }
    String::from_utf8(bytes)
        .map_err(|error| Error::input(format!("{name}: not UTF-8: {error}")).with_hint("Give a text in UTF-8."))
}

fn parse(text: &str, name: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        Error::input(format!("{name} is not valid JSON: {error}"))
            .with_hint("Mind the shell's quoting: --input '{\"name\": \"value\"}', or --input @FILE.")
    })
}
