//! A batch from outside: each item once, in order, whatever happens to some of them.

use std::collections::BTreeSet;
use std::time::Duration;

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Gate, Reply, Request, Server};
use serde_json::{Value, json};

use crate::{guest, machine, machine_at, machine_for, questions};

/// The lines of a batch's results.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The results on stdout; the exit code must be `code`.
#[track_caller]
fn results(output: &Output, code: i32) -> Vec<Value> {
    assert_eq!(output.code, code, "{output}");
    lines(&output.stdout)
}

/// The batch's summary at its end, without the name of the run.
#[track_caller]
fn summary(output: &Output) -> &str {
    let line = output.stderr.lines().find(|line| line.starts_with("run "));
    let (_, said) = line
        .and_then(|line| line.split_once(": "))
        .unwrap_or_else(|| panic!("{output}"));
    said
}

fn file(machine: &TestEnv, name: &str) -> Vec<Value> {
    lines(&std::fs::read_to_string(machine.cwd().join(name)).unwrap())
}

/// Of each line its index and its output, or its failure's class.
fn brief(lines: &[Value]) -> Vec<(u64, &str)> {
    let brief = |line: &Value| {
        let class = line["outcome"]["failure"]["class"].as_str().map(str::to_owned);
        (line["index"].as_u64().unwrap(), class)
    };
    let known = ["failed", "trapped", "input", "cancelled", "exhausted", "denied"];
    lines
        .iter()
        .map(brief)
        .map(|(index, class)| match class {
            None => (index, "ok"),
            Some(class) => (index, *known.iter().find(|known| **known == class).unwrap()),
        })
        .collect()
}

/// So many inputs of `asks`, with one prompt each.
fn prompts(count: usize) -> String {
    (0..count)
        .map(|n| format!("{}\n", questions(&[&format!("say {n}")], "parallel")))
        .collect()
}

/// Repeats its prompt.
fn echo(request: &Request) -> Reply {
    Reply::text(request.prompt())
}

/// The reply that each line's `asks` received.
fn told(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| {
            line["outcome"]["ok"][0]["text"]
                .as_str()
                .unwrap_or_else(|| panic!("{line}"))
        })
        .collect()
}

#[test]
fn a_hundred_and_three_items_come_out_once_each_in_their_order() {
    let server = Server::start(|request| {
        let spread = request.number as u64 * 7_919 % 97;
        echo(request).after(Duration::from_millis(spread))
    });
    let machine = machine_at(&server);
    machine.write("items.jsonl", prompts(103));
    let output = machine.run(["batch", &guest("asks"), "items.jsonl"]);
    let lines = results(&output, 0);
    let expected: Vec<_> = (0..103).map(|n| format!("say {n}")).collect();
    assert_eq!(told(&lines), expected);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!((&line["index"], &line["line"]), (&json!(n), &json!(n + 1)));
        assert_eq!(line["spent"]["calls"], 1);
    }
    assert_eq!(server.count(), 103);
    assert!(
        summary(&output).starts_with("103 items: 103 ok; 103 calls, 1,030 tokens in, 515 out, "),
        "{output}"
    );
    let most = server.max_in_flight();
    assert!((5..=64).contains(&most), "it begins with 4 and grows: {most}");

    let again = machine.run(["batch", "-q", &guest("asks"), "items.jsonl", "--workers", "3"]);
    assert_eq!(told(&results(&again, 0)), expected);
    assert_eq!(again.stderr, "");
}

#[test]
fn a_fixed_number_of_workers_is_kept() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| echo(request).held(&held));
    let machine = machine_at(&server);
    machine.write("items.jsonl", prompts(20));
    let running = machine.start(["batch", &guest("asks"), "items.jsonl", "--workers", "3"], None);
    server.wait_until("three requests", |seen| seen.len() == 3);
    gate.open();
    results(&running.finish(), 0);
    assert_eq!(server.max_in_flight(), 3);
}

#[test]
fn no_items_are_no_failure() {
    let machine = machine();
    for (name, text) in [("a.jsonl", "\n"), ("a.csv", "x,y\n"), ("a.json", "[ ]")] {
        machine.write(name, text);
        let output = machine.run(["batch", &guest("misbehaves"), name, "--output", "out.jsonl"]);
        assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output}");
        assert!(summary(&output).starts_with("0 items: 0 ok; 0 calls"), "{output}");
        assert_eq!(file(&machine, "out.jsonl"), [json!(null); 0]);
    }
}

#[test]
fn a_failed_item_is_a_line_and_an_exit_code_and_nothing_more() {
    let machine = machine();
    machine.write("items.json", "[\"ok\",\n\"fail\", \"panic\", \"ok\"]");
    let output = machine.run(["batch", &guest("misbehaves"), "items.json"]);
    let lines = results(&output, 1);
    assert_eq!(brief(&lines), [(0, "ok"), (1, "failed"), (2, "trapped"), (3, "ok")]);
    assert_eq!(lines[1]["outcome"]["failure"]["message"], "as asked");
    assert_eq!((&lines[0]["line"], &lines[3]["line"]), (&json!(1), &json!(2)));
    assert!(
        summary(&output).starts_with("4 items: 2 ok, 2 failed (1 failed, 1 trapped); "),
        "{output}"
    );
}

#[test]
fn bad_items_run_nothing_or_only_the_others() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    let fine = questions(&["a"], "parallel");
    machine.write(
        "items.jsonl",
        format!("{fine}\n\n{{\"prompts\": }}\n{fine}\n{{\"prompts\": 3}}\n"),
    );
    let failed = machine.run(["batch", &guest("asks"), "items.jsonl", "--output", "out.jsonl"]);
    let said = failed.error(2);
    assert!(
        said.starts_with("error: 2 of 4 items cannot be run\n  items.jsonl line 3: not JSON: expected value, 13 bytes into it\n  items.jsonl line 5: input.prompts: expected list"),
        "{said}"
    );
    assert!(said.contains("--on-bad-item skip"), "{said}");
    assert_eq!(server.count(), 0, "nothing is spent");
    assert!(!machine.cwd().join("out.jsonl").exists(), "and no result touched");

    let skipped = machine.run(["batch", &guest("asks"), "items.jsonl", "--on-bad-item", "skip"]);
    let lines = results(&skipped, 1);
    assert_eq!(brief(&lines), [(0, "ok"), (1, "input"), (2, "ok"), (3, "input")]);
    assert_eq!(
        lines[1],
        json!({"index": 1, "line": 3, "outcome": {"failure": {
            "class": "input", "message": "not JSON: expected value, 13 bytes into it"}}})
    );
    assert_eq!(server.count(), 2);
    assert!(
        skipped.stderr.starts_with("note: 2 of 4 items cannot be run\n"),
        "{skipped}"
    );
}

/// Gives each ticket a label, except the one that contains `lost`.
fn clerk(request: &Request) -> Reply {
    let labels: Vec<Value> = request
        .data("ticket")
        .iter()
        .filter(|ticket| !ticket.contains("lost"))
        .map(|ticket| {
            let number = ticket.lines().find_map(|line| line.strip_prefix("Number: ")).unwrap();
            let number: u64 = number.parse().unwrap();
            json!({"number": number, "reason": "because", "category": "bug", "priority": "low"})
        })
        .collect();
    Reply::text(json!({"labels": labels}).to_string())
}

fn tickets(count: usize) -> String {
    (0..count)
        .map(|n| {
            let text = if n == 42 { "lost" } else { "text" };
            format!("{}\n", json!({"id": format!("T-{n}"), "subject": "s", "text": text}))
        })
        .collect()
}

#[test]
fn ten_at_a_time_one_failed_item_is_one_failed_item() {
    let server = Server::start(clerk);
    let machine = machine_for(&server.config());
    let triage = plugin("triage").display().to_string();
    machine.write("tickets.jsonl", tickets(103));
    let output = machine.run(["batch", &triage, "tickets.jsonl", "--size", "10"]);
    let lines = results(&output, 1);
    assert_eq!(server.count(), 11);
    let asked: BTreeSet<usize> = server
        .seen()
        .iter()
        .map(|request| request.data("ticket").len())
        .collect();
    assert_eq!(asked, BTreeSet::from([3, 10]));
    assert_eq!(lines.len(), 103);
    for (n, line) in lines.iter().enumerate() {
        let first = n - n % 10;
        assert_eq!(
            (&line["index"], &line["items"]),
            (&json!(n), &json!([first, (first + 9).min(102)]))
        );
        assert_eq!(line.get("spent").is_some(), n == first);
        if n == 42 {
            let failure = &line["outcome"]["failure"];
            assert_eq!(
                (&failure["class"], &failure["error"]),
                (&json!("failed"), &failure["message"])
            );
            assert_eq!(failure["message"], "the model gave no label for T-42");
        } else {
            assert_eq!(line["outcome"]["ok"]["id"], format!("T-{n}"));
        }
    }
    assert!(
        summary(&output).starts_with("103 items: 102 ok, 1 failed; 11 calls"),
        "{output}"
    );

    // The error explains a missing size, and a size for a plugin that takes neither a list nor a record.
    let whole = machine.run(["batch", &triage, "tickets.jsonl"]);
    assert!(
        whole.error(2).contains("hint: The plugin takes a list: --size N"),
        "{whole}"
    );
    machine.write("items.jsonl", "\"ok\"\n");
    let other = machine.run(["batch", &guest("misbehaves"), "items.jsonl", "--size", "2"]);
    assert!(other.error(2).contains("takes neither a list nor a record"), "{other}");
}

#[test]
fn a_table_gives_each_field_the_type_that_it_has() {
    let server = Server::start(clerk);
    let machine = machine_for(&server.config());
    let triage = plugin("triage").display().to_string();
    machine.write(
        "tickets.csv",
        "\u{feff}text,id,subject\r\n\"two\r\nlines\",17,true\r\nlost,null,\r\n",
    );
    let lines = results(&machine.run(["batch", &triage, "tickets.csv", "--size", "5"]), 1);
    assert_eq!(brief(&lines), [(0, "ok"), (1, "failed")]);
    assert_eq!(
        (&lines[0]["outcome"]["ok"]["id"], &lines[1]["line"]),
        (&json!("17"), &json!(4))
    );
    assert_eq!(
        lines[1]["outcome"]["failure"]["message"],
        "the model gave no label for null"
    );
    let asked = server.seen()[0].data("ticket");
    assert!(
        asked[0].contains("Subject: true") && asked[0].contains("two\r\nlines"),
        "{asked:?}"
    );

    machine.write(
        "questions.csv",
        "mode,prompts,max-tokens,model\nparallel,\"[\"\"a\"\", \"\"b\"\"]\",100,\n",
    );
    let lines = results(&machine.run(["batch", &guest("asks"), "questions.csv"]), 0);
    assert_eq!(lines[0]["outcome"]["ok"].as_array().unwrap().len(), 2);
    assert_eq!(server.seen().last().unwrap().max_tokens(), Some(100));
}

#[test]
fn only_the_first_items_and_no_more_than_so_many_failures() {
    let machine = machine();
    machine.write("items.jsonl", "\"ok\"\n\"fail\"\n\"fail\"\n\"ok\"\nno JSON\n");
    let fine = guest("misbehaves");
    let first = machine.run(["batch", &fine, "items.jsonl", "--limit", "1"]);
    assert_eq!(brief(&results(&first, 0)), [(0, "ok")]);

    let few = machine.run([
        "batch",
        &fine,
        "items.jsonl",
        "--limit",
        "4",
        "--max-failures",
        "1",
        "--workers",
        "1",
    ]);
    assert_eq!(brief(&results(&few, 1)), [(0, "ok"), (1, "failed")]);
    assert!(
        summary(&few).starts_with("4 items: 1 ok, 1 failed, 2 not started; "),
        "{few}"
    );
    assert!(
        few.stderr
            .contains("error: 2 items not started, because 1 item had failed (--max-failures 1)"),
        "{few}"
    );
}

#[test]
fn the_document_counts_and_the_results_are_in_the_file() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    machine.write("out.jsonl", "what was there before\n".repeat(100));
    let prompts = prompts(3);
    let args = ["batch", &guest("asks"), "-", "--json", "--output", "out.jsonl"];
    let output = machine.piped(args, &prompts);
    assert_eq!(told(&file(&machine, "out.jsonl")), ["say 0", "say 1", "say 2"]);
    let document = output.json(0);
    assert_eq!(
        (&document["format"], &document["items"], &document["stopped"]),
        (
            &json!(1),
            &json!({"total": 3, "ok": 3, "failed": 0, "failed_by_class": {}, "cut_off": 0, "not_started": 0, "recorded": 0}),
            &Value::Null
        )
    );
    assert_eq!(
        (&document["tasks"], &document["spent"]["input_tokens"]),
        (&json!(3), &json!(30))
    );
    assert_eq!(
        (&document["models"][0]["model"], &document["models"][0]["calls"]),
        (&json!("local/small"), &json!(3))
    );

    for args in [
        vec!["--json"],
        vec!["--json", "--output", "-"],
        vec!["--output", "items.jsonl"],
        vec!["--output", "missing/out.jsonl"],
        vec!["--size", "0"],
        vec!["--workers", "0"],
        vec!["--run-tokens", "many"],
    ] {
        machine.write("items.jsonl", &prompts);
        let asks = guest("asks");
        let args = ["batch", &asks, "items.jsonl"].into_iter().chain(args);
        let output = machine.run(args);
        assert_eq!(output.code, 2, "{output}");
        assert_eq!(
            std::fs::read_to_string(machine.cwd().join("items.jsonl")).unwrap(),
            prompts
        );
    }
    assert_eq!(server.count(), 3);
}

#[test]
fn a_plan_runs_nothing() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    machine.write("items.jsonl", format!("{}x\n", prompts(4)));
    let args = [
        "batch",
        &guest("asks"),
        "items.jsonl",
        "--plan",
        "--on-bad-item",
        "skip",
        "--tokens",
        "1000",
        "--run-tokens",
        "3000",
        "--json",
    ];
    let plan = machine.run(args).json(0);
    let worst = |of: &str| plan["worst"][of]["tokens"].as_u64().unwrap();
    assert_eq!(plan["items"], 4, "those that can be run: {plan}");
    assert_eq!((worst("per_item"), worst("total")), (1_000, 3_000));
    assert_eq!(server.count(), 0);
}

#[test]
fn a_limit_on_all_items_together_has_an_exit_code_of_its_own() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    machine.write("items.jsonl", prompts(10));
    let args = [
        "batch",
        &guest("asks"),
        "items.jsonl",
        "--workers",
        "1",
        "--run-calls",
        "4",
    ];
    let output = machine.run(args);
    let lines = results(&output, 3);
    assert_eq!(told(&lines), ["say 0", "say 1", "say 2", "say 3"]);
    assert_eq!(server.count(), 4);
    for part in [
        "10 items: 4 ok, 6 not started;",
        "error: 6 items not started, because the limit of model calls of all items together is reached",
        "run the rest with `agenthost resume ",
        " --run-calls MORE`",
    ] {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
}

/// A limit that no further request fits into is reached, even if something of it is left.
#[test]
fn a_batch_stops_where_nothing_more_fits_and_goes_on_with_a_higher_limit() {
    for (flag, first, more) in [("--run-tokens", "3000", "none"), ("--run-cost", "0.01", "none")] {
        let server = Server::start(|request| echo(request).usage(40, 20));
        let machine = machine_for(&format!(
            "{}[prices.\"local/small\"]\ninput = 10\noutput = 20\n[prices.\"local/large\"]\ninput = 10\noutput = 20\n",
            server.config()
        ));
        machine.write("items.jsonl", "\"say it\"\n".repeat(300));
        let leaf = guest("leaf");
        let args = ["batch", &leaf, "items.jsonl", "-o", "out.jsonl", flag, first];
        let stopped = machine.run(args);
        assert_eq!(stopped.code, 3, "{stopped}");
        assert!(stopped.stderr.contains(" not started"), "{stopped}");
        assert!(!stopped.stderr.contains(" failed"), "nothing failed: {stopped}");
        let sent = server.count();
        assert!((1..100).contains(&sent), "{sent}");

        // The same limit leaves no room, so nothing is sent.
        let still = machine.run(["resume", "last"]);
        assert_eq!((still.code, server.count()), (3, sent), "{still}");
        let rest = machine.run(["resume", "last", flag, more]);
        assert_eq!(rest.code, 0, "{rest}");
        assert_eq!(server.count(), 300, "every item is paid for once: {rest}");
        assert_eq!(
            std::fs::read_to_string(machine.cwd().join("out.jsonl"))
                .unwrap()
                .lines()
                .count(),
            300
        );
    }
}

#[test]
fn an_interrupt_ends_what_runs_and_starts_nothing() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| {
        let reply = echo(request);
        if request.prompt().contains("say 0") {
            reply
        } else {
            reply.held(&held)
        }
    });
    let machine = machine_at(&server);
    machine.write("items.jsonl", prompts(50));
    let args = ["batch", &guest("asks"), "items.jsonl", "--workers", "4"];
    let running = machine.start(args, None);
    server.wait_until("one answer and four more requests", |seen| seen.len() == 5);
    running.interrupt();
    let output = running.finish();
    let lines = results(&output, 130);
    let cancelled = (1..5).map(|n| (n, "cancelled"));
    assert_eq!(
        brief(&lines),
        [(0, "ok")].into_iter().chain(cancelled).collect::<Vec<_>>()
    );
    assert!(
        output
            .stderr
            .contains("note: 45 items not started and 4 items cut off, because it was interrupted"),
        "{output}"
    );
    assert_eq!(server.count(), 5);
    gate.open();
}

#[test]
fn a_full_disk_stops_the_batch() {
    let machine = machine();
    machine.write("items.jsonl", "\"ok\"\n".repeat(500));
    let output = machine.run(["batch", &guest("misbehaves"), "items.jsonl", "--output", "/dev/full"]);
    let said = output.error(70);
    assert!(
        said.contains("error: cannot write the results to /dev/full: "),
        "{said}"
    );
    assert!(said.contains("hint: Make room"), "{said}");
    assert!(said.contains(" not started; "), "{said}");
}

/// Compresses text with gzip, as `gzip` would.
fn gzip(text: &str) -> Vec<u8> {
    let mut command = std::process::Command::new("gzip");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    command.arg("-c").arg(file.path()).output().unwrap().stdout
}

#[test]
fn a_table_of_a_spreadsheet_comes_back_as_one_with_the_labels_beside_its_own_columns() {
    let server = Server::start(clerk);
    let machine = machine_for(&server.config());
    let triage = plugin("triage").display().to_string();
    let text = "id;text;owner;subject\r\n1;\"a; b\";=1+1;27\" screen\r\n2;lost;Ada;\r\n3;c;-5;x\r\n";
    std::fs::write(machine.cwd().join("tickets.csv.gz"), gzip(text)).unwrap();
    let all = ["batch", &triage, "tickets.csv.gz", "--size", "1"];
    let output = machine.run(all.into_iter().chain(["--output", "all.csv"]));
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr.contains("only carried through to the results: owner"),
        "{output}"
    );
    let table = std::fs::read_to_string(machine.cwd().join("all.csv")).unwrap();
    let rows: Vec<&str> = table.split_terminator("\r\n").collect();
    assert_eq!(
        rows[0],
        "\u{feff}id;text;owner;subject;output.id;category;priority;reason;outcome;message;cost;input_tokens;output_tokens;index;line"
    );
    assert!(
        rows[1].starts_with("1;\"a; b\";'=1+1;\"27\"\" screen\";1;bug;low;because;ok;;"),
        "{table}"
    );
    assert!(
        rows[2].starts_with("2;lost;Ada;;;;;;failed;the model gave no label for 2;"),
        "{table}"
    );
    assert!(rows[3].starts_with("3;c;-5;x;3;"), "{table}");
    assert_eq!(rows.len(), 4);

    let mut parts = String::new();
    for part in ["1/2", "2/2"] {
        machine.run(all.into_iter().chain(["--output", "part.csv", "--shard", part]));
        parts.push_str(&std::fs::read_to_string(machine.cwd().join("part.csv")).unwrap());
    }
    assert_eq!(parts, table);

    let named = machine.run(all.into_iter().chain(["--id-column", "owner", "--shard", "1/3"]));
    let line = &results(&named, 0)[0];
    assert_eq!(
        (&line["id"], &line["index"], &line["line"]),
        (&json!("=1+1"), &json!(0), &json!(2))
    );
    let parquet = machine.run(all.into_iter().chain(["--output", "all.parquet"]));
    assert!(
        parquet.error(2).contains("results are not written as Parquet"),
        "{parquet}"
    );
}

#[test]
fn a_part_keeps_the_numbers_of_the_whole_and_is_resumed_and_replayed_alone() {
    let server = Server::start(echo);
    let machine = machine_at(&server);
    machine.write("items.jsonl", prompts(7));
    let part = [
        "batch",
        &guest("asks"),
        "items.jsonl",
        "--shard",
        "2/3",
        "--output",
        "part.jsonl",
    ];
    let cut = machine.run(part.into_iter().chain(["--run-calls", "1", "--workers", "1"]));
    assert_eq!(cut.code, 3, "{cut}");
    let resumed = machine.run(["resume", "last", "--run-calls", "none"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    let lines = file(&machine, "part.jsonl");
    assert_eq!(told(&lines), ["say 2", "say 3"]);
    assert_eq!((&lines[0]["index"], &lines[1]["line"]), (&json!(2), &json!(4)));
    let replayed = machine.run(["replay", "last"]);
    assert_eq!(told(&results(&replayed, 0)), ["say 2", "say 3"]);
    assert_eq!(server.count(), 2);

    let none = machine.run(["batch", &guest("asks"), "items.jsonl", "--shard", "1/9"]);
    assert_eq!(results(&none, 0), Vec::<Value>::new());
}

#[test]
fn a_missing_key_is_found_before_the_first_item_and_a_refused_one_at_the_first() {
    let server = Server::start(|request| match request.header("x-api-key") {
        Some("right") => Reply::text(request.prompt()),
        _ => Reply::error(401, "authentication_error", "invalid x-api-key"),
    });
    let machine = machine_for(&server.anthropic_config());
    machine.write("items.jsonl", prompts(60));
    let batch = ["batch", &guest("asks"), "items.jsonl", "--output", "out.jsonl"];
    let missing = machine.run(batch);
    let said = missing.error(2);
    assert!(said.contains("ANTHROPIC_API_KEY is not set"), "{said}");
    assert_eq!(said.matches("ANTHROPIC_API_KEY is not set").count(), 1, "{said}");
    assert_eq!(server.count(), 0);
    assert!(!machine.cwd().join("out.jsonl").exists());

    let machine = machine.var("ANTHROPIC_API_KEY", "wrong");
    let refused = machine.run(batch);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(
        refused.stderr.contains("because a key was refused: ") && refused.stderr.contains("invalid x-api-key"),
        "{refused}"
    );
    assert!(summary(&refused).starts_with("60 items: 0 ok, "), "{refused}");
    assert!(!refused.stderr.contains(" failed"), "{refused}");
    assert!(server.count() < 20, "{}", server.count());

    let before = server.count();
    let machine = machine.var("ANTHROPIC_API_KEY", "right");
    let resumed = machine.run(["resume", "last"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert_eq!(file(&machine, "out.jsonl").len(), 60);
    assert_eq!(server.count() - before, 60);
}

#[test]
fn the_most_frequent_failures_come_at_the_end() {
    let machine = machine();
    machine.write("items.jsonl", "\"fail\"\n\"ok\"\n\"fail\"\n");
    let output = machine.run(["batch", &guest("misbehaves"), "items.jsonl"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr.contains("note: the most frequent failures:\n  2 items: "),
        "{output}"
    );
}
