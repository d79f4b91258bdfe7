//! The memory of a plugin: documents that it keeps between runs, in a granted directory.

use std::os::unix::fs::symlink;
use std::path::Path;

use agenthost::journal::cassette::compare::{Change, Kind};
use agenthost::journal::cassette::{Cassette, unusual};
use agenthost::{Host, Limits};
use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Gate, Reply, Server};
use serde_json::{Value, json};

use crate::{guest, machine, machine_at, run_json};

const MEMORY: &str = "memory::/memory:rw";

/// A machine with an empty directory `memory`.
fn with_memory() -> TestEnv {
    prepared(machine())
}

fn prepared(machine: TestEnv) -> TestEnv {
    std::fs::create_dir(machine.cwd().join("memory")).unwrap();
    machine
}

fn steps(machine: &TestEnv, dirs: &[&str], input: &Value, more: &[&str]) -> Output {
    let dirs = dirs.iter().flat_map(|dir| ["--dir", dir]);
    let args: Vec<_> = dirs.chain(more.iter().copied()).collect();
    machine.run(run_json(&guest("remembers"), input, &args))
}

/// What each step gave.
#[track_caller]
fn told(output: &Output) -> Vec<String> {
    serde_json::from_value(output.json(0)["outcome"]["ok"].clone()).unwrap()
}

/// The files and directories below `dir`, in order.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(dir).unwrap().display().to_string());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn documents_stay_from_one_run_to_the_next() {
    let machine = with_memory();
    let first = json!([
        {"get": "notes/a"},
        {"put": ["notes/a", "{\"n\":  1}"]},
        {"put": ["notes/b", "2"]},
        {"put": ["z", "null"]},
        {"list": ""},
        {"count": "runs"},
    ]);
    let expected = ["none", "done", "done", "done", "notes/a notes/b z", "1"];
    assert_eq!(told(&steps(&machine, &[MEMORY], &first, &[])), expected);
    let memory = machine.cwd().join("memory");
    let stored = ["notes", "notes/a.json", "notes/b.json", "runs.json", "z.json"];
    assert_eq!(files(&memory), stored, "and no temporary file");
    assert_eq!(
        std::fs::read_to_string(memory.join("notes/a.json")).unwrap(),
        "{\"n\":  1}"
    );

    let second = json!([
        {"get": "notes/a"},
        {"remove": "notes/b"},
        {"remove": "notes/b"},
        {"list": "notes/"},
        {"list": "notes/b"},
        {"list": "r"},
        {"count": "runs"},
        {"get": "z"},
    ]);
    let expected = ["{\"n\":  1}", "done", "done", "notes/a", "", "runs", "2", "null"];
    assert_eq!(told(&steps(&machine, &[MEMORY], &second, &[])), expected);
}

#[test]
fn a_grant_of_the_configuration_is_the_memory_and_sub_directories_are_not_files_of_the_guest() {
    let machine = prepared(machine().config("[grants.\"guests:remembers\"]\ndirs = [\"memory::/memory:rw:64MiB\"]"));
    let path = machine.cwd().join("remembers.wasm");
    std::fs::copy(guest("remembers"), &path).unwrap();
    let trusted = machine.run(["trust", "agenthost.toml"]);
    assert_eq!(trusted.code, 0, "{trusted}");
    let input = json!([{"count": "a"}]);
    let output = machine.run(run_json("remembers.wasm", &input, &[]));
    assert_eq!(told(&output), ["1"]);
    assert_eq!(files(&machine.cwd().join("memory")), ["a.json"]);
}

#[test]
fn without_a_grant_every_function_returns_an_error() {
    let machine = with_memory();
    let input = json!([{"get": "a"}, {"put": ["a", "1"]}, {"remove": "a"}, {"list": ""}]);
    assert_eq!(told(&steps(&machine, &[], &input, &[])), ["Error::NotGranted"; 4]);
    // Another path is not the memory.
    let other = steps(&machine, &["memory::/data:rw"], &input, &[]);
    assert!(
        other.stderr.contains("reads no files: --dir gives it nothing"),
        "{other}"
    );
    assert_eq!(
        told(&steps(&machine, &["memory::/data:rw"], &input, &[])),
        ["Error::NotGranted"; 4]
    );

    machine.write("memory/a.json", "7");
    let expected = ["7", "Error::ReadOnly", "Error::ReadOnly", "a"];
    assert_eq!(told(&steps(&machine, &["memory::/memory"], &input, &[])), expected);
    assert_eq!(files(&machine.cwd().join("memory")), ["a.json"]);
}

#[test]
fn no_name_leads_out() {
    let machine = with_memory();
    machine.write("secret/file.json", "\"canary\"");
    machine.write("file.json", "\"canary\"");
    let memory = machine.cwd().join("memory");
    symlink("../secret", memory.join("link")).unwrap();
    symlink("../secret/file.json", memory.join("linked.json")).unwrap();
    symlink(machine.cwd().join("secret"), memory.join("absolute")).unwrap();
    std::fs::create_dir(memory.join("directory.json")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(memory.join("pipe.json"))
        .status();
    assert!(made.unwrap().success());
    let absolute = machine.cwd().join("file").display().to_string();
    let invalid = [
        "../file",
        "a/../../file",
        "/file",
        "..",
        ".",
        "",
        "./file",
        "file.json",
        "a//b",
        "A",
        "a\u{0}",
        &absolute,
    ];
    let refused = ["link/file", "linked", "absolute/file", "directory", "pipe"];
    for (names, error) in [(&invalid[..], "Error::InvalidName("), (&refused[..], "Error::Io(")] {
        for name in names {
            let gets = json!([{"get": name}]);
            let [seen] = told(&steps(&machine, &[MEMORY], &gets, &[])).try_into().unwrap();
            assert!(seen.starts_with(error), "{name:?}: {seen}");
        }
    }
    let puts: Vec<_> = invalid
        .iter()
        .chain(&["link/file", "absolute/file"])
        .map(|name| json!({"put": [name, "1"]}))
        .collect();
    for seen in told(&steps(&machine, &[MEMORY], &json!(puts), &[])) {
        assert!(seen.starts_with("Error::"), "{seen}");
    }
    // A link is replaced, and not what it leads to.
    let replaced = json!([{"put": ["linked", "1"]}, {"get": "linked"}, {"list": ""}]);
    assert_eq!(
        told(&steps(&machine, &[MEMORY], &replaced, &[])),
        ["done", "1", "linked"]
    );
    for path in ["secret/file.json", "file.json"] {
        let text = std::fs::read_to_string(machine.cwd().join(path)).unwrap();
        assert_eq!(text, "\"canary\"");
    }
    assert_eq!(files(&machine.cwd().join("secret")), ["file.json"]);
}

#[test]
fn what_is_not_a_document_is_refused() {
    let machine = with_memory();
    machine.write("memory/broken.json", "{");
    machine.write("memory/large.json", format!("\"{}\"", "x".repeat(1 << 20)));
    machine.write("memory/binary.json", b"\"\xff\"");
    machine.write("memory/readme.txt", "not listed");
    machine.write("memory/.put-1-2", "not listed");
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let input = json!([
        {"get": "broken"}, {"get": "large"}, {"get": "binary"},
        {"put": ["a", "{"]}, {"put": ["a", large]}, {"list": ""},
    ]);
    machine.write("input.json", input.to_string());
    let remembers = guest("remembers");
    let args = ["run", &remembers, "--json", "--input", "@input.json", "--dir", MEMORY];
    let seen = told(&machine.run(args));
    let expected = ["InvalidJson", "TooLarge", "InvalidJson", "InvalidJson", "TooLarge"];
    for (seen, expected) in seen.iter().zip(expected) {
        assert!(seen.starts_with(&format!("Error::{expected}(")), "{expected}: {seen}");
    }
    assert_eq!(seen[5], "binary broken large");
}

#[test]
fn a_run_stays_within_the_quota() {
    let machine = with_memory();
    let dir = "memory::/memory:rw:100KiB,files=20";
    let memory = machine.cwd().join("memory");
    let endless = json!([{"fill": ["x", 1_000_000, 10_000]}, {"get": "x0"}, {"put": ["small", "1"]}]);
    let output = steps(&machine, &[dir], &endless, &[]);
    let seen = told(&output);
    assert!(
        seen[0].starts_with("10: Error::QuotaFull(\"/memory is full: "),
        "{seen:?}"
    );
    assert_eq!((seen[1].len(), seen[2].as_str()), (10_000, "done"));
    let bytes: u64 = files(&memory)
        .iter()
        .map(|file| std::fs::metadata(memory.join(file)).unwrap().len())
        .sum();
    assert!(bytes <= 100 << 10, "{bytes}");
    let note = output.json(0)["tasks"][0]["notes"][0].clone();
    assert_eq!(note, "/memory is full: a run may put 100 KiB and 20 files there");

    // Overwriting gives nothing back, and a directory is a file.
    let overwrites = json!([{"fill": ["a/b/c/x", 1_000_000, 10]}]);
    let seen = told(&steps(&machine, &[dir], &overwrites, &[]));
    assert!(seen[0].starts_with("17: Error::QuotaFull("), "{seen:?}");
    let same: Vec<_> = (0..12)
        .map(|_| json!({"put": ["same", format!("\"{}\"", "x".repeat(9_998))]}))
        .collect();
    let seen = told(&steps(&machine, &[dir], &json!(same), &[]));
    assert_eq!(seen.iter().filter(|seen| *seen == "done").count(), 10, "{seen:?}");

    // A task whose error says so ended at a limit.
    let fails = json!([{"ask": ["large", "x"]}]);
    let output = steps(&machine, &["memory::/memory:rw:1B"], &fails, &[]);
    assert_eq!(output.json(3)["outcome"]["failure"]["limit"], "size");
}

#[test]
fn a_replay_takes_everything_from_the_record() {
    let machine = with_memory();
    machine.write("memory/before.json", "\"then\"");
    let input = json!([
        {"get": "before"}, {"count": "n"}, {"list": ""}, {"remove": "before"}, {"get": "before"}, {"put": ["a", "{"]},
    ]);
    let first = steps(&machine, &[MEMORY], &input, &[]);
    let expected = told(&first);
    let memory = machine.cwd().join("memory");
    for change in ["files", "directory"] {
        match change {
            "files" => machine.write("memory/before.json", "\"now\""),
            _ => {
                std::fs::remove_dir_all(&memory).unwrap();
                memory.clone()
            }
        };
        let replayed = machine.run(["replay", "last", "--json"]);
        assert_eq!(told(&replayed), expected, "{change}");
        let spent = |output: &Output| output.json(0)["spent"]["fuel"].clone();
        assert_eq!(spent(&replayed), spent(&first));
        assert_eq!(replayed.json(0)["differences"], json!([]), "{replayed}");
    }
    assert!(!memory.exists());
}

#[test]
fn a_killed_task_receives_what_it_read_and_does_not_write_again() {
    let gate = Gate::default();
    let server = Server::start({
        let gate = gate.clone();
        move |_| Reply::text("blue").held(&gate)
    });
    let machine = prepared(machine_at(&server));
    machine.write("memory/a.json", "\"then\"");
    let input = json!([{"get": "a"}, {"count": "n"}, {"ask": ["color", "Which color?"]}, {"get": "a"}, {"count": "n"}]);
    let args = run_json(&guest("remembers"), &input, &["--dir", MEMORY]);
    let running = machine.start(args, None);
    server.wait_until("the call", |seen| seen.len() == 1);
    running.kill();
    // Another run has changed both since.
    machine.write("memory/a.json", "\"now\"");
    machine.write("memory/n.json", "10");
    gate.open();
    let resumed = machine.run(["resume", "last", "--json"]);
    assert_eq!(told(&resumed), ["\"then\"", "1", "blue", "\"now\"", "11"]);
    assert_eq!(
        std::fs::read_to_string(machine.cwd().join("memory/n.json")).unwrap(),
        "11"
    );
    let replayed = machine.run(["replay", "last", "--json"]);
    assert_eq!(told(&replayed), told(&resumed));
    assert_eq!(replayed.json(0)["differences"], json!([]), "{replayed}");
}

#[test]
fn a_write_that_is_in_the_journal_and_perhaps_not_in_the_directory_is_done_when_the_run_is_resumed() {
    let gate = Gate::default();
    let server = Server::start({
        let gate = gate.clone();
        move |_| Reply::text("blue").held(&gate)
    });
    let machine = prepared(machine_at(&server));
    let input = json!([{"put": ["a", "1"]}, {"put": ["b", "2"]}, {"ask": ["color", "Which color?"]}]);
    let args = run_json(
        &guest("remembers"),
        &input,
        &["--dir", MEMORY, "--journal", "journal.db"],
    );
    let running = machine.start(args, None);
    server.wait_until("the call", |seen| seen.len() == 1);
    running.kill();
    gate.open();
    // As after a kill before the second result, once before the file was written and once after.
    let path = machine.cwd().join("journal.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    let removed = db.execute(
        "DELETE FROM document_result WHERE document = (SELECT max(no) FROM document)",
        [],
    );
    assert_eq!(removed.unwrap(), 1);
    drop(db);
    std::fs::remove_file(machine.cwd().join("memory/b.json")).unwrap();
    machine.write("memory/a.json", "\"of another run\"");
    let resumed = machine.run(["resume", "last", "--json", "--journal", "journal.db"]);
    assert_eq!(told(&resumed), ["done", "done", "blue"]);
    let text = |name: &str| std::fs::read_to_string(machine.cwd().join("memory").join(name)).unwrap();
    assert_eq!(
        (text("a.json").as_str(), text("b.json").as_str()),
        ("\"of another run\"", "2")
    );
}

#[test]
fn a_task_that_is_cut_off_is_cut_off_at_the_same_place_in_a_replay() {
    let machine = with_memory();
    let writes: Vec<_> = (0..20)
        .map(|n| json!({"count": format!("n{}", n % 3)}))
        .chain([json!("spin")])
        .collect();
    let cut = steps(
        &machine,
        &[MEMORY],
        &json!(writes),
        &["--timeout", "1s", "--fuel", "none"],
    );
    assert_eq!(cut.json(3)["outcome"]["failure"]["limit"], "time");
    std::fs::remove_dir_all(machine.cwd().join("memory")).unwrap();
    let replayed = machine.run(["replay", "last", "--json"]);
    assert_eq!(replayed.json(3)["differences"], json!([]), "{replayed}");
}

#[test]
fn a_run_that_failed_reads_anew_when_it_is_resumed() {
    let machine = with_memory();
    machine.write("memory/n.json", "\"not a number\"");
    let fails = json!([{"ask": ["/", "x"]}]);
    let failed = steps(&machine, &[MEMORY], &json!([{"get": "n"}, fails[0]]), &[]);
    assert_eq!(failed.json(1)["outcome"]["failure"]["class"], "failed");
    let again = machine.run(["resume", "last", "--failed", "--json"]);
    assert_eq!(again.json(1)["outcome"]["failure"]["class"], "failed");
    let shown = machine.run(["show", "last", "--json"]).json(0);
    assert_eq!(
        shown["memory"].as_array().unwrap().len(),
        1,
        "the first record is replaced: {shown}"
    );
}

#[test]
fn show_has_the_documents_of_each_task() {
    let machine = with_memory();
    let input = json!([{"get": "notes/a"}, {"put": ["notes/a", "[1,2]"]}, {"list": "notes/"}, {"remove": "notes/a"}]);
    told(&steps(&machine, &[MEMORY], &input, &[]));
    let page = machine.run(["show", "last"]);
    let lines: Vec<_> = page
        .stdout
        .lines()
        .skip_while(|line| !line.contains("DOCUMENT"))
        .take(5)
        .collect();
    let words = |line: &&str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        lines.iter().map(words).collect::<Vec<_>>(),
        [
            "TASK MEMORY DOCUMENT BYTES RESULT",
            "root get notes/a 0 no such document",
            "root put notes/a 5",
            "root list notes/* 7",
            "root remove notes/a 0",
        ]
    );
    let detail = machine.run(["show", "last", "--task", "root"]);
    assert!(detail.stdout.contains("memory put notes/a\n    [1,2]"), "{detail}");
    let document = machine.run(["show", "last", "--task", "root", "--json"]).json(0);
    assert_eq!(document["memory"][1]["bytes"], 5);
    let put = &document["task"]["memory"][1];
    assert_eq!((&put["action"], &put["json"]), (&json!("put"), &json!("[1,2]")));
    assert_eq!(document["task"]["memory"][2]["result"]["names"], json!(["notes/a"]));
}

#[test]
fn without_bodies_the_journal_has_no_documents() {
    let machine = prepared(machine().config("[journal]\nbodies = \"none\""));
    let input = json!([{"put": ["canary-name", "\"canary-text\""]}, {"get": "canary-name"}, {"list": ""}]);
    told(&steps(&machine, &[MEMORY], &input, &[]));
    let shown = machine.run(["show", "last", "--task", "root", "--json"]);
    let operations = shown.json(0)["task"]["memory"].as_array().unwrap().len();
    assert_eq!((operations, shown.stdout.contains("canary")), (3, false), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cassette_plays_without_a_directory() {
    let machine = with_memory();
    machine.write("memory/n.json", "41");
    let input = json!([{"count": "n"}, {"list": ""}]);
    let expected = told(&steps(&machine, &[MEMORY], &input, &["--record", "cassette.json"]));
    let path = machine.cwd().join("cassette.json");
    let mut cassette = Cassette::read(&path).unwrap();
    let actions: Vec<_> = cassette.tasks[0]
        .memory
        .iter()
        .map(|operation| operation.action.name())
        .collect();
    assert_eq!(actions, ["get", "put", "list"]);

    let host = Host::builder().cache_dir(machine.compiled()).build().unwrap();
    let plugin = host.load(&*guest("remembers")).await.unwrap();
    let play = async |cassette: &Cassette| {
        let rehearsal = host.rehearse(&plugin, cassette).unwrap();
        let report = rehearsal.run.report().await;
        let limits = Limits::task_default().overridden_by(&cassette.limits());
        let mut now = rehearsal.tape.cassette(unusual(&limits)).unwrap();
        (report.outcome.clone(), cassette.changes(&mut now))
    };
    let (outcome, changes) = play(&cassette).await;
    assert_eq!((outcome.ok(), changes), (Some(&json!(expected)), Vec::new()));

    // What the task does now is compared with the cassette.
    let kinds = |changes: &[Change]| changes.iter().map(|change| change.kind).collect::<Vec<_>>();
    cassette.tasks[0].memory[1].json = Some("7".to_owned());
    let (_, changes) = play(&cassette).await;
    assert_eq!(kinds(&changes), [Kind::Memory]);
    assert!(
        changes[0].diff.as_ref().unwrap().contains("-put n 7\n+put n 42"),
        "{changes:?}"
    );
    cassette.tasks[0].memory.truncate(2);
    let (_, changes) = play(&cassette).await;
    assert!(kinds(&changes).contains(&Kind::Unrecorded), "{changes:?}");

    // Files are not in a cassette.
    let reads = guest("reads-files");
    let input = json!({"path": "/data/file"}).to_string();
    let refused = machine.run([
        "run",
        &reads,
        "-i",
        &input,
        "--dir",
        "memory::/data",
        "--record",
        "c.json",
    ]);
    assert!(refused.error(2).contains("which a cassette does not have"), "{refused}");
}

#[test]
fn two_processes_write_one_document_and_it_is_always_one_of_theirs() {
    let machine = with_memory();
    let write = |letter: &str| {
        let puts: Vec<_> = (0..100)
            .map(|_| json!({"put": ["shared/document", json!(letter.repeat(5_000)).to_string()]}))
            .collect();
        let gets = puts
            .iter()
            .flat_map(|put| [put.clone(), json!({"get": "shared/document"})]);
        let path = format!("{letter}.json");
        machine.write(&path, json!(gets.collect::<Vec<_>>()).to_string());
        let input = format!("@{path}");
        machine.start(
            ["run", &guest("remembers"), "--json", "--input", &input, "--dir", MEMORY],
            None,
        )
    };
    let writers = ["a", "b"].map(write);
    for writer in writers {
        let output = writer.finish();
        for seen in told(&output).iter().filter(|seen| *seen != "done") {
            let text: String = serde_json::from_str(seen).unwrap();
            assert!(text == "a".repeat(5_000) || text == "b".repeat(5_000), "{text}");
        }
    }
    assert_eq!(files(&machine.cwd().join("memory")), ["shared", "shared/document.json"]);
}
