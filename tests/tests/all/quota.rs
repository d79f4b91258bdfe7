//! Quotas of writable directories: a plugin cannot store more than its quota, in any way.

use agenthost_tests::env::TestEnv;
use serde_json::{Value, json};

use crate::{guest, machine, run_json};

/// Runs the steps with `out` as `/out`, and gives how far each got, and the notes of the report.
#[track_caller]
fn steps(machine: &TestEnv, quota: &str, steps: &Value) -> (Vec<String>, Value) {
    let dir = format!("out::/out:rw{quota}");
    let output = machine
        .run(run_json(&guest("writes-files"), steps, &["--dir", &dir]))
        .json(0);
    let told = serde_json::from_value(output["outcome"]["ok"].clone()).unwrap();
    (told, output["tasks"][0]["notes"].clone())
}

/// `true` if a step ended for want of room. The C library of a Rust guest turns a stream's error into an I/O error.
fn is_full(told: &str) -> bool {
    told.contains("No space left") || told.contains("I/O error")
}

fn with_out() -> TestEnv {
    let machine = machine().cache(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir(machine.cwd().join("out")).unwrap();
    machine
}

/// The bytes of all files in `out`, and how many entries there are.
fn found(machine: &TestEnv) -> (u64, usize) {
    let entries: Vec<_> = std::fs::read_dir(machine.cwd().join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .collect();
    let bytes = entries.iter().filter(|found| found.is_file()).map(|found| found.len());
    (bytes.sum(), entries.len())
}

#[test]
fn no_way_of_writing_passes_the_quota() {
    for step in [
        json!({"write": ["/out/a", 300_000]}),
        json!({"append": ["/out/a", 300_000]}),
        json!({"set-size": ["/out/a", 300_000]}),
        json!({"write-at": ["/out/a", 300_000]}),
    ] {
        let machine = with_out();
        let (told, notes) = steps(&machine, ",quota=200KiB", &json!([step]));
        assert!(is_full(&told[0]), "{step}: {told:?}");
        assert!(found(&machine).0 <= 200 << 10, "{step}: {:?}", found(&machine));
        assert_eq!(
            notes,
            json!(["/out is full: a run may put 200 KiB and 10000 files there"]),
            "{step}"
        );
    }
}

#[test]
fn nothing_that_is_deleted_or_overwritten_is_given_back() {
    let machine = with_out();
    machine.write("out/before", "x".repeat(1 << 20));
    let (told, _) = steps(
        &machine,
        ",quota=200KiB",
        &json!([
            {"write": ["/out/a", 100_000]},
            {"remove": "/out/a"},
            {"write": ["/out/a", 100_000]},
            {"write": ["/out/before", 100_000]},
            {"append": ["/out/a", 10_000]},
        ]),
    );
    assert_eq!(told[..3], ["100000", "0", "100000"], "{told:?}");
    assert!(is_full(&told[3]), "{told:?}");
    assert!(is_full(&told[4]), "{told:?}");
}

#[test]
fn whatever_is_made_counts_as_a_file() {
    for (step, kept) in [
        (json!({"make-files": ["/out/n", 9]}), 5),
        (json!({"make-directories": ["/out/n", 9]}), 5),
        (json!({"make-links": ["/out/there", 9]}), 5),
        (json!({"make-symbolic-links": ["/out/n", 9]}), 5),
    ] {
        let machine = with_out();
        machine.write("out/there", "");
        let input = json!([{"write": ["/out/there", 1]}, step, {"open": "/out/there"}]);
        let (told, notes) = steps(&machine, ",files=5", &input);
        assert_eq!(told[0], "1", "what is there already is opened: {told:?}");
        assert!(
            told[1].starts_with(&format!("{kept}: No space left")),
            "{step}: {told:?}"
        );
        assert_eq!(told[2], "0", "reading goes on: {told:?}");
        assert_eq!(found(&machine).1, kept + 1, "{step}");
        assert_eq!(notes.as_array().map(Vec::len), Some(1), "{notes}");
    }
}

#[test]
fn the_default_holds_and_none_lifts_it() {
    let machine = with_out();
    let most = 64_u64 << 20;
    let input = json!([{"set-size": ["/out/a", most]}, {"append": ["/out/a", 1]}]);
    let (told, _) = steps(&machine, "", &input);
    assert_eq!(told[0], most.to_string());
    assert!(is_full(&told[1]), "{told:?}");
    let (told, notes) = steps(&machine, ",quota=none", &input);
    assert_eq!((told[1].as_str(), notes), ("1", Value::Null));
}

#[test]
fn the_items_of_a_batch_share_a_quota() {
    let machine = with_out();
    let item = |n: u32| json!([{"write": [format!("/out/{n}"), 40_000]}]).to_string() + "\n";
    machine.write("items.jsonl", (0..10).map(item).collect::<String>());
    let output = machine.run([
        "batch",
        &guest("writes-files"),
        "items.jsonl",
        "--dir",
        "out::/out:rw,quota=100000",
        "-o",
        "out.jsonl",
    ]);
    assert_eq!(output.code, 0, "{output}");
    let (bytes, _) = found(&machine);
    assert!((40_000..=100_000).contains(&bytes), "{bytes}");
}
