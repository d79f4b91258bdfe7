use super::*;
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

fn plan(tasks: &[&str]) -> Plan {
    let branch = |task: &&str| Branch {
        name: (*task).to_owned(),
        question: question(task),
    };
    Plan {
        branches: Some(tasks.iter().map(branch).collect()),
        each: None,
        join: None,
        max_concurrent: None,
        synthesis: None,
    }
}

/// Answers every task with its text, and fails `bad`.
fn host() -> Host {
    Host::new().sub_agent(ask::run, |question| match question.task.as_str() {
        "bad" => Err(Failure::ContextOverflow),
        task => Ok(Value::String(format!("about {task}")).to_string()),
    })
}

#[test]
fn a_branch_that_fails_is_listed_and_the_synthesis_learns_of_it() {
    let host = host();
    let input = Plan {
        synthesis: Some(ask::Question {
            max_tokens: Some(100),
            ..question("Compare them.")
        }),
        ..plan(&["Acme", "bad", "Globex"])
    };
    let report = host.run(run(input)).unwrap();
    let names: Vec<_> = report.answers.iter().map(|answer| answer.name.as_str()).collect();
    assert_eq!(names, ["Acme", "Globex"]);
    assert_eq!(report.failed[0].failure, Failure::ContextOverflow);
    assert_eq!(report.synthesis.as_deref(), Some("\"about Compare them.\""));
    let asked = host.inputs(ask::run).pop().unwrap();
    assert_eq!((asked.model.as_deref(), asked.max_tokens), (Some("strong"), Some(100)));
    let documents = asked.documents.unwrap();
    let texts: Vec<_> = documents
        .iter()
        .map(|one| (one.name.as_str(), one.text.as_str()))
        .collect();
    assert_eq!(texts[..2], [("Acme", "about Acme"), ("Globex", "about Globex")]);
    assert!(texts[2].1.starts_with("(no answer: "), "{texts:?}");
    let shares = host.shares(ask::run);
    assert_eq!(
        (shares[2][0].part, shares[2][0].parts, shares[2][0].keep_back),
        (2, 3, 25)
    );
}

#[test]
fn answers_are_not_lost_with_the_synthesis() {
    let input = Plan {
        synthesis: Some(question("bad")),
        ..plan(&["Acme"])
    };
    let report = host().run(run(input)).unwrap();
    assert_eq!((report.answers.len(), report.synthesis), (1, None));
    assert_eq!(report.not_synthesized, Some(Failure::ContextOverflow));
}

#[test]
fn each_value_fills_the_task() {
    let host = host();
    let input = Plan {
        branches: None,
        each: Some(Each {
            question: question("Research {{company}}: {{notes}}"),
            values: vec![
                r#"{"company": "Acme", "notes": "short"}"#.to_owned(),
                r#"{"company": "Globex", "notes": "two\nlines"}"#.to_owned(),
            ],
        }),
        ..plan(&[])
    };
    let report = host.run(run(input)).unwrap();
    assert_eq!((report.answers[0].name.as_str(), report.answers.len()), ("Acme", 2));
    let asked = host.inputs(ask::run);
    assert_eq!(asked[0].task, "Research Acme: short");
    assert_eq!(asked[1].task, "Research Globex: `notes`");
    let documents = asked[1].documents.as_ref().unwrap();
    assert_eq!(
        (documents[0].name.as_str(), documents[0].text.as_str()),
        ("notes", "two\nlines")
    );

    let missing = Plan {
        branches: None,
        each: Some(Each {
            question: question("Research {{name}}"),
            values: vec!["{}".to_owned()],
        }),
        ..plan(&[])
    };
    assert_eq!(
        host.run(run(missing)),
        Err(Failure::failed("`each`: value 1: no value for `{{name}}`"))
    );
}

#[test]
fn the_policies_end_as_their_names_say() {
    let joined = |join: Join, tasks: &[&str]| {
        let host = host();
        let input = Plan {
            join: Some(join),
            ..plan(tasks)
        };
        let report = host.run(run(input));
        report.map(|report| report.answers.into_iter().map(|answer| answer.name).collect::<Vec<_>>())
    };
    assert_eq!(joined(Join::All, &["a", "bad"]), Err(Failure::ContextOverflow));
    assert_eq!(
        joined(Join::Quorum(2), &["a", "bad", "c", "d"]),
        Ok(vec!["a".to_owned(), "c".to_owned()])
    );
    assert_eq!(
        joined(Join::Quorum(3), &["a", "bad"]),
        Err(Failure::failed("0 of the 3 wanted results; there are 2 branches"))
    );
    assert_eq!(joined(Join::First, &["bad", "b"]), Ok(vec!["b".to_owned()]));
    assert_eq!(
        joined(Join::Vote, &["a", "b", "b"]),
        Ok(vec!["b".to_owned(), "b".to_owned()])
    );
    let report = host().run(run(Plan {
        join: Some(Join::Vote),
        ..plan(&["a", "bad", "b", "b"])
    }));
    let report = report.unwrap();
    let outvoted: Vec<_> = report.outvoted.iter().map(|answer| answer.name.as_str()).collect();
    assert_eq!(
        (outvoted, report.failed.len(), report.unneeded.len()),
        (vec!["a"], 1, 0)
    );
    let report = host().run(run(Plan {
        join: Some(Join::Quorum(1)),
        max_concurrent: Some(1),
        ..plan(&["bad", "b", "c"])
    }));
    assert_eq!(report.unwrap().unneeded, ["bad", "c"]);
    assert_eq!(joined(Join::Settled, &["bad"]), Err(Failure::ContextOverflow));
    assert!(joined(Join::Settled, &[]).is_err());
}
