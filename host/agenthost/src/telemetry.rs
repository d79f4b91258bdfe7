//! Spans and events of model calls, with the names of OpenTelemetry's conventions for generative AI.
//!
//! No other file uses those names. Prompts and replies are never recorded, only their token counts.

use tracing::Span;
use tracing::field::Empty;

use agenthost_core::limits::ledger::Used;
use agenthost_core::llm::{ProviderError, Reply, Request};
use agenthost_providers::schema::Around;

/// Creates the span of one request to a provider: one attempt of a call.
pub(crate) fn request(task: &str, provider: &str, request: &Request, attempt: u32, waited_ms: u64) -> Span {
    tracing::info_span!(
        "chat",
        otel.name = format!("chat {}", request.model),
        otel.kind = "client",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = provider,
        gen_ai.request.model = request.model,
        gen_ai.request.max_tokens = request.max_tokens,
        gen_ai.output.type = if request.schema.is_some() { "json" } else { "text" },
        gen_ai.response.model = Empty,
        gen_ai.response.id = Empty,
        gen_ai.response.finish_reasons = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        gen_ai.usage.cache_creation.input_tokens = Empty,
        http.request.resend_count = attempt,
        error.type = Empty,
        agenthost.task = task,
        agenthost.waited_ms = waited_ms,
    )
}

/// Records the result of the request of `span`.
pub(crate) fn answered(span: &Span, answer: Result<&Reply, &ProviderError>) {
    match answer {
        Ok(reply) => {
            span.record("gen_ai.response.model", reply.model.as_str());
            span.record("gen_ai.response.finish_reasons", tracing::field::debug(reply.stop));
            if let Some(id) = &reply.request_id {
                span.record("gen_ai.response.id", id.as_str());
            }
            if let Some(usage) = &reply.usage {
                span.record("gen_ai.usage.input_tokens", usage.input);
                span.record("gen_ai.usage.output_tokens", usage.output);
                span.record("gen_ai.usage.cache_read.input_tokens", usage.cached_input);
                span.record("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_input);
            }
        }
        Err(error) => {
            span.record("error.type", tracing::field::debug(error.kind));
        }
    }
}

/// Emits an event for a failed attempt that is followed by another.
pub(crate) fn retry(task: &str, model: &str, error: &ProviderError, wait_ms: u64) {
    tracing::info!(
        agenthost.task = task,
        gen_ai.request.model = model,
        error.type = ?error.kind,
        agenthost.wait_ms = wait_ms,
        "another attempt follows: {error}"
    );
}

/// Emits an event for a structured reply that had something around its value.
pub(crate) fn cleaned(task: &str, model: &str, around: &[Around]) {
    if !around.is_empty() {
        let around: Vec<String> = around.iter().map(ToString::to_string).collect();
        tracing::info!(
            agenthost.task = task,
            gen_ai.response.model = model,
            "removed from the reply: {}",
            around.join(", ")
        );
    }
}

/// Emits a warning for a request of which the provider counted more than was reserved. `section` is the provider's
/// section in the configuration.
pub(crate) fn overshoot(task: &str, model: &str, section: &str, reserved: &Used, used: &Used) {
    if used.output > reserved.output {
        let (counted, limit) = (used.output, reserved.output);
        tracing::warn!(
            agenthost.task = task,
            gen_ai.request.model = model,
            "{model} counted {counted} output tokens for a request with a limit of {limit}; if it ignores the limit, set \
             max-tokens-field in {section}"
        );
    } else {
        let (counted, most) = (used.input, reserved.input);
        tracing::warn!(
            agenthost.task = task,
            gen_ai.request.model = model,
            "{model} counted {counted} input tokens for a request estimated at {most} at most; strict-tokens = true \
             reserves more"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;
    use agenthost_core::llm::{Options, ProviderErrorKind, Usage};

    /// Every recorded field of any span, as text.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<BTreeMap<String, String>>>);

    impl Visit for Seen {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0
                .lock()
                .unwrap()
                .insert(field.name().to_owned(), format!("{value:?}"));
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Seen {
        fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            attributes.record(&mut self.clone());
        }

        fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
            values.record(&mut self.clone());
        }
    }

    fn seen(answer: Result<&Reply, &ProviderError>) -> BTreeMap<String, String> {
        let layer = Seen::default();
        let asked = Request {
            model: "small".into(),
            system: Some("a secret plan".into()),
            messages: Vec::new(),
            max_tokens: 64,
            schema: None,
            options: Options::default(),
            mark_prefix: None,
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.clone()), || {
            let span = request("root/0", "anthropic", &asked, 2, 30);
            answered(&span, answer);
        });
        layer.0.lock().unwrap().clone()
    }

    #[test]
    fn a_request_is_told_in_the_conventions_words_and_nothing_of_its_text() {
        let usage = Usage {
            input: 12,
            cached_input: 8,
            output: 3,
            ..Usage::default()
        };
        let reply = Reply::new("a secret answer").with_model("small-1").with_usage(usage);
        let reply = reply.with_request_id(Some("req-1".into()));
        let fields = seen(Ok(&reply));
        for (name, value) in [
            ("otel.name", "chat small"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "anthropic"),
            ("gen_ai.request.model", "small"),
            ("gen_ai.request.max_tokens", "64"),
            ("gen_ai.output.type", "text"),
            ("gen_ai.response.model", "small-1"),
            ("gen_ai.response.id", "req-1"),
            ("gen_ai.response.finish_reasons", "End"),
            ("gen_ai.usage.input_tokens", "12"),
            ("gen_ai.usage.output_tokens", "3"),
            ("gen_ai.usage.cache_read.input_tokens", "8"),
            ("http.request.resend_count", "2"),
        ] {
            let told = fields.get(name).map(|told| told.trim_matches('"'));
            assert_eq!(told, Some(value), "{name}");
        }
        assert!(!format!("{fields:?}").contains("secret"), "{fields:?}");
        let error = ProviderError::new(ProviderErrorKind::Overloaded, "no");
        assert_eq!(
            seen(Err(&error)).get("error.type").map(String::as_str),
            Some("Overloaded")
        );
    }
}
