//! The plugin and the input that the options of `spawn` mean.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::Args;
use crate::run::{MAX_INPUT_BYTES, read_stdin, read_text};
use agenthost::Host;
use agenthost::batch::items::{Found, Source};
use agenthost::config::Env;
use agenthost::error::{Error, Result};
use agenthost::limits::units::show_bytes;
use agenthost::sandbox::MAX_CALL_BYTES;
use agenthost_sdk::template::fill;

/// The most characters of a task that name its branch.
const NAME_CHARS: usize = 60;
/// The tokens with which a task is of use, besides those of its texts.
const LEAST_TOKENS: u64 = 200;
/// The drafts that are checked, unless --rounds sets another number.
const ROUNDS: u32 = 2;

/// A call of a built-in plugin.
pub(super) struct Call {
    pub(super) plugin: &'static str,
    pub(super) input: Value,
    /// The most sub-tasks; `None` if the plugin's own suggestion holds.
    pub(super) tasks: Option<usize>,
    /// The fewest sub-tasks with which all of the work can be done.
    pub(super) least_tasks: usize,
    /// The fewest tokens with which each of them can make a call.
    pub(super) least_tokens: u64,
    /// The names of the models that the input asks for.
    pub(super) models: BTreeSet<String>,
    /// Notes about the options.
    pub(super) notes: Vec<String>,
}

impl Call {
    /// Reads all files that the options name, and checks everything that can be checked without a model.
    pub(super) fn of(args: &Args, env: &Env) -> Result<Self> {
        if args.tasks.iter().any(|task| task.trim().is_empty()) {
            return Err(Error::usage("a task is empty").with_hint("Give each task in plain words."));
        }
        let question = Question::read(args, env)?;
        let mut call = match () {
            () if !args.validation.validator.is_empty() => validate(args, &question, env)?,
            () if args.recovery.recover => recover(args, &question)?,
            () if args.each.is_none() && args.synthesize.is_none() && args.tasks.len() == 1 => {
                reachable(args, 1)?;
                Self::new("agenthost:ask", question.ask(one_task(args)?))
            }
            () => fan_out(args, &question, env)?,
        };
        let size = call.input.to_string().len();
        if size > MAX_CALL_BYTES {
            return Err(Error::input(format!(
                "the tasks have {} of text with their files, and a plugin is given at most {}",
                show_bytes(size as u64),
                show_bytes(MAX_CALL_BYTES as u64)
            ))
            .with_hint("Give smaller files or fewer tasks, or answer the parts of a text with `agenthost batch agenthost:map`."));
        }
        call.models
            .insert(args.model.clone().unwrap_or_else(|| "fast".to_owned()));
        if args.each.is_none()
            && let Some(name) = args.tasks.iter().find_map(|task| placeholder(task))
        {
            call.notes.push(format!(
                "`{{{{{name}}}}}` is sent as it is; --each FILE fills it with the rows of a file"
            ));
        }
        Ok(call)
    }

    fn new(plugin: &'static str, input: Value) -> Self {
        Self {
            plugin,
            input,
            tasks: None,
            least_tasks: 0,
            least_tokens: 0,
            models: BTreeSet::new(),
            notes: Vec::new(),
        }
    }
}

/// The parts of a question that all tasks share.
struct Question {
    documents: Vec<Value>,
    model: Option<String>,
    system: Option<String>,
    schema: Option<Value>,
    max_tokens: Option<u32>,
}

impl Question {
    fn read(args: &Args, env: &Env) -> Result<Self> {
        let mut names = BTreeSet::new();
        let mut documents = Vec::new();
        for given in &args.file {
            let (name, text) = document(given, env)?;
            if !names.insert(name) {
                return Err(Error::usage(format!("--file {given}: another file has this name"))
                    .with_hint("Give each file a name of its own."));
            }
            documents.push(json!({"name": name, "text": text}));
        }
        Ok(Self {
            documents,
            model: args.model.clone(),
            system: args.system.clone(),
            schema: args
                .schema
                .as_deref()
                .map(|text| schema(text, "--schema", env))
                .transpose()?,
            max_tokens: args.max_tokens,
        })
    }

    /// Returns the input of `agenthost:ask`.
    fn ask(&self, task: &str) -> Value {
        json!({
            "task": task,
            "documents": self.documents,
            "model": self.model,
            "system": self.system,
            "schema": self.schema,
            "max-tokens": self.max_tokens,
        })
    }
}

fn one_task(args: &Args) -> Result<&str> {
    match args.tasks.as_slice() {
        [task] => Ok(task),
        _ => Err(
            Error::usage(format!("one task is expected, and {} are given", args.tasks.len()))
                .with_hint("Put the words of a task in quotes, or start a command for each task."),
        ),
    }
}

/// Refuses a quorum of more than all tasks.
fn reachable(args: &Args, tasks: usize) -> Result<()> {
    match args.quorum {
        Some(wanted) if wanted as usize > tasks => Err(Error::usage(format!(
            "--quorum {wanted}: the number of tasks is {tasks}"
        ))
        .with_hint("Give at most as many as there are tasks.")),
        _ => Ok(()),
    }
}

fn fan_out(args: &Args, question: &Question, env: &Env) -> Result<Call> {
    let (mut branches, mut each) = (Value::Null, Value::Null);
    let tasks = match &args.each {
        Some(file) => {
            let [task] = args.tasks.as_slice() else {
                return Err(Error::usage("--each takes one task, and several are given")
                    .with_hint("Give one task with {{COLUMN}} for the fields of a row."));
            };
            let values = rows(file, task, env)?;
            let count = values.len();
            each = json!({"question": question.ask(task), "values": values});
            count
        }
        None => {
            let tasks = args.tasks.iter();
            branches = tasks
                .map(|task| json!({"name": name(task), "question": question.ask(task)}))
                .collect();
            args.tasks.len()
        }
    };
    reachable(args, tasks)?;
    let join = match args.quorum {
        Some(wanted) => json!({"quorum": wanted}),
        None => args.join.name().into(),
    };
    let synthesis = args.synthesize.as_ref().map(|task| -> Result<Value> {
        let schema = args.synthesis_schema.as_deref();
        let schema = schema
            .map(|text| self::schema(text, "--synthesis-schema", env))
            .transpose()?;
        Ok(json!({
            "task": task,
            "documents": null,
            "model": args.synthesis_model,
            "system": null,
            "schema": schema,
            "max-tokens": null,
        }))
    });
    let synthesis = synthesis.transpose()?;
    let is_synthesized = synthesis.is_some();
    let input = json!({
        "branches": branches,
        "each": each,
        "join": join,
        "max-concurrent": args.max_concurrent,
        "synthesis": synthesis,
    });
    let mut call = Call::new("agenthost:fan-out", input);
    call.least_tasks = tasks + usize::from(is_synthesized);
    call.tasks = Some(call.least_tasks);
    // As the plugin divides the limit: a quarter is kept back for the synthesis.
    let all = tasks as u64 * LEAST_TOKENS;
    call.least_tokens = if is_synthesized { all.saturating_mul(4) / 3 } else { all };
    if is_synthesized {
        call.models
            .insert(args.synthesis_model.clone().unwrap_or_else(|| "strong".to_owned()));
    }
    Ok(call)
}

fn validate(args: &Args, question: &Question, env: &Env) -> Result<Call> {
    let (mut names, mut validators) = (BTreeSet::new(), Vec::new());
    for given in &args.validation.validator {
        let parts = given.split_once(':').map(|(name, text)| (name.trim(), text.trim()));
        let Some((name, text)) = parts.filter(|(name, text)| !name.is_empty() && !text.is_empty()) else {
            return Err(Error::usage(format!("--validator {given}: not of the form NAME: TEXT"))
                .with_hint("For example --validator \"security: look for injection\""));
        };
        if !names.insert(name) {
            return Err(
                Error::usage(format!("--validator {given}: another validator has this name"))
                    .with_hint("Give each validator a name of its own."),
            );
        }
        let checks = Question {
            documents: question.documents.clone(),
            system: None,
            schema: None,
            model: question.model.clone(),
            max_tokens: None,
        };
        validators.push(json!({"name": name, "question": checks.ask(text)}));
    }
    let draft = args
        .validation
        .validate
        .as_ref()
        .map(|file| match file == Path::new("-") {
            true => read_stdin(),
            false => read_text(&env.cwd().join(file), &format!("--validate {}", file.display())),
        });
    let draft = draft.transpose()?;
    if draft.as_deref().is_some_and(|draft| draft.trim().is_empty()) {
        return Err(Error::input("--validate: the text is empty").with_hint("Give a text that can be checked."));
    }
    let asked = match args.tasks.as_slice() {
        [] => None,
        _ => Some(question.ask(one_task(args)?)),
    };
    let rounds = match &asked {
        None => 1,
        Some(_) => args.validation.rounds.unwrap_or(ROUNDS),
    };
    if asked.is_none() && args.validation.rounds.is_some_and(|rounds| rounds > 1) {
        return Err(Error::usage("--rounds: a text without a task is not revised")
            .with_hint("Give the task of which the text is the draft, or leave out --rounds."));
    }
    let (least, tasks) = (validators.len(), (validators.len() + 1) * rounds as usize);
    let is_written = draft.is_none();
    let input = json!({"draft": draft, "question": asked, "validators": validators, "rounds": rounds});
    let mut call = Call::new("agenthost:validate", input);
    (call.tasks, call.least_tasks) = (Some(tasks), least + usize::from(is_written));
    Ok(call)
}

fn recover(args: &Args, question: &Question) -> Result<Call> {
    let recovery = &args.recovery;
    Ok(Call::new(
        "agenthost:recover",
        json!({
            "question": question.ask(one_task(args)?),
            "rules": null,
            "check": recovery.check,
            "max-attempts": recovery.max_attempts,
            "adviser": null,
        }),
    ))
}

/// Returns the name of a task's branch: the beginning of its first line.
fn name(task: &str) -> String {
    let line = task.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}

/// Returns the first name in double braces.
fn placeholder(task: &str) -> Option<String> {
    fill(task, &json!({})).err().map(|error| error.name)
}

/// Reads `--file NAME=PATH`: the name and the text.
fn document<'g>(given: &'g str, env: &Env) -> Result<(&'g str, String)> {
    let Some((name, path)) = given
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
    else {
        return Err(Error::usage(format!("--file {given}: not of the form NAME=PATH"))
            .with_hint("For example --file notes=notes.md"));
    };
    let text = read_text(&env.cwd().join(path), &format!("--file {given}"))?;
    Ok((name, text))
}

/// Reads a JSON Schema from JSON or from a file, and checks it.
pub(super) fn schema(given: &str, flag: &str, env: &Env) -> Result<Value> {
    let (text, place) = match given.trim_start().starts_with('{') {
        true => (given.to_owned(), flag.to_owned()),
        false => {
            let file = given.trim_start_matches('@');
            let place = format!("{flag} {file}");
            (read_text(&env.cwd().join(file), &place)?, place)
        }
    };
    let invalid = |problem: String| {
        Error::input(format!("{place}: {problem}"))
            .with_hint("Give a JSON Schema, such as {\"type\": \"object\", …}, or a file with one.")
    };
    Host::check_schema(&text).map_err(invalid)?;
    serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))
}

/// Reads the values of `--each`, and checks that each has all that the task names.
fn rows(file: &Path, task: &str, env: &Env) -> Result<Vec<Value>> {
    let most = usize::try_from(MAX_INPUT_BYTES).unwrap_or(usize::MAX);
    let spool = Path::new(env.var("TMPDIR").filter(|dir| !dir.is_empty()).unwrap_or("/tmp"));
    let source = match file == Path::new("-") {
        true => Source::spool(
            std::io::stdin().lock(),
            "stdin",
            agenthost::batch::items::Format::JsonLines,
            most,
            spool,
        )?,
        false => Source::open(&env.cwd().join(file), None, most, spool)?,
    };
    let mut values = Vec::new();
    for item in source.read()? {
        let item = item?;
        let bad = |problem: String, hint: &str| {
            Error::input(format!("{}:{}: {problem}", file.display(), item.at.line)).with_hint(hint)
        };
        let found = item
            .found
            .map_err(|problem| bad(problem, "Correct the line, or leave it out."))?;
        let value = match found {
            Found::Json(value) => value,
            Found::Row(cells) => {
                let cells = cells.into_iter().map(|(name, text)| (name, Value::String(text)));
                Value::Object(cells.collect::<Map<_, _>>())
            }
        };
        fill(task, &value).map_err(|error| {
            let hint = "Name a column or field between the double braces, as the file writes it.";
            bad(error.to_string(), hint)
        })?;
        values.push(value);
    }
    match values.is_empty() {
        true => {
            Err(Error::input(format!("{}: no rows", file.display())).with_hint("Give a file with at least one row."))
        }
        false if placeholder(task).is_none() => Err(Error::usage("--each: the task names no column")
            .with_hint("Write {{COLUMN}} where a field of the row belongs, as in \"Research {{company}}\".")),
        false => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_task_is_named_by_its_beginning() {
        assert_eq!(name("  Research Acme\nin depth"), "Research Acme");
        let long = "é".repeat(61);
        assert_eq!(name(&long), format!("{}…", "é".repeat(60)));
        assert_eq!(name(""), "");
    }

    #[test]
    fn only_names_between_double_braces_are_placeholders() {
        assert_eq!(placeholder("Research {{ company }}").as_deref(), Some("company"));
        assert_eq!(placeholder("Answer as {\"a\": {}} or {{}}"), None);
    }
}
