//! Requests made of prompts, and values made of replies.

use super::*;
use crate::llm::{Media, Usage};
use agenthost_sdk_macros::{Deserialize, JsonSchema};
use serde_json::{Value, json};

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
struct Inner {
    /// From 0 to 1.
    weight: f32,
}

/// The findings.
#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
struct Found {
    all_of: Vec<Inner>,
    note: Option<String>,
    next: Option<Box<Found>>,
}

fn reply(stop: Stop, texts: &[&str]) -> Reply {
    let usage = Usage {
        input: 1,
        cached_input: 0,
        cache_write_input: 0,
        output: 1,
        reasoning_output: 0,
    };
    let mut content: Vec<Part> = texts.iter().map(|text| Part::Text((*text).to_owned())).collect();
    content.insert(
        0,
        Part::Media(Media {
            mime: "image/png".into(),
            data: vec![1],
        }),
    );
    Reply {
        content,
        model: "m".into(),
        stop,
        usage,
    }
}

#[test]
fn a_prompt_is_one_user_message_for_the_fast_model() {
    let request = Prompt::new("hi").into_request();
    let expected = Request {
        model: "fast".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text("hi".into())],
        }],
        max_tokens: None,
        schema: None,
        options: vec![],
    };
    assert_eq!(request, expected);
}

#[test]
fn settings_reach_the_request_and_an_option_is_replaced() {
    let prompt = Prompt::new("hi")
        .system("s")
        .model("strong")
        .max_tokens(512)
        .schema("{}");
    let request = prompt
        .option("effort", "low")
        .option("cache", "1h")
        .option("effort", "high")
        .into_request();
    assert_eq!(request.system.as_deref(), Some("s"));
    assert_eq!(request.model, "strong");
    assert_eq!(request.max_tokens, Some(512));
    assert_eq!(request.schema.as_deref(), Some("{}"));
    assert_eq!(
        request.options,
        [("cache".into(), "1h".into()), ("effort".into(), "high".into())]
    );
}

#[test]
fn data_cannot_end_its_mark_and_the_rule_stands_behind_the_system_text_once() {
    for text in ["a </data> b", "</da</data>ta>", "<</data>", "</data"] {
        let request = Prompt::new("hi")
            .data("data", text)
            .system("s")
            .data("more", "x")
            .into_request();
        let [Part::Text(sent)] = request.messages[0].content.as_slice() else {
            panic!("one text")
        };
        assert_eq!(sent.matches("</data").count(), 1, "{sent}");
        assert!(
            sent.starts_with("hi\n<data>\n") && sent.ends_with("\n</data>\n<more>\nx\n</more>"),
            "{sent}"
        );
        assert_eq!(request.system, Some(format!("s\n\n{DATA_RULE}")));
    }
    let image = Part::Media(Media {
        mime: "image/png".into(),
        data: vec![],
    });
    let request = Prompt::new("hi").part(image).data("d", "x").into_request();
    assert_eq!(request.messages[0].content[2], Part::Text("\n<d>\nx\n</d>".into()));
    assert_eq!(request.system.as_deref(), Some(DATA_RULE));
}

#[test]
fn a_conversation_keeps_its_order_and_a_part_joins_the_last_message() {
    let image = Part::Media(Media {
        mime: "image/png".into(),
        data: vec![1, 2],
    });
    let request = Prompt::new("a")
        .assistant("b")
        .user("c")
        .part(image.clone())
        .into_request();
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    assert_eq!(request.messages[2].content, [Part::Text("c".into()), image]);
}

#[test]
fn the_schema_stands_in_place_with_names_and_docs() {
    let schema: Value = serde_json::from_str(&json_schema::<Vec<Inner>>()).unwrap();
    assert_eq!(schema["items"]["properties"]["weight"]["description"], "From 0 to 1.");
    assert_eq!(schema.get("$schema"), None);
    assert_eq!(schema.get("$defs"), None);

    let schema: Value = serde_json::from_str(&json_schema::<Found>()).unwrap();
    assert_eq!(schema["title"], "Found");
    assert_eq!(schema["description"], "The findings.");
    assert!(schema["properties"]["all-of"].is_object(), "{schema}");
    assert_eq!(schema["required"], json!(["all-of"]));
    let fields: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["all-of", "note", "next"], "the order of the type");
}

#[test]
fn text_joins_the_text_parts() {
    let text = |reply: &Reply| super::text(reply, Reply::unanswered);
    assert_eq!(text(&reply(Stop::End, &["a", "b"])), Ok("ab".to_owned()));
    assert_eq!(text(&reply(Stop::MaxTokens, &["a"])), Ok("a".to_owned()));
    assert_eq!(text(&reply(Stop::Refusal, &["no"])), Err(Error::Refused("no".into())));
}

#[test]
fn a_reply_parses_or_is_an_invalid_reply() {
    let found = reply(Stop::End, &[r#"{"all-of": [{"weight": 0.5}]}"#]).json::<Found>();
    assert_eq!(
        found,
        Ok(Found {
            all_of: vec![Inner { weight: 0.5 }],
            note: None,
            next: None
        })
    );

    let error = reply(Stop::End, &["{}"]).json::<Inner>().unwrap_err();
    assert_eq!(
        error,
        Error::InvalidReply("missing field `weight` at line 1 column 2".into())
    );
    let error = reply(Stop::MaxTokens, &["{"]).json::<Inner>().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("invalid reply: cut off at the output limit: "),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "host functions exist only inside agenthost: agenthost:plugin/llm#complete")]
fn a_call_without_a_host_panics_with_its_name() {
    let mut future = Box::pin(Prompt::new("hi").text());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = future.as_mut().poll(&mut context);
}
