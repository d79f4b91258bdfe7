//! One case, run and compared with what it expects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::cases::Case;
use super::watch::{Watched, watch};
use super::{bombs, component, inputs, scenarios, servers};
use crate::env::TestEnv;
use crate::server::Server;

/// How much longer than its limit a case may take: three times, and what a process needs to start on a busy machine.
const FACTOR: f64 = 3.0;
const START: f64 = 4.0;

/// The program under attack.
#[derive(Debug, Clone)]
pub struct Program {
    /// The command line.
    pub binary: PathBuf,
    /// `true` if it is a release build. The host's work for a guest takes many times as long in a debug build, and costs
    /// the same.
    pub is_optimized: bool,
    /// The defense that is switched off, or `None`. Needs a build with the feature `weaken`.
    pub without: Option<String>,
    /// `true` if the scenarios that draw at random draw as often as the threat's figure asks for, which takes many
    /// minutes.
    pub soaks: bool,
}

/// The result of a case.
#[derive(Debug, Default)]
pub struct Measured {
    /// The deviations from the expectation; empty if there are none.
    pub misses: Vec<String>,
    /// How it ended, in a few words.
    pub ended: String,
    /// Figures by name: `memory` (MiB), `wall` (s), `over` (ms after the time limit), `disk` (KiB), and those of a
    /// scenario.
    pub figures: BTreeMap<String, f64>,
}

impl Measured {
    /// Notes a figure; of several of the same name, the highest counts.
    pub fn figure(&mut self, name: &str, value: f64) {
        let known = self.figures.entry(name.to_owned()).or_insert(value);
        *known = known.max(value);
    }

    /// Notes a miss if `found` is not as it should be.
    pub fn expect(&mut self, right: bool, found: impl FnOnce() -> String) {
        if !right {
            self.misses.push(found());
        }
    }
}

impl Program {
    /// An empty machine for this program.
    pub fn machine(&self) -> TestEnv {
        let machine = TestEnv::new(&self.binary.display().to_string());
        match &self.without {
            Some(defense) => machine.var("AGENTHOST_WEAKEN", defense),
            None => machine,
        }
    }

    /// Runs a case.
    ///
    /// # Panics
    ///
    /// If the corpus is not right, or the machine refuses.
    pub fn attack(&self, case: &Case) -> Measured {
        if let Some(name) = &case.scenario {
            return scenarios::scenario(name, self, case);
        }
        let server = case.server.as_deref().map(servers::server);
        let machine = self.machine();
        let args = arrange(&machine, case, server.as_ref());
        let before = disk(&machine);
        let watched = watch(machine.start(&args, None), patience(case));
        let mut measured = judge(case, &watched);
        let written = disk(&machine).saturating_sub(before);
        measured.figure("disk", written as f64 / 1024.0);
        measured.expect(written <= case.disk << 20, || {
            format!("left {} MiB on disk, more than {}", written >> 20, case.disk)
        });
        if let Some(server) = server {
            measured.figure("requests", server.count() as f64);
            measured.figure("in-flight", server.max_in_flight() as f64);
        }
        measured
    }
}

/// The component of a case, or `None` for a scenario.
pub fn bytes(case: &Case) -> Option<Vec<u8>> {
    match (&case.bomb, &case.scenario) {
        (Some(bomb), _) => Some(bombs::bomb(bomb)),
        (None, None) => Some(component::component(case.guest.as_ref().unwrap_or(&case.name))),
        (None, Some(_)) => None,
    }
}

/// Writes what a case needs into the machine's working directory, and gives the arguments.
pub(super) fn arrange(machine: &TestEnv, case: &Case, server: Option<&Server>) -> Vec<String> {
    let models = server.map(Server::config).unwrap_or_default();
    if !models.is_empty() || !case.config.is_empty() {
        // Single keys come before the first table.
        machine.write("agenthost.toml", format!("{}\n{models}", case.config));
    }
    // The directory that a case may grant.
    std::fs::create_dir(machine.cwd().join("out")).unwrap();
    machine.write("guest.wasm", bytes(case).unwrap_or_default());
    let mut args = vec![case.command.clone(), "guest.wasm".to_owned()];
    if case.command == "run" {
        let input = match &case.input_of {
            Some(name) => {
                machine.write("input.json", inputs::input(name));
                "@input.json".to_owned()
            }
            None => case.input.clone(),
        };
        args.extend(["--json", "--input", &input].map(str::to_owned));
    }
    if let Some(neighbour) = &case.neighbour {
        machine.write("neighbour.wasm", component::component(neighbour));
        args.extend(["--with", "attack:neighbour=neighbour.wasm"].map(str::to_owned));
    }
    if let Some(time) = case.time {
        args.push(format!("--timeout={}ms", time * 1000.0));
        // The time is what ends it, not the computing.
        args.extend(["--fuel", "none"].map(str::to_owned));
    }
    args.extend(case.flags.iter().cloned());
    args
}

/// How long a case may take.
pub(super) fn patience(case: &Case) -> Duration {
    Duration::from_secs_f64(match case.time {
        Some(time) => time * FACTOR + START,
        None => case.seconds,
    })
}

/// Compares how a process came out with what the case expects.
pub(super) fn judge(case: &Case, watched: &Watched) -> Measured {
    let mut measured = Measured::default();
    let output = &watched.output;
    let document = output
        .stdout
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Value>(line).ok());
    let document = document.unwrap_or_default();
    let failure = [&document["outcome"]["failure"], &document["error"]]
        .into_iter()
        .find(|found| found.is_object());
    let text = |field: &str| failure.and_then(|failure| failure[field].as_str()).unwrap_or_default();
    measured.ended = match (text("class"), text("limit")) {
        ("", _) => format!("exit {}", output.code),
        (class, "") => format!("exit {}, {class}", output.code),
        (class, limit) => format!("exit {}, {class} ({limit})", output.code),
    };

    let told = match text("message") {
        "" => last_line(&output.stderr),
        message => message.chars().take(300).collect(),
    };
    if let Some(why) = &watched.killed {
        measured.misses.push(format!("killed: it {why}"));
    } else {
        let right = case.exit.contains(&output.code);
        measured.expect(right, || {
            format!("exit code {}, not {:?}: {told}", output.code, case.exit)
        });
        let class = case.class.as_deref().unwrap_or(text("class"));
        measured.expect(class == text("class"), || {
            format!("class {:?}, not {class:?}", text("class"))
        });
        let right = case.limits.is_empty() || case.limits.iter().any(|limit| limit == text("limit"));
        measured.expect(right, || format!("limit {:?}, not {:?}", text("limit"), case.limits));
        let said = |text: &String| output.stderr.contains(text) || output.stdout.contains(text);
        for text in case.says.iter().filter(|text| !said(text)) {
            measured.misses.push(format!("does not say {text:?}: {told}"));
        }
        let hint = output.code != 2 || output.stderr.contains("hint: ") || !text("hint").is_empty();
        measured.expect(hint, || format!("no hint: {told}"));
    }
    measured.expect(!output.stderr.contains("panicked at"), || {
        format!("panicked: {}", last_line(&output.stderr))
    });
    measured.expect(watched.peak <= case.memory << 20, || {
        format!("took {} MiB of memory, more than {}", watched.peak >> 20, case.memory)
    });
    measured.expect(watched.listening == 0, || {
        format!("listened on {} sockets", watched.listening)
    });
    measured.figure("listening", watched.listening as f64);
    measured.figure("memory", (watched.peak >> 20) as f64);
    measured.figure("wall", watched.wall.as_secs_f64());
    let root = &document["tasks"][0]["spent"]["wall_ms"];
    if let (Some(time), Some(ran)) = (case.time, root.as_f64()) {
        measured.figure("over", (ran - time * 1000.0).max(0.0));
    }
    measured
}

fn last_line(text: &str) -> String {
    let line = text
        .lines()
        .rfind(|line| !line.starts_with("hint:"))
        .unwrap_or_default();
    line.chars().take(300).collect()
}

/// The bytes of all files of a machine but for compiled plugins.
fn disk(machine: &TestEnv) -> u64 {
    fn below(dir: &Path) -> u64 {
        let mut bytes = 0;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            match data.is_dir() {
                true if entry.file_name() == "compiled" => {}
                true => bytes += below(&entry.path()),
                false => bytes += data.len(),
            }
        }
        bytes
    }
    machine.cwd().parent().map_or(0, below)
}
