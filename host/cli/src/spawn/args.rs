//! The options of `spawn`.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use crate::run::LimitArgs;
use crate::start::StartArgs;
use agenthost::limits::units::parse_count;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tasks in plain words; with --each, one task with {{COLUMN}} for the fields of a row
    #[arg(id = "task", required_unless_present = "validate", value_name = "TASK")]
    pub(super) tasks: Vec<String>,
    /// Answer the task for each row or value of this file (.csv, .jsonl or .json)
    #[arg(long, value_name = "FILE")]
    pub(super) each: Option<PathBuf>,
    /// Make one answer of all answers: the task of the synthesis
    #[arg(long, value_name = "TASK")]
    pub(super) synthesize: Option<String>,
    /// End when all have ended, when all or the first have an answer, or when a majority of equal answers is certain
    #[arg(long, value_enum, default_value = "settled", conflicts_with = "quorum")]
    pub(super) join: JoinPolicy,
    /// End when N tasks have an answer, and cancel the others
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    pub(super) quorum: Option<u32>,
    /// Give every task this text: a name for it, and its file
    #[arg(long, value_name = "NAME=PATH")]
    pub(super) file: Vec<String>,
    /// The model of the tasks [default: fast]
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,
    /// The model of the synthesis [default: strong]
    #[arg(long, value_name = "NAME", requires = "synthesize")]
    pub(super) synthesis_model: Option<String>,
    /// The system text of the tasks
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,
    /// A JSON Schema that every answer must satisfy: JSON, or a file
    #[arg(long, value_name = "JSON|FILE")]
    pub(super) schema: Option<String>,
    /// A JSON Schema that the synthesis must satisfy: JSON, or a file
    #[arg(long, value_name = "JSON|FILE", requires = "synthesize")]
    pub(super) synthesis_schema: Option<String>,
    /// The most output tokens of an answer, such as 2k
    #[arg(long, value_name = "N", value_parser = tokens)]
    pub(super) max_tokens: Option<u32>,
    /// The most tasks that run at once [default: 8]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    pub(super) max_concurrent: Option<u32>,
    #[command(flatten)]
    pub(super) validation: ValidationArgs,
    #[command(flatten)]
    pub(super) recovery: RecoveryArgs,
    /// Record the model calls and the outcome in this file
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Print one JSON document with the outcome, the amounts spent, and every task
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(super) start: StartArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
}

/// Validation of the answer, or of a text
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Validation (exit code 1 if the draft does not pass)")]
pub(super) struct ValidationArgs {
    /// Have the answer checked by this validator: a name and its instructions. All validators check at once
    #[arg(
        long,
        value_name = "NAME: TEXT",
        conflicts_with_all = ["each", "synthesize", "join", "quorum", "max_concurrent", "recover"]
    )]
    pub(super) validator: Vec<String>,
    /// Check this file, or - for stdin, instead of an answer; with a task, it is revised
    #[arg(long, value_name = "FILE|-", requires = "validator")]
    pub(super) validate: Option<PathBuf>,
    /// Check at most N drafts, each revised by the findings in the one before [default: 2]
    #[arg(long, value_name = "N", requires = "validator", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    pub(super) rounds: Option<u32>,
}

/// Other ways after a failure
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Recovery (exit code 6 if a person has to decide)")]
pub(super) struct RecoveryArgs {
    /// After a failure, have the task diagnosed, done in other ways or simplified, and hand over to a person at last
    #[arg(long, conflicts_with_all = ["each", "synthesize", "join", "quorum", "max_concurrent"])]
    pub(super) recover: bool,
    /// The requirements of the answer, which a model checks; an answer that does not pass is a failure
    #[arg(long, value_name = "TEXT", requires = "recover")]
    pub(super) check: Option<String>,
    /// Take at most N ways, including the first [default: 3]
    #[arg(long, value_name = "N", requires = "recover", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    pub(super) max_attempts: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum JoinPolicy {
    Settled,
    All,
    First,
    Vote,
}

impl JoinPolicy {
    pub(super) fn name(self) -> &'static str {
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
