//! Code that the commands about registries share: the project they work on, and showing plugins before they are
//! accepted.

use serde_json::{Value, json};

use super::cache_dir::cache_home;
use super::global::Global;
use super::hints::hint;
use super::output::Printer;
use super::table::thousands;
use super::terminal::{Styled, indented};
use agenthost::PluginSource;
use agenthost::config::{Config, Env};
use agenthost::error::{Error, Result, with_causes};
use agenthost::limits::LimitKind;
use agenthost::limits::units::show_bytes;
use agenthost::llm::ServerToolGrants;
use agenthost::plugin::PluginInfo;
use agenthost::printable::one_line;
use agenthost::registry::asks::{Asks, Change};
use agenthost::registry::lock::{Locked, plugin_of};
use agenthost::registry::policy::{PolicyDecision, PolicyMax};
use agenthost::registry::project::{Found, Project};
use agenthost::registry::{Name, Reference, Requirement};

/// Opens the project of a configuration.
pub(super) fn project(config: &Config, env: &Env) -> Result<Project> {
    let cache = cache_home(env).map(|cache| cache.join("plugins"));
    let project = Project::open(config, env, cache)?;
    let plugins = agenthost_std::PLUGINS.into_iter();
    Ok(plugins.fold(project, |project, (name, component)| project.built_in(name, component)))
}

/// Opens the project that a command is about.
pub(super) fn open(global: &Global, env: &Env) -> Result<Project> {
    project(&global.config(env)?, env)
}

/// Prints a note that a plugin is fetched.
pub(super) fn note(locked: &Locked, printer: &Printer) {
    printer.note(&format!(
        "fetching {} {} from {} ({})",
        locked.name,
        locked.version,
        locked.source,
        show_bytes(locked.size)
    ));
}

/// A plugin that was found and not accepted yet.
pub(super) struct Offer {
    pub(super) found: Found,
    pub(super) verdict: PolicyDecision,
    pub(super) wanted: Requirement,
    /// The reason why it would not run at the moment, if vetting it would fix that.
    pub(super) pending: Option<Error>,
    /// The changes since it was last accepted; `None` if it never was.
    pub(super) changes: Option<Vec<Change>>,
    /// The maximum that the policies leave to it.
    pub(super) max: PolicyMax,
}

impl Offer {
    /// Finds the plugin that `reference` means, and applies the policies.
    pub(super) async fn find(project: &Project, reference: &Reference) -> Result<Self> {
        let found = project.find(reference).await?;
        let wanted = match reference {
            Reference::Named { requirement, .. } if !requirement.is_any() => requirement.clone(),
            // The same as cargo's bare version: any compatible one.
            _ => Requirement::compatible_with(&found.version),
        };
        Self::of(project, found, wanted)
    }

    /// Applies the policies. A plugin that they refuse even if it is vetted is an error.
    pub(super) fn of(project: &Project, found: Found, wanted: Requirement) -> Result<Self> {
        // Vetting comes later, so that the vetted bytes are the locked ones.
        let (verdict, pending) = match project.judge(&found, true) {
            Ok(verdict) => (verdict, None),
            Err(pending) => (project.judge(&found, false)?, Some(pending.into())),
        };
        let before = project.lock().get(&found.name);
        let signer = verdict.signer.as_ref().map(|(_, key)| key.to_string());
        let changes = before.map(|locked| locked.changes(&Asks::of(&found.plugin), signer));
        let max = project.policy().max(&found.plugin.id.name);
        Ok(Self {
            found,
            verdict,
            wanted,
            pending,
            changes,
            max,
        })
    }

    /// Returns whether it asks for more than was accepted, or was never accepted.
    pub(super) fn needs_word(&self) -> bool {
        match &self.changes {
            None => true,
            Some(changes) => changes.iter().any(|change| change.grows),
        }
    }

    /// Returns the page that a person reads before accepting it.
    pub(super) fn page(&self) -> Styled {
        let Found {
            name,
            version,
            source,
            plugin,
            ..
        } = &self.found;
        let mut page = Styled::default();
        page.bold(format!("{name} {version}"))
            .push(format!(" from {}", one_line(source)));
        let mut row = |label: &str, text: &str| {
            page.push(format!("\n  {label:<10} {}", indented(text, 13)));
        };
        if let Some(about) = plugin
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.description.as_deref())
        {
            row("about", about);
        }
        row("may do", &plugin.powers());
        row("models", &models(&Asks::of(plugin)));
        row("asks for", &limits(&Asks::of(plugin)));
        if let Some(tools) = server_tools(&Asks::of(plugin)) {
            row("tools", &tools);
        }
        if let Some(max) = max_of(&self.max) {
            row("policy max", &max);
        }
        for sub_agent in &plugin.sub_agents {
            row("sub-agent", &sub_agent.plugin.to_string());
        }
        row(
            "signed by",
            &match &self.verdict.signer {
                Some((name, key)) => format!("{name} ({key})"),
                None if self.found.signatures.is_empty() => "nobody".to_owned(),
                None => "keys that no policy names".to_owned(),
            },
        );
        row("digest", &plugin.digest.to_string());
        for note in &self.verdict.notes {
            row("note", note);
        }
        if let Some(changes) = &self.changes {
            match changes.as_slice() {
                [] => row("changes", "asks for nothing else than before"),
                changes => changes.iter().for_each(|change| row("changes", &change.to_string())),
            }
        }
        page
    }

    pub(super) fn document(&self) -> Value {
        let plugin = &self.found.plugin;
        json!({
            "name": self.found.name,
            "version": self.found.version,
            "source": self.found.source,
            "digest": plugin.digest,
            "size_bytes": plugin.size,
            "powers": plugin.powers(),
            "asks": Asks::of(plugin),
            "signer": self.verdict.signer.as_ref().map(|(name, key)| json!({"name": name, "key": key.to_string()})),
            "vetted_by": self.verdict.vetted_by,
            "runs": self.pending.is_none(),
            "missing": self.pending.as_ref().map(|pending| with_causes(pending)),
            "max": max_document(&self.max),
            "changes": self.changes.as_deref().map(changes_document),
        })
    }

    /// Prints what is still missing.
    pub(super) fn say_pending(&self, printer: &Printer) {
        if let Some(pending) = &self.pending {
            printer.note(&format!("before it runs: {}", with_causes(pending)));
            if let Some(hint) = hint(pending) {
                printer.say(&format!("hint: {hint}"));
            }
        }
    }
}

/// Returns changes as JSON.
pub(super) fn changes_document(changes: &[Change]) -> Value {
    let change = |change: &Change| json!({"what": change.what.to_string(), "old": change.old, "new": change.new, "grows": change.grows});
    changes.iter().map(change).collect()
}

/// Returns the model names that a plugin asks for, as text.
pub(super) fn models(asks: &Asks) -> String {
    let calls = asks
        .imports
        .iter()
        .any(|import| import.starts_with("agenthost:plugin/llm@"));
    match &asks.models {
        _ if !calls => "none (it calls no models)".to_owned(),
        None => "any name (it does not say which)".to_owned(),
        Some(names) if names.is_empty() => "none".to_owned(),
        Some(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// Returns the tools of providers that a plugin asks for, as text; `None` if it asks for none.
pub(super) fn server_tools(asks: &Asks) -> Option<String> {
    (!asks.server_tools.is_empty()).then(|| format!("{}, run by a provider if you grant it", asks.server_tools))
}

/// Returns the maximum that the policy allows a plugin, as text; `None` without a maximum.
pub(super) fn max_of(max: &PolicyMax) -> Option<String> {
    let limits = LimitKind::SETTABLE
        .into_iter()
        .filter_map(|limit| Some(format!("{} {}", limit.key(), max.limits.describe(limit)?)));
    let mut parts: Vec<_> = limits.collect();
    if let Some(models) = &max.models {
        let names: Vec<_> = models.iter().map(String::as_str).collect();
        parts.push(match names.as_slice() {
            [] => "no model".to_owned(),
            names => format!("models {}", names.join(", ")),
        });
    }
    parts.extend(max.server_tools().map(|tools| format!("tools {tools}")));
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Returns the maximum as JSON, with the keys of policy files.
pub(super) fn max_document(max: &PolicyMax) -> Value {
    let own = &max.limits;
    let limits = LimitKind::SETTABLE.into_iter().filter_map(|limit| {
        let value = match limit {
            LimitKind::Tokens => own.tokens?.into(),
            LimitKind::Calls => own.calls?.into(),
            LimitKind::Fuel => own.fuel?.into(),
            LimitKind::Tasks => own.tasks?.into(),
            LimitKind::Depth => own.depth?.into(),
            LimitKind::Time => format!("{:?}", own.timeout?).into(),
            other => Value::from(own.describe(other)?),
        };
        Some((limit.key().to_owned(), value))
    });
    json!({
        "limits": limits.collect::<serde_json::Map<_, _>>(),
        "models": max.models,
        "server-tools": max.server_tools().map(ServerToolGrants::with_uses),
    })
}

/// Returns the limits that a plugin asks for, as text.
pub(super) fn limits(asks: &Asks) -> String {
    let limit = |(key, value): (&String, &Value)| {
        let text = value
            .as_str()
            .map_or_else(|| thousands(&value.to_string()), str::to_owned);
        format!("{key} {text}")
    };
    match asks.limits.is_empty() {
        true => "the usual limits".to_owned(),
        false => asks.limits.iter().map(limit).collect::<Vec<_>>().join(", "),
    }
}

/// Finds the sub-agents of `offers`, at any depth, that the lock file needs and does not have.
pub(super) async fn along(project: &Project, config: &Config, offers: Vec<&Offer>) -> Result<Vec<Offer>> {
    let mut taken: Vec<Name> = offers.iter().map(|offer| offer.found.name.clone()).collect();
    let mut wanted: Vec<Reference> = Vec::new();
    for offer in offers {
        wanted.extend(missing_below(project, config, &offer.found.plugin, &taken));
    }
    let mut along = Vec::new();
    while let Some(reference) = wanted.pop() {
        let offer = Offer::find(project, &reference)
            .await
            .map_err(|error| error.context(&format!("sub-agent {reference}")))?;
        if !taken.contains(&offer.found.name) {
            taken.push(offer.found.name.clone());
            wanted.extend(missing_below(project, config, &offer.found.plugin, &taken));
            along.push(offer);
        }
    }
    Ok(along)
}

/// Returns the sub-agents of `plugin` that the lock file needs and does not have. Those that the configuration names as
/// a file or a crate are not needed.
fn missing_below(project: &Project, config: &Config, plugin: &PluginInfo, taken: &[Name]) -> Vec<Reference> {
    let wanted = plugin.sub_agents.iter().filter_map(|sub_agent| {
        let name = plugin_of(&sub_agent.import)?;
        let known = |name: &Name| project.lock().get(name).is_some() || taken.contains(name);
        let wanted = match config.sub_agents().get(&sub_agent.plugin.name) {
            Some(configured) => match PluginSource::configured(&sub_agent.plugin.name, configured).ok()? {
                PluginSource::Path(_) => return None,
                PluginSource::Reference(reference) => reference,
            },
            None => declared(plugin, name.clone()),
        };
        let name = match &wanted {
            Reference::Named { name, .. } => name,
            Reference::Oci(_) => &name,
        };
        (!known(name)).then_some(wanted)
    });
    wanted.collect()
}

/// Returns the reference that the manifest declares, if it is one; otherwise any version of `name`.
fn declared(plugin: &PluginInfo, name: Name) -> Reference {
    let declared = plugin
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.sub_agents.get(&name.to_string()))
        .and_then(Value::as_str)
        .filter(|text| Reference::looks_like_one(text))
        .and_then(|text| text.parse().ok());
    declared.unwrap_or(Reference::Named {
        name,
        requirement: Requirement::any(),
    })
}
