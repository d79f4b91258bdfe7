//! One task as text: its input, its model calls with prompts and replies, its sub-tasks, its outcome and its log.

use super::super::output::counted;
use super::super::recorded::short;
use super::super::table::count;
use super::super::terminal::indented;
use super::parts::contents;
use agenthost::journal::{
    AskRecord, AskResult, Asked, DocumentAction, DocumentRecord, DocumentResult, RequestEnd, RequestRecord, TaskRecord,
};
use agenthost::limits::Usd;
use agenthost::llm::{Ask, Reply, Role, ToolDefinition};
use agenthost::printable::one_line;
use agenthost::task::Outcome;
use serde_json::Value;

/// Texts are indented by this below the name of their part.
const INDENT: usize = 4;

/// Returns the task as text, without a limit on its length.
pub(super) fn detail(task: &TaskRecord) -> String {
    let head = format!("task {} ({}, digest {})", task.id, task.plugin, short(&task.digest));
    let mut parts = vec![one_line(&head).into_owned()];
    parts.push(part("input", &task.input.as_ref().map_or_else(not_kept, text)));
    for ask in &task.asks {
        let number = ask.ask;
        match &ask.what {
            Asked::Model { request, .. } => {
                let model = request.as_ref().map_or("", |request| &request.model);
                let model = one_line(model);
                parts.push(format!("  call {number}  {model}").trim_end().to_owned());
                match request {
                    Some(request) => parts.extend(prompt(request)),
                    None => parts.push(part("prompt", &not_kept())),
                }
            }
            Asked::SubTask { task } => parts.push(format!("  sub-task {}", one_line(&task.to_string()))),
        }
        let earlier = ask.requests.iter().filter(|request| !is_replaced(request)).count();
        if earlier > 0 {
            let earlier = counted(earlier as u64, "earlier requests");
            parts.push(format!("  {earlier} without a usable reply"));
        }
        parts.extend(replaced(ask).map(|reply| part("replaced reply", &reply_text(reply))));
        parts.extend(result(ask.result.as_ref()));
    }
    parts.extend(task.documents.iter().flat_map(document));
    match &task.end {
        Some(end) => {
            parts.push(match &end.report.outcome {
                Some(Outcome::Ok(output)) => part("output", &text(output)),
                Some(Outcome::Failure(failure)) => part("failure", &failure.to_string()),
                None => part("output", &not_kept()),
            });
            let log = end.report.log.trim_end();
            if !log.is_empty() {
                parts.push(part("log", log));
            }
        }
        None => parts.push("  not ended".into()),
    }
    parts.join("\n")
}

/// Returns what the task did with a document, and the document.
fn document(record: &DocumentRecord) -> Vec<String> {
    let name = record.name.as_deref().unwrap_or_default();
    let what = format!("memory {} {}", record.action.name(), one_line(name));
    let what = what.trim_end();
    let written = || record.json.clone().unwrap_or_else(not_kept);
    let text = match &record.result {
        Some(DocumentResult::Document { json }) => json.clone().unwrap_or_else(|| "no such document".to_owned()),
        Some(DocumentResult::Names { names, .. }) => names.join("\n"),
        Some(DocumentResult::Error { error }) => format!("error: {error}"),
        Some(DocumentResult::NotKept { .. }) => not_kept(),
        Some(DocumentResult::Done) if record.action == DocumentAction::Put => written(),
        Some(DocumentResult::Done) => return vec![format!("  {what}")],
        None => "no result".to_owned(),
    };
    vec![part(what, &text)]
}

/// Returns the replies that were replaced because the task was asked again.
pub(super) fn replaced(ask: &AskRecord) -> impl Iterator<Item = &Reply> {
    ask.requests.iter().flat_map(|request| match &request.end {
        RequestEnd::Lost { replaced, .. } => replaced.as_slice(),
        RequestEnd::Paid { .. } => &[],
    })
}

fn is_replaced(request: &RequestRecord) -> bool {
    matches!(&request.end, RequestEnd::Lost { replaced, .. } if !replaced.is_empty())
}

/// Returns a text below its name.
fn part(name: &str, text: &str) -> String {
    let indent = " ".repeat(INDENT);
    format!("  {name}\n{indent}{}", indented(text.trim_end(), INDENT))
}

fn not_kept() -> String {
    "not kept, see `bodies` under [journal]".into()
}

/// Returns a value as people read it: a text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

fn prompt(request: &Ask) -> Vec<String> {
    let mut parts = Vec::new();
    parts.extend(request.system.as_ref().map(|system| part("system", system)));
    for message in &request.messages {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        parts.push(part(role, &contents(&message.content)));
    }
    parts.extend(request.schema.as_ref().map(|schema| part("schema", schema)));
    parts.extend(request.options.iter().map(|(name, value)| option(name, value)));
    parts
}

/// Returns an option; of tools, only their names.
fn option(name: &str, value: &str) -> String {
    let tools = ToolDefinition::read_list(value).ok().filter(|_| name == "tools");
    let names = tools.map(|tools| tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>().join(", "));
    part(&one_line(name), names.as_deref().unwrap_or(value))
}

fn result(result: Option<&AskResult>) -> Vec<String> {
    let mut parts = match result {
        Some(AskResult::Reply { reply, .. }) => vec![part("reply", &reply_text(reply))],
        Some(AskResult::Error { error, .. }) => vec![part("error", &error.to_string())],
        Some(AskResult::NotKept { .. }) => vec![part("reply", &not_kept())],
        Some(AskResult::SubTask { ok, .. }) => {
            let outcome = if *ok { "ended with an output" } else { "failed" };
            vec![format!("  {outcome}; see `--task` with its id")]
        }
        None => vec!["  no result".into()],
    };
    if let Some((used, _)) = result.and_then(AskResult::charge) {
        let cost = used.pico_usd.map(Usd::from_pico);
        parts.push(format!(
            "  used    {} tokens in ({} cached), {} out, cost {}",
            count(used.input),
            count(used.cached),
            count(used.output),
            cost.map_or_else(|| "unknown".into(), |cost| cost.to_string())
        ));
    }
    parts
}

fn reply_text(reply: &Reply) -> String {
    match &reply.refusal {
        Some(refusal) => format!("{}\nrefused: {refusal}", contents(&reply.content)),
        None => contents(&reply.content),
    }
}
