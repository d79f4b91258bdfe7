//! The replies of a scripted model, and their delays.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::extension::{Citation, ToolCall, WebSearch};
use crate::llm::{self, Part, Stop, Usage};

/// A model's reply, or the error that takes its place.
///
/// ```
/// use agenthost_sdk::Prompt;
/// use agenthost_sdk::llm::{Error, Stop};
/// use agenthost_sdk::testing::{Host, Reply};
///
/// let host = Host::new().model("fast", [Reply::text("Once upon a").stop(Stop::MaxTokens)]);
/// let reply = host.run(Prompt::new("Tell a story.").reply()).unwrap();
/// assert_eq!((reply.text().as_str(), reply.stop), ("Once upon a", Stop::MaxTokens));
/// ```
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) result: Result<llm::Reply, llm::Error>,
    /// `None` if it never comes.
    pub(super) delay: Option<Duration>,
}

impl Reply {
    /// Creates a reply of this text.
    pub fn text(text: impl Into<String>) -> Reply {
        let usage = Usage {
            input: 0,
            cached_input: 0,
            cache_write_input: 0,
            output: 0,
            reasoning_output: 0,
        };
        Reply::full(llm::Reply {
            content: vec![Part::Text(text.into())],
            // Filled in with the request's.
            model: String::new(),
            stop: Stop::End,
            usage,
        })
    }

    /// Creates a reply of this value as JSON, for [`Prompt::json`](crate::Prompt::json).
    ///
    /// ```
    /// use agenthost_sdk::Prompt;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new().model("fast", [Reply::json(json!(["blue", "green"]))]);
    /// let colours = host.run(Prompt::new("Name two colours.").json::<Vec<String>>());
    /// assert_eq!(colours.unwrap()[1], "green");
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the value cannot be written as JSON, such as a map whose keys are lists.
    #[expect(clippy::panic, reason = "fails the test that wrote the value")]
    pub fn json(value: impl Serialize) -> Reply {
        match serde_json::to_string(&value) {
            Ok(text) => Reply::text(text),
            Err(error) => panic!("not a reply in JSON: {error}"),
        }
    }

    /// Creates a reply that calls a tool. The call gets an id of its own when the reply is taken.
    ///
    /// Arguments that are a text are those of a model that writes invalid JSON.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let double = Tool::new::<i64>("double", "Doubles.", async |number| Ok::<_, String>(number * 2));
    /// let replies = [Reply::tool_call("double", json!("{\"input\":")), Reply::tool_call("double", json!({"input": 4}))];
    /// let host = Host::new().model("fast", replies).model("fast", [Reply::text("8")]);
    /// host.run(Prompt::new("What is 4 + 4?").tool(double).run(5)).unwrap();
    /// let results = host.requests()[2].tool_results();
    /// assert!(results[0].is_error && results[0].content.starts_with("the arguments are not valid JSON"));
    /// assert_eq!(results[1].content, "8");
    /// ```
    #[must_use]
    pub fn tool_call(name: &str, arguments: Value) -> Reply {
        let mut reply = Reply::text("");
        if let Ok(reply) = &mut reply.result {
            reply.content.clear();
        }
        reply.with_tool_call(name, arguments)
    }

    /// Adds a call of a tool to the reply.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let double = Tool::new::<i64>("double", "Doubles.", async |number| Ok::<_, String>(number * 2));
    /// let calls = Reply::text("Let me see.").with_tool_call("double", json!({"input": 4}));
    /// let host = Host::new().model("fast", [calls, Reply::text("8")]);
    /// assert_eq!(host.run(Prompt::new("What is 4 + 4?").tool(double).run(5)).unwrap().text(), "8");
    /// ```
    #[must_use]
    pub fn with_tool_call(self, name: &str, arguments: Value) -> Reply {
        let call = ToolCall {
            // Filled in when the reply is taken.
            id: String::new(),
            name: name.to_owned(),
            arguments,
        };
        self.and(call.part()).stop(Stop::ToolUse)
    }

    /// Adds a source for the text of the reply so far.
    ///
    /// ```
    /// use agenthost_sdk::testing::{Host, Reply};
    /// use agenthost_sdk::{Citation, Prompt};
    ///
    /// let reply = Reply::text("5 CHF").with_citation(Citation::new("https://example.com"));
    /// let host = Host::new().model("fast", [reply]);
    /// let reply = host.run(Prompt::new("What does it cost?").reply()).unwrap();
    /// assert_eq!(reply.citations()[0].text, "5 CHF");
    /// ```
    #[must_use]
    pub fn with_citation(self, citation: Citation) -> Reply {
        self.and(citation.part())
    }

    /// Adds a search that the provider made for the reply.
    ///
    /// ```
    /// use agenthost_sdk::testing::{Host, Reply};
    /// use agenthost_sdk::{Prompt, WebSearch};
    ///
    /// let host = Host::new().model("fast", [Reply::text("5 CHF").with_search(WebSearch::new(["prices"]))]);
    /// let reply = host.run(Prompt::new("What does it cost?").reply()).unwrap();
    /// assert_eq!(reply.searches()[0].queries, ["prices"]);
    /// ```
    #[must_use]
    pub fn with_search(self, search: WebSearch) -> Reply {
        self.and(search.part())
    }

    fn and(mut self, part: Part) -> Reply {
        if let Ok(reply) = &mut self.result {
            reply.content.push(part);
        }
        self
    }

    /// Creates a reply with all its parts. An empty `model` becomes the name in the request.
    #[must_use]
    pub fn full(reply: llm::Reply) -> Reply {
        Reply {
            result: Ok(reply),
            delay: Some(Duration::ZERO),
        }
    }

    /// Creates an error instead of a reply.
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    /// use agenthost_sdk::testing::{Host, Reply};
    /// use agenthost_sdk::{Failure, Prompt};
    ///
    /// let host = Host::new().model("fast", [Reply::error(Error::ContextOverflow)]);
    /// let failed = host.run(Prompt::new("Sum the book up.").text()).unwrap_err();
    /// assert_eq!(Failure::from(failed), Failure::ContextOverflow);
    /// ```
    #[must_use]
    pub fn error(error: llm::Error) -> Reply {
        Reply {
            result: Err(error),
            delay: Some(Duration::ZERO),
        }
    }

    /// Creates a reply that never comes, for a call that the task drops.
    #[must_use]
    pub fn never() -> Reply {
        Reply {
            delay: None,
            ..Reply::text("")
        }
    }

    /// Delays the reply: it comes this much virtual time after its request.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use agenthost_sdk::join::{self, branch};
    /// use agenthost_sdk::Prompt;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new()
    ///     .model("fast", [Reply::text("late").after(Duration::from_secs(5))])
    ///     .model("strong", [Reply::text("early").after(Duration::from_secs(1))]);
    /// let won = host.run(join::first(["fast", "strong"].map(|name| branch(name, Prompt::new("?").model(name).text()))));
    /// assert_eq!(won.unwrap().name, "strong");
    /// ```
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Reply {
        self.delay = Some(delay);
        self
    }

    /// Sets the reason why the reply ended, such as [`Stop::MaxTokens`] or [`Stop::Refusal`].
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Reply {
        if let Ok(reply) = &mut self.result {
            reply.stop = stop;
        }
        self
    }

    /// Sets the tokens that the reply took; the default is zero.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Reply {
        if let Ok(reply) = &mut self.result {
            reply.usage = usage;
        }
        self
    }
}
