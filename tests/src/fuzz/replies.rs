//! Answers of model services.

use std::sync::OnceLock;

use agenthost::llm::{Message, Options, Part, Reply, Request, Role};
use agenthost::providers::anthropic::Anthropic;
use agenthost::providers::openai::{MaxTokensField, OpenAi};
use agenthost::providers::responses::OpenAiResponses;
use agenthost::providers::{RawAnswer, RawService};

/// The key, which nothing that comes out may hold.
const KEY: &str = "sk-fuzz-0123456789";

/// The body of an answer. The first byte selects the wire and the status, and the line after it is a header's value.
pub fn replies(bytes: &[u8]) {
    static SERVICES: OnceLock<(OpenAi, Anthropic, OpenAiResponses)> = OnceLock::new();
    let (openai, anthropic, responses) = SERVICES.get_or_init(|| {
        let openai = OpenAi::new(
            Some("http://127.0.0.1:9/v1"),
            Some(KEY.into()),
            MaxTokensField::default(),
        );
        let anthropic = Anthropic::new(Some("http://127.0.0.1:9"), Some(KEY.into()));
        let responses = OpenAiResponses::new(Some("http://127.0.0.1:9/v1"), Some(KEY.into()));
        (openai.unwrap(), anthropic.unwrap(), responses.unwrap())
    });
    const STATUS: [u16; 8] = [200, 200, 200, 400, 401, 429, 500, 529];
    const HEADERS: [&str; 6] = [
        "retry-after",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-requests",
        "anthropic-ratelimit-input-tokens-reset",
        "anthropic-ratelimit-requests-remaining",
        "request-id",
    ];
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let (value, body) = rest.split_at(line);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let value = String::from_utf8_lossy(value);
    let raw = RawAnswer {
        status: STATUS[usize::from(first >> 1) % STATUS.len()],
        headers: &[(HEADERS[usize::from(first >> 4) % HEADERS.len()], &value)],
        body,
    };
    let mut request = Request {
        model: "small".into(),
        system: None,
        messages: vec![Message {
            role: Role::User,
            content: vec![Part::Text("Hello".into())],
        }],
        max_tokens: 100,
        schema: None,
        options: Options::default(),
        mark_prefix: None,
    };
    let service: &dyn RawService = match first {
        0xc0.. => responses,
        _ if first & 1 == 0 => openai,
        _ => anthropic,
    };
    check(service, &request, raw);
    let tools = r#"[{"name": "weather", "strict": true, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]"#;
    request.options = Options::parse([("tools", tools)]).unwrap();
    check(service, &request, raw);
}

fn check(service: &dyn RawService, request: &Request, raw: RawAnswer<'_>) {
    match service.read_answer(request, raw) {
        Ok(reply) => {
            // As the journal keeps it.
            let text = serde_json::to_string(&reply).unwrap();
            let again: Reply = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
            if let Some(usage) = reply.usage {
                assert!(
                    usage.cached_input <= usage.input && usage.input <= 2_000_000_000,
                    "{usage:?}"
                );
                let _ = usage.plus(&usage);
            }
            if request.options.keeps_blocks() {
                // Every reply can go back as it is.
                let mut next = request.clone();
                next.messages.push(Message {
                    role: Role::Assistant,
                    content: reply.content,
                });
                service.write_request(&next).unwrap();
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
            assert!(said.len() < 4_096, "{}", said.len());
            let in_header = raw.headers.iter().any(|(_, value)| value.contains(KEY));
            assert!(!said.contains(KEY) || !in_header, "the key is in {said:?}");
        }
    }
}
