//! The estimate before anything is spent.

use agenthost_tests::env::TestEnv;
use agenthost_tests::server::{Reply, Server};
use serde_json::json;

use crate::{guest, machine, machine_at, machine_for, questions};

const PRICES: &str =
    "[prices.\"local/small\"]\ninput = 2\noutput = 10\n[prices.\"local/large\"]\ninput = 4\noutput = 20\n";

fn nobody_asks() -> Server {
    Server::start(|request| Reply::text(request.prompt()))
}

#[test]
fn the_worst_case_is_what_limits_and_prices_let_through() {
    let server = nobody_asks();
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let plan = machine.run(["plan", &guest("asks"), "--json"]).json(0);
    assert_eq!(plan["plugin"], "guests:asks@0.1.0");
    // 200,000 tokens, all of them output of the dearer model.
    let worst = json!({"tokens": 200_000, "calls": 100, "cost_usd": 4.0, "cost": "known", "sub_tasks": 0,
        "wall_ms": 300_000});
    assert_eq!(plan["worst"], json!({"per_item": worst, "total": worst}));
    assert_eq!(plan["models"][0]["model"], "local/small");
    assert_eq!(plan["models"][0]["worst_cost_usd"], 2.0);
    assert_eq!((&plan["sub_agents"], &plan["typical"]), (&json!([]), &json!(null)));

    let flags = [
        "plan",
        &guest("asks"),
        "--json",
        "--tokens",
        "10k",
        "--cost",
        "0.1",
        "--calls",
        "3",
        "--items",
        "4",
    ];
    let plan = machine.run(flags).json(0);
    assert_eq!(
        plan["worst"]["total"],
        json!({"tokens": 40_000, "calls": 12, "cost_usd": 0.4, "cost": "known", "sub_tasks": 0, "wall_ms": 1_200_000})
    );
    assert_eq!(server.seen().len(), 0, "nothing is asked");
}

#[test]
fn a_batch_stays_within_the_limits_of_the_run_and_a_grant_narrows_the_models() {
    let server = nobody_asks();
    let more = "[run.limits]\ntokens = \"500k\"\ncalls = 150\n[grants.\"guests:asks\"]\nmodels = [\"fast\"]\n";
    let machine = machine().config(&format!("{}{PRICES}{more}", server.config()));
    let plan = machine.run(["plan", &guest("asks"), "--json", "--items", "1k"]).json(0);
    let total = &plan["worst"]["total"];
    assert_eq!(
        (&total["tokens"], &total["calls"], &total["cost_usd"]),
        (&json!(500_000), &json!(150), &json!(5.0))
    );
    assert_eq!(plan["models"].as_array().unwrap().len(), 1);
}

#[test]
fn a_script_can_refuse_what_is_too_dear_or_unknown() {
    let server = nobody_asks();
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let asks = guest("asks");
    let fine = machine.run(["plan", &asks, "--fail-above", "4"]);
    assert_eq!((fine.code, fine.stderr.as_str()), (0, ""), "{fine}");
    let costs = |page: &str, cost: &str| {
        let words: Vec<_> = page.split_whitespace().collect();
        words.windows(2).any(|pair| pair == ["cost", cost])
    };
    assert!(costs(&fine.stdout, "$4.00"), "{fine}");
    let dear = machine.run(["plan", &asks, "--fail-above", "3.99", "--json", "--quiet"]);
    assert_eq!(dear.json(3)["above"], json!(true));
    assert!(
        dear.stderr
            .starts_with("error: the worst case costs $4.00: more than --fail-above $3.99\n"),
        "{dear}"
    );

    let unknown = machine_at(&server).run(["plan", &asks, "--fail-above", "1000"]);
    assert_eq!(unknown.code, 3, "{unknown}");
    assert!(costs(&unknown.stdout, "unknown"), "{unknown}");
    assert!(unknown.stderr.contains("a model has no known price"), "{unknown}");
    let capped = machine_at(&server).run(["plan", &asks, "--fail-above", "1", "--cost", "1"]);
    assert_eq!(capped.code, 0, "a limit on cost refuses what has no price: {capped}");
}

#[test]
fn sub_agents_are_named_and_counted() {
    let machine = machine();
    let plan = machine.run(["plan", &guest("relay"), "--json", "--tasks", "7"]).json(0);
    assert_eq!(plan["worst"]["per_item"]["sub_tasks"], 7);
    let joins = &plan["sub_agents"][0];
    assert_eq!(joins["plugin"], "guests:joins@0.1.0");
    assert_eq!(joins["sub_agents"][0]["plugin"], "guests:leaf@0.1.0");
    assert_eq!(joins["sub_agents"][0]["models"], json!(["fast", "strong"]));
    // Made up on this machine, so at no cost.
    assert_eq!(plan["worst"]["per_item"]["cost_usd"], 0.0);
    let alone = machine.run(["plan", &guest("relay"), "--json", "--depth", "0"]).json(0);
    assert_eq!(alone["worst"]["per_item"]["sub_tasks"], 0);
    let page = machine.run(["plan", &guest("relay")]);
    assert!(
        page.stdout
            .contains("\nsub-agents that may be started\n  guests:joins@0.1.0, digest "),
        "{page}"
    );
}

#[test]
fn a_plan_needs_a_plugin_and_an_input_that_fit() {
    let machine = machine();
    let said = machine
        .run(["plan", &guest("asks"), "--input", "{\"prompts\": 7}"])
        .error(2)
        .to_owned();
    assert!(said.contains("input.prompts"), "{said}");
    machine.run(["plan", "nowhere.wasm"]).error(2);
    machine.run(["plan", &guest("asks"), "--tokens", "many"]).error(2);
}

/// Copies the guest `name` into the working directory, with the guests of `beside`, and adds a manifest to it.
fn with_manifest(machine: &TestEnv, name: &str, beside: &[(&str, String)], limits: &serde_json::Value) -> String {
    let leb = |mut number: usize| {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    };
    for (file, path) in beside {
        machine.write(file, std::fs::read(path).unwrap());
    }
    let manifest = json!({"format": 1, "limits": limits}).to_string();
    let section_name = b"agenthost:manifest";
    let content = [leb(section_name.len()), section_name.to_vec(), manifest.into_bytes()].concat();
    let mut component = std::fs::read(name).unwrap();
    component.extend([vec![0], leb(content.len()), content].concat());
    machine.write("suggests.wasm", component);
    "suggests.wasm".to_owned()
}

#[test]
fn the_number_of_sub_agents_is_100_unless_a_flag_a_file_or_the_manifest_raises_it() {
    let machine = machine();
    let beside = [("leaf.wasm", guest("leaf"))];
    let tasks = |machine: &TestEnv, plugin: &str, more: &[&str]| {
        let args = [&["plan", plugin, "--json"], more].concat();
        machine.run(args).json(0)["worst"]["per_item"]["sub_tasks"].clone()
    };
    let joins = guest("joins");
    assert_eq!(tasks(&machine, &joins, &[]), 100);
    assert_eq!(tasks(&machine, &joins, &["--tasks", "400"]), 400);
    for (suggested, most) in [
        (json!(20), 100),
        (json!(400), 400),
        (json!("none"), 1_000),
        (json!("50k"), 1_000),
    ] {
        let plugin = with_manifest(&machine, &joins, &beside, &json!({"tasks": suggested}));
        assert_eq!(tasks(&machine, &plugin, &[]), most, "{suggested}");
        assert_eq!(
            tasks(&machine, &plugin, &["--tasks", "7"]),
            7,
            "a flag is the operator's word"
        );
    }
    let lower = machine.config("[limits]\ntasks = 50\n");
    assert_eq!(tasks(&lower, "suggests.wasm", &[]), 50, "and so is the configuration");

    let prompts: Vec<_> = (0..101).map(|n| format!("={n}")).collect();
    let input = json!({"policy": "settled", "prompts": prompts}).to_string();
    let refused = |flags: &[&str]| {
        let args = [&["run", &joins, "--json", "--input", &input, "--calls", "none"], flags].concat();
        let report = crate::machine().run(args).json(0);
        let tasks = report["tasks"].as_array().unwrap().len();
        tasks - 1
    };
    assert_eq!((refused(&[]), refused(&["--tasks", "101"])), (100, 101));
}

#[test]
fn a_plan_counts_a_file_and_shows_what_a_batch_used_and_what_the_author_suggests() {
    let server = Server::start(|request| Reply::text(request.prompt()).usage(100, 10));
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let asks = with_manifest(&machine, &guest("asks"), &[], &json!({"tokens": 2_000, "calls": 2}));
    let item = "{\"prompts\": [\"a\"], \"mode\": \"parallel\", \"max-tokens\": 100}\n";
    machine.write("items.jsonl", item.repeat(4));
    let plan = machine.run(["plan", &asks, "--items", "items.jsonl", "--json"]).json(0);
    assert_eq!((&plan["items"], &plan["typical"]), (&json!(4), &json!(null)));
    assert_eq!(
        plan["worst"]["total"]["cost_usd"], 16.0,
        "200,000 tokens of the dearer model for each"
    );
    assert_eq!(plan["suggested"]["total"]["cost_usd"], 0.16);
    assert_eq!(plan["suggested"]["total"]["calls"], 8);

    let batch = ["batch", &asks, "items.jsonl", "--output", "out.jsonl"];
    let told = machine.run(batch);
    assert_eq!(told.code, 0, "{told}");
    assert!(!told.stderr.contains("estimate:"), "there is no terminal: {told}");
    let plan = machine.run(["plan", &asks, "--items", "items.jsonl", "--json"]).json(0);
    let typical = &plan["typical"];
    assert_eq!((&typical["runs"], &typical["tasks"]), (&json!(1), &json!(4)), "{plan}");
    // 100 tokens in at $2 and 10 out at $10 for a million.
    assert_eq!(typical["cost_usd"]["mean"], 0.0003);
    assert_eq!(plan["typical_total_cost_usd"], 0.0012);
    assert_eq!(plan["models"][0]["typical_cost_usd"], 0.0003);
    assert_eq!(plan["models"][1]["typical_cost_usd"], json!(null));
    let page = machine.run(["plan", &asks, "--items", "items.jsonl"]);
    let line = "estimate 4 tasks, typically $0.0012 (from 4 tasks of the last run), at worst $16.00\n";
    assert!(page.stdout.contains(line), "{page}");
    assert!(page.stdout.contains("as suggested"), "{page}");
    assert!(
        page.stdout
            .contains("the plugin's author suggests --tokens 2000 --calls 2;"),
        "{page}"
    );

    machine.write("items.jsonl", "{\"prompts\": 7}\n");
    let said = machine
        .run(["plan", &asks, "--items", "items.jsonl"])
        .error(2)
        .to_owned();
    assert!(
        said.contains("1 of 1 items cannot be run: items.jsonl line 1"),
        "{said}"
    );
    machine.run(["plan", &asks, "--items", "nowhere.jsonl"]).error(2);
}

#[test]
fn a_run_that_may_cost_more_than_is_confirmed_does_not_start() {
    let server = Server::start(|request| Reply::text(request.prompt()).usage(100, 10));
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let asks = guest("asks");
    let input = "{\"prompts\": [\"a\"], \"mode\": \"parallel\", \"max-tokens\": 100}";
    let run = ["run", &asks, "--input", input, "--confirm-above", "3"];
    let said = machine.run(run).error(2).to_owned();
    assert!(
        said.starts_with(
            "error: the worst case costs $4.00: more than --confirm-above $3.00, and cannot be confirmed without a terminal"
        ),
        "{said}"
    );
    machine.write("items.jsonl", format!("{input}\n").repeat(4));
    let batch = |bound: &str| {
        machine.run([
            "batch",
            &asks,
            "items.jsonl",
            "--output",
            "out.jsonl",
            "--confirm-above",
            bound,
        ])
    };
    assert!(batch("15").error(2).contains("the worst case costs $16.00"));
    assert_eq!(server.count(), 0, "nothing is asked");
    assert_eq!(batch("16").code, 0);
    // From now on, the typical cost counts.
    assert_eq!(machine.run(run).code, 0);
    let said = batch("0.0011").error(2).to_owned();
    assert!(
        said.contains("the typical cost is $0.0012: more than --confirm-above $0.0011"),
        "{said}"
    );
    // On a terminal the estimate is shown; nobody answers the question here.
    let (code, shown) = machine.on_terminal(["run", &asks, "--input", input]);
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("estimate: typically $0.0003 (from 5 tasks of the last 2 runs), at worst $4.00"),
        "{shown}"
    );
}

#[test]
fn the_answer_of_a_person_decides_whether_an_expensive_run_starts() {
    let server = Server::start(|request| Reply::text(request.prompt()).usage(100, 10));
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let input = questions(&["Why?"], "parallel").to_string();
    for (answer, code, asked) in [("n", 2, 0), ("", 2, 0), ("y", 0, 1)] {
        let args = ["run", &guest("asks"), "--input", &input, "--confirm-above", "3"];
        let started = machine.start_with_keyboard(args);
        started.screen.wait_for("the question", |lines| {
            lines
                .last()
                .is_some_and(|line| line == "the worst case costs $4.00: more than $3.00. Start? [y/N]")
        });
        assert_eq!(server.count(), 0, "nothing is asked before the answer");
        started.screen.enter(answer);
        let (ended, screen) = started.finish();
        let shown = screen.lines.join("\n");
        assert_eq!((ended, server.count()), (code, asked), "{answer:?}: {shown}");
        assert_eq!(
            shown.contains("more than --confirm-above $3.00, and not confirmed"),
            answer != "y",
            "{shown}"
        );
    }
}

#[test]
fn a_plan_reads_a_file_as_a_batch_does() {
    let server = nobody_asks();
    let machine = machine().config(&format!("{}{PRICES}", server.config()));
    let asks = guest("asks");
    machine.write(
        "items.txt",
        "prompts|mode|max-tokens|id\n[\"a\"]|parallel|100|x\n[\"b\"]|parallel|100|y\n[\"c\"]|parallel|100|z\n",
    );
    let read = ["--format", "csv", "--delimiter", "|", "--id-column", "id"];
    let plan = |more: &[&str]| {
        let args = [&["plan", &asks, "--json", "--items", "items.txt"], &read[..], more].concat();
        machine.run(args)
    };
    assert_eq!(plan(&[]).json(0)["items"], 3);
    assert_eq!(plan(&["--limit", "2"]).json(0)["items"], 2);
    let batch = [&["batch", &asks, "items.txt", "--plan", "--json"], &read[..]].concat();
    assert_eq!(machine.run(batch).json(0)["items"], 3, "it is the same file");
    assert_eq!(
        machine
            .piped(
                [&["plan", &asks, "--json", "--items", "-"], &read[..]].concat(),
                "prompts|mode|max-tokens|id\n[\"a\"]|parallel|100|x\n"
            )
            .json(0)["items"],
        1
    );
    let wrong = machine.run([
        "plan",
        &asks,
        "--items",
        "items.txt",
        "--format",
        "csv",
        "--id-column",
        "nr",
    ]);
    assert!(
        wrong.error(2).contains("--id-column: items.txt has no column nr"),
        "{wrong}"
    );
    let number = machine.run(["plan", &asks, "--items", "3", "--delimiter", "tab"]);
    assert!(
        number
            .error(2)
            .contains("--delimiter: --items is a number and not a file"),
        "{number}"
    );
    assert_eq!(
        machine
            .run(["plan", &asks, "--items", "5", "--limit", "2", "--json"])
            .json(0)["items"],
        2
    );
    machine.run(["plan", &asks, "--delimiter", "tab"]).error(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_profile_covers_the_lengths_of_replies_whatever_the_journal_keeps() {
    let server = Server::start(|request| Reply::text(request.prompt()).usage(40, 20));
    for bodies in ["all", "replies", "none"] {
        let machine = machine_for(&format!("{}[journal]\nbodies = \"{bodies}\"\n", server.config()));
        let input = "{\"prompts\": [\"a\"], \"mode\": \"parallel\", \"max-tokens\": 3000}";
        let profile = machine.run(["profile", &guest("asks"), "--input", input, "--times", "1", "--json"]);
        let suggested = profile.json(0)["suggested"]["tokens"].as_u64();
        assert!(suggested >= Some(3_000), "{bodies}: {profile}");
    }
}

#[test]
fn without_a_terminal_nothing_is_made_up_unless_it_was_asked_for() {
    let machine = machine().without("AGENTHOST_OFFLINE_MODELS");
    let asks = guest("asks");
    let input = "{\"prompts\": [\"a\"], \"mode\": \"parallel\", \"max-tokens\": 100}";
    machine.write("items.jsonl", format!("{input}\n"));
    let run = ["run", &asks, "--input", input];
    for args in [
        &run[..],
        &["batch", &asks, "items.jsonl"],
        &["profile", &asks, "--input", input],
    ] {
        let said = machine.run(args).error(2).to_owned();
        for part in [
            "no key and no [models]",
            "[models]",
            "--offline-models",
            "AGENTHOST_OFFLINE_MODELS=1",
        ] {
            assert!(said.contains(part), "{args:?}: {said}");
        }
    }
    assert_eq!(
        machine.run(["runs", "--json"]).json(0)["runs"],
        json!([]),
        "nothing has begun"
    );
    let (code, shown) = machine.on_terminal(run);
    assert_eq!(code, 0, "a person reads the note: {shown}");
    assert!(shown.contains("the offline provider made the answers up"), "{shown}");
    let asked = machine.run([&run[..], &["--offline-models"]].concat());
    assert_eq!(asked.code, 0, "{asked}");
    let echo = machine.run(["run", &guest("echo"), "--input", "{}"]);
    assert!(
        !echo.stderr.contains("offline"),
        "a plugin that calls no models needs none: {echo}"
    );

    // The flag replaces [models], and the variable only what is assumed.
    let server = nobody_asks();
    let machine = crate::machine_at(&server).var("AGENTHOST_OFFLINE_MODELS", "1");
    assert_eq!(machine.run([&run[..], &["--offline-models"]].concat()).code, 0);
    assert_eq!(server.count(), 0);
    assert_eq!(machine.run(run).code, 0);
    assert_eq!(server.count(), 1);
    let keyed = crate::machine()
        .var("OPENAI_API_KEY", "sk-test-0123456789")
        .var("OPENAI_BASE_URL", &server.url());
    assert_eq!(keyed.run(run).code, 0);
    assert_eq!(server.count(), 1, "the variable wins over a key");
}
