//! The messages of a build that cannot succeed: what happened, where, and what to do. The texts are part of the
//! product.

use std::os::unix::fs::PermissionsExt;

use agenthost::error::Classify as _;
use agenthost::plugin::{PluginInfo, build};
use agenthost_tests::env::TestEnv;
use agenthost_tests::guests::workspace;
use wit_component::StringEncoding;
use wit_parser::Resolve;

use crate::machine;

const CDYLIB: &str = "crate-type = [\"cdylib\"]\n";

/// A machine that fetches nothing, with crates that its user trusts.
fn offline() -> TestEnv {
    let machine = machine().var("CARGO_NET_OFFLINE", "true");
    assert_eq!(machine.run(["trust", "."]).code, 0);
    machine
}

/// Writes a crate of no workspace.
fn write_crate(machine: &TestEnv, name: &str, lib: &str, more: &str, code: &str) {
    let text = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\n{lib}{more}[workspace]\n"
    );
    machine.write(&format!("{name}/Cargo.toml"), text);
    machine.write(&format!("{name}/src/lib.rs"), code);
}

/// A dependency by path.
fn on(name: &str) -> String {
    format!("[dependencies]\n{name} = {{ path = \"../{name}\" }}\n")
}

/// The messages of building `dir`; the exit code must be `code`.
fn said(machine: &TestEnv, dir: &str, code: i32) -> String {
    let output = machine.run(["build", dir]);
    machine.redact(output.error(code))
}

#[test]
fn a_directory_that_is_no_plugin_says_why() {
    let machine = offline();
    std::fs::create_dir(machine.cwd().join("empty")).unwrap();
    machine.write("not-toml/Cargo.toml", "[package\n");
    write_crate(&machine, "broken", CDYLIB, "", "pub fn f() -> u32 { \"no number\" }\n");
    write_crate(&machine, "no-cdylib", "", "", "//! Nothing.\n");
    write_crate(&machine, "no-task", CDYLIB, "", "//! Nothing.\n");
    let metadata = "[package.metadata.agenthost.limits]\ntoken = 20_000\n";
    write_crate(&machine, "limit-key", CDYLIB, metadata, "//! Nothing.\n");
    let metadata = "[package.metadata.agenthost.limits]\ntokens = \"lots\"\n";
    write_crate(&machine, "limit-value", CDYLIB, metadata, "//! Nothing.\n");
    machine.write(
        "program/Cargo.toml",
        "[package]\nname = \"program\"\nversion = \"0.1.0\"\n[workspace]\n",
    );
    machine.write("program/src/main.rs", "fn main() {}\n");
    machine.write("no-package/Cargo.toml", "[workspace]\nmembers = [\"one\"]\n");
    machine.write(
        "no-package/one/Cargo.toml",
        "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    machine.write("no-package/one/src/lib.rs", "//! Nothing.\n");
    let library = "hint: A plugin is a library: give it a src/lib.rs, and `crate-type = [\"cdylib\"]` under [lib] in its Cargo.toml.\n";
    let limits = "hint: Write limits as under [limits] in agenthost.toml: tokens = 20_000, memory = \"32MiB\", timeout = \"1m\".\n";
    for (dir, says) in [
        (
            "empty",
            "not a crate: it has no Cargo.toml\n\n\
             hint: Give the directory that contains the plugin's Cargo.toml, or a .wasm file.\n",
        ),
        (
            "not-toml",
            "cargo cannot read the crate: unclosed table, expected `]` (Cargo.toml:1:9)\n\n\
             hint: Fix the error; `cargo metadata` in that directory repeats it. Add -v for the full report of the \
             tool.\n",
        ),
        (
            "broken",
            "the plugin does not compile\n  \
             src/lib.rs:1:21: error[E0308]: mismatched types: expected `u32`, found `&str`\n\n\
             hint: Fix the code at the places that are shown and run the command again. Add -v for the full report of \
             the tool.\n",
        ),
        (
            "no-cdylib",
            &format!("the crate no-cdylib builds no component\n\n{library}"),
        ),
        (
            "limit-key",
            &format!(
                "[package.metadata.agenthost.limits]: unknown limit `token`; the known ones are tokens, cost, calls, \
                 fuel, memory, timeout, tasks, depth\n\n{limits}"
            ),
        ),
        (
            "limit-value",
            &format!(
                "[package.metadata.agenthost.limits]: `tokens`: `lots` is not a count; write a whole number such as \
                 200000, 200_000 or 200k (k, M, G or T); or none for no limit\n\n{limits}"
            ),
        ),
        ("program", &format!("the crate program has no library\n\n{library}")),
        (
            "no-task",
            "the component exports no interface `task`; it exports nothing\n\n\
             hint: Write the types of the task to wit/world.wit, and `agenthost_sdk::plugin!();` with a function `run` to src/lib.rs.\n",
        ),
        (
            "no-package",
            "a workspace without a package of its own\n\n\
             hint: Give the directory of the plugin's own package, such as one.\n",
        ),
    ] {
        let place = if says.starts_with("[package.") {
            "/Cargo.toml"
        } else {
            ""
        };
        assert_eq!(said(&machine, dir, 2), format!("error: [work]/{dir}{place}: {says}"));
        assert_eq!(machine.run(["run", dir, "-i", "1"]).code, 2, "{dir}");
    }
}

#[test]
fn the_report_of_the_compiler_follows_the_hint_if_it_is_asked_for() {
    let machine = offline();
    write_crate(&machine, "broken", CDYLIB, "", "pub fn f() -> u32 { \"no number\" }\n");
    let report = "error[E0308]: mismatched types\n --> src/lib.rs:1:21\n  |\n1 | pub fn f() -> u32 { \"no number\" }\n  \
                  |               ---   ^^^^^^^^^^^ expected `u32`, found `&str`\n  |               |\n  \
                  |               expected `u32` because of return type";
    for command in [
        ["build", "broken", "-v"].as_slice(),
        &["run", "broken", "-i", "1", "-v"],
    ] {
        let output = machine.run(command);
        let text = output.error(2);
        let (head, shown) = text.split_once("\n\nhint: ").unwrap();
        assert!(head.ends_with("the plugin does not compile\n  src/lib.rs:1:21: error[E0308]: mismatched types: expected `u32`, found `&str`"), "{text}");
        let indented = report.replace('\n', "\n  ");
        assert_eq!(
            shown,
            format!("Fix the code at the places that are shown and run the command again.\n\n  {indented}\n")
        );
    }
    let output = machine.run(["build", "broken", "--json"]);
    let error = &output.json(2)["error"];
    assert_eq!(error["output"], report);
    assert_eq!(
        error["hint"],
        "Fix the code at the places that are shown and run the command again."
    );
}

#[test]
fn the_first_build_shows_its_progress_and_waits_for_another_build() {
    let machine = offline();
    write_crate(&machine, "helper", "", "", "//! Nothing.\n");
    let waits = "fn main() { std::thread::sleep(std::time::Duration::from_secs(2)) }\n";
    machine.write("helper/build.rs", waits);
    write_crate(&machine, "sample", CDYLIB, &on("helper"), "//! Nothing.\n");
    // As cargo does in a build of the same directory.
    let lock = machine.write("sample/target/wasm32-wasip2/release/.cargo-lock", "");
    let lock = std::fs::File::create(lock).unwrap();
    lock.lock().unwrap();
    let started = machine.start_on_terminal(80, 24, ["build", "sample"]);
    let lines = started.screen.wait_for("the lock", |lines| {
        lines
            .last()
            .is_some_and(|line| line.contains("building sample  waiting for another build to release the "))
    });
    assert!(lines.last().unwrap().ends_with(" s"), "{lines:#?}");
    lock.unlock().unwrap();
    started.screen.wait_for("the progress", |lines| {
        let line = lines.last().map(|line| line.split_whitespace().collect::<Vec<_>>());
        line.is_some_and(|words| matches!(words[..], [_, "building", "sample", counts, _, "s"] if counts.contains('/')))
    });
    let (code, screen) = started.finish();
    assert_eq!(code, 2, "it is not a plugin: {screen:?}");
    let shown = screen.lines.join("\n");
    assert!(!shown.contains("building sample"), "{shown}");
    assert!(shown.contains("the component exports no"), "{shown}");
}

#[test]
fn wit_that_is_wrong_is_shown_with_its_line_before_anything_is_compiled() {
    // Whatever is compiled, it is not found.
    let machine = offline().var("RUSTC", "/nowhere/rustc");
    let other = "package demo:other@0.2.0;\ninterface task {\n  run: async func(input: u8) -> u8;\n}\n";
    machine.write("changed/wit/deps/other/world.wit", other);
    let later = other.replace("demo:other", "demo:x-other");
    machine.write("changed-later/wit/deps/x-other/world.wit", later);
    let place = |dir: &str, at: &str, line: &str, caret: &str| {
        format!("\n     --> [work]/{dir}/wit/world.wit:4:{at}\n      |\n    4 | {line}\n      | {caret}\n\n")
    };
    for (dir, wit, says) in [
        (
            "syntax",
            "package demo:x@0.1.0;\n\ninterface task {\n  run: async func(input strin) -> string;\n}\n",
            format!(
                "expected ':', found an identifier{}hint: Fix the WIT at the place that is shown.\n",
                place(
                    "syntax",
                    "25",
                    "  run: async func(input strin) -> string;",
                    "                        ^"
                )
            ),
        ),
        (
            "name",
            "package demo:x@0.1.0;\n\ninterface task {\n  run: async func(input: strin) -> string;\n}\n",
            format!(
                "name `strin` does not exist{}hint: Fix the WIT at the place that is shown: the nearest name is `string`.\n",
                place(
                    "name",
                    "26",
                    "  run: async func(input: strin) -> string;",
                    "                         ^----"
                )
            ),
        ),
        (
            "type",
            "package demo:x@0.1.0;\n\ninterface task {\n  run: async func(input: sentimant) -> u8;\n  enum sentiment { good, bad }\n}\n",
            format!(
                "name `sentimant` does not exist{}hint: Fix the WIT at the place that is shown: the nearest name is `sentiment`.\n",
                place(
                    "type",
                    "26",
                    "  run: async func(input: sentimant) -> u8;",
                    "                         ^--------"
                )
            ),
        ),
        (
            "elsewhere",
            "package demo:x@0.1.0;\n\ninterface task {\n  run: async func(input: mood) -> u8;\n}\ninterface types {\n  enum mood { good }\n}\n",
            format!(
                "name `mood` does not exist{}hint: Fix the WIT at the place that is shown: `mood` is of another interface, and \
                 `use INTERFACE.{{mood}};` brings it here.\n",
                place(
                    "elsewhere",
                    "26",
                    "  run: async func(input: mood) -> u8;",
                    "                         ^---"
                )
            ),
        ),
        (
            "failure",
            "package demo:x@0.1.0;\n\ninterface task {\n  run: async func() -> result<u8, failure>;\n}\n",
            format!(
                "name `failure` does not exist{}hint: Fix the WIT at the place that is shown: `failure` is of another interface, \
                 and `use agenthost:plugin/types@0.1.0.{{failure}};` brings it here.\n",
                place(
                    "failure",
                    "35",
                    "  run: async func() -> result<u8, failure>;",
                    "                                  ^------"
                )
            ),
        ),
        (
            "package",
            "interface task {\n  run: async func(input: string) -> string;\n}\n",
            "no `package` header was found in any WIT file for this package\n\n\
             hint: Begin the file with `package NAMESPACE:NAME@0.1.0;`: it is the plugin's name.\n"
                .to_owned(),
        ),
        (
            "sub-agent",
            "package demo:x@0.1.0;\n\nworld x {\n  import demo:other/task@0.1.0;\n}\n",
            format!(
                "package 'demo:other@0.1.0' not found. known packages:\n    agenthost:plugin@0.1.0\n    demo:x@0.1.0{}\
                 hint: Declare the plugin that it belongs to under [package.metadata.agenthost.sub-agents] in Cargo.toml, and the \
                 build copies its WIT; or put the .wit files into wit/deps/NAME.\n",
                place(
                    "sub-agent",
                    "10",
                    "  import demo:other/task@0.1.0;",
                    "         ^---------"
                )
            ),
        ),
        (
            "changed",
            "package demo:x@0.1.0;\n\nworld x {\n  import demo:other/task@0.1.0;\n}\n",
            format!(
                "package 'demo:other@0.1.0' not found. known packages:\n    agenthost:plugin@0.1.0\n    demo:other@0.2.0\n    \
                 demo:x@0.1.0{}\
                 hint: The plugin that is declared, or lies in wit/deps, is demo:other@0.2.0, and the WIT names demo:other at \
                 0.1.0: name demo:other@0.2.0 in wit/world.wit, and fix what has changed with it.\n",
                place(
                    "changed",
                    "10",
                    "  import demo:other/task@0.1.0;",
                    "         ^---------"
                )
            ),
        ),
        // The error names fewer packages than there are.
        (
            "changed-later",
            "package demo:x@0.1.0;\n\nworld x {\n  import demo:x-other/task@0.1.0;\n}\n",
            format!(
                "package 'demo:x-other@0.1.0' not found. known packages:\n    agenthost:plugin@0.1.0\n    demo:x@0.1.0{}\
                 hint: The plugin that is declared, or lies in wit/deps, is demo:x-other@0.2.0, and the WIT names demo:x-other at \
                 0.1.0: name demo:x-other@0.2.0 in wit/world.wit, and fix what has changed with it.\n",
                place(
                    "changed-later",
                    "10",
                    "  import demo:x-other/task@0.1.0;",
                    "         ^-----------"
                )
            ),
        ),
        (
            "contract",
            "package demo:x@0.1.0;\n\nworld x {\n  include agenthost:plugin/plugin@0.2.0;\n}\n",
            format!(
                "package 'agenthost:plugin@0.2.0' not found. known packages:\n    agenthost:plugin@0.1.0\n    demo:x@0.1.0{}\
                 hint: This host has agenthost:plugin@0.1.0: name that version in `use` and `include`, or use an agenthost of the \
                 other version.\n",
                place(
                    "contract",
                    "11",
                    "  include agenthost:plugin/plugin@0.2.0;",
                    "          ^---------------"
                )
            ),
        ),
    ] {
        write_crate(&machine, dir, CDYLIB, "", "//! Nothing.\n");
        machine.write(&format!("{dir}/wit/world.wit"), wit);
        assert_eq!(
            said(&machine, dir, 2),
            format!("error: the WIT in [work]/{dir}/wit is wrong: {says}")
        );
    }
    // A copy of the contract that another SDK left there.
    let contract = std::fs::read_to_string(workspace().join("wit/plugin.wit")).unwrap();
    let newer = contract.replace("agenthost:plugin@0.1.0", "agenthost:plugin@0.2.0");
    machine.write("contract/wit/deps/agenthost/plugin.wit", newer);
    assert_eq!(
        said(&machine, "contract", 2),
        "error: [work]/contract/wit/deps/agenthost/plugin.wit: it is agenthost:plugin@0.2.0, and this host has agenthost:plugin@0.1.0\n\n\
         hint: Delete the copy, which agenthost-sdk brings along, and use the agenthost-sdk of this host's version; or use an \
         agenthost of that version.\n"
    );
}

#[test]
fn a_missing_target_says_how_to_get_it() {
    let machine = offline();
    write_crate(&machine, "sample", CDYLIB, "", "//! Nothing.\n");
    let tool = |name: &str, script: &str| {
        let path = machine.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    // A compiler without the target, and without rustup.
    tool("rustc", "echo /nowhere");
    let path = std::env::var_os("PATH").unwrap();
    let mut dirs = std::env::split_paths(&path).map(|dir| dir.join("cargo"));
    let cargo = dirs.find(|path| path.is_file()).unwrap();
    tool("cargo", &format!("exec '{}' \"$@\"", cargo.display()));
    let path = format!("{}:/usr/bin:/bin", machine.cwd().join("bin").display());
    let machine = machine.var("PATH", &path);
    let hint =
        "hint: Run `rustup target add wasm32-wasip2`, or install the wasm32-wasip2 standard library of your Rust.\n";
    assert_eq!(
        said(&machine, "sample", 2),
        format!("error: the compile target wasm32-wasip2 is missing\n\n{hint}")
    );
    // And a rustup that reaches nothing.
    let rustup = machine.write(
        "bin/rustup",
        "#!/bin/sh\necho 'error: could not download' >&2; exit 1\n",
    );
    std::fs::set_permissions(rustup, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        said(&machine, "sample", 2),
        format!(
            "error: the compile target wasm32-wasip2 is missing and rustup cannot add it: could not download\n\n{hint}"
        )
    );
}

#[test]
fn a_crate_that_does_not_build_for_plugins_is_named_with_the_way_to_it() {
    let machine = offline();
    write_crate(&machine, "mio", "", "", "compile_error!(\"no such wasm\");\n");
    write_crate(&machine, "client", "", &on("mio"), "//! Nothing.\n");
    write_crate(&machine, "sample", CDYLIB, &on("client"), "//! Nothing.\n");
    let hint = "hint: A plugin has no sockets, no threads and no C library: leave the crate out, or turn off the feature that \
                brings it, often with `default-features = false`. Add -v for the full report of the tool.\n";
    assert_eq!(
        said(&machine, "sample", 2),
        format!(
            "error: [work]/sample: the crate mio 0.1.0 (sample -> client -> mio) cannot be built for wasm32-wasip2: no such wasm ([work]/mio/src/lib.rs:1:1)\n\n\
             {hint}"
        )
    );
    write_crate(&machine, "mio", "", "", "//! Nothing.\n");
    machine.write(
        "mio/build.rs",
        "fn main() { eprintln!(\"no clang\"); std::process::exit(1) }\n",
    );
    assert_eq!(
        said(&machine, "sample", 2),
        format!(
            "error: [work]/sample: the crate mio 0.1.0 (sample -> client -> mio) cannot be built for wasm32-wasip2: its build script \
             failed: no clang\n\n{hint}"
        )
    );
}

#[test]
fn a_crate_that_brings_sockets_or_threads_is_named_with_the_way_to_it() {
    let machine = offline();
    // A plugin without the SDK, which takes long to build: its types as the linker wants them, and one function.
    let mut resolve = Resolve::default();
    let wit = "package demo:dials@0.1.0; interface task { run: func(input: u32) -> u32; } world dials { export task; }";
    let package = resolve.push_str("world.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let types = wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None).unwrap();
    machine.write("dials/src/types", &types);
    let code = format!(
        "#[used]\n#[unsafe(link_section = \"component-type:dials\")]\nstatic TYPES: [u8; {}] = *include_bytes!(\"types\");\n\
         #[unsafe(export_name = \"demo:dials/task@0.1.0#run\")]\npub extern \"C\" fn run(port: u32) -> u32 {{ client::dial(port) }}\n",
        types.len()
    );
    write_crate(&machine, "dials", CDYLIB, &on("client"), &code);
    let all = format!(
        "{}rayon-core = {{ path = \"../rayon-core\" }}\njs-sys = {{ path = \"../js-sys\" }}\n",
        on("socket2")
    );
    let client = "pub fn dial(port: u32) -> u32 { rayon_core::go(port); js_sys::go(port); socket2::dial(port) }\n";
    write_crate(&machine, "client", "", &all, client);
    let dial = "pub fn dial(port: u32) -> u32 {\n    u32::from(std::net::TcpStream::connect((\"127.0.0.1\", port as u16)).is_ok())\n}\n";
    write_crate(&machine, "socket2", "", "", dial);
    let go = "pub fn go(_: u32) {}\n";
    write_crate(&machine, "rayon-core", "", "", go);
    write_crate(&machine, "js-sys", "", "", go);

    let text = said(&machine, "dials", 4);
    let note = "note: a task has one thread, and starting another fails; these crates start threads: rayon-core 0.1.0 (dials -> \
                client -> rayon-core)\nnote: a task has no network and no JavaScript, and a crate for browsers stops it at its first \
                call; these crates are for browsers: js-sys 0.1.0 (dials -> client -> js-sys)\n";
    let ends = "\n  the crate that uses the network: socket2 0.1.0 (dials -> client -> socket2)\n\n\
                hint: A plugin has no network: ask a model through agenthost_sdk instead, and let the operator pass data in as \
                input.\n";
    assert!(text.starts_with(note) && text.ends_with(ends), "{text}");
    assert!(text.contains(" imports that are not offered:\n"), "{text}");
    let run = machine.run(["run", "dials", "-i", "1"]);
    assert!(run.error(4).ends_with(ends), "{run}");
    let inspected = machine.run(["inspect", "dials"]);
    assert!(
        inspected.code == 0 && inspected.stderr.contains("socket2 0.1.0"),
        "{inspected}"
    );
    assert!(inspected.stdout.contains("; is refused, for "), "{inspected}");

    // If no crate is known for it, the message states that instead of a guess.
    write_crate(
        &machine,
        "client",
        "",
        "",
        &dial.replace(
            "TcpStream::connect((\"127.0.0.1\", port as u16))",
            "TcpListener::bind((\"127.0.0.1\", port as u16))",
        ),
    );
    let text = said(&machine, "dials", 4);
    assert!(
        text.contains(
            "\n  no crate that is known for using the network is among its dependencies; it may be its own code, or a crate that \
             `cargo tree --edges normal --target wasm32-wasip2` lists\n"
        ),
        "{text}"
    );
}

#[test]
fn what_the_macro_finds_wrong_is_said_once_and_with_a_hint() {
    let machine = offline();
    // The workspace's own build has the dependencies of the SDK in it. Built from within, because the first build of the SDK
    // takes longer than the command line is given here.
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let settings = format!(
        "[build]\ntarget-dir = \"{}\"\n[net]\noffline = true\n",
        target.display()
    );
    machine.write("shapes/.cargo/config.toml", settings);
    let dir = machine.cwd().join("shapes");
    let sdk = workspace().join("sdk").display().to_string();
    let more = format!("[dependencies]\nagenthost-sdk = {{ path = \"{sdk}\" }}\n");
    machine.write(
        "shapes/Cargo.lock",
        std::fs::read(workspace().join("Cargo.lock")).unwrap(),
    );
    let world = "package demo:shapes@0.1.0;\ninterface task { run: async func(input: string) -> string; }\nworld one { export task; }\n";
    let call = "agenthost_sdk::plugin!();\n";
    let fits = "async fn run(input: String) -> String { input }\n";
    for (wit, code, begins, hint) in [
        (
            format!("{world}world two {{ export task; }}\n"),
            format!("{call}{fits}"),
            "several worlds of demo:shapes@0.1.0 export an interface `task`",
            "Choose one of `one`, `two`, as in `plugin!(\"one\")`.",
        ),
        (
            "package demo:shapes@0.1.0;\ninterface task { run: async func(input: string) -> string; }\n".to_owned(),
            format!("{call}{fits}"),
            "no world of demo:shapes@0.1.0 exports an interface `task`",
            "Write `interface task { … run: async func(input: …) -> result<…, failure>; }` and `world … { include \
             agenthost:plugin/plugin@0.1.0; export task; }`.",
        ),
        (
            world.to_owned(),
            call.to_owned(),
            "the plugin does not compile\nsrc/lib.rs:1:1: error[E0425]: cannot find function `run` in this scope: not found in this scope",
            "Write the function `run` beside `plugin!()`, with the parameter and the result of `run` in wit/.",
        ),
        (
            world.to_owned(),
            format!("{call}async fn run(input: u32) -> String {{ String::new() }}\n"),
            "the plugin does not compile\nsrc/lib.rs:1:1: error[E0308]: mismatched types: expected ",
            "The function `run` must have the parameter and the result of `run` in wit/.",
        ),
    ] {
        write_crate(&machine, "shapes", CDYLIB, &more, &code);
        machine.write("shapes/wit/world.wit", wit);
        let error = build::build(&dir).unwrap_err();
        let said = machine.redact(&error.to_string());
        assert!(said.starts_with(&format!("[work]/shapes: {begins}")), "{said}");
        assert_eq!(error.hint().as_deref(), Some(hint), "{said}");
    }
    write_crate(&machine, "shapes", CDYLIB, &more, &format!("{call}{fits}"));
    let built = build::build(&dir).unwrap();
    let plugin = PluginInfo::open(&built.path).unwrap();
    assert_eq!(
        plugin.sdk(),
        Some(env!("CARGO_PKG_VERSION")),
        "a build writes the SDK's version down"
    );
    assert_eq!(built.notes, Vec::<String>::new());
}

#[test]
fn wrong_declarations_of_sub_agents_are_errors_that_write_nothing() {
    let machine = offline();
    let task = "interface task {\n  run: async func(input: string) -> string;\n}\n";
    machine.write("sub/wit/world.wit", format!("package demo:sub@0.1.0;\n\n{task}"));
    machine.write(
        "top/wit/world.wit",
        "package demo:top@0.1.0;\n\nworld top {\n  import demo:sub/tasks@0.1.0;\n}\n",
    );
    let declare = |entry: &str| {
        let metadata = format!("[package.metadata.agenthost.sub-agents]\n{entry}\n");
        write_crate(&machine, "top", CDYLIB, &metadata, "//! Nothing.\n");
        said(&machine, "top", 2)
    };
    let table = "error: [work]/top/Cargo.toml: [package.metadata.agenthost.sub-agents]: ";
    let entry = "hint: Write the path of a crate or of a .wasm file, and perhaps limits: { path = \"../crate\", limits = { tokens = \
                 \"20k\" } }.\n";
    for (declared, says) in [
        (
            "\"demo:sub\" = { paht = \"../sub\" }",
            format!("`demo:sub`: unknown key `paht`; it has `path` and `limits`; the nearest is `path`\n\n{entry}"),
        ),
        (
            "\"demo:other\" = { path = \"../sub\" }",
            "`demo:other` is at ../sub, which is `demo:sub`\n\n\
             hint: Write the path of demo:other there, or the name `demo:sub`.\n"
                .to_owned(),
        ),
    ] {
        assert_eq!(declare(declared), format!("{table}{says}"));
        assert!(!machine.cwd().join("top/wit/deps").exists(), "{declared}");
    }

    // With the right name, the error of the plugin's own WIT follows.
    let right = "\"demo:sub\" = { path = \"../sub\" }";
    let text = declare(right);
    assert!(text.contains("[work]/top/wit/world.wit:4:"), "{text}");
    assert!(machine.cwd().join("top/wit/deps/sub/world.wit").is_file());

    // An error in the WIT of the sub-agent is at its own file, and the copy stays as it was.
    machine.write(
        "sub/wit/world.wit",
        format!("package demo:sub@0.1.0;\n\n{}", task.replace("string)", "strin)")),
    );
    let text = declare(right);
    assert!(
        text.starts_with("error: sub-agent demo:sub: the WIT in [work]/top/../sub/wit is wrong: "),
        "{text}"
    );
    assert!(!text.contains("wit/deps"), "{text}");
}
