//! Does a task; after a failure takes other ways, and hands over to a person if none leads to an answer.
//!
//! A model only gives opinions. The rules of the input decide by the class of the failure which way is taken.

use std::cell::RefCell;

use agenthost_sdk::prelude::*;
use agenthost_sdk::schemars::JsonSchema as Schema;
use agenthost_sdk::serde::de::DeserializeOwned;
use agenthost_sdk::serde_json;

agenthost_sdk::plugin!();

/// The most ways, unless the input sets another number.
const MAX_ATTEMPTS: u32 = 3;
/// The percentage of the limits that a way leaves for those after it.
const FOR_LATER: u8 = 50;

#[derive(Deserialize, JsonSchema)]
struct Judgment {
    /// One sentence.
    reason: String,
    passes: bool,
}

async fn run(job: Job) -> Result<Recovery, Failure> {
    let most = job.max_attempts.unwrap_or(MAX_ATTEMPTS);
    let mut path: Vec<Attempt> = Vec::new();
    let mut remedy = None;
    loop {
        let mut attempt = Attempt {
            remedy,
            opinion: None,
            failure: None,
            rejected: Vec::new(),
        };
        let result = go(&job, path.last(), &mut attempt).await;
        attempt.failure = result.as_ref().err().cloned();
        path.push(attempt);
        let failure = match result {
            Ok(answer) => return Ok(Recovery { answer, path }),
            // Another way would not change these.
            Err(failure @ (Failure::Denied(_) | Failure::Cancelled | Failure::Escalated(_))) => return Err(failure),
            Err(failure) => failure,
        };
        progress(path.len() as u32, most, &failure.to_string());
        remedy = next(&job, &failure, &path).filter(|_| path.len() < most as usize);
        if matches!(remedy, None | Some(Remedy::Escalate)) {
            return Err(Failure::Escalated(serde_json::to_string(&path)?));
        }
    }
}

/// Returns the way to go on after a failure: the first one of its rule that was not taken yet.
fn next(job: &Job, failure: &Failure, path: &[Attempt]) -> Option<Remedy> {
    let class = match failure {
        Failure::Failed(_) => FailureClass::Failed,
        Failure::Exhausted(_) => FailureClass::Exhausted,
        Failure::Model(_) => FailureClass::Model,
        Failure::ContextOverflow => FailureClass::ContextOverflow,
        Failure::Trapped(_) => FailureClass::Trapped,
        _ => FailureClass::Other,
    };
    let for_class = |rule: &&Rule| rule.on.is_empty() || rule.on.contains(&class);
    let remedies = match (&job.rules, class) {
        (Some(rules), _) => rules.iter().find(for_class)?.remedies.clone(),
        (None, FailureClass::ContextOverflow | FailureClass::Exhausted) => vec![Remedy::Simplify],
        (None, _) => vec![Remedy::Diagnose, Remedy::Alternatives(2), Remedy::Simplify],
    };
    let is_new = |remedy: &Remedy| path.iter().all(|attempt| attempt.remedy.as_ref() != Some(remedy));
    remedies.into_iter().find(is_new)
}

/// Takes a way to its answer, and notes the opinion that led to it.
async fn go(job: &Job, last: Option<&Attempt>, attempt: &mut Attempt) -> Result<String, Failure> {
    let failure = last.and_then(|last| last.failure.as_ref());
    let failure = failure.map(Failure::to_string).unwrap_or_default();
    let questions = match &attempt.remedy {
        None => vec![job.question.clone()],
        Some(Remedy::Custom(other)) => vec![with(other.clone(), "failure", &failure)],
        Some(remedy) => {
            let (count, wish) = match remedy {
                Remedy::Alternatives(count) => (*count, format!("Give {count} tasks that do it in other ways.")),
                Remedy::Simplify => (1, "Give one smaller task, and say what is left out.".to_owned()),
                _ => (1, "Explain why, and give one task that avoids it.".to_owned()),
            };
            let wish = format!("This task failed. {wish}");
            let opinion: Opinion = advise(job, wish, [("task", &job.question.task), ("failure", &failure)]).await?;
            let opinion = attempt.opinion.insert(opinion);
            opinion.tasks.truncate(count as usize);
            let (tasks, question) = (opinion.tasks.iter().cloned(), &job.question);
            tasks
                .map(|task| ask::Question {
                    task,
                    ..question.clone()
                })
                .collect()
        }
    };
    let rejected = RefCell::new(Vec::new());
    let ways = questions
        .into_iter()
        .map(|one| branch(one.task.clone(), checked(job, one, &rejected)));
    let first = join::first(ways).split_equally().keep_back(FOR_LATER).await;
    attempt.rejected = rejected.into_inner();
    Ok(first?.value)
}

/// Asks, and has the answer checked.
async fn checked(job: &Job, question: ask::Question, rejected: &RefCell<Vec<String>>) -> Result<String, Failure> {
    let answer = ask::run(question.clone()).await?;
    let Some(requirements) = &job.check else {
        return Ok(answer);
    };
    let wish = format!("Does the answer meet this? {requirements}");
    let judgment: Judgment = advise(job, wish, [("task", &question.task), ("answer", &answer)]).await?;
    if judgment.passes {
        return Ok(answer);
    }
    rejected.borrow_mut().push(answer);
    Err(Failure::failed(format!("the check failed: {}", judgment.reason)))
}

/// Asks the adviser, who gets the texts as documents.
async fn advise<T: DeserializeOwned + Schema>(job: &Job, task: String, about: [(&str, &str); 2]) -> Result<T, Failure> {
    let question = ask::Question {
        task,
        documents: None,
        model: job.adviser.clone(),
        system: None,
        schema: Some(agenthost_sdk::json_schema::<T>()),
        max_tokens: None,
    };
    let question = about
        .into_iter()
        .fold(question, |question, (name, text)| with(question, name, text));
    Ok(serde_json::from_str(&ask::run(question).await?)?)
}

/// Adds a document to a question.
fn with(mut question: ask::Question, name: &str, text: &str) -> ask::Question {
    let (name, text) = (name.to_owned(), text.to_owned());
    let documents = question.documents.get_or_insert_default();
    documents.push(ask::Document { name, text });
    question
}

#[cfg(test)]
mod tests;
