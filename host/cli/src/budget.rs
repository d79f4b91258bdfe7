//! The estimate of a run or a batch: the worst case, and what earlier runs used. Nothing is run or spent.

mod typical;
mod worst;

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::{Value, json};

use self::typical::{FanOut, Spread, Typical, TypicalModel};
use self::worst::{Candidate, Cost, Worst};
use super::global::Global;
use super::journal::Found;
use super::output::{Printer, counted, exit};
use super::recorded::{Run, is_running, short};
use super::table::{self, Column, count, thousands};
use super::terminal::Styled;
use agenthost::allowance::AllowanceStatus;
use agenthost::config::{Config, Env};
use agenthost::error::Result;
use agenthost::journal::RunRecord;
use agenthost::limits::{LimitKind, Limits, Usd};
use agenthost::llm::ServerToolKind;
use agenthost::plugin::Import;
use agenthost::price::PriceTable;
use agenthost::printable::one_line;
use agenthost::{Host, Plugin};

/// The number of latest runs, of any plugin, that are searched for runs of this one.
const LOOKED_AT: usize = 1_000;

/// The estimate for a number of tasks of one plugin, and its parts.
pub(super) struct Plan<'a> {
    plugin: &'a Plugin,
    config: &'a Config,
    limits: Limits,
    items: u64,
    /// As [`PlanOptions::grouped`].
    grouped: Option<u64>,
    models: Vec<Candidate>,
    one: Worst,
    all: Worst,
    /// The worst case of all items within the limits that the plugin's author suggests, if they are lower.
    suggested: Option<Worst>,
    typical: Option<Typical>,
}

/// The options of a plan.
pub(super) struct PlanOptions {
    /// The number of tasks.
    pub(super) items: u64,
    /// The number of items of a batch whose tasks get several items each.
    pub(super) grouped: Option<u64>,
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
    plan.grouped = told.grouped;
    plan.add_typical(global, env)?;
    if told.json {
        printer.data(&plan.document(told.fail_above))?;
    } else {
        printer.page(&plan.page())?;
    }
    match told.fail_above.filter(|bound| plan.all.is_above(*bound)) {
        Some(bound) => {
            printer.refusal(
                &format!("{}: more than --fail-above {bound}", plan.worst_words()),
                "Lower it with --cost, --tokens or [run.limits]; [prices] in agenthost.toml says what a model costs.",
            );
            Ok(ExitCode::from(exit::EXHAUSTED))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

impl<'a> Plan<'a> {
    pub(super) fn of(host: &'a Host, plugin: &'a Plugin, limits: Limits, run: &Limits, items: u64) -> Result<Self> {
        Self::of_models(host, plugin, (limits, run), items, |_| true)
    }

    /// Estimates tasks that call only some of the models that they may call.
    pub(super) fn of_models(
        host: &'a Host,
        plugin: &'a Plugin,
        (limits, run): (Limits, &Limits),
        items: u64,
        only: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut names = models_below(host.config(), plugin, &limits.narrowed_by(run));
        names.retain(|name| only(name));
        let config = host.config();
        let models = candidates(config, &names, searches_below(config, plugin, &limits.narrowed_by(run)))?;
        let one = Worst::of_task(&limits, run, &models, plugin.sub_agents().next().is_some());
        let all = one.times(items, run, &models);
        let suggested = Limits::none().overridden_by(&plugin.info().suggested_limits());
        let suggested = Some(limits.narrowed_by(&suggested)).filter(|suggested| *suggested != limits);
        let suggested = suggested.map(|limits| {
            Worst::of_task(&limits, run, &models, plugin.sub_agents().next().is_some()).times(items, run, &models)
        });
        Ok(Self {
            plugin,
            config,
            limits,
            items,
            grouped: None,
            models,
            one,
            all,
            suggested,
            typical: None,
        })
    }

    /// Adds the use of earlier runs, if the journal has any.
    ///
    /// # Errors
    ///
    /// The journal cannot be opened or read.
    pub(super) fn add_typical(&mut self, global: &Global, env: &Env) -> Result<()> {
        if let Found::Journal(journal) = Found::open(global, self.config, env)? {
            let records = journal.runs(LOOKED_AT)?;
            let runs: Vec<_> = records
                .iter()
                .map(|record| Run::new(record, 0, |run| is_running(&*journal, run)))
                .collect();
            let offline = self.models.iter().any(|model| model.offline);
            let samples = |record: &RunRecord| typical::of_tasks(&*journal, record);
            self.typical = Typical::of(&runs, &self.plugin.id().name, offline, samples)?;
        }
        Ok(())
    }

    /// Returns the average cost of earlier tasks, for all items, within the worst case.
    fn typical_cost(&self) -> Option<Usd> {
        let typical = self.typical.as_ref()?.cost_of(self.items)?;
        Some(match self.all.cost {
            Cost::AtMost(most) => typical.min(most),
            Cost::Unknown | Cost::Unlimited => typical,
        })
    }

    /// Returns the estimate in one line; `None` if nothing can be spent or started.
    pub(super) fn estimate(&self) -> Option<String> {
        if self.models.is_empty() && self.all.sub_tasks == Some(0) {
            return None;
        }
        let mut words = Vec::new();
        if self.items != 1 {
            words.push(format!("{} tasks", count(self.items)));
        }
        words.push(match (&self.typical, self.typical_cost()) {
            (None, _) => "no earlier runs".to_owned(),
            (Some(typical), Some(cost)) => format!("typically {cost} (from {})", typical.basis()),
            (Some(typical), None) => format!("typically an unknown cost (from {})", typical.basis()),
        });
        words.push(match self.all.cost {
            Cost::AtMost(most) => format!("at worst {most}"),
            Cost::Unknown => "at worst an unknown cost".to_owned(),
            Cost::Unlimited => "no limit on the cost".to_owned(),
        });
        match self.all.sub_tasks {
            Some(0) => {}
            Some(most) => words.push(format!("at most {} sub-agents", count(most))),
            None => words.push("no limit on sub-agents".to_owned()),
        }
        Some(words.join(", "))
    }

    /// Describes what is left of each setting of `[allowance]` that is below the worst case.
    pub(super) fn left(&self, allowance: &[AllowanceStatus]) -> Vec<String> {
        let mut left = Vec::new();
        for status in allowance {
            let rest = status.most.saturating_sub(status.used);
            let is_less = match status.limit {
                LimitKind::Cost => self.all.is_above(Usd::from_pico(rest)),
                _ => self.all.tokens.is_none_or(|most| most > rest),
            };
            if is_less {
                let until = if status.key.ends_with("month") {
                    "this month"
                } else {
                    "today"
                };
                let unit = if status.limit == LimitKind::Cost { "" } else { " tokens" };
                left.push(format!("left {until}: {}{unit}", thousands(&status.shown(rest))));
            }
        }
        left
    }

    /// Describes the cost that is above `bound`: the typical one, or the worst case if there is none. `None` if it is not
    /// above.
    pub(super) fn above(&self, bound: Usd) -> Option<String> {
        match (self.typical_cost(), self.all.cost) {
            (Some(typical), _) => (typical > bound).then(|| format!("the typical cost is {typical}")),
            (None, _) => self.all.is_above(bound).then(|| self.worst_words()),
        }
    }

    /// Describes the cost of the worst case.
    fn worst_words(&self) -> String {
        match self.all.cost {
            Cost::AtMost(usd) => format!("the worst case costs {usd}"),
            Cost::Unknown => "the worst case is unknown, because a model has no known price".into(),
            Cost::Unlimited => {
                "the worst case is unlimited, because neither the cost is limited nor what it depends on".into()
            }
        }
    }

    /// Describes the limits that earlier tasks would not have kept to.
    /// With `exact_tasks`, the limit of sub-tasks is the number that will be started, and not compared.
    pub(super) fn too_low(&self, exact_tasks: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(typical) = &self.typical else { return notes };
        let basis = typical.basis();
        let mean = typical.tokens.mean.saturating_mul(self.items);
        match (self.one.tokens, self.all.tokens) {
            (Some(most), _) if most < typical.tokens.median => notes.push(format!(
                "a task typically uses {} tokens (from {basis}), and its limit is {}: it may end without an output",
                count(typical.tokens.median),
                count(most)
            )),
            (_, Some(most)) if self.items > 1 && most < mean => notes.push(format!(
                "{} tasks typically use {} tokens (from {basis}), and the limit on all of them together is {}",
                count(self.items),
                count(mean),
                count(most)
            )),
            (Some(most), _) => notes.extend(self.too_many_sub_tasks(typical, most)),
            (None, _) => {}
        }
        for (most, usual, what) in [
            (self.one.calls, typical.calls, "makes {} model calls"),
            (
                self.one.sub_tasks.filter(|_| !exact_tasks),
                typical.sub_tasks,
                "starts {} sub-agents",
            ),
        ] {
            if let Some(most) = most.filter(|most| *most < usual.median) {
                notes.push(format!(
                    "a task typically {} (from {basis}), and its limit is {}: it may end without an output",
                    what.replace("{}", &count(usual.median)),
                    count(most)
                ));
            }
        }
        let cost = |worst: &Worst| match worst.cost {
            Cost::AtMost(most) => Some(most),
            Cost::Unknown | Cost::Unlimited => None,
        };
        let usual = typical.cost_usd.map(|cost| cost.median);
        let all = typical.cost_of(self.items);
        match (usual.zip(cost(&self.one)), all.zip(cost(&self.all))) {
            (Some((usual, most)), _) if most < usual => notes.push(format!(
                "a task typically costs {usual} (from {basis}), and its limit is {most}: it may end without an output"
            )),
            (_, Some((all, most))) if self.items > 1 && most < all => notes.push(format!(
                "{} tasks typically cost {all} (from {basis}), and the limit on all of them together is {most}",
                count(self.items)
            )),
            _ => {}
        }
        notes
    }

    /// Describes a fan-out for which a limit of `most` tokens leaves too little.
    fn too_many_sub_tasks(&self, typical: &Typical, most: u64) -> Option<String> {
        let FanOut {
            plugin,
            sub_tasks,
            least_tokens,
        } = typical.fan_out.as_ref()?;
        let keep_back = self.plugin.info().keep_back();
        let kept = match keep_back.sub_agents.contains(plugin) {
            true => 0,
            false => keep_back.share.of(most),
        };
        // Tasks that run at once reserve up to about twice what they use.
        let needed = sub_tasks.saturating_mul(*least_tokens).saturating_mul(2);
        let left = most.saturating_sub(kept);
        (left < needed).then(|| {
            format!(
                "{} tasks of {plugin} used at least {} tokens each, for which up to {} are reserved at once, and the \
                 limit leaves {} for sub-tasks: some may fail",
                count(*sub_tasks),
                count(*least_tokens),
                count(needed),
                count(left)
            )
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.too_low(false);
        let is_real = !self.models.iter().any(|model| model.offline);
        if is_real && self.typical.as_ref().is_some_and(Typical::is_tiny) {
            notes.push("it is typically over within a second: sub-agents hardly pay for work so small".to_owned());
        }
        if !self.config.run().strict_tokens && !self.models.is_empty() {
            notes.push(
                "input is reserved at an estimate that errs high; with `strict-tokens = true` under [run] no call can \
                 pass a limit"
                    .to_owned(),
            );
        }
        if self.suggested.is_some() {
            let limits = self.plugin.info().manifest.iter().flat_map(|manifest| &manifest.limits);
            let flags = limits.map(|(key, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("--{key} {text}")
            });
            notes.push(format!(
                "the plugin's author suggests {}; its manifest lowers no limit by itself",
                one_line(&flags.collect::<Vec<_>>().join(" "))
            ));
        }
        if self.models.iter().any(|model| model.offline) {
            notes.push("answers of the offline provider and of scripts cost nothing; real models cost more".to_owned());
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
                "typical_cost_usd": self.typical_of(model).and_then(|typical| typical.cost_usd),
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
            "suggested": self.suggested.as_ref().map(|worst| json!({"total": worst.document()})),
            "models": models.collect::<Vec<_>>(),
            "sub_agents": below(self.config, self.plugin),
            "typical": self.typical,
            "typical_total_cost_usd": self.typical_cost(),
            "estimate": self.estimate(),
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
        if let Some(estimate) = self.estimate() {
            page.push("\n\n").bold("estimate").push(format!(" {estimate}"));
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
            match (self.items, self.grouped) {
                (1, _) => String::new(),
                (_, None) => "one item".into(),
                (_, Some(_)) => "one task".into(),
            },
            &self.one,
        )];
        if self.items != 1 {
            kinds.push(Column::Right);
            let title = match self.grouped {
                None => format!("{} items", count(self.items)),
                Some(items) => format!("{} tasks ({})", count(self.items), counted(items, "items")),
            };
            columns.push(column(title, &self.all));
        }
        if let Some(suggested) = &self.suggested {
            kinds.push(Column::Right);
            columns.push(column("as suggested".into(), suggested));
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

    /// Returns the average use of a model in earlier runs.
    fn typical_of(&self, model: &Candidate) -> Option<&TypicalModel> {
        let mut models = self.typical.iter().flat_map(|typical| &typical.models);
        models.find(|typical| (&typical.name, &typical.model) == (&model.name, &model.model))
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
            let typical = self.typical_of(model).and_then(|typical| typical.cost_usd);
            let typical = typical.map_or_else(String::new, |usd| format!("; typically {usd}"));
            vec![
                format!("  {}", model.name),
                model.model.clone(),
                format!("{cost}{typical}"),
            ]
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
    fn row<T: Copy>(name: &str, spread: Spread<T>, show: impl Fn(T) -> String) -> Vec<String> {
        vec![name.to_owned(), show(spread.median), show(spread.p90)]
    }
    let unknown = || vec!["  cost".to_owned(), "unknown".into(), "unknown".into()];
    let rows = [
        vec![
            format!("typical case, from {}", typical.basis()),
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

/// Returns the model names that `plugin` can use within `limits`, and those of the plugins that it may start.
pub(super) fn models_below(config: &Config, plugin: &Plugin, limits: &Limits) -> BTreeSet<String> {
    let mut names = models_of(config, plugin);
    if starts_others(limits) {
        for (_, below) in plugin.sub_agents() {
            names.extend(models_below(config, below, limits));
        }
    }
    names
}

/// Returns whether a task within `limits` may start sub-tasks.
pub(crate) fn starts_others(limits: &Limits) -> bool {
    limits.tasks != Some(0) && limits.depth != Some(0)
}

/// Returns the model names that `plugin` itself can use.
pub(crate) fn models_of(config: &Config, plugin: &Plugin) -> BTreeSet<String> {
    match plugin.info().imports.iter().any(Import::is_llm) {
        true => plugin.models(config),
        false => BTreeSet::new(),
    }
}

/// Returns the most searches of a provider in one call of `plugin` or of a plugin below it.
fn searches_below(config: &Config, plugin: &Plugin, limits: &Limits) -> u64 {
    let tools = plugin.server_tools(config);
    let own = tools
        .get(ServerToolKind::WebSearch)
        .map_or(0, |grant| u64::from(grant.uses()));
    let below = plugin.sub_agents().filter(|_| starts_others(limits));
    let below = below.map(|(_, below)| searches_below(config, below, limits));
    below.fold(own, u64::max)
}

/// Returns the models behind these names, fallbacks included. One call makes at most so many `searches`.
fn candidates(config: &Config, names: &BTreeSet<String>, searches: u64) -> Result<Vec<Candidate>> {
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
                offline: matches!(kind, "offline" | "script"),
                searches,
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
