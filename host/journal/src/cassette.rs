//! A cassette: the model calls of one run in a file, to be committed with the plugin and played to it again offline.
//!
//! It holds what a rehearsal needs (input, seed, clock, and per task its asks with what came back, in the order in which
//! the task learned it), and what is expected of it: the output, the number of model calls, and ceilings of fuel and tokens.
//! [`tape`] makes one from a run and plays it, [`compare`] says what has changed since.
//!
//! The file is JSON, made to be read, edited and compared: texts of several lines are lists of lines, JSON in texts is JSON,
//! media are digests. It holds no key, no path and no duration. Unknown fields are refused, since people edit it.
//!
//! Left out: files of granted directories, and prices. A cassette says nothing about the quality of a prompt.

pub mod compare;
pub mod tape;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use agenthost_core::error::{Error, Result};
use agenthost_core::limits::{Limits, LimitsPatch};
use agenthost_core::llm::{self, Allowance, CallError, Part, Stop, Usage};
use agenthost_core::plain_file::{self, Links};

/// The version of the form.
pub const FORMAT: u32 = 1;
/// Where a plugin's cassettes lie, beside its `Cargo.toml`.
pub const DIR: &str = "cassettes";
/// A cassette of more bytes is refused: a run of a thousand long calls has some 20 MB.
const MAX_BYTES: u64 = 64 << 20;
const HINT: &str = "Mend the file, or record it anew: agenthost run PLUGIN --input … --record FILE";

/// A recorded run with what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cassette {
    /// The version of the form: 1.
    pub format: u32,
    /// The plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The root task's input.
    pub input: Value,
    /// Limits of the root task that are not the usual ones, as a manifest writes them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub limits: serde_json::Map<String, Value>,
    /// What a rehearsal has to come to.
    pub expect: Expect,
    /// What random numbers are made from: 64 hex digits.
    pub seed: String,
    /// Where the tasks' clock stands, in milliseconds since 1970.
    pub clock_ms: u64,
    /// The tasks, in the order of their ids.
    pub tasks: Vec<Task>,
}

/// What a rehearsal has to come to: an output or a failure, and no more than it may use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expect {
    /// The output.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why there is none: `class`, `message` and what else a report says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<serde_json::Map<String, Value>>,
    /// Model calls, by task; tasks without any are left out.
    pub calls: BTreeMap<String, u64>,
    /// The most fuel of all tasks together.
    pub fuel: u64,
    /// The most tokens, input and output of all tasks together.
    pub tokens: u64,
}

/// A field that is there, be it null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    /// Its place in the run, such as `root/0`.
    pub id: String,
    /// Its plugin, as `namespace:name@version`.
    pub plugin: String,
    /// The asks in the order in which they were answered, by number, with spaces between.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub turns: String,
    /// Where it was cut off, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// What `remaining` answered, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remaining: Vec<Remained>,
    /// What it asked for, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
}

/// A task's end from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cut {
    /// Whether its time was up; else it was cancelled.
    pub time_up: bool,
    /// Polls of the guest since its last turn.
    pub polls: u64,
}

/// One answer of `remaining`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Remained {
    /// Turns before it.
    pub after: u64,
    /// What was left.
    pub left: Allowance,
}

/// One ask: a sub-task, or a model call with its reply or error; neither where the task never learned of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ask {
    /// Its number, from 0.
    pub ask: u64,
    /// The sub-task that it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<String>,
    /// What a model is asked, for people and for comparing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
    /// What it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallError>,
    /// Tokens in the books, where they are not those of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Tokens>,
}

/// A model's reply: `json`, `text` or `content`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reply {
    /// A text that is JSON on one line.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// Any other text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<text::Text>,
    /// Any other content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<Part>>,
    /// The model that answered.
    pub model: String,
    /// Why it stopped.
    pub stop: Stop,
    /// Why it declined, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Tokens, as the task was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Tokens>,
}

/// Counts of tokens; zeros are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Tokens {
    /// All input.
    #[serde(skip_serializing_if = "zero")]
    pub input: u64,
    /// The part of it that was read from a cache.
    #[serde(skip_serializing_if = "zero")]
    pub cached_input: u64,
    /// The part of it that was written to a cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache_write_input: u64,
    /// All output.
    #[serde(skip_serializing_if = "zero")]
    pub output: u64,
    /// The part of it that was reasoning.
    #[serde(skip_serializing_if = "zero")]
    pub reasoning_output: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn zero(n: &u64) -> bool {
    *n == 0
}

impl Cassette {
    /// Reads a cassette.
    ///
    /// `Host::rehearse` plays one.
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
    /// [`ErrorClass::Input`](agenthost_core::error::ErrorClass::Input), with the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |why: String| Error::input(why).at(path).with_hint(HINT);
        let text = plain_file::read_text(path, Links::Follow, MAX_BYTES).map_err(|error| match error.kind() {
            std::io::ErrorKind::FileTooLarge => wrong(format!("more than {} MiB", MAX_BYTES >> 20)),
            _ => wrong(error.to_string()),
        })?;
        Self::parse(&text).map_err(|why| wrong(format!("not a cassette: {why}")))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if format != FORMAT {
            return Err(format!("it has format {format}, and this version reads {FORMAT}"));
        }
        let cassette: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        cassette.check()?;
        Ok(cassette)
    }

    /// Writes it, in the place of what is there.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Host`](agenthost_core::error::ErrorClass::Host), naming the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::host(error.to_string()))?;
        // Written beside and renamed, so that nobody reads half of it.
        let beside = path.with_extension(format!("{}.part", std::process::id()));
        let written = (|| {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            std::fs::rename(&beside, path)
        })();
        written.map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            Error::host(format!("the cassette cannot be written: {error}")).at(path)
        })
    }

    /// The plugin without its version.
    pub fn plugin_name(&self) -> &str {
        self.plugin.split('@').next().unwrap_or_default()
    }

    /// Limits of the root task that are not the usual ones.
    pub fn limits(&self) -> LimitsPatch {
        // They were read when the cassette was.
        serde_json::from_value(Value::Object(self.limits.clone())).unwrap_or_default()
    }

    /// Model calls of all tasks.
    pub fn calls(&self) -> u64 {
        self.expect
            .calls
            .values()
            .fold(0, |sum, calls| sum.saturating_add(*calls))
    }

    /// The same, with a quarter more fuel and tokens than were measured: compilers and prompts change a little.
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
                return Err(of_task("it is there twice".into()));
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

/// Those of a root task's limits that are not the usual ones, as a manifest writes them.
///
/// ```
/// use agenthost_journal::cassette::unusual;
/// use agenthost_core::limits::Limits;
/// use serde_json::json;
///
/// let limits = Limits { calls: Some(3), ..Limits::task_default() };
/// assert_eq!(json!(unusual(&limits)), json!({"calls": 3}));
/// ```
pub fn unusual(limits: &Limits) -> serde_json::Map<String, Value> {
    let usual = Limits::task_default();
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
            limits.time != usual.time,
            text(limits.time.map(|time| format!("{}ms", time.as_millis()))),
        ),
        ("tasks", limits.tasks != usual.tasks, count(limits.tasks)),
        ("depth", limits.depth != usual.depth, count(limits.depth.map(u64::from))),
    ];
    let unusual = all.into_iter().filter(|(_, unusual, _)| *unusual);
    unusual.map(|(key, _, value)| (key.to_owned(), value)).collect()
}

/// A quarter more, in round figures: the two leading digits, rounded up.
fn headroom(measured: u64) -> u64 {
    let more = measured.saturating_add(measured.div_ceil(4));
    let step = 10_u64.pow(more.checked_ilog10().unwrap_or(0).saturating_sub(1));
    more.div_ceil(step).saturating_mul(step)
}

impl Task {
    /// The numbers of the answered asks.
    fn turns(&self) -> std::result::Result<Vec<u64>, String> {
        let wrong = |word: &str| format!("turns: `{word}` is no number of an ask");
        let words = self.turns.split_whitespace();
        words.map(|word| word.parse().map_err(|_| wrong(word))).collect()
    }

    fn check(&self) -> std::result::Result<(), String> {
        let mut known = BTreeSet::new();
        for ask in &self.asks {
            let of_ask = |why: &str| format!("ask {}: {why}", ask.ask);
            if !known.insert(ask.ask) {
                return Err(of_ask("it is there twice"));
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
                return Err(format!("turns: {turn} is no ask, or there twice"));
            }
        }
        Ok(())
    }
}

impl Ask {
    /// Tokens in the books; none if nothing was sent.
    pub fn tokens(&self) -> Option<Tokens> {
        self.used.or_else(|| self.reply.as_ref()?.usage)
    }
}

impl Tokens {
    fn of(usage: &Usage) -> Self {
        Self {
            input: usage.input,
            cached_input: usage.cached_input,
            cache_write_input: usage.cache_write_input,
            output: usage.output,
            reasoning_output: usage.reasoning_output,
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            input: self.input,
            cached_input: self.cached_input,
            cache_write_input: self.cache_write_input,
            output: self.output,
            reasoning_output: self.reasoning_output,
        }
    }

    /// Input and output together.
    pub fn sum(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl Reply {
    fn of(reply: &llm::Reply) -> Self {
        let (mut json, mut text, mut content) = (None, None, None);
        match reply.content.as_slice() {
            [Part::Text(only)] => match text::compact(only) {
                Some(value) => json = Some(value),
                None => text = Some(text::Text::of(only)),
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
            usage: reply.usage.as_ref().map(Tokens::of),
        }
    }

    fn reply(&self) -> llm::Reply {
        let json = self.json.as_ref().map(Value::to_string);
        let text = json.or_else(|| self.text.as_ref().map(text::Text::joined));
        let content = text.map(|text| vec![Part::Text(text)]);
        llm::Reply {
            content: content.or_else(|| self.content.clone()).unwrap_or_default(),
            model: self.model.clone(),
            stop: self.stop,
            refusal: self.refusal.clone(),
            usage: self.usage.as_ref().map(Tokens::usage),
            request_id: None,
            quota: None,
        }
    }
}

/// The cassettes of the plugin in `dir`, in the order of their names, each with its path; none where there is no directory
/// for them.
///
/// ```
/// use agenthost_journal::cassette;
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let crate_without_cassettes = dir.path();
/// assert!(cassette::of_plugin(crate_without_cassettes)?.is_empty());
/// # Ok::<(), agenthost_core::error::Error>(())
/// ```
///
/// # Errors
///
/// As [`Cassette::read`], and where the directory cannot be read.
pub fn of_plugin(dir: &Path) -> Result<Vec<(std::path::PathBuf, Cassette)>> {
    let dir = dir.join(DIR);
    let wrong = |error: std::io::Error| Error::input(error.to_string()).at(&dir).with_hint("Make it readable.");
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
