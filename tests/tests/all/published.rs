//! Components that were published for contract 0.1 run as they did when they were published.

use std::path::Path;

use agenthost_tests::guests::workspace;
use agenthost_tests::server::{Reply, Server};
use serde_json::Value;

use crate::{machine_for, run_json};

/// The names of the components, and their folder.
fn published() -> (std::path::PathBuf, Vec<String>) {
    let folder = workspace().join("tests/published/0.1");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 15, "{names:?}");
    (folder, names)
}

fn recorded(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn published_components_run_unchanged() {
    let (folder, names) = published();
    let machine = machine_for("[models]\nfast = \"offline/fast\"\nstrong = \"offline/strong\"\n");
    for name in names {
        let recorded = recorded(&folder, &name);
        let plugin = folder.join(format!("{name}.wasm")).display().to_string();
        let document = machine.run(run_json(&plugin, &recorded["input"], &[])).json(0);
        assert_eq!(document["outcome"], recorded["outcome"], "{name}");
        for (what, amount) in recorded["spent"].as_object().unwrap() {
            assert_eq!(&document["spent"][what], amount, "{name}: {what}");
        }
        let tasks = document["tasks"].as_array().unwrap().len();
        assert_eq!(tasks as u64, recorded["tasks"].as_u64().unwrap(), "{name}");
    }
}

/// A plugin that knows nothing of tools is sent nothing of them, and receives nothing of them.
#[test]
fn published_components_see_no_tools() {
    let (folder, _) = published();
    let server = Server::start(|_| {
        let thinking = serde_json::json!({"type": "thinking", "thinking": "hm", "signature": "abc"});
        let text = serde_json::json!({"type": "text", "text": "{\"best\": \"A\", \"others\": []}"});
        let body = serde_json::json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "small", "content": [thinking, text],
            "stop_reason": "end_turn", "usage": {"input_tokens": 10, "output_tokens": 5},
        });
        Reply::raw(200, body.to_string())
    });
    let machine = machine_for(&server.anthropic_config()).var("ANTHROPIC_API_KEY", "secret");
    let plugin = folder.join("title.wasm").display().to_string();
    let input = &recorded(&folder, "title")["input"];
    let document = machine.run(run_json(&plugin, input, &[])).json(0);
    assert_eq!(document["outcome"]["ok"]["best"], "A");
    let seen = server.ended();
    let body = seen[0].body.as_object().unwrap();
    let unknown: Vec<_> = body
        .keys()
        .filter(|key| {
            let known = ["model", "max_tokens", "messages", "system", "stream", "output_config"];
            !known.contains(&key.as_str())
        })
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
