//! Bad input gets an error that names the place, a hint, the right exit code, and never a panic.

use std::fs::File;

use agenthost::error::ErrorClass;
use agenthost_tests::guests::guests;
use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::{guest, machine, machine_at, questions, run_json};

/// A component whose task returns its input, exported under these names, with these imports.
fn component(tasks: &[&str], imports: &[&str]) -> Vec<u8> {
    let imports = imports
        .iter()
        .map(|name| format!("(import \"{name}\" (instance (export \"go\" (func))))"));
    let exports = tasks.iter().map(|name| format!("(export \"{name}\" (instance $task))"));
    let text = format!(
        "(component {}
           (core module $code (func (export \"run\") (param i32) (result i32) local.get 0))
           (core instance $code (instantiate $code))
           (func $run (param \"input\" u32) (result u32) (canon lift (core func $code \"run\")))
           (instance $task (export \"run\" (func $run)))
           {})",
        imports.collect::<String>(),
        exports.collect::<String>()
    );
    wat::parse_str(&text).unwrap()
}

#[test]
fn a_wrong_script_stops_a_command_before_anything_starts() {
    let machine = machine().config(
        "[models]\nfast = \"scripted/any\"\n[providers.scripted]\nkind = \"script\"\nfile = \"answers.toml\"\n",
    );
    machine.write(
        "answers.toml",
        "[[rule]]\ntext = \"fine\"\n\n[[rule]]\ntext = \"two\"\njson = 1\n",
    );
    let asks = guest("asks");
    let input = questions(&["Why?"], "parallel").to_string();
    machine.write("items.jsonl", format!("{input}\n"));
    let commands: [&[&str]; 4] = [
        &["run", &asks, "-i", &input],
        &["batch", &asks, "items.jsonl"],
        &["plan", &asks],
        &["profile", &asks, "-i", &input],
    ];
    let wrong = "answers.toml:4: a rule has exactly one of text, json, refusal, error and hang = true, or tools\n\nhint: Correct the script;";
    for command in commands {
        let output = machine.run(command);
        assert!(output.error(2).contains(wrong), "{output}");
    }
    assert_eq!(
        machine.run(["runs", "--json"]).json(0)["runs"],
        json!([]),
        "nothing has begun"
    );
    let doctor = machine.run(["doctor"]);
    assert!(
        doctor.stdout.contains("answers.toml:4: a rule has exactly one of"),
        "{doctor}"
    );
    // It is not needed.
    let offline = machine.run([commands[0], &["--offline-models"]].concat());
    assert_eq!(offline.code, 0, "{offline}");
    assert_eq!(machine.run(["replay", "last"]).code, 0);

    std::fs::remove_file(machine.cwd().join("answers.toml")).unwrap();
    for command in commands {
        let output = machine.run(command);
        let error = output.error(2);
        assert!(
            error.contains("answers.toml") && error.contains("Check the path of the script"),
            "{output}"
        );
    }
    machine.write("answers.toml", "[[rule]]\ntext = \"fine\"\n");
    for command in commands {
        assert_eq!(machine.run(command).code, 0, "{command:?}");
    }
}

#[test]
fn a_component_made_by_hand_runs() {
    let machine = machine();
    machine.write("tiny.wasm", component(&["demo:tiny/task@1.2.3"], &[]));
    assert_eq!(machine.run(["run", "tiny.wasm", "-i", "7"]).json(0), 7);
}

#[test]
fn what_is_no_plugin_is_told_apart() {
    let machine = machine();
    let preview_1 =
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32))))";
    let wasm = |text: &str| wat::parse_str(text).unwrap();
    for (name, bytes, says) in [
        ("core.wasm", wasm("(module)"), "core WebAssembly module"),
        ("preview1.wasm", wasm(preview_1), "WASI preview 1"),
        (
            "none.wasm",
            wasm("(component)"),
            "exports no interface `task`; it exports nothing",
        ),
        (
            "other.wasm",
            component(&["demo:tiny/work@1.0.0"], &[]),
            "it exports demo:tiny/work@1.0.0",
        ),
        (
            "two.wasm",
            component(&["demo:a/task@1.0.0", "demo:b/task@1.0.0"], &[]),
            "demo:a/task@1.0.0, demo:b/task@1.0.0",
        ),
        ("text.wat", b"(component)".to_vec(), "WebAssembly text"),
        (
            "page.wasm",
            b"<!doctype html><title>404</title>".to_vec(),
            "not WebAssembly",
        ),
        (
            "native.cwasm",
            [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 100]].concat(),
            "native code",
        ),
        ("empty.wasm", Vec::new(), "empty"),
        ("short.wasm", b"\0asm".to_vec(), "not WebAssembly"),
    ] {
        machine.write(name, bytes);
        let output = machine.run(["run", name, "-i", "1"]);
        let said = output.error(2);
        assert!(said.contains(name) && said.contains(says), "{output}");
        assert_eq!(machine.run(["inspect", name]).code, 2, "{name}");
    }
}

#[test]
fn an_import_that_is_not_offered_is_named_with_its_cause() {
    let machine = machine();
    let task = ["demo:tiny/task@1.0.0"];
    for (import, says) in [
        ("acme:db/query@1.0.0", "an interface that no part of this host provides"),
        ("wasi:http/outgoing-handler@0.2.0", "HTTP requests"),
        ("agenthost:plugin/llm@0.9.0", "a version of the plugin contract"),
        ("wasi:cli/environment@0.3.0", "not part of this host"),
    ] {
        machine.write("tiny.wasm", component(&task, &[import]));
        let output = machine.run(["run", "tiny.wasm", "-i", "1"]);
        let said = output.error(4);
        assert!(said.contains(import) && said.contains(says), "{output}");
    }
    let both = ["acme:db/query@1.0.0", "acme:db/update@1.0.0"];
    machine.write("tiny.wasm", component(&task, &both));
    let output = machine.run(["run", "tiny.wasm", "-i", "1"]);
    assert!(both.iter().all(|name| output.error(4).contains(name)), "{output}");
}

#[test]
fn a_function_that_this_contract_lacks_is_an_import_that_is_not_offered() {
    let machine = machine();
    machine.write(
        "tiny.wasm",
        component(&["demo:tiny/task@1.0.0"], &["agenthost:plugin/llm@0.1.0"]),
    );
    let output = machine.run(["run", "tiny.wasm", "-i", "1"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        machine.redact(output.error(4)),
        format!(
            "error: [work]/tiny.wasm: the plugin has 1 import that is not offered:\n  \
             agenthost:plugin/llm@0.1.0#go: a function that the plugin contract of this host does not have, or has with \
             other types\n\n\
             hint: The plugin was built with an agenthost-sdk of another version. This host speaks agenthost:plugin@0.1: build \
             the plugin with agenthost-sdk {version}, or use an agenthost of the version of that SDK.\n"
        )
    );
    let inspected = machine.run(["inspect", "tiny.wasm", "--json"]).json(0);
    assert_eq!(
        inspected["powers"],
        "calls models; is refused, for 1 import that is not offered"
    );
}

#[test]
fn a_contract_of_another_version_says_what_to_do() {
    let machine = machine();
    machine.write(
        "tiny.wasm",
        component(&["demo:tiny/task@1.0.0"], &["agenthost:plugin/llm@0.2.0"]),
    );
    let output = machine.run(["run", "tiny.wasm", "-i", "1"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        machine.redact(output.error(4)),
        format!(
            "error: [work]/tiny.wasm: the plugin has 1 import that is not offered:\n  \
             agenthost:plugin/llm@0.2.0: a version of the plugin contract, or an interface of it, that this host does not \
             have\n\n\
             hint: The plugin was built with an agenthost-sdk of another version. This host speaks agenthost:plugin@0.1: build \
             the plugin with agenthost-sdk {version}, or use an agenthost of the version of that SDK.\n"
        )
    );
}

#[test]
fn a_module_for_another_target_is_told_which() {
    let machine = machine();
    let built_for = |text: &str| {
        machine.write("module.wasm", wat::parse_str(text).unwrap());
        machine.redact(machine.run(["inspect", "module.wasm"]).error(2))
    };
    let hint = |target: &str| {
        format!(
            "\n\nhint: It was built for {target}; build it for wasm32-wasip2, for example with `agenthost build`.\n"
        )
    };
    assert_eq!(
        built_for(
            "(module (import \"env\" \"f\" (func)) (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32))))"
        ),
        format!(
            "error: [work]/module.wasm: the file is a core module for WASI preview 1, not a component{}",
            hint("wasm32-wasip1")
        )
    );
    assert_eq!(
        built_for("(module (func (export \"run\") (result i32) i32.const 0))"),
        format!(
            "error: [work]/module.wasm: the file is a core WebAssembly module, not a component{}",
            hint("wasm32-unknown-unknown or another target without components")
        )
    );
    assert_eq!(
        built_for("(module (import \"__wbindgen_placeholder__\" \"f\" (func)))"),
        format!(
            "error: [work]/module.wasm: the file is a core module for a web page, not a component{}",
            hint("wasm32-unknown-unknown")
        )
    );
}

#[test]
fn a_run_of_the_wrong_shape_is_told_which_is_right() {
    let machine = machine();
    for (text, says) in [
        (
            "(component (core module $m (func (export \"run\") (param i32 i32) (result i32) local.get 0))
               (core instance $i (instantiate $m))
               (func $run (param \"a\" u32) (param \"b\" u32) (result u32) (canon lift (core func $i \"run\")))
               (instance $task (export \"run\" (func $run))) (export \"demo:tiny/task@1.0.0\" (instance $task)))",
            "demo:tiny/task@1.0.0: `run` takes 2 parameters instead of one\n\n\
             hint: Put what the task needs into one record: `run: async func(input: T) -> result<U, failure>`.\n",
        ),
        (
            "(component (core module $m (func (export \"go\"))) (core instance $i (instantiate $m))
               (func $go (canon lift (core func $i \"go\")))
               (instance $task (export \"go\" (func $go))) (export \"demo:tiny/task@1.0.0\" (instance $task)))",
            "the plugin's interface demo:tiny/task@1.0.0 has no function `run`\n\n\
             hint: The interface `task` has one function: `run: async func(input: T) -> result<U, failure>`.\n",
        ),
    ] {
        machine.write("tiny.wasm", wat::parse_str(text).unwrap());
        let output = machine.run(["inspect", "tiny.wasm"]);
        assert_eq!(
            machine.redact(output.error(2)),
            format!("error: [work]/tiny.wasm: {says}")
        );
    }
}

#[test]
fn a_truncated_plugin_is_an_error_at_every_length() {
    let machine = machine();
    let whole = guests().bytes("echo");
    let host = machine.host();
    // Where only custom sections are missing, the rest is a whole component.
    let is_whole = |length: &usize| {
        let mut validator = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all());
        validator.validate_all(&whole[..*length]).is_ok()
    };
    assert!(is_whole(&whole.len()));
    for length in (0..200)
        .map(|n| whole.len() * n / 200)
        .filter(|length| !is_whole(length))
    {
        let error = host
            .load_bytes(&whole[..length])
            .map(|_| ())
            .expect_err("half a plugin");
        assert_eq!(error.class(), ErrorClass::Plugin, "{length} bytes: {error}");
        assert!(error.hint().is_some(), "{length} bytes: {error}");
    }
    for length in [8, whole.len() / 2, whole.len() - 1] {
        machine.write("cut.wasm", &whole[..length]);
        let output = machine.run(["run", "cut.wasm", "-i", "1"]);
        assert!(output.error(2).contains("cut.wasm: "), "{output}");
    }
}

#[test]
fn random_bytes_are_an_error_and_never_a_crash() {
    let machine = machine();
    let host = machine.host();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    };
    for _ in 0..200 {
        let mut bytes: Vec<u8> = (0..random() % 2_000).map(|_| random().to_le_bytes()[0]).collect();
        assert!(host.load_bytes(&bytes).is_err());
        bytes.splice(0..0, *b"\0asm\x0d\0\x01\0");
        assert!(host.load_bytes(&bytes).is_err() || bytes.len() == 8);
    }
    // Damage inside a good one: it may still load, and then it is another plugin. It must not take the host along.
    let whole = component(&["demo:tiny/task@1.0.0"], &[]);
    for at in 8..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (random() % 8);
        let _ = host.load_bytes(&bytes);
    }
    assert!(host.load_bytes(&whole).is_ok(), "the host goes on");
}

#[test]
fn a_huge_file_is_refused_without_being_read() {
    let machine = machine();
    for (name, bytes) in [("large.wasm", 100 << 20), ("huge.wasm", 1 << 40)] {
        let path = machine.write(name, b"\0asm\x0d\0\x01\0");
        // Sparse: it takes no room, and reading it would take forever.
        File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
        let output = machine.run(["run", name, "-i", "1"]);
        let size = format!("{name}: {} MiB, and a plugin has at most 64 MiB", bytes >> 20);
        assert!(output.error(2).contains(&size), "{output}");
    }
}

#[test]
fn a_plugin_that_is_not_there_or_no_file_is_named() {
    let machine = machine();
    for (plugin, says) in [
        ("nothing.wasm", "nothing.wasm: No such file or directory"),
        ("/dev/null", "/dev/null: not a file"),
        (
            "demo:competitor@0.1.0",
            "agenthost.lock\n\nhint: Add it with `agenthost add demo:competitor@0.1.0`",
        ),
    ] {
        let output = machine.run(["run", plugin, "-i", "1"]);
        assert!(output.error(2).contains(says), "{output}");
    }
}

#[test]
fn without_cargo_a_crate_cannot_be_built_and_a_file_still_runs() {
    let machine = machine();
    std::fs::create_dir(machine.cwd().join("bin")).unwrap();
    machine.write(
        "crate/Cargo.toml",
        "[package]\nname = \"sample\"\nversion = \"0.1.0\"\n",
    );
    let bin = machine.cwd().join("bin").display().to_string();
    let machine = machine.trusting("crate").var("PATH", &bin);
    let output = machine.run(["run", "crate", "-i", "1"]);
    let said = output.error(2);
    assert!(
        said.contains("cannot run cargo: ") && said.contains("rustup installs it"),
        "{output}"
    );
    assert_eq!(
        machine.run(["run", &guest("misbehaves"), "-i", "\"ok\""]).json(0),
        "fine"
    );
    assert_eq!(machine.run(["doctor"]).code, 0, "running needs no cargo");
}

#[test]
fn a_wrong_input_says_where_and_what_was_expected() {
    let machine = machine();
    let (asks, competitor) = (guest("asks"), guest("competitor"));
    machine.write("list.json", "[1, 2");
    machine.write("latin1.json", b"\"\xe9\"");
    machine.write("input.json", "{}");
    for (plugin, input, says) in [
        (
            &competitor,
            "{\"company\": \"A\", \"questions\": [\"a\", 5]}",
            "input.questions[1]: expected string, found number",
        ),
        (
            &competitor,
            "{\"company\": \"A\"}",
            "input: missing field `questions` (list)",
        ),
        (
            &competitor,
            "{\"company\": \"A\", \"questions\": [], \"question\": 1}",
            "input: unknown field `question`",
        ),
        (&competitor, "[]", "input: expected record (an object), found list"),
        (
            &asks,
            "{\"prompts\": [], \"mode\": \"both\"}",
            "input.mode: unknown case `both`",
        ),
        (
            &asks,
            "{\"prompts\": [], \"mode\": \"parallel\", \"max-tokens\": -1}",
            "input.max-tokens: expected u32",
        ),
        (&asks, "{\"prompts\": ", "--input is not valid JSON: EOF while parsing"),
        (&asks, "", "--input is not valid JSON"),
        (
            &asks,
            "input.json",
            "--input is not valid JSON, but there is a file input.json",
        ),
        (
            &asks,
            "@list.json",
            "list.json is not valid JSON: EOF while parsing a list at line 1 column 5",
        ),
        (&asks, "@latin1.json", "@latin1.json: not UTF-8"),
        (
            &asks,
            "@missing.json",
            "--input @missing.json: No such file or directory",
        ),
        (&asks, "@.", "--input @.: Is a directory"),
    ] {
        let output = machine.run(["run", plugin, "--input", input]);
        assert!(output.error(2).contains(says), "{input}: {output}");
    }
    let output = machine.piped(["run", asks.as_str()], "{");
    assert!(output.error(2).contains("stdin is not valid JSON"), "{output}");
    let endless = "[".repeat(1_000_000);
    let output = machine.piped(["run", asks.as_str()], &endless);
    assert!(
        output
            .error(2)
            .contains("stdin is not valid JSON: recursion limit exceeded"),
        "{output}"
    );
}

#[test]
fn a_wrong_configuration_is_named_by_file_and_line() {
    let asks = guest("asks");
    for (toml, says, hint) in [
        (
            "[model]\nfast = \"a/b\"\n",
            "agenthost.toml:1: unknown key `model`",
            "Did you mean `models`?",
        ),
        (
            "\n[limits]\ntoken = 5\n",
            "agenthost.toml:3: unknown key `token` in [limits]",
            "Did you mean `tokens`?",
        ),
        (
            "[models]\nfast = \"haiku\"\n",
            "agenthost.toml:2: `fast` in [models]: `haiku` is not a model",
            "",
        ),
        (
            "[models]\nfast = \"antropic/x\"\n",
            "agenthost.toml:2: `fast` in [models] names the unknown provider `antropic`",
            "Did you mean `anthropic`?",
        ),
        (
            "[limits]\ntokens = \"many\"\n",
            "agenthost.toml:2: `tokens` in [limits]: `many` is not a count",
            "",
        ),
        (
            "[limits]\ntimeout = \"never\"\n",
            "agenthost.toml:2: `timeout` in [limits]: `never` is not a duration",
            "",
        ),
        ("[limits\n", "agenthost.toml:1: ", ""),
        (
            "[providers.local]\nkind = \"openia\"\n",
            "agenthost.toml:2: `kind` in [providers.local]: `openia` is not a kind",
            "",
        ),
        (
            "[providers.local]\nkind = \"openai\"\nkey = \"sk-canary\"\n",
            "agenthost.toml:3: ",
            "key-env",
        ),
        (
            "[grants.\"guests:asks\"]\nmodels = [\"fats\"]\n",
            "agenthost.toml:2: `models` in [grants.\"guests:asks\"] names the unknown model `fats`",
            "Did you mean `fast`?",
        ),
    ] {
        let machine = machine().config(toml);
        let output = machine.run(["run", &asks, "-i", "1"]);
        assert_eq!(output.code, 2, "{toml}: {output}");
        assert!(output.stderr.contains(&format!("error: {says}")), "{toml}: {output}");
        assert!(
            output.stderr.contains(hint) && !output.stderr.contains("sk-canary"),
            "{toml}: {output}"
        );
    }
    let output = machine().run(["run", &asks, "-i", "1", "--config", "none.toml"]);
    assert!(
        output.code == 2 && output.stderr.contains("cannot read none.toml"),
        "{output}"
    );
}

#[test]
fn a_model_name_that_nobody_mapped_is_denied() {
    let server = Server::scripted([Reply::text("x")]);
    let remaining = guest("remaining");
    let without_fast = server.config().replace("fast = \"local/small\"\n", "");
    let output = machine()
        .config(&without_fast)
        .run(["run", &remaining, "-i", "\"hello\""]);
    let said = output.error(4);
    assert!(
        said.contains("no model is named `fast`: [models] has strong"),
        "{output}"
    );

    let narrowed = format!(
        "{}[grants.\"guests:remaining\"]\nmodels = [\"strong\"]\n",
        server.config()
    );
    let output = machine().config(&narrowed).run(["run", &remaining, "-i", "\"hello\""]);
    assert!(
        output
            .error(4)
            .contains("guests:remaining is not granted the model `fast`"),
        "{output}"
    );
    assert_eq!(server.count(), 0, "nothing was asked");

    // A guest that does not need it continues.
    let unknown = json!({"prompts": ["a"], "mode": "parallel", "model": "tiny"});
    let document = machine_at(&server).run(run_json(&guest("asks"), &unknown, &[])).json(0);
    assert_eq!(document["outcome"]["ok"][0]["error"], "denied");
}
