//! The answers that a handler can choose for the server, with their delays and faults.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::quota::error_body;
use super::{Dialect, Gate};

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) after: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    /// A reply of the wire.
    Text {
        text: String,
        calls: Vec<Call>,
        usage: Option<Usage>,
        end: End,
    },
    Raw(Vec<u8>),
    Stall,
    Endless,
    Drip {
        step: Duration,
        headers: bool,
    },
    CutOff,
    Close,
    /// The answer of the server at this address.
    Forward(SocketAddr),
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: Value,
}

/// How a model's reply ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Done,
    MaxTokens,
    Refusal,
}

/// The usage of a reply.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// All input.
    pub(super) input: u64,
    /// The part of it that came from the cache.
    pub(super) cached: u64,
    /// The part of it that was written to the cache.
    pub(super) written: u64,
    pub(super) output: u64,
}

impl Reply {
    fn of(status: u16, body: Body) -> Self {
        Self {
            after: Duration::ZERO,
            gate: None,
            status,
            headers: Vec::new(),
            body,
        }
    }

    /// A model's reply that counts 10 input and 5 output tokens.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(
            200,
            Body::Text {
                text: text.into(),
                calls: Vec::new(),
                usage: Some(Usage {
                    input: 10,
                    cached: 0,
                    written: 0,
                    output: 5,
                }),
                end: End::Done,
            },
        )
    }

    /// Any bytes with any status.
    pub fn raw(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::of(status, Body::Raw(body.into()))
    }

    /// A model that declines with these words, counting as [`Reply::text`] does.
    pub fn refusal(words: &str) -> Self {
        Self::text(words).ending(End::Refusal)
    }

    /// An error of a vendor, with its code where it has one.
    pub fn failure(dialect: Dialect, status: u16, kind: &str, code: Option<&str>, message: &str) -> Self {
        Self::raw(status, error_body(dialect, kind, code, message))
    }

    /// An error in the form that both wires share.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::raw(
            status,
            json!({"type": "error", "error": {"type": kind, "message": message}}).to_string(),
        )
    }

    /// Nothing, forever.
    pub fn stall() -> Self {
        Self::of(200, Body::Stall)
    }

    /// A good start and then bytes without end.
    pub fn endless() -> Self {
        Self::of(200, Body::Endless)
    }

    /// A good start and then a byte after each `step`, forever.
    pub fn drip(step: Duration) -> Self {
        Self::of(200, Body::Drip { step, headers: false })
    }

    /// A header after each `step`, forever.
    pub fn drip_headers(step: Duration) -> Self {
        Self::of(200, Body::Drip { step, headers: true })
    }

    /// Half of what the headers announce, then the end of the connection.
    pub fn cut_off() -> Self {
        Self::of(200, Body::CutOff)
    }

    /// The end of the connection without a word.
    pub fn close() -> Self {
        Self::of(200, Body::Close)
    }

    /// The answer of the server at `upstream`, with its status and headers; if it gives none, the end of the connection.
    pub fn forwarded(upstream: SocketAddr) -> Self {
        Self::of(200, Body::Forward(upstream))
    }

    /// A redirect to another address.
    pub fn redirect(to: &str) -> Self {
        Self::raw(307, "").header("location", to)
    }

    /// The same with a call of a tool, of which `id` is unique in the conversation.
    #[must_use]
    pub fn calling(mut self, id: &str, name: &str, arguments: Value) -> Self {
        if let Body::Text { calls, .. } = &mut self.body {
            calls.push(Call {
                id: id.to_owned(),
                name: name.to_owned(),
                arguments,
            });
        }
        self
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The same, so much later.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// The same, once `gate` is open.
    #[must_use]
    pub fn held(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, counting so many input and output tokens.
    #[must_use]
    pub fn usage(self, input: u64, output: u64) -> Self {
        self.counted(Some(Usage {
            input,
            cached: 0,
            written: 0,
            output,
        }))
    }

    /// The same, with so many of its input tokens from the cache.
    ///
    /// # Panics
    ///
    /// When it counts nothing, or less input.
    #[must_use]
    pub fn cached(self, tokens: u64) -> Self {
        let Body::Text { usage: Some(usage), .. } = self.body else {
            panic!("it counts nothing");
        };
        assert!(tokens <= usage.input);
        self.counted(Some(Usage {
            cached: tokens,
            ..usage
        }))
    }

    /// The same, with so many of its input tokens written to the cache.
    ///
    /// # Panics
    ///
    /// When it counts nothing, or less input.
    #[must_use]
    pub fn written(self, tokens: u64) -> Self {
        let Body::Text { usage: Some(usage), .. } = self.body else {
            panic!("it counts nothing");
        };
        assert!(tokens <= usage.input);
        self.counted(Some(Usage {
            written: tokens,
            ..usage
        }))
    }

    /// The same without any count.
    #[must_use]
    pub fn uncounted(self) -> Self {
        self.counted(None)
    }

    /// The same, cut off at its maximum of tokens.
    #[must_use]
    pub fn at_max_tokens(self) -> Self {
        self.ending(End::MaxTokens)
    }

    fn counted(mut self, counted: Option<Usage>) -> Self {
        if let Body::Text { usage, .. } = &mut self.body {
            *usage = counted;
        }
        self
    }

    fn ending(mut self, how: End) -> Self {
        if let Body::Text { end, .. } = &mut self.body {
            *end = how;
        }
        self
    }
}
