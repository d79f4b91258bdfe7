//! What traces say of model calls, in the words of OpenTelemetry's conventions for generative AI.
//!
//! The only file in which those names stand. Prompts and replies are never recorded, only their sizes.

use tracing::Span;
use tracing::field::Empty;

use crate::llm::{ProviderError, Reply, Request};

/// The span of one request to a provider: one attempt of a call.
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

/// Writes down how the request of `span` came out.
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

/// A failed attempt that is followed by another, inside the span of the task's call.
pub(crate) fn retry(task: &str, model: &str, error: &ProviderError, wait_ms: u64) {
    tracing::info!(
        agenthost.task = task,
        gen_ai.request.model = model,
        error.type = ?error.kind,
        agenthost.wait_ms = wait_ms,
        "another attempt follows: {error}"
    );
}
