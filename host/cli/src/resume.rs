//! `agenthost resume`: resumes a run that stopped before its end.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::batch::SumArgs;
use super::batch::again::again;
use super::batch::recorded::{Earlier, How};
use super::command::RecordedRunCommand;
use super::global::Global;
use super::host::{check_scripts, recording_host, schedule_host};
use super::journal::{self, journal_path};
use super::offline::refuse_unasked;
use super::output::{Printer, exit, exit_code};
use super::recorded;
use super::run::{LimitArgs, Show, asked_limits, max_memory, watch};
use super::spawn::{FailedTask, Text};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::journal::{JournalError, JournalStore, RunKind, RunRecord};
use agenthost::limits::{LimitsPatch, Spent};
use agenthost::nearest::nearest;
use agenthost::printable::shell_word;
use agenthost::run::{ModelReport, REPORT_FORMAT};
use agenthost::task::{Outcome, RecordedReport, TaskId};
use agenthost::{FailedTasks, Host};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run's id, the beginning of its id, or `last`
    run: String,
    /// Keep only outputs: also run failed tasks again, with the answers that they had received
    #[arg(long)]
    failed: bool,
    /// Ask the model anew for this task, such as root/0 or the name of its branch or plugin, even if the run has ended: its
    /// replies stay in the record and are replaced by new ones; repeat it for more tasks
    #[arg(long, value_name = "TASK")]
    ask_again: Vec<String>,
    /// Resume although a plugin has changed: its tasks run again, and only new requests are paid for
    #[arg(long)]
    changed_plugins: bool,
    /// Run the recorded command line even if the journal does not show that you gave it
    #[arg(long)]
    accept_command: bool,
    /// Print one JSON document with the outcome, the amounts spent, and every task; a batch prints in the form of its
    /// own command
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    sums: SumArgs,
}

pub(super) async fn resume(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let (limits, sums) = (args.limits.patch()?, args.sums.patch()?);
    let config = global.config(env)?;
    let (id, failed) = (args.run.clone(), failed(args.failed));
    // The host opens the journal itself.
    let names = args.ask_again.clone();
    let path = journal_path(&config, env, global.journal.as_deref());
    let ((record, input), ended, asked_again) = journal::read(global, &config, env, move |journal| {
        let record = journal::find(journal, path.as_deref(), &id)?;
        let ended = ended(journal, &record, failed)?;
        let input = journal::root_input(journal, &record)?;
        let text = Text::recorded(&record.plugin, input.as_ref());
        let again = names
            .iter()
            .map(|name| match text.as_ref().and_then(|text| text.task(name)) {
                Some(task) => Ok(task),
                None => find_task(journal, &record, name),
            });
        let again = again.collect::<Result<Vec<_>>>()?;
        Ok(((record, input), ended, again))
    })
    .await?;
    if record.kind != RunKind::Batch && sums != LimitsPatch::default() {
        return Err(Error::usage(format!("run {} is not a batch", record.id))
            .with_hint("Limits with --run- are those of all tasks of a batch; without it, those of the run."));
    }
    if let Some(ended) = ended.filter(|_| asked_again.is_empty()) {
        printer.note(&format!("run {} has ended; nothing is run again", record.id));
        let is_complete = ended
            .ok()
            .is_none_or(|output| Text::is_complete(&record.plugin, output));
        let text = shown_again(&record, input.as_ref());
        let report = journal::read(global, &config, env, move |journal| report(journal, record)).await?;
        match (&ended, args.json) {
            (_, true) => printer.data(&report)?,
            (Outcome::Ok(output), false) => match &text {
                Some(text) => {
                    printer.raw(&text.text(output))?;
                    text.notes(output).iter().for_each(|note| printer.note(note));
                    let failed = failed_tasks(&report);
                    let hint = text.how_to_ask_again(&report.run, &failed);
                    hint.iter().for_each(|note| printer.note(note));
                }
                None => printer.data(output)?,
            },
            (Outcome::Failure(failure), false) => {
                printer.note(&format!("it failed: {failure}; --failed runs it again"))
            }
        }
        return Ok(match is_complete {
            true => exit_code(&ended, false),
            false => ExitCode::from(exit::FAILED),
        });
    }
    if record.kind == RunKind::Batch {
        let earlier = Earlier {
            record,
            how: How::Resume {
                failed: args.failed,
                limits: Box::new((limits, sums)),
                again: asked_again,
            },
            changed_plugins: args.changed_plugins,
            accept_command: args.accept_command,
        };
        return again(earlier, args.json, global, env, printer).await;
    }
    let command = RecordedRunCommand::of(&record)?;
    command.check(&record, &config, env, args.accept_command)?;
    let limits = command.limits(limits);
    let config = match command.offline_models {
        true => config.with_offline_models()?,
        false => config,
    };
    check_scripts(&config)?;
    let memory = max_memory(&limits);
    // What is paid now counts for the schedule of the run, if there still is one.
    let schedule = command.schedule.as_deref();
    let host = match schedule.filter(|name| config.schedules().contains_key(*name)) {
        Some(name) => schedule_host(config, name, global, env, memory)?,
        None => recording_host(config, global, env, memory)?,
    };
    for note in host.config_notes() {
        printer.note(&note);
    }
    let plugin = Arc::new(command.load(&host, env, printer).await?);
    let changed = host.changed_plugins(&plugin, &record).await?;
    if !changed.is_empty() && !args.changed_plugins {
        return Err(recorded::changed(&record, &changed, recorded::NOT_PAID_AGAIN));
    }
    refuse_unasked(&host, &plugin, &host.limits(&plugin, &limits), printer)?;
    let asked = asked_limits(&host, &plugin, &limits);
    let mut run = host.resume(&plugin, &record, failed).limits(&limits);
    for task in asked_again {
        run = run.ask_again(task);
    }
    watch(
        run.start().await?,
        &host,
        &plugin,
        &asked,
        command.show(args.json, &record, input.as_ref()),
        global,
        printer,
    )
    .await
}

/// Returns the failed sub-tasks of a run that has ended, with the limit that each reached.
fn failed_tasks(report: &RecordedRunReport) -> Vec<FailedTask> {
    let failed = report.tasks.iter().filter_map(|task| {
        let failure = task.outcome.as_ref()?.failure()?;
        FailedTask::of(&task.id.to_string(), failure)
    });
    failed.collect()
}

/// Returns the text form of the output of a run, if its command showed it as text.
fn shown_again(record: &RunRecord, input: Option<&Value>) -> Option<Text> {
    match RecordedRunCommand::of(record).ok()?.show(false, record, input) {
        Show::Text(text) => Some(text),
        Show::Document | Show::Output => None,
    }
}

/// Returns the task of a run with this id, or the only one of the plugin with this name.
fn find_task(journal: &dyn JournalStore, record: &RunRecord, name: &str) -> Result<TaskId> {
    /// The number of tasks that an error names.
    const NAMED: usize = 5;
    let (mut ids, mut of_plugin, mut known) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    journal.each_task(&record.id, "", &mut |task| {
        let plugin = task.plugin.split('@').next().unwrap_or_default().to_owned();
        if plugin == name || task.plugin == name {
            of_plugin.push(task.id.clone());
        }
        known.extend([plugin, task.id.clone()]);
        ids.insert(task.id);
        ControlFlow::Continue(())
    })?;
    if ids.contains(name) {
        return Ok(TaskId::recorded(name));
    }
    if let [one] = of_plugin.as_slice() {
        return Ok(TaskId::recorded(one));
    }
    let list = format!(
        "`agenthost show {} --all` lists the tasks of the run.",
        shell_word(&record.id)
    );
    if of_plugin.is_empty() {
        let nearest = nearest(name, known.iter().map(String::as_str));
        let hint = nearest.map_or(list.clone(), |nearest| format!("Did you mean `{nearest}`? {list}"));
        return Err(Error::usage(format!("run {} has no task {name}", record.id)).with_hint(hint));
    }
    let named: Vec<_> = of_plugin.iter().take(NAMED).map(String::as_str).collect();
    let more = if of_plugin.len() > NAMED { ", …" } else { "" };
    Err(Error::usage(format!(
        "{} tasks of run {} are of {name}: {}{more}",
        of_plugin.len(),
        record.id,
        named.join(", ")
    ))
    .with_hint(format!("Name one of them by its id. {list}")))
}

/// The document that `run --json` printed for a run that has ended.
#[derive(Serialize)]
struct RecordedRunReport {
    format: u32,
    run: String,
    outcome: Option<Outcome>,
    spent: Spent,
    tasks: Vec<RecordedReport>,
    models: Vec<ModelReport>,
}

fn report(journal: &dyn JournalStore, record: RunRecord) -> Result<RecordedRunReport> {
    let mut tasks = Vec::new();
    journal.each_task(&record.id, "", &mut |task| {
        tasks.extend(task.end.map(|end| end.report));
        ControlFlow::Continue(())
    })?;
    let summary = record.end.map(|end| end.summary).unwrap_or_default();
    Ok(RecordedRunReport {
        format: REPORT_FORMAT,
        run: record.id,
        outcome: summary.outcome,
        spent: summary.spent,
        tasks,
        models: summary.models,
    })
}

/// Returns the outcome of a run that has nothing left to resume. A run that is still going on is refused here, before
/// anything is loaded for it; taking it over decides for good.
fn ended(journal: &dyn JournalStore, record: &RunRecord, failed: FailedTasks) -> Result<Option<Outcome>> {
    if record.end.is_some() {
        return Ok(Host::settled(record, failed));
    }
    match journal.running(&record.id)? {
        Some(pid) if pid != std::process::id() => Err(JournalError::Running {
            run: record.id.clone(),
            pid,
        }
        .into()),
        _ => Ok(None),
    }
}

/// Reads the flag `--failed`.
fn failed(flag: bool) -> FailedTasks {
    if flag { FailedTasks::Repeat } else { FailedTasks::Keep }
}
