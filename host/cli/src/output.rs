//! The output of the command line: data, errors with their hints, and exit codes.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextValue, ErrorKind};
use serde::Serialize;
use serde_json::json;

use super::global::Global;
use super::hints::hint;
use super::table;
use super::terminal::{Stream, Style, Styled, hanging, indented};
use agenthost::error::{BuildError, Error, ErrorClass, with_causes};
use agenthost::limits::LimitKind;
use agenthost::printable::{json as printable_json, one_line};
use agenthost::task::{Failure, FailureClass, Outcome};

/// The exit codes; scripts rely on them.
pub(super) mod exit {
    pub(crate) const DONE: u8 = 0;
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const EXHAUSTED: u8 = 3;
    pub(crate) const DENIED: u8 = 4;
    pub(crate) const MODEL: u8 = 5;
    pub(crate) const ESCALATED: u8 = 6;
    pub(crate) const HOST: u8 = 70;
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Returns the exit code for an outcome. `interrupted` means that the operator canceled the run.
pub(super) fn exit_code(outcome: &Outcome, interrupted: bool) -> ExitCode {
    ExitCode::from(outcome_code(outcome, interrupted))
}

/// Returns the exit code for an outcome, as [`exit_code`] does.
pub(super) fn outcome_code(outcome: &Outcome, interrupted: bool) -> u8 {
    let Some(failure) = outcome.failure() else {
        return exit::DONE;
    };
    match failure.class {
        FailureClass::Failed | FailureClass::Trapped | FailureClass::ContextOverflow | FailureClass::Other => {
            exit::FAILED
        }
        FailureClass::Exhausted => exit::EXHAUSTED,
        FailureClass::Denied => exit::DENIED,
        FailureClass::Model => exit::MODEL,
        FailureClass::Escalated => exit::ESCALATED,
        FailureClass::Host => exit::HOST,
        FailureClass::Cancelled if interrupted => exit::INTERRUPTED,
        FailureClass::Cancelled => exit::FAILED,
    }
}

/// Returns the exit code that matters most: that of a fault of the host first, that of a success last.
pub(super) fn most_serious(codes: impl IntoIterator<Item = u8>) -> u8 {
    const BY_WEIGHT: [u8; 9] = [
        exit::DONE,
        exit::FAILED,
        exit::USAGE,
        exit::ESCALATED,
        exit::EXHAUSTED,
        exit::MODEL,
        exit::DENIED,
        exit::INTERRUPTED,
        exit::HOST,
    ];
    let weight = |code: &u8| BY_WEIGHT.iter().position(|known| known == code);
    codes.into_iter().max_by_key(weight).unwrap_or(exit::DONE)
}

/// Returns the exit code for an error of this class.
pub(super) fn error_code(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Usage | ErrorClass::Input | ErrorClass::Config | ErrorClass::Plugin => exit::USAGE,
        ErrorClass::Denied => exit::DENIED,
        // A failure class that this version does not know counts as a fault of the host.
        _ => exit::HOST,
    }
}

/// Returns the exit code for a class that a record names: the class of a failure or of an error.
pub(super) fn class_code(name: &str) -> u8 {
    match name {
        "usage" | "input" | "config" | "plugin" => exit::USAGE,
        "exhausted" => exit::EXHAUSTED,
        "denied" => exit::DENIED,
        "model" => exit::MODEL,
        "escalated" => exit::ESCALATED,
        "host" => exit::HOST,
        _ => exit::FAILED,
    }
}

/// The source of the limit that a task reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bound<'a> {
    /// `[limits]`, or a flag that overrides it.
    Task,
    /// The grant of this plugin, which no flag widens.
    Grant(&'a str),
    /// The policies of the project, which neither a grant nor a flag widens.
    Policy,
    /// The operator's limits on everything that one command starts.
    Run,
    /// The limits of this sub-task.
    SubTask(String),
    /// The limits of this schedule, or `[limits]`.
    Schedule(&'a str),
    /// A key of `[allowance]`, with the hint for it.
    Allowance(String),
    /// Not a limit but a fault of the host that has this hint.
    Fault(String),
}

/// Returns a hint for a failed task. `bound` is the source of the limit that it reached, if it reached one.
fn failure_hint(failure: &Failure, bound: Bound<'_>) -> Option<String> {
    Some(match failure.class {
        FailureClass::Exhausted => match failure.limit? {
            LimitKind::Size => "Give or ask for less in one value; this bound is the host's own.".into(),
            LimitKind::Other => return None,
            limit => {
                let key = limit.key();
                let least = failure.shortage.map_or_else(String::new, |shortage| {
                    format!(" to at least {}", shortage.least_limit())
                });
                match bound {
                    Bound::Task => format!(
                        "Raise it{least} with --{key}, or with `{key}` under [limits] in agenthost.toml (and in the plugin's grant, where it has one)."
                    ),
                    Bound::Grant(plugin) => format!(
                        "Raise `{key}`{least} in `limits` under [grants.\"{plugin}\"] in agenthost.toml, which --{key} does not widen."
                    ),
                    Bound::Policy => format!(
                        "agenthost-policy.toml allows no more: see `{key}` in [max] and [max-for] there, which nothing else widens."
                    ),
                    Bound::SubTask(task) => format!(
                        "Raise `{key}` for the sub-agent of {task}: in its grant, under [limits] in agenthost.toml, or where its parent declares it. --{key} does not apply to it."
                    ),
                    Bound::Schedule(name) => format!(
                        "Raise `{key}`{least} in `limits` under [schedules.{name}], or under [limits], in agenthost.toml."
                    ),
                    Bound::Allowance(hint) | Bound::Fault(hint) => hint,
                    Bound::Run => format!(
                        "Raise `{key}`{least} under [run.limits] in agenthost.toml, which bounds all that one command starts."
                    ),
                }
            }
        },
        FailureClass::Model => "Run `agenthost doctor --online` to try the models, the providers and their keys.".into(),
        FailureClass::ContextOverflow => {
            "Give the task less to read, or map the model name to a model with a larger context.".into()
        }
        FailureClass::Trapped => "This is a fault of the plugin; run again with -v to see what it wrote.".into(),
        FailureClass::Denied => {
            "[models], [grants] and [prices] in agenthost.toml map model names, grant rights and set prices; agenthost-policy.toml bounds the rights.".into()
        }
        FailureClass::Escalated => "A person has to decide; the report says between what.".into(),
        FailureClass::Host => match bound {
            Bound::Fault(hint) => hint,
            _ => "This is a fault of the host; run again with -vv and report what it says.".into(),
        },
        FailureClass::Failed | FailureClass::Cancelled | FailureClass::Other => return None,
    })
}

/// The command's access to stdout and stderr.
#[derive(Clone)]
pub(super) struct Printer {
    json: bool,
    quiet: bool,
    verbose: bool,
}

impl Printer {
    pub(super) fn new(json: bool, global: &Global) -> Self {
        Self {
            json,
            quiet: global.quiet,
            verbose: global.verbose > 0,
        }
    }

    /// Prints a value as JSON on stdout: over several lines on a terminal, else on one line. Hidden characters are
    /// escaped either way.
    pub(super) fn data(&self, value: &impl Serialize) -> Result<(), Error> {
        let text = match Stream::Stdout.is_terminal() {
            true => serde_json::to_string_pretty(value),
            false => serde_json::to_string(value),
        };
        let text = text.map_err(|error| Error::host(format!("cannot write JSON: {error}")))?;
        self.raw(&printable_json(&text))
    }

    /// Prints data that is not JSON, as a line on stdout. It is changed only for a terminal.
    pub(super) fn raw(&self, text: &str) -> Result<(), Error> {
        written(Stream::Stdout.data(text))
    }

    /// Prints a path, as a line.
    pub(super) fn path(&self, path: &Path) -> Result<(), Error> {
        let path = path.to_string_lossy();
        match Stream::Stdout.is_terminal() {
            true => self.text(one_line(&path)),
            false => self.raw(&path),
        }
    }

    /// Prints a page, or a line of it, on stdout. It is for people even if stdout is piped: hidden characters are
    /// escaped.
    pub(super) fn text(&self, text: impl Into<Styled>) -> Result<(), Error> {
        written(Stream::Stdout.line(&text.into()))
    }

    /// Returns a writer for lines of JSON.
    pub(super) fn stdout(&self) -> Box<dyn Write> {
        Box::new(Stream::Stdout)
    }

    /// Prints a message to stderr. All of its lines but the first are indented.
    pub(super) fn say(&self, text: &str) {
        self.tell(&hanging(text).into_owned().into());
    }

    /// Prints a text of another author, indented.
    pub(super) fn quote(&self, text: &str) {
        self.tell(&format!("  {}", indented(text.trim_end(), 2)).into());
    }

    /// Prints a note to stderr.
    pub(super) fn note(&self, text: &str) {
        let mut note = Styled::default();
        note.bold("note:").push(format!(" {}", hanging(text)));
        self.tell(&note);
    }

    fn tell(&self, text: &Styled) {
        if !self.quiet {
            let _ = Stream::Stderr.line(text);
        }
    }

    /// Returns whether a person reads stderr, so that moving progress and questions make sense.
    pub(super) fn moves(&self) -> bool {
        !self.quiet && Stream::Stderr.is_terminal()
    }

    /// Returns whether a person can be asked a question.
    pub(super) fn can_ask(&self) -> bool {
        self.moves() && io::stdin().is_terminal()
    }

    /// Asks a question, and returns whether the answer is yes.
    pub(super) fn ask(&self, question: &str) -> bool {
        self.say(&format!("{question} [y/N]"));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Prints a page on stdout. On a terminal, its lines are broken between words.
    pub(super) fn page(&self, page: &Styled) -> Result<(), Error> {
        match self.width() {
            Some(width) => self.text(page.broken(width)),
            None => self.text(page.clone()),
        }
    }

    /// Prints an error from before the run, and returns its exit code. The report of a tool that failed is part of the
    /// JSON document; on stderr, it follows the hint with `-v`.
    pub(super) fn error(&self, error: &Error) -> ExitCode {
        let output = error.downcast_ref().and_then(BuildError::output);
        let mut hint = hint(error);
        if self.json {
            print_json_error(error.class().name(), &with_causes(error), hint.as_deref(), output);
        } else {
            if output.is_some() && !self.verbose {
                let hint = hint.get_or_insert_default();
                hint.push_str(if hint.is_empty() { "" } else { " " });
                hint.push_str("Add -v for the full report of the tool.");
            }
            print_error(&with_causes(error), hint.as_deref());
            if let Some(output) = output.filter(|_| self.verbose) {
                self.tell(&format!("\n  {}", indented(output, 2)).into());
            }
        }
        ExitCode::from(error_code(error.class()))
    }

    /// Ends a command that has a document to show and fails all the same. With `--json`, the error is in the document;
    /// otherwise it is printed after the output.
    pub(super) fn refuse(&self, mut document: serde_json::Value, error: Error) -> Result<ExitCode, Error> {
        if !self.json {
            return Err(error);
        }
        if let Some(fields) = document.as_object_mut() {
            let (class, hint) = (error.class().name(), hint(&error));
            let error = json!({"class": class, "message": with_causes(&error), "hint": hint});
            fields.insert("error".to_owned(), error);
        }
        self.data(&document)?;
        Ok(ExitCode::from(error_code(error.class())))
    }

    /// Returns the width to which lines are cut: the terminal's width; `None` if stdout is not a terminal.
    pub(super) fn width(&self) -> Option<usize> {
        Stream::Stdout.is_terminal().then(table::width)
    }

    /// Prints the reason for a non-zero exit code to stderr, whatever else was printed.
    pub(super) fn refusal(&self, message: &str, hint: &str) {
        print_error(message, Some(hint));
    }

    /// Prints the reason for a non-zero exit code to stderr, as [`Printer::refusal`] does, with a hint if there is one.
    pub(super) fn problem(&self, message: &str, hint: Option<&str>) {
        print_error(message, hint);
    }

    /// Prints an error about a limit of which nothing is left, and returns its exit code.
    pub(super) fn exhausted(&self, message: &str, hint: &str) -> ExitCode {
        match self.json {
            true => print_json_error(FailureClass::Exhausted.name(), message, Some(hint), None),
            false => print_error(message, Some(hint)),
        }
        ExitCode::from(exit::EXHAUSTED)
    }

    /// Prints a task's failure to stderr. `bound` is the source of the limit that it reached, if it reached one.
    pub(super) fn failure(&self, what: &str, failure: &Failure, bound: Bound<'_>) {
        let text = match failure.message.is_empty() {
            true => format!("{}: no reason given", failure.class.name()),
            false => failure.to_string(),
        };
        print_error(&format!("{what}: {text}"), failure_hint(failure, bound).as_deref());
    }
}

/// The plurals that are not the singular with an `s`.
const IRREGULAR: [(&str, &str); 2] = [("retries", "retry"), ("searches", "search")];

/// Returns a count with its noun in the right number: `1 call`, `2 calls`, `1 retry`. The noun is given in the plural.
pub(super) fn counted(count: u64, words: &str) -> String {
    let number = table::thousands(&count.to_string());
    if count != 1 {
        return format!("{number} {words}");
    }
    let irregular = IRREGULAR.iter().find(|(plural, _)| *plural == words);
    let singular = irregular.map_or_else(|| words.strip_suffix('s').unwrap_or(words), |(_, singular)| singular);
    format!("{number} {singular}")
}

/// Converts the result of writing to stdout.
fn written(result: std::io::Result<()>) -> Result<(), Error> {
    match result {
        // The reader has closed the pipe and wants no more.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::host(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn print_error(message: &str, hint: Option<&str>) {
    let mut text = Styled::default();
    text.add(Style::Error, "error:")
        .push(format!(" {}", hanging(message.trim_end())));
    if let Some(hint) = hint {
        text.push("\n\n").bold("hint:").push(format!(" {}", hanging(hint)));
    }
    let _ = Stream::Stderr.line(&text);
}

fn print_json_error(class: &str, message: &str, hint: Option<&str>, output: Option<&str>) {
    let mut document = json!({"format": 1, "error": {"class": class, "message": message, "hint": hint}});
    if let (Some(output), Some(error)) = (output, document.pointer_mut("/error")) {
        error["output"] = output.into();
    }
    let _ = Stream::Stdout.data(&printable_json(&document.to_string()));
}

/// Prints the error for a command line that does not parse, or the help that it asks for.
pub(super) fn usage(mut error: clap::Error) -> ExitCode {
    const HINT: &str = "Run the command with --help for its usage.";
    match error.kind() {
        // The help is made from definitions alone.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::from(exit::DONE);
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !wants_json() => {
            let _ = error.print();
            return ExitCode::from(exit::USAGE);
        }
        _ => {}
    }
    // Arguments are shown on one line, so that they cannot imitate a message of the program.
    let line = |text: &str| one_line(text).into_owned();
    let typed = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(line(text)))),
        // A tip that repeats several lines is dropped.
        ContextValue::StyledStrs(tips) => {
            let short = tips.iter().filter(|tip| !tip.to_string().contains('\n'));
            Some((kind, ContextValue::StyledStrs(short.cloned().collect())))
        }
        ContextValue::Strings(texts) => Some((
            kind,
            ContextValue::Strings(texts.iter().map(|text| line(text)).collect()),
        )),
        _ => None,
    });
    let typed: Vec<_> = typed.collect();
    for (kind, value) in typed {
        error.insert(kind, value);
    }
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ");
    if wants_json() {
        // The first paragraph: the arguments that are missing are on lines of their own.
        let problem = text.split("\n\n").next().unwrap_or_default();
        let problem = problem.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        print_json_error(ErrorClass::Usage.name(), &problem, Some(HINT), None);
    } else {
        // clap's own last line repeats the hint in other words.
        let text = text.split("\n\nFor more information").next().unwrap_or_default();
        let mut shown = Styled::default();
        shown.add(Style::Error, "error:").push(format!(" {text}\n\n"));
        shown.bold("hint:").push(format!(" {HINT}"));
        let _ = Stream::Stderr.line(&shown);
    }
    ExitCode::from(exit::USAGE)
}

/// Returns whether arguments that do not parse ask for JSON.
fn wants_json() -> bool {
    std::env::args_os().any(|arg| arg == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_its_singular() {
        for (words, one) in [
            ("calls", "1 call"),
            ("retries", "1 retry"),
            ("searches", "1 search"),
            ("more tasks", "1 more task"),
            ("inert WASI interfaces", "1 inert WASI interface"),
            ("caches", "1 cache"),
            ("sent ahead", "1 sent ahead"),
        ] {
            assert_eq!(
                (counted(1, words), counted(2_000, words)),
                (one.to_owned(), format!("2,000 {words}"))
            );
        }
    }

    #[test]
    fn the_code_that_matters_most_is_kept() {
        assert_eq!(most_serious([]), 0);
        assert_eq!(most_serious([0, 1, 0]), 1);
        assert_eq!(most_serious([5, 3, 2]), 5);
        assert_eq!(most_serious([130, 70, 4]), 70);
    }

    #[test]
    fn every_class_has_the_exit_code_that_scripts_rely_on() {
        let code = |class| format!("{:?}", exit_code(&Outcome::Failure(Failure::new(class, "")), false));
        let expected = |n: u8| format!("{:?}", ExitCode::from(n));
        for (class, n) in [
            (FailureClass::Failed, 1),
            (FailureClass::Trapped, 1),
            (FailureClass::ContextOverflow, 1),
            (FailureClass::Other, 1),
            (FailureClass::Exhausted, 3),
            (FailureClass::Denied, 4),
            (FailureClass::Model, 5),
            (FailureClass::Escalated, 6),
            (FailureClass::Host, 70),
        ] {
            assert_eq!(code(class), expected(n), "{class:?}");
            assert_eq!(class_code(class.name()), n, "{class:?}");
        }
        for class in [
            ErrorClass::Usage,
            ErrorClass::Input,
            ErrorClass::Config,
            ErrorClass::Plugin,
            ErrorClass::Denied,
            ErrorClass::Host,
        ] {
            assert_eq!(class_code(class.name()), error_code(class), "{class:?}");
        }
        let cancelled = Outcome::Failure(Failure::new(FailureClass::Cancelled, ""));
        assert_eq!(format!("{:?}", exit_code(&cancelled, true)), expected(130));
        assert_eq!(format!("{:?}", exit_code(&Outcome::Ok(json!(1)), true)), expected(0));
        assert_eq!(
            [ErrorClass::Input, ErrorClass::Denied, ErrorClass::Host].map(error_code),
            [2, 4, 70]
        );
    }
}
