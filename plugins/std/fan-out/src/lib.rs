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
    let calls = branches.into_iter().map(|one| branch(one.name, ask::run(one.question)));
    let kept = if input.synthesis.is_some() { FOR_SYNTHESIS } else { 0 };
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
    let (done, failed) = match input.join.unwrap_or(Join::Settled) {
        Join::Settled => join::split(bounded!(join::settled(calls))),
        Join::All => (bounded!(join::all(calls))?, Vec::new()),
        Join::Quorum(wanted) => (bounded!(join::quorum(wanted as usize, calls))?, Vec::new()),
        Join::First => (vec![bounded!(join::first(calls))?], Vec::new()),
        Join::Vote => {
            let key = |answer: &String| serde_json::from_str::<Value>(answer).ok();
            let vote = bounded!(join::vote_by_key(Tie::First, calls, key))?;
            (std::iter::once(vote.winner).chain(vote.agreed).collect(), vote.failed)
        }
    };
    if done.is_empty() {
        let first = failed.into_iter().next();
        return Err(first.map_or_else(|| Failure::failed("no branch has an answer"), Failure::from));
    }
    let synthesis = match input.synthesis {
        None => None,
        Some(synthesis) => {
            progress(1, 2, "making one answer of all");
            Some(synthesize(synthesis, &done, &failed).await?)
        }
    };
    let answer = |done: Labeled<String>| Answer {
        name: done.name,
        answer: done.value,
    };
    let failed = failed.into_iter().map(|branch| Failed {
        name: branch.name,
        failure: branch.value,
    });
    Ok(Report {
        answers: done.into_iter().map(answer).collect(),
        failed: failed.collect(),
        synthesis,
    })
}

/// Makes a branch of each value, with its texts in the task.
fn expand(each: Each) -> Result<Vec<Branch>, Failure> {
    let branch = |value: &String| {
        let wrong = |error: &dyn std::fmt::Display| Failure::failed(format!("`each`: {error}"));
        let value: Value = serde_json::from_str(value).map_err(|error| wrong(&error))?;
        let filled = fill(&each.question.task, &value).map_err(|error| wrong(&error))?;
        let mut question = each.question.clone();
        question.task = filled.text;
        let attached = filled
            .attached
            .into_iter()
            .map(|(name, text)| ask::Document { name, text });
        question.documents.get_or_insert_default().extend(attached);
        let name = match &value {
            Value::Object(fields) => fields.values().next().unwrap_or(&Value::Null),
            value => value,
        };
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        Ok(Branch { name, question })
    };
    each.values.iter().map(branch).collect()
}

/// The bytes of a question's texts.
fn size(question: &ask::Question) -> usize {
    let documents = question.documents.iter().flatten();
    let texts = [&question.system, &question.schema]
        .into_iter()
        .flatten()
        .map(String::len);
    question.task.len()
        + documents
            .map(|document| document.text.len())
            .chain(texts)
            .sum::<usize>()
}

async fn synthesize(
    synthesis: Synthesis,
    done: &[Labeled<String>],
    failed: &[Labeled<Failure>],
) -> Result<String, Failure> {
    let mut prompt = Prompt::new("Answers to several tasks:");
    for branch in done {
        prompt = prompt.data("answer", format!("{}:\n{}", branch.name, plain(&branch.value)));
    }
    for branch in failed {
        prompt = prompt.data("no-answer", format!("{}: {}", branch.name, branch.value));
    }
    prompt = prompt.part(llm::Part::Text(synthesis.task));
    prompt = prompt.model(synthesis.model.unwrap_or_else(|| "strong".to_owned()));
    if let Some(system) = synthesis.system {
        prompt = prompt.system(system);
    }
    if let Some(tokens) = synthesis.max_tokens {
        prompt = prompt.max_tokens(tokens);
    }
    if let Some(schema) = synthesis.schema {
        prompt = prompt.schema(schema);
    }
    Ok(prompt.json_text().await?)
}

/// A JSON text as a model reads it: strings without quotes.
fn plain(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests;
