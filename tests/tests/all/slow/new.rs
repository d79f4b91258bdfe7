//! `agenthost new` outside of the repository: what it makes builds, runs and tests as it is, without a network.

use std::path::{Path, PathBuf};
use std::process::Command;

use agenthost::plugin::build;
use agenthost_tests::env::TestEnv;
use serde_json::{Value, json};

use crate::machine;

/// The kinds of projects, each with its name, its flags and the beginning of its prompt.
const KINDS: [(&str, &[&str], &str); 3] = [
    ("summary", &[], "Sum the text up in at most"),
    ("acme:labels", &["--batch"], "Give each of these messages a label."),
    (
        "advice",
        &["--orchestrator", "--namespace", "acme"],
        "Condense the opinions.",
    ),
];

/// The directory in which the projects of all runs are built, so that third-party crates are built once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("new")
}

pub(crate) fn projects() -> TestEnv {
    machine()
        .var("CARGO_NET_OFFLINE", "true")
        .var("CARGO_TARGET_DIR", &target().display().to_string())
}

/// Runs cargo in a project; if it fails, panics with its output.
pub(super) fn cargo(dir: &Path, args: &[&str]) {
    let mut cargo = Command::new("cargo");
    cargo.args(args).current_dir(dir);
    // The variables that the cargo running this test sets are meant for its own build.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("CARGO") && text != "CARGO_HOME") || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    cargo.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target());
    if args.contains(&build::TARGET) {
        // Then `agenthost build` finds it done.
        build::reproducibly(&mut cargo, dir).unwrap();
    }
    let output = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: cargo {args:?}\n{said}", dir.display());
    assert!(!said.contains("warning"), "{}: cargo {args:?}\n{said}", dir.display());
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_made_builds_runs_and_tests_as_it_is() {
    let machine = projects();
    build::install_target(&machine.cwd()).unwrap();
    for (name, flags, prompt) in KINDS {
        let made = machine.run(["new", name].iter().chain(flags));
        let dir = machine.cwd().join(name.rsplit(':').next().unwrap());
        assert_eq!(made.code, 0, "{made}");
        assert_eq!(made.stdout, format!("{}\n", dir.display()));
        let text = format!("{}", dir.display());
        assert!(
            made.stderr
                .ends_with("  agenthost test\n  agenthost run . --input @input.json\n"),
            "{text}: {made}"
        );
        // Before anything is asked of it in time: the first build of the crates below the SDK takes minutes.
        cargo(&dir, &["build", "--release", "--lib", "--target", build::TARGET]);
        cargo(&dir, &["test", "--workspace", "--quiet"]);
        cargo(&dir, &["fmt", "--all", "--check"]);
        the_cassette_passes_until_the_prompt_changes(&machine, &dir, prompt);
    }
    let run = |name: &str| {
        let input = format!("@{name}/input.json");
        let report = machine.run(["run", name, "--input", &input, "--json"]).json(0);
        (report["outcome"]["ok"].clone(), report)
    };
    let (summary, _) = run("summary");
    assert_eq!(summary["points"].as_array().unwrap().len(), 2, "{summary}");

    let (labels, _) = run("labels");
    assert!(
        labels[0]["ok"]["gist"].is_string() && labels[1]["ok"]["intent"].is_string(),
        "{labels}"
    );

    let (advice, report) = run("advice");
    assert_eq!(advice["opinions"][0]["role"], "an architect", "{advice}");
    assert_eq!(advice["missing"], json!([]));
    let plugins: Vec<&Value> = report["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["plugin"])
        .collect();
    assert_eq!(
        plugins,
        [
            "acme:advice@0.1.0",
            "acme:advice-expert@0.1.0",
            "acme:advice-expert@0.1.0"
        ]
    );

    let built = machine.run(["build", "summary"]);
    assert_eq!(built.code, 0, "{built}");
    let released = machine.run(["build", "summary", "--release"]);
    assert_eq!((released.code, &released.stdout), (0, &built.stdout), "{released}");

    let inspected = machine.run(["inspect", "summary", "--json"]).json(0).to_string();
    assert!(
        inspected.contains("local:summary") && inspected.contains("A text to sum up."),
        "{inspected}"
    );
}

/// Leaves the project as it was made.
fn the_cassette_passes_until_the_prompt_changes(machine: &TestEnv, dir: &Path, prompt: &str) {
    let project = dir.file_name().unwrap().to_str().unwrap();
    let passed = machine.run(["test", project]);
    assert_eq!(passed.code, 0, "{passed}");
    assert!(passed.stdout.starts_with("ok cassettes/first.json: "), "{passed}");
    let report = machine.run(["test", project, "--json"]).json(0);
    for kind in ["fuel", "tokens"] {
        let of = |key: &str| report["cassettes"][0][key].as_u64().unwrap();
        let (used, ceiling) = (of(kind), of(&format!("{kind}_ceiling")));
        let room = ceiling as f64 / used as f64;
        assert!(
            (1.1..=1.6).contains(&room),
            "{project}: a ceiling of {ceiling} {kind} says little where {used} are used, or fails by a trifle"
        );
    }

    let file = dir.join("src/lib.rs");
    let source = std::fs::read_to_string(&file).unwrap();
    let changed = source.replace(prompt, &format!("In plain words. {prompt}"));
    assert_ne!(source, changed);
    std::fs::write(&file, changed).unwrap();
    let failed = machine.run(["test", project]);
    assert_eq!(failed.code, 1, "{failed}");
    for part in [
        ": the model is asked something else\n".to_owned(),
        format!("\n    -{prompt}"),
        format!("\n    +In plain words. {prompt}"),
    ] {
        assert!(failed.stdout.contains(&part), "{part:?} in {failed}");
    }
    let updated = machine.run(["test", project, "--update"]);
    assert_eq!(updated.code, 0, "{updated}");
    assert!(
        updated.stdout.starts_with("updated cassettes/first.json: "),
        "{updated}"
    );
    let accepted = machine.run(["test", project]);
    assert_eq!(accepted.code, 0, "{accepted}");
    std::fs::write(&file, source).unwrap();
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written() {
    let machine = machine();
    let made = machine.run(["new", "haiku", "--json"]).json(0);
    assert_eq!(made["id"], "local:haiku");
    assert_eq!(made["next"][0], "cd haiku");
    for file in made["files"].as_array().unwrap() {
        assert!(
            machine.cwd().join("haiku").join(file.as_str().unwrap()).is_file(),
            "{file}"
        );
    }
    machine.write("haiku/src/lib.rs", "mine");
    machine.write("file", "");
    std::fs::create_dir(machine.cwd().join("empty")).unwrap();
    for name in ["haiku", "file", "empty"] {
        let said = machine.redact(machine.run(["new", name, "--orchestrator"]).error(2));
        let expected = format!(
            "error: [work]/{name}: there is something of that name\n\n\
             hint: Nothing is overwritten: choose another name, or another directory with --path.\n"
        );
        assert_eq!(said, expected);
    }
    let missing = machine.run(["new", "x", "--path", "nowhere"]);
    assert!(missing.error(2).contains("nowhere: "), "{missing}");
    assert_eq!(
        std::fs::read_to_string(machine.cwd().join("haiku/src/lib.rs")).unwrap(),
        "mine"
    );
    assert_eq!(files(&machine.cwd()), ["empty", "file", "haiku"]);

    std::fs::create_dir(machine.cwd().join("my plugins")).unwrap();
    let made = machine.run(["new", "haiku", "--path", "my plugins"]);
    assert!(made.stderr.contains("\n  cd 'my plugins/haiku'\n"), "{made}");
}

#[test]
fn names_that_do_not_fit_are_refused_with_one_that_does() {
    let machine = machine();
    for (args, message, hint) in [
        (
            vec!["My_Plugin"],
            "name `My_Plugin`: not in kebab-case: lower-case words of letters and digits, each beginning with a letter, \
             joined by `-`",
            "Call it `my-plugin`.",
        ),
        (
            vec!["test"],
            "name `test`: reserved",
            "Call it `test-tasks`, for example.",
        ),
        (
            vec!["fn"],
            "name `fn`: a keyword of Rust",
            "Call it `fn-tasks`, for example.",
        ),
        (
            vec!["wasi:x"],
            "namespace `wasi`: reserved",
            "Call it `wasi-tasks`, for example.",
        ),
        (
            vec!["a:x", "--namespace", "b"],
            "two namespaces: `a` in the name and `b` beside it",
            "Give one of them.",
        ),
    ] {
        let output = machine.run(["new"].iter().chain(&args));
        assert_eq!(output.error(2), format!("error: {message}\n\nhint: {hint}\n"));
    }
    assert_eq!(machine.run(["new", "x", "--batch", "--orchestrator"]).code, 2);
    assert_eq!(files(&machine.cwd()), Vec::<String>::new());
}

#[test]
fn a_workspace_that_claims_the_place_is_left_whole() {
    let machine = projects();
    let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\"]\n";
    machine.write("Cargo.toml", workspace);
    std::fs::create_dir(machine.cwd().join("plugins")).unwrap();
    let new = || machine.run(["new", "haiku", "--path", "plugins", "--orchestrator"]);
    let said = machine.redact(new().error(2));
    let expected = "error: [work]/plugins/haiku: the workspace in [work]/Cargo.toml claims it as a member\n\n\
                    hint: Write `exclude = [\"plugins/haiku\"]` under its [workspace], so that the project is a workspace of \
                    its own, or give another directory with --path.\n";
    assert_eq!(said, expected);
    assert_eq!(files(&machine.cwd().join("plugins")), Vec::<String>::new());

    machine.write("Cargo.toml", format!("{workspace}exclude = [\"plugins/haiku\"]\n"));
    assert_eq!(new().code, 0);
    for dir in ["plugins/haiku", "plugins/haiku/expert"] {
        cargo(&machine.cwd().join(dir), &["metadata", "--format-version", "1"]);
    }
}
