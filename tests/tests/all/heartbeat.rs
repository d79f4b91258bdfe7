//! `heartbeat` and `schedules` from outside: what is due runs once, nothing is paid while there is nothing to do, and no
//! schedule can cost more than its limit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Gate, Reply, Request, Server, config};
use serde_json::{Value, json};

use crate::{machine, machine_for};

const PRICES: &str =
    "[prices.\"local/small\"]\ninput = 10\noutput = 20\n[prices.\"local/large\"]\ninput = 10\noutput = 20\n";
/// A schedule that asks one question, whose answer costs $0.0008.
const TIDY: &str = "[schedules.tidy]\nevery = \"30m\"\nplugin = \"agenthost:ask\"\ninput = { task = \"Tidy up.\" }\n\
                    cost-per-day = \"$0.40\"\n";

fn echo(request: &Request) -> Reply {
    Reply::text(format!("did: {}", request.prompt())).usage(40, 20)
}

/// A machine with a trusted project that has this schedule, and models at `server`.
fn scheduled(server: &Server, schedule: &str) -> TestEnv {
    let machine = machine_for("");
    rewrite(&machine, server, schedule);
    machine
}

/// Writes the project's file anew, and trusts it.
fn rewrite(machine: &TestEnv, server: &Server, schedule: &str) {
    machine.write(
        "agenthost.toml",
        format!("{}{PRICES}{schedule}", config("openai", &server.url(), "retries = 0\n")),
    );
    let trusted = machine.run(["trust", "."]);
    assert_eq!(trusted.code, 0, "{trusted}");
}

fn once(machine: &TestEnv) -> Output {
    machine.run(["heartbeat", "--once"])
}

/// The only schedule, as `schedules --json` lists it.
fn listed(machine: &TestEnv) -> Value {
    let document = machine.run(["schedules", "--json"]).json(0);
    assert_eq!(document["schedules"].as_array().unwrap().len(), 1);
    document["schedules"][0].clone()
}

/// Makes the last time of the only schedule one that passed an hour ago, as if the clock had gone on.
fn let_time_pass(machine: &TestEnv) {
    change_state(machine, |state| {
        let served = state["served_ms"].as_u64().unwrap();
        state["served_ms"] = json!(served - 3_600_000);
    });
}

fn change_state(machine: &TestEnv, change: impl FnOnce(&mut Value)) {
    let path = state_file(machine);
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut state);
    std::fs::write(&path, state.to_string()).unwrap();
}

fn state_file(machine: &TestEnv) -> PathBuf {
    let folder = machine.cwd().join("../state/agenthost/schedules");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.next().unwrap()
}

#[test]
fn a_schedule_that_is_due_runs_once() {
    let server = Server::start(echo);
    let machine = scheduled(&server, TIDY);
    let before = listed(&machine);
    assert_eq!((&before["state"], &before["last"]), (&json!("waiting"), &Value::Null));
    let first = once(&machine);
    assert_eq!((first.code, server.count()), (0, 1), "{first}");
    assert_eq!(first.stdout, "did: Tidy up.\n");
    assert!(first.stderr.contains(" ended well, $0.0008; next 2"), "{first}");
    let again = once(&machine);
    assert_eq!((again.code, server.count()), (0, 1), "nothing is due: {again}");
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    let_time_pass(&machine);
    let document = machine.run(["heartbeat", "--once", "--json"]).json(0);
    assert_eq!(document["schedule"], "tidy");
    assert_eq!(document["outcome"]["ok"], "did: Tidy up.");
    assert_eq!(document["cost_usd"], 0.0008);
    assert_eq!(server.count(), 2);

    // It is a run like any other.
    let runs = machine.run(["runs", "--json"]).json(0);
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2);
    assert_eq!(runs["runs"][0]["id"], document["run"]);
    assert_eq!(runs["runs"][0]["schedule"], "tidy");
    let listed = listed(&machine);
    assert_eq!(listed["last"]["run"], document["run"]);
    assert_eq!(
        (&listed["last"]["outcome"], &listed["cost_today_usd"]),
        (&json!("ok"), &json!(0.0016))
    );
    let page = machine.run(["schedules"]);
    for part in ["tidy", "agenthost:ask", " ok, $0.0008", "$0.0016 of $0.40", "waiting"] {
        assert!(page.stdout.contains(part), "{part}: {page}");
    }
}

#[test]
fn nothing_is_asked_while_the_checklist_is_empty_or_unchanged() {
    let server = Server::start(echo);
    let files = "set = { task = \"@HEARTBEAT.md\" }\nchecklist = \"HEARTBEAT.md\"\nwatch = [\"inbox.md\"]\n";
    let machine = scheduled(&server, &format!("{TIDY}{files}"));
    machine.write("HEARTBEAT.md", "# Daily\n<!-- nothing\nyet -->\n- [ ]\n");
    let look = |requests: usize, why: &str| {
        let looked = once(&machine);
        assert_eq!((looked.code, server.count()), (0, requests), "{why}: {looked}");
        looked
    };
    look(0, "it is empty");
    assert_eq!(listed(&machine)["reason"], "the checklist is empty");
    machine.write("HEARTBEAT.md", "# Daily\n- [ ] call Ada\n");
    let_time_pass(&machine);
    let first = look(1, "there is an item");
    assert_eq!(first.stdout, "did: # Daily\n- [ ] call Ada\n\n");
    let_time_pass(&machine);
    look(1, "it is unchanged");
    assert_eq!(listed(&machine)["reason"], "nothing has changed");
    machine.write("inbox.md", "one letter");
    let_time_pass(&machine);
    look(2, "a watched file has changed");
    machine.write("HEARTBEAT.md", "- [ ] call Bob\n");
    let_time_pass(&machine);
    look(3, "the list has changed");
    rewrite(&machine, &server, &format!("{TIDY}{files}unchanged = \"run\"\n"));
    look(3, "it is not due");
    let_time_pass(&machine);
    look(4, "it runs although it is unchanged");
    let_time_pass(&machine);
    look(5, "again");
    // A file that is missing is an error, and not an empty list.
    std::fs::remove_file(machine.cwd().join("HEARTBEAT.md")).unwrap();
    let_time_pass(&machine);
    let missing = once(&machine);
    assert_eq!((missing.code, server.count()), (2, 5), "{missing}");
    assert!(
        missing.stderr.contains("HEARTBEAT.md of `checklist` cannot be read"),
        "{missing}"
    );
}

#[test]
fn the_cost_of_a_day_is_never_passed() {
    let server = Server::start(echo);
    // Each run may cost a cent: there is room for one request of it.
    let limited = TIDY.replace("$0.40", "$0.002") + "limits = { cost = \"$0.01\" }\nset = { max-tokens = 20 }\n";
    let machine = scheduled(&server, &limited);
    let (mut ends, mut shown) = (Vec::new(), String::new());
    for _ in 0..6 {
        let looked = once(&machine);
        ends.push(looked.code);
        shown += &looked.stderr;
        if server.count() > 0 && looked.stderr.contains("not started before") {
            break;
        }
        let_time_pass(&machine);
    }
    // The end of the day's money is no failure, and the hint names the limit of the day.
    assert!(ends.iter().all(|code| *code == 0), "{ends:?} {shown}");
    assert!(
        shown.contains("hint: To go on, raise `cost-per-day` under [schedules.tidy] in ")
            && !shown.contains("Raise `cost`"),
        "{shown}"
    );
    assert!(
        shown.contains("tidy: not enough is left of the day for a run"),
        "{shown}"
    );
    let listed_now = listed(&machine);
    let used = listed_now["cost_today_usd"].as_f64().unwrap();
    assert!(used <= 0.002 && server.count() >= 1, "{ends:?} {listed_now}");
    assert!((1..=2).contains(&server.count()), "{}", server.count());
    assert_eq!(
        (&listed_now["state"], &listed_now["reason"]),
        (&json!("waiting"), &json!("its limit on the cost is used up"))
    );
    let sent = server.count();
    let_time_pass(&machine);
    let quiet = once(&machine);
    assert_eq!((quiet.code, server.count()), (0, sent), "{quiet}");

    // All of it is used up: a line, and no request.
    rewrite(&machine, &server, &limited.replace("$0.002", "$0.0008"));
    let_time_pass(&machine);
    let reached = once(&machine);
    assert_eq!((reached.code, server.count()), (0, sent), "{reached}");
    assert!(reached.stderr.contains("tidy: not started before 2"), "{reached}");
    assert!(reached.stderr.contains("$0.0008 a day is used up"), "{reached}");
    let_time_pass(&machine);
    let told = once(&machine);
    assert_eq!((told.code, told.stderr.as_str()), (0, ""), "it is reported once");
    assert_eq!(server.count(), sent);
}

#[test]
fn a_schedule_that_keeps_failing_stops_itself() {
    let server = Server::start(|_| Reply::error(401, "authentication_error", "invalid x-api-key"));
    let machine = scheduled(&server, TIDY);
    for attempt in 1..=3 {
        let failed = once(&machine);
        assert_eq!((failed.code, server.count()), (5, attempt), "{failed}");
        assert_eq!(
            failed.stderr.contains("tidy: stopped: 3 failures in a row"),
            attempt == 3,
            "{failed}"
        );
        let_time_pass(&machine);
    }
    // It was reported; the exit code remains that of the last failure.
    let stopped = once(&machine);
    assert_eq!((stopped.code, server.count()), (5, 3), "{stopped}");
    assert_eq!((stopped.stdout.as_str(), stopped.stderr.as_str()), ("", ""));
    let document = machine.run(["heartbeat", "--once", "--json"]).json(5);
    assert_eq!(
        (&document["schedule"], &document["run"], &document["error"]["class"]),
        (&json!("tidy"), &Value::Null, &json!("model"))
    );
    let hint = document["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("agenthost heartbeat --restart tidy"), "{document}");
    // A stop that an earlier version recorded is reported once.
    change_state(&machine, |state| {
        let stopped = state["stopped"].as_object_mut().unwrap();
        stopped.remove("class");
        stopped.remove("is_reported");
    });
    let reported = once(&machine);
    assert_eq!((reported.code, server.count()), (5, 3), "{reported}");
    assert!(
        reported.stderr.contains("tidy: stopped: 3 failures in a row") && reported.stderr.contains("--restart tidy"),
        "{reported}"
    );
    let quiet = once(&machine);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (5, ""), "{quiet}");
    let shown = listed(&machine);
    assert_eq!((&shown["state"], &shown["next"]), (&json!("stopped"), &Value::Null));
    assert!(
        shown["reason"].as_str().unwrap().contains("invalid x-api-key"),
        "{shown}"
    );
    let (code, page) = machine.on_terminal(["schedules"]);
    assert_eq!(code, 0, "{page}");
    for part in [
        "tidy: stopped: 3 failures in a row",
        "invalid x-api-key",
        "`agenthost heartbeat --restart tidy`",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let restarted = machine.run(["heartbeat", "--restart", "tidy"]);
    assert_eq!(restarted.code, 0, "{restarted}");
    assert!(
        restarted.stderr.contains("tidy runs again when it is due"),
        "{restarted}"
    );
    assert_eq!((once(&machine).code, server.count()), (5, 4));
    // So does a changed schedule.
    for _ in 0..2 {
        let_time_pass(&machine);
        once(&machine);
    }
    assert_eq!(listed(&machine)["state"], "stopped");
    rewrite(&machine, &server, &TIDY.replace("Tidy up.", "Tidy up well."));
    assert_eq!(listed(&machine)["state"], "waiting");
    let_time_pass(&machine);
    assert_eq!((once(&machine).code, server.count()), (5, 7));
}

#[test]
fn a_passing_failure_is_tried_again_later_and_does_not_stop_it_soon() {
    let server = Server::start(|_| Reply::error(500, "server_error", "later"));
    let machine = scheduled(&server, TIDY);
    let failed = once(&machine);
    assert_eq!((failed.code, server.count()), (5, 1), "{failed}");
    let_time_pass(&machine);
    assert_eq!((once(&machine).code, server.count()), (0, 1), "it waits a while");
    for attempt in 2..=10 {
        change_state(&machine, |state| state["pause"] = Value::Null);
        assert_eq!((once(&machine).code, server.count()), (5, attempt));
        let_time_pass(&machine);
    }
    assert_eq!(listed(&machine)["state"], "stopped");
}

#[test]
fn several_processes_at_once_run_it_once() {
    let server = Server::start(|request| echo(request).after(Duration::from_millis(300)));
    let machine = scheduled(&server, TIDY);
    let all: Vec<_> = (0..4).map(|_| machine.start(["heartbeat", "--once"], None)).collect();
    let all: Vec<_> = all.into_iter().map(|running| running.finish()).collect();
    assert!(all.iter().all(|output| output.code == 0), "{all:?}");
    assert_eq!(server.count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|output| !output.stdout.is_empty()).count(), 1);
}

#[test]
fn a_project_that_is_not_trusted_runs_no_schedule() {
    let server = Server::start(echo);
    let machine = machine_for(&format!("{}{PRICES}{TIDY}", server.config()));
    let refused = once(&machine);
    let said = refused.error(4);
    assert!(
        said.contains("the schedule `tidy` would run agenthost:ask every 30 min for at most $0.40 a day"),
        "{said}"
    );
    assert!(said.contains("agenthost trust agenthost.toml"), "{said}");
    assert_eq!(listed(&machine)["state"], "untrusted");
    // Everything else works.
    assert_eq!(machine.run(["spawn", "Hello"]).code, 0);
    let trusted = machine.run(["trust", "."]);
    assert!(
        trusted
            .stdout
            .contains("schedule tidy: runs agenthost:ask every 30 min"),
        "{trusted}"
    );
    assert_eq!((once(&machine).code, server.count()), (0, 2));
    // A changed schedule is another one.
    let file = machine.cwd().join("agenthost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("$0.40", "$4.00")).unwrap();
    let changed = once(&machine);
    let said = changed.error(4);
    assert!(said.contains("$4.00 a day; this is not what was accepted"), "{said}");
}

#[test]
fn a_schedule_of_a_project_reads_nothing_outside_of_it() {
    let machine = machine();
    let at = |line: &str| format!("{TIDY}{line}\n");
    for line in [
        "checklist = \"../secret\"",
        "watch = [\"/etc/passwd\"]",
        "set = { task = \"@~/.netrc\" }",
    ] {
        machine.write("agenthost.toml", at(line));
        let refused = once(&machine);
        let said = refused.error(2);
        assert!(
            said.contains("names a file outside the folder of a project's file"),
            "{said}"
        );
    }
    // Nor through a link that comes later.
    machine.write("agenthost.toml", at("checklist = \"list.md\""));
    machine.write("list.md", "- one");
    assert_eq!(machine.run(["trust", "."]).code, 0);
    std::fs::remove_file(machine.cwd().join("list.md")).unwrap();
    machine.write("../secret", "- a secret");
    std::os::unix::fs::symlink("../secret", machine.cwd().join("list.md")).unwrap();
    let refused = once(&machine);
    assert_eq!(refused.code, 2, "{refused}");
    // Nor through one that stays inside.
    std::fs::remove_file(machine.cwd().join("list.md")).unwrap();
    machine.write("other.md", "- two");
    std::os::unix::fs::symlink("other.md", machine.cwd().join("list.md")).unwrap();
    let refused = once(&machine);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("cannot be read: it is a link"), "{refused}");
}

#[test]
fn the_configuration_is_complete_or_refused() {
    let machine = machine();
    for (text, expected) in [
        (
            TIDY.replace("cost-per-day = \"$0.40\"\n", ""),
            "`tidy` in [schedules]: it has no `cost-per-day`",
        ),
        (
            TIDY.replace("$0.40", "none"),
            "a schedule must have a limit on its cost",
        ),
        (
            format!("{TIDY}cron = \"0 8 * * *\"\n"),
            "there is an `every` too; write one of them",
        ),
        (
            TIDY.replace("every = \"30m\"\n", ""),
            "it has neither `every` nor `cron`",
        ),
        (
            TIDY.replace("every = \"30m\"", "cron = \"0 25 * * *\""),
            "`0 25 * * *` is not a cron expression",
        ),
        (TIDY.replace("every", "evry"), "unknown key `evry` in [schedules.tidy]"),
    ] {
        machine.write("agenthost.toml", &text);
        let refused = once(&machine);
        let said = refused.error(2);
        assert!(
            said.contains("agenthost.toml:") && said.contains(expected),
            "{expected}: {said}"
        );
        assert!(said.contains("hint: "), "{said}");
    }
    machine.write("agenthost.toml", "");
    let none = once(&machine);
    assert!(none.error(2).contains("there are no schedules"), "{none}");
    machine.write("agenthost.toml", TIDY);
    let unknown = machine.run(["heartbeat", "tydy"]);
    assert!(unknown.error(2).contains("Did you mean `tidy`?"), "{unknown}");
}

#[test]
fn a_model_without_a_price_is_refused() {
    let server = Server::start(echo);
    let machine = scheduled(&server, TIDY);
    machine.write("agenthost.toml", format!("{}{TIDY}", server.config()));
    assert_eq!(machine.run(["trust", "."]).code, 0);
    let refused = once(&machine);
    assert_eq!((refused.code, server.count()), (2, 0), "{refused}");
    for part in [
        "local/small has no known price, and `cost-per-day` under [schedules.tidy] is set",
        "set it in [prices.\"local/small\"].\n",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
}

#[test]
fn a_plan_shows_the_most_that_it_can_cost() {
    let machine = machine();
    let second = TIDY
        .replace("tidy", "nightly")
        .replace("every = \"30m\"", "cron = \"0 3,15 * * *\"");
    machine.write("agenthost.toml", format!("{TIDY}{second}"));
    let plan = machine.run(["heartbeat", "--plan"]);
    assert_eq!(plan.code, 0, "{plan}");
    let lines: Vec<_> = plan.stdout.lines().collect();
    assert!(
        lines[0].starts_with("nightly: ")
            && lines[0].contains("at most 2 runs a day, at most $0.40 a day, $12.40 a month"),
        "{plan}"
    );
    assert!(lines[1].contains("at most 48 runs a day"), "{plan}");
    assert_eq!(lines[2], "all schedules: at most $0.80 a day, $24.80 a month (31 days)");
    let document = machine.run(["heartbeat", "--plan", "--json"]).json(0);
    assert_eq!(document["cost_per_month_usd"], 24.8);
    assert_eq!(document["schedules"][1]["runs_per_day"], 48);
}

#[test]
fn a_run_that_was_killed_is_resumed_and_not_paid_for_again() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| match request.prompt().contains("two") {
        true => echo(request).held(&held),
        false => echo(request),
    });
    let input = crate::strict_questions(&["one", "two", "three"], "sequential");
    let asks = crate::guest("asks");
    let schedule = format!(
        "[schedules.tidy]\nevery = \"30m\"\nplugin = \"{asks}\"\ninput = \"input.json\"\ncost-per-day = \"$1\"\n"
    );
    let machine = scheduled(&server, &schedule);
    machine.write("input.json", input.to_string());
    let running = machine.start(["heartbeat", "--once"], None);
    server.wait_until("the second question", |seen| seen.len() == 2);
    running.kill();
    assert_eq!(listed(&machine)["state"], "interrupted");
    gate.open();
    let resumed = machine.run(["heartbeat", "--once", "--json"]);
    let document = resumed.json(0);
    assert_eq!((&document["resumed"], server.count()), (&json!(true), 4), "{resumed}");
    let prompts: Vec<_> = server.ended().iter().map(Request::prompt).collect();
    assert_eq!(
        prompts.iter().filter(|prompt| *prompt == "one").count(),
        1,
        "{prompts:?}"
    );
    let runs = machine.run(["runs", "--json"]).json(0);
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1);
    assert_eq!((once(&machine).code, server.count()), (0, 4), "it is not due");
}

#[test]
fn it_runs_again_and_again_until_it_is_interrupted() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| match request.prompt().contains("slow") {
        true => echo(request).held(&held),
        false => echo(request),
    });
    let quick = TIDY.replace("30m", "1s");
    let slow = quick.replace("tidy", "slow").replace("Tidy up.", "Be slow.");
    let machine = scheduled(&server, &format!("{quick}{slow}"));
    let running = machine.start(["heartbeat", "--json"], None);
    let count = |seen: &[Request], word: &str| seen.iter().filter(|request| request.prompt().contains(word)).count();
    server.wait_until("three quick runs beside a slow one", |seen| {
        count(seen, "Tidy") >= 3 && count(seen, "slow") == 1
    });
    running.interrupt();
    let ended = running.finish();
    gate.open();
    assert_eq!(ended.code, 130, "{ended}");
    for part in [
        "slow: next 2",
        "all schedules: at most $0.80 a day, $24.80 a month (31 days)",
        "was interrupted and is resumed at the next start",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {ended}");
    }
    let documents: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| documents.iter().filter(|document| document["schedule"] == name).count();
    assert!(of("tidy") >= 2 && of("slow") == 1, "{ended}");
    let prompts = server.seen();
    assert_eq!(
        count(&prompts, "slow"),
        1,
        "a run that is going on is not started again"
    );

    // The interrupted run goes on, and nothing else is due twice.
    let again = machine.run(["heartbeat", "slow", "--once", "--json"]).json(0);
    assert_eq!(
        (&again["resumed"], &again["outcome"]["ok"]),
        (&json!(true), &json!("did: Be slow."))
    );
}

#[test]
fn a_damaged_record_stops_the_schedule_and_nothing_runs() {
    let server = Server::start(echo);
    let machine = scheduled(&server, TIDY);
    assert_eq!(once(&machine).code, 0);
    let path = state_file(&machine);
    for damaged in ["", "{\"format\": 9}", "[]"] {
        std::fs::write(&path, damaged).unwrap();
        let refused = once(&machine);
        let said = refused.error(70);
        assert!(
            said.contains("is damaged") && said.contains("hint: Bring the file back"),
            "{said}"
        );
        assert_eq!(machine.run(["schedules"]).code, 70);
    }
    assert_eq!(server.count(), 1);
}

#[test]
fn a_damaged_record_of_one_schedule_leaves_the_others_alone() {
    let server = Server::start(echo);
    let quick = TIDY.replace("30m", "1s");
    let other = quick.replace("tidy", "other").replace("Tidy up.", "Go on.");
    let machine = scheduled(&server, &quick);
    assert_eq!(once(&machine).code, 0);
    let path = state_file(&machine);
    let state = std::fs::read(&path).unwrap();
    rewrite(&machine, &server, &format!("{quick}{other}"));
    std::fs::write(&path, "[]").unwrap();
    for command in [&["schedules"][..], &["heartbeat", "--plan"]] {
        let shown = machine.run(command);
        assert_eq!(shown.code, 70, "{shown}");
        for part in ["other", "tidy", "unreadable", "is damaged"] {
            assert!(shown.stdout.contains(part), "{part}: {shown}");
        }
        assert!(shown.stderr.contains("hint: Bring the file back"), "{shown}");
    }
    let documents = machine.run(["schedules", "--json"]).json(70);
    assert_eq!(documents["schedules"][0]["state"], "waiting");
    assert_eq!(
        (&documents["schedules"][1]["state"], &documents["schedules"][1]["next"]),
        (&json!("unreadable"), &Value::Null)
    );

    let count = |seen: &[Request], word: &str| seen.iter().filter(|request| request.prompt().contains(word)).count();
    let running = machine.start(["heartbeat"], None);
    server.wait_until("two runs of the other", |seen| count(seen, "Go on.") >= 2);
    assert_eq!(count(&server.seen(), "Tidy"), 1);
    // Once the file can be read, the schedule goes on in the same process.
    std::fs::write(&path, &state).unwrap();
    server.wait_until("a run of the repaired one", |seen| count(seen, "Tidy") >= 2);
    running.signal("TERM");
    let ended = running.finish();
    assert_eq!(ended.code, 130, "{ended}");
    let hints = ended.stderr.matches("hint: Bring the file back").count();
    assert_eq!(hints, 1, "it is shown once: {ended}");
}

/// A machine whose schedule asks questions in a row, and was killed while it waited for the second answer.
fn killed(server: &Server, schedule: &str) -> TestEnv {
    let machine = scheduled(server, schedule);
    let input = crate::strict_questions(&["one", "two", "three"], "sequential");
    machine.write("input.json", input.to_string());
    let running = machine.start(["heartbeat", "--once"], None);
    server.wait_until("the second question", |seen| seen.len() == 2);
    running.kill();
    machine
}

/// A server that holds the answer to the second question, and the schedule that asks it.
fn asked_in_a_row() -> (Gate, Server, String) {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| match request.prompt().contains("two") {
        true => echo(request).held(&held),
        false => echo(request),
    });
    let asks = crate::guest("asks");
    let schedule = format!(
        "[schedules.tidy]\nevery = \"30m\"\nplugin = \"{asks}\"\ninput = \"input.json\"\ncost-per-day = \"$1\"\n"
    );
    (gate, server, schedule)
}

#[test]
fn an_interrupted_run_is_kept_while_its_journal_cannot_be_read() {
    let (gate, server, schedule) = asked_in_a_row();
    let machine = killed(&server, &schedule);
    gate.open();
    let journal = machine.cwd().join(".agenthost/journal.db");
    let away = machine.cwd().join("away.db");
    std::fs::rename(&journal, &away).unwrap();
    std::fs::create_dir(&journal).unwrap();
    let failed = once(&machine);
    assert_eq!((failed.code, server.count()), (70, 2), "{failed}");
    let kept = listed(&machine);
    assert_eq!((&kept["state"], &kept["failures"]), (&json!("interrupted"), &json!(1)));
    assert!(
        kept["reason"].as_str().unwrap().contains("not a regular file"),
        "{kept}"
    );
    assert_eq!((once(&machine).code, server.count()), (0, 2), "it waits");
    std::fs::remove_dir(&journal).unwrap();
    std::fs::rename(&away, &journal).unwrap();
    change_state(&machine, |state| state["pause"] = Value::Null);
    let resumed = machine.run(["heartbeat", "--once", "--json"]).json(0);
    assert_eq!((&resumed["resumed"], server.count()), (&json!(true), 4));
    assert_eq!(listed(&machine)["failures"], 0);
}

#[test]
fn an_interrupted_run_is_resumed_only_where_its_journal_is() {
    let (gate, server, schedule) = asked_in_a_row();
    let machine = killed(&server, &schedule);
    gate.open();
    let elsewhere = || machine.run(["heartbeat", "--once", "--journal", "other.db"]);
    let waits = elsewhere();
    assert_eq!((waits.code, server.count()), (0, 2), "{waits}");
    assert!(
        waits
            .stderr
            .contains("is resumed only by a heartbeat whose journal is ")
            && waits.stderr.contains("/.agenthost/journal.db"),
        "{waits}"
    );
    let again = elsewhere();
    assert_eq!((again.stderr.as_str(), server.count()), ("", 2), "it is reported once");
    assert!(listed(&machine)["reason"].as_str().unwrap().contains("journal.db"));
    let resumed = machine.run(["heartbeat", "--once", "--json"]).json(0);
    assert_eq!((&resumed["resumed"], server.count()), (&json!(true), 4));
    assert_eq!(listed(&machine)["reason"], Value::Null);
}

#[test]
fn a_run_that_its_journal_does_not_have_is_replaced_by_another() {
    let (gate, server, schedule) = asked_in_a_row();
    let machine = killed(&server, &schedule);
    gate.open();
    change_state(&machine, |state| state["running"]["run"] = json!("1m00000000-00000"));
    let replaced = machine.run(["heartbeat", "--once", "--json"]);
    assert!(
        replaced.stderr.contains("is not resumed: its journal does not have it"),
        "{replaced}"
    );
    assert_eq!((&replaced.json(0)["resumed"], server.count()), (&json!(false), 5));
}

#[test]
fn a_run_whose_process_dies_again_and_again_is_a_failure() {
    let (gate, server, schedule) = asked_in_a_row();
    let machine = killed(&server, &schedule);
    for requests in 3..=5 {
        let running = machine.start(["heartbeat", "--once"], None);
        server.wait_until("the second question again", |seen| seen.len() == requests);
        running.kill();
    }
    gate.open();
    let given_up = once(&machine);
    assert_eq!((given_up.code, server.count()), (70, 5), "{given_up}");
    assert!(given_up.stderr.contains("was resumed 3 times"), "{given_up}");
    let shown = listed(&machine);
    assert_eq!(
        (&shown["state"], &shown["failures"], &shown["last"]["outcome"]),
        (&json!("waiting"), &json!(1), &json!("host"))
    );
    assert_eq!(
        (&shown["last"]["run"].is_string(), &shown["last"]["cost_usd"]),
        (&true, &Value::Null)
    );
}

#[test]
fn a_run_that_needs_the_money_of_two_days_takes_two_days() {
    let server = Server::start(echo);
    let asks = crate::guest("asks");
    // A day has room for three of the four requests, at their worst case.
    let machine = scheduled(
        &server,
        &format!(
            "[schedules.tidy]\nevery = \"30m\"\nplugin = \"{asks}\"\ninput = \"input.json\"\n\
             cost-per-day = \"$0.0035\"\n"
        ),
    );
    let input = crate::strict_questions(&["one", "two", "three", "four"], "sequential");
    machine.write("input.json", input.to_string());
    let first = once(&machine);
    assert_eq!((first.code, server.count()), (0, 3), "{first}");
    assert!(first.stderr.contains("reached a limit and is resumed at 2"), "{first}");
    let waiting = listed(&machine);
    assert_eq!(
        (&waiting["state"], &waiting["reason"], &waiting["failures"]),
        (&json!("waiting"), &json!("its limit on the cost is used up"), &json!(0))
    );
    let_time_pass(&machine);
    assert_eq!(
        (once(&machine).code, server.count()),
        (0, 3),
        "it waits for the next day"
    );
    // The next day.
    std::fs::remove_dir_all(machine.cwd().join("../state/agenthost/allowance")).unwrap();
    change_state(&machine, |state| state["pause"] = Value::Null);
    let second = machine.run(["heartbeat", "--once", "--json"]);
    let document = second.json(0);
    assert_eq!((&document["resumed"], server.count()), (&json!(true), 4), "{second}");
    assert_eq!(document["cost_usd"], 0.0032);
    assert_eq!(listed(&machine)["last"]["outcome"], "ok");
}

#[test]
fn a_run_whose_next_request_needs_more_than_a_day_is_a_failure() {
    let server = Server::start(echo);
    let asks = crate::guest("asks");
    let machine = scheduled(
        &server,
        &format!(
            "[schedules.tidy]\nevery = \"30m\"\nplugin = \"{asks}\"\ninput = \"input.json\"\n\
             cost-per-day = \"$0.0035\"\n"
        ),
    );
    let long = "many words ".repeat(400);
    let input = crate::strict_questions(&["one", &long], "sequential");
    machine.write("input.json", input.to_string());
    let first = once(&machine);
    assert_eq!((first.code, server.count()), (0, 1), "{first}");
    assert_eq!(listed(&machine)["failures"], 0, "the next day may have enough");
    std::fs::remove_dir_all(machine.cwd().join("../state/agenthost/allowance")).unwrap();
    change_state(&machine, |state| state["pause"] = Value::Null);
    let second = once(&machine);
    assert_eq!((second.code, server.count()), (3, 1), "{second}");
    let shown = listed(&machine);
    assert_eq!((&shown["failures"], &shown["state"]), (&json!(1), &json!("waiting")));
    let state: Value = serde_json::from_slice(&std::fs::read(state_file(&machine)).unwrap()).unwrap();
    assert_eq!(state["running"], Value::Null);
}

#[test]
fn a_run_whose_trust_is_revoked_is_kept_and_goes_on_once_it_is_trusted_again() {
    let server = Server::start(echo);
    let asks = crate::guest("asks");
    let machine = scheduled(
        &server,
        &format!(
            "[schedules.tidy]\nevery = \"30m\"\nplugin = \"{asks}\"\ninput = \"input.json\"\n\
             cost-per-day = \"$0.0035\"\n"
        ),
    );
    let input = crate::strict_questions(&["one", "two", "three", "four"], "sequential");
    machine.write("input.json", input.to_string());
    let running = machine.start(["heartbeat"], None);
    server.wait_until("what fits in the day", |seen| seen.len() == 3);
    wait_until(&machine, |listed| {
        listed["reason"] == "its limit on the cost is used up"
    });
    assert_eq!(machine.run(["trust", "--revoke", "."]).code, 0);
    std::fs::remove_dir_all(machine.cwd().join("../state/agenthost/allowance")).unwrap();
    change_state(&machine, |state| state["pause"] = Value::Null);
    wait_until(&machine, |listed| listed["state"] == "untrusted");
    // That is no failure, and the run is kept.
    let refused = once(&machine);
    assert_eq!((refused.code, server.count()), (4, 3), "{refused}");
    let shown = listed(&machine);
    assert_eq!(
        (&shown["failures"], &shown["last"]["outcome"]),
        (&json!(0), &json!("exhausted"))
    );
    assert_eq!(machine.run(["trust", "."]).code, 0);
    wait_until(&machine, |listed| listed["last"]["outcome"] == "ok");
    running.signal("TERM");
    let ended = running.finish();
    assert_eq!((ended.code, server.count()), (130, 4), "{ended}");
    assert!(ended.stderr.contains("is resumed\n"), "{ended}");
}

#[test]
fn a_change_of_the_configuration_is_read_while_it_runs() {
    let server = Server::start(echo);
    let quick = TIDY.replace("30m", "1s");
    let machine = scheduled(&server, &quick);
    let running = machine.start(["heartbeat"], None);
    let asked = |seen: &[Request], word: &str| seen.iter().any(|request| request.prompt().contains(word));
    server.wait_until("a run", |seen| asked(seen, "Tidy up."));
    // The file is edited, broken, corrected, and trusted at last.
    let file = machine.cwd().join("agenthost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[schedules.")).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let sent = server.count();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.count(), sent, "nothing runs while the file is broken");
    std::fs::write(&file, text.replace("Tidy up.", "Sweep.")).unwrap();
    wait_until(&machine, |listed| listed["state"] == "untrusted");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(server.count(), sent, "nothing runs without trust");
    assert_eq!(machine.run(["trust", "."]).code, 0);
    server.wait_until("a run of the changed schedule", |seen| asked(seen, "Sweep."));
    assert_eq!(listed(&machine)["failures"], 0);
    running.interrupt();
    let ended = running.finish();
    assert_eq!(ended.code, 130, "{ended}");
    for part in [
        "the configuration has changed and is read again",
        "this is not what was accepted for the file before",
    ] {
        assert_eq!(ended.stderr.matches(part).count(), 1, "{part}: {ended}");
    }
    assert!(!ended.stderr.contains("stopped"), "{ended}");
}

#[test]
fn a_schedule_that_is_not_trusted_leaves_the_others_alone() {
    let server = Server::start(echo);
    let machine = scheduled(&server, TIDY);
    let file = machine.cwd().join("agenthost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let added = TIDY.replace("tidy", "added").replace("Tidy up.", "Sweep.");
    std::fs::write(&file, format!("{text}{added}")).unwrap();
    let looked = machine.run(["heartbeat", "--once"]);
    assert_eq!((looked.code, server.count()), (4, 1), "{looked}");
    assert_eq!(looked.stdout, "did: Tidy up.\n");
    assert!(
        looked.stderr.contains("the schedule `added` would run") && !looked.stderr.contains("not what was accepted"),
        "{looked}"
    );
    let document = machine.run(["heartbeat", "--once", "--json"]).json(4);
    assert_eq!(
        (&document["schedule"], &document["run"], &document["error"]["class"]),
        (&json!("added"), &Value::Null, &json!("denied"))
    );
}

/// Waits until the only schedule is listed like this.
fn wait_until(machine: &TestEnv, is_so: impl Fn(&Value) -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let listed = listed(machine);
        if is_so(&listed) {
            return;
        }
        assert!(Instant::now() < end, "{listed}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_single_look_on_a_terminal_says_why_nothing_starts() {
    let server = Server::start(echo);
    let machine = scheduled(&server, &format!("{TIDY}checklist = \"list.md\"\n"));
    machine.write("list.md", "- one");
    assert_eq!(once(&machine).code, 0);
    let (code, not_due) = machine.on_terminal(["heartbeat", "--once"]);
    assert!(code == 0 && not_due.contains("tidy: not due until 2"), "{not_due}");
    let_time_pass(&machine);
    let (code, unchanged) = machine.on_terminal(["heartbeat", "--once"]);
    assert!(
        code == 0 && unchanged.contains("tidy: not started: nothing has changed"),
        "{unchanged}"
    );
    let (code, quiet) = machine.on_terminal(["heartbeat", "--once", "--quiet"]);
    assert_eq!((code, quiet.as_str()), (0, ""));
}

#[test]
fn a_clock_that_was_wrong_holds_nothing_up() {
    let server = Server::start(echo);
    let machine = scheduled(&server, TIDY);
    assert_eq!(once(&machine).code, 0);
    let year = 365 * 86_400_000_u64;
    // The last run was a year from now: the next is in half an hour.
    change_state(&machine, |state| {
        state["served_ms"] = json!(state["served_ms"].as_u64().unwrap() + year)
    });
    assert_eq!((once(&machine).code, server.count()), (0, 1));
    let next = listed(&machine)["next_ms"].as_u64().unwrap();
    let served = serde_json::from_slice::<Value>(&std::fs::read(state_file(&machine)).unwrap()).unwrap();
    assert_eq!(next, served["served_ms"].as_u64().unwrap() + 1_800_000);
    // It was a year ago: it runs once.
    change_state(&machine, |state| {
        state["served_ms"] = json!(state["served_ms"].as_u64().unwrap() - year)
    });
    assert_eq!((once(&machine).code, server.count()), (0, 2));
    assert_eq!((once(&machine).code, server.count()), (0, 2));
}

#[test]
fn the_limits_and_the_allowance_of_the_operator_hold_for_a_schedule() {
    let server = Server::start(echo);
    let machine = scheduled(&server, TIDY);
    let own = |text: &str| machine.write("../config/agenthost/config.toml", text);
    // The rest of the day's money is no reason to allow a run more than any other.
    own("[limits]\ncost = \"$0.0001\"\n");
    let refused = once(&machine);
    assert_eq!((refused.code, server.count()), (3, 0), "{refused}");
    assert_eq!(listed(&machine)["failures"], 1);
    change_state(&machine, |state| state["pause"] = Value::Null);
    let_time_pass(&machine);
    own("[allowance]\ntokens-per-day = 60\n");
    assert_eq!((once(&machine).code, server.count()), (3, 0), "a request does not fit");
    own("[allowance]\ncost-per-day = \"$0.02\"\n");
    let spend = || {
        change_state(&machine, |state| state["pause"] = Value::Null);
        let_time_pass(&machine);
        once(&machine)
    };
    rewrite(&machine, &server, &format!("{TIDY}set = {{ max-tokens = 20 }}\n"));
    assert_eq!((spend().code, server.count()), (0, 1));
    own("[allowance]\ncost-per-day = \"$0.0008\"\n");
    let used_up = spend();
    assert_eq!((used_up.code, server.count()), (0, 1), "{used_up}");
    assert!(
        used_up.stderr.contains("`cost-per-day` under [allowance] is used up"),
        "{used_up}"
    );
    assert_eq!(listed(&machine)["state"], "waiting");
}

#[test]
fn a_schedule_of_the_operator_needs_no_trust() {
    let server = Server::start(echo);
    let machine = machine_for("");
    let config = config("openai", &server.url(), "retries = 0\n");
    machine.write("../config/agenthost/config.toml", format!("{config}{PRICES}{TIDY}"));
    std::fs::remove_file(machine.cwd().join("agenthost.toml")).unwrap();
    assert_eq!((once(&machine).code, server.count()), (0, 1));
    // It is the same schedule in a project.
    machine.write("agenthost.toml", "");
    assert_eq!((once(&machine).code, server.count()), (0, 1));
    assert_eq!(listed(&machine)["last"]["outcome"], "ok");
}

#[test]
fn a_killed_heartbeat_goes_on_where_it_was() {
    let gate = Gate::default();
    let held = gate.clone();
    let server = Server::start(move |request| echo(request).held(&held));
    let machine = scheduled(&server, &TIDY.replace("30m", "1s"));
    let running = machine.start(["heartbeat"], None);
    server.wait_until("a request", |seen| seen.len() == 1);
    running.kill();
    gate.open();
    let again = machine.start(["heartbeat", "--json"], None);
    server.wait_until("the lost request and two more runs", |seen| seen.len() >= 4);
    again.signal("TERM");
    let ended = again.finish();
    assert_eq!(ended.code, 130, "{ended}");
    let documents: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(documents[0]["resumed"], true, "{ended}");
    assert!(
        documents.iter().skip(1).all(|document| document["resumed"] == false),
        "{ended}"
    );
    let runs = machine.run(["runs", "--json"]).json(0);
    let ids: std::collections::BTreeSet<_> = runs["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["id"].as_str())
        .collect();
    assert!(ids.contains(&documents[0]["run"].as_str()), "{ended}");
    // What the lost request may have cost stays counted, and nothing is counted twice.
    let used = listed(&machine)["cost_today_usd"].as_f64().unwrap();
    assert!(
        used >= 0.0008 * (server.count() - 1) as f64,
        "{used} for {}",
        server.count()
    );
}
