use serde_json::json;

use super::*;

fn fault(body: &str) -> Fault {
    match serde_json::from_str(body) {
        Ok(body) => Fault::read(&body),
        Err(_) => Fault::read_text(body),
    }
}

/// The sources that are not pages.
const NO_PAGE: [&str; 2] = ["no public record was found", "a type in the vendor's package"];

#[test]
fn every_row_of_the_table_names_its_example_and_its_source() {
    let table: Table = toml::from_str(TABLE).unwrap();
    assert!(table.error.len() > 80, "{}", table.error.len());
    for row in &table.error {
        let Row {
            services,
            class,
            source,
            example,
            ..
        } = row;
        assert!(!services.is_empty(), "{row:?}");
        assert!(
            source.starts_with("https://") || NO_PAGE.contains(&source.as_str()),
            "{row:?}"
        );
        let lower = |words: &[String]| words.iter().all(|word| *word == word.to_lowercase());
        assert!(lower(&row.codes) && lower(&row.words), "{row:?}");
        assert!(!(row.codes.is_empty() && row.words.is_empty()), "{row:?}");
        let fault = fault(&example.body);
        assert_eq!(fault.kind(example.status), class.0, "{row:?}");
        // The row itself matches, whichever matches first.
        let said = fault.messages.join("\n").to_lowercase();
        let status = fault.status.unwrap_or(example.status);
        assert!(row.matches(status, &fault.names, &said), "{row:?}: {fault:?}");
    }
}

#[test]
fn the_services_of_the_guide_have_a_wording_for_a_full_context() {
    let full: Vec<&str> = ROWS
        .iter()
        .filter(|row| row.class.0 == ProviderErrorKind::ContextOverflow)
        .flat_map(|row| row.services.iter().map(String::as_str))
        .collect();
    for service in [
        "OpenAI",
        "Azure OpenAI",
        "Gemini",
        "vLLM",
        "SGLang",
        "llama.cpp",
        "LM Studio",
        "Ollama",
        "LiteLLM",
        "OpenRouter",
        "Bedrock",
        "xAI",
        "Together",
        "Mistral",
        "DeepSeek",
        "Moonshot",
        "Zhipu",
        "Qwen",
        "Perplexity",
        "Fireworks",
        "Groq",
        "Anthropic",
    ] {
        assert!(full.contains(&service), "{service}");
    }
}

#[test]
fn an_error_is_found_wherever_it_is() {
    let full = "This model's maximum context length is 4096 tokens.";
    let inner = json!({"error": {"message": full}}).to_string();
    for body in [
        json!({"error": {"message": full}}),
        json!({"error": full}),
        json!({"message": full}),
        json!({"detail": full}),
        json!({"detail": {"error": full}}),
        json!({"detail": [{"msg": full, "loc": ["body"]}]}),
        json!({"errors": [{"message": full}]}),
        json!([{"error": {"code": 400, "message": full, "status": "INVALID_ARGUMENT"}}]),
        json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": inner}}}),
        json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": full}}}),
        json!({"error": {"message": inner}}),
        json!({"error": {"error": {"message": full}}}),
        json!({"error": {"message": format!("litellm.BadRequestError: OpenAIException - {inner}")}}),
    ] {
        let fault = Fault::read(&body);
        assert_eq!(fault.kind(400), ProviderErrorKind::ContextOverflow, "{body}");
        assert!(fault.message(400, "").contains(full), "{body}: {fault:?}");
    }
    assert_eq!(fault(full).kind(400), ProviderErrorKind::ContextOverflow);
    assert_eq!(fault(full).message(400, full), format!("status 400: {full}"));
}

#[test]
fn words_do_not_overrule_a_status_that_is_clear() {
    use ProviderErrorKind as Kind;
    for (status, body, kind) in [
        (401, "the model does not exist", Kind::Authentication),
        (404, "budget exceeded", Kind::NotFound),
        (429, "maximum context length", Kind::RateLimited),
        (503, "input is too long", Kind::Overloaded),
        (400, "the thinking budget must be at least 1024", Kind::InvalidRequest),
        (400, "temperature is not supported", Kind::InvalidRequest),
        (400, "messages: required", Kind::InvalidRequest),
        (403, "forbidden", Kind::Permission),
        (500, "oops", Kind::Server),
        (200, "{\"error\": \"odd\"}", Kind::Server),
        (
            200,
            "{\"error\": {\"code\": 429, \"message\": \"x\"}}",
            Kind::RateLimited,
        ),
        (400, "<html>maximum context length</html>", Kind::InvalidRequest),
        // A number that is no status.
        (400, "{\"code\": 3051, \"message\": \"x\"}", Kind::InvalidRequest),
    ] {
        assert_eq!(fault(body).kind(status), kind, "{status} {body}");
    }
}

#[test]
fn one_row_knows_the_variants_of_a_wording() {
    use ProviderErrorKind as Kind;
    for (status, body, kind) in [
        (
            400,
            "You have reached your specified workspace API usage limits. You will regain access on 2026-12-01.",
            Kind::SpendCap,
        ),
        (
            429,
            "No deployments available - crossed budget: Exceeded budget for deployment model_name: x",
            Kind::SpendCap,
        ),
        (
            403,
            "The security token included in the request is expired",
            Kind::Authentication,
        ),
        (
            400,
            "The generated text has been blocked by our content filters.",
            Kind::Refused,
        ),
        (400, "Unknown parameter: 'response_format'.", Kind::FormatRefused),
        (400, "prompt too long; exceeded context length", Kind::ContextOverflow),
        (
            400,
            "Prompt length of 5016 is longer than the maximum model length of 4096.",
            Kind::ContextOverflow,
        ),
        (
            403,
            "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys",
            Kind::SpendCap,
        ),
        (400, "Invalid model identifier \"x\"", Kind::NotFound),
    ] {
        assert_eq!(fault(body).kind(status), kind, "{status} {body}");
    }
}

#[test]
fn the_words_of_a_service_count_more_than_the_name_that_litellm_gives_them() {
    let schema = "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - Invalid schema for \
                  response_format 'IntentAnalysis': In context=(), 'additionalProperties' is required to be supplied \
                  and to be false.";
    assert_eq!(fault(schema).kind(400), ProviderErrorKind::FormatRefused);
    let filter = "litellm.ContentPolicyViolationError: AzureException - the prompt was filtered";
    assert_eq!(fault(filter).kind(400), ProviderErrorKind::Refused);
}

#[test]
fn the_message_has_the_words_of_the_gateway_and_of_the_service() {
    let raw = json!({"error": {"message": "safety settings are invalid"}}).to_string();
    let body = json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw, "provider_name": "P"}}});
    assert_eq!(
        Fault::read(&body).message(400, ""),
        "Provider returned error: safety settings are invalid"
    );
    assert_eq!(fault("{}").message(400, "{}"), "status 400: {}");
    assert_eq!(fault("").message(502, ""), "status 502 with no message");
}

#[test]
fn a_body_says_when_to_come_back() {
    for (body, seconds) in [
        (
            json!([{"error": {"code": 429, "message": "Please retry in 12.4s.", "details": [{"retryDelay": "12s"}]}}]),
            Some(12.4),
        ),
        (
            json!([{"error": {"code": 429, "message": "x", "details": [{"@type": "y"}, {"retryDelay": "12s"}]}}]),
            Some(12.0),
        ),
        (
            json!({"error": {"message": "Please try again in 1m2.5s. Visit us."}}),
            Some(62.5),
        ),
        (
            json!({"error": {"message": "Please retry after 26 seconds."}}),
            Some(26.0),
        ),
        (json!({"error": {"message": "x", "retry_after": 3}}), Some(3.0)),
        (json!({"error": {"message": "x"}, "retry_after_ms": 250}), Some(0.25)),
        (json!({"error": {"message": "Limit 6000, Used 5800."}}), None),
    ] {
        assert_eq!(Fault::read(&body).wait, seconds.map(Duration::from_secs_f64), "{body}");
    }
}
