//! `agenthost batch`: a task for each item of a file, or for each group of items.
//!
//! The items are read once to check that they fit, before anything is spent, and once more to run them. With `--shard`,
//! they are read a third time in between, to count those of the part.

pub(super) mod again;
mod models;
pub(super) mod recorded;
mod report;
mod results;
mod shape;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value};

pub(super) use self::models::{check as check_models, cost_allowance, counts, unpriced_hint, used_up_allowance};
use self::recorded::{Earlier, How, RecordedBatchCommand, digest};
pub(super) use self::report::raised;
use self::report::{ProgressLine, document, exit_code, how_to_go_on, note_repeatable, refuse_used_up, say, say_why};
use self::results::{Form, Results};
use super::budget::{self, PlanOptions};
use super::global::Global;
use super::host::{check_scripts, recording_host};
use super::offline::{note_offline, refuse_unasked};
use super::output::{Printer, exit};
use super::run::{LimitArgs, MAX_INPUT_BYTES, max_memory, note_narrowed};
use super::signals::stop_on_signal;
use super::start::{StartArgs, Starts, before_start};
use super::which::PluginArgs;
use agenthost::batch::drive::{Settings, Stop, drive};
use agenthost::batch::items::{Format, Source, SourceOptions};
use agenthost::batch::output::{Columns, Layout};
use agenthost::batch::tasks::{Check, Shape, Shard, Survey, Task, Tasks, survey};
use agenthost::batch::workers::{MOST, Workers};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::limits::{LimitsPatch, Usd};
use agenthost::{FailedTasks, Host, Plugin};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: PluginArgs,
    /// The items: a .jsonl, .csv, .tsv or .json file, which may be compressed with gzip, or - for stdin
    items: PathBuf,
    #[command(flatten)]
    reading: ItemArgs,
    /// The number of tasks that run at once; auto starts with 4 and grows while no request waits
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = workers)]
    workers: WorkerCount,
    /// Write the results to this file, replacing its content: CSV if its name ends with .csv or .tsv, else JSON lines
    /// [default: -, which is stdout]
    #[arg(long, short, value_name = "FILE|-")]
    output: Option<PathBuf>,
    /// Start no more tasks after N items have failed
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    max_failures: Option<u64>,
    /// Run only part I of N equal parts, whose results in their order are those of the whole
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Run nothing (fail) or all other items (skip) if an item is malformed or not of the plugin's type
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    on_bad_item: OnBadItem,
    /// Estimate the worst-case cost, and run nothing
    #[arg(long)]
    plan: bool,
    /// With --plan: end with exit code 3 if the worst case may cost more than this, or its cost is unknown
    #[arg(long, value_name = "USD", requires = "plan")]
    fail_above: Option<Usd>,
    /// Print one JSON document about the whole batch on stdout; requires --output FILE
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    sums: SumArgs,
}

/// How the items of a file become tasks.
#[derive(Debug, clap::Args)]
pub(super) struct ItemArgs {
    /// The format of the items, if the file name does not show it [default for stdin: jsonl]
    #[arg(long, value_name = "FORMAT", requires = "items")]
    format: Option<ItemFormat>,
    /// The character between two cells of CSV: comma, semicolon, tab or another one [default: as in the header]
    #[arg(long, value_name = "CHAR", requires = "items", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// The column or field with each item's own id, which the results repeat as `id`
    #[arg(long, value_name = "NAME", requires = "items")]
    id_column: Option<String>,
    /// Give each task N items, if the plugin takes a list
    #[arg(long, value_name = "N", requires = "items", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    size: Option<u64>,
    /// Use only the first N items
    #[arg(long, value_name = "N", requires = "items")]
    limit: Option<u64>,
    /// Give every task this field of the input: a text or JSON, or @FILE for the content of a file
    #[arg(long, value_name = "FIELD=VALUE|@FILE", requires = "items")]
    set: Vec<String>,
}

/// Limits on the sum over all items
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits of all tasks together (or `none`)")]
pub(super) struct SumArgs {
    /// Input and output tokens together
    #[arg(long, value_name = "N")]
    run_tokens: Option<String>,
    /// US dollars
    #[arg(long, value_name = "USD")]
    run_cost: Option<String>,
    /// Model calls
    #[arg(long, value_name = "N")]
    run_calls: Option<String>,
    /// Units of computing
    #[arg(long, value_name = "N")]
    run_fuel: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ItemFormat {
    /// A JSON value on each line
    Jsonl,
    /// Rows of cells under a header row
    Csv,
    /// One JSON array
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum OnBadItem {
    /// Run nothing
    Fail,
    /// Record it as a failure, and run the others
    Skip,
}

impl SumArgs {
    pub(super) fn patch(&self) -> Result<LimitsPatch> {
        let mut patch = LimitsPatch::default();
        for (key, text) in [
            ("tokens", &self.run_tokens),
            ("cost", &self.run_cost),
            ("calls", &self.run_calls),
            ("fuel", &self.run_fuel),
        ] {
            if let Some(text) = text {
                patch.set(key, text).map_err(|error| {
                    Error::usage(format!("--run-{key}: {error}"))
                        .with_hint("Run the command with --help for all limits.")
                })?;
            }
        }
        Ok(patch)
    }
}

/// A fixed number of workers; `None` for `auto`.
#[derive(Debug, Clone, Copy)]
struct WorkerCount(Option<u32>);

fn workers(text: &str) -> std::result::Result<WorkerCount, String> {
    match text.parse() {
        _ if text == "auto" => Ok(WorkerCount(None)),
        Ok(0) => Err("at least 1".into()),
        Ok(count) => Ok(WorkerCount(Some(count))),
        Err(_) => Err("neither a number nor auto".into()),
    }
}

fn delimiter(text: &str) -> std::result::Result<u8, String> {
    match (text, text.as_bytes()) {
        ("comma", _) => Ok(b','),
        ("semicolon", _) => Ok(b';'),
        ("tab" | "\\t", _) => Ok(b'\t'),
        (_, [byte]) if byte.is_ascii_punctuation() && *byte != b'"' || matches!(byte, b' ' | b'\t') => Ok(*byte),
        _ => Err("neither comma, semicolon, tab nor one other ASCII character".into()),
    }
}

impl Args {
    /// Returns the file for the results; `None` if they go to stdout.
    fn output(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn workers(&self, host: &Host) -> Workers {
        let allowed = host.config().providers().values();
        let most = allowed
            .filter_map(|provider| provider.max_concurrency)
            .fold(MOST, u32::max);
        match self.workers.0 {
            Some(count) => Workers::Fixed(count),
            None => Workers::Auto(most.min(host.max_tasks())),
        }
    }
}

impl ItemArgs {
    /// Opens the items in `file`, or on stdin if it is `-`.
    fn open(&self, file: &Path, env: &Env) -> Result<Source> {
        let format = self.format.map(|format| match format {
            ItemFormat::Jsonl => Format::JsonLines,
            ItemFormat::Csv => Format::Csv,
            ItemFormat::Json => Format::JsonArray,
        });
        let most = usize::try_from(MAX_INPUT_BYTES).unwrap_or(usize::MAX);
        let options = SourceOptions::new(most)
            .format(format)
            .delimiter(self.delimiter)
            .first(self.limit);
        let spool = Path::new(env.var("TMPDIR").filter(|dir| !dir.is_empty()).unwrap_or("/tmp"));
        let source = match file == Path::new("-") {
            true => Source::spool_with(std::io::stdin().lock(), "stdin", &options, spool),
            false => Source::open_with(&env.cwd().join(file), &options, spool),
        }?;
        if self.delimiter.is_some() && source.format() != Format::Csv {
            return Err(Error::usage("--delimiter: the items are not CSV")
                .with_hint("Leave out --delimiter, or name the format with --format csv."));
        }
        let header = source.header()?;
        if let Some(id) = &self.id_column
            && source.format() == Format::Csv
            && !header.contains(id)
        {
            return Err(
                Error::usage(format!("--id-column: {} has no column {id}", source.name()))
                    .with_hint(format!("Name one of its columns: {}.", header.join(", "))),
            );
        }
        Ok(source)
    }

    /// Returns the number of tasks of a batch of `items` items, and that of the items if tasks get several.
    ///
    /// # Errors
    ///
    /// Class `usage` if an option is about a file, or if the plugin takes no list for `--size`.
    pub(super) fn tasks_of(&self, plugin: &Plugin, items: u64) -> Result<(u64, Option<u64>)> {
        let about_a_file = [
            ("--format", self.format.is_some()),
            ("--delimiter", self.delimiter.is_some()),
            ("--id-column", self.id_column.is_some()),
            ("--set", !self.set.is_empty()),
        ];
        if let Some((flag, _)) = about_a_file.iter().find(|(_, is_given)| *is_given) {
            return Err(Error::usage(format!("{flag}: --items is a number and not a file"))
                .with_hint(format!("Name a file with --items FILE, or leave out {flag}.")));
        }
        shape::of(plugin, self.size)?;
        let items = self.limit.map_or(items, |most| items.min(most));
        Ok((items.div_ceil(self.size.unwrap_or(1).max(1)), self.size.map(|_| items)))
    }

    /// Returns the number of tasks of a batch of the items in `file`, and that of the items if tasks get several.
    ///
    /// # Errors
    ///
    /// Class `input` if the file cannot be read, or if an item is malformed or not of the plugin's type.
    pub(super) fn count_tasks(
        &self,
        host: &Host,
        plugin: &Plugin,
        file: &Path,
        env: &Env,
    ) -> Result<(u64, Option<u64>)> {
        let source = self.open(file, env)?;
        let shape = shape::of(plugin, self.size)?;
        let check = |input: &serde_json::Value| shape::check(plugin, input);
        let set = shape::set(host, plugin, &shape, &shape::read_set(&self.set, env)?)?;
        let fields = shape::input_fields(plugin, &shape);
        let found = survey(self.tasks(&source, shape, fields.as_deref(), &check)?.set(set))?;
        match found.first_bad.first() {
            None => Ok((found.tasks, self.size.map(|_| found.items))),
            Some(bad) => Err(Error::input(format!(
                "{} of {} items cannot be run: {} line {}: {}",
                found.bad,
                found.items,
                source.name(),
                bad.at.line,
                bad.reason
            ))
            .with_hint(self.hint(plugin, &source, "Correct them."))),
        }
    }

    /// Returns the hint for items that do not fit; `otherwise` begins it if the options do not explain it.
    fn hint(&self, plugin: &Plugin, source: &Source, otherwise: &str) -> String {
        if self.size.is_none() && shape::takes_a_list(plugin) {
            return "The plugin takes a list: --size N gives it N items at a time.".to_owned();
        }
        let sample = plugin.sample_input();
        let header = source.header().unwrap_or_default();
        match (self.delimiter, header.as_slice()) {
            (Some(_), [one]) => format!(
                "With this --delimiter, the items have one column, `{one}`: leave --delimiter out, or give another. An input \
                 has this form: {sample}"
            ),
            _ => format!("{otherwise} An input has this form: {sample}"),
        }
    }

    /// Reads the tasks of `source`. `fields` are the names that the plugin knows, if an item is a record.
    fn tasks<'a>(
        &self,
        source: &Source,
        shape: Shape,
        fields: Option<&[String]>,
        check: &'a Check<'a>,
    ) -> Result<Tasks<'a>> {
        let mut tasks = Tasks::new(source.read()?, shape, self.size.unwrap_or(1), self.limit, check);
        if let Some(fields) = fields {
            tasks = tasks.fields(fields.iter().cloned());
        }
        if let Some(id) = &self.id_column {
            tasks = tasks.id_column(id);
        }
        Ok(tasks)
    }
}

pub(super) async fn batch(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    go(args, global, env, printer, None).await
}

async fn go(
    args: Args,
    global: &Global,
    env: &Env,
    printer: &Printer,
    earlier: Option<(Earlier, Option<String>)>,
) -> Result<ExitCode> {
    let (limits, sums) = (args.limits.patch()?, args.sums.patch()?);
    let (limits, sums) = match earlier.as_ref().map(|(earlier, _)| &earlier.how) {
        Some(How::Resume { limits: over, .. }) => (over.0.clone().over(limits), over.1.clone().over(sums)),
        Some(How::Replay) | None => (limits, sums),
    };
    if args.json && !args.plan && args.output().is_none() {
        return Err(
            Error::usage("--json prints its document on stdout, which has the results already")
                .with_hint("Name a file for the results with --output FILE."),
        );
    }
    let source = args.reading.open(&args.items, env)?;
    let set = shape::read_set(&args.reading.set, env)?;
    let items = (args.items != Path::new("-"))
        .then(|| digest(source.file(), &set))
        .transpose()?;
    if let Some((Earlier { record, .. }, recorded)) = &earlier
        && *recorded != items
    {
        return Err(Error::usage(format!(
            "{} is not what it was when run {} began",
            match set.is_empty() {
                true => source.name().to_owned(),
                false => format!("{}, or a file of --set,", source.name()),
            },
            record.id
        ))
        .with_hint("Bring the items back as they were; other items are another batch."));
    }
    let replay = matches!(&earlier, Some((Earlier { how: How::Replay, .. }, _)));
    let config = global.config(env)?;
    if !replay {
        check_scripts(&config)?;
    }
    let host = recording_host(config, global, env, max_memory(&limits))?;
    let plugin = args.which.load(&host, env, printer).await?;
    note_narrowed(&host, &plugin, &limits, printer);
    if let Some((earlier, _)) = &earlier {
        let changed = host.changed_plugins(&plugin, &earlier.record).await?;
        if !changed.is_empty() && !earlier.changed_plugins {
            let use_of_it = match earlier.how {
                How::Replay => super::recorded::SHOW_DIFFERENCES,
                How::Resume { .. } => super::recorded::NOT_PAID_AGAIN,
            };
            return Err(super::recorded::changed(&earlier.record, &changed, use_of_it));
        }
    }

    let shape = shape::of(&plugin, args.reading.size)?;
    let set = shape::set(&host, &plugin, &shape, &set)?;
    let check = |input: &serde_json::Value| shape::check(&plugin, input);
    let form = Form::of(args.output())?;
    let fields = shape::input_fields(&plugin, &shape);
    let tasks = || -> Result<Tasks<'_>> {
        let tasks = args.reading.tasks(&source, shape.clone(), fields.as_deref(), &check)?;
        let tasks = tasks.set(set.clone());
        Ok(if form == Form::JsonLines {
            tasks
        } else {
            tasks.keep_all()
        })
    };
    let found = survey(tasks()?)?;
    // A bad item is found by all parts, so that none of them runs.
    judge(&found, &source, &args, &plugin, printer)?;
    let numbers = found.items.div_ceil(args.reading.size.unwrap_or(1));
    let part = args.shard.map_or(0..numbers, |shard| shard.range(numbers));
    let tasks = || -> Result<_> {
        let (start, end) = (part.start, part.end);
        let is_before = move |task: &Result<Task>| matches!(task, Ok(task) if task.number < start);
        let is_in = move |task: &Result<Task>| !matches!(task, Ok(task) if task.number >= end);
        Ok(tasks()?.skip_while(is_before).take_while(is_in))
    };
    let found = match args.shard {
        None => found,
        Some(_) => survey(tasks()?)?,
    };
    note_carried(&source, fields.as_deref(), args.reading.id_column.as_deref(), printer)?;
    let run = host.config().run().limits.overridden_by(&sums);
    if args.plan {
        let told = PlanOptions {
            items: found.tasks,
            grouped: args.reading.size.map(|_| found.items),
            fail_above: args.fail_above,
            json: args.json,
        };
        return budget::tell(
            &host,
            &plugin,
            (host.limits(&plugin, &limits), &run),
            &told,
            global,
            env,
            printer,
        );
    }

    let runner = host.batch(&plugin).limits(&limits).run_limits(&sums);
    let runner = match earlier.as_ref().map(|(earlier, _)| (&earlier.record, &earlier.how)) {
        None => runner,
        Some((record, How::Resume { failed: true, .. })) => runner.resume(record, FailedTasks::Repeat),
        Some((record, How::Resume { failed: false, .. })) => runner.resume(record, FailedTasks::Keep),
        Some((record, How::Replay)) => runner.replay(record),
    };
    let runner = match earlier.as_ref().map(|(earlier, _)| &earlier.how) {
        Some(How::Resume { again, .. }) => again
            .iter()
            .cloned()
            .fold(runner, |runner, task| runner.ask_again(task)),
        _ => runner,
    };
    let is_finished = runner.has_nothing_left(found.tasks).await?;
    let may_spend = !replay && !is_finished;
    if may_spend && found.tasks > 0 {
        let most = host.limits(&plugin, &limits).narrowed_by(&run);
        models::check(&host, &plugin, &most, None, printer)?;
    }
    let columns = columns(form, &source, &args, &plugin, fields.as_deref(), &set)?;
    if may_spend {
        refuse_unasked(&host, &plugin, &host.limits(&plugin, &limits), printer)?;
    }
    if earlier.is_none() {
        let own = host.limits(&plugin, &limits);
        let used_up = models::used_up_allowance(&host, &plugin, &own.clone().narrowed_by(&run), env)?;
        if let Some(owner) = used_up.filter(|_| found.tasks > 0) {
            return Ok(refuse_used_up(&owner, host.config(), printer));
        }
        let places = (global, env, printer);
        before_start(
            &host,
            &plugin,
            (own, &run),
            Starts::Batch(found.tasks),
            args.start,
            places,
        )?;
    }
    let results = match (replay, args.output()) {
        (true, _) => Results::Stdout,
        // A file that was removed is written again.
        (false, Some(file)) if is_finished && env.cwd().join(file).exists() => Results::Kept,
        (false, file) => Results::open(file, &source, env)?,
    };
    let stop = stop_on_signal();
    let command = RecordedBatchCommand {
        argv: std::env::args().skip(1).collect(),
        cwd: env.cwd().to_owned(),
        items,
        seal: None,
    };
    let command = match host.keeps_journal() {
        true => command.sealed(env),
        false => command,
    };
    let command = serde_json::to_value(&command).unwrap_or_default();
    let runner = runner.command(command).stop(&stop);
    let runner = match is_finished {
        true => runner.only_read(),
        false => runner,
    };
    let runner = runner.open().await?;
    if is_finished {
        printer.note(&format!("run {} has ended; nothing is run again", runner.id()));
    } else if found.items == 0 {
        printer.note(&format!("{} has no items", source.name()));
    }
    // The file is emptied only later, once this process owns the run and has a result for it.
    let mut output = results.begin(columns, printer);
    let line = ProgressLine::new(found.items, runner.waits(), printer);
    let settings = Settings {
        workers: args.workers(&host),
        max_failures: args.max_failures,
        layout: Layout {
            grouped: args.reading.size.is_some(),
            results: shape::gives_results(&plugin),
        },
    };
    let on_bad_item = args.on_bad_item;
    let tasks = tasks()?.map(|task| match task {
        Ok(task) if on_bad_item == OnBadItem::Fail && !task.bad.is_empty() => {
            Err(Error::input(format!("{} was changed while it was read", source.name()))
                .with_hint("Run the batch again, on a file that does not change."))
        }
        task => task,
    });
    // A replay leaves out tasks that never began.
    let began = |number| runner.has(number);
    let tasks = tasks.take_while(|task| !matches!(task, Ok(task) if task.input.is_some() && !began(task.number)));
    let mut summary = drive(&runner, tasks, settings, &mut output, &stop, |summary| {
        line.show(summary)
    })
    .await;
    line.finish();

    let run = Some(runner.id());
    runner.end(&summary).await?;
    say(run, &summary, found.items, printer);
    let can_go_on = may_spend && host.keeps_journal() && args.items != Path::new("-");
    say_why(&summary, found.items, printer, || {
        can_go_on.then(|| how_to_go_on(runner.id(), &summary, host.config()))
    });
    if can_go_on && summary.stop.is_none() {
        note_repeatable(runner.id(), &summary, printer);
    }
    if replay && super::run::differ(&runner.differences(), printer) {
        return Ok(ExitCode::from(exit::FAILED));
    }
    let code = exit_code(&summary, found.items);
    if let Some(Stop::Failed(error)) = summary.stop.take_if(|stop| matches!(stop, Stop::Failed(_))) {
        // The reader of the results has closed its pipe and wants no more.
        return if is_closed_pipe(&error) {
            Ok(ExitCode::from(code))
        } else {
            Err(error)
        };
    }
    if args.json {
        printer.data(&document(run, &summary, found.items))?;
    }
    if !replay && summary.models.iter().any(|model| model.offline) {
        note_offline(host.config(), args.json, printer);
    }
    Ok(ExitCode::from(code))
}

fn is_closed_pipe(error: &Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Refuses bad items, or prints how many are left out.
fn judge(found: &Survey, source: &Source, args: &Args, plugin: &Plugin, printer: &Printer) -> Result<()> {
    if found.bad == 0 {
        return Ok(());
    }
    let mut text = format!("{} of {} items cannot be run", found.bad, found.items);
    for bad in &found.first_bad {
        text.push_str(&format!("\n  {} line {}: {}", source.name(), bad.at.line, bad.reason));
    }
    match found.bad.saturating_sub(found.first_bad.len() as u64) {
        0 => {}
        more => text.push_str(&format!("\n  and {more} more")),
    }
    if args.on_bad_item == OnBadItem::Skip {
        printer.note(&text);
        return Ok(());
    }
    let hint = args.reading.hint(
        plugin,
        source,
        "Correct them, or run the others with --on-bad-item skip.",
    );
    Err(Error::input(text).with_hint(hint))
}

/// Prints the columns of the items that are not given to the plugin.
fn note_carried(source: &Source, fields: Option<&[String]>, id: Option<&str>, printer: &Printer) -> Result<()> {
    let header = source.header()?;
    let (given, carried): (Vec<_>, Vec<_>) = header
        .iter()
        .map(String::as_str)
        .partition(|name| fields.is_none_or(|fields| fields.iter().any(|field| field == name)));
    let carried: Vec<&str> = carried.into_iter().filter(|name| Some(*name) != id).collect();
    if !carried.is_empty() && !given.is_empty() {
        printer.note(&format!(
            "not fields of the plugin's input, so they are only carried through to the results: {}",
            carried.join(", ")
        ));
    }
    Ok(())
}

/// Returns the columns of the results; `None` for JSON lines.
fn columns(
    form: Form,
    source: &Source,
    args: &Args,
    plugin: &Plugin,
    fields: Option<&[String]>,
    set: &Map<String, Value>,
) -> Result<Option<Columns>> {
    let delimiter = match form {
        Form::JsonLines => return Ok(None),
        Form::Tsv => b'\t',
        // A spreadsheet that reads the items reads the results, too.
        Form::Csv => source.delimiter()?.unwrap_or(b','),
    };
    let mut items = source.header()?;
    if source.format() != Format::Csv {
        items = fields.map_or_else(|| vec!["input".to_owned()], <[_]>::to_vec);
        items.extend(args.reading.id_column.clone().filter(|id| !items.contains(id)));
    }
    let output = shape::output_fields(plugin, args.reading.size.is_some(), set);
    let columns = Columns::new(items, output).delimiter(delimiter);
    Ok(Some(match args.shard {
        Some(shard) if !shard.is_first() => columns.no_header(),
        _ => columns,
    }))
}
