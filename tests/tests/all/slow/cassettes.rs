//! Cassettes: recorded beside a run, committed with a plugin, played to it offline.

use std::path::{Path, PathBuf};

use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::{guests, plugin, workspace};
use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, machine, machine_for, questions};

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_string_pretty(value).unwrap()).unwrap();
}

/// The changes in the only cassette, by kind.
fn kinds(machine: &TestEnv, code: i32) -> Vec<String> {
    let document = machine.run(["test", "edited", "--json"]).json(code);
    let changes = document["cassettes"][0]["changes"].as_array().unwrap();
    let kinds = changes.iter().map(|change| change["kind"].as_str().unwrap().to_owned());
    kinds.collect()
}

/// A copy of the plugin `competitor` outside of the workspace, under a name of its own.
fn edited(machine: &TestEnv, prompt: &str) -> PathBuf {
    let from = workspace().join("plugins/competitor");
    let to = machine.cwd().join("edited");
    for dir in ["src", "wit", "cassettes", ".cargo"] {
        std::fs::create_dir_all(to.join(dir)).unwrap();
    }
    for file in ["wit/world.wit", "cassettes/first.json"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    std::fs::copy(workspace().join("Cargo.lock"), to.join("Cargo.lock")).unwrap();
    let sdk = workspace().join("sdk");
    // The packages are built already.
    let target = guests().path("competitor").parent().unwrap().parent().unwrap();
    std::fs::write(
        to.join(".cargo/config.toml"),
        format!("[build]\ntarget-dir = {target:?}\n"),
    )
    .unwrap();
    std::fs::write(
        to.join("Cargo.toml"),
        format!(
            "[workspace]\n[package]\nname = \"edited\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nagenthost-sdk = {{ path = {sdk:?} }}\n\
             [package.metadata.agenthost.limits]\ntokens = 100\ncalls = 12\n"
        ),
    )
    .unwrap();
    let source = std::fs::read_to_string(from.join("src/lib.rs")).unwrap();
    let changed = source.replace("\"Answer the question about the company.\"", &format!("{prompt:?}"));
    assert_ne!(source, changed);
    std::fs::write(to.join("src/lib.rs"), changed).unwrap();
    let trusted = machine.run(["trust", "edited"]);
    assert_eq!(trusted.code, 0, "{trusted}");
    to
}

#[test]
fn the_cassettes_of_the_examples_pass_without_key_configuration_and_network() {
    let machine = machine().cache(env!("CARGO_TARGET_TMPDIR"));
    for name in ["competitor", "market-scan", "triage", "publish", "desk"] {
        plugin(name);
        let dir = workspace().join("plugins").join(name).display().to_string();
        let output = machine.run(["test", &dir]);
        assert_eq!(output.code, 0, "{output}");
        assert!(output.stdout.starts_with("ok cassettes/first.json: "), "{output}");
        assert_eq!(output.stderr.lines().last(), Some("1 passed, 0 failed"), "{output}");
    }
}

#[test]
fn a_changed_plugin_fails_until_the_change_is_accepted() {
    let machine = machine().cache(env!("CARGO_TARGET_TMPDIR"));
    let dir = edited(&machine, "Answer the question about the company in one word.");
    let file = dir.join("cassettes/first.json");
    let before = read(&file);

    let failed = machine.run(["test", "edited"]);
    assert_eq!(failed.code, 1, "{failed}");
    for part in [
        "FAILED cassettes/first.json: 7 calls, ",
        "\n  root, ask 0: the model is asked something else\n",
        "\n    -Answer the question about the company.\n    +Answer the question about the company in one word.\n",
    ] {
        assert!(failed.stdout.contains(part), "{part:?} in {failed}");
    }
    assert!(failed.stderr.contains("run it again with --update"), "{failed}");
    // Each question is asked twice, as searching is not granted.
    assert_eq!(kinds(&machine, 1), ["request"; 6]);
    assert_eq!(read(&file), before, "nothing is written unasked");

    let updated = machine.run(["test", "edited", "--update"]);
    assert_eq!(updated.code, 0, "{updated}");
    assert!(updated.stdout.starts_with("updated cassettes/first.json"), "{updated}");
    let after = read(&file);
    assert_eq!(kinds(&machine, 0), [""; 0]);
    let ask = |of: &Value| of["tasks"][0]["asks"][0].clone();
    assert_ne!(ask(&before)["request"], ask(&after)["request"]);
    let reply = |of: &Value| of["tasks"][0]["asks"][3]["reply"].clone();
    assert_eq!(reply(&before), reply(&after));
    assert_ne!(reply(&before), Value::Null);
    for kept in ["seed", "clock-ms", "input"] {
        assert_eq!(before[kept], after[kept]);
    }

    // An edited reply is what the plugin gets.
    let mut changed = after.clone();
    changed["tasks"][0]["asks"][6]["reply"]["json"]["confidence"] = json!(0.25);
    write(&file, &changed);
    assert_eq!(kinds(&machine, 1), ["outcome"]);
    let shown = machine.run(["test", "edited"]);
    assert!(shown.stdout.contains("    +  \"confidence\": 0.25,\n"), "{shown}");

    // Ceilings are kept to.
    let mut changed = after.clone();
    changed["expect"]["fuel"] = json!(1_000);
    changed["expect"]["tokens"] = json!(10);
    write(&file, &changed);
    assert_eq!(kinds(&machine, 1), ["fuel", "tokens"]);
    assert_eq!(machine.run(["test", "edited", "--update", "-q"]).code, 0);
    assert!(read(&file)["expect"]["fuel"].as_u64() > Some(100_000));

    // A request that the cassette cannot answer cannot be accepted, and the test ends all the same.
    let mut changed = after.clone();
    changed["input"]["questions"]
        .as_array_mut()
        .unwrap()
        .push(json!("What else?"));
    write(&file, &changed);
    let kinds = kinds(&machine, 1);
    assert!(kinds.iter().any(|kind| kind == "unrecorded"), "{kinds:?}");
    let refused = machine.run(["test", "edited", "--update"]);
    assert_eq!((refused.code, read(&file)), (1, changed), "{refused}");
    assert!(refused.stderr.contains("has to be recorded anew"), "{refused}");

    // An input of another type.
    let mut changed = after.clone();
    changed["input"] = json!({"company": 7});
    write(&file, &changed);
    assert_eq!(self::kinds(&machine, 1), ["input"]);

    // Limits come from measurements, and a build reports those that are too low.
    write(&file, &after);
    let profile = machine.run(["profile", "edited", "--json"]).json(0);
    assert_eq!(profile["measured"]["calls"], 4);
    assert_eq!(profile["suggested"]["calls"], 8);
    assert_eq!(profile["suggested"].get("timeout"), None, "a cassette knows no time");
    assert_eq!(profile["offline"], false, "the cassette has answers of a model");
    let cassette = read(&file);
    let asks = cassette["tasks"][0]["asks"].as_array().unwrap();
    let full: u64 = asks
        .iter()
        .filter(|ask| !ask["reply"].is_null())
        .filter_map(|ask| ask["request"]["max-tokens"].as_u64())
        .sum();
    assert!(
        full > 0 && profile["suggested"]["tokens"].as_u64() > Some(full),
        "the prompts' own max_tokens fit: {profile}"
    );
    let made_up = "note: the measured tokens rest on made-up answers: ";
    let text = machine.run(["profile", "edited"]);
    assert!(!text.stderr.contains(made_up), "{text}");
    let manifest: toml::Table = text.stdout.parse().unwrap();
    let limits = &manifest["package"]["metadata"]["agenthost"]["limits"];
    assert!(
        text.stdout.starts_with("[package.metadata.agenthost.limits]\n"),
        "it replaces that table as it stands: {text}"
    );
    assert_eq!(limits["calls"].as_integer(), Some(8), "{text}");
    let built = machine.run(["build", "edited"]);
    assert!(
        built
            .stderr
            .contains("note: the manifest declares tokens = 100, and cassettes/first.json may take "),
        "{built}"
    );
    assert!(!built.stderr.contains("declares calls"), "{built}");

    // A cassette of answers that the offline provider made up.
    let input = cassette["input"].to_string();
    let run = [
        "run",
        "edited",
        "--offline-models",
        "-i",
        &input,
        "--tokens",
        "none",
        "--record",
        "edited/cassettes/second.json",
    ];
    assert_eq!(machine.run(run).code, 0);
    assert_eq!(machine.run(["profile", "edited", "--json"]).json(0)["offline"], true);
    let text = machine.run(["profile", "edited"]);
    assert!(text.stderr.contains(made_up), "{text}");
    std::fs::remove_file(machine.cwd().join("edited/cassettes/second.json")).unwrap();

    // A cassette of another plugin.
    let mut changed = after;
    changed["plugin"] = json!("demo:other@0.1.0");
    write(&file, &changed);
    let error = machine.run(["test", "edited"]);
    assert!(
        error
            .error(2)
            .contains("first.json: a cassette of demo:other@0.1.0, and the plugin is demo:competitor")
    );
}

#[test]
fn a_broken_cassette_is_refused_with_file_and_reason() {
    let machine = machine();
    machine.write("x/cassettes/a.json", "{\"format\": 1, \"plugin\": 7}");
    let output = machine.run(["test", "x"]);
    let error = output.error(2);
    assert!(
        error.contains("x/cassettes/a.json: not a cassette: invalid type: integer `7`, expected a string at line 1"),
        "{output}"
    );
    machine.write("x/cassettes/a.json", "{\"format\": 9}");
    assert!(
        machine
            .run(["test", "x"])
            .error(2)
            .contains("it has format 9, and this version reads 1")
    );
    std::fs::create_dir(machine.cwd().join("y")).unwrap();
    let none = machine.run(["test", "y"]);
    assert!(none.error(2).contains("y: no cassettes: cassettes/*.json"), "{none}");
    assert!(none.stderr.contains("--record y/cassettes/first.json"), "{none}");
    machine.run(["profile", "y"]).error(2);
    machine.write("plugin.wasm", "");
    for (path, why) in [
        ("why", "there is no such directory"),
        ("plugin.wasm", "not a directory"),
    ] {
        for command in ["test", "profile"] {
            let expected = format!(
                "error: {path}: {why}\n\nhint: Name the directory of a plugin's crate, with its Cargo.toml and its cassettes/.\n"
            );
            assert_eq!(machine.run([command, path]).error(2), expected);
        }
    }
}

#[test]
fn a_run_is_recorded_beside_the_journal_or_without_one() {
    let server = Server::start(|request| Reply::text(format!("about {}", request.prompt())));
    for (journal, runs) in [
        ("", 1),
        ("[journal]\nenabled = false\n", 0),
        ("[journal]\nbodies = \"replies\"\n", 0),
    ] {
        let machine = machine_for(&format!("{}{journal}", server.config()));
        let input = questions(&["one", "two"], "parallel").to_string();
        let run = [
            "run",
            &guest("asks"),
            "--input",
            &input,
            "--calls",
            "7",
            "--record",
            "kept/first.json",
        ];
        let output = machine.run(run);
        assert_eq!(output.code, 0, "{output}");
        assert!(output.stderr.contains("note: recorded "), "{output}");
        let cassette = read(&machine.cwd().join("kept/first.json"));
        assert_eq!(
            cassette["expect"]["output"],
            serde_json::from_str::<Value>(&output.stdout).unwrap()
        );
        assert_eq!(cassette["expect"]["calls"], json!({"root": 2}));
        assert_eq!(cassette["limits"], json!({"calls": 7, "tasks": 100}));
        assert_eq!(cassette["tasks"][0]["asks"][1]["reply"]["text"], "about two");
        let text = cassette.to_string();
        for private in [machine.cwd().display().to_string(), "sk-".into(), server.config()] {
            assert!(!text.contains(&private), "{private} in {text}");
        }
        let recorded = machine.run(["runs", "--json"]).json(0);
        assert_eq!(recorded["runs"].as_array().unwrap().len(), runs, "{recorded}");
    }
}

#[test]
fn what_cannot_be_written_is_said_before_anything_is_paid_for() {
    let server = Server::start(|_| Reply::text("yes"));
    let machine = machine_for(&server.config());
    let input = questions(&["one"], "parallel").to_string();
    machine.write("file", "");
    for (target, said) in [("file/first.json", "--record: "), (".", "is a directory")] {
        let output = machine.run(["run", &guest("asks"), "--input", &input, "--record", target]);
        assert!(output.error(2).contains(said), "{output}");
    }
    assert_eq!(server.count(), 0);
}

/// The guest `name` as a crate of its own, under the same name; `metadata` ends its manifest.
fn crate_of(machine: &TestEnv, name: &str, metadata: &str) {
    let source = std::fs::read(workspace().join("tests/guests").join(format!("{name}.rs")));
    machine.write(&format!("{name}/src/lib.rs"), source.unwrap());
    machine.write(
        &format!("{name}/Cargo.lock"),
        std::fs::read(workspace().join("Cargo.lock")).unwrap(),
    );
    let target = guests().path("competitor").parent().unwrap().parent().unwrap();
    machine.write(
        &format!("{name}/.cargo/config.toml"),
        format!("[build]\ntarget-dir = {target:?}\n"),
    );
    let sdk = workspace().join("sdk");
    machine.write(
        &format!("{name}/Cargo.toml"),
        format!(
            "[workspace]\n[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nagenthost-sdk = {{ path = {sdk:?} }}\n{metadata}"
        ),
    );
    let trusted = machine.run(["trust", name]);
    assert_eq!(trusted.code, 0, "{trusted}");
}

#[test]
fn a_model_that_the_manifest_does_not_name_is_refused_as_in_a_run() {
    let machine = machine();
    let names = |model: &str| format!("[package.metadata.agenthost]\nmodels = [{model:?}]\n");
    crate_of(&machine, "joins", "");
    crate_of(&machine, "leaf", &names("fast"));
    let with = "guests:leaf=leaf";
    let plan = json!({"policy": "settled", "prompts": ["one", "=two"], "after": null}).to_string();
    let (file, above) = ("leaf/cassettes/first.json", "joins/cassettes/first.json");
    let run = ["run", "leaf", "--input", "\"one\"", "--record", file];
    assert_eq!(machine.run(run).code, 0);
    let run = ["run", "joins", "--with", with, "--input", &plan, "--record", above];
    assert_eq!(machine.run(run).code, 0);
    assert_eq!(machine.run(["test", "leaf"]).code, 0);
    assert_eq!(machine.run(["test", "joins", "--with", with]).code, 0);

    crate_of(&machine, "leaf", &names("strong"));
    let why = "denied: guests:leaf asks for the model `fast` and does not name it among its `models`";
    let run = machine.run(["run", "leaf", "--input", "\"one\""]);
    assert!(run.error(4).contains(why), "{run}");
    for (args, file, task) in [
        (vec!["test", "leaf"], file, "root"),
        (vec!["test", "joins", "--with", with], above, "root/0"),
    ] {
        let before = read(&machine.cwd().join(file));
        for update in [None, Some("--update")] {
            let failed = machine.run(args.iter().copied().chain(update));
            assert_eq!(failed.code, 1, "{failed}");
            assert!(failed.stdout.contains(&format!("\n  {task}, ask 0: {why}")), "{failed}");
            assert!(failed.stderr.contains("--update does not accept it"), "{failed}");
        }
        assert_eq!(read(&machine.cwd().join(file)), before, "its answers are not lost");
        let document = machine.run(args.iter().copied().chain(["--json"])).json(1);
        let changes = document["cassettes"][0]["changes"].as_array().unwrap();
        let kinds: Vec<_> = changes.iter().map(|change| &change["kind"]).collect();
        assert_eq!(kinds, ["denied", "outcome"], "{document}");
    }

    // A refusal that was recorded is what is expected.
    let run = ["run", "leaf", "--input", "\"one\"", "--record", file];
    assert_eq!(machine.run(run).code, 4);
    assert_eq!(machine.run(["test", "leaf"]).code, 0);
}

#[test]
fn a_race_is_played_with_the_winner_and_the_loser_that_it_had() {
    let server = Server::start(|request| match request.prompt().as_str() {
        "slow" => Reply::stall(),
        other => Reply::text(format!("about {other}")),
    });
    let machine = machine_for(&server.config());
    crate_of(&machine, "joins", "");
    let leaf = format!("guests:leaf={}", guest("leaf"));
    let input = json!({"policy": "first", "prompts": ["slow", "quick"], "after": "end"}).to_string();
    let file = "joins/cassettes/first.json";
    let run = ["run", "joins", "--with", &leaf, "--input", &input, "--record", file];
    let run = machine.run(run);
    assert_eq!(run.code, 0, "{run}");
    // The loser may have lost before its request was sent.
    let asked = server.count();

    let file = machine.cwd().join(file);
    let cassette = read(&file);
    let ids: Vec<_> = cassette["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["id"])
        .collect();
    assert_eq!(ids, ["root", "root/0", "root/1", "root/2"]);
    let loser = &cassette["tasks"][1];
    assert_eq!(loser["cut"]["time-up"], false, "it was cancelled: {loser}");
    assert_eq!(loser["asks"][0]["request"]["messages"][0]["text"], "slow");
    assert!(loser["asks"][0].get("reply").is_none(), "{loser}");
    assert_eq!(cassette["tasks"][0]["turns"], "1 2", "the loser is not learned of");

    // The outcome does not hang on what happens to be quicker.
    let test = |code: i32| machine.run(["test", "joins", "--with", &leaf, "--json"]).json(code);
    for _ in 0..3 {
        assert_eq!(test(0)["cassettes"][0]["calls"], 3);
    }
    assert_eq!(server.count(), asked, "none of them asked anybody");

    let mut changed = cassette.clone();
    changed["tasks"][2]["asks"][0]["reply"]["text"] = json!("about another");
    write(&file, &changed);
    let report = test(1);
    let changes = report["cassettes"][0]["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{report}");
    assert_eq!(changes[0]["kind"], "outcome");
    assert!(
        changes[0]["diff"].as_str().unwrap().contains("about another"),
        "{report}"
    );
}

#[test]
fn limits_come_from_runs_of_inputs_too() {
    let server = Server::start(|request| Reply::text("yes".repeat(request.prompt().len())));
    let machine = machine_for(&server.config());
    let (short, long) = (
        questions(&["a"], "parallel"),
        questions(&["bb", "ccc", "dddd"], "parallel"),
    );
    let (short, long) = (short.to_string(), long.to_string());
    let asks = guest("asks");
    let args = [
        "profile", &asks, "--input", &short, "--input", &long, "--times", "2", "--json",
    ];
    let profile = machine.run(args).json(0);
    assert_eq!(profile["runs"], 4);
    assert_eq!(server.count(), 8, "twice one call and twice three");
    assert_eq!(profile["measured"]["calls"], 3, "the most of them: {profile}");
    assert_eq!(profile["suggested"]["calls"], 6);
    let tokens = profile["measured"]["tokens"].as_u64().unwrap();
    let one = machine.run(["run", &asks, "--input", &long, "--json"]).json(0);
    let spent = |kind: &str| one["spent"][kind].as_u64().unwrap();
    assert_eq!(tokens, spent("input_tokens") + spent("output_tokens"));
    assert!(profile["suggested"]["tokens"].as_u64() >= Some(2 * tokens));
    assert_eq!(profile["offline"], false);
    let timeout = profile["suggested"]["timeout"].as_str();
    assert!(
        timeout.is_some_and(|timeout| timeout.ends_with('s')),
        "models answered: {profile}"
    );
    let recorded = machine.run(["runs", "--json"]).json(0);
    assert_eq!(
        recorded["runs"].as_array().unwrap().len(),
        5,
        "what is paid for is recorded: {recorded}"
    );

    // A failed run shows nothing about the needed limits.
    let refused = json!({"prompts": "none", "mode": "parallel"}).to_string();
    let args = ["profile", &asks, "--input", &short, "--input", &refused, "--json"];
    assert_eq!(machine.run(args).code, 2);
    assert_eq!(
        machine.run(["profile", &asks, "--times", "2"]).code,
        2,
        "times of what?"
    );

    // Made-up answers take no time.
    let offline = crate::machine().cache(env!("CARGO_TARGET_TMPDIR"));
    let profile = offline.run(["profile", &asks, "--input", &short, "--json"]).json(0);
    assert_eq!((&profile["runs"], &profile["offline"]), (&json!(3), &json!(true)));
    assert_eq!(profile["suggested"].get("timeout"), None, "{profile}");
    let allowed = json!({"prompts": ["a", "b"], "mode": "parallel", "max-tokens": 2_000}).to_string();
    let profile = offline.run(["profile", &asks, "--input", &allowed, "--json"]).json(0);
    assert!(
        profile["suggested"]["tokens"].as_u64() > Some(2 * 2_000),
        "a reply may be as long as its prompt allows: {profile}"
    );
}
