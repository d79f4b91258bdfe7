//! Collects the content of a reply in the terms that all wires share.
//!
//! If the conversation goes on with tools, everything that has to go back stays: a block that only the vendor
//! understands becomes an [`Echo`], and a call or a citation keeps its own form if the neutral one would not give it
//! back exactly. Without tools, a reply has the model's texts, and blocks of an unknown kind under their own name.

use std::collections::HashSet;

use agenthost_core::llm::extension::ToolArguments;
use agenthost_core::llm::{Citation, Echo, Extension, Part, Reply, Request, SearchReport, Stop, ToolCall};
use serde_json::Value;

use crate::conversation;
use crate::reasoning;

/// The reply so far.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    request: &'a Request,
    wire: &'static str,
    content: Vec<Part>,
    /// The ids of the tool calls in the conversation.
    ids: HashSet<String>,
    has_calls: bool,
    /// The text of the model's reasoning.
    reasoning: String,
    /// The model's reason for declining.
    pub(crate) refusal: Option<String>,
    /// `true` if the provider paused. Calls of the guest's tools end the reply in any case.
    pub(crate) is_paused: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(request: &'a Request, wire: &'static str) -> Self {
        let parts = request.messages.iter().flat_map(|message| &message.content);
        let ids = parts.filter_map(|part| match Extension::of(part) {
            Some(Ok(Extension::ToolCall(call))) => Some(call.id),
            _ => None,
        });
        Self {
            request,
            wire,
            content: Vec::new(),
            ids: ids.collect(),
            has_calls: false,
            reasoning: String::new(),
            refusal: None,
            is_paused: false,
        }
    }

    /// Returns whether the reply keeps what has to go back.
    pub(crate) fn keeps_blocks(&self) -> bool {
        self.request.options.keeps_blocks()
    }

    /// Returns the parameters of a strict tool of the request.
    pub(crate) fn strict_parameters(&self, name: &str) -> Option<&'a Value> {
        let tools = &self.request.options.tools;
        let tool = tools.iter().find(|tool| tool.name == name && tool.strict);
        tool.map(|tool| &tool.parameters)
    }

    /// Returns the blocks of this wire that the request sent back.
    pub(crate) fn earlier(&self) -> impl Iterator<Item = Value> + 'a {
        conversation::echoes(self.request, self.wire)
    }

    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.content.push(Part::Text(text.into()));
    }

    /// Adds text of the model's reasoning, which is the reply if the model wrote nothing else.
    pub(crate) fn reasoning(&mut self, text: &str) {
        self.reasoning.push_str(text);
    }

    /// Adds a source of the text before, with the vendor's form if that has to go back.
    pub(crate) fn citation(&mut self, citation: Citation, block: Option<&Value>) {
        if self.keeps_blocks() {
            let echo = block.map(|block| self.new_echo(block.clone()));
            self.content
                .push(Extension::Citation(Citation { echo, ..citation }).into_part());
        }
    }

    /// Adds a search of the provider.
    pub(crate) fn search(&mut self, search: SearchReport) {
        if self.keeps_blocks() {
            self.content.push(Extension::Search(search).into_part());
        }
    }

    /// Returns the id of a new call: the vendor's, or another if there is none or if the conversation has it already.
    pub(crate) fn id(&mut self, id: Option<&str>) -> String {
        let own = id
            .filter(|id| !id.is_empty() && !self.ids.contains(*id))
            .map(str::to_owned);
        let mut made = (self.ids.len()..).map(|number| format!("call_{number}"));
        let id = own
            .or_else(|| made.find(|id| !self.ids.contains(id)))
            .unwrap_or_default();
        self.ids.insert(id.clone());
        id
    }

    /// Adds a call of a tool. `block` is the vendor's form, if it can go back, and `rebuild` writes it from the neutral
    /// one. The call keeps the vendor's form only if it has more, or another order.
    pub(crate) fn tool_call(
        &mut self,
        id: String,
        name: &str,
        arguments: ToolArguments,
        block: Option<&Value>,
        rebuild: impl Fn(&ToolCall) -> Value,
    ) {
        self.has_calls = true;
        let mut call = ToolCall {
            id,
            name: name.to_owned(),
            arguments,
            echo: None,
        };
        // As texts, because the order of members counts.
        let rebuilt = rebuild(&call).to_string();
        let own = block.filter(|block| block.to_string() != rebuilt);
        call.echo = own.map(|block| self.new_echo(block.clone()));
        self.content.push(Extension::ToolCall(call).into_part());
    }

    /// Adds a block that goes back as it came.
    pub(crate) fn echo(&mut self, block: Value) {
        if self.keeps_blocks() {
            let echo = self.new_echo(block);
            self.content.push(Extension::Echo(echo).into_part());
        }
    }

    /// Adds a block of a kind that is not known. If the conversation goes on, it goes back.
    pub(crate) fn unknown(&mut self, kind: &str, block: &Value) {
        if self.keeps_blocks() {
            self.echo(block.clone());
        } else {
            self.content.push(Part::Extension {
                kind: kind.to_owned(),
                json: block.to_string(),
            });
        }
    }

    fn new_echo(&self, block: Value) -> Echo {
        Echo {
            wire: self.wire.to_owned(),
            model: self.request.model.clone(),
            block,
        }
    }

    /// Returns the reply that stopped for this reason.
    pub(crate) fn finish(mut self, stop: Stop) -> Reply {
        let is_echo = |part: &Part| matches!(part, Part::Extension { kind, .. } if kind == "echo");
        let is_blank = |part: &Part| is_echo(part) || reasoning::is_missing(std::slice::from_ref(part));
        let is_missing = self.content.iter().all(is_blank);
        if is_missing && self.request.schema.is_some() && !self.reasoning.trim().is_empty() {
            // Some servers take all of the text for reasoning. The schema decides whether the answer is in it.
            self.content.retain(is_echo);
            self.text(reasoning::block(&self.reasoning));
        }
        let stop = match stop {
            _ if self.refusal.is_some() => Stop::Refusal,
            // Some servers report an ordinary end.
            Stop::End | Stop::Other if self.has_calls => Stop::ToolUse,
            stop => stop,
        };
        Reply::of(self.content)
            .with_stop(stop)
            .with_refusal(self.refusal)
            .with_paused(self.is_paused && !self.has_calls)
    }
}
