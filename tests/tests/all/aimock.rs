//! A fan-out against a model server that others wrote, with its chaos on: the npm package `@copilotkit/aimock`.
//!
//! It needs node, npm and their network, so it runs only if `AGENTHOST_AIMOCK=1` is set, and prints a note if it is
//! not. `AGENTHOST_AIMOCK_DIR` names a directory in which the package is installed already.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agenthost_tests::env::TestEnv;
use serde_json::json;

use crate::{guest, limits, load, machine_for, questions};

const PACKAGE: &str = "@copilotkit/aimock";
const VERSION: &str = "1.43.0";

/// How many items a fan-out has: aimock's refusals name a limit of 60 requests a minute, so 200 of them take some four minutes.
fn item_count() -> usize {
    if std::env::var("AGENTHOST_SOAK").as_deref() == Ok("1") {
        200
    } else {
        60
    }
}

/// The server; it ends when this is dropped.
struct Aimock {
    child: Child,
    port: u16,
}

impl Drop for Aimock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The directory with the package in its `node_modules`, or why there is none.
fn installed(machine: &TestEnv) -> Result<PathBuf, String> {
    let dir = match std::env::var_os("AGENTHOST_AIMOCK_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let dir = machine.cwd();
            let npm = Command::new("npm")
                .args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"])
                .arg(format!("{PACKAGE}@{VERSION}"))
                .current_dir(&dir)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("npm does not start: {error}"))?;
            if !npm.status.success() {
                return Err(format!("npm: {}", String::from_utf8_lossy(&npm.stderr).trim()));
            }
            dir
        }
    };
    let entry = dir.join("node_modules").join(PACKAGE).join("dist/cli.js");
    if entry.exists() {
        Ok(entry)
    } else {
        Err(format!("{} is not there", entry.display()))
    }
}

fn start(entry: &Path, machine: &TestEnv) -> Aimock {
    let fixture = json!({"fixtures": [{"match": {"userMessage": "item"}, "response": {"content": "done"}}]});
    let fixtures = machine.write("fixtures/items.json", fixture.to_string());
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut child = Command::new("node")
        .arg(entry)
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "--log-level",
            "silent",
            "-f",
        ])
        .arg(fixtures)
        .args([
            "--chaos-ratelimit",
            "0.15",
            "--chaos-drop",
            "0.1",
            "--chaos-disconnect",
            "0.05",
        ])
        .args(["--chaos-malformed", "0.02"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "aimock ended");
        assert!(begin.elapsed() < Duration::from_secs(30), "aimock does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    Aimock { child, port }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_through_chaos_accounts_for_every_item() {
    if std::env::var("AGENTHOST_AIMOCK").as_deref() != Ok("1") {
        return say("skipped: set AGENTHOST_AIMOCK=1 to run against aimock");
    }
    let items = item_count();
    for (kind, variable) in [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")] {
        let machine = machine_for("").var(variable, "sk-test-0123456789");
        let entry = match installed(&machine) {
            Ok(entry) => entry,
            Err(why) => return say(&format!("skipped: {why}")),
        };
        let aimock = start(&entry, &machine);
        let path = if kind == "openai" { "/v1" } else { "" };
        let url = format!("http://127.0.0.1:{}{path}", aimock.port);
        let machine = machine.config(&agenthost_tests::server::config(
            kind,
            &url,
            &format!("key-env = \"{variable}\"\n"),
        ));
        let prompts: Vec<_> = (0..items).map(|n| format!("item {n}")).collect();
        let input = questions(&prompts.iter().map(String::as_str).collect::<Vec<_>>(), "parallel");
        let host = machine.host();
        let asks = load(&host, &guest("asks")).await;
        let begin = Instant::now();
        let run = host
            .run(&asks, &input)
            .limits(limits(&[("calls", "none"), ("tokens", "none"), ("timeout", "8m")]))
            .start()
            .unwrap();
        // Its refusals name a limit of 60 requests a minute, and that is kept.
        let ended = tokio::time::timeout(Duration::from_mins(9), run.report()).await;
        let document = serde_json::to_value(&*ended.expect("the run hangs")).unwrap();

        let answers = document["outcome"]["ok"].as_array().unwrap();
        let good = answers.iter().filter(|answer| answer["text"] == "done").count();
        let bad = answers.iter().filter(|answer| answer["error"].is_string()).count();
        say(&format!(
            "{kind}: {good} answered, {bad} failed in {:?}; {}",
            begin.elapsed(),
            document["models"]
        ));
        assert_eq!((answers.len(), good + bad), (items, items), "{document}");
        assert_eq!(document["spent"]["calls"], items, "{document}");
        assert!(good > 0, "{document}");
    }
}
