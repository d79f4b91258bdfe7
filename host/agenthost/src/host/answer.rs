//! Converts a task's request to the provider's form, and judges the provider's reply by the request.

use agenthost_core::llm::{Ask, CallError, Message, Options, Part, Reply, Request, Role, Stop};
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
        /// How it violates it.
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
            reply.content = vec![Part::Text(accepted.value.to_string())];
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

/// Removes the reasoning from the texts of a reply, and the texts that were nothing else.
fn without_reasoning(content: Vec<Part>) -> Vec<Part> {
    let part = |part| match part {
        Part::Text(text) => match reasoning::without(&text) {
            "" if !text.is_empty() => None,
            rest if rest.len() < text.len() => Some(Part::Text(rest.to_owned())),
            _ => Some(Part::Text(text)),
        },
        other => Some(other),
    };
    content.into_iter().filter_map(part).collect()
}

/// Returns the request that shows the model its invalid reply, the reason and the schema, which a server without
/// structured output has not shown it.
pub(super) fn repair(request: &Request, broken: &Reply, why: &str) -> Request {
    let text = |role, text: String| Message {
        role,
        content: vec![Part::Text(text)],
    };
    let mut request = request.clone();
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
