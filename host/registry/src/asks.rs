//! The rights that a plugin asks for, in a form that can be stored and compared.
//!
//! These are what a person accepts: the imports that reach something, the model names, the tools of
//! providers, the sub-agents and the limits.
//! They are read from the component. The imports and sub-agents are binding; the model names, tools and limits are
//! what the plugin's manifest declares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use agenthost_core::limits::{Limits, LimitsPatch};
use agenthost_core::llm::{ServerToolGrant, ServerToolGrants, ServerToolKind};
use agenthost_plugin::{Import, Plugin};

/// The rights that a plugin asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asks {
    /// The imports that reach something: all except types, WASI's inert interfaces and sub-agents.
    #[serde(default)]
    pub imports: BTreeSet<String>,
    /// The model names that it may use; `None` if it does not declare any, which allows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<BTreeSet<String>>,
    /// The tools that a provider may run for it, such as web search.
    #[serde(default, skip_serializing_if = "ServerToolGrants::is_empty")]
    pub server_tools: ServerToolGrants,
    /// The tasks of other plugins that it may start, as imported: `demo:compare/task@0.1.0`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sub_agents: BTreeSet<String>,
    /// The limits that its manifest suggests, in the manifest's syntax.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Value>,
}

impl Asks {
    /// Returns the rights that `plugin` asks for.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_plugin::Plugin;
    /// use agenthost_registry::asks::Asks;
    ///
    /// let before = Asks::of(&Plugin::read(&double())?);
    /// let now = Asks::of(&Plugin::read(&ask())?);
    /// let changes: Vec<_> = before.changes(&now).iter().map(ToString::to_string).collect();
    /// assert_eq!(changes[0], "+ import: agenthost:plugin/llm@0.1.0");
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(plugin: &Plugin) -> Self {
        let reaches = |import: &&Import| match import {
            Import::Types(_) | Import::Inert(_) | Import::SubAgent(_) => false,
            // These two give a plugin nothing.
            Import::Contract(name) => !["types", "shares"]
                .iter()
                .any(|harmless| name.starts_with(&format!("agenthost:plugin/{harmless}@"))),
            Import::Files(_) | Import::Refused(_) => true,
        };
        let manifest = plugin.manifest.as_ref();
        Self {
            imports: plugin
                .imports
                .iter()
                .filter(reaches)
                .map(|import| import.name().to_owned())
                .collect(),
            models: manifest.and_then(|manifest| manifest.models.clone()),
            // With an invalid list, it may use none.
            server_tools: plugin.server_tools().unwrap_or_default().with_uses(),
            sub_agents: plugin.sub_agents.iter().map(|sub| sub.import.clone()).collect(),
            limits: manifest.map_or_else(BTreeMap::new, |manifest| {
                manifest
                    .limits
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            }),
        }
    }

    /// Returns the limits that a task of the plugin would need: the declared ones, with a task's defaults for limits
    /// that are not declared or not valid.
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::task_default();
        for (key, value) in &self.limits {
            let mut patch = LimitsPatch::default();
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if patch.set(key, &text).is_ok() {
                limits = limits.overridden_by(&patch);
            }
        }
        limits
    }

    /// Returns the changes from `self` to `newer`, the most important kind first.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        sets(Asked::Import, &self.imports, &newer.imports, &mut changes);
        match (&self.models, &newer.models) {
            (Some(old), Some(new)) => sets(Asked::Model, old, new, &mut changes),
            (Some(old), None) => changes.push(Change {
                what: Asked::Model,
                old: Some(joined(old)),
                new: Some("any model name".to_owned()),
                grows: true,
            }),
            (None, Some(new)) => changes.push(Change {
                what: Asked::Model,
                old: Some("any model name".to_owned()),
                new: Some(joined(new)),
                grows: false,
            }),
            (None, None) => {}
        }
        server_tools(&self.server_tools, &newer.server_tools, &mut changes);
        sets(Asked::SubAgent, &self.sub_agents, &newer.sub_agents, &mut changes);
        let (before, after) = (self.limits(), newer.limits());
        for key in LimitsPatch::KEYS {
            let (old, new) = (self.limits.get(*key), newer.limits.get(*key));
            if old != new {
                changes.push(Change {
                    what: Asked::Limit((*key).to_owned()),
                    old: old.map(plain),
                    new: new.map(plain),
                    grows: grows(key, &before, &after),
                });
            }
        }
        changes
    }
}

/// Returns whether `after` allows more than `before` of one limit.
fn grows(key: &str, before: &Limits, after: &Limits) -> bool {
    fn more<T: PartialOrd>(before: Option<T>, after: Option<T>) -> bool {
        match (before, after) {
            (Some(before), Some(after)) => after > before,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
    match key {
        "tokens" => more(before.tokens, after.tokens),
        "cost" => more(before.cost, after.cost),
        "calls" => more(before.calls, after.calls),
        "fuel" => more(before.fuel, after.fuel),
        "memory" => more(before.memory, after.memory),
        "timeout" => more(before.timeout, after.timeout),
        "tasks" => more(before.tasks, after.tasks),
        "depth" => more(before.depth, after.depth),
        // A limit that this version does not know may mean anything.
        _ => true,
    }
}

fn joined(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "no model".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn sets(what: Asked, old: &BTreeSet<String>, new: &BTreeSet<String>, changes: &mut Vec<Change>) {
    let change = |old: Option<&String>, new: Option<&String>| Change {
        what: what.clone(),
        old: old.cloned(),
        new: new.cloned(),
        grows: new.is_some(),
    };
    changes.extend(new.difference(old).map(|name| change(None, Some(name))));
    changes.extend(old.difference(new).map(|name| change(Some(name), None)));
}

fn server_tools(old: &ServerToolGrants, new: &ServerToolGrants, changes: &mut Vec<Change>) {
    for kind in ServerToolKind::ALL {
        let (old, new) = (old.get(kind), new.get(kind));
        let covers = |one: Option<&ServerToolGrant>, other: Option<&ServerToolGrant>| match (one, other) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => one.covers(other),
        };
        let (grows, shrinks) = (!covers(old, new), !covers(new, old));
        if grows || shrinks {
            changes.push(Change {
                what: Asked::ServerTool(kind),
                old: old.map(ToString::to_string),
                new: new.map(ToString::to_string),
                grows,
            });
        }
    }
}

/// The subject of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// An import that reaches something.
    Import,
    /// A model name.
    Model,
    /// A tool that a provider runs.
    ServerTool(ServerToolKind),
    /// The task of another plugin.
    SubAgent,
    /// A limit, by its key.
    Limit(String),
    /// The key that signed the plugin, which is not a right.
    Signer,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import => f.write_str("import"),
            Self::Model => f.write_str("model name"),
            Self::ServerTool(kind) => write!(f, "tool {kind}"),
            Self::SubAgent => f.write_str("sub-agent"),
            Self::Limit(key) => write!(f, "limit {key}"),
            Self::Signer => f.write_str("signer"),
        }
    }
}

/// A change between two releases of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The subject of the change.
    pub what: Asked,
    /// The old value; `None` if there was none.
    pub old: Option<String>,
    /// The new value; `None` if there is none.
    pub new: Option<String>,
    /// `true` if the new value is more than was accepted.
    pub grows: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.old, &self.new) {
            (None, Some(new)) => write!(f, "+ {}: {new}", self.what),
            (Some(old), None) if self.grows => write!(f, "+ {}: {old} -> none stated", self.what),
            (Some(old), None) => write!(f, "- {}: {old}", self.what),
            (Some(old), Some(new)) => write!(
                f,
                "{} {}: {old} -> {new}",
                if self.grows { '+' } else { '-' },
                self.what
            ),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asks(models: Option<&[&str]>, limits: Value) -> Asks {
        Asks {
            imports: ["agenthost:plugin/llm@0.1.0".to_owned()].into(),
            models: models.map(|models| models.iter().map(|name| (*name).to_owned()).collect()),
            server_tools: ServerToolGrants::default(),
            sub_agents: BTreeSet::new(),
            limits: serde_json::from_value(limits).unwrap(),
        }
    }

    fn said(old: &Asks, new: &Asks) -> Vec<(String, bool)> {
        old.changes(new)
            .iter()
            .map(|change| (change.to_string(), change.grows))
            .collect()
    }

    #[test]
    fn more_is_told_from_less() {
        let old = asks(Some(&["fast"]), json!({"tokens": "40k", "calls": 12}));
        let mut new = asks(Some(&["fast", "strong"]), json!({"tokens": "80k", "calls": 6}));
        new.imports.insert("wasi:filesystem/types@0.2.6".into());
        new.sub_agents.insert("demo:compare/task@0.1.0".into());
        assert_eq!(
            said(&old, &new),
            [
                ("+ import: wasi:filesystem/types@0.2.6".to_owned(), true),
                ("+ model name: strong".to_owned(), true),
                ("+ sub-agent: demo:compare/task@0.1.0".to_owned(), true),
                ("+ limit tokens: 40k -> 80k".to_owned(), true),
                ("- limit calls: 12 -> 6".to_owned(), false),
            ]
        );
        assert!(
            new.changes(&old).iter().filter(|change| change.grows).count() == 1,
            "only the calls grow"
        );
        assert_eq!(old.changes(&old), []);
    }

    #[test]
    fn saying_nothing_is_asking_for_anything() {
        let (some, none) = (asks(Some(&["fast"]), json!({"tokens": "40k"})), asks(None, json!({})));
        assert_eq!(
            said(&some, &none),
            [
                ("+ model name: fast -> any model name".to_owned(), true),
                ("+ limit tokens: 40k -> none stated".to_owned(), true),
            ]
        );
        assert!(none.changes(&some).iter().all(|change| !change.grows));
        let much = asks(None, json!({"tokens": "2M"}));
        assert!(
            none.changes(&much).iter().all(|change| change.grows),
            "more than the default"
        );
    }

    #[test]
    fn another_tool_more_uses_and_other_domains_are_more() {
        let tools = |value: Value| Asks {
            server_tools: serde_json::from_value(value).unwrap(),
            ..asks(None, json!({}))
        };
        let none = tools(json!({}));
        let five = tools(json!({"web-search": {"max-uses": 5}}));
        let mine = tools(json!({"web-search": {"allowed-domains": ["a.com"]}}));
        let two = |more: &str, less: &str| {
            let plus = format!("+ tool web-search: {less} -> {more}");
            let minus = format!("- tool web-search: {more} -> {less}");
            (vec![(plus, true)], vec![(minus, false)])
        };
        assert_eq!(
            said(&none, &five),
            [("+ tool web-search: 5 uses a call".to_owned(), true)]
        );
        assert_eq!(
            said(&five, &none),
            [("- tool web-search: 5 uses a call".to_owned(), false)]
        );
        for (less, more) in [
            (&five, tools(json!({"web-search": {"max-uses": 6}}))),
            (
                &mine,
                tools(json!({"web-search": {"allowed-domains": ["a.com", "b.com"]}})),
            ),
            (&mine, five.clone()),
        ] {
            let (old, new) = (&less.server_tools, &more.server_tools);
            let shown = |tools: &ServerToolGrants| tools.get(ServerToolKind::WebSearch).unwrap().to_string();
            let (grows, shrinks) = two(&shown(new), &shown(old));
            assert_eq!((said(less, &more), said(&more, less)), (grows, shrinks));
        }
        // Other domains are more, whichever side is called the newer.
        let other = tools(json!({"web-search": {"allowed-domains": ["b.com"]}}));
        assert!(
            mine.changes(&other)
                .iter()
                .chain(&other.changes(&mine))
                .all(|change| change.grows)
        );
        assert_eq!(
            said(&five, &tools(json!({"web-search": {}}))),
            [],
            "five is the default"
        );
        let both = tools(json!({"web-search": {}, "web-fetch": {"max-uses": 1}}));
        assert_eq!(
            said(&five, &both),
            [("+ tool web-fetch: 1 use a call".to_owned(), true)]
        );
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut asks = asks(Some(&[]), json!({"cost": 0.5, "timeout": "2m"}));
        let text = toml::to_string(&asks).unwrap();
        assert!(!text.contains("server-tools"), "{text}");
        assert_eq!(toml::from_str::<Asks>(&text).unwrap(), asks, "as of an older version");
        asks.server_tools = serde_json::from_value(
            json!({"web-search": {"max-uses": 3, "blocked-domains": ["a.com"]}, "web-fetch": {}}),
        )
        .unwrap();
        let text = toml::to_string(&asks).unwrap();
        assert_eq!(toml::from_str::<Asks>(&text).unwrap(), asks);
    }
}
