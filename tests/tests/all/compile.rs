//! Compiling is bounded: what is counted first, the child process with its limits, and that it dies with its parent.

use std::time::{Duration, Instant};

use agenthost::Host;
use agenthost::error::ErrorClass;
use agenthost::plugin::PluginInfo;
use agenthost::sandbox::{Compile, CompileLimits};
use agenthost_tests::env::TestEnv;
use serde_json::Value;

use crate::machine;

/// A plugin `evil:bomb` with more in its module, and more components behind it.
fn bomb(in_module: &str, more: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (core module $m
            (memory (export "memory") 1)
            (func (export "run") (param i32 i32) (result i32) i32.const 16)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            {in_module})
          (core instance $i (instantiate $m))
          (func $run (param "input" string) (result (result string (error string)))
            (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc"))))
          (instance $task (export "run" (func $run)))
          (export "evil:bomb/task@0.1.0" (instance $task))
          {more})"#
    );
    wat::parse_str(text).unwrap()
}

/// Components that instantiate each other, `copies` of each in the next.
fn laughs(levels: usize, copies: usize) -> Vec<u8> {
    let mut inner = r#"(component $c0 (core module $m) (core instance (instantiate $m)))"#.to_owned();
    for level in 1..=levels {
        let below = level - 1;
        let instances = format!("(instance (instantiate $c{below}))").repeat(copies);
        inner = format!("(component $c{level} {inner} {instances})");
    }
    bomb("", &format!("{inner} (instance (instantiate $c{levels}))"))
}

/// A function of `locals` locals that are all carried through `loops` loops inside each other.
fn carries(locals: usize, loops: usize) -> String {
    let mut text = format!("(func (local{})", " i32".repeat(locals));
    for local in 0..locals {
        text += &format!(" (local.set {local} (i32.load (i32.const 0)))");
    }
    text += &" loop".repeat(loops);
    for local in 0..locals {
        text += &format!(" (local.set {local} (i32.add (local.get {local}) (i32.const 1)))");
    }
    text += &" (br_if 0 (i32.load (i32.const 0))) end".repeat(loops);
    text + ")"
}

/// Within every bound, and yet the compiler works on it for a long time.
fn slow() -> Vec<u8> {
    bomb(&carries(900, 440).repeat(20), "")
}

/// The limits of the user's own configuration.
fn limited(machine: TestEnv, limits: &str) -> TestEnv {
    machine.write("../config/agenthost/config.toml", format!("[compile]\n{limits}\n"));
    machine
}

/// The child of a process, if it has one.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    children
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .find_map(|children| children.split_whitespace().next()?.parse().ok())
}

/// Waits until `of` gives something.
fn wait_for<T>(what: &str, mut of: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = of() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns `Some` if a process has ended; a zombie counts as ended.
fn ended(pid: u32) -> Option<()> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => Some(()),
        Ok(stat) => stat.rsplit_once(") ")?.1.starts_with(['Z', 'X']).then_some(()),
    }
}

#[test]
fn a_component_that_multiplies_is_refused_by_every_command_before_it_is_decoded() {
    let machine = machine();
    machine.write("bomb.wasm", laughs(8, 10));
    for command in [
        vec!["inspect", "bomb.wasm"],
        vec!["inspect", "--check", "bomb.wasm"],
        vec!["vet", "bomb.wasm"],
        vec!["push", "bomb.wasm", "evil:bomb"],
        vec!["plan", "bomb.wasm", "--input", "\"x\""],
        vec!["run", "bomb.wasm", "--input", "\"x\""],
    ] {
        let refused = machine.run(&command);
        assert_eq!(refused.code, 2, "{command:?}: {refused}");
        if command[0] == "push" {
            continue; // It has no registry, and reports that first.
        }
        let said = "the component instantiates 100,000,001 core instances; at most 1,000 are allowed";
        assert!(refused.stderr.contains(said), "{command:?}: {refused}");
    }
}

#[test]
fn a_function_that_the_compiler_could_not_bear_is_refused_before_it_is_compiled_wherever_that_is() {
    let bytes = bomb(&carries(2000, 1000), "");
    let said = "the loops of a function carry 2,000,000 locals together; at most 400,000 are allowed";
    let machine = machine();
    let in_process = machine.host();
    let error = in_process.load_bytes(&bytes).err().unwrap();
    assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::Plugin, said));
    machine.write("bomb.wasm", &bytes);
    let refused = machine.run(["inspect", "--check", "bomb.wasm"]);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains(said), "{refused}");
}

#[test]
fn a_compiler_that_needs_more_memory_or_time_than_its_limit_ends_with_the_limit_and_its_key() {
    let small = bomb("", "");
    for (limits, bytes, said) in [
        (
            "memory = \"64MiB\"",
            &small,
            "needs more than 64 MiB of memory, the limit `memory` in [compile]",
        ),
        (
            "time = \"200ms\"",
            &slow(),
            "takes longer than 200ms, the limit `time` in [compile]",
        ),
    ] {
        let machine = limited(machine(), limits);
        machine.write("bomb.wasm", bytes);
        for command in [
            vec!["inspect", "--check", "bomb.wasm"],
            vec!["vet", "bomb.wasm"],
            vec!["run", "bomb.wasm", "--input", "\"x\""],
        ] {
            let refused = machine.run(&command);
            assert_eq!(refused.code, 2, "{command:?}: {refused}");
            assert!(refused.stderr.contains(said), "{command:?}: {refused}");
            assert!(refused.stderr.contains("hint:"), "{refused}");
        }
        let mut document = machine.run(["inspect", "--check", "bomb.wasm", "--json"]).json(2);
        assert_eq!(document["error"].take()["class"], "plugin");
    }
}

#[test]
fn a_project_lowers_the_limits_of_its_user_and_never_raises_them() {
    let machine = limited(machine(), "memory = \"1GiB\"").config("[compile]\nmemory = \"2GiB\"\n");
    machine.write("small.wasm", bomb("", ""));
    let refused = machine.run(["inspect", "--check", "small.wasm"]);
    assert_eq!(refused.code, 2, "{refused}");
    let said = "agenthost.toml:2: `memory` in [compile] is more than the user's own configuration allows";
    assert!(refused.stderr.contains(said), "{refused}");
    let machine = machine.config("[compile]\nmemory = \"64MiB\"\n");
    let refused = machine.run(["inspect", "--check", "small.wasm"]);
    assert!(refused.stderr.contains("more than 64 MiB"), "{refused}");
}

#[test]
fn what_compiling_took_is_told_and_what_is_known_is_not_compiled_again() {
    let machine = machine();
    machine.write("small.wasm", bomb("", ""));
    let compiled = |document: &Value| {
        let compile = &document["compile"];
        (
            compile["cached"].as_bool().unwrap(),
            compile["peak_memory_bytes"].as_u64(),
        )
    };
    let first = machine.run(["inspect", "--check", "small.wasm", "--json"]).json(0);
    let (cached, peak) = compiled(&first);
    assert!(!cached && peak.unwrap() > 1 << 20, "{first}");
    // The same entry serves a vetting and a run.
    assert_eq!(
        compiled(&machine.run(["vet", "small.wasm", "--json"]).json(0)),
        (true, None)
    );
    let shown = machine.run(["inspect", "--check", "small.wasm"]);
    assert!(shown.stdout.contains("in the cache already"), "{shown}");
    let before = std::fs::read_dir(machine.compiled()).unwrap().count();
    machine.run(["run", "small.wasm", "--input", "\"x\""]);
    assert_eq!(std::fs::read_dir(machine.compiled()).unwrap().count(), before);
    assert!(machine.run(["inspect", "small.wasm", "--json"]).json(0)["compile"].is_null());
}

#[test]
fn a_compiler_dies_with_the_process_that_started_it_and_that_one_stays_small() {
    let machine = machine();
    machine.write("slow.wasm", slow());
    let running = machine.start(["inspect", "--check", "slow.wasm"], None);
    let pid = running.pid();
    let child = wait_for("no child", || child_of(pid));
    let memory = |pid: u32, key: &str| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    wait_for("the child does not grow", || {
        memory(child, "VmRSS:").filter(|kib| *kib > 200 << 10)
    });
    let parent = memory(pid, "VmHWM:").unwrap();
    assert!(parent < 100 << 10, "the parent held {parent} KiB while its child grew");
    // It has an empty environment and only the descriptors that it needs.
    assert_eq!(
        std::fs::read_dir(format!("/proc/{child}/fd")).unwrap().count(),
        4,
        "stdin, stdout, stderr and its status"
    );
    let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("HOME"));
    running.kill();
    wait_for("the child outlives its parent", || ended(child));
}

#[test]
fn ctrl_c_ends_a_compiler_at_once() {
    let machine = machine();
    machine.write("slow.wasm", slow());
    let running = machine.start(["run", "slow.wasm", "--input", "\"x\""], None);
    let child = wait_for("no child", || child_of(running.pid()));
    running.interrupt();
    let output = running.finish();
    assert_eq!(output.code, 130, "{output}");
    wait_for("the child outlives Ctrl-C", || ended(child));
}

#[tokio::test]
async fn an_embedder_compiles_in_a_child_too_and_abandons_it_by_dropping_the_load() {
    let machine = machine();
    let file = machine.write("slow.wasm", slow());
    let small = machine.write("small.wasm", bomb("", ""));
    let compile = Compile::Child {
        program: env!("CARGO_BIN_EXE_agenthost-cli").into(),
        limits: CompileLimits::default(),
    };
    let host = Host::builder().compile(compile).build().unwrap();
    assert_eq!(
        host.load(small.as_path()).await.unwrap().id().to_string(),
        "evil:bomb@0.1.0"
    );

    // Other tests of this process have children, too.
    let length = format!("\"length\":{}", slow().len());
    let mine = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
            .find(|pid| {
                let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command);
                command.contains(&length) && command.contains(&format!("\"parent\":{}", std::process::id()))
            })
    };
    let loading = tokio::spawn({
        let host = host.clone();
        async move { host.load(file.as_path()).await.map(|_| ()) }
    });
    let child = loop {
        assert!(!loading.is_finished(), "it is not slow");
        match mine() {
            Some(child) => break child,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    loading.abort();
    let gone = tokio::task::spawn_blocking(move || wait_for("the child outlives the load", || ended(child)));
    gone.await.unwrap();
}

#[test]
fn types_that_expand_are_refused_before_they_are_written_out() {
    let doubled = |depth: usize| {
        let mut types = "(type $t0 (tuple string string))".to_owned();
        for level in 1..depth {
            let below = level - 1;
            types += &format!("(type $t{level} (tuple $t{below} $t{below}))");
        }
        let text = format!(
            r#"(component
              (core module $m
                (memory (export "memory") 1)
                (func (export "run") (param i32) (result i32) i32.const 16)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
              (core instance $i (instantiate $m))
              {types}
              (func $run (param "input" $t{last}) (result string)
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc"))))
              (instance $task (export "run" (func $run)))
              (export "evil:bomb/task@0.1.0" (instance $task)))"#,
            last = depth - 1
        );
        wat::parse_str(text).unwrap()
    };
    let error = PluginInfo::read(&doubled(18)).err().unwrap();
    assert_eq!(
        error.to_string(),
        "a type has 16,383 parts when all types that it uses are written out; at most 10,000 are allowed"
    );
    let plugin = PluginInfo::read(&doubled(12)).unwrap();
    let schema = plugin.input_schema().unwrap().to_string();
    assert!(schema.len() < 1 << 20 && plugin.signature().len() < 1 << 20);
}
