//! Converts a task's request to the provider's form, and judges the provider's reply by the request.

use super::echoes::ReceivedEchoes;
use agenthost_core::llm::{
    Ask, CallError, Citation, Extension, Message, Options, Part, Reply, Request, Role, Stop, ToolChoice, extension,
};
use agenthost_providers::reasoning;
use agenthost_providers::schema::{self, Accepted, Unfit};

/// The verdict on a reply.
pub(super) enum Judged {
    /// The reply satisfies the request.
    Fine(Reply),
    /// The reply is unusable, and a repair would not help.
    Wrong(CallError),
    /// The reply violates the schema.
    Broken {
        /// The reply.
        reply: Reply,
        /// The violation.
        why: String,
    },
}

/// Converts a task's request for a provider. The model is chosen later. `received` is what the task may send back.
/// Returns an error for an invalid request.
pub(super) fn request(mut ask: Ask, reply_tokens: u32, received: &ReceivedEchoes) -> Result<Request, CallError> {
    let wrong = |why: String| CallError::InvalidRequest(why);
    if ask.max_tokens == Some(0) {
        return Err(wrong("max-tokens is 0".into()));
    }
    let pairs = ask.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = Options::parse(pairs).map_err(wrong)?;
    extension::check(&mut ask.messages, &options, |extension| received.has(extension)).map_err(wrong)?;
    if ask.messages.iter().all(|message| message.content.is_empty()) {
        return Err(wrong("the request has no message with content".into()));
    }
    let schema = ask
        .schema
        // The schema is compiled later, once the call is reserved.
        .map(|text| schema::read(&text).map_err(wrong))
        .transpose()?;
    Ok(Request {
        model: String::new(),
        system: ask.system,
        messages: ask.messages,
        max_tokens: ask.max_tokens.unwrap_or(reply_tokens),
        schema,
        options,
        mark_prefix: None,
    })
}

/// Returns whether the model answered, so that a schema applies.
pub(super) fn is_answer(reply: &Reply) -> bool {
    let calls_tool = || {
        let mut extensions = reply.content.iter().filter_map(Extension::of);
        extensions.any(|extension| matches!(extension, Ok(Extension::ToolCall(_))))
    };
    match reply.stop {
        Stop::Refusal | Stop::ContextFull => false,
        Stop::ToolUse => !calls_tool(),
        _ => true,
    }
}

/// The output limit of a request, and the output of its reply.
#[derive(Clone, Copy, Default)]
pub(super) struct OutputLimit {
    /// The limit that was sent, in tokens.
    pub(super) tokens: u32,
    /// The output that the provider counted; `None` if it did not count.
    pub(super) counted: Option<u64>,
}

impl OutputLimit {
    /// Returns whether the limit cut the reply off. Some servers do not say so, and some count past it.
    fn cut_off(&self, stop: Stop, unfit: &Unfit) -> bool {
        let limit = u64::from(self.tokens);
        stop == Stop::MaxTokens
            || self.counted == Some(limit)
            || (unfit.is_open && self.counted.is_some_and(|counted| counted > limit))
    }
}

/// Judges a reply by its stop reason and, if the request has a schema, by the result of validating it.
pub(super) fn judge(mut reply: Reply, accepted: Option<Result<Accepted, Unfit>>, limit: OutputLimit) -> Judged {
    match reply.stop {
        Stop::Refusal => {
            let why = reply.refusal.take().unwrap_or_else(|| reply.text());
            let why = if why.trim().is_empty() {
                "the model declined to answer".into()
            } else {
                why
            };
            return Judged::Wrong(CallError::Refused(why));
        }
        Stop::ContextFull => return Judged::Wrong(CallError::ContextOverflow),
        _ => {}
    }
    let Some(accepted) = accepted else {
        reply.content = without_reasoning(reply.content);
        return Judged::Fine(reply);
    };
    match accepted {
        Ok(accepted) => {
            reply.content = with_value(reply.content, accepted.value.to_string());
            Judged::Fine(reply)
        }
        // With the same token limit, the next reply would be cut off, too.
        Err(unfit) if limit.cut_off(reply.stop, &unfit) => {
            let after = match limit.counted {
                Some(tokens) => format!(" after {tokens} tokens"),
                None => String::new(),
            };
            Judged::Wrong(CallError::InvalidReply(format!(
                "the reply was cut off{after}, before its JSON was complete; its limit was {} tokens",
                limit.tokens
            )))
        }
        Err(unfit) => Judged::Broken { reply, why: unfit.why },
    }
}

/// Replaces the texts of a reply with the value that satisfies its schema, in the place of the last one. What belongs to
/// the conversation stays.
fn with_value(content: Vec<Part>, value: String) -> Vec<Part> {
    let last = content.iter().rposition(|part| matches!(part, Part::Text(_)));
    let mut value = Some(Part::Text(value));
    let mut kept = Vec::new();
    for (at, part) in content.into_iter().enumerate() {
        match part {
            Part::Text(_) => kept.extend(value.take_if(|_| Some(at) == last)),
            part => match Extension::of(&part) {
                Some(Ok(Extension::Citation(citation))) => kept.push(without_place(citation)),
                Some(Ok(_)) => kept.push(part),
                _ => {}
            },
        }
    }
    kept.extend(value);
    kept
}

/// Returns a citation of a text that has changed.
fn without_place(citation: Citation) -> Part {
    let citation = Citation {
        start: None,
        end: None,
        ..citation
    };
    Extension::Citation(citation).into_part()
}

/// Removes the reasoning from the texts of a reply, and the texts that were nothing else.
fn without_reasoning(content: Vec<Part>) -> Vec<Part> {
    let mut kept = Vec::with_capacity(content.len());
    let mut is_changed = false;
    for part in content {
        match part {
            Part::Text(text) => {
                let rest = reasoning::without(&text);
                is_changed = rest.len() < text.len();
                if !rest.is_empty() || text.is_empty() {
                    kept.push(Part::Text(rest.to_owned()));
                }
            }
            part => match Extension::of(&part).filter(|_| is_changed) {
                Some(Ok(Extension::Citation(citation))) => kept.push(without_place(citation)),
                _ => kept.push(part),
            },
        }
    }
    kept
}

/// Returns the request that shows the model its invalid reply, the reason and the schema, which a server without
/// structured output has not shown it.
pub(super) fn repair(request: &Request, broken: &Reply, why: &str) -> Request {
    let text = |role, text: String| Message {
        role,
        content: vec![Part::Text(text)],
    };
    let mut request = request.clone();
    // The tools stay, because the conversation may have calls of them.
    if !request.options.tools.is_empty() {
        request.options.tool_choice = Some(ToolChoice::None);
    }
    // The reply is corrected, and not looked up again.
    request.options.server_tools.clear();
    let wrote = broken.text();
    let wrote = reasoning::without(&wrote);
    // Both vendors reject an empty message.
    if !wrote.trim().is_empty() {
        request.messages.push(text(Role::Assistant, wrote.to_owned()));
    }
    let mut asked = format!(
        "This reply does not satisfy the JSON Schema: {why}\nReply again with the whole corrected JSON value and nothing else."
    );
    if let Some(schema) = &request.schema {
        asked.push_str(&format!(" It must satisfy this JSON Schema:\n{schema}"));
    }
    request.messages.push(text(Role::User, asked));
    request
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use agenthost_core::llm::Usage;

    fn reply(text: &str, stop: Stop) -> Reply {
        Reply::of(vec![Part::Text(text.to_owned())])
            .with_model("m")
            .with_stop(stop)
            .with_usage(Some(Usage {
                input: 100,
                output: 20,
                ..Usage::default()
            }))
    }

    fn limit(tokens: u32, counted: impl Into<Option<u64>>) -> OutputLimit {
        OutputLimit {
            tokens,
            counted: counted.into(),
        }
    }

    #[test]
    fn a_reply_that_was_cut_off_is_not_repaired() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let cut = "{\"a\": \"b";
        for (text, stop, limit, is_cut) in [
            (cut, Stop::MaxTokens, limit(300, 280), true),
            (cut, Stop::MaxTokens, limit(300, None), true),
            // The server gives another reason, but the count tells.
            (cut, Stop::End, limit(300, 300), true),
            (cut, Stop::Other, limit(300, 301), true),
            (cut, Stop::End, limit(300, 20), false),
            (cut, Stop::End, limit(300, None), false),
            // All of the limit went into reasoning.
            ("<think>so", Stop::End, limit(300, 300), true),
            // The server counts past the limit, and the reply is whole.
            ("{\"a\": 1}", Stop::End, limit(300, 90_000), false),
        ] {
            let checker = schema::Checker::new(&schema).unwrap();
            let judged = judge(reply(text, stop), Some(checker.accept(text)), limit);
            match judged {
                Judged::Wrong(CallError::InvalidReply(why)) => {
                    assert!(is_cut, "{text}: {why}");
                    let after = limit
                        .counted
                        .map_or(String::new(), |counted| format!(" after {counted} tokens"));
                    assert!(why.starts_with(&format!("the reply was cut off{after}, ")), "{why}");
                    assert!(why.ends_with("its limit was 300 tokens"), "{why}");
                }
                Judged::Broken { .. } => assert!(!is_cut, "{text}"),
                _ => panic!("{text} {stop:?}"),
            }
        }
    }

    #[test]
    fn a_task_never_receives_reasoning() {
        for (text, kept) in [
            ("<think>hm</think>\n\nParis", Some("Paris")),
            ("hm\n</think>\n\nParis", Some("Paris")),
            ("Paris", Some("Paris")),
            ("<think>hm", None),
        ] {
            let Judged::Fine(reply) = judge(reply(text, Stop::End), None, limit(300, 20)) else {
                panic!("{text}");
            };
            let content: Vec<Part> = kept.map(|text| Part::Text(text.to_owned())).into_iter().collect();
            assert_eq!(reply.content, content, "{text}");
        }
    }

    #[test]
    fn a_repair_shows_the_reply_without_reasoning_and_the_schema() {
        let request = Request {
            model: "m".to_owned(),
            system: None,
            messages: Vec::new(),
            max_tokens: 300,
            schema: Some(json!({"type": "object"})),
            options: Options::default(),
            mark_prefix: None,
        };
        let texts = |broken: &str| -> Vec<String> {
            let repair = repair(&request, &reply(broken, Stop::End), "no JSON");
            let texts = repair.messages.into_iter().flat_map(|message| message.content);
            texts.map(|part| format!("{part:?}")).collect()
        };
        let [wrote, asked] = texts("<think>hm</think>[1]").try_into().unwrap();
        assert!(wrote.contains("[1]") && !wrote.contains("hm"), "{wrote}");
        assert!(
            asked.contains("no JSON") && asked.contains(r#"{\"type\":\"object\"}"#),
            "{asked}"
        );
        assert_eq!(
            texts("<think>hm</think>").len(),
            1,
            "an empty message is refused by the services"
        );
    }
}
