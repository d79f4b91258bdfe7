//! The tools of providers that a plugin may use: those that its manifest asks for, the operator grants, and all policies
//! allow, each within the narrowest bounds. A manifest that does not ask for a tool excludes it, whatever is granted.

use std::collections::BTreeMap;

use agenthost_config::{Config, Origin};
use agenthost_core::llm::{ServerToolGrants, ServerToolKind};
use agenthost_plugin::Plugin as PluginInfo;

/// The upper bound of the tools of a plugin, whatever is granted.
#[derive(Debug, Clone)]
pub(super) struct ToolCeiling {
    /// The tools that its manifest asks for, or the reason why they are invalid.
    asked: Result<ServerToolGrants, String>,
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
    /// The tools of the caller. They take precedence over those of the configuration, of which they keep the domains
    /// unless they name some.
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
        let Ok(asked) = &self.asked else {
            return ServerToolGrants::default();
        };
        let granted = grant.granted(plugin, config).within(asked);
        let narrowed = self.rules.iter().map(|rule| &rule.tools);
        narrowed.fold(granted, |granted, ceiling| granted.within(ceiling))
    }

    /// Returns why `plugin` may not use a tool that [`ToolCeiling::permitted`] does not have: the rule, and the line
    /// that would allow it.
    pub(super) fn refusal(&self, plugin: &str, grant: &ToolGrant, config: &Config, kind: ServerToolKind) -> String {
        const TABLE: &str = "`server-tools` under [package.metadata.agenthost]";
        let asked = match &self.asked {
            Ok(asked) => asked,
            Err(why) => {
                return format!("{plugin} gets no {kind}: its {TABLE} is invalid: {why}; its author corrects it");
            }
        };
        let Some(wish) = asked.get(kind) else {
            return format!("{plugin} uses {kind} and does not name it among its {TABLE}; its author adds it there");
        };
        let rule = |rule: &ToolRule| {
            let place = config.shown_at_home(&rule.place);
            format!("`server-tools` in [{}] of the policy ({place})", rule.table)
        };
        if let Some(refuses) = self.rules.iter().find(|rule| rule.tools.get(kind).is_none()) {
            return format!("{} allows {plugin} no {kind}", rule(refuses));
        }
        let section = config.grant_section(plugin, "server-tools");
        let granted = grant.granted(plugin, config);
        let Some(bounds) = granted.get(kind) else {
            return match config.grant(plugin).server_tools.get(kind) {
                Some(_) => format!(
                    "{section} grants {kind} to the name {plugin}, but the folder of this plugin is not trusted; `agenthost \
                     trust` trusts it"
                ),
                None => format!(
                    "{plugin} is not granted {kind}; to allow it, add server-tools = {{ {kind} = {{}} }} to {section}"
                ),
            };
        };
        let Some(mut left) = bounds.within(wish) else {
            let why = bounds.no_domain_left(wish);
            return format!("{section} grants {plugin} none of the domains for {kind} that its manifest asks for{why}");
        };
        for ceiling in &self.rules {
            let Some(bounds) = ceiling.tools.get(kind) else {
                continue;
            };
            match left.within(bounds) {
                Some(narrower) => left = narrower,
                None => {
                    let why = left.no_domain_left(bounds);
                    return format!(
                        "{} leaves {plugin} no domain that is granted for {kind}{why}",
                        rule(ceiling)
                    );
                }
            }
        }
        format!("{plugin} may not use {kind}")
    }
}

impl ToolGrant {
    /// Returns the tools that the operator grants.
    fn granted(&self, plugin: &str, config: &Config) -> ServerToolGrants {
        let configured = config.grant(plugin).server_tools;
        let given = self.given.0.iter().map(|(kind, given)| {
            let mut given = given.clone();
            let names_domains = !given.allowed_domains.is_empty() || !given.blocked_domains.is_empty();
            // Domains narrow, so those of a grant that is withheld hold as well.
            if let Some(configured) = configured.get(*kind).filter(|_| !names_domains) {
                given.allowed_domains.clone_from(&configured.allowed_domains);
                given.blocked_domains.clone_from(&configured.blocked_domains);
            }
            (*kind, given)
        });
        let given: BTreeMap<_, _> = given.collect();
        let mut granted = match self.is_withheld {
            true => ServerToolGrants::default(),
            false => configured,
        };
        granted.0.extend(given);
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
            asked: Ok(tools(asked)),
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
    fn a_domain_that_is_left_out_and_an_invalid_wish_are_named() {
        let (config, _dir) = config(
            "[models]\nfast = \"offline/any\"\n[grants.\"demo:scan\"]\nserver-tools = { web-search = { blocked-domains = \
             [\"x.a.com\"] } }",
        );
        let (refusal, grant) = (
            |ceiling: &ToolCeiling, grant: &ToolGrant| ceiling.refusal(PLUGIN, grant, &config, SEARCH),
            ToolGrant::default(),
        );
        let left_out =
            "; a.com is left out because x.a.com below it is blocked, and a provider takes only one of both lists";
        let a = r#"{"web-search": {"allowed-domains": ["a.com"]}}"#;
        for (asked, rules) in [(a, &[][..]), (r#"{"web-search": {}}"#, &[a][..])] {
            let ceiling = ceiling(asked, rules, &config);
            assert!(ceiling.permitted(PLUGIN, &grant, &config).is_empty());
            let why = refusal(&ceiling, &grant);
            assert!(why.ends_with(left_out), "{why}");
        }
        let broken = ToolCeiling {
            asked: Err("`web-serch` is not a tool of a provider".to_owned()),
            rules: Vec::new(),
        };
        assert!(broken.permitted(PLUGIN, &grant, &config).is_empty());
        assert_eq!(
            refusal(&broken, &grant),
            "demo:scan gets no web-search: its `server-tools` under [package.metadata.agenthost] is invalid: `web-serch` is not \
             a tool of a provider; its author corrects it"
        );
    }

    #[test]
    fn the_callers_number_of_uses_keeps_the_granted_domains() {
        let (config, _dir) = config(
            "[models]\nfast = \"offline/any\"\n[grants.\"demo:scan\"]\nserver-tools = { web-search = { max-uses = 2, \
             allowed-domains = [\"a.com\"] } }",
        );
        let ceiling = ceiling(r#"{"web-search": {"max-uses": 50}}"#, &[], &config);
        for (given, permitted) in [
            (
                r#"{"web-search": {"max-uses": 20}}"#,
                "web-search (20 uses a call, only a.com)",
            ),
            (r#"{"web-search": {}}"#, "web-search (5 uses a call, only a.com)"),
            (
                r#"{"web-search": {"allowed-domains": ["b.com"]}}"#,
                "web-search (5 uses a call, only b.com)",
            ),
        ] {
            for is_withheld in [false, true] {
                let given = tools(given);
                let grant = ToolGrant { given, is_withheld };
                let granted = ceiling.permitted(PLUGIN, &grant, &config).to_string();
                assert_eq!(granted, permitted, "{is_withheld}");
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
