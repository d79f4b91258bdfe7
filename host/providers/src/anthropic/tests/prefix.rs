use super::*;

fn message_of(role: Role, texts: &[&str]) -> Message {
    Message {
        role,
        content: texts.iter().map(|text| Part::Text((*text).into())).collect(),
    }
}

#[test]
fn a_marked_prefix_ends_with_a_breakpoint() {
    let marked = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    let plain = |text: &str| json!({"type": "text", "text": text});
    let unmarked = json!([
        {"role": "user", "content": [plain("a"), plain("b")]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]);
    let with = |at: usize, content: Value| {
        let mut messages = unmarked.clone();
        messages[at]["content"] = content;
        messages
    };
    for (mark, system, messages) in [
        (None, json!("S"), unmarked.clone()),
        (Some(0), json!([marked("S")]), unmarked.clone()),
        (Some(1), json!("S"), with(0, json!([marked("a"), plain("b")]))),
        (Some(2), json!("S"), with(0, json!([plain("a"), marked("b")]))),
        (Some(3), json!("S"), with(1, json!([marked("c")]))),
        (Some(4), json!("S"), with(2, json!([marked("d")]))),
        (Some(5), json!("S"), unmarked.clone()),
        (Some(usize::MAX), json!("S"), unmarked.clone()),
    ] {
        let mut request = Request {
            system: Some("S".into()),
            messages: vec![
                message_of(Role::User, &["a", "b"]),
                message_of(Role::Assistant, &["c"]),
                message_of(Role::User, &["d"]),
            ],
            mark_prefix: mark,
            ..request("")
        };
        let body = encode(&request, Form::Schema).unwrap();
        assert_eq!((&body["system"], &body["messages"]), (&system, &messages), "{mark:?}");
        assert!(body.get("cache_control").is_none());

        // The task's own cache option has priority.
        request.options.cache = Some(CacheTtl::FiveMinutes);
        let body = encode(&request, Form::Schema).unwrap();
        assert_eq!((&body["system"], &body["messages"]), (&json!("S"), &unmarked));
        assert_eq!(body["cache_control"], json!({"type": "ephemeral", "ttl": "5m"}));
    }
}

#[test]
fn a_mark_falls_on_media_and_on_the_schemas_words_but_not_on_nothing() {
    let ephemeral = json!({"type": "ephemeral"});
    let media = Part::Media {
        mime: "application/pdf".into(),
        data: vec![37],
    };
    let mut request = Request {
        mark_prefix: Some(1),
        ..request("")
    };
    request.messages[0].content = vec![media];
    let body = encode(&request, Form::Schema).unwrap();
    assert_eq!(body.pointer("/messages/0/content/0/cache_control"), Some(&ephemeral));

    request.mark_prefix = Some(0);
    for system in [None, Some(String::new())] {
        request.system.clone_from(&system);
        let body = encode(&request, Form::Schema).unwrap();
        assert_eq!(body.get("system").and_then(Value::as_str), system.as_deref());
        assert!(!body.to_string().contains("cache_control"));
    }
    // A schema that only text can express is part of the system text.
    request.schema = Some(json!({"type": "object", "additionalProperties": {"type": "string"}}));
    let body = encode(&request, Form::Schema).unwrap();
    assert_eq!(body.pointer("/system/0/cache_control"), Some(&ephemeral));
    let text = body.pointer("/system/0/text").and_then(Value::as_str).unwrap();
    assert!(text.contains("additionalProperties"), "{text}");
}
