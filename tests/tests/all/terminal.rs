//! Whatever command shows it, nothing that others wrote reaches a terminal as anything but text, or speaks in the
//! program's name.

use std::collections::BTreeSet;

use agenthost::journal::sqlite::Sqlite;
use agenthost::journal::{JournalEntry, JournalStore, RunEnd, RunKind, RunRecord, RunStatus, TaskEnd};
use agenthost_tests::dummy;
use agenthost_tests::env::TestEnv;
use agenthost_tests::server::{Reply, Server};
use agenthost_tests::terminal::hidden;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::sharing::with_manifest;
use crate::{guest, machine, questions};

/// Moves the cursor, changes the title, turns text around, hides some, and begins a line of its own.
const EVIL: &str = "A\u{1b}[2J\u{1b}[31mPWNED\u{1b}]0;title\u{7}\u{9b}31mC1\u{85}\u{202e}rtl\u{2066}\u{200b}\u{ad}\u{feff}\u{2028}\
    \u{e0041}\u{3164}\r\nFORGED\u{8}\u{8}\u{7f}end";
/// The same without what a file's name cannot hold or WIT text refuses.
const QUIET: &str = "PWNED\u{200b}\u{ad}\u{feff}\u{2028}\u{e0041}\u{3164}end";

/// A machine where everything that others may write contains [`EVIL`].
struct Stage {
    machine: TestEnv,
    server: Server,
    /// Machines whose configuration is invalid because of its contents.
    broken: Vec<TestEnv>,
}

/// `text` as a string of TOML.
fn toml(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c => format!("\\U{:08X}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

impl Stage {
    fn new() -> Self {
        let server = Server::start(|request| match request.prompt().contains("refuse") {
            true => Reply::error(400, EVIL, EVIL).header("x-request-id", "r"),
            false => Reply::text(EVIL),
        });
        let registry = format!("registry {EVIL}");
        let config = format!(
            "[models]\nfast = {model}\n\n[providers.local]\nkind = \"openai\"\nbase-url = \"{url}\"\n\n\
             [registries]\ndemo = {registry}\n\n[prices.{model}]\ninput = 1\noutput = 1\n\n\
             [schedules.fails]\nevery = \"1h\"\nplugin = \"{fails}\"\ninput = {{ failed = {evil} }}\ncost-per-day = 1\n\n\
             [schedules.asks]\nevery = \"1h\"\nplugin = \"agenthost:ask\"\ninput = {{ task = \"x\" }}\ncost-per-day = 1\n\n\
             [schedules.lost]\nevery = \"1h\"\nplugin = {evil}\ncost-per-day = 1\n",
            model = toml(&format!("local/{EVIL}")),
            fails = guest("fails"),
            evil = toml(EVIL),
            url = server.url(),
            registry = toml(&format!("./{registry}")),
        );
        let machine = machine()
            .config(&config)
            .cache(env!("CARGO_TARGET_TMPDIR"))
            .var("SOME_KEY", "sk-0123456789");
        std::fs::create_dir(machine.cwd().join(&registry)).unwrap();
        std::fs::create_dir(machine.cwd().join(EVIL)).unwrap();
        let broken = [
            format!("{} = 1\n", toml(EVIL)),
            format!("[models]\nfast = {}\n", toml(EVIL)),
            format!("[limits]\ntimeout = {}\n", toml(EVIL)),
        ];
        let broken = broken.map(|text| self::machine().config(&text)).into();
        Self {
            machine,
            server,
            broken,
        }
    }

    /// A plugin that cannot run, and whose author describes it with [`EVIL`].
    fn plugin(&self) -> String {
        const WORLD: &str = "package demo:tiny@1.0.0;\ninterface task { run: async func(input: u32) -> result<string, string>; }\n\
            world tiny { export task; }";
        let manifest = json!({"format": 1, "name": "tiny", "version": "1.0.0", "description": EVIL, "license": EVIL,
            "repository": EVIL, "models": [EVIL], "limits": {"tokens": 5}});
        let bytes = with_manifest(&dummy::component(&[WORLD]), &manifest);
        let name = format!("{EVIL}.wasm");
        self.machine.write(&name, bytes);
        name
    }

    /// Writes a run that contains [`EVIL`] wherever it can.
    fn record(&self, id: &str) {
        let journal = Sqlite::open(&self.machine.cwd().join(".agenthost/journal.db")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let write = |entry| runtime.block_on(journal.append(entry)).unwrap();
        fn typed<T: DeserializeOwned>(value: Value) -> T {
            serde_json::from_value(value).unwrap()
        }
        let spent = json!({"input_tokens": 1, "output_tokens": 2, "cost_usd": 0.5, "calls": 2, "wall_ms": 2_500});
        let failure = json!({"failure": {"class": "failed", "message": EVIL, "limit": EVIL}});
        write(JournalEntry::RunStarted(RunRecord {
            id: id.into(),
            kind: RunKind::Run,
            plugin: EVIL.into(),
            digest: EVIL.into(),
            seed: [7; 32],
            clock_ms: 1,
            started_ms: 1,
            command: json!(EVIL),
            pid: 4_194_305,
            end: None,
        }));
        for task in ["root", "root/0"] {
            write(JournalEntry::TaskStarted {
                run: id.into(),
                task: task.into(),
                plugin: EVIL.into(),
                digest: EVIL.into(),
                input: Some(json!(EVIL)),
                at_ms: 1,
            });
            write(JournalEntry::RequestSent {
                run: id.into(),
                task: task.into(),
                ask: 0,
                model: EVIL.into(),
                at_ms: 2,
            });
            write(JournalEntry::TaskEnded {
                run: id.into(),
                task: task.into(),
                end: TaskEnd {
                    ended_ms: 9,
                    report: typed(json!({"id": task, "plugin": EVIL, "outcome": failure, "spent": spent, "log": EVIL})),
                    returned: None,
                    models: Vec::new(),
                },
            });
        }
        let model = json!({"name": EVIL, "model": EVIL, "calls": 1, "requests": 1});
        write(JournalEntry::RunEnded {
            run: id.into(),
            end: RunEnd {
                ended_ms: 10,
                state: RunStatus::Failed,
                summary: typed(json!({"outcome": failure, "spent": spent, "models": [model]})),
            },
        });
    }
}

/// Every command by its words, those with commands below them not included.
fn commands() -> BTreeSet<String> {
    fn below(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let path = format!("{path} {}", command.get_name());
            let path = path.trim_start();
            if !command.is_subcommand_required_set() {
                found.insert(path.to_owned());
            }
            below(command, path, found);
        }
    }
    let mut found = BTreeSet::new();
    below(&agenthost_cli::definition(), "", &mut found);
    found
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Checks that the output is safe for a terminal. `false` if none of it is from others.
#[track_caller]
fn safe(args: &[String], (code, shown): &(i32, String)) -> bool {
    let told = || format!("{args:?}: exit code {code}\n{}", shown.escape_debug());
    assert_eq!(hidden(shown), Vec::<String>::new(), "{}", told());
    // With the program's styles taken away.
    let lines = shown.replace("\u{1b}[0m", "").replace("\u{1b}[1m", "");
    assert!(!lines.lines().any(|line| line.starts_with("FORGED")), "{}", told());
    assert!(!shown.contains("panic:"), "{}", told());
    assert_ne!(*code, 70, "{}", told());
    shown.contains("PWNED")
}

/// For each command what it is given, beside what every command is: at least one of these shows what others wrote.
fn rows(stage: &Stage) -> Vec<(&'static str, Vec<Vec<String>>)> {
    let (fails, says, asks) = (guest("fails"), guest("says"), guest("asks"));
    let plugin = stage.plugin();
    let fail = |failure: Value| owned(&["run", &fails, "-i", &failure.to_string()]);
    let say = |words: Value, more: &[&str]| {
        let words = words.to_string();
        [owned(&["run", &says, "-i", &words]), owned(more)].concat()
    };
    let words = |log: bool, progress: bool, fails: bool| {
        let text = |given: bool| given.then_some(EVIL);
        json!({"log": text(log), "progress": text(progress), "fails": text(fails), "panics": null})
    };
    let ask = |prompt: &str, mode: &str, more: &[&str]| {
        let input = questions(&[prompt], mode).to_string();
        [owned(&["run", &asks, "-i", &input]), owned(more)].concat()
    };
    let refused = json!({"prompts": ["refuse"], "mode": "sequential", "strict": true}).to_string();
    stage.machine.write(
        "items.jsonl",
        format!("{}\n{}\n", json!({"failed": EVIL}), json!({"other": [EVIL, EVIL]})),
    );
    stage.machine.write("bad.jsonl", format!("{}\n", json!({EVIL: EVIL})));
    stage
        .machine
        .write("crate/cassettes/evil.json", format!("{{\"{QUIET}\": 1}}"));
    stage.machine.write(
        "crate/Cargo.toml",
        format!("[package] # {QUIET}\nname = {}\n", toml(EVIL)),
    );
    stage.machine.write(&format!("{EVIL}/cassettes/evil.json"), "{");
    stage.machine.write("key.pub", EVIL);
    stage.record("1m8aaaaaa-00001");
    stage.machine.run(["key", "new", "release", "--no-password"]);
    vec![
        (
            "run",
            vec![
                fail(json!({"failed": EVIL})),
                fail(json!({"failed": "\nFORGED hint: PWNED"})),
                fail(json!({"other": [EVIL, EVIL]})),
                fail(json!({"escalated": EVIL})),
                fail(json!({"trapped": EVIL})),
                fail(json!({"model": EVIL})),
                fail(json!({"denied": EVIL})),
                [fail(json!({"failed": EVIL})), owned(&["--json"])].concat(),
                say(words(true, true, true), &[]),
                say(words(true, true, false), &["-v"]),
                say(words(true, true, false), &["-vv"]),
                say(words(true, true, false), &["--json"]),
                say(
                    json!({"log": null, "progress": null, "fails": null, "panics": EVIL}),
                    &[],
                ),
                ask("anything", "parallel", &[]),
                ask("refuse", "parallel", &["-vv"]),
                owned(&["run", &asks, "-i", &refused]),
                owned(&["run", &plugin, "-i", "1"]),
            ],
        ),
        ("plan", vec![owned(&["plan", &asks]), owned(&["plan", &asks, "--json"])]),
        (
            "replay",
            vec![
                owned(&["replay", "last"]),
                owned(&["replay", "last", "--json"]),
                owned(&["replay", "1m8a"]),
            ],
        ),
        (
            "resume",
            vec![
                owned(&["resume", "last"]),
                owned(&["resume", "last", "--failed"]),
                owned(&["resume", "1m8a"]),
            ],
        ),
        (
            "spawn",
            vec![
                owned(&["spawn", EVIL, "--json"]),
                owned(&["spawn", "x", "--schema", EVIL]),
                owned(&["spawn", "x", "--file", EVIL]),
                owned(&["spawn", "x", "--file", &format!("x={EVIL}")]),
                owned(&["spawn", "x", "--each", EVIL]),
            ],
        ),
        ("runs", vec![owned(&["runs"]), owned(&["runs", "--json"])]),
        (
            "runs prune",
            vec![owned(&["runs", "prune", "--keep", "0", "--dry-run"])],
        ),
        (
            "show",
            vec![
                owned(&["show", "1m8a"]),
                owned(&["show", "1m8a", "--all"]),
                owned(&["show", "1m8a", "--task", "root/0"]),
                owned(&["show", "1m8a", "--json"]),
                owned(&["show", "last"]),
            ],
        ),
        (
            "batch",
            vec![
                owned(&["batch", &fails, "items.jsonl"]),
                owned(&["batch", &fails, "bad.jsonl"]),
                owned(&["batch", &fails, "bad.jsonl", "--on-bad-item", "skip"]),
                owned(&["batch", &fails, "items.jsonl", "--output", "out.jsonl", "--json"]),
            ],
        ),
        (
            "new",
            vec![owned(&["new", EVIL]), owned(&["new", "haiku", "--path", EVIL])],
        ),
        ("test", vec![owned(&["test", "crate"]), owned(&["test", EVIL])]),
        ("profile", vec![owned(&["profile", "crate"]), owned(&["profile", EVIL])]),
        ("build", vec![owned(&["build", "crate"]), owned(&["build", EVIL])]),
        (
            "inspect",
            vec![
                owned(&["inspect", &plugin]),
                owned(&["inspect", &plugin, "-v"]),
                owned(&["inspect", &plugin, "--json"]),
            ],
        ),
        ("push", vec![owned(&["push", &plugin, "demo:tiny", "--key", "release"])]),
        (
            "add",
            vec![owned(&["add", "demo:tiny"]), owned(&["add", "demo:tiny", "--accept"])],
        ),
        (
            "pull",
            vec![owned(&["pull", "demo:tiny", "--output", &format!("{EVIL}/tiny.wasm")])],
        ),
        ("update", vec![owned(&["update"])]),
        (
            "vet",
            vec![owned(&["vet", "demo:tiny"]), owned(&["vet", &plugin, "--json"])],
        ),
        ("list", vec![owned(&["list"]), owned(&["list", "demo:none"])]),
        ("doctor", vec![owned(&["doctor"]), owned(&["doctor", "--json"])]),
        (
            "trust",
            vec![
                owned(&["trust", "--dry-run"]),
                owned(&["trust"]),
                owned(&["trust", "--list"]),
            ],
        ),
        // They are trusted by now.
        (
            "heartbeat",
            vec![
                owned(&["heartbeat", "fails", "--once"]),
                owned(&["heartbeat", "lost", "--once"]),
                owned(&["heartbeat", "asks", "--once", "--json"]),
                owned(&["heartbeat", "--plan"]),
                owned(&["heartbeat", EVIL, "--once"]),
                owned(&["heartbeat", "--restart", EVIL]),
            ],
        ),
        (
            "schedules",
            vec![owned(&["schedules"]), owned(&["schedules", "--json"])],
        ),
        ("key new", vec![owned(&["key", "new", EVIL, "--no-password"])]),
        ("key list", vec![owned(&["key", "list"])]),
        ("key sign", vec![owned(&["key", "sign", &plugin, "--key", "release"])]),
        (
            "key verify",
            vec![
                owned(&["key", "verify", &plugin, "--public-key", EVIL]),
                owned(&["key", "verify", &plugin, "--public-key", "key.pub"]),
            ],
        ),
        ("completions", vec![owned(&["completions", "bash"])]),
    ]
}

#[test]
fn every_command_is_safe_on_a_terminal() {
    let stage = Stage::new();
    let rows = rows(&stage);
    let named: BTreeSet<_> = rows.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(named, commands(), "a row for each command");
    let mut silent = Vec::new();
    for (command, cases) in rows {
        let mut told = 0;
        for args in &cases {
            told += usize::from(safe(args, &stage.machine.on_terminal(args)));
        }
        if told == 0 {
            silent.push(command);
        }
    }
    assert!(stage.server.count() > 0, "a model was asked");
    // These print only the program's own text, or only that all is well.
    silent.retain(|command| !["completions", "key list", "key sign", "push", "update"].contains(command));
    assert!(silent.is_empty(), "these showed nothing that others wrote: {silent:?}");
}

#[test]
fn no_command_line_or_broken_file_speaks_for_the_program() {
    let stage = Stage::new();
    for command in commands() {
        let words: Vec<&str> = command.split(' ').collect();
        for given in [format!("--{EVIL}"), EVIL.to_owned()] {
            for more in [vec![], vec!["--json"]] {
                // The answer is data on stdout, and its lines may be any.
                if command == "spawn" && given == EVIL && more.is_empty() {
                    continue;
                }
                let args = owned(&[&words[..], &[given.as_str()], &more[..]].concat());
                safe(&args, &stage.machine.on_terminal(&args));
            }
        }
    }
    for broken in &stage.broken {
        for args in [
            owned(&["doctor"]),
            owned(&["run", "x.wasm"]),
            owned(&["runs", "--json"]),
        ] {
            assert!(safe(&args, &broken.on_terminal(&args)), "{args:?}");
        }
    }
}

#[test]
fn json_has_no_hidden_character_and_the_same_value_wherever_it_goes() {
    let machine = machine();
    let items = machine.write("items.jsonl", format!("{}\n", json!({"failed": EVIL})));
    let input = json!({"failed": EVIL}).to_string();
    let items = items.display().to_string();
    let fails = guest("fails");
    let report = machine.run(["run", &fails, "-i", &input, "--json"]);
    let lines = machine.run(["batch", &fails, &items]);
    let filed = machine.run(["batch", &fails, &items, "--output", "out.jsonl"]);
    assert_eq!(
        (report.code, lines.code, filed.code),
        (1, 1, 1),
        "{report} {lines} {filed}"
    );
    let file = std::fs::read_to_string(machine.cwd().join("out.jsonl")).unwrap();
    for text in [&report.stdout, &lines.stdout, &file] {
        assert_eq!(hidden(text), Vec::<String>::new(), "{text}");
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!(document["outcome"]["failure"]["message"], EVIL);
    }
    // In a pipe, too, what is for people holds nothing that a pager would pass on.
    let shown = machine.run(["show", "last"]);
    assert!(
        shown.stdout.contains("PWNED") && hidden(&shown.stdout).is_empty(),
        "{shown}"
    );
}
