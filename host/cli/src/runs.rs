//! `agenthost runs`: lists the runs in the journal, and removes old ones.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::allowance::{document, line};
use super::global::Global;
use super::journal::{self, Found};
use super::output::{Printer, counted};
use super::recorded::{self, Run, is_running};
use super::table::{self, Column};
use agenthost::allowance;
use agenthost::config::{Config, Env};
use agenthost::error::Result;
use agenthost::journal::{JournalStore, Keep, RunKind, RunRecord};
use agenthost::limits::units;
use agenthost::printable::one_line;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Show the latest N runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(subcommand)]
    command: Option<RunsCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum RunsCommand {
    /// Remove old runs from the journal
    Prune(Prune),
}

#[derive(Debug, clap::Args)]
struct Prune {
    /// Remove runs that started longer ago than this, such as 30d or 12h
    #[arg(long, value_name = "TIME", required_unless_present = "keep", value_parser = age)]
    older_than: Option<Duration>,
    /// Remove all runs but the latest N
    #[arg(long, value_name = "N", conflicts_with = "older_than")]
    keep: Option<usize>,
    /// List the runs to remove, and remove none
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn runs(args: &Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let config = global.config(env)?;
    let journal = match (Found::open(global, &config, env)?, &args.command) {
        (found, Some(RunsCommand::Prune(prune))) => {
            return match found {
                Found::Journal(journal) => self::prune(&*journal, prune, printer),
                Found::Nothing(why) => {
                    printer.note(&format!("nothing to remove: {why}"));
                    Ok(ExitCode::SUCCESS)
                }
            };
        }
        (Found::Nothing(why), None) => {
            if !args.json {
                printer.note(&format!("no runs yet: {why}"));
            }
            return show_allowance(json!([]), &config, env, args.json, printer);
        }
        (Found::Journal(journal), None) => journal,
    };
    let records = journal.runs(args.limit)?;
    let now = recorded::now_ms();
    let runs: Vec<_> = records
        .iter()
        .map(|record| Run::new(record, now, |run| is_running(&*journal, run)))
        .collect();
    if args.json {
        let runs: Vec<_> = runs.iter().map(Run::entry).collect();
        return show_allowance(json!(runs), &config, env, true, printer);
    }
    if runs.is_empty() {
        printer.note("no runs yet");
    } else {
        printer.text(table(&runs, now, printer.width()))?;
    }
    show_allowance(json!(null), &config, env, false, printer)
}

/// Ends a list of runs with the use of the allowance. With `json`, prints the document of the whole list.
fn show_allowance(runs: Value, config: &Config, env: &Env, json: bool, printer: &Printer) -> Result<ExitCode> {
    let used = match env.state_dir() {
        Some(state) => allowance::status(config, &state, SystemTime::now()),
        None => Ok(Vec::new()),
    };
    if !json {
        for status in &used? {
            printer.note(&format!("allowance {}: {}", status.key, line(status)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = json!({"format": 1, "runs": runs});
    match used {
        Ok(used) => {
            if let Some(shown) = shown.as_object_mut().filter(|_| !used.is_empty()) {
                shown.insert("allowance".into(), used.iter().map(document).collect());
            }
            printer.data(&shown)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => printer.refuse(shown, error),
    }
}

fn table(runs: &[Run<'_>], now: u64, width: Option<usize>) -> String {
    use Column::{Cut, Left, Right};
    let head = [
        "RUN",
        "STARTED (UTC)",
        "AGE",
        "KIND",
        "PLUGIN",
        "STATE",
        "TASKS",
        "TOKENS",
        "COST",
        "TIME",
    ];
    let row = |run: &Run<'_>| {
        let record = run.record;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let used = run.used.as_ref();
        vec![
            record.id.clone(),
            table::utc(record.started_ms),
            table::ago(now.saturating_sub(record.started_ms)),
            record.kind.name().into(),
            record.plugin.clone(),
            run.state_words().into(),
            or_dash(run.summary().map(|summary| match record.kind {
                // Its tasks may have several items each, and the record has the number of items.
                RunKind::Batch => counted(summary.counts.tasks, "items"),
                RunKind::Run => table::count(summary.counts.tasks),
            })),
            or_dash(used.map(|used| table::count(used.tokens()))),
            or_dash(used.map(recorded::Used::cost)),
            or_dash(run.wall_ms.map(table::time)),
        ]
    };
    let rows: Vec<_> = [head.map(str::to_owned).to_vec()]
        .into_iter()
        .chain(runs.iter().map(row))
        .collect();
    let kinds = [Left, Left, Left, Left, Cut, Left, Right, Right, Right, Right];
    // The age is enough where the time of the start does not fit.
    table::columns_without(&kinds, &rows, width, &[1, 3, 6, 7])
}

fn prune(journal: &dyn JournalStore, args: &Prune, printer: &Printer) -> Result<ExitCode> {
    let now = recorded::now_ms();
    let keep = Keep {
        after_ms: args.older_than.map(|age| now.saturating_sub(millis(age))),
        latest: args.keep,
    };
    let runs = |n: usize| {
        if n == 1 {
            "1 run".to_owned()
        } else {
            format!("{n} runs")
        }
    };
    if args.dry_run {
        let records = journal.runs(usize::MAX)?;
        let gone = leaving(&records, &keep, |run| is_running(journal, run));
        for run in &gone {
            let line = format!("{}  {}  {}", run.id, table::utc(run.started_ms), run.plugin);
            printer.text(one_line(&line))?;
        }
        printer.note(&format!("{} would be removed", runs(gone.len())));
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = journal.prune(&keep)?;
    printer.note(&format!(
        "removed {}, which gave back {}",
        runs(pruned.runs),
        units::show_bytes(pruned.bytes)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Returns the runs among `records`, the latest first, that `keep` does not keep. A live run is always kept.
fn leaving<'a>(records: &'a [RunRecord], keep: &Keep, alive: impl Fn(&RunRecord) -> bool) -> Vec<&'a RunRecord> {
    let kept = |at: usize, run: &RunRecord| {
        keep.after_ms.is_some_and(|after| run.started_ms > after)
            || keep.latest.is_some_and(|latest| at < latest)
            || (run.end.is_none() && alive(run))
    };
    let records = records.iter().enumerate();
    records
        .filter(|(at, run)| !kept(*at, run))
        .map(|(_, run)| run)
        .collect()
}

/// Parses a duration that may be given in days.
fn age(text: &str) -> Result<Duration, String> {
    let days = text.trim().strip_suffix('d').map(str::parse::<u32>);
    match days {
        Some(Ok(days)) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        Some(Err(_)) => Err(format!("`{text}` is not a number of days; write for example 30d")),
        None => units::parse_duration(text).map_err(String::from),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the run of this id, or an error that names the journal at `path` if there is none.
pub(super) fn find(found: Found, path: Option<&Path>, id: &str) -> Result<(Box<dyn JournalStore>, RunRecord)> {
    let journal = found.needed()?;
    let run = journal::find(&*journal, path, id)?;
    Ok((journal, run))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use agenthost::journal::RunStatus;

    #[test]
    fn a_row_tells_what_a_run_came_to() {
        let done = testing::run("1m83dpd8k-n9h2r", 1_000, Some((RunStatus::Done, 13_000, 4)));
        let open = testing::run("1m83dpd8k-00000", 61_000, None);
        let records = [open, done];
        let now = 3_601_000;
        let alive = |_: &RunRecord| false;
        let runs: Vec<_> = records.iter().map(|record| Run::new(record, now, alive)).collect();
        let table = table(&runs, now, None);
        let lines: Vec<_> = table
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(lines[0][0], "RUN");
        assert_eq!(
            lines[1],
            [
                "1m83dpd8k-00000",
                "1970-01-01 00:01:01",
                "59 min ago",
                "run",
                "demo:scan@0.1.0",
                "interrupted",
                "-",
                "-",
                "-",
                "-"
            ]
        );
        assert_eq!(
            lines[2],
            [
                "1m83dpd8k-n9h2r",
                "1970-01-01 00:00:01",
                "1 h ago",
                "run",
                "demo:scan@0.1.0",
                "done",
                "4",
                "1,300",
                "$0.0123",
                "12.0 s"
            ]
        );
        let running = Run::new(&records[0], now, |run| run.pid == 4_242);
        assert_eq!((running.state.name(), running.wall_ms), ("running", Some(3_540_000)));
    }

    #[test]
    fn pruning_spares_what_is_kept_and_what_runs() {
        let records = [
            testing::run("d", 4_000, None),
            testing::run("c", 3_000, Some((RunStatus::Done, 3_100, 1))),
            testing::run("b", 2_000, Some((RunStatus::Failed, 2_100, 1))),
            testing::run("a", 1_000, None),
        ];
        let gone = |keep: Keep, alive: bool| -> Vec<&str> {
            leaving(&records, &keep, |_| alive)
                .iter()
                .map(|run| run.id.as_str())
                .collect()
        };
        let latest = |n| Keep {
            latest: Some(n),
            ..Keep::default()
        };
        let after = |ms| Keep {
            after_ms: Some(ms),
            ..Keep::default()
        };
        assert_eq!(gone(latest(1), false), ["c", "b", "a"]);
        assert_eq!(gone(latest(1), true), ["c", "b"]);
        assert_eq!(gone(after(2_000), false), ["b", "a"]);
        assert_eq!(gone(latest(0), false).len(), 4);
    }

    #[test]
    fn ages_may_be_given_in_days() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(age("400d"), Ok(Duration::from_secs(34_560_000)));
        assert_eq!(age("12h"), Ok(Duration::from_secs(43_200)));
        assert!(age("d").is_err() && age("-1d").is_err() && age("soon").is_err());
    }
}
