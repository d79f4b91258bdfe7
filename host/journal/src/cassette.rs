//! Cassettes: files with the recorded model calls of one run, committed with a plugin and replayed to it offline.
//!
//! A cassette holds the inputs of a rehearsal (input, seed, clock, and each task's asks with their replies, in the
//! order in which the task received them) and its expected result: the output, the number of model calls, and ceilings
//! of fuel and tokens. [`tape`] records a cassette from a run and replays it; [`compare`] reports what has changed
//! since.
//!
//! The file is JSON, made to be read, edited and compared: a text of several lines is a list of lines, JSON inside a
//! text is stored as JSON, and media are stored as digests. The file contains no key, no path and no duration. Unknown
//! fields are refused, because people edit the file, except in a failure and in a result of `remaining`.
//!
//! Left out: files of granted directories, and prices. A cassette does not measure the quality of a prompt.

pub mod compare;
pub mod tape;
mod text;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::CassetteError;
use agenthost_core::document::DocumentRecord;
use agenthost_core::limits::{Limits, LimitsPatch};
use agenthost_core::llm::{self, CallError, Part, Stop, Usage};
use agenthost_core::plain_file::{self, Links};
use agenthost_core::record::{Cut, FormatVersion, Remaining};
use agenthost_core::task::Failure;

/// The version of the format. What may change within a version is the rule of [`FormatVersion`], except that an unknown
/// field is refused, so a new field raises the version, too.
pub const FORMAT: FormatVersion = FormatVersion::new(1);
/// The directory of a plugin's cassettes, beside its `Cargo.toml`.
pub const DIR: &str = "cassettes";
/// The most sub-tasks of a root task if a cassette names none: the default when this format was made.
const USUAL_TASKS: u64 = 1_000;
/// The maximum size of a cassette. A run of a thousand long calls takes about 20 MB.
const MAX_BYTES: u64 = 64 << 20;

/// A recorded run with its expected result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cassette {
    /// The version of the format: 1.
    pub format: FormatVersion,
    /// The plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The root task's input.
    pub input: Value,
    /// The limits of the root task that differ from the defaults, in the syntax of a manifest.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub limits: serde_json::Map<String, Value>,
    /// The expected result of a rehearsal.
    pub expect: Expect,
    /// The seed of the run's random numbers: 64 hexadecimal digits.
    pub seed: String,
    /// The time on the tasks' clock, in milliseconds since 1970.
    pub clock_ms: u64,
    /// The tasks, in the order of their ids.
    pub tasks: Vec<Task>,
}

/// The expected result of a rehearsal: an output or a failure, the number of model calls, and ceilings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expect {
    /// The expected output; `None` if a failure is expected.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The expected failure; `None` if an output is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The number of model calls by task; tasks without calls are left out.
    pub calls: BTreeMap<String, u64>,
    /// The maximum fuel of all tasks together.
    pub fuel: u64,
    /// The maximum number of input and output tokens of all tasks together.
    pub tokens: u64,
}

/// Deserializes a field that is present, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A recorded task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    /// The task's id in the run, such as `root/0`.
    pub id: String,
    /// The plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The numbers of the answered asks, in the order of their replies, separated by spaces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub turns: String,
    /// The point at which the task was cut off; `None` if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// The results of `remaining`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remaining: Vec<Remaining>,
    /// What the task did with its plugin's documents, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<DocumentRecord>,
    /// The task's asks, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
}

/// An ask: the start of a sub-task, or a model call with its reply or error. A call has neither if the task ended
/// before it received one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ask {
    /// The number of the ask within its task, counted from 0.
    pub ask: u64,
    /// The id of the sub-task that it starts; `None` for a model call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<String>,
    /// The request to the model, for display and comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// The model's reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// The error that the task received instead of a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallError>,
    /// The accounted tokens, if they differ from those of the reply.
    #[serde(default, with = "tokens", skip_serializing_if = "Option::is_none")]
    pub used: Option<Usage>,
}

/// A model's reply: one of `json`, `text` and `content`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reply {
    /// A text that is compact JSON on one line.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// Any other text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<text::Text>,
    /// Any other content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<Part>>,
    /// The model that replied.
    pub model: String,
    /// The reason why the model stopped.
    pub stop: Stop,
    /// The reason why the model declined; `None` if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The token usage as reported to the task.
    #[serde(default, with = "tokens", skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Cassette {
    /// Reads a cassette.
    ///
    /// `Host::rehearse` replays one.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use agenthost_journal::cassette::Cassette;
    ///
    /// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/competitor/cassettes/first.json");
    /// let cassette = Cassette::read(file.as_ref())?;
    /// assert_eq!(cassette.plugin_name(), "demo:competitor");
    /// assert!(cassette.calls() > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input), with the file and the problem.
    pub fn read(path: &Path) -> Result<Self, CassetteError> {
        let owned = || path.to_owned();
        let text = plain_file::read_text(path, Links::Follow, MAX_BYTES).map_err(|source| match source.kind() {
            ErrorKind::FileTooLarge => CassetteError::TooLarge {
                path: owned(),
                most: MAX_BYTES,
            },
            _ => CassetteError::Read { path: owned(), source },
        })?;
        Self::parse(&text).map_err(|problem| CassetteError::Invalid { path: owned(), problem })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: FormatVersion,
        }
        let Versioned { format } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        format
            .check(&(FORMAT..=FORMAT))
            .map_err(|error| format!("it has {error}"))?;
        let cassette: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        cassette.check()?;
        Ok(cassette)
    }

    /// Writes the cassette, and replaces an existing file.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host), naming the file.
    pub fn write(&self, path: &Path) -> Result<(), CassetteError> {
        // Written beside the target and renamed, so that no reader sees half of it.
        let beside = path.with_extension(format!("{}.part", std::process::id()));
        let written = (|| {
            let text = serde_json::to_string_pretty(self)?;
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            std::fs::rename(&beside, path)
        })();
        written.map_err(|source| {
            let _ = std::fs::remove_file(&beside);
            CassetteError::Write {
                path: path.to_owned(),
                source,
            }
        })
    }

    /// Returns the plugin's name without its version.
    pub fn plugin_name(&self) -> &str {
        self.plugin.split('@').next().unwrap_or_default()
    }

    /// Returns the limits of the root task that differ from the defaults, and that on sub-tasks.
    pub fn limits(&self) -> LimitsPatch {
        // `check` has parsed them.
        let limits: LimitsPatch = serde_json::from_value(Value::Object(self.limits.clone())).unwrap_or_default();
        limits.over(Limits::new().tasks(USUAL_TASKS).into())
    }

    /// Returns the number of model calls of all tasks.
    pub fn calls(&self) -> u64 {
        self.expect
            .calls
            .values()
            .fold(0, |sum, calls| sum.saturating_add(*calls))
    }

    /// Returns the cassette with ceilings a quarter above the measured fuel and tokens, to allow for small changes of
    /// compilers and prompts.
    #[must_use]
    pub fn with_headroom(mut self) -> Self {
        self.expect.fuel = headroom(self.expect.fuel);
        self.expect.tokens = headroom(self.expect.tokens);
        self
    }

    fn check(&self) -> std::result::Result<(), String> {
        serde_json::from_value::<LimitsPatch>(Value::Object(self.limits.clone()))
            .map_err(|error| format!("limits: {error}"))?;
        self.seed_bytes().ok_or("seed: not 64 hex digits")?;
        if self.expect.output.is_some() == self.expect.failure.is_some() {
            return Err("expect: give either an output or a failure".into());
        }
        let mut ids = BTreeSet::new();
        for task in &self.tasks {
            let of_task = |why: String| format!("task {}: {why}", task.id);
            if !ids.insert(task.id.as_str()) {
                return Err(of_task("it is listed twice".into()));
            }
            task.check().map_err(of_task)?;
        }
        match ids.contains("root") {
            true => Ok(()),
            false => Err("it has no task root".into()),
        }
    }

    fn seed_bytes(&self) -> Option<[u8; 32]> {
        let mut seed = [0; 32];
        if self.seed.len() != 64 || !self.seed.is_ascii() {
            return None;
        }
        for (n, byte) in seed.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.seed.get(2 * n..2 * n + 2)?, 16).ok()?;
        }
        Some(seed)
    }
}

/// Returns the limits of a root task if no cassette of this format names others.
fn usual_limits() -> Limits {
    Limits::task_default().tasks(USUAL_TASKS)
}

/// Returns the limits of a root task that differ from those that every cassette assumes, in the syntax of a manifest.
///
/// ```
/// use agenthost_journal::cassette::unusual;
/// use agenthost_core::limits::Limits;
/// use serde_json::json;
///
/// let limits = Limits { calls: Some(3), ..Limits::task_default() };
/// assert_eq!(json!(unusual(&limits)), json!({"calls": 3, "tasks": 100}));
/// ```
pub fn unusual(limits: &Limits) -> serde_json::Map<String, Value> {
    let usual = usual_limits();
    let count = |count: Option<u64>| count.map_or_else(|| "none".into(), Value::from);
    let text = |text: Option<String>| Value::from(text.unwrap_or_else(|| "none".into()));
    let all = [
        ("tokens", limits.tokens != usual.tokens, count(limits.tokens)),
        (
            "cost",
            limits.cost != usual.cost,
            text(limits.cost.map(|cost| cost.to_string())),
        ),
        ("calls", limits.calls != usual.calls, count(limits.calls)),
        ("fuel", limits.fuel != usual.fuel, count(limits.fuel)),
        ("memory", limits.memory != usual.memory, count(limits.memory)),
        (
            "timeout",
            limits.timeout != usual.timeout,
            text(limits.timeout.map(|time| format!("{}ms", time.as_millis()))),
        ),
        ("tasks", limits.tasks != usual.tasks, count(limits.tasks)),
        ("depth", limits.depth != usual.depth, count(limits.depth.map(u64::from))),
    ];
    let unusual = all.into_iter().filter(|(_, unusual, _)| *unusual);
    unusual.map(|(key, _, value)| (key.to_owned(), value)).collect()
}

/// Adds a quarter and rounds up to two significant digits.
fn headroom(measured: u64) -> u64 {
    let more = measured.saturating_add(measured.div_ceil(4));
    let step = 10_u64.pow(more.checked_ilog10().unwrap_or(0).saturating_sub(1));
    more.div_ceil(step).saturating_mul(step)
}

impl Task {
    /// Returns the numbers of the answered asks.
    fn turns(&self) -> std::result::Result<Vec<u64>, String> {
        let wrong = |word: &str| format!("turns: `{word}` is not the number of an ask");
        let words = self.turns.split_whitespace();
        words.map(|word| word.parse().map_err(|_| wrong(word))).collect()
    }

    fn check(&self) -> std::result::Result<(), String> {
        let mut known = BTreeSet::new();
        for ask in &self.asks {
            let of_ask = |why: &str| format!("ask {}: {why}", ask.ask);
            if !known.insert(ask.ask) {
                return Err(of_ask("it is listed twice"));
            }
            if ask.starts.is_some() == ask.request.is_some() {
                return Err(of_ask("give either a request or the sub-task that it starts"));
            }
            if ask.starts.is_some() && (ask.reply.is_some() || ask.error.is_some() || ask.used.is_some()) {
                return Err(of_ask("the answer of a sub-task is its own output"));
            }
            if ask.reply.is_some() && ask.error.is_some() {
                return Err(of_ask("give either a reply or an error"));
            }
            if let Some(reply) = &ask.reply {
                let forms = [reply.json.is_some(), reply.text.is_some(), reply.content.is_some()];
                if forms.iter().filter(|given| **given).count() != 1 {
                    return Err(of_ask("reply: give one of json, text and content"));
                }
            }
        }
        let mut answered = BTreeSet::new();
        for turn in self.turns()? {
            if !known.contains(&turn) || !answered.insert(turn) {
                return Err(format!("turns: {turn} is not an ask, or is listed twice"));
            }
        }
        Ok(())
    }
}

impl Ask {
    /// Returns the accounted tokens; `None` if nothing was sent.
    pub fn tokens(&self) -> Option<Usage> {
        self.used.or_else(|| self.reply.as_ref()?.usage)
    }
}

impl Reply {
    fn of(reply: &llm::Reply) -> Self {
        let (mut json, mut text, mut content) = (None, None, None);
        match reply.content.as_slice() {
            [Part::Text(only)] => match text::compact(only) {
                Some(value) => json = Some(value),
                None => text = Some(text::Text(only.clone())),
            },
            parts => content = Some(parts.to_vec()),
        }
        Self {
            json,
            text,
            content,
            model: reply.model.clone(),
            stop: reply.stop,
            refusal: reply.refusal.clone(),
            usage: reply.usage,
        }
    }

    fn reply(&self) -> llm::Reply {
        let json = self.json.as_ref().map(Value::to_string);
        let text = json.or_else(|| self.text.as_ref().map(|text| text.0.clone()));
        let content = text.map(|text| vec![Part::Text(text)]);
        llm::Reply::of(content.or_else(|| self.content.clone()).unwrap_or_default())
            .with_model(&self.model)
            .with_stop(self.stop)
            .with_refusal(self.refusal.clone())
            .with_usage(self.usage)
    }
}

/// Returns the cassettes of the plugin in `dir` with their paths, in the order of their names; empty if the plugin has
/// no directory for them.
///
/// ```
/// use agenthost_journal::cassette;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let crate_without_cassettes = dir.path();
/// assert!(cassette::of_plugin(crate_without_cassettes)?.is_empty());
/// # Ok::<(), agenthost_journal::CassetteError>(())
/// ```
///
/// # Errors
///
/// As [`Cassette::read`], and if the directory cannot be read.
pub fn of_plugin(dir: &Path) -> Result<Vec<(std::path::PathBuf, Cassette)>, CassetteError> {
    let dir = dir.join(DIR);
    let wrong = |source| CassetteError::ReadDirectory {
        dir: dir.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|end| end == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: std::path::PathBuf| Cassette::read(&path).map(|cassette| (path, cassette));
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests;
