//! A provider without key and network, so that everything runs on a fresh machine.
//!
//! It generates a reply that matches the requested schema, and marks every text as generated. The reply is a function
//! of the request alone: the same request gets the same reply on every machine, and different requests differ in the
//! cases, counts and numbers that their schema leaves open.
//!
//! If tools are offered, the first reply calls each of them once, with arguments made from its schema; once the
//! conversation has results, it answers. With server tools, the answer has a search and a citation that are marked as
//! made up.
//!
//! Left out: meaning. Tokens are counted as a quarter of the bytes, which is close to the truth for English.

mod make;
mod pattern;
mod tools;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};

use self::make::MARK;
use agenthost_core::llm::{
    Extension, Message, Part, Provider, ProviderError, Reply, Request, Role, ServerToolKind, Stop, Usage,
};

/// The length of the quote from the last message in a reply without a schema, in characters.
const QUOTED: usize = 80;
/// The number of bytes that count as one token.
const BYTES_PER_TOKEN: u64 = 4;

/// The built-in provider that replies without a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offline;

impl Provider for Offline {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        std::future::ready(Ok(answer(request))).boxed()
    }

    fn kind(&self) -> &'static str {
        "offline"
    }

    fn summary(&self) -> String {
        "offline: made-up answers, no model is called".to_owned()
    }

    fn is_offline(&self) -> bool {
        true
    }

    fn lacks(&self, _tool: &agenthost_core::llm::ServerTool) -> Option<String> {
        None
    }
}

/// Returns whether the offline provider made up a reply with this text, as far as its mark shows it: a reply whose schema
/// allows no free text has none.
///
/// ```
/// use agenthost_providers::offline::is_made_up;
///
/// assert!(is_made_up("[offline] no model was asked: Name a color."));
/// assert!(!is_made_up("Blue."));
/// ```
pub fn is_made_up(text: &str) -> bool {
    text.contains(MARK)
}

fn answer(request: &Request) -> Reply {
    let seed = fingerprint(request);
    let calls = tools::calls(request, seed);
    if !calls.is_empty() {
        let output = calls
            .iter()
            .map(|call| tokens(&call.name) + tokens(&call.arguments.text()));
        let usage = usage(request, output.sum());
        let content = calls.into_iter().map(|call| Extension::ToolCall(call).into_part());
        return Reply::of(content.collect())
            .with_model(&request.model)
            .with_stop(Stop::ToolUse)
            .with_usage(usage);
    }
    let text = match &request.schema {
        Some(schema) => make::value(schema, seed).to_string(),
        None => quote(request),
    };
    let limit = BYTES_PER_TOKEN.saturating_mul(u64::from(request.max_tokens));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (text, stop) = if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_default();
        (text.get(..end).unwrap_or_default().to_owned(), Stop::MaxTokens)
    } else {
        (text, Stop::End)
    };
    let searched = request.options.server_tools.iter();
    let usage = Usage {
        searches: searched.filter(|tool| tool.kind == ServerToolKind::WebSearch).count() as u64,
        ..usage(request, tokens(&text))
    };
    Reply::of(tools::with_sources(request, text, &quote(request)))
        .with_model(&request.model)
        .with_stop(stop)
        .with_usage(usage)
}

fn usage(request: &Request, output: u64) -> Usage {
    Usage {
        input: input_tokens(request),
        output,
        ..Usage::default()
    }
}

/// The number of input tokens to report for `request`: a quarter of its bytes, rounded up.
pub(super) fn input_tokens(request: &Request) -> u64 {
    request.bytes().div_ceil(BYTES_PER_TOKEN)
}

/// The number of output tokens to report for a reply, computed in the same way.
pub(super) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(BYTES_PER_TOKEN)
}

fn quote(request: &Request) -> String {
    let has_text = |message: &&Message| message.content.iter().any(|part| matches!(part, Part::Text(_)));
    let asked = request
        .messages
        .iter()
        .rev()
        .filter(|message| message.role == Role::User)
        .find(has_text);
    let text: String = asked
        .into_iter()
        .flat_map(|message| &message.content)
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Media { .. } | Part::Extension { .. } => None,
        })
        .collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{MARK} no model was asked: {}…", text.get(..end).unwrap_or_default()),
        None => format!("{MARK} no model was asked: {text}"),
    }
}

/// Hashes everything in `request` that would change a model's reply. The length of each piece is included, so that no
/// two requests have the same encoding.
fn fingerprint(request: &Request) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |piece: &[u8]| {
        hash.update((piece.len() as u64).to_le_bytes());
        hash.update(piece);
    };
    add(request.model.as_bytes());
    add(request.system.as_deref().unwrap_or_default().as_bytes());
    for message in &request.messages {
        add(if message.role == Role::User {
            b"user"
        } else {
            b"assistant"
        });
        for part in &message.content {
            match part {
                Part::Text(text) => add(text.as_bytes()),
                Part::Media { mime, data } => {
                    add(mime.as_bytes());
                    add(data);
                }
                Part::Extension { kind, json } => {
                    add(kind.as_bytes());
                    add(json.as_bytes());
                }
            }
        }
    }
    add(request
        .schema
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
        .as_bytes());
    for tool in &request.options.tools {
        add(tool.name.as_bytes());
        add(tool.parameters.to_string().as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
