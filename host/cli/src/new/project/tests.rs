//! Tests of the templates and of writing them to disk.

use std::collections::BTreeMap;

use wit_parser::UnresolvedPackageGroup;

use super::*;

/// The kinds that are one plugin.
const KINDS: [Kind; 3] = [Kind::Leaf, Kind::Batch, Kind::Orchestrator];

fn name(text: &str) -> Name {
    Name::parse(text, None, false).unwrap()
}

fn files(kind: Kind, of: &str, member: bool) -> BTreeMap<String, String> {
    let files = kind.files(&name(of), &Sdk::Vendored, member).into_iter();
    files.map(|(place, text)| (place.display().to_string(), text)).collect()
}

#[test]
fn every_file_of_the_templates_is_used() {
    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/new/templates");
    let kinds = KINDS.into_iter().chain([Kind::Workspace]);
    for (kind, dir) in kinds.zip(["leaf", "batch", "orchestrator", "workspace"]) {
        let mut found = Vec::new();
        below(&root.join(dir), &mut found);
        let names = found
            .iter()
            .map(|path| path.strip_prefix(root.join(dir)).unwrap().to_str().unwrap());
        let mut names: Vec<_> = names.collect();
        let mut used: Vec<_> = kind.template().iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        used.sort_unstable();
        assert_eq!(names, used);
    }
}

#[test]
fn a_project_is_named_throughout() {
    for kind in KINDS {
        for (place, text) in files(kind, "acme:my-plugin-local", false) {
            assert!(!text.contains("local:"), "{kind:?} {place}");
            let rest = text.replace("my-plugin-local", "").replace("my_plugin_local", "");
            assert!(
                !rest.contains("my-plugin") && !rest.contains("my_plugin"),
                "{kind:?} {place}"
            );
            if place.ends_with(".wit") {
                let group = UnresolvedPackageGroup::parse(&place, &text).unwrap_or_else(|(_, e)| panic!("{e:?}"));
                let package = &group.main.name;
                assert_eq!(package.namespace, "acme");
                assert!(package.name.starts_with("my-plugin-local"), "{}", package.name);
            }
            if place.ends_with(".json") {
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
            if place.ends_with("Cargo.toml") {
                let manifest: Table = text.parse().unwrap();
                let own = &manifest["package"]["metadata"]["agenthost"];
                assert!(own["limits"].get("tokens").is_some(), "{kind:?} {place}");
            }
        }
    }
}

#[test]
fn the_readme_says_what_speaks_of_the_template() {
    for kind in KINDS {
        let files = files(kind, "acme:haiku", false);
        let (_, first) = files["README.md"]
            .split_once("\nTo make it a plugin of your own, ")
            .unwrap();
        for named in ["`description`", "`Cargo.toml`", "`input.json`", "`cassettes/README.md`"] {
            assert!(first.contains(named), "{kind:?}: {named} in {first}");
        }
        let record = &files["cassettes/README.md"];
        assert!(record.contains("--record cassettes/first.json"), "{kind:?}: {record}");
    }
}

#[test]
fn a_cassette_is_of_the_project_and_its_input() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::parse("acme:local-my", None, kind == Kind::Orchestrator).unwrap();
        write(kind, &name, &dir.path().join("x")).unwrap();
        let cassettes = agenthost::journal::cassette::of_plugin(&dir.path().join("x")).unwrap();
        let [(_, cassette)] = cassettes.as_slice() else {
            panic!("{kind:?}: {cassettes:?}");
        };
        let input = fs::read_to_string(dir.path().join("x/input.json")).unwrap();
        assert_eq!(
            cassette.input,
            serde_json::from_str::<serde_json::Value>(&input).unwrap()
        );
        assert_eq!(cassette.plugin, "acme:local-my@0.1.0");
        for task in &cassette.tasks[1..] {
            assert_eq!(task.plugin, "acme:local-my-expert@0.1.0", "{kind:?}");
        }
        assert_eq!(cassette.tasks.len(), if kind == Kind::Orchestrator { 3 } else { 1 });
    }
}

#[test]
fn the_code_is_short_and_has_a_test() {
    for kind in KINDS {
        for (place, text) in files(kind, "x", false)
            .iter()
            .filter(|(place, _)| place.ends_with("lib.rs"))
        {
            let (code, tests) = text.split_once("#[cfg(test)]").unwrap();
            assert!(code.lines().count() < 50, "{kind:?} {place}");
            assert!(
                code.starts_with("//! ") && tests.contains("#[test]"),
                "{kind:?} {place}"
            );
        }
    }
}

#[test]
fn an_orchestrator_has_the_interface_of_its_sub_agent() {
    let files = files(Kind::Orchestrator, "acme:scan", false);
    assert_eq!(files["wit/deps/scan-expert/world.wit"], files["expert/wit/world.wit"]);
    let manifest: Table = files["Cargo.toml"].parse().unwrap();
    let path = &manifest["package"]["metadata"]["agenthost"]["sub-agents"]["acme:scan-expert"]["path"];
    assert_eq!(path.as_str(), Some("expert"));
    assert!(files["src/lib.rs"].contains("use scan_expert as expert;"));
}

/// The plugins of a workspace.
const PATTERNS: [&str; 5] = ["heartbeat", "map", "recover", "research", "validate"];

#[test]
fn a_workspace_is_named_throughout() {
    let files = files(Kind::Workspace, "acme:local-team", false);
    for (place, text) in &files {
        assert!(!text.contains("local:") && !text.contains("my-workspace"), "{place}");
        if place.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
        if place.ends_with(".toml") {
            text.parse::<Table>().unwrap();
        }
    }
    assert!(files["README.md"].starts_with("# local-team\n"));
    for hidden in [".gitignore", "memory/.gitignore", ".github/workflows/agenthost.yml"] {
        assert!(files.contains_key(hidden), "{hidden}");
    }
    for plugin in PATTERNS {
        let file = |name: &str| &files[&format!("plugins/{plugin}/{name}")];
        assert!(
            files["README.md"].contains(&format!("| [{plugin}](plugins/{plugin}/")),
            "{plugin}"
        );
        let manifest: Table = file("Cargo.toml").parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(plugin));
        assert!(
            manifest["package"]["metadata"]["agenthost"]["limits"]
                .get("tokens")
                .is_some(),
            "{plugin}"
        );
        let (code, tests) = file("src/lib.rs").split_once("#[cfg(test)]").unwrap();
        assert!(code.lines().count() < 100, "{plugin}");
        assert!(code.starts_with("//! ") && tests.contains("#[test]"), "{plugin}");
    }
}

#[test]
fn the_cassettes_of_a_workspace_are_runs_of_its_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    let name = Name::parse_workspace("acme", None).unwrap();
    write(Kind::Workspace, &name, &at("acme")).unwrap();
    let mut plugins: Vec<_> = fs::read_dir(at("acme/plugins"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    plugins.sort();
    assert_eq!(plugins, PATTERNS);
    for plugin in PATTERNS {
        let cassettes = agenthost::journal::cassette::of_plugin(&at("acme/plugins").join(plugin)).unwrap();
        let input = fs::read_to_string(at(&format!("acme/inputs/{plugin}.json"))).unwrap();
        let input: serde_json::Value = serde_json::from_str(&input).unwrap();
        assert!(
            cassettes.iter().any(|(_, cassette)| cassette.input == input),
            "{plugin}"
        );
        for (_, cassette) in cassettes {
            assert_eq!(cassette.plugin, format!("acme:{plugin}@0.1.0"));
            for task in cassette.tasks.iter().skip(1) {
                assert_eq!(task.plugin, "agenthost:ask@0.1.0");
            }
        }
    }
}

#[test]
fn a_workspace_has_the_interface_of_the_plugin_that_it_starts() {
    let ask = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/std/ask/wit/world.wit");
    let files = files(Kind::Workspace, "x", false);
    assert_eq!(files["wit/deps/ask/world.wit"], fs::read_to_string(ask).unwrap());
}

#[test]
fn a_workspace_is_never_a_member_of_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    // Even where no copy of the SDK is made, as in its own repository.
    fs::create_dir_all(at("sdk")).unwrap();
    fs::create_dir_all(at("plugins")).unwrap();
    fs::write(at("sdk/Cargo.toml"), "[package]\nname = \"agenthost-sdk\"\n").unwrap();
    let version = sdk::VERSION;
    let root = format!("[workspace]\nmembers = [\"plugins/*\"]\n[workspace.package]\nversion = \"{version}\"\n");
    fs::write(at("Cargo.toml"), root).unwrap();
    let name = Name::parse_workspace("acme", None).unwrap();
    let error = write(Kind::Workspace, &name, &at("plugins/acme")).unwrap_err();
    assert!(error.to_string().ends_with("claims it as a member"), "{error}");
    write(Kind::Workspace, &name, &at("acme")).unwrap();
    let manifest = fs::read_to_string(at("acme/Cargo.toml")).unwrap();
    assert!(
        manifest.contains("path = \"../sdk\"") && !manifest.contains("vendor"),
        "{manifest}"
    );
}

#[test]
fn a_plugin_in_a_workspace_uses_its_sdk() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    let workspace = Name::parse_workspace("acme", None).unwrap();
    write(Kind::Workspace, &workspace, &at("acme")).unwrap();
    write(Kind::Orchestrator, &name("acme:advice"), &at("acme/plugins/advice")).unwrap();
    let manifest = |path: &str| fs::read_to_string(at("acme/plugins/advice").join(path)).unwrap();
    assert!(manifest("Cargo.toml").contains("{ path = \"../../vendor/agenthost-sdk\" }"));
    assert!(manifest("expert/Cargo.toml").contains("{ path = \"../../../vendor/agenthost-sdk\" }"));
    assert!(!manifest("Cargo.toml").contains("[workspace]") && !at("acme/plugins/advice/vendor").exists());

    // A project that the workspace does not claim, and one beside an SDK of another version, have a copy of their own.
    write(Kind::Leaf, &name("tool"), &at("acme/tool")).unwrap();
    assert!(at("acme/tool/vendor").exists());
    let sdk = at("acme/vendor/agenthost-sdk/Cargo.toml");
    let other = fs::read_to_string(&sdk).unwrap().replace(sdk::VERSION, "9.9.9");
    fs::write(&sdk, other).unwrap();
    let error = write(Kind::Leaf, &name("late"), &at("acme/plugins/late")).unwrap_err();
    assert!(error.to_string().ends_with("claims it as a member"), "{error}");
}

#[test]
fn a_workspace_around_it_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("plugins/deep")).unwrap();
    assert_eq!(claimant(&at("plugins/x")), None, "no workspace at all");
    fs::write(
        at("Cargo.toml"),
        "[workspace]\nmembers = [\"plugins/*\", \"tools/a?c-*\"]\nexclude = [\"plugins/old\"]\n",
    )
    .unwrap();
    for (place, expected) in [
        ("plugins/x", true),
        ("plugins/old", false),
        ("plugins/deep/x", false),
        ("x", false),
        ("tools/abc-", true),
        ("tools/abc-de", true),
        ("tools/ac-de", false),
    ] {
        assert_eq!(claimant(&at(place)).is_some(), expected, "{place}");
    }
    for kind in KINDS {
        let (alone, member) = (files(kind, "x", false), files(kind, "x", true));
        assert!(alone["Cargo.toml"].contains(NO_MEMBERS));
        assert!(alone["Cargo.toml"].contains("\n[workspace]\n") && alone["Cargo.toml"].contains("[profile.release]"));
        assert!(!member["Cargo.toml"].contains("[workspace]") && !member["Cargo.toml"].contains("[profile"));
    }
    let path = Kind::Leaf.files(&name("x"), &Sdk::Path("../sdk".into()), false);
    assert!(
        path.iter().all(|(_, text)| !text.contains("vendor")),
        "no copy, no trace of one"
    );
    let expert = |member| files(Kind::Orchestrator, "x", member)["expert/Cargo.toml"].contains("\n[workspace]\n");
    assert!(!expert(false) && expert(true));
}

#[test]
fn all_is_written_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    let own = write(Kind::Leaf, &name("haiku"), &at("haiku")).unwrap();
    assert!(own.contains(&PathBuf::from("wit/world.wit")) && at("haiku/wit/world.wit").is_file());
    assert!(at("haiku/vendor/agenthost-sdk/macros/plugin.wit").is_file());
    fs::write(at("haiku/mine"), "mine").unwrap();

    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("empty")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
    for taken in ["haiku", "file", "empty", "link"] {
        let error = write(Kind::Leaf, &name(taken), &at(taken)).unwrap_err();
        assert!(
            error.to_string().ends_with("there is something of that name"),
            "{error}"
        );
    }
    let error = write(Kind::Leaf, &name("x"), &at("nowhere/x")).unwrap_err();
    assert!(error.to_string().ends_with("nowhere: no such directory"), "{error}");
    assert_eq!(fs::read_to_string(at("haiku/mine")).unwrap(), "mine");
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["empty", "file", "haiku", "link"]);
}
