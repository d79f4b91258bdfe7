//! The calls that the host and the SDKs make. Each has a function of the same name in `tests/vendor-sdks`.

use agenthost::llm::{Message, Options, Part, Request, Role};
use serde_json::{Value, json};

use super::Wire;

/// What follows a reply, which is sent back as it came.
pub(super) enum Next {
    /// A message.
    Prompt,
    /// The results of the calls.
    Results,
    /// The results of the calls and a message.
    ResultsAndPrompt,
    /// Nothing: the reply is paused.
    Unpause,
}

/// One call, and those that continue it.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) request: Request,
    pub(super) next: Vec<Next>,
    /// `false` if there are members that only other vendors have, so that the SDK's types do not describe the bodies.
    pub(super) is_described: bool,
    /// The wires that have a form for it.
    wires: &'static [Wire],
}

impl Case {
    fn next(mut self, next: impl Into<Vec<Next>>) -> Self {
        self.next = next.into();
        self
    }

    fn on(mut self, wires: &'static [Wire]) -> Self {
        self.wires = wires;
        self
    }

    fn messages(mut self, messages: Vec<(Role, Vec<Part>)>) -> Self {
        let messages = messages.into_iter().map(|(role, content)| Message { role, content });
        self.request.messages = messages.collect();
        self
    }

    fn of_other_vendors(mut self) -> Self {
        self.is_described = false;
        self
    }

    fn schema(mut self, schema: Value) -> Self {
        self.request.schema = Some(schema);
        self
    }
}

fn case(name: &'static str, options: &[(&str, &str)]) -> Case {
    let request = Request {
        model: String::new(),
        system: None,
        messages: Vec::new(),
        max_tokens: 1000,
        schema: None,
        options: Options::parse(options.iter().copied()).unwrap(),
        mark_prefix: None,
    };
    let case = Case {
        name,
        request,
        next: Vec::new(),
        is_described: true,
        wires: &[Wire::Messages, Wire::Chat, Wire::Responses],
    };
    case.messages(vec![(Role::User, vec![text("How warm is it in Oslo and in Rome?")])])
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

/// A request with bytes of this type.
fn seen(name: &'static str, mime: &str) -> Case {
    let media = Part::Media {
        mime: mime.into(),
        data: vec![1, 2, 3],
    };
    case(name, &[]).messages(vec![(Role::User, vec![text("What is this?"), media])])
}

/// The schemas as pydantic writes them for the classes of the scripts.
fn weather() -> Value {
    json!({"properties": {"city": {"title": "City", "type": "string"}}, "required": ["city"], "title": "Weather", "type": "object"})
}

fn time() -> Value {
    json!({
        "properties": {
            "zone": {"title": "Zone", "type": "string"},
            "style": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Style"},
        },
        "required": ["zone", "style"], "title": "Time", "type": "object",
    })
}

fn verdict() -> Value {
    json!({
        "$defs": {
            "Page": {
                "properties": {
                    "kind": {"const": "page", "title": "Kind", "type": "string"},
                    "read": {"format": "date-time", "title": "Read", "type": "string"},
                },
                "required": ["kind", "read"], "title": "Page", "type": "object",
            },
            "Person": {
                "properties": {
                    "kind": {"const": "person", "title": "Kind", "type": "string"},
                    "ages": {"items": {"items": {"type": "number"}, "type": "array"}, "title": "Ages", "type": "array"},
                },
                "required": ["kind", "ages"], "title": "Person", "type": "object",
            },
            "Point": {
                "properties": {
                    "name": {"description": "The name.", "title": "Name", "type": "string"},
                    "weight": {"maximum": 5, "minimum": 1, "title": "Weight", "type": "integer"},
                },
                "required": ["name", "weight"], "title": "Point", "type": "object",
            },
        },
        "description": "A verdict with its reasons.",
        "properties": {
            "answer": {"enum": ["yes", "no"], "title": "Answer", "type": "string"},
            "sure": {"title": "Sure", "type": "boolean"},
            "source": {"anyOf": [{"$ref": "#/$defs/Page"}, {"$ref": "#/$defs/Person"}], "title": "Source"},
            "points": {"items": {"$ref": "#/$defs/Point"}, "minItems": 1, "title": "Points", "type": "array"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Note"},
        },
        "required": ["answer", "sure", "source", "points", "note"], "title": "Verdict", "type": "object",
    })
}

/// The cases of a wire.
pub(super) fn cases(wire: Wire) -> Vec<Case> {
    use Next::{Prompt, Results, ResultsAndPrompt, Unpause};
    const MESSAGES: &[Wire] = &[Wire::Messages];
    const WITH_SEARCH: &[Wire] = &[Wire::Messages, Wire::Responses];
    const WITH_STOP: &[Wire] = &[Wire::Messages, Wire::Chat];
    let first = json!({"name": "weather", "description": "The weather of a city.", "parameters": weather()});
    let tools = json!([first, {"name": "time", "parameters": time(), "strict": true}]).to_string();
    let only = json!([first]).to_string();
    let search = r#"[{"kind": "web-search", "max-uses": 3, "allowed-domains": ["example.com"]}]"#;
    let blocked = r#"[{"kind": "web-search", "blocked-domains": ["example.com"]}]"#;
    let fetch = r#"[{"kind": "web-fetch", "max-uses": 2}]"#;
    let with_tools = |name, more: &[(&str, &str)]| {
        let options: Vec<_> = [("tools", tools.as_str())]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        case(name, &options)
    };
    let mut chat = case("text", &[]).messages(vec![
        (Role::User, vec![text("Hi")]),
        (Role::Assistant, vec![text("Hello.")]),
        (Role::User, vec![text("Name"), text("a color.")]),
    ]);
    chat.request.system = Some("Be brief.".into());
    let mut prefix = case("prefix", &[])
        .on(MESSAGES)
        .messages(vec![(Role::User, vec![text("A long text."), text("What is in it?")])]);
    prefix.request.mark_prefix = Some(1);
    let mut cases = vec![
        chat,
        case("schema", &[]).schema(verdict()),
        case("effort", &[("effort", "high")]),
        case("effort-and-schema", &[("effort", "low")]).schema(verdict()),
        case("stop", &[("stop", r#"["END", "\n\n"]"#)]).on(WITH_STOP),
        case("thinking-adaptive", &[("thinking", "adaptive")]).on(MESSAGES),
        case("thinking-off", &[("thinking", "off")]),
        with_tools("thinking-between-tools", &[("thinking", "between-tools")]).on(MESSAGES),
        case("cache", &[("cache", "1h")]).on(MESSAGES),
        prefix,
        seen("image", "image/png"),
        seen("document", "application/pdf").on(MESSAGES),
        case("refusal", &[]),
        case("cut-off", &[]),
        with_tools("tools", &[]),
        with_tools("choice-auto", &[("tool-choice", "auto")]),
        with_tools("choice-any", &[("tool-choice", "any")]),
        with_tools("choice-none", &[("tool-choice", "none")]),
        with_tools("choice-of-one", &[("tool-choice", "tool:time")]),
        with_tools("one-call", &[("parallel-tools", "false")]),
        with_tools("any-one-call", &[("tool-choice", "any"), ("parallel-tools", "false")]),
        with_tools("called", &[]).next([ResultsAndPrompt]),
        with_tools("loop", &[]).next([ResultsAndPrompt, ResultsAndPrompt]),
        with_tools("loop-signed", &[])
            .next([ResultsAndPrompt])
            .on(&[Wire::Chat])
            .of_other_vendors(),
        with_tools("streamed-loop", &[]).next([ResultsAndPrompt, ResultsAndPrompt]),
        case("streamed-search", &[("server-tools", search)])
            .next([Prompt])
            .on(WITH_SEARCH),
        with_tools("streamed-loop-signed", &[])
            .next([ResultsAndPrompt])
            .on(&[Wire::Chat])
            .of_other_vendors(),
        case("runner", &[("tools", &only)]).next([Results]).on(MESSAGES),
        case("search", &[("server-tools", search)])
            .next([Prompt])
            .on(WITH_SEARCH),
        case("failed-search", &[("server-tools", search)])
            .next([Prompt])
            .on(WITH_SEARCH),
        with_tools("search-and-tools", &[("server-tools", search)])
            .next([ResultsAndPrompt])
            .on(WITH_SEARCH),
        case("blocked-domains", &[("server-tools", blocked)]).on(MESSAGES),
        case("fetch", &[("server-tools", fetch)]).next([Prompt]).on(MESSAGES),
        case("pause", &[("server-tools", search)])
            .next([Unpause, Unpause])
            .on(MESSAGES),
        case("runner-paused", &[("server-tools", search)])
            .next([Unpause, Unpause])
            .on(MESSAGES),
    ];
    cases.retain(|case| case.wires.contains(&wire));
    cases
}
