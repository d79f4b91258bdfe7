//! What a task keeps back from its sub-tasks, and how it divides the rest among them.

use agenthost_tests::server::{Reply, Server};
use serde_json::{Value, json};

use crate::{guest, machine_at, run_json};

/// A server that uses all the output tokens that it may, and 10 of input.
fn server() -> Server {
    Server::start(|request| Reply::text(request.prompt()).usage(10, request.max_tokens().unwrap()))
}

fn division(prompts: usize, options: &Value) -> Value {
    // Beside it.
    let _ = guest("leaf");
    let prompts: Vec<_> = (0..prompts).map(|n| format!("leaf {n}")).collect();
    let mut input = json!({"prompts": prompts, "split": false, "least": null, "keep-back": null, "within": null,
        "question": null, "strict": false});
    for (key, value) in options.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

/// The outputs, and the messages of the failed tasks.
fn ended(document: &Value) -> (Vec<&str>, Vec<&str>) {
    let output = document["outcome"]["ok"]
        .as_array()
        .unwrap_or_else(|| panic!("{document}"));
    let tasks = document["tasks"].as_array().unwrap();
    let failures = tasks
        .iter()
        .filter_map(|task| task["outcome"]["failure"]["message"].as_str());
    (output.iter().filter_map(Value::as_str).collect(), failures.collect())
}

/// The output tokens that each request asked for.
fn asked_for(server: &Server) -> Vec<u64> {
    let requests = server.ended();
    requests.iter().map(|request| request.max_tokens().unwrap()).collect()
}

#[test]
fn a_task_that_calls_models_keeps_a_fifth_back_for_itself() {
    let server = server();
    let machine = machine_at(&server);
    let input = division(6, &json!({"question": "and now?"}));
    let document = machine
        .run(run_json(&guest("divides"), &input, &["--tokens", "600"]))
        .json(0);
    let (output, failures) = ended(&document);
    assert_eq!(&output[..4], ["leaf 0", "leaf 1", "leaf 2", "leaf 3"]);
    assert_eq!(output[6], "and now?", "its own call is paid for");
    assert_eq!(failures.len(), 2, "{failures:?}");
    for failure in failures {
        assert!(
            failure.contains("(limit of the part of root for its sub-tasks: 480 tokens)"),
            "{failure}"
        );
    }
    let failure = &document["tasks"][6]["outcome"]["failure"];
    assert_eq!(failure["owner"], json!({"sub-tasks": "root"}), "{document}");
    let replayed = machine.run(["replay", "last", "--json"]).json(0);
    assert_eq!(replayed["outcome"], document["outcome"]);
}

#[test]
fn an_equal_share_bounds_each_sub_task() {
    let most_of = |options: &Value| {
        let server = server();
        let input = division(4, options);
        let machine = machine_at(&server);
        let document = machine
            .run(run_json(&guest("divides"), &input, &["--tokens", "800"]))
            .json(0);
        assert_eq!(ended(&document).0.len(), 4);
        asked_for(&server)
    };
    assert_eq!(most_of(&json!({}))[0], 100, "the first one takes what it wants");
    // A quarter of the 640 that the task does not keep, or of 80% of that, with the prompt.
    let quarter = most_of(&json!({"split": true}));
    assert_eq!(
        (quarter.len(), quarter.iter().max()),
        (4, quarter.iter().min()),
        "{quarter:?}"
    );
    assert!((50..100).contains(&quarter[0]), "{quarter:?}");
    let less = most_of(&json!({"split": true, "keep-back": 20}));
    assert_eq!((less.len(), less.iter().max()), (4, less.iter().min()), "{less:?}");
    assert_eq!(quarter[0] - less[0], 32, "{less:?}");
}

#[test]
fn a_share_of_too_few_tokens_goes_to_the_first_ones() {
    let server = server();
    let machine = machine_at(&server);
    let input = division(4, &json!({"split": true, "least": 250}));
    let document = machine
        .run(run_json(&guest("divides"), &input, &["--tokens", "800"]))
        .json(0);
    let (output, failures) = ended(&document);
    assert_eq!(&output[..2], ["leaf 0", "leaf 1"]);
    assert_eq!(server.count(), 2, "the others spend nothing");
    for failure in failures {
        assert!(
            failure.contains("(limit of a share of root that got nothing, because at least 250 tokens each are enough for 2 of 4: 0 tokens)"),
            "{failure}"
        );
    }
}

#[test]
fn a_share_can_be_divided_again() {
    let server = server();
    let machine = machine_at(&server);
    let input = division(2, &json!({"split": true, "within": 2}));
    let document = machine
        .run(run_json(&guest("divides"), &input, &["--tokens", "800"]))
        .json(0);
    let (output, failures) = ended(&document);
    assert_eq!(output, ["leaf 0 0, leaf 0 1", "leaf 1 0, leaf 1 1"]);
    assert_eq!(failures, [""; 0]);
    let most = asked_for(&server);
    assert!(
        most.iter().all(|most| (50..100).contains(most)),
        "a quarter of 640 each: {most:?}"
    );
}

#[test]
fn a_resumed_task_divides_what_its_new_limits_leave() {
    let server = server();
    let machine = machine_at(&server);
    let input = division(4, &json!({"split": true, "least": 250, "strict": true}));
    let failed = machine
        .run(run_json(&guest("divides"), &input, &["--tokens", "800"]))
        .json(3);
    assert_eq!(failed["outcome"]["failure"]["limit"], "tokens");
    assert_eq!(server.count(), 2);
    let resumed = machine.run(["resume", "last", "--json", "--tokens", "5k"]).json(0);
    assert_eq!(ended(&resumed).0, ["leaf 0", "leaf 1", "leaf 2", "leaf 3"]);
    assert_eq!(server.count(), 4, "what was paid for is not asked again");
}

#[test]
fn a_plan_warns_of_a_limit_below_the_typical_use() {
    let server = server();
    let machine = machine_at(&server);
    let input = division(4, &json!({}));
    machine.run(run_json(&guest("divides"), &input, &[])).json(0);
    let notes = |flags: &[&str]| {
        let plugin = guest("divides");
        let args = [&["plan", plugin.as_str(), "--json"], flags].concat();
        let plan = machine.run(args).json(0);
        plan["notes"].to_string()
    };
    let low = notes(&["--tokens", "300"]);
    assert!(
        low.contains(
            "a task typically uses 440 tokens (from the last run), and its limit is 300: it may end without an output"
        ),
        "{low}"
    );
    // Four leaves used 110 tokens each, and a fifth of the limit is kept back.
    let lanes = notes(&["--tokens", "500"]);
    assert!(
        lanes.contains(
            "4 tasks of guests:leaf used at least 110 tokens each, for which up to 880 are reserved at once, and the limit \
             leaves 400 for sub-tasks"
        ),
        "{lanes}"
    );
    let enough = notes(&["--tokens", "2k"]);
    assert!(
        !enough.contains("typically uses") && !enough.contains("for sub-tasks"),
        "{enough}"
    );
    let few = notes(&["--calls", "3", "--tasks", "2"]);
    for part in [
        "makes 4 model calls (from the last run), and its limit is 3",
        "starts 4 sub-agents",
    ] {
        assert!(few.contains(part), "{few}");
    }
    let many = notes(&["--items", "10", "--run-tokens", "2k"]);
    assert!(
        many.contains(
            "10 tasks typically use 4,400 tokens (from the last run), and the limit on all of them together is 2,000"
        ),
        "{many}"
    );
}
