//! Imported tasks that the model starts: their descriptions, their inputs, and what the model reads of their ends.

#![expect(clippy::unwrap_used, reason = "a test, with helpers outside of its functions")]

use std::time::Duration;

use agenthost_sdk::SubTask;
use agenthost_sdk::llm::{Error, Request};
use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::{self, Value, json};
use agenthost_sdk::testing::{Host, Reply, sleep};

agenthost_sdk::plugin!(
    inline = r"
package demo:desk@0.1.0;
interface task {
  use agenthost:plugin/types@0.1.0.{failure};
  run: async func(question: string) -> result<string, failure>;
}
world desk {
  include agenthost:plugin/plugin@0.1.0;
  import demo:competitor/task@0.1.0;
  import other:competitor/task@0.2.0;
  import demo:title/task@0.1.0;
  import demo:silent/task@0.1.0;
  import demo:plain/task@0.1.0;
  import demo:start/task@0.1.0;
  export task;
}

/// Reports on companies.
package demo:competitor@0.1.0 {
  /// Reports on companies.
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};
    /// One company.
    record topic {
      /// The name, with the town.
      company: string,
      depth: option<u8>,
    }
    record report { summary: string, sources: list<string> }
    /// Looks into one company.
    /// Fails if it is unknown.
    run: async func(topic: topic) -> result<report, failure>;
  }
}

package other:competitor@0.2.0 {
  /// Knows the sports.
  interface task {
    record mistake { reason: string, code: u16 }
    run: async func(team: string) -> result<list<string>, mistake>;
  }
}

/// Writes a title.
package demo:title@0.1.0 {
  interface task {
    use agenthost:plugin/types@0.1.0.{failure};
    run: async func(keywords: list<string>) -> result<string, failure>;
  }
}

package demo:silent@0.1.0 {
  interface task {
    run: async func(input: bool) -> result;
  }
  /// Not this one.
  world other {}
  /// Does nothing.
  world silent { export task; }
}

/// A model cannot start it: its result has no JSON form.
package demo:plain@0.1.0 {
  interface task {
    run: async func(input: string) -> result<option<option<string>>, string>;
  }
}

package demo:start@0.1.0 {
  interface task {
    run: async func(start: string) -> result<string, string>;
  }
}
"
);

async fn run(question: String) -> Result<String, Failure> {
    let prompt = Prompt::new(question)
        .sub_agent(demo_competitor::run)
        .sub_agent(title::run);
    Ok(prompt.run(5).await?.text())
}

fn definitions(request: &Request) -> Vec<Value> {
    let (_, json) = request.options.iter().find(|(name, _)| name == "tools").unwrap();
    serde_json::from_str(json).unwrap()
}

fn report(company: &str) -> demo_competitor::Report {
    demo_competitor::Report {
        summary: format!("{company} is fine."),
        sources: vec![],
    }
}

#[test]
fn a_sub_agent_is_described_by_its_wit() {
    let request = Prompt::new("hi").sub_agent(demo_competitor::run).into_request();
    let tools = definitions(&request);
    assert_eq!(tools[0]["name"], "competitor");
    assert_eq!(
        tools[0]["description"],
        "Reports on companies.\n\nLooks into one company.\nFails if it is unknown."
    );
    let parameters = &tools[0]["parameters"];
    assert_eq!(
        (&parameters["type"], &parameters["description"]),
        (&json!("object"), &json!("One company."))
    );
    assert_eq!(
        parameters["properties"]["company"]["description"],
        "The name, with the town."
    );
    assert_eq!(parameters["required"], json!(["company"]));
    assert_eq!(parameters["additionalProperties"], false);

    assert_eq!(<other_competitor::Run as SubTask>::DESCRIPTION, "Knows the sports.");
    assert_eq!(<title::Run as SubTask>::DESCRIPTION, "Writes a title.");
    assert_eq!(<silent::Run as SubTask>::DESCRIPTION, "Does nothing.");
    assert_eq!(<silent::Run as SubTask>::PLUGIN, "demo:silent@0.1.0");
}

#[test]
fn two_with_the_same_name_are_named_after_their_namespace() {
    let both = Prompt::new("hi")
        .sub_agent(demo_competitor::run)
        .sub_agent(other_competitor::run)
        .sub_agent(title::run);
    assert_eq!(
        both.into_request().tools(),
        ["demo_competitor", "other_competitor", "title"]
    );
    let tool = Tool::new::<()>("title", "", async |()| String::new());
    let request = Prompt::new("hi").tool(tool).sub_agent(title::run).into_request();
    assert_eq!(request.tools(), ["title", "demo_title"]);
    let twice = Prompt::new("hi").sub_agent(title::run).sub_agent(title::run);
    let error = Host::new().run(twice.run(3)).unwrap_err();
    assert!(
        matches!(&error, Error::InvalidRequest(text) if text.contains("`demo_title`")),
        "{error}"
    );
}

#[test]
fn an_input_that_is_not_a_record_has_the_name_of_its_parameter() {
    let request = Prompt::new("hi")
        .sub_agent(title::run)
        .sub_agent(other_competitor::run)
        .into_request();
    let tools = definitions(&request);
    let keywords = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(tools[0]["parameters"]["properties"], json!({"keywords": keywords}));
    assert_eq!(tools[1]["parameters"]["required"], json!(["team"]));

    let calls = Reply::tool_call("title", json!({"keywords": ["sea", "storm"]}))
        .with_tool_call("title", json!({"keywords": "sea"}));
    let host = Host::new()
        .model("fast", [calls, Reply::text("done")])
        .sub_agent(title::run, |keywords| Ok(keywords.join(" and ")));
    host.run(run("hi".to_owned())).unwrap();
    assert_eq!(host.inputs(title::run), [["sea".to_owned(), "storm".to_owned()]]);
    let results = host.requests()[1].tool_results();
    assert_eq!(
        (results[0].content.as_str(), results[0].is_error),
        ("sea and storm", false)
    );
    assert_eq!(
        (results[1].content.as_str(), results[1].is_error),
        ("`keywords`: invalid type: string \"sea\", expected a sequence", true)
    );
}

#[test]
fn a_parameter_can_have_any_name() {
    assert_eq!(<start::Run as SubTask>::PARAMETER, "start");
    let host = Host::new().sub_agent(start::run, Ok);
    assert_eq!(host.run(start::run("now".to_owned())), Ok("now".to_owned()));
}

#[test]
fn a_closure_can_change_the_input() {
    let host = Host::new()
        .model(
            "fast",
            [
                Reply::tool_call("title", json!({"keywords": ["a", "b"]})),
                Reply::text("done"),
            ],
        )
        .sub_agent(title::run, |keywords| Ok(keywords.join(" ")));
    let first_only = |mut keywords: Vec<String>| {
        keywords.truncate(1);
        title::run(keywords)
    };
    host.run(Prompt::new("hi").sub_agent(first_only).run(3)).unwrap();
    assert_eq!(host.inputs(title::run), [["a".to_owned()]]);
}

#[test]
fn the_model_starts_several_at_once_and_reads_outputs_and_failures() {
    let calls = ["Acme", "Nobody", "Globex"]
        .into_iter()
        .fold(Reply::text(""), |reply, company| {
            reply.with_tool_call("competitor", json!({"company": company}))
        });
    let host = Host::new()
        .model("fast", [calls, Reply::text("Both are fine.")])
        .sub_agent_async(demo_competitor::run, async |topic| {
            sleep(Duration::from_secs(1)).await;
            match topic.company.as_str() {
                "Nobody" => Err(Failure::failed("no such company")),
                company => Ok(report(company)),
            }
        });
    assert_eq!(
        host.run(run("Who is fine?".to_owned())),
        Ok("Both are fine.".to_owned())
    );
    assert_eq!((host.most_concurrent(), host.elapsed()), (3, Duration::from_secs(1)));
    let results = host.requests()[1].tool_results();
    let results: Vec<_> = results
        .iter()
        .map(|result| (result.content.as_str(), result.is_error))
        .collect();
    assert_eq!(
        results,
        [
            (r#"{"summary":"Acme is fine.","sources":[]}"#, false),
            ("the sub-agent failed: failed: no such company", true),
            (r#"{"summary":"Globex is fine.","sources":[]}"#, false),
        ]
    );
}

#[test]
fn every_failure_has_its_class_and_a_text() {
    let cases = [
        (Failure::Exhausted(Limit::Tokens), "exhausted: limit reached: tokens"),
        (Failure::Denied("strong".to_owned()), "denied: strong"),
        (Failure::Cancelled, "cancelled: cancelled"),
        (Failure::other("quota", "none is left"), "quota: none is left"),
    ];
    for (failure, expected) in cases {
        let call = Reply::tool_call("title", json!({"keywords": []}));
        let host = Host::new()
            .model("fast", [call, Reply::text("sorry")])
            .sub_agent(title::run, move |_| Err(failure.clone()));
        host.run(run("hi".to_owned())).unwrap();
        let results = host.requests()[1].tool_results();
        assert_eq!(results[0].content, format!("the sub-agent failed: {expected}"));
        assert!(results[0].is_error);
    }
    let calls =
        Reply::tool_call("competitor", json!({"team": "Oilers"})).with_tool_call("silent", json!({"input": true}));
    let host = Host::new()
        .model("fast", [calls, Reply::text("sorry")])
        .sub_agent(other_competitor::run, |team| {
            Err(other_competitor::Mistake {
                reason: format!("no {team}"),
                code: 7,
            })
        })
        .sub_agent(silent::run, |_| Ok(()));
    let prompt = Prompt::new("hi")
        .sub_agent(other_competitor::run)
        .sub_agent(silent::run);
    host.run(prompt.run(5)).unwrap();
    let results = host.requests()[1].tool_results();
    assert_eq!(
        results[0].content,
        r#"the sub-agent failed: {"reason":"no Oilers","code":7}"#
    );
    assert_eq!((results[1].content.as_str(), results[1].is_error), ("null", false));
}

#[test]
fn code_starts_a_sub_agent_as_before_and_only_when_it_is_polled() {
    let host = Host::new()
        .sub_agent(title::run, |keywords| Ok(keywords.join(" ")))
        .sub_agent(plain::run, |_| Ok(Some(None)));
    let never: title::Run = title::run(vec![]);
    drop(never);
    assert!(host.inputs(title::run).is_empty());
    let both = async { join!(title::run(vec!["sea".to_owned()]), plain::run("x".to_owned())) };
    assert_eq!(host.run(both), (Ok("sea".to_owned()), Ok(Some(None))));
    let first = host
        .run(join::first([branch("a", title::run(vec!["a".to_owned()]))]))
        .unwrap();
    assert_eq!(first.value, "a");
    assert_eq!(host.inputs(title::run).len(), 2);
}

#[test]
fn a_sub_agent_that_is_no_longer_awaited_is_cancelled() {
    let host = Host::new()
        .model("fast", [Reply::tool_call("title", json!({"keywords": []}))])
        .sub_agent_async(title::run, async |_| {
            sleep(Duration::from_secs(60)).await;
            Ok(String::new())
        });
    let slow = branch("slow", run("hi".to_owned()));
    let quick = branch("quick", async {
        sleep(Duration::from_secs(1)).await;
        Ok(String::new())
    });
    assert_eq!(host.run(join::first([slow, quick])).unwrap().name, "quick");
    assert_eq!(host.cancelled(), ["demo:title@0.1.0"]);
}

#[test]
fn the_shares_of_a_policy_hold_for_the_sub_agents_of_a_model() {
    let host = Host::new()
        .model_with("fast", |request| match request.messages.len() {
            1 => Reply::tool_call("title", json!({"keywords": []})),
            _ => Reply::text("done"),
        })
        .sub_agent(title::run, |_| Ok(String::new()));
    let desks = ["a", "b"].map(|name| branch(name, run("hi".to_owned())));
    host.run(async { join::all(desks).split_equally().await }).unwrap();
    let shares = host.shares(title::run);
    assert_eq!(shares.len(), 2);
    assert!(shares.iter().all(|shares| shares[0].parts == 2), "{shares:?}");
}
