use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use agenthost_core::error::{Classify as _, ErrorClass};
use agenthost_core::llm::{Message, Options, Role};

fn request(model: &str, text: &str) -> Request {
    Request {
        model: model.into(),
        system: Some("You are careful.".into()),
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text(text.into())],
        }],
        max_tokens: 100,
        schema: None,
        options: Options::default(),
        mark_prefix: None,
    }
}

fn script(text: &str) -> Script {
    Script::parse(text, "test.toml").unwrap()
}

#[tokio::test(start_paused = true)]
async fn rules_are_tried_in_order_and_used_up() {
    let script = script(
        r#"
        [[rule]]
        contains = "Acme"
        times = 2
        error = "rate-limited"
        message = "slow down"
        retry-after-ms = 50
        status = 429

        [[rule]]
        contains = "Acme"
        latency-ms = 500
        json = { company = "Acme", findings = [1, 2.5, true] }
        usage = { input = 1200, output = 80, cached-input = 1000, cache-write-input = 7, reasoning-output = 9 }

        [[rule]]
        model = "strong"
        contains = "careful"
        text = "cut"
        stop = "max-tokens"
        usage = "none"
        "#,
    );
    let acme = request("fast", "About Acme.");
    for _ in 0..2 {
        let error = script.complete(&acme).await.unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ProviderErrorKind::RateLimited, "slow down")
        );
        assert_eq!(
            (error.status, error.retry_after),
            (Some(429), Some(Duration::from_millis(50)))
        );
    }
    let start = Instant::now();
    let reply = script.complete(&acme).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(500));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&reply.text()).unwrap(),
        json!({"company": "Acme", "findings": [1, 2.5, true]})
    );
    let usage = Usage {
        input: 1200,
        output: 80,
        cached_input: 1000,
        cache_write_input: 7,
        reasoning_output: 9,
        searches: 0,
    };
    assert_eq!(
        (reply.usage, reply.stop, reply.model.as_str()),
        (Some(usage), Stop::End, "fast")
    );

    let reply = script.complete(&request("strong", "other")).await.unwrap();
    assert_eq!(
        (reply.text().as_str(), reply.stop, reply.usage),
        ("cut", Stop::MaxTokens, None)
    );

    let error = script.complete(&request("fast", "other \"words\"")).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::InvalidRequest);
    assert_eq!(
        error.message,
        r#"no rule of script test.toml fits model fast and the prompt "other \"words\"""#
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_hang_refuse_or_fail_late() {
    let script = script(
        "[[rule]]\ncontains = 'hang'\nhang = true\n[[rule]]\ncontains = 'no'\nrefusal = 'I will not.'\n\
         [[rule]]\nerror = 'overloaded'\nlatency-ms = 20",
    );
    let hang = tokio::time::timeout(Duration::from_secs(86_400), script.complete(&request("m", "hang"))).await;
    assert!(hang.is_err());
    let reply = script.complete(&request("m", "no")).await.unwrap();
    assert_eq!(
        (reply.stop, reply.refusal.as_deref(), reply.text().as_str()),
        (Stop::Refusal, Some("I will not."), "")
    );
    let start = Instant::now();
    let error = script.complete(&request("m", "x")).await.unwrap_err();
    assert_eq!(
        (error.kind, start.elapsed()),
        (ProviderErrorKind::Overloaded, Duration::from_millis(20))
    );
}

#[tokio::test]
async fn answers_and_failures_tell_of_limits() {
    let script = script(
        r#"
        [[rule]]
        contains = "no"
        error = "rate-limited"
        quota = { requests = { limit = 60, remaining = 0, reset-ms = 1500 }, tokens = { limit = 9, remaining = 9 } }

        [[rule]]
        contains = "plain"
        text = "a"

        [[rule]]
        text = "a"
        [rule.quota]
        input-tokens = { limit = 1000, remaining = 1 }
        output-tokens = { limit = 2000, remaining = 2, reset-ms = 0 }
        "#,
    );
    let meter = |limit, remaining, reset: Option<u64>| {
        Some(RateLimit {
            limit,
            remaining,
            reset: reset.map(Duration::from_millis),
        })
    };
    let error = script.complete(&request("m", "no")).await.unwrap_err();
    let expected = Quota {
        requests: meter(60, 0, Some(1500)),
        tokens: meter(9, 9, None),
        ..Quota::default()
    };
    assert_eq!(error.quota.as_deref(), Some(&expected));
    let reply = script.complete(&request("m", "x")).await.unwrap();
    let expected = Quota {
        input_tokens: meter(1000, 1, None),
        output_tokens: meter(2000, 2, Some(0)),
        ..Quota::default()
    };
    assert_eq!(reply.quota.as_deref(), Some(&expected));
    assert_eq!(script.complete(&request("m", "plain")).await.unwrap().quota, None);
}

#[tokio::test]
async fn tokens_default_to_a_quarter_of_the_bytes() {
    let reply = script("[[rule]]\ntext = '123456789'")
        .complete(&request("m", "1234"))
        .await
        .unwrap();
    // 16 bytes of system text and 4 of message.
    assert_eq!(
        reply.usage,
        Some(Usage {
            input: 5,
            output: 3,
            ..Usage::default()
        })
    );
}

#[test]
fn every_kind_of_error_has_a_name() {
    for kind in ProviderErrorKind::names() {
        let found = format!("{:?}", kind_named(kind).unwrap());
        let kebab: String = found
            .char_indices()
            .map(|(at, c)| {
                if c.is_uppercase() && at > 0 {
                    format!("-{}", c.to_lowercase())
                } else {
                    c.to_lowercase().to_string()
                }
            })
            .collect();
        assert_eq!(kebab, kind);
    }
}

#[test]
fn what_makes_no_sense_is_named_by_file_and_line() {
    for (text, said) in [
        (
            "[[rule]]\ntext = 'a'\ncolour = 'red'",
            "test.toml:3: unknown field `colour`",
        ),
        ("\n[[rules]]\ntext = 'a'", "test.toml:2: unknown field `rules`"),
        (
            "[[rule]]\ntext = 'a'\n\n[[rule]]\nmodel = 'x'\n",
            "test.toml:4: a rule has exactly one of",
        ),
        (
            "[[rule]]\ntext = 'a'\njson = 1",
            "test.toml:1: a rule has exactly one of",
        ),
        ("[[rule]]\nhang = false", "test.toml:1: a rule has exactly one of"),
        (
            "[[rule]]\nerror = 'oops'",
            "test.toml:1: unknown error \"oops\"; the known ones are rate-limited, ",
        ),
        ("[[rule]]\ntext = 'a'\nstop = 'refusal'", "test.toml:1: stop is end, "),
        ("[[rule]]\nhang = true\nstop = 'end'", "test.toml:1: stop goes with"),
        (
            "[[rule]]\ntext = 'a'\nretry-after-ms = 5",
            "test.toml:1: message, status and retry-after-ms go with error",
        ),
        (
            "[[rule]]\nerror = 'server'\nusage = 'none'",
            "test.toml:1: usage goes with",
        ),
        ("[[rule]]\ntext = 'a'\nusage = 'free'", "test.toml:1: usage is a table"),
        (
            "[[rule]]\ntext = 'a'\nusage = { inputs = 1 }",
            "test.toml:3: usage is a table",
        ),
        ("[[rule]]\nhang = true\nquota = {}", "test.toml:1: quota goes with"),
        ("[[rule]]\ntools = []", "test.toml:1: tools has at least one call"),
        (
            "[[rule]]\njson = {}\ntools = [{ name = 'a' }]",
            "test.toml:1: tools go with text or alone",
        ),
        (
            "[[rule]]\ntools = [{ name = 'a', arguments = {}, invalid-arguments = '' }]",
            "test.toml:1: a call of a tool has",
        ),
        ("[[rule]]\ntools = [{ name = 'a', id = 'b' }]", "test.toml:2: "),
        (
            "[[rule]]\ntext = 'a'\nquota = { requests = { limit = 0, remaining = 0 } }",
            "test.toml:1: a quota's limit is at least 1",
        ),
        (
            "[[rule]]\ntext = 'a'\nquota = { tokens = { limit = 5, remaining = 6 } }",
            "test.toml:1: a quota's limit is at least 1, and remaining",
        ),
        (
            "[[rule]]\ntext = 'a'\nquota = { calls = { limit = 5, remaining = 5 } }",
            "test.toml:3: unknown field `calls`",
        ),
        (
            "[[rule]]\ntext = 'a'\njson = { title = null }",
            "test.toml:3: TOML has no null: write a reply that contains one as `text`",
        ),
        ("[[rule]]\njson = null", "test.toml:2: TOML has no null"),
        ("[[rule]]\ntext = 'a'\ntimes = -1", "test.toml:3: "),
        ("[[rule]]\ntext = 'a", "test.toml:2: "),
    ] {
        let error = Script::parse(text, "test.toml").unwrap_err();
        assert!(error.to_string().starts_with(&format!("script {said}")), "{error}");
        assert!(
            matches!(&error, ProviderSetupError::Script { line: Some(1..), .. }),
            "{error:?}"
        );
        assert_eq!(error.class(), ErrorClass::Config);
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_script_is_read_from_a_file() {
    let path = std::env::temp_dir().join(format!("agenthost-script-{}.toml", std::process::id()));
    std::fs::write(&path, "[[rule]]\ntext = 'a'").unwrap();
    let loaded = Script::load(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        loaded.unwrap().summary(),
        format!("script {} with 1 rules", path.display())
    );
    let missing = Script::load(&path).unwrap_err();
    assert!(missing.to_string().contains(&path.display().to_string()) && missing.hint().is_some());
    let ProviderSetupError::ReadScript { path: named, source } = missing else {
        panic!("{missing:?}");
    };
    assert_eq!((named, source.kind()), (path, std::io::ErrorKind::NotFound));
}

#[test]
fn an_unknown_key_is_compared_with_the_known_ones() {
    let error = |key: &str| {
        Script::parse(&format!("[[rule]]\n{key} = 'a'"), "test.toml")
            .unwrap_err()
            .to_string()
    };
    let near = error("latency");
    assert!(
        near.starts_with("script test.toml:2: unknown field `latency`, expected one of "),
        "{near}"
    );
    assert!(near.ends_with("; the nearest is `latency-ms`"), "{near}");
    assert!(!error("colour").contains("nearest"));
}

#[tokio::test]
async fn a_script_plays_a_loop_of_tools() {
    let script = script(
        r#"
        [[rule]]
        contains = "12 °C"
        text = "It is cold."

        [[rule]]
        contains = "weather"
        text = "Let me look."
        tools = [{ name = "weather", arguments = { city = "Oslo" } }, { name = "time", invalid-arguments = "{" }]

        [[rule]]
        tools = [{ name = "time" }]
        "#,
    );
    let tools = r#"[{"name": "weather", "parameters": {"type": "object"}}]"#;
    let mut request = request("fast", "How is the weather?");
    request.options = Options::parse([("tools", tools)]).unwrap();
    let reply = script.complete(&request).await.unwrap();
    assert_eq!((reply.text().as_str(), reply.stop), ("Let me look.", Stop::ToolUse));
    let calls = |reply: &Reply| -> Vec<(String, String, ToolArguments)> {
        let calls = reply.content.iter().filter_map(|part| match Extension::of(part)? {
            Ok(Extension::ToolCall(call)) => Some((call.id, call.name, call.arguments)),
            _ => None,
        });
        calls.collect()
    };
    let expected = [
        ("call_0", "weather", ToolArguments::read(r#"{"city": "Oslo"}"#)),
        ("call_1", "time", ToolArguments::Invalid("{".into())),
    ];
    let expected = expected.map(|(id, name, arguments)| (id.to_owned(), name.to_owned(), arguments));
    assert_eq!(calls(&reply), expected);

    request.messages.push(Message {
        role: Role::Assistant,
        content: reply.content,
    });
    let result = |id: &str, content: &str| {
        let (id, content) = (id.to_owned(), content.to_owned());
        let result = agenthost_core::llm::ToolResult {
            id,
            content,
            is_error: false,
        };
        Extension::ToolResult(result).into_part()
    };
    request.messages.push(Message {
        role: Role::User,
        content: vec![result("call_0", "It has 12 °C."), result("call_1", "noon")],
    });
    agenthost_core::llm::extension::check(&mut request.messages, &request.options, |_| true).unwrap();
    let last = script.complete(&request).await.unwrap();
    assert_eq!((last.text().as_str(), last.stop), ("It is cold.", Stop::End));

    // A further call gets an id that the conversation does not have.
    request.messages[0].content = vec![Part::Text("And now?".into())];
    request.messages[2].content = vec![result("call_0", "?"), result("call_1", "?")];
    let more = script.complete(&request).await.unwrap();
    assert_eq!(
        calls(&more),
        [("call_2".to_owned(), "time".to_owned(), ToolArguments::read("{}"))]
    );
}
