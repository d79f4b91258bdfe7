//! Converts a task's request to the provider's form, and judges the provider's reply by the request.

use serde_json::Value;

use agenthost_core::llm::{Ask, CallError, Message, Options, Part, Reply, Request, Role, Stop};
use agenthost_providers::schema;

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

/// Converts a task's request for a provider. The model is chosen later. Returns an error for an invalid request.
pub(super) fn request(ask: Ask, reply_tokens: u32) -> Result<Request, CallError> {
    let wrong = |why: String| CallError::InvalidRequest(why);
    if ask.messages.iter().all(|message| message.content.is_empty()) {
        return Err(wrong("the request has no message with content".into()));
    }
    if ask.max_tokens == Some(0) {
        return Err(wrong("max-tokens is 0".into()));
    }
    let pairs = ask.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let options = Options::parse(pairs).map_err(wrong)?;
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
    !matches!(reply.stop, Stop::Refusal | Stop::ContextFull)
}

/// Judges a reply by its stop reason and, if the request has a schema, by the result of validating it. The reply's
/// usage is as booked.
pub(super) fn judge(mut reply: Reply, accepted: Option<Result<Value, String>>) -> Judged {
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
        return Judged::Fine(reply);
    };
    match accepted {
        Ok(value) => {
            reply.content = vec![Part::Text(value.to_string())];
            Judged::Fine(reply)
        }
        // With the same token limit, the next reply would be cut off, too.
        Err(_) if reply.stop == Stop::MaxTokens => {
            let output = reply.usage.map_or(0, |usage| usage.output);
            Judged::Wrong(CallError::InvalidReply(format!(
                "the reply was cut off after {output} tokens, before its JSON was complete"
            )))
        }
        Err(why) => Judged::Broken { reply, why },
    }
}

/// Returns the request that shows the model its invalid reply and the reason.
pub(super) fn repair(request: &Request, broken: &Reply, why: &str) -> Request {
    let text = |role, text: String| Message {
        role,
        content: vec![Part::Text(text)],
    };
    let mut request = request.clone();
    let wrote = broken.text();
    // Both vendors reject an empty message.
    if !wrote.trim().is_empty() {
        request.messages.push(text(Role::Assistant, wrote));
    }
    let asked = format!(
        "This reply does not satisfy the JSON Schema: {why}\nReply again with the whole corrected JSON value and nothing else."
    );
    request.messages.push(text(Role::User, asked));
    request
}
