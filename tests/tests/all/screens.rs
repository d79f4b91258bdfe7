//! Whole screens: help, pages and errors.
//!
//! `cargo insta test --accept --workspace --test all -- screens inspect` writes the snapshots again after a change.

use agenthost_tests::dummy;
use agenthost_tests::env::{Output, TestEnv};
use agenthost_tests::server::{Reply, Server};

use serde_json::json;

use crate::{guest, machine, machine_at, questions, strict_questions};

/// Replaces what differs from run to run or from build to build, as long as the result lives.
pub(crate) fn filters() -> impl Drop {
    let mut settings = insta::Settings::clone_current();
    for (pattern, word) in [
        (r"\b[0-9a-z]{9}-[0-9a-z]{5}\b", "[the run's id]"),
        (r"\b[0-9a-f]{64}\b", "[digest]"),
        (r"\bdigest [0-9a-f]{12}\b", "digest [digest]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[time]"),
        (r"\d+ m?s ago", "[age]"),
        (r", \d+\.\d+ s waited in all", ""),
        (r"( ?) *\b\d+\.\d+ s\b", "$1[duration]"),
        (r"OUTCOME +TIME", "OUTCOME TIME"),
        (r"127\.0\.0\.1:\d+", "[address]"),
        (r"\d+(\.\d+)? items/s", "[rate]"),
        (r"size( +)[\d.]+ KiB", "size$1[size]"),
        (r"wit-component \d+\.\d+\.\d+", "wit-component [version]"),
        // The diagram of the calls depends on their times.
        (r"(?s)\n +0 \[duration\]\n.*", "\n[diagram]"),
    ] {
        settings.add_filter(pattern, word);
    }
    settings.bind_to_scope()
}

/// The screen of a command: stdout, stderr if there is any, and the exit code unless it is 0.
pub(crate) fn screen(machine: &TestEnv, args: &[&str]) -> String {
    let Output { code, stdout, stderr } = machine.run(args);
    let mut text = stdout;
    if !stderr.is_empty() {
        text += &format!("--- stderr\n{stderr}");
    }
    if code != 0 {
        text += &format!("--- exit code {code}\n");
    }
    machine.redact(&text)
}

/// A machine with these guests in its working directory, whose models are at a server that answers every prompt.
fn answering(guests: &[&str]) -> (Server, TestEnv) {
    let server = Server::start(|_| Reply::text("An answer.").usage(12, 3));
    let machine = machine_at(&server);
    for name in guests {
        machine.write(&format!("{name}.wasm"), std::fs::read(guest(name)).unwrap());
    }
    (server, machine)
}

/// The id of the newest run.
fn newest(machine: &TestEnv) -> String {
    let runs = machine.run(["runs", "--json"]).json(0);
    runs["runs"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_help_of_the_program() {
    insta::assert_snapshot!(screen(&machine(), &["--help"]), @"
    A WebAssembly host for sub-agent tasks

    Each task runs one plugin in a sandbox of its own that can compute and call a model, within hard
    limits on tokens, cost, calls, fuel, memory and time. Without a key and a configuration, an offline
    provider answers on a terminal, so that everything can be tried at once.

    Usage: agenthost [OPTIONS] <COMMAND>

    Commands:
      run          Run one task and print its output as JSON
      spawn        Answer tasks given in plain words, at once, without a plugin of your own
      plan         Estimate the worst-case cost of a run
      resume       Resume a stopped run without paying twice for answered calls
      replay       Replay a recorded run without a provider, a key or a network
      runs         List recorded runs, or remove old ones
      show         Show a run's tasks, their outcomes, and how they ran in parallel
      batch        Run a task for each item of a file
      heartbeat    Run the schedules of agenthost.toml when they are due, until it is stopped
      schedules    List the schedules of agenthost.toml with their next and last runs and their cost
      new          Create a plugin from a template, ready to build, test and run
      test         Build a plugin and check it against its cassettes, offline
      profile      Measure a plugin and suggest limits for it
      build        Build a plugin's crate into a component and print its path
      inspect      Show a plugin's identity, capabilities and typed interface
      add          Add a plugin of a registry to this project's agenthost.lock
      pull         Fetch plugins into the cache, or one plugin into a file
      push         Publish a plugin to a registry, signed with one of your keys
      update       Update the plugins in agenthost.lock
      vet          Check a plugin and record who vouches for it
      list         List the plugins in agenthost.lock, or the releases of one in its registry
      doctor       Check the toolchain, the configuration, the keys and this machine's limits
      trust        Trust a project's crates and configuration
      key          Create keys, sign plugins, and verify signatures
      completions  Print a completion script for a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>
              Use this file instead of the agenthost.toml in this directory or above
              
              [env: AGENTHOST_CONFIG]

          --journal <FILE>
              Use this journal file [default: see `[journal]` in agenthost.toml]
              
              [env: AGENTHOST_JOURNAL]

          --offline-models
              Answer all model calls with the offline provider, which makes the answers up at no cost

      -v, --verbose...
              Print more on stderr: the task's log and the host's actions (twice: everything)

          --log-format <FORMAT>
              The form of log lines on stderr: `text` for people, `json` for programs, one document per
              line
              
              [env: AGENTHOST_LOG_FORMAT]
              [default: text]

      -q, --quiet
              Print only errors on stderr

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
}

#[test]
fn the_help_of_run() {
    insta::assert_snapshot!(screen(&machine(), &["run", "--help"]), @"
    Run one task and print its output as JSON

    Usage: agenthost run [OPTIONS] <PLUGIN>

    Arguments:
      <PLUGIN>  The plugin: a .wasm file, a crate directory to build, or a name in agenthost.lock, such
                as acme:competitor

    Options:
          --with <NAMESPACE:NAME=PLUGIN>  Use this .wasm file, crate directory or plugin of
                                          agenthost.lock as the sub-agent NAMESPACE:NAME
          --dir <HOST::GUEST[:rw]>        Let the plugin, but not its sub-agents, read the directory
                                          HOST as GUEST, such as reports::/data; :rw lets it write, too
          --server-tool <TOOL[=N]>        Let a provider run a tool (web-search or web-fetch) for the
                                          plugin, but not for its sub-agents, at most N times in a model
                                          call
          --offline                       Fetch nothing, and fail if a plugin of agenthost.lock is not
                                          in the cache
          --locked                        Use registry plugins exactly as in agenthost.lock (always the
                                          case; for scripts that state it)
      -i, --input <JSON|@FILE|->          The task's input: JSON, @FILE, or - for stdin [default: stdin,
                                          if piped]
          --record <FILE>                 Record the model calls and the outcome in this file, such as
                                          cassettes/first.json, for `agenthost test`
          --json                          Print one JSON document with the outcome, the amounts spent,
                                          and every task
          --confirm-above <USD>           Ask before a start whose typical cost, or worst case without
                                          earlier runs, is above this; refuse without a terminal
          --config <FILE>                 Use this file instead of the agenthost.toml in this directory
                                          or above [env: AGENTHOST_CONFIG]
          --journal <FILE>                Use this journal file [default: see `[journal]` in
                                          agenthost.toml] [env: AGENTHOST_JOURNAL]
          --offline-models                Answer all model calls with the offline provider, which makes
                                          the answers up at no cost
      -v, --verbose...                    Print more on stderr: the task's log and the host's actions
                                          (twice: everything)
          --log-format <FORMAT>           The form of log lines on stderr: `text` for people, `json` for
                                          programs, one document per line [env: AGENTHOST_LOG_FORMAT]
                                          [default: text]
      -q, --quiet                         Print only errors on stderr
      -h, --help                          Print help
      -V, --version                       Print version

    Limits of the task (or `none`):
          --tokens <N>      Input and output tokens together, such as 50k
          --cost <USD>      US dollars, such as 0.25
          --calls <N>       Model calls
          --fuel <N>        Units of computing, such as 20G
          --memory <SIZE>   Linear memory, such as 64MiB
          --timeout <TIME>  Wall-clock time, such as 90s
          --tasks <N>       Sub-tasks, at any depth
          --depth <N>       Levels of sub-tasks
    ");
}

#[test]
fn the_help_of_batch() {
    insta::assert_snapshot!(screen(&machine(), &["batch", "--help"]), @"
    Run a task for each item of a file

    With --size, each task gets several items. The results are written in the order of the items.

    Usage: agenthost batch [OPTIONS] <PLUGIN> <ITEMS>

    Arguments:
      <PLUGIN>
              The plugin: a .wasm file, a crate directory to build, or a name in agenthost.lock, such as
              acme:competitor

      <ITEMS>
              The items: a .jsonl, .csv, .tsv or .json file, which may be compressed with gzip, or - for
              stdin

    Options:
          --with <NAMESPACE:NAME=PLUGIN>
              Use this .wasm file, crate directory or plugin of agenthost.lock as the sub-agent
              NAMESPACE:NAME

          --dir <HOST::GUEST[:rw]>
              Let the plugin, but not its sub-agents, read the directory HOST as GUEST, such as
              reports::/data; :rw lets it write, too

          --server-tool <TOOL[=N]>
              Let a provider run a tool (web-search or web-fetch) for the plugin, but not for its
              sub-agents, at most N times in a model call

          --offline
              Fetch nothing, and fail if a plugin of agenthost.lock is not in the cache

          --locked
              Use registry plugins exactly as in agenthost.lock (always the case; for scripts that state
              it)

          --format <FORMAT>
              The format of the items, if the file name does not show it [default for stdin: jsonl]

              Possible values:
              - jsonl: A JSON value on each line
              - csv:   Rows of cells under a header row
              - json:  One JSON array

          --delimiter <CHAR>
              The character between two cells of CSV: comma, semicolon, tab or another one [default: as
              in the header]

          --id-column <NAME>
              The column or field with each item's own id, which the results repeat as `id`

          --size <N>
              Give each task N items, if the plugin takes a list

          --limit <N>
              Use only the first N items

          --set <FIELD=VALUE|@FILE>
              Give every task this field of the input: a text or JSON, or @FILE for the content of a
              file

          --workers <N|auto>
              The number of tasks that run at once; auto starts with 4 and grows while no request waits
              
              [default: auto]

      -o, --output <FILE|->
              Write the results to this file, replacing its content: CSV if its name ends with .csv or
              .tsv, else JSON lines [default: -, which is stdout]

          --max-failures <N>
              Start no more tasks after N items have failed

          --shard <I/N>
              Run only part I of N equal parts, whose results in their order are those of the whole

          --on-bad-item <WHAT>
              Run nothing (fail) or all other items (skip) if an item is malformed or not of the
              plugin's type

              Possible values:
              - fail: Run nothing
              - skip: Record it as a failure, and run the others
              
              [default: fail]

          --plan
              Estimate the worst-case cost, and run nothing

          --fail-above <USD>
              With --plan: end with exit code 3 if the worst case may cost more than this, or its cost
              is unknown

          --json
              Print one JSON document about the whole batch on stdout; requires --output FILE

          --confirm-above <USD>
              Ask before a start whose typical cost, or worst case without earlier runs, is above this;
              refuse without a terminal

          --config <FILE>
              Use this file instead of the agenthost.toml in this directory or above
              
              [env: AGENTHOST_CONFIG]

          --journal <FILE>
              Use this journal file [default: see `[journal]` in agenthost.toml]
              
              [env: AGENTHOST_JOURNAL]

          --offline-models
              Answer all model calls with the offline provider, which makes the answers up at no cost

      -v, --verbose...
              Print more on stderr: the task's log and the host's actions (twice: everything)

          --log-format <FORMAT>
              The form of log lines on stderr: `text` for people, `json` for programs, one document per
              line
              
              [env: AGENTHOST_LOG_FORMAT]
              [default: text]

      -q, --quiet
              Print only errors on stderr

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Limits of the task (or `none`):
          --tokens <N>
              Input and output tokens together, such as 50k

          --cost <USD>
              US dollars, such as 0.25

          --calls <N>
              Model calls

          --fuel <N>
              Units of computing, such as 20G

          --memory <SIZE>
              Linear memory, such as 64MiB

          --timeout <TIME>
              Wall-clock time, such as 90s

          --tasks <N>
              Sub-tasks, at any depth

          --depth <N>
              Levels of sub-tasks

    Limits of all tasks together (or `none`):
          --run-tokens <N>
              Input and output tokens together

          --run-cost <USD>
              US dollars

          --run-calls <N>
              Model calls

          --run-fuel <N>
              Units of computing
    ");
}

#[test]
fn the_help_of_show() {
    insta::assert_snapshot!(screen(&machine(), &["show", "--help"]), @"
    Show a run's tasks, their outcomes, and how they ran in parallel

    Usage: agenthost show [OPTIONS] <RUN>

    Arguments:
      <RUN>  The run's id, the beginning of its id, or `last`

    Options:
          --task <ID>            Show this task, such as root/0, and those below it
          --all                  Show all tasks and calls
          --json                 Print one JSON document
          --config <FILE>        Use this file instead of the agenthost.toml in this directory or above
                                 [env: AGENTHOST_CONFIG]
          --journal <FILE>       Use this journal file [default: see `[journal]` in agenthost.toml]
                                 [env: AGENTHOST_JOURNAL]
          --offline-models       Answer all model calls with the offline provider, which makes the
                                 answers up at no cost
      -v, --verbose...           Print more on stderr: the task's log and the host's actions (twice:
                                 everything)
          --log-format <FORMAT>  The form of log lines on stderr: `text` for people, `json` for
                                 programs, one document per line [env: AGENTHOST_LOG_FORMAT] [default:
                                 text]
      -q, --quiet                Print only errors on stderr
      -h, --help                 Print help
      -V, --version              Print version
    ");
}

#[test]
fn the_help_of_inspect() {
    insta::assert_snapshot!(screen(&machine(), &["inspect", "--help"]), @"
    Show a plugin's identity, capabilities and typed interface

    Usage: agenthost inspect [OPTIONS] <PLUGIN>

    Arguments:
      <PLUGIN>  The plugin: a .wasm file, a crate directory to build, or a name in agenthost.lock

    Options:
          --imports              List every import with its meaning; -v adds the JSON Schemas
          --check                Compile the plugin, too, within the limits of [compile], and report the
                                 time and memory used
          --json                 Print one JSON document with everything known, including the JSON
                                 Schemas of input and output
          --config <FILE>        Use this file instead of the agenthost.toml in this directory or above
                                 [env: AGENTHOST_CONFIG]
          --journal <FILE>       Use this journal file [default: see `[journal]` in agenthost.toml]
                                 [env: AGENTHOST_JOURNAL]
          --offline-models       Answer all model calls with the offline provider, which makes the
                                 answers up at no cost
      -v, --verbose...           Print more on stderr: the task's log and the host's actions (twice:
                                 everything)
          --log-format <FORMAT>  The form of log lines on stderr: `text` for people, `json` for
                                 programs, one document per line [env: AGENTHOST_LOG_FORMAT] [default:
                                 text]
      -q, --quiet                Print only errors on stderr
      -h, --help                 Print help
      -V, --version              Print version
    ");
}

#[test]
fn a_run_and_its_page() {
    let (_server, machine) = answering(&["relay", "joins", "leaf"]);
    let _filters = filters();
    let input = json!({"policy": "settled", "prompts": ["What is new?", "=nothing"]}).to_string();
    let with = ["--with", "guests:joins=joins.wasm", "--with", "guests:leaf=leaf.wasm"];
    let args = ["run", "relay.wasm", "--input", &input];
    insta::assert_snapshot!(screen(&machine, &[&args[..], &with[..]].concat()), @r#"
    {"decision":"ok","lanes":[{"how":"done","index":0,"name":"lane 0","text":"An answer."},{"how":"done","index":1,"name":"lane 1","text":"nothing"}],"after":null}
    --- stderr
    run [the run's id]: 1 call, 12 tokens in, 3 out, cost unknown, [duration]
    "#);
    insta::assert_snapshot!(screen(&machine, &["show", &newest(&machine)]), @"
    run      [the run's id] (done)
    plugin   guests:relay@0.1.0, digest [digest]
    started  [time], [age]
    took [duration]
    spent    12 tokens in (0 cached), 3 out, 1 call, cost unknown
    model    fast = local/small: 1 call, 1 request

    TASK          PLUGIN              OUTCOME TIME  TOKENS     COST  WHY
    root          guests:relay@0.1.0  ok [duration]       0    $0.00
      root/0      guests:joins@0.1.0  ok [duration]       0    $0.00
        root/0/0  guests:leaf@0.1.0   ok [duration]      15  unknown
        root/0/1  guests:leaf@0.1.0   ok [duration]       0    $0.00

    [diagram]
    ");
}

#[test]
fn a_batch_and_its_page() {
    let (_server, machine) = answering(&["fails"]);
    let _filters = filters();
    machine.write(
        "items.jsonl",
        "{\"failed\": \"as asked\"}\n{\"escalated\": \"too dear\"}\n",
    );
    insta::assert_snapshot!(screen(&machine, &["batch", "fails.wasm", "items.jsonl", "--output", "results.jsonl"]), @"
    --- stderr
    run [the run's id]: 2 items: 0 ok, 2 failed (1 escalated, 1 failed); 0 calls, 0 tokens in, 0 out, $0.00, [duration], [rate]
    --- exit code 1
    ");
    insta::assert_snapshot!(screen(&machine, &["show", &newest(&machine)]), @"
    run      [the run's id] (failed)
    plugin   guests:fails@0.1.0, digest [digest]
    started  [time], [age]
    took [duration]
    spent    0 tokens in (0 cached), 0 out, 0 calls, cost $0.00

    tasks: 1 escalated, 1 failed

    TASK    PLUGIN              OUTCOME TIME  TOKENS   COST  WHY
    root/0  guests:fails@0.1.0  failed [duration]       0  $0.00  as asked
    root/1  guests:fails@0.1.0  escalated [duration]       0  $0.00  too dear

    [diagram]
    ");
}

#[test]
fn a_plan() {
    let (_server, machine) = answering(&["asks"]);
    let _filters = filters();
    let input = questions(&["What is new?"], "parallel").to_string();
    insta::assert_snapshot!(screen(&machine, &["plan", "asks.wasm", "--input", &input]), @"
    plugin guests:asks@0.1.0, digest [digest]

    worst case
      tokens       200,000
      model calls      100
      cost         unknown
      sub-tasks          0
      wall time      5 min

    models that may be asked
      fast    local/small  price unknown
      strong  local/large  price unknown

    estimate no earlier runs, at worst an unknown cost

    note: input is reserved at an estimate that errs high; with `strict-tokens = true` under [run] no call can pass a limit
    ");
}

#[test]
fn what_doctor_finds_in_a_configuration() {
    let (_server, machine) = answering(&[]);
    let _filters = filters();
    // The other checks depend on the machine and on the engine.
    let stable = ["configuration", "model ", "limits of a task", "plugins of registries"];
    let page = screen(&machine, &["doctor"]);
    let lines = page.lines().filter(|line| {
        stable
            .iter()
            .any(|check| line.get(5..).is_some_and(|line| line.starts_with(check)))
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    ok   configuration          [work]/agenthost.toml
    ok   model fast             local/small: no key, at http://[address]/v1 (openai), price unknown, 1,000 at once
    ok   model strong           local/large: no key, at http://[address]/v1 (openai), price unknown, 1,000 at once
    ok   limits of a task       tokens 200,000, cost none, calls 100, fuel 20 G, memory 64 MiB, time 5 min, tasks 100, depth 5
    ok   plugins of registries  0 plugins locked; no policy file; 0 vetted
    ");
}

#[test]
fn a_plugin_that_does_not_exist() {
    insta::assert_snapshot!(screen(&machine(), &["run", "nowhere.wasm", "--input", "1"]), @"
    --- stderr
    error: cannot read [work]/nowhere.wasm: No such file or directory (os error 2)

    hint: Give a .wasm file or a crate directory that exists, or a plugin of agenthost.lock as NAMESPACE:NAME.
    --- exit code 2
    ");
}

#[test]
fn an_input_of_another_form() {
    let (_server, machine) = answering(&["asks"]);
    let args = ["run", "asks.wasm", "--input", r#"{"prompt": "What is new?"}"#];
    insta::assert_snapshot!(screen(&machine, &args), @r#"
    --- stderr
    error: input: unknown field `prompt`; the fields are `prompts`, `mode`, `model`, `max-tokens`, `system`, `strict`; the nearest is `prompts`

    hint: The input has this form: {"prompts":["…"],"mode":"parallel","model":"…","max-tokens":0,"system":"…","strict":false}
    --- exit code 2
    "#);
}

#[test]
fn a_limit_that_is_reached() {
    let (_server, machine) = answering(&["asks"]);
    let _filters = filters();
    let input = strict_questions(&["What is new?", "And now?"], "sequential").to_string();
    let args = ["run", "asks.wasm", "--input", &input, "--calls", "1"];
    insta::assert_snapshot!(screen(&machine, &args), @"
    --- stderr
    error: task root (guests:asks@0.1.0): exhausted: the task gave up at its limit of model calls (limit: 1 call)

    hint: Raise it with --calls, or with `calls` under [limits] in agenthost.toml (and in the plugin's grant, where it has one).
    run [the run's id]: 1 call, 12 tokens in, 3 out, cost unknown, [duration]
    --- exit code 3
    ");
}

#[test]
fn a_configuration_with_an_unknown_key() {
    let machine = machine().config("[model]\nfast = \"offline/any\"\n");
    insta::assert_snapshot!(screen(&machine, &["runs"]), @"
    --- stderr
    error: agenthost.toml:1: unknown key `model` at the top level

    hint: Did you mean `models`?
    --- exit code 2
    ");
}

#[test]
fn a_plugin_that_wants_more_than_a_host_offers() {
    let machine = machine();
    let sockets = "package wasi:sockets@0.2.3; interface tcp-create-socket { create: func() -> u32; }";
    let dials = "package demo:dials@0.1.0;
        interface task { run: async func(input: string) -> string; }
        world dials { import wasi:sockets/tcp-create-socket@0.2.3; export task; }";
    machine.write("dials.wasm", dummy::component(&[sockets, dials]));
    let args = ["run", "dials.wasm", "--input", "\"127.0.0.1:80\""];
    insta::assert_snapshot!(screen(&machine, &args), @"
    --- stderr
    error: [work]/dials.wasm: the plugin has 1 import that is not offered:
      wasi:sockets/tcp-create-socket@0.2.3: network sockets (std::net, or a crate such as reqwest, hyper or tokio's net)

    hint: A plugin has no network: ask a model through agenthost_sdk instead, and let the operator pass data in as input.
    --- exit code 4
    ");
}

#[test]
fn a_run_that_is_not_in_the_journal() {
    let (_server, machine) = answering(&["leaf"]);
    let _filters = filters();
    machine.run(["run", "leaf.wasm", "--input", "\"=fine\""]);
    insta::assert_snapshot!(screen(&machine, &["show", "1aaaaaaaa-aaaaa"]), @"
    --- stderr
    error: the journal [work]/.agenthost/journal.db: no run is called `[the run's id]`

    hint: The latest are [the run's id]
    --- exit code 2
    ");
}
