//! `agenthost new --workspace` outside of the repository: what it makes builds, tests and runs as it is, without a key
//! and a network.

use std::path::{Path, PathBuf};

use agenthost::plugin::build;
use agenthost_tests::env::{Output, TestEnv};
use serde_json::{Value, json};

use super::new::{cargo, projects};

const PLUGINS: [&str; 5] = ["heartbeat", "map", "recover", "research", "validate"];

/// A machine with the workspace `acme`, without models but those that its configuration names.
fn workspace() -> (TestEnv, PathBuf) {
    let machine = projects().without("AGENTHOST_OFFLINE_MODELS");
    let made = machine.run(["new", "acme", "--workspace"]);
    assert_eq!(made.code, 0, "{made}");
    let dir = machine.cwd().join("acme");
    assert_eq!(made.stdout, format!("{}\n", dir.display()));
    (machine, dir)
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The commands in the blocks of a README that a shell runs.
fn commands(readme: &str) -> Vec<String> {
    let blocks = readme.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines.map(str::to_owned).collect()
}

/// Runs a command in the workspace, which must succeed.
fn ran(machine: &TestEnv, dir: &Path, command: &str) -> Output {
    let (output, _) = machine.shell(dir, command, 0);
    assert_eq!(output.code, 0, "{command}: {output}");
    output
}

#[test]
fn all_of_it_builds_tests_and_runs_as_it_is() {
    let (machine, dir) = workspace();
    build::install_target(&dir).unwrap();
    // Before anything is asked of it in time: the first build of the crates below the SDK takes minutes.
    cargo(&dir, &["build", "--workspace", "--release", "--target", build::TARGET]);
    cargo(&dir, &["test", "--workspace", "--quiet"]);
    for plugin in PLUGINS {
        cargo(&dir, &["fmt", "--package", plugin, "--check"]);
        let tested = ran(&machine, &dir, &format!("agenthost test plugins/{plugin}"));
        assert!(tested.stdout.contains("ok cassettes/first.json: "), "{tested}");
    }
    let commands = commands(&text(dir.join("README.md")));
    for plugin in PLUGINS {
        let run = format!("agenthost run plugins/{plugin} --input @inputs/{plugin}.json");
        assert!(commands.contains(&run), "{run} is not in {commands:?}");
    }
    for command in &commands {
        ran(&machine, &dir, command);
    }
    let labels = text(dir.join("labels.csv"));
    let tickets = text(dir.join("inputs/tickets.csv"));
    assert_eq!(labels.lines().count(), tickets.lines().count(), "{labels}");
    assert!(labels.lines().skip(1).all(|line| line.contains(",ok,")), "{labels}");

    let schedule = || -> Value {
        let listed = ran(&machine, &dir, "agenthost schedules --json").stdout;
        serde_json::from_str::<Value>(&listed).unwrap()["schedules"][0].clone()
    };
    let first = schedule();
    assert_eq!(
        (&first["name"], first["last"].is_object()),
        (&json!("heartbeat"), true),
        "{first}"
    );
    let findings: Value = serde_json::from_str(&text(dir.join("memory/findings.json"))).unwrap();
    assert_eq!(
        findings.as_object().unwrap().len(),
        3,
        "an item of the checklist is not remembered: {findings}"
    );
    let again = ran(&machine, &dir, "agenthost heartbeat --once");
    assert_eq!(schedule()["last"], first["last"], "it is not due yet: {again}");

    let show = ran(
        &machine,
        &dir,
        "agenthost run -q plugins/research --input @inputs/research.json && agenthost show last --json",
    );
    let shown: Value = serde_json::from_str(show.stdout.lines().last().unwrap()).unwrap();
    let tasks = shown["tasks"].as_array().unwrap().iter();
    let plugins: Vec<_> = tasks.map(|task| task["plugin"].as_str().unwrap()).collect();
    assert_eq!(plugins[0], "acme:research@0.1.0");
    assert_eq!(plugins[1..], ["agenthost:ask@0.1.0"; 3]);
}

#[test]
fn the_line_about_spending_is_that_of_the_configuration() {
    let machine = projects();
    let made = machine.run(["new", "acme", "--workspace"]);
    let config: toml::Table = text(machine.cwd().join("acme/agenthost.toml")).parse().unwrap();
    let most = config["allowance"]["cost-per-day"].as_str().unwrap();
    let line = format!("this workspace can spend at most {most}.00 a day");
    assert_eq!(made.stderr.lines().last(), Some(line.as_str()), "{made}");

    let document = machine.run(["new", "team:other", "--workspace", "--json"]).json(0);
    assert_eq!(document["id"], "team:*");
    assert_eq!(format!("${}", document["cost_per_day_usd"].as_f64().unwrap()), most);
    for file in document["files"].as_array().unwrap() {
        assert!(
            machine.cwd().join("other").join(file.as_str().unwrap()).is_file(),
            "{file}"
        );
    }
    assert_eq!(
        machine.run(["new", "one", "--json"]).json(0).get("cost_per_day_usd"),
        None
    );
}

#[test]
fn nothing_is_overwritten_and_names_are_those_of_plugins() {
    let machine = projects();
    machine.write("acme/mine", "mine");
    let taken = machine.redact(machine.run(["new", "acme", "--workspace"]).error(2));
    assert!(
        taken.starts_with("error: [work]/acme: there is something of that name\n"),
        "{taken}"
    );
    for (args, message) in [
        (
            ["My_Team", "--workspace"].as_slice(),
            "name `My_Team`: not in kebab-case",
        ),
        (&["wasi", "--workspace"], "namespace `wasi`: reserved"),
        (
            &["team", "--workspace", "--namespace", "list"],
            "namespace `list`: a keyword of WIT",
        ),
        (
            &["team", "--workspace", "--batch"],
            "the argument '--workspace' cannot be used with '--batch'",
        ),
    ] {
        let refused = machine.run([&["new"], args].concat());
        assert!(refused.error(2).contains(message), "{refused}");
    }
    machine.write("Cargo.toml", "[workspace]\nmembers = [\"teams/*\"]\n");
    std::fs::create_dir(machine.cwd().join("teams")).unwrap();
    let claimed = machine.run(["new", "blue", "--workspace", "--path", "teams"]);
    assert!(claimed.error(2).contains("claims it as a member"), "{claimed}");
    assert_eq!(std::fs::read_dir(machine.cwd().join("teams")).unwrap().count(), 0);
}

#[test]
fn its_author_trusts_it_and_others_are_asked() {
    let machine = projects();
    let user = machine.cwd().join("../config/agenthost");
    std::fs::create_dir_all(&user).unwrap();
    std::fs::write(user.join("config.toml"), "[limits]\ncost = 0.02\n").unwrap();
    assert_eq!(machine.run(["new", "acme", "--workspace"]).code, 0);
    let dir = machine.cwd().join("acme");
    let listed = ran(&machine, &dir, "agenthost trust --list").stdout;
    for accepted in [
        "acme/agenthost.toml",
        "builds crates in",
        "acme:heartbeat: may read and write",
        "schedule heartbeat",
    ] {
        assert!(listed.contains(accepted), "{accepted} in {listed}");
    }
    let limits = ran(&machine, &dir, "agenthost doctor || true").stdout;
    assert!(
        limits.contains("cost $0.02"),
        "the operator's own limit was lifted: {limits}"
    );

    let clone = machine.cwd().join("clone");
    ran(&machine, &machine.cwd(), "cp -r acme clone");
    let run = "agenthost run plugins/map --input @inputs/map.json";
    let (refused, _) = machine.shell(&clone, run, 0);
    assert_eq!(refused.code, 4, "{refused}");
}
