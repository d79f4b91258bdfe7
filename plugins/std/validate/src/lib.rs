//! Has a draft checked by several validators at once, and revised until it passes.
//!
//! All validators get the same draft, each as a sub-task `agenthost:ask` with an equal share of the limits. A validator
//! that fails is listed and does not count as passed.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::{self, Value};

agenthost_sdk::plugin!();

/// The percentage of the limits that a draft and its checks leave for the next round.
const FOR_LATER: u8 = 50;
const CHECK: &str = "You check the draft for one thing only. Report every problem of that kind and nothing else, and \
                     quote the passage word for word. Report no problem if there is none. Check it for this:";
const REVISE: &str = "Revise the draft so that the findings are resolved. Change nothing else, and answer with the \
                      draft only. It is the answer to this task:";

#[derive(Deserialize, JsonSchema)]
struct Problems {
    problems: Vec<Problem>,
}

#[derive(Deserialize, JsonSchema)]
struct Problem {
    kind: Kind,
    /// Quoted from the draft; empty for the draft as a whole.
    passage: String,
    problem: String,
    /// The change that resolves it.
    remedy: String,
}

async fn run(input: Review) -> Result<Outcome, Failure> {
    let mut draft = match (input.draft, &input.question) {
        (Some(text), _) => Value::String(text).to_string(),
        (None, Some(question)) => write(question.clone()).await?,
        (None, None) => return Err(Failure::failed("there is no `draft` and no `question`")),
    };
    let rounds = input.rounds.unwrap_or(2);
    let mut round = 1;
    loop {
        let revise = input.question.as_ref().filter(|_| round < rounds);
        let keep_back = if revise.is_some() { FOR_LATER } else { 0 };
        let mut outcome = check(&input.validators, draft, keep_back).await?;
        outcome.rounds = round;
        let Some(question) = revise.filter(|_| !outcome.findings.is_empty()) else {
            return Ok(outcome);
        };
        progress(round, rounds, "revising the draft");
        let findings = serde_json::to_string(&outcome.findings)?;
        let mut question = with(&with(question, "draft", &outcome.draft), "findings", &findings);
        question.task = format!("{REVISE}\n{}", question.task);
        let revised = write(question).await;
        outcome.not_revised = revised.as_ref().err().cloned();
        let Ok(revised) = revised else {
            return Ok(outcome);
        };
        draft = revised;
        round += 1;
    }
}

/// Has a draft written, and leaves a part of the limits for its checks.
async fn write(question: ask::Question) -> Result<String, Failure> {
    let draft = join::first([branch("draft", ask::run(question))]);
    Ok(draft.keep_back(FOR_LATER).await?.value)
}

/// Runs all validators at once, each on the same draft.
async fn check(validators: &[Validator], draft: String, keep_back: u8) -> Result<Outcome, Failure> {
    let checks = validators.iter().map(|validator| {
        let mut question = with(&validator.question, "draft", &draft);
        question.task = format!("{CHECK}\n{}", question.task);
        question.schema = Some(agenthost_sdk::json_schema::<Problems>());
        branch(&validator.name, ask::run(question))
    });
    let checked = join::settled(checks).split_equally().keep_back(keep_back).await;
    let (mut verdicts, mut findings, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for done in checked {
        let validator = done.name;
        let verdict = match done.value.and_then(|reply| Ok(serde_json::from_str(&reply)?)) {
            Ok(Problems { problems }) if problems.is_empty() => Verdict::Passed,
            Ok(Problems { problems }) => {
                let count = problems.len();
                merge(&mut findings, &validator, problems);
                Verdict::Problems(count.try_into().unwrap_or(u32::MAX))
            }
            Err(failure) => {
                failures.push(failure.clone());
                Verdict::Failed(failure)
            }
        };
        verdicts.push(Validated { validator, verdict });
    }
    if failures.len() == verdicts.len() {
        let first = failures.into_iter().next();
        return Err(first.unwrap_or_else(|| Failure::failed("there are no validators")));
    }
    Ok(Outcome {
        passed: findings.is_empty() && failures.is_empty(),
        draft,
        rounds: 0,
        verdicts,
        findings,
        not_revised: None,
    })
}

/// Adds each problem to the finding of its kind at its passage, regardless of case and spacing.
fn merge(findings: &mut Vec<Finding>, validator: &str, problems: Vec<Problem>) {
    let key = |kind: Kind, passage: &str| {
        let passage = passage.to_lowercase();
        (kind, passage.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for found in problems {
        let wanted = key(found.kind, &found.passage);
        let remark = Remark {
            validator: validator.to_owned(),
            problem: found.problem,
            remedy: found.remedy,
        };
        match findings
            .iter_mut()
            .find(|known| key(known.kind, &known.passage) == wanted)
        {
            Some(known) => known.remarks.push(remark),
            None => findings.push(Finding {
                kind: found.kind,
                passage: found.passage,
                remarks: vec![remark],
            }),
        }
    }
}

/// Adds a document to a question, as a model reads it: a JSON string without quotes.
fn with(question: &ask::Question, name: &str, json: &str) -> ask::Question {
    let mut question = question.clone();
    let text = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    let name = name.to_owned();
    let documents = question.documents.get_or_insert_default();
    documents.push(ask::Document { name, text });
    question
}

#[cfg(test)]
mod tests;
