//! What bad input gets: an error that names the place, a hint, the right exit code, and never a panic.

use std::fs::File;

use agenthost::error::ErrorClass;
use agenthost_tests::guests::guests;
use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::{guest, machine, machine_at, run_json};

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
fn an_offered_name_with_other_types_is_an_error_and_not_a_crash() {
    let machine = machine();
    machine.write(
        "tiny.wasm",
        component(&["demo:tiny/task@1.0.0"], &["agenthost:plugin/llm@0.1.0"]),
    );
    let output = machine.run(["run", "tiny.wasm", "-i", "1"]);
    assert!(output.error(2).contains("does not fit this host"), "{output}");
}

#[test]
fn a_truncated_plugin_is_an_error_at_every_length() {
    let machine = machine();
    let whole = guests().bytes("echo");
    let host = machine.host();
    for n in 0..200 {
        let length = whole.len() * n / 200;
        let error = host
            .load_bytes(&whole[..length])
            .map(|_| ())
            .expect_err("half a plugin");
        assert_eq!(error.class(), ErrorClass::Plugin, "{length} bytes: {error}");
        assert!(error.next_step().is_some(), "{length} bytes: {error}");
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
        // Sparse: it takes no room, and reading it would take for ever.
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
            "demo:competitor@0.1.0 looks like a reference to a registry",
        ),
    ] {
        let output = machine.run(["run", plugin, "-i", "1"]);
        assert!(output.error(2).contains(says), "{output}");
    }
}

#[test]
fn a_directory_that_cannot_be_built_says_why() {
    let machine = machine();
    let manifest = |kind: &str| {
        format!("[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\n{kind}\n[workspace]\n")
    };
    std::fs::create_dir(machine.cwd().join("empty")).unwrap();
    machine.write("no-manifest/src/lib.rs", "");
    machine.write("not-toml/Cargo.toml", "[package\n");
    machine.write("broken/Cargo.toml", manifest("crate-type = [\"cdylib\"]\n"));
    machine.write("broken/src/lib.rs", "pub fn f() -> u32 { \"no number\" }\n");
    machine.write("no-cdylib/Cargo.toml", manifest(""));
    machine.write("no-cdylib/src/lib.rs", "//! Nothing.\n");
    machine.write("no-task/Cargo.toml", manifest("crate-type = [\"cdylib\"]\n"));
    machine.write("no-task/src/lib.rs", "//! Nothing.\n");
    machine.write("no-package/Cargo.toml", "[workspace]\nmembers = []\n");
    for (dir, says) in [
        ("empty", "no crate: it has no Cargo.toml"),
        ("no-manifest", "no crate: it has no Cargo.toml"),
        ("not-toml", "cargo cannot read the crate"),
        // Cargo's own words, with the place in the source.
        ("broken", "src/lib.rs:1:21"),
        ("no-cdylib", "the crate sample builds no component"),
        ("no-task", "exports no interface `task`"),
        ("no-package", "a workspace without a package of its own"),
    ] {
        let output = machine.run(["run", dir, "-i", "1"]);
        let said = output.error(2);
        assert!(said.contains(dir) && said.contains(says), "{output}");
        assert_eq!(machine.run(["build", dir]).code, 2, "{dir}");
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
    let machine = machine.var("PATH", &bin);
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
fn a_missing_target_says_how_to_get_it() {
    use std::os::unix::fs::PermissionsExt;
    let machine = machine();
    machine.write("crate/Cargo.toml", "[package]\nname = \"sample\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n");
    machine.write("crate/src/lib.rs", "//! Nothing.\n");
    // A compiler that has no such target, and no rustup.
    let rustc = machine.write("bin/rustc", "#!/bin/sh\necho /nowhere\n");
    std::fs::set_permissions(rustc, std::fs::Permissions::from_mode(0o700)).unwrap();
    let dirs = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("cargo"))
        .collect::<Vec<_>>();
    let cargo = dirs.iter().find(|path| path.is_file()).unwrap().display().to_string();
    let wrapper = machine.write("bin/cargo", format!("#!/bin/sh\nexec '{cargo}' \"$@\"\n"));
    std::fs::set_permissions(wrapper, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:/usr/bin:/bin", machine.cwd().join("bin").display());
    let output = machine.var("PATH", &path).run(["run", "crate", "-i", "1"]);
    let said = output.error(2);
    assert!(
        said.contains("wasm32-wasip2") && said.contains("rustup target add wasm32-wasip2"),
        "{output}"
    );
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
        (&asks, "{\"prompts\": ", "--input is no JSON: EOF while parsing"),
        (&asks, "", "--input is no JSON"),
        (
            &asks,
            "input.json",
            "--input is no JSON, but there is a file input.json",
        ),
        (
            &asks,
            "@list.json",
            "list.json is no JSON: EOF while parsing a list at line 1 column 5",
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
    assert!(output.error(2).contains("stdin is no JSON"), "{output}");
    let endless = "[".repeat(1_000_000);
    let output = machine.piped(["run", asks.as_str()], &endless);
    assert!(
        output.error(2).contains("stdin is no JSON: recursion limit exceeded"),
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

    // A guest that can do without goes on.
    let unknown = json!({"prompts": ["a"], "mode": "parallel", "model": "tiny"});
    let document = machine_at(&server).run(run_json(&guest("asks"), &unknown, &[])).json(0);
    assert_eq!(document["outcome"]["ok"][0]["error"], "denied");
}
