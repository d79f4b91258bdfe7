//! `agenthost spawn`: tasks in plain words, which the built-in plugins answer.
//!
//! The options decide on the plugin: `agenthost:ask` for one task, `agenthost:fan-out` for several, `agenthost:validate`
//! with `--validator`, and `agenthost:recover` with `--recover`. All of its input is checked before anything is spent.

mod input;
mod output;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use self::input::Call;
pub(super) use self::output::Text;
use super::global::Global;
use super::output::Printer;
use super::run::{self, LimitArgs, Show, Spawned};
use super::start::StartArgs;
use agenthost::config::Env;
use agenthost::error::Result;
use agenthost::limits::units::parse_count;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tasks in plain words; with --each, one task with {{COLUMN}} for the fields of a row
    #[arg(id = "task", required_unless_present = "validate", value_name = "TASK")]
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
    /// The most output tokens of an answer, such as 2k
    #[arg(long, value_name = "N", value_parser = tokens)]
    max_tokens: Option<u32>,
    /// The most tasks that run at once [default: 8]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    max_concurrent: Option<u32>,
    #[command(flatten)]
    validation: ValidationArgs,
    #[command(flatten)]
    recovery: RecoveryArgs,
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

/// Validation of the answer, or of a text
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Validation (exit code 1 if the draft does not pass)")]
struct ValidationArgs {
    /// Have the answer checked by this validator: a name and its instructions. All validators check at once
    #[arg(
        long,
        value_name = "NAME: TEXT",
        conflicts_with_all = ["each", "synthesize", "join", "quorum", "max_concurrent", "recover"]
    )]
    validator: Vec<String>,
    /// Check this file, or - for stdin, instead of an answer; with a task, it is revised
    #[arg(long, value_name = "FILE|-", requires = "validator")]
    validate: Option<PathBuf>,
    /// Check at most N drafts, each revised by the findings in the one before [default: 2]
    #[arg(long, value_name = "N", requires = "validator", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    rounds: Option<u32>,
}

/// Other ways after a failure
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Recovery (exit code 6 if a person has to decide)")]
struct RecoveryArgs {
    /// After a failure, have the task diagnosed, done in other ways or simplified, and hand over to a person at last
    #[arg(long, conflicts_with_all = ["each", "synthesize", "join", "quorum", "max_concurrent"])]
    recover: bool,
    /// The requirements of the answer, which a model checks; an answer that does not pass is a failure
    #[arg(long, value_name = "TEXT", requires = "recover")]
    check: Option<String>,
    /// Take at most N ways, including the first [default: 3]
    #[arg(long, value_name = "N", requires = "recover", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    max_attempts: Option<u32>,
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

fn tokens(text: &str) -> std::result::Result<u32, String> {
    match parse_count(text).map(u32::try_from) {
        Ok(Ok(0)) => Err("at least 1".into()),
        Ok(Ok(count)) => Ok(count),
        Ok(Err(_)) => Err(format!("at most {}", u32::MAX)),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) async fn spawn(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let call = Call::of(&args, env)?;
    for note in &call.notes {
        printer.note(note);
    }
    let show = match args.json {
        true => Show::Document,
        false => Show::Text(Text::of(call.plugin, &call.input)),
    };
    let spawned = Spawned {
        tasks: call.tasks,
        least_tasks: call.least_tasks,
        models: call.models,
    };
    let run = run::Args::spawn(call.plugin, spawned, args.record, args.json, args.start, args.limits);
    run::start(run, Some(call.input), show, global, env, printer).await
}
