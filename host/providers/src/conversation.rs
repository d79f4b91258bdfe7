//! A request's conversation in the terms that all wires share, so that a wire only writes typed blocks as its JSON.
//!
//! Content that does not belong on a wire is left out here: the blocks of another wire or model, and reports of
//! searches. The results of tools come first in their message, because every vendor wants them next to the calls. A
//! block keeps the mark of the prefix to cache, which counts the parts of the request as the task wrote them.

use agenthost_core::llm::{
    Citation, Echo, Extension, Part, ProviderError, ProviderErrorKind, Request, Role, ToolCall, ToolResult,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// The image types that all wires accept.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

/// A wire, and the content that it accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speaker {
    /// The wire, by the name of the provider kind.
    pub(crate) wire: &'static str,
    /// The name in error messages.
    pub(crate) name: &'static str,
    /// `true` if it takes PDF documents.
    pub(crate) takes_documents: bool,
}

impl Speaker {
    /// Creates the error for a request that the wire cannot carry.
    pub(crate) fn cannot(&self, what: &str) -> ProviderError {
        invalid(format!("{} {what}", self.name))
    }
}

/// Creates an error for an invalid request.
pub(crate) fn invalid(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::InvalidRequest, message)
}

/// The conversation of a request.
#[derive(Debug)]
pub(crate) struct Conversation<'a> {
    /// The messages that have content on this wire.
    pub(crate) turns: Vec<Turn<'a>>,
    /// `true` if the request marks a prefix that it has.
    pub(crate) is_marked: bool,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) blocks: Vec<Block<'a>>,
}

/// A piece of content.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) content: Content<'a>,
    /// `true` if this block and everything before it belong to the marked prefix.
    pub(crate) in_prefix: bool,
}

/// The content of a block.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Text, with the citations that follow it.
    Text { text: &'a str, citations: Vec<Citation> },
    /// An image of a type that the wire takes.
    Image(Media<'a>),
    /// A PDF document, if the wire takes them.
    Document(Media<'a>),
    /// A call of a tool; its echo fits the wire and the model.
    ToolCall(ToolCall),
    /// The result of a call.
    ToolResult(ToolResult),
    /// A block of this wire and model, as it came.
    Echo(Value),
}

/// Bytes with their media type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Media<'a> {
    pub(crate) mime: &'a str,
    data: &'a [u8],
}

impl Media<'_> {
    /// Returns the bytes as base64.
    pub(crate) fn base64(&self) -> String {
        BASE64.encode(self.data)
    }

    /// Returns the address that contains the bytes.
    pub(crate) fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.mime, self.base64())
    }
}

impl<'a> Conversation<'a> {
    /// Reads the messages of `request`.
    ///
    /// # Errors
    ///
    /// Returns an invalid request if a message has content that the wire cannot carry.
    pub(crate) fn of(request: &'a Request, speaker: &Speaker) -> Result<Self, ProviderError> {
        let parts: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let prefix = request.mark_prefix.filter(|mark| *mark <= parts);
        let mut turns = Vec::with_capacity(request.messages.len());
        let mut index = 0;
        let mut is_before = true;
        for message in &request.messages {
            // Each with the index after its last part.
            let mut blocks: Vec<(usize, Content<'a>)> = Vec::with_capacity(message.content.len());
            for part in &message.content {
                index += 1;
                match read(part, message.role, request, speaker)? {
                    Read::Content(content) => blocks.push((index, content)),
                    Read::Citation(citation) => {
                        if let Some((end, Content::Text { citations, .. })) = blocks.last_mut() {
                            citations.push(citation);
                            *end = index;
                        }
                    }
                    Read::Nothing => {}
                }
            }
            if blocks.is_empty() && !message.content.is_empty() {
                continue;
            }
            let is_later = |(_, content): &(usize, Content<'_>)| !matches!(content, Content::ToolResult(_));
            blocks.sort_by_key(is_later);
            let blocks = blocks.into_iter().map(|(end, content)| {
                is_before &= prefix.is_some_and(|mark| end <= mark);
                Block {
                    content,
                    in_prefix: is_before,
                }
            });
            turns.push(Turn {
                role: message.role,
                blocks: blocks.collect(),
            });
        }
        Ok(Self {
            turns,
            is_marked: prefix.is_some(),
        })
    }
}

/// Returns the blocks of this wire and model that the request sends back.
pub(crate) fn echoes<'a>(request: &'a Request, wire: &'a str) -> impl Iterator<Item = Value> + 'a {
    let parts = request.messages.iter().flat_map(|message| &message.content);
    parts.filter_map(move |part| match Extension::of(part) {
        Some(Ok(Extension::Echo(echo))) => Some(echo.block).filter(|_| wire == echo.wire),
        _ => None,
    })
}

enum Read<'a> {
    Content(Content<'a>),
    Citation(Citation),
    Nothing,
}

fn read<'a>(part: &'a Part, role: Role, request: &Request, speaker: &Speaker) -> Result<Read<'a>, ProviderError> {
    let fitting = |echo: Option<Echo>| echo.filter(|echo| echo.fits(speaker.wire, &request.model));
    let extension = match part {
        Part::Text(text) => {
            let citations = Vec::new();
            return Ok(Read::Content(Content::Text { text, citations }));
        }
        Part::Media { .. } if role == Role::Assistant => {
            return Err(speaker.cannot("takes media in user messages only"));
        }
        Part::Media { mime, data } => {
            let media = Media { mime, data };
            return match mime.as_str() {
                image if IMAGES.contains(&image) => Ok(Read::Content(Content::Image(media))),
                PDF if speaker.takes_documents => Ok(Read::Content(Content::Document(media))),
                other => {
                    let documents = if speaker.takes_documents {
                        " and application/pdf"
                    } else {
                        ""
                    };
                    Err(speaker.cannot(&format!("takes {}{documents}, not {other:?}", IMAGES.join(", "))))
                }
            };
        }
        Part::Extension { kind, json } => Extension::read(kind, json).map_err(invalid)?,
    };
    Ok(match extension {
        Extension::ToolCall(call) => Read::Content(Content::ToolCall(ToolCall {
            echo: fitting(call.echo),
            ..call
        })),
        Extension::ToolResult(result) => Read::Content(Content::ToolResult(result)),
        Extension::Citation(citation) => Read::Citation(Citation {
            echo: fitting(citation.echo),
            ..citation
        }),
        Extension::Echo(echo) => {
            fitting(Some(echo)).map_or(Read::Nothing, |echo| Read::Content(Content::Echo(echo.block)))
        }
        // A search is only a report, and a later kind has no form on any wire yet.
        _ => Read::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use agenthost_core::llm::{Message, Options, SearchReport};
    use serde_json::json;

    use super::*;

    const SPEAKER: Speaker = Speaker {
        wire: "here",
        name: "this wire",
        takes_documents: false,
    };

    fn echo(wire: &str, model: &str) -> Echo {
        Echo {
            wire: wire.into(),
            model: model.into(),
            block: json!({"from": wire, "of": model}),
        }
    }

    fn request(messages: Vec<(Role, Vec<Part>)>, mark_prefix: Option<usize>) -> Request {
        let messages = messages.into_iter().map(|(role, content)| Message { role, content });
        Request {
            model: "small".into(),
            system: None,
            messages: messages.collect(),
            max_tokens: 10,
            schema: None,
            options: Options::default(),
            mark_prefix,
        }
    }

    fn result(id: &str) -> Part {
        let result = ToolResult {
            id: id.into(),
            content: "12".into(),
            is_error: false,
        };
        Extension::ToolResult(result).into_part()
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    /// The blocks in words, with `*` if they are in the prefix.
    fn shown(request: &Request) -> Vec<String> {
        let conversation = Conversation::of(request, &SPEAKER).unwrap();
        let turns = conversation.turns.iter().map(|turn| {
            let blocks = turn.blocks.iter().map(|block| {
                let word = match &block.content {
                    Content::Text { text, citations } => format!("{text}{}", "^".repeat(citations.len())),
                    Content::ToolCall(call) => format!("{}({})", call.name, call.echo.is_some()),
                    Content::ToolResult(result) => format!("={}", result.id),
                    Content::Echo(block) => block["of"].as_str().unwrap().to_owned(),
                    Content::Image(_) | Content::Document(_) => "media".to_owned(),
                };
                format!("{word}{}", if block.in_prefix { "*" } else { "" })
            });
            blocks.collect::<Vec<_>>().join(" ")
        });
        turns.collect()
    }

    #[test]
    fn blocks_of_another_wire_or_model_are_left_out() {
        let call = |echo| {
            let call = ToolCall {
                id: "1".into(),
                name: "weather".into(),
                arguments: agenthost_core::llm::extension::ToolArguments::read("{}"),
                echo: Some(echo),
            };
            Extension::ToolCall(call).into_part()
        };
        let part = |echo| Extension::Echo(echo).into_part();
        let search = || Extension::Search(SearchReport::default()).into_part();
        for (content, expected) in [
            (
                vec![part(echo("here", "small")), call(echo("here", "small"))],
                "small weather(true)",
            ),
            (
                vec![part(echo("there", "small")), call(echo("here", "large"))],
                "weather(false)",
            ),
            (vec![part(echo("here", "large")), text("a"), search()], "a"),
        ] {
            let request = request(vec![(Role::Assistant, content)], None);
            assert_eq!(shown(&request), [expected]);
        }
        // A message with nothing left is not sent.
        let dropped = request(
            vec![(Role::User, vec![text("a")]), (Role::Assistant, vec![search()])],
            None,
        );
        assert_eq!(shown(&dropped), ["a"]);
    }

    #[test]
    fn results_come_first_and_citations_join_their_text() {
        let citation = || Extension::Citation(Citation::default()).into_part();
        let messages = vec![
            (Role::Assistant, vec![text("a"), citation(), citation(), text("b")]),
            (Role::User, vec![text("c"), result("1"), result("2")]),
        ];
        assert_eq!(shown(&request(messages, None)), ["a^^ b", "=1 =2 c"]);
    }

    #[test]
    fn the_mark_counts_the_parts_of_the_request() {
        let foreign = || Extension::Echo(echo("there", "small")).into_part();
        let citation = || Extension::Citation(Citation::default()).into_part();
        let messages = vec![
            (Role::User, vec![text("a")]),
            (Role::Assistant, vec![foreign(), text("b"), citation()]),
            (Role::User, vec![text("c"), result("1")]),
        ];
        for (mark, expected) in [
            (None, ["a", "b^", "=1 c"]),
            (Some(0), ["a", "b^", "=1 c"]),
            (Some(1), ["a*", "b^", "=1 c"]),
            (Some(2), ["a*", "b^", "=1 c"]),
            // The citation is part of the text.
            (Some(3), ["a*", "b^", "=1 c"]),
            (Some(4), ["a*", "b^*", "=1 c"]),
            // The result is sent before the text.
            (Some(5), ["a*", "b^*", "=1 c"]),
            (Some(6), ["a*", "b^*", "=1* c*"]),
            (Some(7), ["a", "b^", "=1 c"]),
        ] {
            assert_eq!(shown(&request(messages.clone(), mark)), expected, "{mark:?}");
        }
    }
}
