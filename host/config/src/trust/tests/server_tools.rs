//! Grants of tools of a provider: those of a project's file, and those of the operator to a project's plugin.

use super::*;
use crate::trust::server_tools;

/// A project that grants tools of a provider to a plugin.
fn searching(tools: &str) -> Scratch {
    Scratch::project(&format!("[grants.\"demo:scan\"]\nserver-tools = {tools}"))
}

#[test]
fn a_projects_grant_of_a_tool_needs_trust_and_less_of_it_does_not() {
    let scratch = searching("{ web-search = { max-uses = 3 } }");
    assert_eq!(scratch.load_error().class(), ErrorClass::Denied);
    assert_eq!(
        scratch.complaint(),
        "agenthost.toml:2: demo:scan could use tools of a provider, to which a model can pass what it was given: \
         web-search (3 uses a call)\n\
         Read agenthost.toml, then trust it if the plugin may use them."
    );
    let record = accept(&scratch.env(), Path::new(FILE)).unwrap();
    let shown: Vec<_> = record
        .server_tools
        .iter()
        .map(|asked| asked.tools.to_string())
        .collect();
    assert_eq!(shown, ["web-search (3 uses a call)"]);
    assert_eq!(list(&scratch.env()).unwrap(), [record], "it is read as it was written");
    let granted = |tools: &str| {
        scratch.write(
            "project/agenthost.toml",
            &format!("# moved\n[grants.\"demo:scan\"]\nserver-tools = {tools}"),
        );
        Config::load(&scratch.env()).map(|config| config.grant("demo:scan").server_tools.to_string())
    };
    for (narrower, shown) in [
        ("{ web-search = { max-uses = 3 } }", "web-search (3 uses a call)"),
        (
            "{ web-search = { max-uses = 2, allowed-domains = [\"a.com\"] } }",
            "web-search (2 uses a call, only a.com)",
        ),
        ("{}", "none"),
        ("[]", "none"),
    ] {
        assert_eq!(granted(narrower).unwrap(), shown, "{narrower}");
    }
    for wider in ["[\"web-search\"]", "{ web-search = { max-uses = 3 }, web-fetch = {} }"] {
        let error = granted(wider).unwrap_err().to_string();
        assert!(
            error.ends_with("; this is not what was accepted for the file before"),
            "{error}"
        );
    }
    assert!(!is_fine(&Scratch::project(
        "[grants.\"demo:scan\".server-tools.web-fetch]"
    )));
    let own = Scratch::new().user("[grants.\"demo:scan\"]\nserver-tools = [\"web-search\"]");
    assert_eq!(
        own.load().grant("demo:scan").server_tools.to_string(),
        "web-search (5 uses a call)"
    );
    assert!(own.load().grant("demo:other").server_tools.is_empty());
}

#[test]
fn a_project_narrows_the_operators_tools_and_lifts_them_only_with_trust() {
    let user = "[grants.\"demo:scan\"]\nserver-tools = { web-search = { max-uses = 4 } }";
    let load = |tools: &str| searching(tools).user(user);
    for (given, granted) in [
        ("[]", "none"),
        ("{ web-search = { max-uses = 2 } }", "web-search (2 uses a call)"),
        (
            "{ web-search = { max-uses = 4, blocked-domains = [\"a.com\"] } }",
            "web-search (4 uses a call, not a.com)",
        ),
    ] {
        let config = load(given).load();
        assert_eq!(config.grant("demo:scan").server_tools.to_string(), granted, "{given}");
        assert!(config.notes().is_empty(), "{given}");
        assert_eq!(
            config.grant_section("demo:scan", "server-tools"),
            "[grants.\"demo:scan\"] (agenthost.toml:2)"
        );
    }
    let scratch = load("{ web-search = { max-uses = 9, allowed-domains = [\"a.com\"] }, web-fetch = {} }");
    let config = scratch.load();
    let shown = |config: &Config| config.grant("demo:scan").server_tools.to_string();
    assert_eq!(
        shown(&config),
        "web-search (4 uses a call, only a.com)",
        "the stricter of both"
    );
    assert_eq!(
        config.notes(),
        [
            "agenthost.toml:2: grants.demo:scan.server-tools is web-search (4 uses a call, only a.com), not web-search \
             (9 uses a call, only a.com); web-fetch (5 uses a call), because of your web-search (4 uses a call); `agenthost \
             trust agenthost.toml` lifts it"
        ]
    );
    assert_eq!(
        config.grant_section("demo:scan", "server-tools"),
        "[grants.\"demo:scan\"] (~/.config/agenthost/config.toml:2)"
    );
    let record = accept(&scratch.env(), Path::new(FILE)).unwrap();
    assert_eq!((record.lifts.len(), record.server_tools.len()), (1, 1));
    assert_eq!(
        shown(&scratch.load()),
        "web-search (9 uses a call, only a.com); web-fetch (5 uses a call)"
    );
    for (own, granted) in [
        (
            "server-tools = { web-search = { allowed-domains = [\"b.com\"] } }",
            "web-search (5 uses a call, only b.com)",
        ),
        ("models = []", "entry without tools"),
    ] {
        let held = searching("{ web-search = { max-uses = 3, allowed-domains = [\"a.com\"] } }");
        let config = held.user(&format!("[grants.\"demo:scan\"]\n{own}")).load();
        assert!(config.grant("demo:scan").server_tools.is_empty());
        let note = config.notes().concat();
        let said = format!("is none, not web-search (3 uses a call, only a.com), because of your {granted}; ");
        assert!(note.contains(&said), "{note}");
    }
    // An entry that does not name the tools grants none, as for directories.
    let silent = Scratch::project("[grants.\"demo:scan\"]\nmodels = []").user(user);
    assert!(silent.load().grant("demo:scan").server_tools.is_empty());
}

#[test]
fn a_project_takes_no_tool_that_the_operator_grants_to_a_name() {
    let user = "[grants.\"demo:scan\"]\nserver-tools = { web-search = { max-uses = 4 } }";
    for tools in ["{ web-search = { max-uses = 4 } }", "{ web-search = { max-uses = 1 } }"] {
        // The file grants nothing beyond the operator's own, so it needs no trust, but its plugins do.
        let scratch = searching(tools).user(user);
        scratch.write("project/evil.wasm", "");
        let (config, plugin) = (scratch.load(), scratch.env().cwd().join("evil.wasm"));
        let withheld = || server_tools::withheld(&config, "demo:scan", &plugin).unwrap();
        let note = withheld().expect("the folder is not trusted");
        assert!(
            note.starts_with("evil.wasm calls itself demo:scan, but you do not trust its folder, so it does not get"),
            "{note}"
        );
        assert_eq!(server_tools::withheld(&config, "demo:other", &plugin).unwrap(), None);
        accept(&scratch.env(), Path::new(FILE)).unwrap();
        assert_eq!(withheld(), None);
        assert!(
            server_tools::withheld(&config, "demo:scan", "/gone.wasm".as_ref())
                .unwrap()
                .is_some()
        );
    }
}
