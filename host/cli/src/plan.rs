//! `agenthost plan`: the estimate of a run or a batch, without running it.

use std::path::PathBuf;
use std::process::ExitCode;

use super::batch::{ItemArgs, SumArgs};
use super::budget::{PlanOptions, tell};
use super::global::Global;
use super::host::{check_scripts, host};
use super::output::Printer;
use super::run::{LimitArgs, read_input};
use super::which::PluginArgs;
use agenthost::config::Env;
use agenthost::error::Result;
use agenthost::limits::{Usd, units};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: PluginArgs,
    /// Check whether this input fits: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Plan for a batch of N items, or of the items in this file (.jsonl, .csv, .tsv or .json), or - for stdin
    #[arg(long, value_name = "N|FILE", default_value = "1", value_parser = items)]
    items: Items,
    #[command(flatten)]
    reading: ItemArgs,
    /// End with exit code 3 if the worst case may cost more than this, or its cost is unknown
    #[arg(long, value_name = "USD")]
    fail_above: Option<Usd>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    sums: SumArgs,
}

/// The items of a batch to plan for.
#[derive(Debug, Clone)]
enum Items {
    Count(u64),
    File(PathBuf),
}

fn items(text: &str) -> std::result::Result<Items, std::convert::Infallible> {
    Ok(units::parse_count(text).map_or_else(|_| Items::File(text.into()), Items::Count))
}

pub(super) async fn plan(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let (asked, sums) = (args.limits.patch()?, args.sums.patch()?);
    let input = args.input.as_deref().map(|input| read_input(input, env)).transpose()?;
    let config = global.config(env)?;
    check_scripts(&config)?;
    let host = host(config, env, None)?;
    for note in host.config_notes() {
        printer.note(&note);
    }
    let plugin = args.which.load(&host, env, printer).await?;
    if let Some(input) = &input {
        plugin.check_input(input)?;
    }
    let (items, grouped) = match &args.items {
        Items::Count(items) => args.reading.tasks_of(&plugin, *items)?,
        Items::File(file) => args.reading.count_tasks(&host, &plugin, file, env)?,
    };
    let told = PlanOptions {
        items,
        grouped,
        fail_above: args.fail_above,
        json: args.json,
    };
    let run = host.config().run().limits.overridden_by(&sums);
    tell(
        &host,
        &plugin,
        (host.limits(&plugin, &asked), &run),
        &told,
        global,
        env,
        printer,
    )
}
