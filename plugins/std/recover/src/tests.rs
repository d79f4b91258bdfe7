use super::*;
use agenthost_sdk::serde_json::{Value, json};
use agenthost_sdk::testing::Host;

fn question(task: &str) -> ask::Question {
    ask::Question {
        task: task.to_owned(),
        documents: None,
        model: None,
        system: None,
        schema: None,
        max_tokens: None,
    }
}

fn job() -> Job {
    Job {
        question: question("hard"),
        rules: None,
        check: None,
        max_attempts: None,
        adviser: None,
    }
}

/// Returns a host that fails the task "hard", answers others with their text, and gives these tasks as its opinion.
fn host(failure: Failure, tasks: &[&str]) -> Host {
    let opinion = json!({"reason": "too long", "tasks": tasks}).to_string();
    Host::new().sub_agent(ask::run, move |question| match question.task.as_str() {
        "hard" => Err(failure.clone()),
        task if task.starts_with("This task failed.") => Ok(opinion.clone()),
        task if task.starts_with("Does the answer") => {
            let passes = question.documents.unwrap()[1].text != "\"poor\"";
            Ok(json!({"reason": "it is poor", "passes": passes}).to_string())
        }
        task => Ok(json!(task).to_string()),
    })
}

fn ways(recovery: &Recovery) -> Vec<Option<Remedy>> {
    recovery.path.iter().map(|attempt| attempt.remedy.clone()).collect()
}

/// Returns the attempts of an escalation.
fn escalated(result: Result<Recovery, Failure>) -> Vec<Value> {
    match result {
        Err(Failure::Escalated(text)) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_needs_no_other_way() {
    let recovery = host(Failure::ContextOverflow, &[])
        .run(run(Job {
            question: question("easy"),
            ..job()
        }))
        .unwrap();
    assert_eq!((recovery.answer.as_str(), ways(&recovery)), ("\"easy\"", vec![None]));
}

#[test]
fn the_class_of_the_failure_decides_on_the_way() {
    let simplified = host(Failure::ContextOverflow, &["core"]).run(run(job())).unwrap();
    assert_eq!(
        (simplified.answer.as_str(), ways(&simplified)),
        ("\"core\"", vec![None, Some(Remedy::Simplify)])
    );
    assert_eq!(simplified.path[0].failure, Some(Failure::ContextOverflow));
    assert_eq!(simplified.path[1].opinion.as_ref().unwrap().reason, "too long");

    let diagnosed = host(Failure::Model("odd".to_owned()), &["core"])
        .run(run(job()))
        .unwrap();
    assert_eq!(ways(&diagnosed), [None, Some(Remedy::Diagnose)]);

    let rules = vec![
        Rule {
            on: vec![FailureClass::Model],
            remedies: vec![Remedy::Escalate],
        },
        Rule {
            on: vec![],
            remedies: vec![Remedy::Custom(question("other"))],
        },
    ];
    let job = Job {
        rules: Some(rules),
        ..job()
    };
    let custom = host(Failure::Trapped("odd".to_owned()), &[]);
    assert_eq!(custom.run(run(job.clone())).unwrap().answer, "\"other\"");
    assert_eq!(
        custom.inputs(ask::run)[1].documents.as_ref().unwrap()[0].text,
        "crashed: odd"
    );
    assert_eq!(
        escalated(host(Failure::Model("odd".to_owned()), &[]).run(run(job))).len(),
        1
    );
}

#[test]
fn alternatives_are_tried_at_once_and_the_first_answer_counts() {
    let rules = Some(vec![Rule {
        on: vec![],
        remedies: vec![Remedy::Alternatives(2)],
    }]);
    let host = host(Failure::failed("no"), &["hard", "table", "third"]);
    let recovery = host.run(run(Job { rules, ..job() })).unwrap();
    assert_eq!(recovery.answer, "\"table\"");
    assert_eq!(recovery.path[1].opinion.as_ref().unwrap().tasks, ["hard", "table"]);
}

#[test]
fn a_person_gets_all_opinions_when_no_way_is_left() {
    let host = host(Failure::failed("no"), &["hard"]);
    let attempts = escalated(host.run(run(job())));
    let remedies: Vec<_> = attempts.iter().map(|attempt| attempt["remedy"].to_string()).collect();
    assert_eq!(remedies, ["null", "\"diagnose\"", "{\"alternatives\":2}"]);
    assert_eq!(attempts[2]["opinion"]["reason"], "too long", "{attempts:?}");
    let more = escalated(host.run(run(Job {
        max_attempts: Some(9),
        ..job()
    })));
    assert_eq!(more.len(), 4, "each way is taken once");
    let without_opinion = Host::new().sub_agent(ask::run, |_| Err(Failure::failed("no")));
    assert_eq!(escalated(without_opinion.run(run(job())))[1]["opinion"], json!(null));
}

#[test]
fn an_answer_that_does_not_pass_the_check_is_a_failure() {
    let job = Job {
        question: question("poor"),
        check: Some("It is good.".to_owned()),
        ..job()
    };
    let host = host(Failure::ContextOverflow, &["good"]);
    let recovery = host.run(run(job)).unwrap();
    assert_eq!(
        recovery.path[0].failure,
        Some(Failure::failed("the check failed: it is poor"))
    );
    assert_eq!(recovery.path[0].rejected, ["\"poor\""], "a person can still use it");
    assert_eq!(
        (recovery.answer.as_str(), ways(&recovery)),
        ("\"good\"", vec![None, Some(Remedy::Diagnose)])
    );
}

#[test]
fn a_denial_is_passed_on() {
    let host = host(Failure::Denied("strong".to_owned()), &[]);
    assert_eq!(host.run(run(job())), Err(Failure::Denied("strong".to_owned())));
    assert_eq!(host.inputs(ask::run).len(), 1);
}
