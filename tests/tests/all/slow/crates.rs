//! Crates of plugins are built and run.

use agenthost_tests::guests::{plugin, workspace};
use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::{guest, machine, machine_for};

#[test]
fn a_crate_directory_is_built_and_run() {
    let machine = machine();
    let competitor = workspace().join("plugins/competitor").display().to_string();
    // So that no two tests build it at the same time.
    let built = guest("competitor");
    let input = format!("@{competitor}/input.json");
    let from_crate = machine.run(["run", &competitor, "--input", &input]).json(0);
    let from_file = machine.run(["run", &built, "--input", &input]).json(0);
    assert_eq!(
        from_crate, from_file,
        "the offline provider answers the same every time"
    );
    assert_eq!(from_crate["company"], "Acme Robotics, Zurich");
    for field in ["summary", "findings", "confidence"] {
        assert!(!from_crate[field].is_null(), "{field}");
    }
    let inspected = machine.run(["inspect", &built, "--json"]).json(0);
    let text = inspected.to_string();
    for part in [
        "demo:competitor",
        "sha256:",
        "agenthost:plugin/llm@0.1.0",
        "One company to look into.",
    ] {
        assert!(text.contains(part), "{part}: {inspected}");
    }
}

#[test]
fn a_crate_names_its_sub_agents_in_its_manifest() {
    let machine = machine_for("");
    let crate_dir = workspace().join("plugins/market-scan").display().to_string();
    let market = json!({"companies": ["Acme"], "questions": []}).to_string();
    let document = machine.run(["run", &crate_dir, "-i", &market, "--json"]).json(0);
    let plugins: Vec<_> = document["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["plugin"])
        .collect();
    assert_eq!(
        plugins,
        ["demo:market-scan@0.2.0", "demo:competitor@0.2.0", "demo:compare@0.2.0"]
    );
    // The flag overrides the manifest.
    let fails = format!("demo:competitor={}", guest("competitor-fails"));
    let market = json!({"companies": ["fail"], "questions": []}).to_string();
    let document = machine
        .run(["run", &crate_dir, "-i", &market, "--json", "--with", &fails])
        .json(1);
    assert_eq!(document["outcome"]["failure"]["message"], "as asked");
}

#[test]
fn a_plugin_of_one_file_answers_in_its_own_types() {
    let title = plugin("title").display().to_string();
    let wit = machine().run([
        "build",
        &format!("{}/plugins/title", workspace().display()),
        "--emit-wit",
    ]);
    assert!(
        wit.stdout
            .starts_with("/// Finds a title for a text.\npackage demo:title@0.1.0;\n"),
        "{wit}"
    );
    let answer = json!({"best": "Early Bees", "others": ["A", "B", "C"]});
    let server = Server::start({
        let answer = answer.to_string();
        move |_| Reply::text(&answer)
    });
    let machine = machine_for(&server.config());
    let output = machine.run([
        "run",
        &title,
        "--input",
        r#"{"body": "The bees came.", "tone": "playful"}"#,
    ]);
    assert_eq!(output.json(0), answer);
    assert!(server.ended()[0].prompt().contains("It makes people curious."));
}
