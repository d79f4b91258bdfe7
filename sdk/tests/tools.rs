//! Conversations with tools: the requests of each turn, what goes back to the model, and when the loop ends.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use agenthost_sdk::llm::{Error, Extension, Part, Role, Stop, Usage};
use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::{self, Value, json};
use agenthost_sdk::testing::{Host, Reply, sleep};
use agenthost_sdk::{Citation, ToolCall, ToolResult, WebSearch};

#[derive(Debug, Deserialize, JsonSchema)]
struct Query {
    /// A few words.
    words: String,
    /// The most results.
    limit: Option<u8>,
}

#[derive(Clone, Serialize)]
struct Found {
    title: String,
}

fn find() -> Tool {
    Tool::new::<Query>("find", "Finds documents.", async |query| match query.words.as_str() {
        "" => Err("no words"),
        words => Ok(vec![
            Found {
                title: words.to_owned()
            };
            usize::from(query.limit.unwrap_or(1))
        ]),
    })
}

fn now() -> Tool {
    Tool::new::<()>("now", "Returns the time.", async |()| "12:00".to_owned())
}

fn option<'a>(request: &'a llm::Request, name: &str) -> Option<&'a str> {
    let found = request.options.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

fn result(id: &str, content: &str, is_error: bool) -> ToolResult {
    ToolResult {
        id: id.to_owned(),
        content: content.to_owned(),
        is_error,
    }
}

#[test]
fn a_request_describes_its_tools() {
    let request = Prompt::new("hi").tool(find()).tool(now()).into_request();
    assert_eq!(request.tools(), ["find", "now"]);
    let tools: Value = serde_json::from_str(option(&request, "tools").unwrap()).unwrap();
    assert_eq!(tools[0]["description"], "Finds documents.");
    assert_eq!(tools[0]["parameters"]["type"], "object");
    assert_eq!(
        tools[0]["parameters"]["properties"]["words"]["description"],
        "A few words."
    );
    assert_eq!(tools[0]["parameters"]["required"], json!(["words"]));
    let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
    assert_eq!(tools[1]["parameters"], none);
    assert_eq!(tools[0].as_object().unwrap().len(), 3);
    let strict = Prompt::new("hi").tool(find().strict()).tool(now()).into_request();
    let tools: Value = serde_json::from_str(option(&strict, "tools").unwrap()).unwrap();
    assert_eq!((&tools[0]["strict"], &tools[1]["strict"]), (&json!(true), &Value::Null));
    assert_eq!(option(&Prompt::new("hi").into_request(), "tools"), None);
}

#[test]
fn the_content_of_a_reply_goes_back_as_it_came() {
    let usage = Usage {
        input: 1,
        cached_input: 0,
        cache_write_input: 0,
        output: 1,
        reasoning_output: 0,
    };
    let extension = |kind: &str, json: &str| {
        Part::Extension(Extension {
            kind: kind.to_owned(),
            json: json.to_owned(),
        })
    };
    let content = vec![
        extension(
            "echo",
            r#"{"wire": "anthropic",  "model":"m","block":{"signature":"x"}}"#,
        ),
        Part::Text("Let me see.".to_owned()),
        extension(
            "tool-call",
            r#"{"echo":{"b":1,"a":2}, "name":"now","id":"t1","arguments":{}}"#,
        ),
        extension("odd", "not even JSON"),
    ];
    let first = Reply::full(llm::Reply {
        content: content.clone(),
        model: String::new(),
        stop: Stop::ToolUse,
        usage,
    });
    let host = Host::new().model("fast", [first, Reply::text("Noon.")]);
    let reply = host.run(Prompt::new("What time is it?").tool(now()).run(4)).unwrap();
    assert_eq!((reply.text().as_str(), host.requests().len()), ("Noon.", 2));
    assert_eq!(reply.content[..4], content);
    let messages = &host.requests()[1].messages;
    assert_eq!(messages.len(), 3);
    assert_eq!((messages[1].role, &messages[1].content), (Role::Assistant, &content));
    assert_eq!(
        (messages[2].role, messages[2].content.as_slice()),
        (
            Role::User,
            [extension("tool-result", r#"{"id":"t1","content":"12:00"}"#)].as_slice()
        )
    );
}

#[test]
fn results_are_text_or_json_in_the_order_of_the_calls() {
    let calls = Reply::text("")
        .with_tool_call("find", json!({"words": "a", "limit": 2}))
        .with_tool_call("now", json!({}))
        .with_tool_call("find", json!({"words": ""}));
    let host = Host::new().model("fast", [calls, Reply::text("done")]);
    host.run(Prompt::new("hi").tool(find()).tool(now()).run(4)).unwrap();
    assert_eq!(
        host.requests()[1].tool_results(),
        [
            result("call-1", r#"[{"title":"a"},{"title":"a"}]"#, false),
            result("call-2", "12:00", false),
            result("call-3", "no words", true),
        ]
    );
}

#[test]
fn an_invalid_call_goes_back_with_its_reason() {
    let calls = Reply::tool_call("find", json!({"words": 7}))
        .with_tool_call("find", json!("{\"words\": \"a"))
        .with_tool_call("lose", json!({}));
    let host = Host::new().model("fast", [calls, Reply::text("sorry")]);
    host.run(Prompt::new("hi").tool(find()).tool(now()).run(4)).unwrap();
    let results = host.requests()[1].tool_results();
    assert_eq!(
        results[0],
        result("call-1", "`words`: invalid type: integer `7`, expected a string", true)
    );
    assert!(
        results[1].content.starts_with("the arguments are not valid JSON: EOF"),
        "{}",
        results[1].content
    );
    assert_eq!(
        results[2],
        result("call-3", "unknown tool `lose`; the tools are `find`, `now`", true)
    );
    assert!(results.iter().all(|result| result.is_error));
    let call = Part::Extension(Extension {
        kind: "tool-call".to_owned(),
        json: r#"{"id":"call-2","name":"find","invalid-arguments":"{\"words\": \"a"}"#.to_owned(),
    });
    assert_eq!(
        host.requests()[1].messages[1].content[1],
        call,
        "in the form of the contract"
    );
}

#[test]
fn calls_of_one_reply_run_at_the_same_time() {
    let ended = Rc::new(RefCell::new(Vec::new()));
    let order = Rc::clone(&ended);
    let wait = Tool::new::<u64>("wait", "Waits.", async move |seconds| {
        sleep(Duration::from_secs(seconds)).await;
        order.borrow_mut().push(seconds);
        Ok::<_, String>(seconds)
    });
    let ask = Tool::new::<String>("ask", "Asks a model.", async |question| {
        Prompt::new(question).model("strong").text().await
    });
    let calls = [3, 1, 2].into_iter().fold(Reply::text(""), |reply, seconds| {
        reply.with_tool_call("wait", json!({"input": seconds}))
    });
    let calls = calls
        .with_tool_call("ask", json!({"input": "a"}))
        .with_tool_call("ask", json!({"input": "b"}));
    let host = Host::new()
        .model("fast", [calls, Reply::text("done")])
        .model_with("strong", |request| {
            Reply::text(request.text()).after(Duration::from_secs(2))
        });
    host.run(Prompt::new("hi").tool(wait).tool(ask).run(4)).unwrap();
    assert_eq!(host.elapsed(), Duration::from_secs(3));
    assert_eq!(*ended.borrow(), [1, 2, 3]);
    assert_eq!(host.most_concurrent(), 2, "the two model calls");
    let requests = host.requests();
    let results: Vec<String> = requests[3]
        .tool_results()
        .into_iter()
        .map(|result| result.content)
        .collect();
    assert_eq!(results, ["3", "1", "2", "a", "b"], "the order of the calls");
}

#[test]
fn the_last_turn_forbids_tools() {
    let call = || Reply::tool_call("now", json!({}));
    let host = Host::new().model("fast", [call(), call(), Reply::text("Noon.")]);
    let reply = host.run(Prompt::new("hi").tool(now()).run(3)).unwrap();
    assert_eq!(reply.text(), "Noon.");
    let choices: Vec<_> = host
        .requests()
        .iter()
        .map(|request| option(request, "tool-choice").map(str::to_owned))
        .collect();
    assert_eq!(choices, [None, None, Some("none".to_owned())]);
    assert_eq!(host.requests()[2].messages.len(), 5);
    assert_eq!(host.requests()[2].tools(), ["now"]);

    let host = Host::new().model("fast", [call(), call()]);
    let error = host.run(Prompt::new("hi").tool(now()).run(2)).unwrap_err();
    assert_eq!(
        (error.class(), error.text()),
        ("max-turns", Some("the model still calls now in the last of 2 turns"))
    );

    let host = Host::new().model("fast", [Reply::text("I do not know.")]);
    host.run(Prompt::new("hi").tool(now()).run(0)).unwrap();
    assert_eq!(
        option(&host.requests()[0], "tool-choice"),
        Some("none"),
        "none counts as one"
    );
}

#[test]
fn a_forced_call_is_forced_once() {
    let call = || Reply::tool_call("now", json!({}));
    for choice in [ToolChoice::Any, ToolChoice::Tool("now".to_owned()), ToolChoice::Auto] {
        let host = Host::new().model("fast", [call(), Reply::text("Noon.")]);
        host.run(Prompt::new("hi").tool(now()).tool_choice(choice.clone()).run(5))
            .unwrap();
        assert!(option(&host.requests()[0], "tool-choice").is_some(), "{choice:?}");
        assert_eq!(option(&host.requests()[1], "tool-choice"), None, "{choice:?}");
    }
    let host = Host::new().model("fast", [call(), Reply::text("Noon.")]);
    host.run(Prompt::new("hi").tool(now()).tool_choice(ToolChoice::None).run(5))
        .unwrap();
    assert_eq!(option(&host.requests()[1], "tool-choice"), Some("none"));
}

#[test]
fn an_error_and_a_refusal_end_the_conversation() {
    let call = || Reply::tool_call("now", json!({}));
    let host = Host::new().model("fast", [call(), Reply::error(Error::Exhausted(Limit::Tokens))]);
    let error = host.run(Prompt::new("hi").tool(now()).run(9)).unwrap_err();
    assert_eq!((error, host.requests().len()), (Error::Exhausted(Limit::Tokens), 2));

    let host = Host::new().model("fast", [call().stop(Stop::Refusal)]);
    let reply = host.run(Prompt::new("hi").tool(now()).run(9)).unwrap();
    assert_eq!((reply.stop, host.requests().len()), (Stop::Refusal, 1));
    let host = Host::new().model("fast", [Reply::text("no").stop(Stop::Refusal)]);
    let error = host.run(Prompt::new("hi").tool(now()).run_json::<u8>(9)).unwrap_err();
    assert_eq!(error, Error::Refused("no".to_owned()));
}

#[test]
fn dropping_the_conversation_drops_its_tools() {
    let ask = Tool::new::<String>("ask", "Asks a model.", async |question| {
        Prompt::new(question).model("strong").text().await
    });
    let host = Host::new()
        .model("fast", [Reply::tool_call("ask", json!({"input": "?"}))])
        .model("strong", [Reply::never()]);
    let slow = async { Prompt::new("hi").tool(ask).run(4).await.map(|reply| reply.text()) };
    let quick = async {
        sleep(Duration::from_secs(9)).await;
        Ok("given up".to_owned())
    };
    let won = host.run(join::first([branch("slow", slow), branch("quick", quick)]));
    assert_eq!(won.unwrap().value, "given up");
    assert_eq!(host.cancelled(), ["model strong"]);
}

#[test]
fn names_of_tools_are_checked_before_anything_is_sent() {
    let error = |prompt: Prompt| {
        let host = Host::new();
        let errors = [
            host.run(prompt.clone().run(3)).unwrap_err(),
            host.run(prompt.clone().reply()).unwrap_err(),
            host.run(prompt.text()).unwrap_err(),
        ];
        assert!(host.requests().is_empty());
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        assert_eq!(errors[0].class(), "invalid-request");
        errors[0].text().unwrap().to_owned()
    };
    assert_eq!(
        error(Prompt::new("hi").tool(now()).tool(find()).tool(now())),
        "two tools with the name `now`; give one another name with `Tool::named`"
    );
    for name in ["", "a b", "é", &"x".repeat(65)] {
        let text = error(Prompt::new("hi").tool(now().named(name)));
        assert!(text.starts_with(&format!("invalid name of a tool: `{name}`")), "{text}");
    }
    let many = (0..129).fold(Prompt::new("hi"), |prompt, n| {
        prompt.tool(now().named(format!("now{n}")))
    });
    assert_eq!(error(many), "129 tools; a prompt can have 128");
}

#[test]
fn a_last_reply_has_the_schema_of_its_type() {
    let replies = [
        Reply::tool_call("now", json!({})),
        Reply::json(json!({"words": "noon", "limit": null})),
    ];
    let host = Host::new().model("fast", replies);
    let query: Query = host.run(Prompt::new("hi").tool(now()).run_json(4)).unwrap();
    assert_eq!(query.words, "noon");
    for request in host.requests() {
        assert!(request.schema.unwrap().contains("A few words."));
    }
    let host = Host::new().model("fast", [Reply::text("noon")]);
    let error = host
        .run(Prompt::new("hi").tool(now()).run_json::<Query>(4))
        .unwrap_err();
    assert_eq!(error.class(), "invalid-reply");
}

#[test]
fn one_call_offers_the_tools_and_leaves_the_answer_to_the_author() {
    let host = Host::new().model(
        "fast",
        [Reply::text("Hm.").with_tool_call("find", json!({"words": "x"}))],
    );
    let reply = host.run(Prompt::new("hi").tool(find()).reply()).unwrap();
    let call = ToolCall {
        id: "call-1".to_owned(),
        name: "find".to_owned(),
        arguments: json!({"words": "x"}),
    };
    assert_eq!((reply.tool_calls(), reply.stop), (vec![call], Stop::ToolUse));
    assert_eq!(host.requests()[0].tools(), ["find"]);
}

#[test]
fn a_reply_that_calls_tools_is_not_an_answer() {
    let host = Host::new().model_with("fast", |_| {
        Reply::tool_call("now", json!({})).with_tool_call("find", json!({"words": "x"}))
    });
    let prompt = || Prompt::new("hi").tool(now()).tool(find());
    let errors = [
        host.run(prompt().text()).unwrap_err(),
        host.run(prompt().json_text()).unwrap_err(),
        host.run(prompt().json::<String>()).unwrap_err(),
        host.run(prompt().reply()).unwrap().json::<String>().unwrap_err(),
    ];
    let text = "the model calls `now`, `find` instead of answering; `Prompt::run` answers calls";
    assert_eq!(errors, [(); 4].map(|()| Error::InvalidReply(text.to_owned())));
}

#[test]
fn a_call_that_cannot_be_read_is_an_error() {
    let unreadable = || Reply::text("Hm.").stop(Stop::ToolUse);
    let expected = Error::InvalidReply("the model calls tools, but no call can be read".to_owned());
    let host = Host::new().model_with("fast", move |_| unreadable());
    let prompt = || Prompt::new("hi").tool(now());
    assert_eq!(host.run(prompt().run(5)).unwrap_err(), expected);
    assert_eq!(host.run(prompt().text()).unwrap_err(), expected);
    assert_eq!(host.requests().len(), 2);
    let error = host.run(Prompt::new("hi").text()).unwrap_err();
    assert_eq!(error.text(), Some("the model calls tools, but the prompt has none"));
}

/// A conversation of three turns with a source in each. Each turn takes 10 input tokens and 1 output token.
fn researched() -> Host {
    let usage = Usage {
        input: 10,
        cached_input: 4,
        cache_write_input: 3,
        output: 1,
        reasoning_output: 1,
    };
    let turn = |reply: Reply, n: &str| {
        let reply = reply.with_citation(Citation::new(format!("https://example.com/{n}")));
        reply.with_search(WebSearch::new([n])).usage(usage)
    };
    let turns = [
        turn(Reply::text("Let me see."), "1").with_tool_call("now", json!({})),
        turn(Reply::tool_call("now", json!({})), "2"),
        turn(Reply::json("noon"), "3"),
    ];
    Host::new().model("fast", turns)
}

#[test]
fn the_sources_and_tokens_of_all_turns_are_in_the_reply() {
    let reply = researched().run(Prompt::new("hi").tool(now()).run(5)).unwrap();
    assert_eq!((reply.text().as_str(), reply.stop), ("\"noon\"", Stop::End));
    assert_eq!(reply.json(), Ok("noon".to_owned()));
    assert!(reply.tool_calls().is_empty());
    let queries: Vec<_> = reply.searches().into_iter().flat_map(|search| search.queries).collect();
    assert_eq!(queries, ["1", "2", "3"]);
    let texts: Vec<_> = reply.citations().into_iter().map(|citation| citation.text).collect();
    assert_eq!(texts, ["Let me see.", "", "\"noon\""], "each with the text of its turn");
    let Usage {
        input,
        cached_input,
        cache_write_input,
        output,
        reasoning_output,
    } = reply.usage;
    let tokens = [input, cached_input, cache_write_input, output, reasoning_output];
    assert_eq!(tokens, [30, 12, 9, 3, 3]);

    let prompt = Prompt::new("hi").tool(now()).run_json::<String>(5);
    assert_eq!(researched().run(prompt), Ok("noon".to_owned()));
}

#[test]
fn a_finished_conversation_goes_on() {
    let host = researched().model("fast", [Reply::text("12")]);
    let prompt = Prompt::new("hi").assistant("Yes?").user("What time is it?").tool(now());
    let continued = host.run(async {
        let reply = prompt.clone().run(5).await?;
        prompt.answered(reply, []).user("As a number?").run(5).await
    });
    assert_eq!(continued.unwrap().text(), "12");
    let [first, _, third, last] = host.requests().try_into().unwrap();
    assert_eq!(first.messages, last.messages[..3]);
    assert_eq!(third.messages, last.messages[..7]);
    let roles: Vec<_> = last.messages[7..].iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::Assistant, Role::User]);
}

#[test]
fn an_author_can_answer_calls_one_by_one() {
    let calls = Reply::tool_call("now", json!({})).with_tool_call("find", json!({"words": "x"}));
    let host = Host::new().model("fast", [calls, Reply::text("Noon.")]);
    let prompt = Prompt::new("hi").tool(now()).tool(find()).tool_choice(ToolChoice::Any);
    let text = host.run(async {
        let reply = prompt.clone().reply().await?;
        let results: Vec<ToolResult> = reply
            .tool_calls()
            .iter()
            .map(|call| match call.name.as_str() {
                "now" => ToolResult::new(call, "12:00"),
                _ => ToolResult::error(call, "not allowed"),
            })
            .collect();
        prompt.answered(reply, results).text().await
    });
    assert_eq!(text, Ok("Noon.".to_owned()));
    let [first, last] = host.requests().try_into().unwrap();
    let expected = [result("call-1", "12:00", false), result("call-2", "not allowed", true)];
    assert_eq!(
        (last.tool_results().as_slice(), last.messages.len()),
        (expected.as_slice(), 3)
    );
    assert_eq!(option(&first, "tool-choice"), Some("any"));
    assert_eq!(option(&last, "tool-choice"), None, "the forced call is made");
}

#[test]
fn prompts_with_the_same_tools_are_equal() {
    let tool = now();
    let prompt = Prompt::new("hi").tool(tool.clone());
    assert_eq!(prompt, prompt.clone());
    assert_ne!(prompt, Prompt::new("hi").tool(tool.clone().named("other")));
    assert_ne!(prompt, Prompt::new("hi").tool(tool.strict()));
    assert_ne!(prompt, Prompt::new("hi").tool(now()), "another closure");
}
