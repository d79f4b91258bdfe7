//! The keys of the models that a batch may call, checked before its first item.

use std::collections::BTreeSet;

use agenthost::config::Config;
use agenthost::error::{Error, Result};
use agenthost::limits::Limits;
use agenthost::{Host, Plugin};

use crate::budget::{models_of, starts_others};
use crate::output::Printer;

/// Refuses a plugin whose models lack a key: one that its manifest names, or all that it may use. Another model without
/// a key is reported.
pub(super) fn check(host: &Host, plugin: &Plugin, limits: &Limits, printer: &Printer) -> Result<()> {
    let mut noted = BTreeSet::new();
    check_tree(host.config(), plugin, starts_others(limits), &mut noted)?;
    for note in noted {
        printer.note(&note);
    }
    Ok(())
}

fn check_tree(config: &Config, plugin: &Plugin, starts: bool, noted: &mut BTreeSet<String>) -> Result<()> {
    let names = models_of(config, plugin);
    let manifest = plugin.info().manifest.as_ref();
    let is_named = manifest.is_some_and(|manifest| manifest.models.is_some());
    let mut lacking: Vec<(&String, Error)> = Vec::new();
    for name in &names {
        if let Some(error) = lacks_key(config, name) {
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
        .try_for_each(|(_, below)| check_tree(config, below, starts, noted))
}

/// Returns the first error if no model behind `name` has the key that it needs.
fn lacks_key(config: &Config, name: &str) -> Option<Error> {
    let mut first = None;
    for model in config.models().get(name)? {
        let key = config.key(&model.provider).map(|_| ());
        match key.and_then(|()| config.fields(&model.provider).map(|_| ())) {
            Ok(()) => return None,
            Err(error) => {
                first.get_or_insert(Error::from(error));
            }
        }
    }
    first
}
