use super::*;
use agenthost_sdk::serde_json::json;
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

fn review(draft: Option<&str>, task: Option<&str>) -> Review {
    let validator = |name: &str| Validator {
        name: name.to_owned(),
        question: question(&format!("look for {name}")),
    };
    Review {
        draft: draft.map(str::to_owned),
        question: task.map(question),
        validators: vec![validator("injection"), validator("naming")],
        rounds: None,
    }
}

fn problem(kind: &str, passage: &str) -> Value {
    json!({"kind": kind, "passage": passage, "problem": "bad", "remedy": "better"})
}

/// Returns a host whose writer numbers its drafts, and whose validators report by the text of the draft.
fn host(report: impl Fn(&str, &str) -> Result<Value, Failure> + 'static) -> Host {
    let mut drafts = 0;
    Host::new().sub_agent(ask::run, move |question| {
        if question.schema.is_none() {
            drafts += 1;
            return Ok(json!(format!("draft {drafts}")).to_string());
        }
        let documents = question.documents.unwrap();
        let problems = report(&question.task, &documents.last().unwrap().text)?;
        Ok(json!({ "problems": problems }).to_string())
    })
}

#[test]
fn a_draft_that_passes_is_not_revised() {
    let host = host(|_, _| Ok(json!([])));
    let outcome = host.run(run(review(None, Some("Write.")))).unwrap();
    assert!(outcome.passed);
    assert_eq!((outcome.draft.as_str(), outcome.rounds), ("\"draft 1\"", 1));
    assert_eq!(outcome.verdicts[1].verdict, Verdict::Passed);
    assert_eq!(host.most_concurrent(), 2, "the validators run at once");
    let asked = host.inputs(ask::run);
    assert!(asked[1].task.ends_with("look for injection"), "{}", asked[1].task);
    assert_eq!(asked[1].documents.as_ref().unwrap()[0].text, "draft 1");
}

#[test]
fn findings_lead_to_a_revision_which_is_checked_again() {
    let host = host(|_, draft| {
        Ok(match draft {
            "draft 1" => json!([problem("unsafe", "the  Query")]),
            _ => json!([]),
        })
    });
    let outcome = host.run(run(review(None, Some("Write.")))).unwrap();
    assert_eq!(
        (outcome.passed, outcome.rounds, outcome.draft.as_str()),
        (true, 2, "\"draft 2\"")
    );
    let asked = host.inputs(ask::run);
    let revision = &asked[3];
    assert!(
        revision.task.starts_with("Revise") && revision.task.ends_with("Write."),
        "{}",
        revision.task
    );
    let documents = revision.documents.as_ref().unwrap();
    assert_eq!(
        (documents[0].name.as_str(), documents[0].text.as_str()),
        ("draft", "draft 1")
    );
    assert!(documents[1].text.contains("the  Query"), "{}", documents[1].text);
}

#[test]
fn equal_findings_are_merged_with_the_words_of_all_validators() {
    let host = host(|task, _| {
        Ok(match task.ends_with("naming") {
            true => json!([problem("unsafe", "THE query"), problem("style", "the query")]),
            false => json!([problem("unsafe", "the  query")]),
        })
    });
    let outcome = host.run(run(review(Some("the query"), None))).unwrap();
    assert_eq!(
        (outcome.passed, outcome.rounds, outcome.draft.as_str()),
        (false, 1, "\"the query\"")
    );
    let found: Vec<_> = outcome
        .findings
        .iter()
        .map(|found| (found.kind, found.remarks.len()))
        .collect();
    assert_eq!(found, [(Kind::Unsafe, 2), (Kind::Style, 1)]);
    assert_eq!(outcome.verdicts[1].verdict, Verdict::Problems(2));
}

#[test]
fn a_check_that_failed_is_not_passed_and_without_any_check_there_is_no_outcome() {
    let overflow = |task: &str, _: &str| match task.ends_with("naming") {
        true => Err(Failure::ContextOverflow),
        false => Ok(json!([])),
    };
    let outcome = host(overflow).run(run(review(Some("x"), None))).unwrap();
    assert!(!outcome.passed && outcome.findings.is_empty());
    assert_eq!(outcome.verdicts[1].verdict, Verdict::Failed(Failure::ContextOverflow));

    let none = host(|_, _| Err(Failure::ContextOverflow));
    assert_eq!(none.run(run(review(Some("x"), None))), Err(Failure::ContextOverflow));
    let without = Review {
        validators: vec![],
        ..review(Some("x"), None)
    };
    assert_eq!(none.run(run(without)), Err(Failure::failed("there are no validators")));
    assert!(none.run(run(review(None, None))).is_err());
}

#[test]
fn a_draft_is_not_lost_with_its_revision() {
    let mut calls = 0;
    let host = Host::new().sub_agent(ask::run, move |question| {
        calls += 1;
        match (question.schema, calls) {
            (Some(_), _) => Ok(json!({"problems": [problem("other", "")]}).to_string()),
            (None, 1) => Ok("\"first\"".to_owned()),
            (None, _) => Err(Failure::Exhausted(Limit::Cost)),
        }
    });
    let outcome = host.run(run(review(None, Some("Write.")))).unwrap();
    assert_eq!((outcome.draft.as_str(), outcome.rounds), ("\"first\"", 1));
    assert_eq!(outcome.not_revised, Some(Failure::Exhausted(Limit::Cost)));
    assert_eq!(outcome.findings.len(), 1);
}
