//! Searches at the provider: the request's option, plugins that go on without a grant, and the sources of a reply.

#![expect(clippy::unwrap_used, reason = "a test, with helpers outside of its functions")]

use agenthost_sdk::llm::{Error, Extension, Part, Request, Stop, Usage};
use agenthost_sdk::prelude::*;
use agenthost_sdk::serde_json::json;
use agenthost_sdk::testing::{Host, Reply};
use agenthost_sdk::{Citation, WebPage, WebSearch};

fn denied() -> Reply {
    Reply::error(Error::Denied("web-search".to_owned()))
}

fn server_tools(request: &Request) -> Option<&str> {
    let found = request.options.iter().find(|(name, _)| name == "server-tools");
    found.map(|(_, value)| value.as_str())
}

/// The option `server-tools` of each request of a host.
fn sent(host: &Host) -> Vec<Option<String>> {
    let requests = host.requests();
    requests
        .iter()
        .map(|request| server_tools(request).map(str::to_owned))
        .collect()
}

fn now() -> Tool {
    Tool::new::<()>("now", "Returns the time.", async |()| "12:00".to_owned())
}

const SEARCH: &str = r#"{"kind":"web-search","max-uses":2}"#;
const FETCH: &str = r#"{"kind":"web-fetch"}"#;

fn list(tools: &[&str]) -> Option<String> {
    Some(format!("[{}]", tools.join(",")))
}

#[test]
fn each_kind_of_tool_is_in_the_request_once() {
    let prompt = Prompt::new("hi")
        .search(Search::default().domains(["example.com"]).domains(["example.org"]))
        .fetch_if_granted(Search::default())
        .search(Search::uses(2));
    assert_eq!(
        server_tools(&prompt.into_request()).map(str::to_owned),
        list(&[FETCH, SEARCH])
    );
    let blocked = Prompt::new("hi").fetch(Search::uses(1).without(["example.com"]));
    assert_eq!(
        server_tools(&blocked.into_request()),
        Some(r#"[{"kind":"web-fetch","max-uses":1,"blocked-domains":["example.com"]}]"#)
    );
    assert_eq!(server_tools(&Prompt::new("hi").into_request()), None);
}

#[test]
fn an_empty_list_of_domains_is_sent_for_the_host_to_reject() {
    let none: [&str; 0] = [];
    let prompt = Prompt::new("hi")
        .search(Search::uses(2).domains(none))
        .fetch(Search::default().without(none));
    let expected = list(&[
        r#"{"kind":"web-search","max-uses":2,"allowed-domains":[]}"#,
        r#"{"kind":"web-fetch","blocked-domains":[]}"#,
    ]);
    assert_eq!(server_tools(&prompt.into_request()).map(str::to_owned), expected);
}

/// Runs a test of this file in a process of its own. Returns what it writes to the standard error.
fn log_of(test: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let ran = std::process::Command::new(this)
        .args(["--exact", test, "--nocapture"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn a_denial_is_in_the_log_unless_it_fails_the_call() {
    let line = |denial: &str| format!("the model call is denied: {denial}; it is sent again without web-search");
    let log = log_of("every_way_of_sending_goes_on_without_the_grant");
    assert_eq!(log.matches(&line("web-search")).count(), 6, "{log}");
    let log = log_of("a_conversation_is_denied_once_and_no_turn_is_lost");
    assert_eq!(log.matches(&line("web-search")).count(), 1, "{log}");
    let log = log_of("with_the_grant_nothing_is_sent_twice");
    assert!(!log.contains("denied"), "{log}");
}

#[test]
fn every_way_of_sending_goes_on_without_the_grant() {
    let prompt = || Prompt::new("hi").search_if_granted(Search::uses(2));
    let host = Host::new().model(
        "fast",
        ["text", "reply", "\"json\"", "run", "\"run_json\"", "json_text"]
            .into_iter()
            .flat_map(|text| [denied(), Reply::text(text)]),
    );
    assert_eq!(host.run(prompt().text()), Ok("text".to_owned()));
    assert_eq!(host.run(prompt().reply()).unwrap().text(), "reply");
    assert_eq!(host.run(prompt().json::<String>()), Ok("json".to_owned()));
    assert_eq!(host.run(prompt().run(1)).unwrap().text(), "run");
    assert_eq!(host.run(prompt().run_json::<String>(2)), Ok("run_json".to_owned()));
    assert_eq!(host.run(prompt().json_text()), Ok("\"json_text\"".to_owned()));
    assert_eq!(sent(&host), vec![[list(&[SEARCH]), None]; 6].concat());
}

#[test]
fn with_the_grant_nothing_is_sent_twice() {
    let host = Host::new().model("fast", [Reply::text("found"), Reply::error(Error::ContextOverflow)]);
    let prompt = Prompt::new("hi").search_if_granted(Search::uses(2));
    assert_eq!(host.run(prompt.clone().text()), Ok("found".to_owned()));
    assert_eq!(host.run(prompt.text()), Err(Error::ContextOverflow));
    assert_eq!(sent(&host), [list(&[SEARCH]), list(&[SEARCH])]);
}

#[test]
fn only_what_need_not_be_granted_is_left_out() {
    let host = || Host::new().model("fast", [denied(), denied()]);

    let both = Prompt::new("hi")
        .search_if_granted(Search::uses(2))
        .fetch(Search::default());
    let failing = host();
    assert_eq!(failing.run(both.text()), Err(Error::Denied("web-search".to_owned())));
    assert_eq!(sent(&failing), [list(&[SEARCH, FETCH]), list(&[FETCH])]);

    let last_wins = Prompt::new("hi")
        .search_if_granted(Search::uses(9))
        .search(Search::uses(2));
    let failing = host();
    assert!(failing.run(last_wins.text()).is_err());
    assert_eq!(sent(&failing), [list(&[SEARCH])]);

    let model = Prompt::new("hi").search_if_granted(Search::uses(2)).system("Be brief.");
    let failing = host();
    assert!(failing.run(model.reply()).is_err(), "the model itself is not granted");
    let [first, second] = failing.requests().try_into().unwrap();
    let without = Request {
        options: vec![],
        ..first
    };
    assert_eq!(without, second, "the same request but for the search");
}

#[test]
fn a_conversation_is_denied_once_and_no_turn_is_lost() {
    let call = || Reply::tool_call("now", json!({}));
    let host = Host::new().model("fast", [denied(), call(), Reply::text("Noon.")]);
    let prompt = Prompt::new("hi").tool(now()).search_if_granted(Search::uses(2));
    assert_eq!(host.run(prompt.run(2)).unwrap().text(), "Noon.");
    assert_eq!(sent(&host), [list(&[SEARCH]), None, None]);

    let host = Host::new().model("fast", [call(), Reply::text("Noon.")]);
    let prompt = Prompt::new("hi").tool(now()).search(Search::uses(2));
    assert_eq!(host.run(prompt.run(2)).unwrap().text(), "Noon.");
    assert_eq!(sent(&host), [list(&[SEARCH]), list(&[SEARCH])]);

    let host = Host::new().model("fast", [call(), denied()]);
    let prompt = Prompt::new("hi").tool(now()).search(Search::uses(2));
    assert_eq!(host.run(prompt.run(3)).unwrap_err().class(), "denied");
}

#[test]
fn a_citation_has_the_text_before_it() {
    let cited = |quote: &str, url: &str| Citation {
        title: Some("Prices".to_owned()),
        quote: Some(quote.to_owned()),
        ..Citation::new(url)
    };
    let first = Reply::text("It costs 5 CHF.")
        .with_citation(cited("5 CHF", "https://example.com/a"))
        .with_citation(cited("CHF 5", "https://example.com/b"));
    let host = Host::new().model("fast", [first]);
    let citations = host
        .run(Prompt::new("hi").search(Search::uses(2)).reply())
        .unwrap()
        .citations();
    let texts: Vec<_> = citations.iter().map(|citation| citation.text.as_str()).collect();
    assert_eq!(texts, ["It costs 5 CHF.", "It costs 5 CHF."]);
    assert_eq!(citations[1].url, "https://example.com/b");
    assert_eq!(citations[1].quote.as_deref(), Some("CHF 5"));
}

#[test]
fn the_parts_of_the_contract_are_read_with_members_that_are_not_known() {
    let extension = |kind: &str, json: &str| {
        Part::Extension(Extension {
            kind: kind.to_owned(),
            json: json.to_owned(),
        })
    };
    let reply = agenthost_sdk::llm::Reply {
        content: vec![
            extension(
                "search",
                r#"{"tool":"web-search","queries":["a"],"results":[{"url":"u","rank":1}],"new":{}}"#,
            ),
            extension("search", r#"{"tool":"web-fetch","error":"max_uses_exceeded"}"#),
            extension("citation", r#"{"url":"before any text"}"#),
            Part::Text("One.".to_owned()),
            extension("echo", r#"{"wire":"anthropic","model":"m","block":{}}"#),
            extension("citation", r#"{"url":"u","start":0,"end":4,"echo":{"wire":"x"}}"#),
            Part::Text("Two.".to_owned()),
            extension("citation", r#"{"title":"without an address"}"#),
            extension("tool-call", r#"{"id":"1","name":"n","invalid-arguments":"{"}"#),
            extension("tool-call", "not JSON"),
        ],
        model: "m".to_owned(),
        stop: Stop::End,
        usage: Usage {
            input: 0,
            cached_input: 0,
            cache_write_input: 0,
            output: 0,
            reasoning_output: 0,
        },
    };
    let page = WebPage {
        url: "u".to_owned(),
        title: None,
    };
    let found = WebSearch {
        results: vec![page],
        ..WebSearch::new(["a"])
    };
    let failed = WebSearch {
        tool: "web-fetch".to_owned(),
        error: Some("max_uses_exceeded".to_owned()),
        ..WebSearch::new([""; 0])
    };
    assert_eq!(reply.searches(), [found, failed]);
    let cited: Vec<_> = reply
        .citations()
        .into_iter()
        .map(|citation| (citation.url, citation.text))
        .collect();
    let pair = |url: &str, text: &str| (url.to_owned(), text.to_owned());
    assert_eq!(cited, [pair("before any text", ""), pair("u", "One.")]);
    let calls = reply.tool_calls();
    assert_eq!((calls.len(), &calls[0].arguments), (1, &json!("{")));
    assert_eq!(reply.text(), "One.Two.");
}
