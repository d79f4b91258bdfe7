//! The check, before the first item of a batch or a run of a schedule, of the models that it may call: keys, and prices
//! for an allowance in money.

use std::collections::BTreeSet;
use std::time::SystemTime;

use agenthost::allowance;
use agenthost::config::{AllowanceConfig, Config, Env, ModelRef, ProviderKind};
use agenthost::error::{Error, Result};
use agenthost::limits::{LimitOwner, Limits};
use agenthost::price::PriceTable;
use agenthost::{Host, Plugin};

use crate::budget::{models_below, models_of, starts_others};
use crate::output::Printer;

/// Refuses a plugin whose models lack a key or a price that is needed: one that its manifest names, or all that it may
/// use. Another model that lacks one is reported. The cost of a schedule is always limited.
pub(crate) fn check(
    host: &Host,
    plugin: &Plugin,
    limits: &Limits,
    schedule: Option<&str>,
    printer: &Printer,
) -> Result<()> {
    let mut noted = BTreeSet::new();
    let needs = Needs::of(host.config(), schedule)?;
    needs.check_tree(plugin, starts_others(limits), &mut noted)?;
    for note in noted {
        printer.note(&note);
    }
    Ok(())
}

/// Returns a setting of `[allowance]` of which nothing is left, if the plugin may call a model that counts.
pub(crate) fn used_up_allowance(
    host: &Host,
    plugin: &Plugin,
    limits: &Limits,
    env: &Env,
) -> Result<Option<LimitOwner>> {
    let config = host.config();
    let names = models_below(config, plugin, limits);
    let mut models = names.iter().filter_map(|name| config.models().get(name)).flatten();
    let (Some(state), true) = (env.state_dir(), models.any(|model| counts(config, model))) else {
        return Ok(None);
    };
    let all = allowance::status(config, &state, SystemTime::now())?;
    let used_up = all.into_iter().find(|status| status.used >= status.most);
    Ok(used_up.map(|status| LimitOwner::Allowance {
        key: status.key.to_owned(),
        project: status.project,
        schedule: status.schedule,
    }))
}

/// Returns the setting of `[allowance]` that bounds money, if there is one, with its place.
pub(crate) fn cost_allowance(config: &Config) -> Option<String> {
    let of = |limits: &AllowanceConfig| match (limits.cost_per_day, limits.cost_per_month) {
        (Some(_), _) => Some("cost-per-day"),
        (None, Some(_)) => Some("cost-per-month"),
        (None, None) => None,
    };
    let key = of(config.user_allowance()).or_else(|| of(config.project_allowance()))?;
    Some(format!("`{key}` under [allowance]"))
}

/// Returns the hint for a model without a known price, which a setting of [`cost_allowance`] needs.
pub(crate) fn unpriced_hint(setting: &str, model: &ModelRef) -> String {
    format!(
        "{}, or bound tokens instead of cost.",
        price_hint(setting, model).trim_end_matches('.')
    )
}

/// Returns the hint for a model without a known price, which a schedule needs: it has no bound but that on its cost.
fn price_hint(setting: &str, model: &ModelRef) -> String {
    format!("{setting} needs its price: set it in [prices.\"{model}\"].")
}

/// Returns whether the replies of a model count in the allowance.
pub(crate) fn counts(config: &Config, model: &ModelRef) -> bool {
    let provider = config.provider(&model.provider);
    provider.is_some_and(|provider| !matches!(provider.kind, ProviderKind::Offline | ProviderKind::Script { .. }))
}

/// The keys and prices that models need.
struct Needs<'a> {
    config: &'a Config,
    /// The prices, and the setting that needs them.
    prices: Option<(PriceTable, String)>,
    hint: fn(&str, &ModelRef) -> String,
}

impl<'a> Needs<'a> {
    fn of(config: &'a Config, schedule: Option<&str>) -> Result<Self> {
        let setting = match schedule {
            Some(name) => Some(format!("`cost-per-day` under [schedules.{name}]")),
            None => cost_allowance(config),
        };
        let prices = setting.map(|setting| Ok::<_, Error>((PriceTable::of(config)?, setting)));
        Ok(Self {
            config,
            prices: prices.transpose()?,
            hint: match schedule {
                Some(_) => price_hint,
                None => unpriced_hint,
            },
        })
    }

    fn check_tree(&self, plugin: &Plugin, starts: bool, noted: &mut BTreeSet<String>) -> Result<()> {
        let names = models_of(self.config, plugin);
        let manifest = plugin.info().manifest.as_ref();
        let is_named = manifest.is_some_and(|manifest| manifest.models.is_some());
        let mut lacking: Vec<(&String, Error)> = Vec::new();
        for name in &names {
            if let Some(error) = self.lack(name) {
                lacking.push((name, error));
            }
        }
        let all = lacking.len() == names.len();
        for (name, error) in lacking {
            if is_named || all {
                return Err(error.context(&format!("the model `{name}` of {}", plugin.id())));
            }
            noted.insert(format!("the model `{name}` cannot be used: {error}"));
        }
        plugin
            .sub_agents()
            .filter(|_| starts)
            .try_for_each(|(_, below)| self.check_tree(below, starts, noted))
    }

    /// Returns the first error if no model behind `name` has what it needs.
    fn lack(&self, name: &str) -> Option<Error> {
        let mut first = None;
        for model in self.config.models().get(name)? {
            match self.check(model) {
                Ok(()) => return None,
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        first
    }

    fn check(&self, model: &ModelRef) -> Result<()> {
        let config = self.config;
        config.key(&model.provider)?;
        config.fields(&model.provider)?;
        let Some((prices, setting)) = self.prices.as_ref().filter(|_| counts(config, model)) else {
            return Ok(());
        };
        let kind = config
            .provider(&model.provider)
            .map_or("", |provider| provider.kind.name());
        match prices.price(kind, &model.provider, &model.model) {
            Some(_) => Ok(()),
            None => Err(
                Error::config(format!("{model} has no known price, and {setting} is set"))
                    .with_hint((self.hint)(setting, model)),
            ),
        }
    }
}
