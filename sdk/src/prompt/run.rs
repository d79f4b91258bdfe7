//! The loop of a conversation with tools: the model calls, the plugin answers, until the model has its answer.
//!
//! Each turn is an ordinary model call with limits of its own, which the host counts and records. The number of turns is
//! bounded by the author. Left out: running tools that the model did not call, and changing the content of a reply.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::options::ToolChoice;
use super::{Prompt, offer};
use crate::extension::{ToolCall, ToolResult};
use crate::llm::{Error, Message, Reply, Role, Stop};
use crate::schema::json_schema;
use crate::tool::Tool;

const TOOL_CHOICE: &str = "tool-choice";

impl Prompt {
    /// Sends the prompt and answers the model's calls of [tools](Prompt::tool) until it replies without one, in at most
    /// `max_turns` model calls (at least one). Returns that last reply.
    ///
    /// All calls of one reply run at the same time, and their results go back in the order of the calls. A call of an
    /// unknown tool, a call with invalid arguments and a tool that fails do not end the conversation: the model reads
    /// the reason. The last of the `max_turns` calls forbids tools, so that the model answers with what it has.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// #[derive(Deserialize, JsonSchema)]
    /// struct Place {
    ///     city: String,
    /// }
    ///
    /// let weather = Tool::new::<Place>("weather", "Returns the weather of today.", async |place| {
    ///     match place.city.as_str() {
    ///         "Bern" => Ok("snow"),
    ///         _ => Err("no station"),
    ///     }
    /// });
    /// let calls = Reply::tool_call("weather", json!({"city": "Bern"})).and_tool_call("weather", json!({"town": "Rome"}));
    /// let host = Host::new().model("fast", [calls, Reply::text("It snows in Bern.")]);
    /// let reply = host.run(Prompt::new("Where does it snow?").tool(weather).run(5)).unwrap();
    /// assert_eq!(reply.text(), "It snows in Bern.");
    /// let results = host.requests()[1].tool_results();
    /// assert_eq!(results[0].content, "snow");
    /// assert_eq!((results[1].content.as_str(), results[1].is_error), ("missing field `city`", true));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the host's error of the first call that fails, [`Error::InvalidRequest`] if two tools have the same name
    /// or a name is invalid, or an [`Error::Other`] of the class `max-turns` if the model calls a tool in a turn that
    /// forbids them.
    ///
    /// # Panics
    ///
    /// Natively, outside a host.
    pub async fn run(mut self, max_turns: u32) -> Result<Reply, Error> {
        let tools = offer::offer(&self.tools);
        let mut turns_left = max_turns.max(1);
        loop {
            if turns_left == 1 && !tools.is_empty() {
                self = self.tool_choice(ToolChoice::None);
            }
            let reply = match self.clone().send().await {
                Err(Error::Denied(reason)) if self.go_without_grant(&reason) => continue,
                reply => reply?,
            };
            turns_left -= 1;
            let calls = reply.tool_calls();
            if calls.is_empty() || reply.stop == Stop::Refusal {
                return Ok(reply);
            }
            if turns_left == 0 {
                let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
                let text = format!(
                    "the model still calls {} in the last of {} turns",
                    names.join(", "),
                    max_turns.max(1)
                );
                return Err(Error::other("max-turns", text));
            }
            let results = futures_util::future::join_all(calls.iter().map(|call| answer(&tools, call))).await;
            self.go_on(reply, &results);
        }
    }

    /// As [`run`](Prompt::run), with the JSON Schema of `T` for the last reply, which is parsed as
    /// [`json`](Prompt::json) does.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| "12:00".to_owned());
    /// let host = Host::new().model("fast", [Reply::tool_call("now", json!({})), Reply::json(json!([12, 0]))]);
    /// let time = host.run(Prompt::new("What time is it?").tool(now).run_json::<Vec<u32>>(5));
    /// assert_eq!(time, Ok(vec![12, 0]));
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`run`](Prompt::run), and those of [`json`](Prompt::json) for the last reply.
    ///
    /// # Panics
    ///
    /// Natively, outside a host.
    pub async fn run_json<T: DeserializeOwned + JsonSchema>(self, max_turns: u32) -> Result<T, Error> {
        self.schema(json_schema::<T>()).run(max_turns).await?.json()
    }

    /// Continues the conversation with a reply, its content unchanged, and with the results of its calls.
    fn go_on(&mut self, reply: Reply, results: &[ToolResult]) {
        let Reply { content, .. } = reply;
        let results = results.iter().map(ToolResult::part).collect();
        self.request.messages.extend([
            Message {
                role: Role::Assistant,
                content,
            },
            Message {
                role: Role::User,
                content: results,
            },
        ]);
        // A choice that forces a call is fulfilled.
        let forbidden = ToolChoice::None.value();
        let is_kept = |(name, value): &(String, String)| name != TOOL_CHOICE || *value == forbidden;
        self.request.options.retain(is_kept);
    }
}

/// Runs the tool that the model calls.
async fn answer(tools: &[Tool], call: &ToolCall) -> ToolResult {
    let output = match tools.iter().find(|tool| tool.name() == call.name) {
        Some(tool) => tool.call(&call.arguments).await,
        None => {
            let names: Vec<String> = tools.iter().map(|tool| format!("`{}`", tool.name())).collect();
            Err(format!(
                "unknown tool `{}`; the tools are {}",
                call.name,
                names.join(", ")
            ))
        }
    };
    ToolResult {
        id: call.id.clone(),
        is_error: output.is_err(),
        content: output.unwrap_or_else(|reason| reason),
    }
}
