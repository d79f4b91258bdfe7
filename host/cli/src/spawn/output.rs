//! The outputs of the built-in plugins as text for people.

use std::collections::BTreeSet;

use serde_json::Value;

use agenthost::TaskId;
use agenthost::limits::LimitKind;
use agenthost::task::{Failure, FailureClass};
use agenthost_sdk::template::fill;

/// The text form of a built-in plugin's output.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    plugin: &'static str,
    /// The names of the sub-tasks, in the order in which they are started.
    branches: Vec<String>,
    /// `true` if the output has a draft that a model wrote.
    is_written: bool,
    /// `true` if the answers are those that won a vote.
    is_vote: bool,
}

/// A failed task that can be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedTask {
    id: String,
    /// The limit that it reached, if it reached one that an option raises.
    limit: Option<LimitKind>,
}

impl FailedTask {
    /// Returns the task with its failure; `None` if it was only canceled.
    pub(crate) fn of(id: &str, failure: &Failure) -> Option<Self> {
        let limit = failure
            .limit
            .filter(|limit| !matches!(limit, LimitKind::Size | LimitKind::Other));
        (failure.class != FailureClass::Cancelled).then(|| Self {
            id: id.to_owned(),
            limit,
        })
    }
}

/// The plugins whose outputs have a text form.
const WITH_TEXT: [&str; 5] = [
    "agenthost:ask",
    "agenthost:fan-out",
    "agenthost:map",
    "agenthost:recover",
    "agenthost:validate",
];

impl Text {
    pub(super) fn of(plugin: &'static str, input: &Value) -> Self {
        Self {
            plugin,
            branches: branch_names(plugin, input),
            is_written: !at(input, "/question").is_null(),
            is_vote: at(input, "/join") == "vote",
        }
    }

    /// Returns the text form of the outputs of a plugin, for the input of a recorded run; `None` if it has none.
    pub(crate) fn recorded(plugin: &str, input: Option<&Value>) -> Option<Self> {
        let name = plugin.split('@').next().unwrap_or_default();
        let plugin = WITH_TEXT.into_iter().find(|known| *known == name)?;
        Some(Self::of(plugin, input.unwrap_or(&Value::Null)))
    }

    /// Returns the name of a sub-task of the root.
    pub(crate) fn branch(&self, task: &str) -> Option<&str> {
        let index: usize = task.strip_prefix("root/")?.parse().ok()?;
        self.branches.get(index).map(String::as_str)
    }

    pub(crate) fn text(&self, output: &Value) -> String {
        match self.plugin {
            "agenthost:fan-out" => report(output, self.is_vote),
            "agenthost:validate" if self.is_written => answer(at(output, "/draft")),
            "agenthost:validate" if at(output, "/passed") == true => "passed".to_owned(),
            "agenthost:validate" if items(at(output, "/findings")).next().is_none() => verdicts(output).join("\n"),
            "agenthost:validate" => findings(output),
            "agenthost:recover" => answer(at(output, "/answer")),
            _ => answer(output),
        }
    }

    /// Describes the parts of an output that its text leaves out.
    pub(crate) fn notes(&self, output: &Value) -> Vec<String> {
        match self.plugin {
            "agenthost:fan-out" => report_notes(output, self.is_vote),
            "agenthost:validate" => {
                let findings = Some(findings(output)).filter(|findings| self.is_written && !findings.is_empty());
                findings.into_iter().chain(verdicts(output)).collect()
            }
            "agenthost:recover" => path_notes(output),
            _ => Vec::new(),
        }
    }

    /// Returns the attempts of a recovery that escalated, in words, with the answers that did not pass.
    pub(crate) fn escalation(&self, message: &str) -> Option<String> {
        let attempts: Value = serde_json::from_str(message)
            .ok()
            .filter(|_| self.plugin == "agenthost:recover")?;
        let mut words = "no way led to an answer".to_owned();
        for attempt in items(&attempts) {
            words.push_str(&format!(
                "\n{}: {}",
                way(attempt),
                failure_words(at(attempt, "/failure"))
            ));
            let reason = word(at(attempt, "/opinion/reason"));
            if !reason.is_empty() {
                words.push_str(&format!("\n  opinion: {reason}"));
            }
            for task in items(at(attempt, "/opinion/tasks")) {
                words.push_str(&format!("\n  task: {}", word(task)));
            }
            for rejected in items(at(attempt, "/rejected")) {
                // The text of a failure has JSON as a text.
                let json = rejected.as_str().and_then(|text| serde_json::from_str(text).ok());
                let text = answer(json.as_ref().unwrap_or(rejected));
                words.push_str(&format!("\n  answer: {}", text.replace('\n', "\n    ")));
            }
        }
        Some(words)
    }

    /// Returns the task of the branch with this name; `None` if there is none, or more than one.
    pub(crate) fn task(&self, name: &str) -> Option<TaskId> {
        let mut found = self.branches.iter().zip(0_u32..).filter(|(branch, _)| *branch == name);
        let (_, index) = found.next()?;
        found.next().is_none().then(|| TaskId::root().child(index))
    }

    /// Returns the command that asks again for the tasks that have no answer.
    pub(crate) fn how_to_ask_again(&self, run: &str, failed: &[FailedTask]) -> Option<String> {
        /// The most tasks that the command names.
        const NAMED: usize = 20;
        let direct = || failed.iter().filter(|task| task.id.matches('/').count() == 1);
        direct().next()?;
        let mut command = format!("agenthost resume {run}");
        for task in direct().take(NAMED) {
            command.push_str(&format!(" --ask-again {}", task.id));
        }
        let limits: BTreeSet<_> = direct().filter_map(|task| task.limit).collect();
        let words = limits
            .iter()
            .map(|limit| format!("--{}", limit.key()))
            .collect::<Vec<_>>()
            .join(" and ");
        let raise = match words.as_str() {
            "" => String::new(),
            words => format!(", with a higher {words}"),
        };
        let more = direct().count().saturating_sub(NAMED);
        let more = if more > 0 {
            format!(" … and {more} more tasks")
        } else {
            String::new()
        };
        Some(format!("to ask again for what has no answer{raise}: {command}{more}"))
    }

    /// Returns whether the output is what was asked for: a draft that passed, and the synthesis if there is one.
    pub(crate) fn is_complete(plugin: &str, output: &Value) -> bool {
        match plugin.split('@').next().unwrap_or_default() {
            "agenthost:validate" => at(output, "/passed") != false,
            "agenthost:fan-out" => at(output, "/not-synthesized").is_null(),
            _ => true,
        }
    }
}

/// Returns the names of the sub-tasks that a fan-out or a validation starts, in their order.
fn branch_names(plugin: &str, input: &Value) -> Vec<String> {
    if plugin == "agenthost:validate" {
        return validation_names(input);
    }
    if plugin != "agenthost:fan-out" {
        return Vec::new();
    }
    let given = items(at(input, "/branches"));
    let mut names: Vec<_> = given.map(|branch| word(at(branch, "/name"))).collect();
    let task = at(input, "/each/question/task").as_str().unwrap_or_default();
    let values = items(at(input, "/each/values")).zip(1_usize..);
    names.extend(values.map(|(value, number)| {
        let first = fill(task, value).ok().and_then(|filled| filled.first);
        first.unwrap_or_else(|| number.to_string())
    }));
    if !at(input, "/synthesis").is_null() {
        names.push("the synthesis".to_owned());
    }
    names
}

/// Returns the names of the drafts and the validators of all rounds, as many as are made.
fn validation_names(input: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for round in 1..=at(input, "/rounds").as_u64().unwrap_or(1) {
        if round > 1 || at(input, "/draft").is_null() {
            names.push(format!("draft {round}"));
        }
        names.extend(items(at(input, "/validators")).map(|one| match round {
            1 => word(at(one, "/name")),
            round => format!("{}, draft {round}", word(at(one, "/name"))),
        }));
    }
    names
}

/// Returns an answer as text: a string itself, anything else as JSON.
fn answer(answer: &Value) -> String {
    match answer {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

/// Returns the part of a value at a JSON pointer; `null` if there is none.
fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns the synthesis, or each answer below its name. Of a vote, the answer that won.
fn report(report: &Value, is_vote: bool) -> String {
    if !at(report, "/synthesis").is_null() {
        return answer(at(report, "/synthesis"));
    }
    if is_vote {
        return answer(at(report, "/answers/0/answer"));
    }
    let part = |one: &Value| format!("# {}\n\n{}", word(at(one, "/name")), answer(at(one, "/answer")));
    items(at(report, "/answers")).map(part).collect::<Vec<_>>().join("\n\n")
}

fn report_notes(report: &Value, is_vote: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let (answers, outvoted) = (
        items(at(report, "/answers")).count(),
        items(at(report, "/outvoted")).count(),
    );
    if is_vote {
        let all = answers + outvoted;
        let majority = if answers * 2 > all { "" } else { ": not a majority" };
        notes.push(format!("{answers} of {all} answers agree{majority}"));
    }
    let failed = items(at(report, "/failed")).count();
    if failed > 0 {
        notes.push(format!(
            "{failed} of {} tasks have no answer",
            answers + outvoted + failed
        ));
    }
    let unneeded: Vec<_> = items(at(report, "/unneeded")).map(word).collect();
    if !unneeded.is_empty() {
        notes.push(format!("not needed: {}", unneeded.join(", ")));
    }
    if !at(report, "/not-synthesized").is_null() {
        notes.push("there is no synthesis; the answers are those of the tasks".to_owned());
    }
    notes
}

/// Returns the findings with the remarks of the validators.
fn findings(outcome: &Value) -> String {
    let mut parts = Vec::new();
    for found in items(at(outcome, "/findings")) {
        let passage = word(at(found, "/passage"));
        let passage = if passage.is_empty() {
            String::new()
        } else {
            format!(": {passage}")
        };
        let mut part = format!("{}{passage}", word(at(found, "/kind")));
        for remark in items(at(found, "/remarks")) {
            let (by, problem, remedy) = (
                word(at(remark, "/validator")),
                word(at(remark, "/problem")),
                word(at(remark, "/remedy")),
            );
            part.push_str(&format!("\n  {by}: {problem}"));
            if !remedy.is_empty() {
                part.push_str(&format!("\n    {remedy}"));
            }
        }
        parts.push(part);
    }
    parts.join("\n\n")
}

fn verdicts(outcome: &Value) -> Vec<String> {
    let verdict = |one: &Value| {
        let verdict = at(one, "/verdict");
        let words = match (at(verdict, "/problems").as_u64(), at(verdict, "/failed")) {
            (Some(1), _) => "1 problem".to_owned(),
            (Some(count), _) => format!("{count} problems"),
            (None, Value::Null) => "passed".to_owned(),
            (None, failure) => format!("not checked ({})", failure_words(failure)),
        };
        format!("{}: {words}", word(at(one, "/validator")))
    };
    let verdicts: Vec<_> = items(at(outcome, "/verdicts")).map(verdict).collect();
    let mut notes = vec![verdicts.join(", ")];
    if !at(outcome, "/not-revised").is_null() {
        notes.push(format!(
            "the draft was not revised: {}",
            failure_words(at(outcome, "/not-revised"))
        ));
    }
    notes
}

fn path_notes(recovery: &Value) -> Vec<String> {
    let path: Vec<_> = items(at(recovery, "/path")).collect();
    match path.len() {
        0 | 1 => Vec::new(),
        _ => vec![format!(
            "ways taken: {}",
            path.iter().map(|attempt| way(attempt)).collect::<Vec<_>>().join(", ")
        )],
    }
}

/// Returns the name of the way that an attempt took.
fn way(attempt: &Value) -> String {
    match at(attempt, "/remedy") {
        Value::Null => "as asked".to_owned(),
        Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
        other => word(other),
    }
}

/// Returns a failure of the contract in words: its class, and its text if it has one.
fn failure_words(failure: &Value) -> String {
    match failure {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(class, text)| match text {
                Value::String(text) => format!("{class}: {text}"),
                other => format!("{class}: {other}"),
            });
            fields.collect()
        }
        other => word(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_of_a_fan_out_is_the_synthesis_or_all_answers() {
        let all = json!({"answers": [{"name": "a", "answer": "yes"}, {"name": "b", "answer": {"n": 1}}], "failed": []});
        assert_eq!(report(&all, false), "# a\n\nyes\n\n# b\n\n{\n  \"n\": 1\n}");
        assert_eq!(report(&json!({"answers": [], "synthesis": "both"}), false), "both");
    }

    #[test]
    fn a_vote_shows_the_winner_and_the_tally() {
        let one = |name: &str, answer: &str| json!({"name": name, "answer": answer});
        let vote = json!({"answers": [one("a", "yes")], "outvoted": [one("b", "no"), one("c", "maybe")], "failed": []});
        assert_eq!(report(&vote, true), "yes");
        assert_eq!(report_notes(&vote, true), ["1 of 3 answers agree: not a majority"]);
    }

    #[test]
    fn findings_show_all_remarks() {
        let output = json!({"passed": false, "draft": "x", "rounds": 1,
            "verdicts": [{"validator": "security", "verdict": {"problems": 1}}, {"validator": "style", "verdict": "passed"},
                {"validator": "tests", "verdict": {"failed": "context-overflow"}}],
            "findings": [{"kind": "unsafe", "passage": "f(x)", "remarks": [
                {"validator": "security", "problem": "injection", "remedy": "bind it"}]}],
            "not-revised": {"exhausted": "cost"}});
        assert_eq!(findings(&output), "unsafe: f(x)\n  security: injection\n    bind it");
        assert_eq!(
            verdicts(&output),
            [
                "security: 1 problem, style: passed, tests: not checked (context-overflow)",
                "the draft was not revised: exhausted: cost"
            ]
        );
        assert!(!Text::is_complete("agenthost:validate@0.1.0", &output));
    }

    #[test]
    fn branches_are_named_as_the_plugin_names_them() {
        let input = json!({"branches": [{"name": "A"}], "synthesis": {"task": "x"},
            "each": {"question": {"task": "Research {{company}}"}, "values": [{"company": "Acme"}, {}]}});
        assert_eq!(
            branch_names("agenthost:fan-out", &input),
            ["A", "Acme", "2", "the synthesis"]
        );
        let text = Text::recorded("agenthost:fan-out@0.1.0", Some(&input)).unwrap();
        assert_eq!((text.branch("root/1"), text.branch("root/1/0")), (Some("Acme"), None));
        assert!(Text::recorded("demo:x", None).is_none());
    }
}
