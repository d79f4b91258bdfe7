//! A model server that bills every request when it receives it, even if the reply never arrives.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use proptest::prelude::*;

use super::super::super::estimate::{Estimates, InputSize};
use agenthost_core::llm::{Part, Provider, ProviderError, ProviderErrorKind, Reply, Request, Usage};

/// Pico-dollars per token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) input: u64,
    pub(super) write: u64,
    pub(super) output: u64,
}

/// The server's treatment of one request.
#[derive(Debug, Clone)]
pub(super) struct Treatment {
    /// Milliseconds until it answers.
    delay: u64,
    end: Ending,
    /// Its count of the input, as a part of the host's bound.
    input_percent: u64,
    /// The part of the input that it writes to its cache, and bills at a higher price.
    write_percent: u64,
    /// Its count of the output, as a part of what the request allows.
    output_percent: u64,
}

#[derive(Debug, Clone)]
enum Ending {
    /// A reply with the count, which fits the schema or does not.
    Answer { fits: bool },
    /// A reply without a count.
    Uncounted,
    /// An error without a reply, which is not billed.
    Refused(ProviderErrorKind, Option<u64>),
    /// A reply that breaks off, does not arrive or cannot be read: the request is billed and its count never arrives.
    Lost(ProviderErrorKind),
    /// No reply, ever. The request is billed.
    Silence,
}

/// Draws the treatments of the first requests. After the last one, they begin again.
pub(super) fn treatments() -> impl Strategy<Value = Vec<Treatment>> {
    use ProviderErrorKind as Kind;
    let refused = prop_oneof![
        Just(Kind::RateLimited),
        Just(Kind::Overloaded),
        Just(Kind::Server),
        Just(Kind::NotFound),
        Just(Kind::InvalidRequest),
    ];
    let end = prop_oneof![
        8 => any::<bool>().prop_map(|fits| Ending::Answer { fits }),
        1 => Just(Ending::Uncounted),
        4 => (refused, prop::option::of(0..2_000_u64)).prop_map(|(kind, after)| Ending::Refused(kind, after)),
        3 => prop_oneof![Just(Kind::Connection), Just(Kind::Timeout), Just(Kind::BadReply)].prop_map(Ending::Lost),
        1 => Just(Ending::Silence),
    ];
    let percent = prop_oneof![1 => Just(100), 1 => 0..=100_u64];
    let input = prop_oneof![2 => Just(110), 1 => Just(100), 1 => 0..=110_u64];
    let treatment = (0..3_000_u64, end, input, percent.clone(), percent);
    let treatment = treatment.prop_map(|(delay, end, input_percent, write_percent, output_percent)| Treatment {
        delay,
        end,
        input_percent,
        write_percent,
        output_percent,
    });
    prop::collection::vec(treatment, 1..24)
}

/// A request as it was billed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Billed {
    /// The first letter of its prompt, which identifies the task.
    pub(super) label: u8,
    pub(super) tokens: u64,
    pub(super) pico: u64,
    /// The part of `tokens` and `pico` by which the count of the input exceeds the host's bound.
    pub(super) beyond: (u64, u64),
}

/// All requests that the servers of a case have received, in order.
#[derive(Debug, Clone)]
pub(super) struct Bill {
    treatments: Arc<[Treatment]>,
    received: Arc<Mutex<Vec<Billed>>>,
}

impl Bill {
    pub(super) fn new(treatments: &[Treatment]) -> Self {
        Self {
            treatments: treatments.into(),
            received: Arc::default(),
        }
    }

    pub(super) fn received(&self) -> MutexGuard<'_, Vec<Billed>> {
        self.received.lock().unwrap()
    }
}

/// One provider in front of the bill.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: &'static str,
    pub(super) rates: Rates,
    /// `true` if the host reserves a token for each byte, which no count exceeds.
    pub(super) strict: bool,
    pub(super) bill: Bill,
}

impl Server {
    /// Returns the most input tokens that `request` can have by docs/limits.md, without the error of the estimate.
    fn bound(&self, request: &Request) -> u64 {
        if self.strict {
            let (bytes, messages) = (request.bytes(), request.messages.len() as u64);
            return bytes + 64 + 8 * messages;
        }
        Estimates::default().input("any", &InputSize::of(request, self.kind), false)
    }

    /// Bills `request`, and returns its treatment and its count.
    fn receive(&self, request: &Request) -> (Treatment, Usage) {
        let mut received = self.bill.received();
        let treatment = self.bill.treatments[received.len() % self.bill.treatments.len()].clone();
        let Some(Part::Text(text)) = request.messages[0].content.first() else {
            unreachable!("{request:?}")
        };
        let bound = self.bound(request);
        let most = if self.strict { 100 } else { 110 };
        let input = bound * treatment.input_percent.min(most) / 100;
        let write = input * treatment.write_percent / 100;
        let output = u64::from(request.max_tokens) * treatment.output_percent / 100;
        let Rates {
            input: plain,
            write: dear,
            output: out,
        } = self.rates;
        let beyond = input.saturating_sub(bound);
        let billed = Billed {
            label: text.as_bytes()[0],
            tokens: input + output,
            pico: (input - write) * plain + write * dear + output * out,
            beyond: (beyond, beyond * dear),
        };
        received.push(match treatment.end {
            Ending::Refused(..) => Billed {
                label: billed.label,
                ..Billed::default()
            },
            _ => billed,
        });
        let usage = Usage {
            input,
            cache_write_input: write,
            output,
            ..Usage::default()
        };
        (treatment, usage)
    }
}

impl Provider for Server {
    fn complete<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, ProviderError>> {
        Box::pin(async move {
            let (treatment, usage) = self.receive(request);
            tokio::time::sleep(Duration::from_millis(treatment.delay)).await;
            let reply = |fits, usage: Option<Usage>| {
                let text = if fits { "{\"n\": 1}" } else { "none" };
                Reply::new(text).with_model(&request.model).with_usage(usage)
            };
            match treatment.end {
                Ending::Answer { fits } => Ok(reply(fits, Some(usage))),
                Ending::Uncounted => Ok(reply(true, None)),
                Ending::Refused(kind, after) => {
                    Err(ProviderError::new(kind, "not now").with_retry_after(after.map(Duration::from_millis)))
                }
                Ending::Lost(kind) => Err(ProviderError::new(kind, "cut off").with_billing(true)),
                Ending::Silence => pending().await,
            }
        })
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn summary(&self) -> String {
        "bills what it receives".to_owned()
    }
}
