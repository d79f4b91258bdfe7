//! `agenthost plan`: the worst case of a run, and what earlier runs used. Nothing is run or spent.

mod typical;
mod worst;

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::{Value, json};

use self::typical::{Spread, Typical};
use self::worst::{Candidate, Cost, Worst};
use super::global::Global;
use super::host::host;
use super::journal::Found;
use super::output::{Printer, exit};
use super::recorded::{Run, is_running, short};
use super::run::{self, LimitArgs};
use super::table::{self, Column, count};
use super::terminal::Styled;
use super::which::PluginArgs;
use agenthost::config::{Config, Env};
use agenthost::error::Result;
use agenthost::limits::{Limits, Usd, units};
use agenthost::plugin::Import;
use agenthost::price::PriceTable;
use agenthost::printable::one_line;
use agenthost::{Host, Plugin};

/// The number of latest runs, of any plugin, that are searched for runs of this one.
const LOOKED_AT: usize = 1_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: PluginArgs,
    /// Check whether this input fits: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Plan for a batch of N items
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::parse_count)]
    items: u64,
    /// End with exit code 3 if the worst case may cost more than this, or its cost is unknown
    #[arg(long, value_name = "USD")]
    fail_above: Option<Usd>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

/// A complete plan.
struct Plan<'a> {
    plugin: &'a Plugin,
    config: &'a Config,
    limits: Limits,
    items: u64,
    models: Vec<Candidate>,
    one: Worst,
    all: Worst,
    typical: Option<Typical>,
}

pub(super) async fn plan(args: Args, global: &Global, env: &Env, printer: &Printer) -> Result<ExitCode> {
    let asked = args.limits.patch()?;
    let input = args
        .input
        .as_deref()
        .map(|input| run::read_input(input, env))
        .transpose()?;
    let host = host(global.config(env)?, env, None)?;
    for note in host.config_notes() {
        printer.note(&note);
    }
    let plugin = args.which.load(&host, env, printer).await?;
    if let Some(input) = &input {
        plugin.check_input(input)?;
    }
    let told = PlanOptions {
        items: args.items,
        fail_above: args.fail_above,
        json: args.json,
    };
    let run = host.config().run().limits.clone();
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

/// The options of a plan.
pub(super) struct PlanOptions {
    /// The number of tasks.
    pub(super) items: u64,
    pub(super) fail_above: Option<Usd>,
    pub(super) json: bool,
}

/// Prints the worst case of tasks with these limits on each, and on all of them together.
pub(super) fn tell(
    host: &Host,
    plugin: &Plugin,
    (limits, run): (Limits, &Limits),
    told: &PlanOptions,
    global: &Global,
    env: &Env,
    printer: &Printer,
) -> Result<ExitCode> {
    let mut plan = Plan::of(host, plugin, limits, run, told.items)?;
    if let Found::Journal(journal) = Found::open(global, host.config(), env)? {
        let records = journal.runs(LOOKED_AT)?;
        let runs: Vec<_> = records
            .iter()
            .map(|record| Run::new(record, 0, |run| is_running(&*journal, run)))
            .collect();
        let offline = plan.models.iter().any(|model| model.offline);
        plan.typical = Typical::of(&runs, &plugin.id().name, offline);
    }
    if told.json {
        printer.data(&plan.document(told.fail_above))?;
    } else {
        printer.text(plan.page())?;
    }
    match told.fail_above.filter(|bound| plan.all.is_above(*bound)) {
        Some(bound) => {
            let worst = match plan.all.cost {
                Cost::AtMost(usd) => format!("the worst case costs {usd}"),
                Cost::Unknown => "the worst case is not known, because a model has no known price".into(),
                Cost::Unlimited => "the worst case has no end, as neither tokens nor cost are limited".into(),
            };
            printer.refusal(
                &format!("{worst}: more than --fail-above {bound}"),
                "Lower it with --cost, --tokens or [run.limits]; [prices] in agenthost.toml says what a model costs.",
            );
            Ok(ExitCode::from(exit::EXHAUSTED))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

impl<'a> Plan<'a> {
    fn of(host: &'a Host, plugin: &'a Plugin, limits: Limits, run: &Limits, items: u64) -> Result<Self> {
        let config = host.config();
        let own = limits.narrowed_by(run);
        let starts = own.tasks != Some(0) && own.depth != Some(0);
        let mut names = BTreeSet::new();
        asked_for(config, plugin, starts, &mut names);
        let models = candidates(config, &names)?;
        let one = Worst::of_task(&limits, run, &models, plugin.sub_agents().next().is_some());
        let all = one.times(items, run, &models);
        Ok(Self {
            plugin,
            config,
            limits,
            items,
            models,
            one,
            all,
            typical: None,
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.typical.as_ref().is_some_and(Typical::is_tiny) {
            notes.push("it is typically over within a second: sub-agents hardly pay for work so small".to_owned());
        }
        if !self.config.run().strict_tokens && !self.models.is_empty() {
            notes.push(
                "input is reserved at an estimate that errs high; with `strict-tokens = true` under [run] no call can \
                 pass a limit"
                    .to_owned(),
            );
        }
        if self.models.iter().any(|model| model.offline) {
            notes.push("the offline provider makes answers up, at no cost; real models cost more".to_owned());
        }
        notes
    }

    fn document(&self, fail_above: Option<Usd>) -> Value {
        let limits = &self.limits;
        let models = self.models.iter().map(|model| {
            json!({
                "name": model.name,
                "model": model.model,
                "offline": model.offline,
                "priced": !model.prices.is_empty(),
                "worst_cost_usd": self.one.tokens.and_then(|tokens| model.most(tokens)),
            })
        });
        json!({
            "format": 1,
            "plugin": self.plugin.id().to_string(),
            "digest": self.plugin.digest().hex(),
            "limits": {
                "tokens": limits.tokens,
                "cost_usd": limits.cost,
                "calls": limits.calls,
                "fuel": limits.fuel,
                "memory_bytes": limits.memory,
                "timeout_ms": limits.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
                "tasks": limits.tasks,
                "depth": limits.depth,
            },
            "items": self.items,
            "worst": {"per_item": self.one.document(), "total": self.all.document()},
            "models": models.collect::<Vec<_>>(),
            "sub_agents": below(self.config, self.plugin),
            "typical": self.typical,
            "fail_above_usd": fail_above,
            "above": fail_above.map(|bound| self.all.is_above(bound)),
            "notes": self.notes(),
        })
    }

    fn page(&self) -> Styled {
        let digest = self.plugin.digest().hex();
        let mut page = Styled::default();
        page.bold("plugin")
            .push(format!(" {}, digest {}\n\n", self.plugin.id(), short(&digest)))
            .append(titled("worst case", &self.worst_table()))
            .push("\n\n")
            .bold("models that may be asked")
            .push("\n")
            .push(match self.models.as_slice() {
                [] => "  none".to_owned(),
                models => self.model_table(models),
            });
        let mut lines = Vec::new();
        tree(self.config, self.plugin, 1, &mut lines);
        if !lines.is_empty() {
            page.push("\n\n")
                .bold("sub-agents that may be started")
                .push(format!("\n{}", lines.join("\n")));
        }
        if let Some(typical) = &self.typical {
            page.push("\n\n")
                .append(titled("typical case", &typical_table(typical)));
        }
        for (at, note) in self.notes().into_iter().enumerate() {
            let gap = if at == 0 { "\n\n" } else { "\n" };
            page.push(gap).bold("note:").push(format!(" {note}"));
        }
        page
    }

    fn worst_table(&self) -> String {
        let number = |n: Option<u64>| n.map_or_else(|| "no limit".into(), count);
        let column = |title: String, worst: &Worst| {
            let cost = match worst.cost {
                Cost::AtMost(usd) => usd.to_string(),
                Cost::Unknown => "unknown".into(),
                Cost::Unlimited => "no limit".into(),
            };
            let time = worst
                .time
                .map(|time| table::time(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
            [
                title,
                number(worst.tokens),
                number(worst.calls),
                cost,
                number(worst.sub_tasks),
                time.unwrap_or_else(|| "no limit".into()),
            ]
        };
        let names = [
            "worst case",
            "  tokens",
            "  model calls",
            "  cost",
            "  sub-tasks",
            "  wall time",
        ];
        let mut kinds = vec![Column::Left, Column::Right];
        let mut rows: Vec<_> = names.map(|name| vec![name.to_owned()]).to_vec();
        let mut columns = vec![column(
            if self.items == 1 {
                String::new()
            } else {
                "one item".into()
            },
            &self.one,
        )];
        if self.items != 1 {
            kinds.push(Column::Right);
            columns.push(column(format!("{} items", count(self.items)), &self.all));
        }
        for cells in columns {
            for (row, cell) in rows.iter_mut().zip(cells) {
                row.push(cell);
            }
        }
        let mut table = table::columns(&kinds, &rows, None);
        if self.items > 1 {
            table.push_str("  one after the other");
        }
        table
    }

    fn model_table(&self, models: &[Candidate]) -> String {
        let rows = models.iter().map(|model| {
            let cost = match (
                model.prices.is_empty(),
                self.one.tokens.and_then(|tokens| model.most(tokens)),
            ) {
                (true, _) => "price unknown".into(),
                (false, Some(usd)) => format!("{usd} if all tokens went there"),
                (false, None) => "priced".into(),
            };
            vec![format!("  {}", model.name), model.model.clone(), cost]
        });
        table::columns(&[Column::Left; 3], &rows.collect::<Vec<_>>(), None)
    }
}

/// Returns a table that begins with `title` in bold.
fn titled(title: &'static str, table: &str) -> Styled {
    let mut page = Styled::default();
    page.bold(title).push(table.trim_start_matches(title));
    page
}

fn typical_table(typical: &Typical) -> String {
    let runs = match typical.runs {
        1 => "the last run".to_owned(),
        n => format!("the last {n} runs"),
    };
    fn row<T: Copy>(name: &str, spread: Spread<T>, show: impl Fn(T) -> String) -> Vec<String> {
        vec![name.to_owned(), show(spread.median), show(spread.p90)]
    }
    let unknown = || vec!["  cost".to_owned(), "unknown".into(), "unknown".into()];
    let rows = [
        vec![
            format!("typical case, from {runs}"),
            "median".into(),
            "9 in 10 below".into(),
        ],
        row("  tokens", typical.tokens, count),
        typical
            .cost_usd
            .map_or_else(unknown, |cost| row("  cost", cost, |usd| usd.to_string())),
        row("  wall time", typical.wall_ms, table::time),
    ];
    table::columns(&[Column::Left, Column::Right, Column::Right], &rows, None)
}

/// Collects the model names that `plugin` can use, and those of the plugins below it if it may start them.
fn asked_for(config: &Config, plugin: &Plugin, starts: bool, names: &mut BTreeSet<String>) {
    names.extend(models_of(config, plugin));
    if starts {
        plugin
            .sub_agents()
            .for_each(|(_, below)| asked_for(config, below, starts, names));
    }
}

/// Returns the model names that `plugin` itself can use.
pub(crate) fn models_of(config: &Config, plugin: &Plugin) -> BTreeSet<String> {
    match plugin.info().imports.iter().any(Import::is_llm) {
        true => plugin.models(config),
        false => BTreeSet::new(),
    }
}

/// Returns the models behind these names, fallbacks included.
fn candidates(config: &Config, names: &BTreeSet<String>) -> Result<Vec<Candidate>> {
    let prices = PriceTable::of(config)?;
    let chains = names.iter().filter_map(|name| Some((name, config.models().get(name)?)));
    let all = chains.flat_map(|(name, chain)| chain.iter().map(move |model| (name, model)));
    Ok(all
        .filter_map(|(name, model)| {
            let kind = config.provider(&model.provider)?.kind.name();
            let price = prices.price(kind, &model.provider, &model.model);
            // With Anthropic's API, a plugin can keep prefixes for an hour, which has a price of its own.
            let hour = price
                .filter(|_| kind == "anthropic")
                .map(agenthost::price::Price::with_hour_writes);
            Some(Candidate {
                name: name.clone(),
                model: model.to_string(),
                prices: price.cloned().into_iter().chain(hour).collect(),
                offline: kind == "offline",
            })
        })
        .collect())
}

/// Returns the plugins below `plugin`, as JSON.
fn below(config: &Config, plugin: &Plugin) -> Vec<Value> {
    plugin
        .sub_agents()
        .map(|(import, plugin)| {
            json!({
                "import": import,
                "plugin": plugin.id().to_string(),
                "digest": plugin.digest().hex(),
                "models": models_of(config, plugin),
                "sub_agents": below(config, plugin),
            })
        })
        .collect()
}

fn tree(config: &Config, plugin: &Plugin, depth: usize, lines: &mut Vec<String>) {
    for (_, plugin) in plugin.sub_agents() {
        let models = models_of(config, plugin).into_iter().collect::<Vec<_>>().join(", ");
        let models = if models.is_empty() { "no models".into() } else { models };
        let (indent, digest) = ("  ".repeat(depth), plugin.digest().hex());
        let line = format!("{}, digest {}: {models}", plugin.id(), short(&digest));
        lines.push(format!("{indent}{}", one_line(&line)));
        tree(config, plugin, depth + 1, lines);
    }
}
