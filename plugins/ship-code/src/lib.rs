//! Has a program written; if that fails, gathers three opinions at once and takes the best path once, or hands over to
//! a person with all findings.
//!
//! The model only chooses a path; what the path means is plain code. Left out: a third attempt.

use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json;

agenthost_sdk::plugin!();

const LEAD: &str = "You decide how a team goes on after a setback. Choose the path that most likely leads to something \
                    useful. Choose to escalate when the opinions leave no path that you would answer for.";

async fn run(job: Job) -> Result<Shipment, Failure> {
    let first = match generate::run(job.clone()).await {
        Ok(program) => {
            return Ok(Shipment {
                program,
                decision: None,
            });
        }
        // Another way of doing the job would not change these.
        Err(failure @ (Failure::Denied(_) | Failure::Cancelled | Failure::Escalated(_))) => return Err(failure),
        Err(failure) => failure,
    };
    progress(1, 3, "the first attempt failed; asking for opinions");
    let mut report = Report {
        opinions: ask(&job, &first).await,
        first,
        decision: None,
        last: None,
    };
    if none(&report.opinions) {
        return Err(escalate(&report));
    }
    progress(2, 3, "deciding how to go on");
    let decision = match decide(&job, &report).await {
        Ok(decision) => decision,
        Err(failure) => {
            report.last = Some(failure);
            return Err(escalate(&report));
        }
    };
    report.decision = Some(decision.clone());
    let Some(plan) = plan(&decision, &report.opinions) else {
        return Err(escalate(&report));
    };
    match generate::run(narrow(job, plan)).await {
        Ok(program) => Ok(Shipment {
            program,
            decision: Some(decision),
        }),
        Err(failure) => {
            report.last = Some(failure);
            Err(escalate(&report))
        }
    }
}

enum Opinion {
    Simplification(Simplification),
    Approaches(Vec<Approach>),
    Diagnosis(Diagnosis),
}

/// Asks for all three opinions at once. A failure is kept as a silent sub-agent.
async fn ask(job: &Job, failure: &Failure) -> Opinions {
    let setback = generate::Setback {
        language: job.language.clone(),
        requirements: job.requirements.clone(),
        files: job
            .files
            .iter()
            .map(|file| format!("{} ({} bytes)", file.name, file.text.len()))
            .collect(),
        failure: failure.clone(),
    };
    let results = join::settled([
        branch("simplify", async {
            simplify::run(setback.clone()).await.map(Opinion::Simplification)
        }),
        branch("alternatives", async {
            alternatives::run(setback.clone()).await.map(Opinion::Approaches)
        }),
        branch("diagnose", async {
            diagnose::run(setback.clone()).await.map(Opinion::Diagnosis)
        }),
    ])
    .split_equally()
    .await;
    let mut opinions = Opinions {
        simplification: None,
        approaches: Vec::new(),
        diagnosis: None,
        silent: Vec::new(),
    };
    for branch in results {
        match branch.value {
            Ok(Opinion::Simplification(simplification)) => opinions.simplification = Some(simplification),
            Ok(Opinion::Approaches(approaches)) => opinions.approaches = approaches,
            Ok(Opinion::Diagnosis(diagnosis)) => opinions.diagnosis = Some(diagnosis),
            Err(failure) => opinions.silent.push(Silent {
                sub_agent: branch.name,
                failure,
            }),
        }
    }
    opinions
}

async fn decide(job: &Job, report: &Report) -> Result<Decision, Failure> {
    let decision = Prompt::new("Writing a program failed. Decide by the opinions how to go on.")
        .data("requirements", &job.requirements)
        .data("failure", report.first.to_string())
        .data("opinions", serde_json::to_string(&report.opinions)?)
        .system(LEAD)
        .model("strong")
        .max_tokens(500)
        .json()
        .await?;
    Ok(decision)
}

/// Returns whether there is no opinion to decide on.
fn none(opinions: &Opinions) -> bool {
    opinions.simplification.is_none() && opinions.approaches.is_empty() && opinions.diagnosis.is_none()
}

/// Returns the job that a decision leads to; `None` if it leads to a person, or names a missing opinion.
fn plan<'a>(decision: &Decision, opinions: &'a Opinions) -> Option<&'a generate::Plan> {
    match decision.path {
        Path::Simplify => opinions
            .simplification
            .as_ref()
            .map(|simplification| &simplification.plan),
        Path::Alternative => {
            let wanted = |approach: &&Approach| decision.approach.as_ref().is_none_or(|name| *name == approach.name);
            opinions.approaches.iter().find(wanted).map(|approach| &approach.plan)
        }
        Path::WrongProblem => opinions.diagnosis.as_ref()?.better.as_ref(),
        Path::Escalate => None,
    }
}

/// Returns the job by another plan, with only the files that the plan needs.
fn narrow(job: Job, plan: &generate::Plan) -> Job {
    Job {
        requirements: plan.requirements.clone(),
        files: job
            .files
            .into_iter()
            .filter(|file| plan.files.contains(&file.name))
            .collect(),
        ..job
    }
}

fn escalate(report: &Report) -> Failure {
    serde_json::to_string(report).map_or_else(Failure::from, Failure::Escalated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn some_plan(requirements: &str, files: &[&str]) -> generate::Plan {
        generate::Plan {
            requirements: requirements.to_owned(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
        }
    }

    fn approach(name: &str) -> Approach {
        Approach {
            name: name.to_owned(),
            plan: some_plan(name, &[]),
            trade_off: String::new(),
        }
    }

    fn opinions() -> Opinions {
        Opinions {
            simplification: Some(Simplification {
                plan: some_plan("less", &["a.rs"]),
                left_out: vec!["speed".to_owned()],
            }),
            approaches: vec![approach("table"), approach("regex")],
            diagnosis: Some(Diagnosis {
                cause: "too long".to_owned(),
                right_problem: true,
                better: None,
            }),
            silent: vec![],
        }
    }

    fn decision(path: Path, approach: Option<&str>) -> Decision {
        Decision {
            path,
            approach: approach.map(str::to_owned),
            reason: String::new(),
        }
    }

    fn chosen(path: Path, approach: Option<&str>, opinions: &Opinions) -> Option<String> {
        plan(&decision(path, approach), opinions).map(|plan| plan.requirements.clone())
    }

    #[test]
    fn a_decision_leads_to_the_plan_of_its_opinion() {
        let mut opinions = opinions();
        assert_eq!(chosen(Path::Simplify, None, &opinions).as_deref(), Some("less"));
        assert_eq!(
            chosen(Path::Alternative, Some("regex"), &opinions).as_deref(),
            Some("regex")
        );
        assert_eq!(chosen(Path::Alternative, None, &opinions).as_deref(), Some("table"));
        if let Some(diagnosis) = &mut opinions.diagnosis {
            diagnosis.better = Some(some_plan("another", &[]));
        }
        assert_eq!(chosen(Path::WrongProblem, None, &opinions).as_deref(), Some("another"));
    }

    #[test]
    fn an_opinion_that_nobody_gave_leads_to_a_person() {
        let mut opinions = opinions();
        assert_eq!(chosen(Path::Escalate, None, &opinions), None);
        assert_eq!(chosen(Path::Alternative, Some("magic"), &opinions), None);
        assert_eq!(
            chosen(Path::WrongProblem, None, &opinions),
            None,
            "no better problem is known"
        );
        opinions.simplification = None;
        assert_eq!(chosen(Path::Simplify, None, &opinions), None);
        assert!(!none(&opinions));
        (opinions.approaches, opinions.diagnosis) = (vec![], None);
        assert!(none(&opinions));
    }

    #[test]
    fn a_narrowed_job_keeps_the_files_that_are_needed() {
        let file = |name: &str| generate::File {
            name: name.to_owned(),
            text: String::new(),
        };
        let job = Job {
            language: "Rust".to_owned(),
            requirements: "all".to_owned(),
            files: vec![file("a.rs"), file("b.rs")],
        };
        let narrowed = narrow(job, &some_plan("less", &["b.rs", "c.rs"]));
        let expected = Job {
            language: "Rust".to_owned(),
            requirements: "less".to_owned(),
            files: vec![file("b.rs")],
        };
        assert_eq!(narrowed, expected);
    }

    #[test]
    fn the_report_of_an_escalation_holds_all_opinions() {
        let mut opinions = opinions();
        opinions.silent.push(Silent {
            sub_agent: "diagnose".to_owned(),
            failure: Failure::Exhausted(Limit::Time),
        });
        let report = Report {
            first: Failure::ContextOverflow,
            opinions,
            decision: Some(decision(Path::Escalate, None)),
            last: None,
        };
        let Failure::Escalated(text) = escalate(&report) else {
            panic!("an escalation")
        };
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["first"], "context-overflow");
        assert_eq!(json["decision"]["path"], "escalate");
        assert_eq!(json["opinions"]["simplification"]["left-out"][0], "speed");
        assert_eq!(json["opinions"]["silent"][0]["failure"]["exhausted"], "time");
    }

    fn job() -> Job {
        Job {
            language: "Rust".to_owned(),
            requirements: "all".to_owned(),
            files: vec![generate::File {
                name: "a.rs".to_owned(),
                text: String::new(),
            }],
        }
    }

    /// Returns a host whose programmer fails at all jobs but `done`, and whose sub-agents have the usual opinions.
    fn host(done: &'static str) -> Host {
        Host::new()
            .sub_agent(generate::run, move |job| match job.requirements == done {
                true => Ok(generate::Program {
                    source: done.to_owned(),
                    notes: String::new(),
                }),
                false => Err(Failure::ContextOverflow),
            })
            .sub_agent(simplify::run, |_| Ok(opinions().simplification.unwrap()))
            .sub_agent(alternatives::run, |_| Ok(opinions().approaches))
            .sub_agent(diagnose::run, |_| Err(Failure::Exhausted(Limit::Time)))
    }

    fn decides(path: &str) -> Reply {
        Reply::json(json!({"path": path, "approach": null, "reason": "It is the surest."}))
    }

    #[test]
    fn a_first_attempt_that_works_is_all() {
        let host = host("all");
        let shipment = host.run(run(job())).unwrap();
        assert_eq!((shipment.program.source.as_str(), shipment.decision), ("all", None));
        assert_eq!(host.progress(), []);
    }

    #[test]
    fn after_a_failure_the_chosen_path_is_taken_once() {
        let host = host("less").model("strong", [decides("simplify")]);
        let shipment = host.run(run(job())).unwrap();
        assert_eq!(shipment.program.source, "less");
        assert_eq!(shipment.decision.unwrap().path, Path::Simplify);
        let jobs = host.inputs(generate::run);
        assert_eq!((jobs.len(), &jobs[1].files), (2, &job().files));
        assert_eq!(host.inputs(diagnose::run)[0].failure, Failure::ContextOverflow);
        let asked = host.requests()[0].text();
        assert!(asked.contains("\"silent\":[{\"sub-agent\":\"diagnose\""), "{asked}");
    }

    #[test]
    fn a_person_gets_what_was_found_out() {
        let cases = [
            (
                host("nothing").model("strong", [decides("alternative")]),
                Some(Failure::ContextOverflow),
            ),
            (host("nothing").model("strong", [decides("escalate")]), None),
            (
                host("nothing").model("strong", [Reply::error(llm::Error::Exhausted(Limit::Calls))]),
                Some(Failure::Exhausted(Limit::Calls)),
            ),
        ];
        for (host, last) in cases {
            let Err(Failure::Escalated(text)) = host.run(run(job())) else {
                panic!("an escalation")
            };
            let report: Report = serde_json::from_str(&text).unwrap();
            assert_eq!((report.first, report.last), (Failure::ContextOverflow, last));
            assert_eq!(report.opinions.approaches.len(), 2);
        }
    }

    #[test]
    fn a_denial_asks_for_no_opinion() {
        let host = Host::new().sub_agent(generate::run, |_| Err(Failure::Denied("fast".to_owned())));
        assert_eq!(host.run(run(job())), Err(Failure::Denied("fast".to_owned())));
    }
}
