//! `agenthost spawn`: tasks in plain words, which the built-in plugins answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value, json};

use super::global::Global;
use super::output::Printer;
use super::run::{self, LimitArgs, MAX_INPUT_BYTES, Show};
use super::start::StartArgs;
use agenthost::Host;
use agenthost::batch::items::{Found, Source};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::limits::Cap;

/// The most characters of a task that name its branch.
const NAME_CHARS: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tasks in plain words; with --each, one task with {{COLUMN}} for the fields of a row
    #[arg(id = "task", required = true, value_name = "TASK")]
    tasks: Vec<String>,
    /// Answer the task for each row or value of this file (.csv, .jsonl or .json)
    #[arg(long, value_name = "FILE")]
    each: Option<PathBuf>,
    /// Make one answer of all answers: the task of the synthesis
    #[arg(long, value_name = "TASK")]
    synthesize: Option<String>,
    /// End when all have ended, when all or the first have an answer, or when a majority of equal answers is certain
    #[arg(long, value_enum, default_value = "settled", conflicts_with = "quorum")]
    join: JoinPolicy,
    /// End when N tasks have an answer, and cancel the others
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    quorum: Option<u32>,
    /// Give every task this text: a name for it, and its file
    #[arg(long, value_name = "NAME=PATH")]
    file: Vec<String>,
    /// The model of the tasks [default: fast]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The model of the synthesis [default: strong]
    #[arg(long, value_name = "NAME", requires = "synthesize")]
    synthesis_model: Option<String>,
    /// The system text of the tasks
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A JSON Schema that every answer must satisfy: JSON, or a file
    #[arg(long, value_name = "JSON|FILE")]
    schema: Option<String>,
    /// A JSON Schema that the synthesis must satisfy: JSON, or a file
    #[arg(long, value_name = "JSON|FILE", requires = "synthesize")]
    synthesis_schema: Option<String>,
    /// The most output tokens of an answer
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// The most tasks that run at once [default: 8]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    max_concurrent: Option<u32>,
    /// Record the model calls and the outcome in this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print one JSON document with the outcome, the amounts spent, and every task
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    start: StartArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum JoinPolicy {
    Settled,
    All,
    First,
    Vote,
}

impl JoinPolicy {
    fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::All => "all",
            Self::First => "first",
            Self::Vote => "vote",
        }
    }
}

pub(super) async fn spawn(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let schema = args
        .schema
        .as_deref()
        .map(|text| schema(text, "--schema", env))
        .transpose()?;
    let synthesis_schema = args.synthesis_schema.as_deref();
    let synthesis_schema = synthesis_schema
        .map(|text| self::schema(text, "--synthesis-schema", env))
        .transpose()?;
    let mut question = json!({
        "documents": args.file.iter().map(|given| document(given, env)).collect::<Result<Vec<_>>>()?,
        "model": args.model,
        "system": args.system,
        "schema": schema,
        "max-tokens": args.max_tokens,
    });
    let mut with_task = |task: &str| {
        if let Some(fields) = question.as_object_mut() {
            fields.insert("task".to_owned(), task.into());
        }
        question.clone()
    };
    let reachable = |count: usize| match args.quorum {
        Some(wanted) if wanted as usize > count => Err(Error::usage(format!(
            "--quorum {wanted}: the number of tasks is {count}"
        ))
        .with_hint("Give at most as many as there are tasks.")),
        _ => Ok(()),
    };
    let is_single = args.each.is_none() && args.synthesize.is_none() && args.tasks.len() == 1;
    if is_single && let [task] = args.tasks.as_slice() {
        reachable(1)?;
        let input = with_task(task);
        let run = run::Args::of("agenthost:ask", args.record, args.json, args.start, args.limits);
        let show = shown(args.json, answer);
        return run::start(run, Some(input), show, global, env, printer).await;
    }
    let join = match args.quorum {
        Some(wanted) => json!({"quorum": wanted}),
        None => args.join.name().into(),
    };
    let (branches, each, count) = match &args.each {
        Some(file) => {
            let [task] = args.tasks.as_slice() else {
                return Err(Error::usage("--each takes one task, and several are given")
                    .with_hint("Give one task with {{COLUMN}} for the fields of a row."));
            };
            let values = rows(file, env)?;
            let count = values.len();
            (
                Value::Null,
                json!({"question": with_task(task), "values": values}),
                count,
            )
        }
        None => {
            let branches = args.tasks.iter();
            let branches = branches.map(|task| json!({"name": name(task), "question": with_task(task)}));
            (branches.collect(), Value::Null, args.tasks.len())
        }
    };
    reachable(count)?;
    let synthesis = args.synthesize.map(|task| {
        json!({
            "task": task,
            "model": args.synthesis_model,
            "system": null,
            "schema": synthesis_schema,
            "max-tokens": null,
        })
    });
    let input = json!({
        "branches": branches,
        "each": each,
        "join": join,
        "max-concurrent": args.max_concurrent,
        "synthesis": synthesis,
    });
    if let Some(Cap::At(tasks)) = args.limits.patch()?.tasks
        && tasks < count as u64
    {
        return Err(Error::usage(format!("--tasks {tasks}: {count} tasks are given"))
            .with_hint("Leave out --tasks, or give fewer tasks."));
    }
    let limits = args.limits.or_tasks(count);
    let run = run::Args::of("agenthost:fan-out", args.record, args.json, args.start, limits);
    run::start(run, Some(input), shown(args.json, report), global, env, printer).await
}

fn shown(json: bool, text: fn(&Value) -> String) -> Show {
    match json {
        true => Show::Document,
        false => Show::Text(text),
    }
}

/// Returns the name of a task's branch: the beginning of its first line.
fn name(task: &str) -> String {
    let line = task.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}

/// Reads `--file NAME=PATH`.
fn document(given: &str, env: &Env) -> Result<Value> {
    let Some((name, path)) = given
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
    else {
        return Err(Error::usage(format!("--file {given}: not of the form NAME=PATH"))
            .with_hint("For example --file notes=notes.md"));
    };
    let text = run::read_text(&env.cwd().join(path), &format!("--file {given}"))?;
    Ok(json!({"name": name, "text": text}))
}

/// Reads a JSON Schema from JSON or from a file, and checks it.
fn schema(given: &str, flag: &str, env: &Env) -> Result<Value> {
    let text = match given.trim_start().starts_with('{') {
        true => given.to_owned(),
        false => run::read_text(
            &env.cwd().join(given.trim_start_matches('@')),
            &format!("{flag} {given}"),
        )?,
    };
    let invalid = |problem: String| {
        Error::input(format!("{flag}: {problem}"))
            .with_hint("Give a JSON Schema, such as {\"type\": \"object\", …}, or a file with one.")
    };
    Host::check_schema(&text).map_err(invalid)?;
    serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))
}

/// Reads the values of `--each`.
fn rows(file: &Path, env: &Env) -> Result<Vec<Value>> {
    let most = usize::try_from(MAX_INPUT_BYTES).unwrap_or(usize::MAX);
    let spool = Path::new(env.var("TMPDIR").filter(|dir| !dir.is_empty()).unwrap_or("/tmp"));
    let source = Source::open(&env.cwd().join(file), None, most, spool)?;
    let mut values = Vec::new();
    for item in source.read()? {
        let item = item?;
        let found = item.found.map_err(|problem| {
            Error::input(format!("{}:{}: {problem}", file.display(), item.at.line))
                .with_hint("Correct the line, or leave it out.")
        })?;
        values.push(match found {
            Found::Json(value) => value,
            Found::Row(cells) => {
                let cells = cells.into_iter().map(|(name, text)| (name, Value::String(text)));
                Value::Object(cells.collect::<Map<_, _>>())
            }
        });
    }
    match values.is_empty() {
        true => {
            Err(Error::input(format!("{}: no rows", file.display())).with_hint("Give a file with at least one row."))
        }
        false => Ok(values),
    }
}

/// Returns an answer as text: a string itself, anything else as JSON.
fn answer(answer: &Value) -> String {
    match answer {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

/// Returns the output of a fan-out as text: the synthesis, or each answer below its name.
fn report(report: &Value) -> String {
    let synthesis = report.get("synthesis").filter(|synthesis| !synthesis.is_null());
    if let Some(synthesis) = synthesis {
        return answer(synthesis);
    }
    let answers = report.get("answers").and_then(Value::as_array);
    let part = |one: &Value| {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        format!("# {name}\n\n{}", answer(one.get("answer").unwrap_or(&Value::Null)))
    };
    let parts: Vec<_> = answers.into_iter().flatten().map(part).collect();
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_task_is_named_by_its_beginning() {
        assert_eq!(name("  Research Acme\nin depth"), "Research Acme");
        let long = "é".repeat(61);
        assert_eq!(name(&long), format!("{}…", "é".repeat(60)));
        assert_eq!(name(""), "");
    }

    #[test]
    fn the_text_is_the_synthesis_or_all_answers() {
        let all = json!({"answers": [{"name": "a", "answer": "yes"}, {"name": "b", "answer": {"n": 1}}], "failed": [],
            "synthesis": null});
        assert_eq!(report(&all), "# a\n\nyes\n\n# b\n\n{\n  \"n\": 1\n}");
        assert_eq!(
            report(&json!({"answers": [], "failed": [], "synthesis": "both"})),
            "both"
        );
    }
}
