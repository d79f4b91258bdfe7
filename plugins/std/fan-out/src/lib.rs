//! Answers several tasks at once, and can have one answer made of all of them.
//!
//! Each branch is a sub-task `agenthost:ask` with an equal share of the limits. A branch that fails is listed and does
//! not stop the others, unless the join policy says so.

use agenthost_sdk::join::{Labeled, Tie};
use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::{self, Value};
use agenthost_sdk::template::fill;

agenthost_sdk::plugin!();

/// The branches that run at once, unless the input sets another number.
const MAX_CONCURRENT: u32 = 8;
/// The percentage of the limits that is kept back for a synthesis.
const FOR_SYNTHESIS: u8 = 25;
/// The tokens with which a branch is of use, besides those of its texts.
const LEAST_TOKENS: usize = 200;

async fn run(input: Plan) -> Result<Report, Failure> {
    let mut branches = input.branches.unwrap_or_default();
    branches.extend(input.each.map(expand).transpose()?.unwrap_or_default());
    if branches.is_empty() {
        return Err(Failure::failed(
            "there are no tasks: give `branches`, or `each` with values",
        ));
    }
    let least = branches.iter().map(|branch| size(&branch.question)).min().unwrap_or(0) / 3 + LEAST_TOKENS;
    let most = input.max_concurrent.unwrap_or(MAX_CONCURRENT) as usize;
    let kept = if input.synthesis.is_some() { FOR_SYNTHESIS } else { 0 };
    let names: Vec<_> = branches.iter().map(|branch| branch.name.clone()).collect();
    let calls = branches.into_iter().map(|one| branch(one.name, ask::run(one.question)));
    // Every policy takes the same bounds.
    macro_rules! bounded {
        ($policy:expr) => {
            $policy
                .max_concurrent(most)
                .split_equally()
                .least_tokens(least as u64)
                .keep_back(kept)
                .await
        };
    }
    let (mut outvoted, mut failed) = (Vec::new(), Vec::new());
    let done = match input.join.unwrap_or(Join::Settled) {
        Join::Settled => {
            let done;
            (done, failed) = join::split(bounded!(join::settled(calls)));
            done
        }
        Join::All => bounded!(join::all(calls))?,
        Join::Quorum(wanted) => bounded!(join::quorum(wanted as usize, calls))?,
        Join::First => vec![bounded!(join::first(calls))?],
        Join::Vote => {
            let key = |answer: &String| serde_json::from_str::<Value>(answer).ok();
            let vote = bounded!(join::vote_by_key(Tie::First, calls, key))?;
            (outvoted, failed) = (vote.dissent, vote.failed);
            std::iter::once(vote.winner).chain(vote.agreed).collect()
        }
    };
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or_else(|| Failure::failed("no branch has an answer"), Failure::from));
    }
    let ended = [&done, &outvoted].into_iter().flatten().map(|one| one.index);
    let ended: Vec<_> = ended.chain(failed.iter().map(|one| one.index)).collect();
    let unneeded = names
        .into_iter()
        .enumerate()
        .filter(|(index, _)| !ended.contains(index));
    let mut report = Report {
        answers: done.into_iter().map(answer).collect(),
        outvoted: outvoted.into_iter().map(answer).collect(),
        failed: failed.into_iter().map(failure).collect(),
        unneeded: unneeded.map(|(_, name)| name).collect(),
        synthesis: None,
        not_synthesized: None,
    };
    if let Some(question) = input.synthesis {
        progress(1, 2, "making one answer of all");
        match ask::run(about(&report, question)).await {
            Ok(answer) => report.synthesis = Some(answer),
            Err(failure) => report.not_synthesized = Some(failure),
        }
    }
    Ok(report)
}

fn answer(done: Labeled<String>) -> Answer {
    let (name, answer) = (done.name, done.value);
    Answer { name, answer }
}

fn failure(failed: Labeled<Failure>) -> Failed {
    let (name, failure) = (failed.name, failed.value);
    Failed { name, failure }
}

/// Makes a branch of each value, with its texts in the task.
fn expand(each: Each) -> Result<Vec<Branch>, Failure> {
    let branch = |(index, value): (usize, &String)| {
        let wrong = |error: &dyn std::fmt::Display| Failure::failed(format!("`each`: value {index}: {error}"));
        let value: Value = serde_json::from_str(value).map_err(|error| wrong(&error))?;
        let filled = fill(&each.question.task, &value).map_err(|error| wrong(&error))?;
        let mut question = each.question.clone();
        question.task = filled.text;
        let attached = filled.attached.into_iter().map(|(name, text)| document(&name, text));
        question.documents.get_or_insert_default().extend(attached);
        let name = filled.first.unwrap_or_else(|| index.to_string());
        Ok(Branch { name, question })
    };
    (1..).zip(&each.values).map(branch).collect()
}

/// The bytes of a question's texts.
fn size(question: &ask::Question) -> usize {
    let documents = question.documents.iter().flatten().map(|document| &document.text);
    let texts = [&question.system, &question.schema].into_iter().flatten();
    question.task.len() + documents.chain(texts).map(String::len).sum::<usize>()
}

/// Adds the answers to the question of the synthesis.
fn about(report: &Report, mut question: ask::Question) -> ask::Question {
    let answers = report.answers.iter().chain(&report.outvoted);
    // A model reads a text without the quotes of JSON.
    let plain = |json: &str| serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    let answers = answers.map(|one| document(&one.name, plain(&one.answer)));
    let failed = report
        .failed
        .iter()
        .map(|one| document(&one.name, format!("(no answer: {})", one.failure)));
    question.documents.get_or_insert_default().extend(answers.chain(failed));
    question.model.get_or_insert_with(|| "strong".to_owned());
    question
}

fn document(name: &str, text: String) -> ask::Document {
    let name = name.to_owned();
    ask::Document { name, text }
}

#[cfg(test)]
mod tests;
