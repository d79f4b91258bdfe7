//! `cases.toml` and `threats.toml`, read.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::corpus;

/// An attack, and its expected result.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// Its name, unique in the corpus.
    pub name: String,
    /// The number of its threat in `threats.toml`.
    pub threat: u32,
    /// The guest, if its name is not the case's.
    #[serde(default)]
    pub guest: Option<String>,
    /// The component from [`bombs`](super::bombs) to use instead of a guest.
    #[serde(default)]
    pub bomb: Option<String>,
    /// The function of the harness to call instead of one run of a guest.
    #[serde(default)]
    pub scenario: Option<String>,
    /// The guest that sub-tasks run.
    #[serde(default)]
    pub neighbour: Option<String>,
    /// The subcommand.
    #[serde(default = "run_command")]
    pub command: String,
    /// The input, as JSON.
    #[serde(default = "any_input")]
    pub input: String,
    /// The input from [`inputs`](super::inputs) to use.
    #[serde(default)]
    pub input_of: Option<String>,
    /// The behavior of the model server.
    #[serde(default)]
    pub server: Option<String>,
    /// More of `agenthost.toml`.
    #[serde(default)]
    pub config: String,
    /// More flags.
    #[serde(default)]
    pub flags: Vec<String>,
    /// The time limit, in seconds.
    #[serde(default)]
    pub time: Option<f64>,
    /// The exit codes that are right.
    pub exit: Vec<i32>,
    /// The class of the failure or error, where it counts.
    #[serde(default)]
    pub class: Option<String>,
    /// The limits that may end it; any of them is right.
    #[serde(default)]
    pub limits: Vec<String>,
    /// The expected text on stdout or stderr.
    #[serde(default)]
    pub says: Vec<String>,
    /// The most resident memory of the process and its children, in MiB.
    #[serde(default = "usual_memory")]
    pub memory: u64,
    /// The most bytes that the process leaves on disk besides compiled plugins, in MiB.
    #[serde(default = "usual_disk")]
    pub disk: u64,
    /// The longest that a case without a time limit may take, in seconds.
    #[serde(default = "usual_seconds")]
    pub seconds: f64,
    /// `true` if the documented test command runs it, too.
    #[serde(default)]
    pub fast: bool,
    /// The defense without which it has to fail.
    #[serde(default)]
    pub weakened: Option<String>,
}

fn run_command() -> String {
    "run".to_owned()
}

fn any_input() -> String {
    "\"x\"".to_owned()
}

fn usual_memory() -> u64 {
    256
}

fn usual_disk() -> u64 {
    4
}

fn usual_seconds() -> f64 {
    30.0
}

/// A threat, and the defense against it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Threat {
    /// Its number.
    pub number: u32,
    /// The action of an attacker.
    pub threat: String,
    /// The defense of the host.
    pub defense: String,
    /// Tests of the documented command that prove it beside the cases, by their full names in `tests/tests/all.rs`.
    #[serde(default)]
    pub tests: Vec<String>,
    /// How its figures are put, with `{name}` for what was measured.
    pub figure: String,
}

/// All cases, in the order of the file.
///
/// # Panics
///
/// If the file is not right.
pub fn cases() -> Vec<Case> {
    #[derive(Deserialize)]
    struct File {
        case: Vec<Case>,
    }
    read::<File>("cases.toml").case
}

/// All threats, in order.
///
/// # Panics
///
/// If the file is not right.
pub fn threats() -> Vec<Threat> {
    #[derive(Deserialize)]
    struct File {
        threat: Vec<Threat>,
    }
    read::<File>("threats.toml").threat
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = corpus().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
