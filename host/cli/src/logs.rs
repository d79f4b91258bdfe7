//! Logs on stderr: lines for people, or one JSON document per line for programs.

use std::collections::BTreeMap;
use std::time::Instant;
use std::{fmt, io};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::global::{Global, LogFormat};
use super::table;
use super::terminal::{Stream, Style, Styled, hanging};
use agenthost::printable::json as printable_json;

/// Sends logs to stderr: warnings, more with `-v`, or the filter in `AGENTHOST_LOG`.
pub(super) fn start(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (_, 0) => "agenthost=warn,error",
        (_, 1) => "agenthost=info,warn",
        (_, _) => "agenthost=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("AGENTHOST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    // With -v, one line for each request to a model, once it is answered.
    let calls = global.verbose > 0;
    let registry = tracing_subscriber::registry().with(filter);
    match global.log_format {
        LogFormat::Text => registry.with(Lines { calls }).init(),
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_span_events(if calls { FmtSpan::CLOSE } else { FmtSpan::NONE })
                .with_writer(|| Documents);
            registry.with(layer).init();
        }
    }
}

/// Writes documents, each in one piece, with hidden characters escaped.
struct Documents;

impl io::Write for Documents {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Stream::Stderr.data(&printable_json(String::from_utf8_lossy(bytes).trim_end()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of the span of a request to a model.
const REQUEST: &str = "chat";
const TASK: &str = "agenthost.task";
const MODEL: &str = "gen_ai.request.model";

/// Writes lines for people.
struct Lines {
    /// `true` to write a line for each request to a model.
    calls: bool,
}

/// The fields of a span or an event by their names.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// The state of a request's span.
struct RequestSpan {
    fields: Fields,
    since: Instant,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if self.calls
            && attributes.metadata().name() == REQUEST
            && let Some(span) = context.span(id)
        {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            let since = Instant::now();
            span.extensions_mut().insert(RequestSpan { fields, since });
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(request) = span.extensions_mut().get_mut::<RequestSpan>()
        {
            values.record(&mut request.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(span) = context.span(&id)
            && let Some(request) = span.extensions().get::<RequestSpan>()
        {
            let ms = u64::try_from(request.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            write(Level::INFO, &answered(&request.fields, ms));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        write(*event.metadata().level(), &said(&fields));
    }
}

/// Returns the line of a request that took `ms` milliseconds.
fn answered(fields: &Fields, ms: u64) -> String {
    let mut line = String::new();
    if let Some(task) = fields.get(TASK) {
        line = format!("task {task}: ");
    }
    line.push_str(fields.get(MODEL).unwrap_or("model"));
    let took = table::time(ms);
    match fields.get("error.type") {
        Some(error) => line.push_str(&format!(" failed after {took}: {error}")),
        None if fields.get("gen_ai.response.model").is_none() => line.push_str(&format!(" abandoned after {took}")),
        None => {
            let cached = match fields.number("gen_ai.usage.cache_read.input_tokens") {
                0 => String::new(),
                cached => format!(" ({} cached)", table::count(cached)),
            };
            line.push_str(&format!(
                " answered in {took}: {} tokens in{cached}, {} out",
                table::count(fields.number("gen_ai.usage.input_tokens")),
                table::count(fields.number("gen_ai.usage.output_tokens")),
            ));
        }
    }
    match fields.number("agenthost.waited_ms") {
        0 => {}
        waited => line.push_str(&format!(", after {} of waiting", table::time(waited))),
    }
    match fields.number("http.request.resend_count") {
        0 => {}
        again => line.push_str(&format!(", attempt {}", again + 1)),
    }
    line
}

/// Returns the line of an event: its task, its message, and the fields that the message does not contain.
fn said(fields: &Fields) -> String {
    let task = fields
        .get(TASK)
        .map(|task| format!("task {task}: "))
        .unwrap_or_default();
    let message = fields.get("message").unwrap_or_default();
    let mut line = format!("{task}{message}");
    for (name, value) in &fields.0 {
        let is_word = || message.split(|c: char| !c.is_alphanumeric()).any(|word| word == value);
        let is_phrase = || value.contains(' ') && message.contains(value.as_str());
        let is_said = matches!(*name, "message" | TASK) || value.is_empty() || is_word() || is_phrase();
        // The last part of a dotted name is enough for people.
        let name = name.rsplit('.').next().unwrap_or(name);
        if !is_said {
            line.push_str(&format!(", {name} {value}"));
        }
    }
    line
}

fn write(level: Level, text: &str) {
    let (style, name) = match level {
        Level::ERROR => (Style::Bad, "error:"),
        Level::WARN => (Style::Warning, "warning:"),
        Level::INFO => (Style::Good, "info:"),
        _ => (Style::Plain, "debug:"),
    };
    let mut line = Styled::default();
    line.add(style, name).push(format!(" {}", hanging(text)));
    // A failed write cannot be reported anywhere.
    let _ = Stream::Stderr.line(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &str)]) -> Fields {
        Fields(
            fields
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn a_request_is_one_short_line() {
        let mut request = fields(&[
            (TASK, "root/1"),
            (MODEL, "small"),
            ("agenthost.waited_ms", "0"),
            ("http.request.resend_count", "0"),
        ]);
        assert_eq!(answered(&request, 40), "task root/1: small abandoned after 0.04 s");
        request.0.extend(
            fields(&[
                ("gen_ai.response.model", "small-1"),
                ("gen_ai.usage.input_tokens", "1160"),
                ("gen_ai.usage.output_tokens", "20"),
                ("gen_ai.usage.cache_read.input_tokens", "1000"),
            ])
            .0,
        );
        assert_eq!(
            answered(&request, 800),
            "task root/1: small answered in 0.80 s: 1,160 tokens in (1,000 cached), 20 out"
        );
        request.0.extend(
            fields(&[
                ("error.type", "Overloaded"),
                ("agenthost.waited_ms", "1500"),
                ("http.request.resend_count", "2"),
            ])
            .0,
        );
        assert_eq!(
            answered(&request, 800),
            "task root/1: small failed after 0.80 s: Overloaded, after 1.50 s of waiting, attempt 3"
        );
    }

    #[test]
    fn an_event_has_its_fields_in_words() {
        let event = fields(&[
            (TASK, "root"),
            ("message", "another attempt follows: busy"),
            ("error.type", "Overloaded"),
            ("agenthost.wait_ms", "500"),
        ]);
        assert_eq!(
            said(&event),
            "task root: another attempt follows: busy, wait_ms 500, type Overloaded"
        );
        let event = fields(&[("message", "HTTP 500"), ("agenthost.wait_ms", "5")]);
        assert_eq!(said(&event), "HTTP 500, wait_ms 5");
        let event = fields(&[("message", "cached plugin is not loaded"), ("path", "/x")]);
        assert_eq!(said(&event), "cached plugin is not loaded, path /x");
    }
}
