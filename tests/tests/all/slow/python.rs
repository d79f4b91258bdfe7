//! A plugin that is not written in Rust: built by componentize-py if that is installed, and run like any other.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use agenthost_tests::guests::workspace;
use agenthost_tests::optional;
use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::run_json;

/// The tool: in the virtual environment that AGENTHOST_COMPONENTIZE_PY names, else on the PATH.
fn componentize_py() -> Option<PathBuf> {
    let tool = match std::env::var_os("AGENTHOST_COMPONENTIZE_PY") {
        Some(venv) => PathBuf::from(venv).join("bin/componentize-py"),
        None => "componentize-py".into(),
    };
    let version = Command::new(&tool).arg("--version").stdin(Stdio::null()).output();
    version.is_ok_and(|output| output.status.success()).then_some(tool)
}

#[test]
fn a_plugin_in_python_runs_like_any_other() {
    let Some(tool) = componentize_py() else {
        return optional::skipped(
            "componentize-py",
            "it is neither on the PATH nor in the virtual environment that AGENTHOST_COMPONENTIZE_PY names",
        );
    };
    optional::runs("componentize-py");
    let server = Server::scripted([
        Reply::text("The train that is never late."),
        Reply::text("a b c d e f g h i"),
    ]);
    let machine = crate::machine().with(&server);
    // In a debug build on a busy machine, CPython takes longer to compile than the default allows.
    machine.write("../config/agenthost/config.toml", "[compile]\ntime = \"5m\"\n");
    let source = workspace().join("plugins/python-headline");
    // A copy, because Python writes what it compiled beside it.
    machine.write("app.py", std::fs::read(source.join("app.py")).unwrap());
    let built = Command::new(tool)
        .arg("-d")
        .arg(workspace().join("wit"))
        .arg("-d")
        .arg(source.join("wit"))
        .args([
            "-w",
            "demo:headline/headline@0.1.0",
            "componentize",
            "--stub-wasi",
            "app",
            "-o",
            "headline.wasm",
        ])
        .current_dir(machine.cwd())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let inspected = machine.run(["inspect", "headline.wasm", "--json"]).json(0);
    assert_eq!(inspected["powers"], "calls models; nothing else");
    let imports = inspected["imports"].as_array().unwrap();
    assert!(imports.iter().all(|import| import["kind"] == "contract"), "{inspected}");

    let article = json!({"text": "The 7:12 to Berne is on time.", "max-words": 8});
    let document = machine.run(run_json("headline.wasm", &article, &[])).json(0);
    assert_eq!(
        document["outcome"]["ok"],
        json!({"text": "The train that is never late", "words": 6})
    );
    assert_eq!(document["spent"]["calls"], 1);
    assert!(
        server.seen()[0].prompt().contains("at most 8 words"),
        "the prompt is the plugin's own"
    );

    let document = machine
        .run(run_json("headline.wasm", &json!({"text": "x", "max-words": null}), &[]))
        .json(1);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["message"], "the model gave 9 words instead of at most 8");
    // An error of a model call arrives as an exception, and leaves as the failure that it is.
    let document = machine
        .run(run_json("headline.wasm", &article, &["--calls", "0"]))
        .json(3);
    assert_eq!(document["outcome"]["failure"]["limit"], "calls");
}
