//! The tools of providers that a plugin may use: those that its manifest asks for, the operator grants, and all policies
//! allow, each within the narrowest bounds. A manifest that does not ask for a tool excludes it, whatever is granted.

use agenthost_config::{Config, Origin};
use agenthost_core::llm::{ServerToolGrants, ServerToolKind};
use agenthost_plugin::Plugin as PluginInfo;

/// What bounds the tools of a plugin, whatever is granted.
#[derive(Debug, Clone)]
pub(super) struct ToolCeiling {
    /// The tools that its manifest asks for.
    asked: ServerToolGrants,
    /// The ceilings of the policies.
    rules: Vec<ToolRule>,
}

/// The ceiling of one table of a policy file.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "registry"),
    allow(dead_code, reason = "policies belong to the registry")
)]
struct ToolRule {
    tools: ServerToolGrants,
    table: String,
    place: Origin,
}

/// The tools that the operator grants to a loaded plugin.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolGrant {
    /// The tools of the caller, which take precedence over those of the configuration.
    pub(super) given: ServerToolGrants,
    /// `true` if the configuration's grant is not meant for this plugin, because its folder is not trusted.
    pub(super) is_withheld: bool,
}

impl ToolCeiling {
    /// Returns the ceiling of a plugin's own manifest.
    pub(super) fn own(plugin: &PluginInfo) -> Self {
        Self {
            asked: plugin.server_tools(),
            rules: Vec::new(),
        }
    }

    /// Narrows the ceiling by those of the policies.
    #[cfg(feature = "registry")]
    pub(super) fn within(self, rules: &[agenthost_registry::policy::ServerToolRule]) -> Self {
        let rule = |rule: &agenthost_registry::policy::ServerToolRule| ToolRule {
            tools: rule.tools.clone(),
            table: rule.table.clone(),
            place: rule.place.clone(),
        };
        Self {
            rules: rules.iter().map(rule).collect(),
            ..self
        }
    }

    /// Returns the tools that `plugin` may use.
    pub(super) fn permitted(&self, plugin: &str, grant: &ToolGrant, config: &Config) -> ServerToolGrants {
        let granted = grant.granted(plugin, config).within(&self.asked);
        let narrowed = self.rules.iter().map(|rule| &rule.tools);
        narrowed.fold(granted, |granted, ceiling| granted.within(ceiling))
    }

    /// Returns why `plugin` may not use a tool that [`ToolCeiling::permitted`] does not have: the rule, and the line
    /// that would allow it.
    pub(super) fn refusal(&self, plugin: &str, grant: &ToolGrant, config: &Config, kind: ServerToolKind) -> String {
        if self.asked.get(kind).is_none() {
            return format!(
                "{plugin} uses {kind} and does not name it among its `server-tools` under [package.metadata.agenthost]; \
                 its author adds it there"
            );
        }
        let rule = |rule: &ToolRule| {
            let place = config.shown_at_home(&rule.place);
            format!("`server-tools` in [{}] of the policy ({place})", rule.table)
        };
        if let Some(refuses) = self.rules.iter().find(|rule| rule.tools.get(kind).is_none()) {
            return format!("{} allows {plugin} no {kind}", rule(refuses));
        }
        let section = config.grant_section(plugin, "server-tools");
        let granted = grant.granted(plugin, config);
        if granted.get(kind).is_none() {
            return match config.grant(plugin).server_tools.get(kind) {
                Some(_) => format!(
                    "{section} grants {kind} to the name {plugin}, but the folder of this plugin is not trusted; `agenthost \
                     trust` trusts it"
                ),
                None => format!(
                    "{plugin} is not granted {kind}; to allow it, add server-tools = {{ {kind} = {{}} }} to {section}"
                ),
            };
        }
        let mut left = granted.within(&self.asked);
        if left.get(kind).is_none() {
            return format!("{section} grants {plugin} none of the domains for {kind} that its manifest asks for");
        }
        for ceiling in &self.rules {
            left = left.within(&ceiling.tools);
            if left.get(kind).is_none() {
                return format!("{} leaves {plugin} no domain that is granted for {kind}", rule(ceiling));
            }
        }
        format!("{plugin} may not use {kind}")
    }
}

impl ToolGrant {
    /// Returns the tools that the operator grants.
    fn granted(&self, plugin: &str, config: &Config) -> ServerToolGrants {
        let mut granted = match self.is_withheld {
            true => ServerToolGrants::default(),
            false => config.grant(plugin).server_tools,
        };
        granted.0.extend(self.given.0.clone());
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_config::Env;

    const PLUGIN: &str = "demo:scan";
    const SEARCH: ServerToolKind = ServerToolKind::WebSearch;

    fn tools(json: &str) -> ServerToolGrants {
        serde_json::from_str(json).unwrap()
    }

    /// Returns the configuration of an operator with this text in their own file.
    fn config(text: &str) -> (Config, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(".config/agenthost");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("config.toml"), text).unwrap();
        let env = Env::new([].into(), dir.path().join("project"), Some(dir.path().to_owned()));
        (Config::load(&env).unwrap(), dir)
    }

    fn ceiling(asked: &str, rules: &[&str], config: &Config) -> ToolCeiling {
        let place = config.origin("models").unwrap();
        let rule = |json: &&str| ToolRule {
            tools: tools(json),
            table: "max".to_owned(),
            place: place.clone(),
        };
        ToolCeiling {
            asked: tools(asked),
            rules: rules.iter().map(rule).collect(),
        }
    }

    #[test]
    fn a_tool_is_asked_for_granted_and_allowed_or_refused_with_the_rule() {
        let any = r#"{"web-search": {}}"#;
        let a = r#"{"web-search": {"allowed-domains": ["a.com"]}}"#;
        let b = r#"{"web-search": {"allowed-domains": ["b.com"]}}"#;
        let granting = "server-tools = { web-search = { max-uses = 8, blocked-domains = [\"b.com\"] } }";
        for (asked, granted, rules, expected) in [
            (any, granting, &[][..], Ok("web-search (5 uses a call, not b.com)")),
            (
                r#"{"web-search": {"max-uses": 9}}"#,
                granting,
                &[any, r#"{"web-search": {"max-uses": 2}, "web-fetch": {}}"#],
                Ok("web-search (2 uses a call, not b.com)"),
            ),
            (a, granting, &[], Ok("web-search (5 uses a call, only a.com)")),
            (
                r#"{"web-fetch": {}}"#,
                granting,
                &[],
                Err(
                    "demo:scan uses web-search and does not name it among its `server-tools` under \
                     [package.metadata.agenthost]; its author adds it there",
                ),
            ),
            (
                any,
                granting,
                &[any, "{}"],
                Err(
                    "`server-tools` in [max] of the policy (~/.config/agenthost/config.toml:1) allows demo:scan no web-search",
                ),
            ),
            (
                any,
                "calls = 3",
                &[],
                Err(
                    "demo:scan is not granted web-search; to allow it, add server-tools = { web-search = {} } to \
                     [grants.\"demo:scan\"] (~/.config/agenthost/config.toml:3)",
                ),
            ),
            (
                b,
                granting,
                &[],
                Err(
                    "[grants.\"demo:scan\"] (~/.config/agenthost/config.toml:4) grants demo:scan none of the domains for \
                     web-search that its manifest asks for",
                ),
            ),
            (
                a,
                granting,
                &[any, b],
                Err(
                    "`server-tools` in [max] of the policy (~/.config/agenthost/config.toml:1) leaves demo:scan no domain \
                     that is granted for web-search",
                ),
            ),
        ] {
            let granted = match granted.starts_with("calls") {
                true => format!("limits.{granted}"),
                false => granted.to_owned(),
            };
            let text = format!("[models]\nfast = \"offline/any\"\n[grants.\"demo:scan\"]\n{granted}");
            let (config, _dir) = config(&text);
            let (ceiling, grant) = (ceiling(asked, rules, &config), ToolGrant::default());
            let permitted = ceiling.permitted(PLUGIN, &grant, &config);
            match expected {
                Ok(shown) => assert_eq!(permitted.to_string(), shown),
                Err(why) => {
                    assert_eq!(permitted.get(SEARCH), None, "{why}");
                    assert_eq!(ceiling.refusal(PLUGIN, &grant, &config, SEARCH), why);
                }
            }
        }
    }

    #[test]
    fn the_callers_tool_replaces_the_granted_one_and_a_strangers_plugin_gets_only_that() {
        let (config, _dir) = config(
            "[models]\nfast = \"offline/any\"\n[grants.\"demo:scan\"]\nserver-tools = [\"web-search\", \"web-fetch\"]",
        );
        let ceiling = ceiling(r#"{"web-search": {"max-uses": 50}, "web-fetch": {}}"#, &[], &config);
        let mut grant = ToolGrant {
            given: tools(r#"{"web-search": {"max-uses": 20}}"#),
            is_withheld: false,
        };
        let permitted = |grant: &ToolGrant| ceiling.permitted(PLUGIN, grant, &config).to_string();
        assert_eq!(
            permitted(&grant),
            "web-search (20 uses a call); web-fetch (5 uses a call)"
        );
        grant.is_withheld = true;
        assert_eq!(permitted(&grant), "web-search (20 uses a call)");
        assert_eq!(
            ceiling.refusal(PLUGIN, &grant, &config, ServerToolKind::WebFetch),
            "[grants.\"demo:scan\"] (~/.config/agenthost/config.toml:4) grants web-fetch to the name demo:scan, but the folder \
             of this plugin is not trusted; `agenthost trust` trusts it"
        );
        // Without a configured grant either, nothing is left.
        let none = ToolGrant::default();
        assert_eq!(ceiling.permitted("demo:other", &none, &config).to_string(), "none");
    }
}
