//! The tools of providers, such as web search, that a project's file grants to a plugin.
//!
//! With such a tool, a model can write what it was given into a query, and pages of strangers reach it. So the operator
//! has to accept what a project's file grants beyond the operator's own grant for that plugin. A file that narrows what
//! was accepted need not be accepted again.
//!
//! A component states its own plugin name, and a file that narrows what the operator grants to a name need not be
//! accepted. So a plugin in the folder of such a file gets nothing for its name: only a folder that the operator trusts
//! counts, whichever file has the grant.

use std::fs;
use std::path::Path;

use super::dirs::{is_in_trusted_folder, shown_folder};
use super::record::{TrustRecord, TrustedServerTools, unaccepted};
use crate::config::Config;
use crate::error::TrustError;
use crate::origin::Origin;
use agenthost_core::printable::shell_word;

/// Checks the tools that a file grants to one plugin.
pub(super) fn check(config: &Config, asked: &TrustedServerTools, origin: &Origin) -> Result<(), TrustError> {
    let covers = |known: &TrustedServerTools| known.plugin == asked.plugin && known.tools.covers(&asked.tools);
    let known = |record: &TrustRecord| record.server_tools.iter().any(covers);
    let Some(changed) = unaccepted(config, origin, known)? else {
        return Ok(());
    };
    Err(TrustError::ServerTools {
        at: origin.clone(),
        file: config.env.shown(origin.file()),
        plugin: asked.plugin.clone(),
        tools: asked.tools.clone(),
        changed,
    })
}

/// Returns the tools that the operator has to accept, by plugin, with the place of each grant: those that are granted
/// by a file other than the operator's own, beyond what the operator's own grants.
pub(super) fn asked(config: &Config) -> impl Iterator<Item = (TrustedServerTools, &Origin)> {
    config.grants.iter().filter_map(|(plugin, grant)| {
        let origin = config.origin(&format!("grants.{plugin}.server-tools"))?;
        let is_own = config.user_file() == Some(origin.file());
        let own = config.own_server_tools.get(plugin);
        let is_covered = own.is_some_and(|own| own.covers(&grant.server_tools));
        let asked = TrustedServerTools {
            plugin: plugin.clone(),
            tools: grant.server_tools.clone(),
        };
        (!is_own && !is_covered && !asked.tools.is_empty()).then_some((asked, origin))
    })
}

/// Returns a note if the configuration grants tools to the name `plugin`, and the plugin at `path`, a component or a
/// crate's directory, is not in a folder that the operator trusts.
///
/// # Errors
///
/// [`Host`](agenthost_core::error::ErrorClass::Host) if the trust record cannot be read.
#[doc(hidden)]
pub fn withheld(config: &Config, plugin: &str, path: &Path) -> Result<Option<String>, TrustError> {
    let tools = config.grant(plugin).server_tools;
    let is_trusted = || match fs::canonicalize(path) {
        Ok(path) => is_in_trusted_folder(&config.env, &path),
        Err(_) => Ok(false),
    };
    if tools.is_empty() || is_trusted()? {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} calls itself {plugin}, but you do not trust its folder, so it does not get what {} grants that name: {tools}; \
         `agenthost trust {}` trusts it",
        config.env.shown(path),
        config.grant_section(plugin, "server-tools"),
        shell_word(&shown_folder(config, path)),
    )))
}
