//! `ship-code`: after a failure three opinions side by side, then the best path once, or a person.

use std::time::Duration;

use agenthost_tests::guests::plugin;
use agenthost_tests::server::{Reply, Request, Server};
use serde_json::{Value, json};

use crate::{load, machine_for, report, run_json};

fn ship_code() -> String {
    plugin("ship-code").display().to_string()
}

fn job() -> Value {
    let file = |name: &str| json!({"name": name, "text": format!("the text of {name}")});
    json!({"language": "Rust", "requirements": "Parse everything.", "files": [file("a.rs"), file("b.rs"), file("c.rs")]})
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Generate,
    Simplify,
    Alternatives,
    Diagnose,
    Decide,
}

fn step(request: &Request) -> Step {
    let prompt = request.prompt();
    [
        ("Write a program that", Step::Generate),
        ("Writing this program failed. Restate", Step::Simplify),
        ("Writing this program failed. Find", Step::Alternatives),
        ("Writing this program failed. Say why", Step::Diagnose),
        ("Writing a program failed. Decide", Step::Decide),
    ]
    .into_iter()
    .find_map(|(start, step)| prompt.contains(start).then_some(step))
    .unwrap_or_else(|| panic!("an unexpected request: {prompt}"))
}

fn count(server: &Server, wanted: Step) -> usize {
    server.ended().iter().filter(|request| step(request) == wanted).count()
}

fn too_long() -> Reply {
    let message = "prompt is too long: 210000 tokens > 200000 maximum";
    Reply::error(400, "invalid_request_error", message)
}

fn program() -> Reply {
    Reply::text(json!({"source": "fn main() {}", "notes": ""}).to_string())
}

fn plan(requirements: &str, file: &str) -> Value {
    json!({"requirements": requirements, "files": [file]})
}

/// The replies of the three opinions, and the decision; nothing is generated.
fn opinion(request: &Request, decision: &Value) -> Reply {
    let approach = |name: &str, file: &str| json!({"name": name, "plan": plan(name, file), "trade-off": "slow"});
    Reply::text(match step(request) {
        Step::Generate => return too_long(),
        Step::Simplify => json!({"plan": plan("a smaller job", "a.rs"), "left-out": ["half"]}).to_string(),
        Step::Alternatives => {
            json!({"approaches": [approach("by table", "b.rs"), approach("by hand", "c.rs")]}).to_string()
        }
        Step::Diagnose => {
            json!({"cause": "it is large", "right-problem": false, "better": plan("another job", "c.rs")}).to_string()
        }
        Step::Decide => decision.to_string(),
    })
}

fn decision(path: &str, approach: Option<&str>) -> Value {
    json!({"path": path, "approach": approach, "reason": "because"})
}

fn config(server: &Server) -> String {
    server.anthropic_config()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_leads_to_three_opinions_at_once_and_the_chosen_path_once() {
    for (chosen, requirements, file) in [
        (decision("simplify", None), "a smaller job", "a.rs"),
        (decision("alternative", Some("by hand")), "by hand", "c.rs"),
        (decision("alternative", None), "by table", "b.rs"),
        (decision("wrong-problem", None), "another job", "c.rs"),
    ] {
        let decided = chosen.clone();
        let server = Server::start(move |request| {
            let second = request.number > 1 && step(request) == Step::Generate;
            let reply = if second { program() } else { opinion(request, &decided) };
            reply.after(Duration::from_millis(100))
        });
        let host = machine_for(&config(&server)).var("ANTHROPIC_API_KEY", "secret").host();
        let plugin = load(&host, &ship_code()).await;
        let document = report(&host, &plugin, &job(), &[]).await;
        let shipment = &document["outcome"]["ok"];
        assert_eq!(
            (&shipment["program"]["source"], &shipment["decision"]),
            (&json!("fn main() {}"), &chosen),
            "{document}"
        );

        let seen = server.ended();
        assert_eq!(seen.len(), 6, "no call is made twice: {seen:#?}");
        let (first, opinions) = (&seen[0], &seen[1..4]);
        assert_eq!((step(first), first.data("file").len()), (Step::Generate, 3));
        for opinion in opinions {
            assert!(opinion.arrived >= first.end());
            assert!(opinions.iter().all(|other| opinion.overlaps(other)));
            assert!(
                opinion.prompt().contains("does not fit the model's context"),
                "{}",
                opinion.prompt()
            );
            assert!(
                !opinion.body.to_string().contains("the text of"),
                "what did not fit is not sent again"
            );
        }
        assert_eq!((step(&seen[4]), seen[4].model()), (Step::Decide, "large"));
        assert!(opinions.iter().all(|opinion| seen[4].arrived >= opinion.end()));
        assert_eq!(
            (seen[5].data("requirements"), seen[5].data("file-name")),
            (vec![requirements.to_owned()], vec![file.to_owned()])
        );
        assert_eq!(document["tasks"][1]["outcome"]["failure"]["class"], "context-overflow");
    }
}

#[test]
fn a_first_attempt_that_succeeds_asks_nobody_else() {
    let server = Server::scripted([program()]);
    let machine = machine_for(&config(&server)).var("ANTHROPIC_API_KEY", "secret");
    let document = machine.run(run_json(&ship_code(), &job(), &[])).json(0);
    assert_eq!(document["outcome"]["ok"]["decision"], Value::Null);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_decision_for_a_person_ends_the_run_with_all_opinions_and_an_exit_code_of_its_own() {
    let server = Server::start(|request| opinion(request, &decision("escalate", None)));
    let machine = machine_for(&config(&server)).var("ANTHROPIC_API_KEY", "secret");
    let document = machine.run(run_json(&ship_code(), &job(), &[])).json(6);
    assert_eq!(
        (server.count(), count(&server, Step::Generate)),
        (5, 1),
        "and nothing is called after it"
    );
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "escalated");
    let told: Value = serde_json::from_str(failure["message"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&told["first"], &told["decision"]["path"]),
        (&json!("context-overflow"), &json!("escalate"))
    );
    let opinions = &told["opinions"];
    assert_eq!(opinions["simplification"]["plan"]["requirements"], "a smaller job");
    assert_eq!(opinions["approaches"][1]["name"], "by hand");
    assert_eq!(opinions["diagnosis"]["cause"], "it is large");
    assert_eq!(opinions["silent"], json!([]));

    let output = machine.run(["run", &ship_code(), "-i", &job().to_string()]);
    output.error(6);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_opinion_it_escalates_with_their_failures() {
    let server = Server::start(|request| match step(request) {
        Step::Generate => too_long(),
        _ => Reply::error(500, "api_error", "boom"),
    });
    let host = machine_for(&config(&server)).var("ANTHROPIC_API_KEY", "secret").host();
    let plugin = load(&host, &ship_code()).await;
    let document = report(&host, &plugin, &job(), &[]).await;
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "escalated");
    let told: Value = serde_json::from_str(failure["message"].as_str().unwrap()).unwrap();
    let silent: Vec<_> = told["opinions"]["silent"]
        .as_array()
        .unwrap()
        .iter()
        .map(|silent| &silent["sub-agent"])
        .collect();
    assert_eq!(silent, ["simplify", "alternatives", "diagnose"]);
    assert_eq!((server.count(), count(&server, Step::Decide)), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_opinion_is_enough_to_decide_on() {
    let server = Server::start(|request| match step(request) {
        Step::Generate if request.number > 0 => program(),
        Step::Alternatives | Step::Diagnose => Reply::error(500, "api_error", "boom"),
        _ => opinion(request, &decision("simplify", None)),
    });
    let host = machine_for(&config(&server)).var("ANTHROPIC_API_KEY", "secret").host();
    let plugin = load(&host, &ship_code()).await;
    let document = report(&host, &plugin, &job(), &[]).await;
    assert_eq!(document["outcome"]["ok"]["decision"]["path"], "simplify");
    let told = server.ended()[4].data("opinions").pop().unwrap();
    assert!(
        told.contains("a smaller job") && told.contains("diagnose") && told.contains("boom"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_that_fails_escalates_and_there_is_no_third() {
    let server = Server::start(|request| opinion(request, &decision("simplify", None)));
    let host = machine_for(&config(&server)).var("ANTHROPIC_API_KEY", "secret").host();
    let plugin = load(&host, &ship_code()).await;
    let document = report(&host, &plugin, &job(), &[]).await;
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "escalated");
    let told: Value = serde_json::from_str(failure["message"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&told["last"], &told["decision"]["path"]),
        (&json!("context-overflow"), &json!("simplify"))
    );
    assert_eq!((server.count(), count(&server, Step::Generate)), (6, 2));
}

#[test]
fn a_denial_is_nothing_to_recover_from() {
    let server = Server::start(|request| opinion(request, &decision("simplify", None)));
    let grant = "[grants.\"demo:generate\"]\nmodels = [\"strong\"]\n";
    let machine = machine_for(&format!("{}{grant}", config(&server))).var("ANTHROPIC_API_KEY", "secret");
    let document = machine.run(run_json(&ship_code(), &job(), &[])).json(4);
    let failure = &document["outcome"]["failure"];
    assert_eq!(failure["class"], "denied");
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("[grants.\"demo:generate\"]"),
        "{failure}"
    );
    assert_eq!(server.count(), 0);
    assert_eq!(document["tasks"].as_array().unwrap().len(), 2);
}
