//! The loop of a conversation with tools: the model calls, the plugin answers, until the model has its answer.
//!
//! Each turn is an ordinary model call with limits of its own, which the host counts and records. The number of turns is
//! bounded by the author. Left out: running tools that the model did not call, and changing the content of a reply.
//!
//! The content of the reply that the loop returns has the parts of all turns. The results of calls end a turn, so the
//! last turn is what comes after the last result.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::options::ToolChoice;
use super::{Prompt, offer};
use crate::extension::{ToolCall, ToolResult};
use crate::llm::{Error, Message, Reply, Role, Stop, Usage};
use crate::schema::json_schema;
use crate::tool::Tool;

const TOOL_CHOICE: &str = "tool-choice";

impl Prompt {
    /// Sends the prompt and answers the model's calls of [tools](Prompt::tool) until it replies without one, in at most
    /// `max_turns` model calls (at least one). Returns that last reply, with what came before it.
    ///
    /// The [`text`](Reply::text) of the returned reply is that of the last turn alone. Its
    /// [`citations`](Reply::citations), [`searches`](Reply::searches) and tokens are those of all turns: `content` has the
    /// parts of each turn, with the results of its calls after them.
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
    /// let calls = Reply::tool_call("weather", json!({"city": "Bern"})).with_tool_call("weather", json!({"town": "Rome"}));
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
    /// or a name is invalid, [`Error::InvalidReply`] if the model calls tools and no call can be read, or an
    /// [`Error::Other`] of the class `max-turns` if the model calls a tool in a turn that forbids them.
    ///
    /// # Panics
    ///
    /// Natively, outside a host.
    pub async fn run(mut self, max_turns: u32) -> Result<Reply, Error> {
        let tools = offer::offer(&self.tools);
        let mut turns_left = max_turns.max(1);
        let first = self.request.messages.len();
        let mut usage = NO_USAGE;
        loop {
            if turns_left == 1 && !tools.is_empty() {
                self = self.tool_choice(ToolChoice::None);
            }
            let mut reply = match self.clone().send().await {
                Err(Error::Denied(reason)) if self.go_without_grant(&reason) => continue,
                reply => reply?,
            };
            turns_left -= 1;
            usage = sum(usage, reply.usage);
            let calls = reply.tool_calls();
            if calls.is_empty() && reply.stop == Stop::ToolUse {
                return Err(reply.unanswered());
            }
            if calls.is_empty() || reply.stop == Stop::Refusal {
                let earlier = self.request.messages.drain(first..);
                let earlier = earlier.flat_map(|message| message.content);
                reply.content.splice(0..0, earlier);
                reply.usage = usage;
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
            self = self.answered(reply, results);
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

    /// Continues the conversation with a reply of the model and the results of its calls, for a loop that the author
    /// writes instead of [`run`](Prompt::run): to ask before a call, or to end at a certain one.
    ///
    /// The next request is valid only if each of the reply's [`tool_calls`](Reply::tool_calls) has exactly one result.
    /// The content of the reply goes back unchanged, as providers require. A [`tool_choice`](Prompt::tool_choice) that
    /// forces a call is fulfilled, and no longer part of the prompt. A reply of [`run`](Prompt::run) has no calls left and
    /// continues without results.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    /// use agenthost_sdk::ToolResult;
    ///
    /// #[derive(Deserialize, JsonSchema)]
    /// struct File {
    ///     name: String,
    /// }
    ///
    /// async fn tidy_up() -> Result<String, Failure> {
    ///     let remove = Tool::new::<File>("remove", "Removes a file.", async |file| format!("{} is gone", file.name));
    ///     let mut prompt = Prompt::new("Tidy up.").tool(remove.clone());
    ///     for _turn in 0..5 {
    ///         let reply = prompt.clone().reply().await?;
    ///         let calls = reply.tool_calls();
    ///         if calls.is_empty() {
    ///             return Ok(reply.text());
    ///         }
    ///         let mut results = Vec::new();
    ///         for call in &calls {
    ///             results.push(match call.arguments["name"] == "taxes.pdf" {
    ///                 true => ToolResult::error(call, "the user keeps this file"),
    ///                 false => remove.answer(call).await,
    ///             });
    ///         }
    ///         prompt = prompt.answered(reply, results);
    ///     }
    ///     Err(Failure::failed("no end in 5 turns"))
    /// }
    ///
    /// let call = |name| Reply::tool_call("remove", json!({"name": name}));
    /// let host = Host::new().model("fast", [call("a.tmp"), call("taxes.pdf"), Reply::text("Done.")]);
    /// assert_eq!(host.run(tidy_up()), Ok("Done.".to_owned()));
    /// let results: Vec<String> = host.requests()[2].tool_results().into_iter().map(|result| result.content).collect();
    /// assert_eq!(results, ["a.tmp is gone", "the user keeps this file"]);
    /// ```
    pub fn answered(mut self, reply: Reply, results: impl IntoIterator<Item = ToolResult>) -> Prompt {
        let results = results.into_iter().map(|result| result.part());
        let mut messages: Vec<Message> = Vec::new();
        for part in reply.content.into_iter().chain(results) {
            let role = match ToolResult::is_in(&part) {
                true => Role::User,
                false => Role::Assistant,
            };
            match messages.last_mut() {
                Some(last) if last.role == role => last.content.push(part),
                _ => messages.push(Message {
                    role,
                    content: vec![part],
                }),
            }
        }
        self.request.messages.extend(messages);
        let forbidden = ToolChoice::None.value();
        let is_kept = |(name, value): &(String, String)| name != TOOL_CHOICE || *value == forbidden;
        self.request.options.retain(is_kept);
        self
    }
}

/// Runs the tool that the model calls.
async fn answer(tools: &[Tool], call: &ToolCall) -> ToolResult {
    match tools.iter().find(|tool| tool.name() == call.name) {
        Some(tool) => tool.answer(call).await,
        None => {
            let names: Vec<String> = tools.iter().map(|tool| format!("`{}`", tool.name())).collect();
            let names = names.join(", ");
            ToolResult::error(call, format!("unknown tool `{}`; the tools are {names}", call.name))
        }
    }
}

const NO_USAGE: Usage = Usage {
    input: 0,
    cached_input: 0,
    cache_write_input: 0,
    output: 0,
    reasoning_output: 0,
};

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        input: a.input.saturating_add(b.input),
        cached_input: a.cached_input.saturating_add(b.cached_input),
        cache_write_input: a.cache_write_input.saturating_add(b.cache_write_input),
        output: a.output.saturating_add(b.output),
        reasoning_output: a.reasoning_output.saturating_add(b.reasoning_output),
    }
}
