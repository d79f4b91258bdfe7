//! The files of a schedule: whether there is anything to do, and the input of a run.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use agenthost_config::{ScheduleConfig, ScheduleInput, ScheduleValue};
use agenthost_core::error::{Error, Result};
use agenthost_core::plain_file::{self, Links};
use agenthost_sandbox::MAX_CALL_BYTES;

/// The most bytes of a file that is read into an input.
const MOST_BYTES: u64 = MAX_CALL_BYTES as u64;
/// The most bytes of a file that is only compared with its earlier content. A change after them is not seen.
const MOST_COMPARED: u64 = 1 << 30;

/// The files of a schedule, as they are at one time.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use agenthost::config::{Config, Env};
/// use agenthost::schedule::ScheduleInputs;
///
/// std::fs::write(dir.join("list.md"), "# Today\n- call Ada")?;
/// let text = "[schedules.tidy]\nevery = '1h'\nplugin = 'agenthost:ask'\nchecklist = 'list.md'\n\
///             set = { task = '@list.md' }\ncost-per-day = 1";
/// std::fs::write(dir.join("agenthost.toml"), text)?;
/// let config = Config::load(&Env::new([].into(), dir, Some(dir.join("home"))))?;
/// let tidy = &config.schedules()["tidy"];
///
/// assert!(!ScheduleInputs::read(tidy)?.is_empty);
/// assert_eq!(ScheduleInputs::of_run(tidy)?["task"], "# Today\n- call Ada");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleInputs {
    /// `true` if there is a checklist and nothing is on it.
    pub is_empty: bool,
    /// The digest of the checklist and the watched files; `None` if there are none.
    pub digest: Option<String>,
}

impl ScheduleInputs {
    /// Reads the checklist and the watched files. A watched file that does not exist counts as one without content. A
    /// change after the first GiB of a watched file is not seen. A link in place of a file, or of a folder above it
    /// since the configuration was read, is an error.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](crate::ErrorClass::Input) if a file cannot be read.
    pub fn read(schedule: &ScheduleConfig) -> Result<Self> {
        let mut digest = Sha256::new();
        let mut is_empty = false;
        let text = |key, path| text(schedule, key, path);
        if let Some(path) = &schedule.checklist {
            let text = text("checklist", path)?;
            is_empty = is_empty_list(&text);
            digest.update(Sha256::digest(text));
        }
        for path in &schedule.watch {
            digest.update(content(schedule, path)?);
        }
        let any = schedule.checklist.is_some() || !schedule.watch.is_empty();
        let digest = digest.finalize().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Ok(Self {
            is_empty,
            digest: any.then_some(digest),
        })
    }

    /// Reads the input of a run: that of the schedule, with the values of `set` in place of its own.
    ///
    /// # Errors
    ///
    /// [`ErrorClass::Input`](crate::ErrorClass::Input) if a file cannot be read, or `set` has no object to be applied
    /// to.
    pub fn of_run(schedule: &ScheduleConfig) -> Result<Value> {
        let text = |key, path| text(schedule, key, path);
        let json = |key, path| json(key, path, text(key, path)?);
        let mut input = match &schedule.input {
            Some(ScheduleInput::File(path)) => json("input", path)?,
            Some(ScheduleInput::Value(value)) => value.clone(),
            None => Value::Object(Map::new()),
        };
        for (key, value) in &schedule.set {
            let value = match value {
                ScheduleValue::Value(value) => value.clone(),
                ScheduleValue::File(path) if path.extension().is_some_and(|ext| ext == "json") => json("set", path)?,
                ScheduleValue::File(path) => Value::String(text("set", path)?),
            };
            let fields = input.as_object_mut().ok_or_else(|| {
                Error::input("`set` has fields for an input that is not an object")
                    .with_hint("Write an object in `input`, or leave out `set`.")
            })?;
            fields.insert(key.clone(), value);
        }
        Ok(input)
    }
}

fn text(schedule: &ScheduleConfig, key: &str, path: &Path) -> Result<String> {
    let read = plain_file::read_text(schedule.place(path), Links::RefuseAnywhere, MOST_BYTES);
    read.map_err(|error| unreadable(key, path, &error))
}

fn json(key: &str, path: &Path, text: String) -> Result<Value> {
    serde_json::from_str(&text).map_err(|error| {
        Error::input(format!("{} of `{key}` is not valid JSON: {error}", path.display()))
            .with_hint("Correct the file, or name another.")
    })
}

/// Returns the digest of a file's content, up to [`MOST_COMPARED`] bytes. A file that does not exist has no content.
fn content(schedule: &ScheduleConfig, path: &Path) -> Result<Vec<u8>> {
    let failed = |error: &std::io::Error| unreadable("watch", path, error);
    let mut file = match plain_file::open(schedule.place(path), Links::RefuseAnywhere) {
        Ok(file) => file.take(MOST_COMPARED),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Sha256::digest([]).to_vec()),
        Err(error) => return Err(failed(&error)),
    };
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(|error| failed(&error))? {
            0 => return Ok(digest.finalize().to_vec()),
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn unreadable(key: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::input(format!("{} of `{key}` cannot be read: {error}", path.display()))
        .with_hint("Name a file that can be read, or leave out the key.")
}

/// Returns whether nothing is on a checklist: it has only blank lines, headings, comments and list items without text.
///
/// ```
/// use agenthost::schedule::is_empty_list;
///
/// assert!(is_empty_list("# Today\n<!-- add tasks here -->\n- [ ]\n"));
/// assert!(!is_empty_list("# Today\n- [ ] call Ada\n"));
/// ```
pub fn is_empty_list(text: &str) -> bool {
    let mut rest = text;
    let mut shown = String::new();
    while let Some((before, after)) = rest.split_once("<!--") {
        shown.push_str(before);
        rest = after.split_once("-->").map_or("", |(_, after)| after);
    }
    shown.push_str(rest);
    shown.lines().all(is_empty_line)
}

fn is_empty_line(line: &str) -> bool {
    let line = line.trim().trim_start_matches('\u{feff}');
    let is_heading = {
        let text = line.trim_start_matches('#');
        text.len() < line.len() && (text.is_empty() || text.starts_with([' ', '\t']))
    };
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = (number.len() < line.len())
        .then(|| number.strip_prefix(['.', ')']))
        .flatten();
    let item = line.strip_prefix(['-', '*', '+']).or(numbered);
    let is_empty_item = item.is_some_and(|item| matches!(item.trim(), "" | "[ ]" | "[]" | "[x]" | "[X]"));
    let is_rule = line.len() >= 3
        && ["-", "=", "*", "_"]
            .iter()
            .any(|c| line.replace(c, "").trim().is_empty());
    line.is_empty() || is_heading || is_empty_item || is_rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checklist_without_an_item_is_empty() {
        for text in [
            "",
            "\n \n\t\n",
            "# Heartbeat\n\n## Daily\n#\n",
            "# Tasks\n<!-- Add tasks\nover several lines -->\n",
            "<!-- never closed\n- call Ada",
            "- \n* [ ]\n+\n1.\n2) [x]\n---\n",
            "\u{feff}# Tasks\r\n-\r\n",
        ] {
            assert!(is_empty_list(text), "{text:?}");
        }
        for text in [
            "# Tasks\n- call Ada",
            "<!-- one --> call Ada <!-- two -->",
            "- [ ] call Ada",
            "1. call",
            "2 calls",
            "#call",
            "a",
            "-1",
        ] {
            assert!(!is_empty_list(text), "{text:?}");
        }
    }
}
