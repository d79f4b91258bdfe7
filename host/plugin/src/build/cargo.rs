//! Runs cargo and parses its output.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::BuildError;
use super::watch::{BuildState, Watched};

pub(super) fn run(command: &mut Command) -> Result<Output, BuildError> {
    command.output().map_err(|error| no_tool("cargo", error))
}

/// Like [`run`], and reports the states that cargo shows.
pub(super) fn run_watched(command: &mut Command, watched: &Watched<'_>) -> Result<Output, BuildError> {
    if !watched.is_watched() {
        return run(command);
    }
    let failed = |error| no_tool("cargo", error);
    let mut child = command
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = out.map_or(Ok(0), |mut out| out.read_to_end(&mut bytes));
        read.map(|_| bytes)
    });
    let mut stderr = Vec::new();
    let shown = err.map_or(Ok(()), |err| shown(err, &mut stderr, watched));
    let stdout = reader
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("its output cannot be read")));
    let status = child.wait().map_err(failed)?;
    shown.map_err(failed)?;
    Ok(Output {
        status,
        stdout: stdout.map_err(failed)?,
        stderr,
    })
}

/// Reads cargo's stderr to its end: reports the states that it shows, and keeps all but the lines that move.
fn shown(from: impl Read, kept: &mut Vec<u8>, watched: &Watched<'_>) -> std::io::Result<()> {
    let mut line = Vec::new();
    for byte in BufReader::new(from).bytes() {
        let byte = byte?;
        line.push(byte);
        // Cargo goes back to the margin to write over a line that moves.
        if matches!(byte, b'\r' | b'\n') {
            kept.append(&mut report(line, watched));
            line = Vec::new();
        }
    }
    kept.append(&mut report(line, watched));
    Ok(())
}

/// Reports the state that a line shows, and returns the line unless cargo writes over it.
fn report(line: Vec<u8>, watched: &Watched<'_>) -> Vec<u8> {
    let Some(state) = state(String::from_utf8_lossy(&line).trim_end()) else {
        return line;
    };
    let moves = line.ends_with(b"\r") || matches!(state, BuildState::Compiling { .. });
    watched.report(state);
    if moves { Vec::new() } else { line }
}

/// The state that a line of cargo's output shows.
fn state(line: &str) -> Option<BuildState> {
    let text = line.trim();
    if let Some(moving) = text.strip_prefix("Building [") {
        let (_, counts) = moving.split_once(']')?;
        let (done, total) = counts.split(':').next()?.split_once('/')?;
        return Some(BuildState::Compiling {
            done: done.trim().parse().ok()?,
            total: total.trim().parse().ok()?,
        });
    }
    if let Some(lock) = text.strip_prefix("Blocking waiting for file lock on ") {
        return Some(BuildState::Blocked(lock.to_owned()));
    }
    let is_news = is_status(line) && !text.starts_with("Compiling ");
    is_news.then(|| BuildState::Other(text.to_owned()))
}

pub(super) fn no_tool(tool: &str, source: std::io::Error) -> BuildError {
    BuildError::Tool {
        tool: tool.to_owned(),
        source,
    }
}

/// The output of one `cargo build --message-format=json`.
pub(super) struct Said {
    messages: Vec<Value>,
    stderr: String,
}

/// A compiler error.
pub(super) struct Diagnostic<'a> {
    /// The id of the package that did not compile.
    pub(super) package: &'a str,
    /// The compiler's error code, such as `E0308`; `None` for a macro's own error.
    pub(super) code: Option<&'a str>,
    /// The message without its location.
    pub(super) text: &'a str,
    /// The complete message as the compiler prints it.
    pub(super) rendered: &'a str,
    /// The macro whose expansion caused the error, such as `agenthost_sdk::plugin!`.
    pub(super) expansion: Option<&'a str>,
    /// The place in the author's code: the file, the line, the column. `None` if the error has no place.
    place: Option<(&'a str, u64, u64)>,
    /// The compiler's remark at the place, or empty.
    label: &'a str,
}

impl Diagnostic<'_> {
    /// Returns the error in one line, in the compiler's short form.
    pub(super) fn short(&self) -> String {
        let place = self
            .place
            .map(|(file, line, column)| format!("{file}:{line}:{column}: "));
        let code = self.code.map(|code| format!("[{code}]")).unwrap_or_default();
        let text = self.text.lines().next().unwrap_or_default();
        let label = match self.label.lines().next() {
            Some(label) => format!(": {label}"),
            None => String::new(),
        };
        format!("{}error{code}: {text}{label}", place.unwrap_or_default())
    }
}

/// The place of a span in the author's code: where the outermost macro is called, if a macro made it.
fn place(span: &Value) -> Option<(&str, u64, u64)> {
    let mut span = span;
    while let Some(outer) = span.pointer("/expansion/span") {
        span = outer;
    }
    let number = |name| span.get(name).and_then(Value::as_u64);
    let file = span.get("file_name").and_then(Value::as_str)?;
    Some((file, number("line_start")?, number("column_start")?))
}

impl Said {
    pub(super) fn read(output: &Output) -> Self {
        let lines = output.stdout.split(|byte| *byte == b'\n');
        Self {
            messages: lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The compiler's errors without duplicates.
    pub(super) fn errors(&self) -> Vec<Diagnostic<'_>> {
        let mut errors: Vec<Diagnostic<'_>> = Vec::new();
        for whole in self.of_reason("compiler-message") {
            let text = |pointer: &str| whole.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let rendered = text("/message/rendered").trim_end();
            if text("/message/level") != "error"
                || text("/message/message").starts_with("aborting due to")
                || errors.iter().any(|error| error.rendered == rendered)
            {
                continue;
            }
            let spans = whole.pointer("/message/spans").and_then(Value::as_array);
            let primary = spans
                .into_iter()
                .flatten()
                .find(|span| span.get("is_primary").and_then(Value::as_bool) == Some(true));
            errors.push(Diagnostic {
                package: text("/package_id"),
                code: whole.pointer("/message/code/code").and_then(Value::as_str),
                text: text("/message/message"),
                rendered,
                expansion: primary.and_then(|span| span.pointer("/expansion/macro_decl_name")?.as_str()),
                place: primary.and_then(place),
                label: primary.and_then(|span| span.get("label")?.as_str()).unwrap_or_default(),
            });
        }
        errors
    }

    /// Cargo's own output, without the status lines.
    pub(super) fn own_words(&self) -> String {
        let lines = self.stderr.lines().filter(|line| !is_status(line));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    /// Returns whether cargo's output, including status lines, contains `words`.
    pub(super) fn mentions(&self, words: &str) -> bool {
        self.stderr.contains(words)
    }

    /// The text between two markers in cargo's output.
    pub(super) fn between(&self, before: &str, after: &str) -> Option<&str> {
        let (_, rest) = self.stderr.split_once(before)?;
        rest.split_once(after).map(|(found, _)| found)
    }

    /// The generated files, with the ids of their packages.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.of_reason("compiler-artifact").flat_map(|message| {
            let id = message.get("package_id").and_then(Value::as_str).unwrap_or_default();
            let names = message.get("filenames").and_then(Value::as_array);
            let names = names.into_iter().flatten().filter_map(Value::as_str);
            names.map(move |name| (id, PathBuf::from(name)))
        })
    }

    /// The names and directories of packages that are in a directory of this machine instead of coming from a registry
    /// or from git.
    pub(super) fn local_packages(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let manifests = self.of_reason("compiler-artifact").filter_map(|message| {
            let id = message.get("package_id").and_then(Value::as_str)?;
            let manifest = message.get("manifest_path").and_then(Value::as_str)?;
            let dir = id
                .starts_with("path+")
                .then(|| Path::new(manifest).parent())
                .flatten()?;
            Some((crate_of(id).0, dir.to_owned()))
        });
        let mut seen = std::collections::BTreeSet::new();
        manifests.filter(move |(_, dir)| seen.insert(dir.clone()))
    }

    fn of_reason(&self, reason: &str) -> impl Iterator<Item = &Value> {
        self.messages
            .iter()
            .filter(move |message| message.get("reason").and_then(Value::as_str) == Some(reason))
    }
}

/// Recognizes `   Compiling serde v1.0.0`: cargo right-aligns its verbs in twelve columns.
fn is_status(line: &str) -> bool {
    let verb = line.trim_start();
    let column = line.len() - verb.len();
    let word = verb.split(' ').next().unwrap_or_default();
    column > 0 && column + word.len() == 12 && word.chars().all(char::is_alphabetic)
}

/// The name and version in a package id: `registry+…#serde@1.0.0`, or `path+file:///…/serde#1.0.0`.
pub(super) fn crate_of(id: &str) -> (&str, &str) {
    let (place, name) = id.rsplit_once('#').unwrap_or((id, ""));
    name.split_once('@')
        .unwrap_or_else(|| (place.rsplit('/').next().unwrap_or(place), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_told_from_what_is_wrong() {
        for line in [
            "   Compiling serde v1.0.0 (/x)",
            "    Updating crates.io index",
            "    Blocking waiting for file lock",
            "  Downloaded a v1",
        ] {
            assert!(is_status(line), "{line}");
        }
        for line in [
            "error: no matching package named `x` found",
            "    the package `x` depends on `y`",
            "Caused by:",
            "  --> src/lib.rs:1:2",
        ] {
            assert!(!is_status(line), "{line}");
        }
    }

    #[test]
    fn states_are_read_from_what_cargo_shows() {
        let moving = "    Building [==>                        ] 11/91: foldhash, syn                  ";
        for (line, expected) in [
            (moving, Some(BuildState::Compiling { done: 11, total: 91 })),
            (
                "    Blocking waiting for file lock on build directory",
                Some(BuildState::Blocked("build directory".to_owned())),
            ),
            (
                "    Updating index",
                Some(BuildState::Other("Updating index".to_owned())),
            ),
            ("   Compiling syn v3.0.10", None),
            ("error: no such crate", None),
            ("    Building [ broken", None),
        ] {
            assert_eq!(state(line), expected, "{line}");
        }
    }

    #[test]
    fn lines_that_move_are_no_part_of_the_output() {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let states = seen.clone();
        let rules = super::super::BuildRules::any().watching(move |_, state| states.lock().unwrap().push(state));
        let text = "   Compiling a v1\n       Fetch [=> ] 4%\r    Building [> ] 1/2: a   \r    Building [=>] 2/2: b   \rerror: b fails\n";
        let mut kept = Vec::new();
        shown(text.as_bytes(), &mut kept, &rules.watched(Path::new("b"))).unwrap();
        assert_eq!(String::from_utf8(kept).unwrap(), "   Compiling a v1\nerror: b fails\n");
        let compiling = |done| BuildState::Compiling { done, total: 2 };
        assert_eq!(
            *seen.lock().unwrap(),
            [
                BuildState::Started,
                BuildState::Other("Fetch [=> ] 4%".to_owned()),
                compiling(1),
                compiling(2),
                BuildState::Ended
            ]
        );
    }

    #[test]
    fn a_package_id_has_a_name_and_a_version() {
        for (id, name, version) in [
            (
                "registry+https://github.com/rust-lang/crates.io-index#mio@1.0.2",
                "mio",
                "1.0.2",
            ),
            ("path+file:///home/me/agenthost-sdk#0.1.0", "agenthost-sdk", "0.1.0"),
            ("path+file:///home/me/sdk#agenthost-sdk@0.1.0", "agenthost-sdk", "0.1.0"),
        ] {
            assert_eq!(crate_of(id), (name, version));
        }
    }
}
