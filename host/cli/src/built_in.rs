//! The plugins that are part of this program.

use serde_json::json;

use super::output::Printer;
use super::table::{Column, columns, width};
use agenthost::error::Result;
use agenthost::plugin::PluginInfo;
use agenthost::registry::Reference;

/// Returns the component that a reference names, if it is part of this program.
pub(super) fn find(reference: &Reference) -> Option<&'static [u8]> {
    let Reference::Named { name, .. } = reference else {
        return None;
    };
    let found = agenthost_std::PLUGINS
        .into_iter()
        .find(|(known, _)| *known == name.to_string());
    found.map(|(_, component)| component)
}

/// Prints a line about each plugin.
pub(super) fn list(json: bool, printer: &Printer) -> Result<()> {
    let plugins = agenthost_std::PLUGINS
        .into_iter()
        .map(|(_, component)| Ok(PluginInfo::read(component)?))
        .collect::<Result<Vec<_>>>()?;
    let about = |plugin: &PluginInfo| {
        plugin
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.description.clone())
    };
    if json {
        let plugins = plugins.iter().map(|plugin| {
            json!({
                "name": plugin.id.name, "version": plugin.release(), "about": about(plugin), "powers": plugin.powers(),
                "digest": plugin.digest.to_string(), "size_bytes": plugin.size,
            })
        });
        return printer.data(&json!({"format": 1, "plugins": plugins.collect::<Vec<_>>()}));
    }
    let head = ["PLUGIN", "VERSION", "ABOUT"].map(str::to_owned).to_vec();
    let rows = plugins.iter().map(|plugin| {
        vec![
            plugin.id.name.clone(),
            plugin.release().unwrap_or_default().to_owned(),
            about(plugin).unwrap_or_default(),
        ]
    });
    let cells: Vec<_> = [head].into_iter().chain(rows).collect();
    printer.text(columns(
        &[Column::Left, Column::Left, Column::Cut],
        &cells,
        Some(width()),
    ))
}
