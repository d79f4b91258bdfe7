//! The tools that a prompt offers: those of the plugin, and those at the provider.
//!
//! Each function here writes the options at once, so that a plugin that offers no tools contains no code for them.

use super::linked::Linked;
use super::options::ToolChoice;
use super::server_tools::{Search, ServerToolKind, WithoutGrant};
use super::{Prompt, offer, set_option};
use crate::llm::Reply;
use crate::tool::Tool;

impl Prompt {
    /// Offers a tool to the model. [`run`](Prompt::run) answers its calls. [`reply`](Prompt::reply) makes one model call
    /// and leaves them to the caller; [`text`](Prompt::text) and [`json`](Prompt::json) fail if the model calls a tool.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::serde_json::json;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| "12:00".to_owned());
    /// let host = Host::new().model("fast", [Reply::tool_call("now", json!({})), Reply::text("It is noon.")]);
    /// let reply = host.run(Prompt::new("What time is it?").tool(now).run(5)).unwrap();
    /// assert_eq!(reply.text(), "It is noon.");
    /// ```
    pub fn tool(mut self, tool: Tool) -> Prompt {
        self.tools.push(tool);
        self.unanswered = Linked(Reply::unanswered);
        let offered = offer::offer(&self.tools);
        self.invalid = offer::invalid(&offered);
        self.option("tools", offer::option(&offered))
    }

    /// Sets which tools the model may or must call; the default is [`ToolChoice::Auto`]. It needs a tool.
    ///
    /// In [`run`](Prompt::run), a choice that forces a call counts for the first turn alone: the model could never
    /// answer otherwise. The last turn forbids tools whatever the choice, so `run(1)` never forces a call.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| "12:00".to_owned());
    /// let prompt = Prompt::new("What time is it?").tool(now).tool_choice(ToolChoice::Tool("now".to_owned()));
    /// assert_eq!(prompt.into_request().options[1], ("tool-choice".to_owned(), "tool:now".to_owned()));
    /// ```
    pub fn tool_choice(self, choice: ToolChoice) -> Prompt {
        self.option("tool-choice", choice.value())
    }

    /// Sets whether one reply may call several tools; the default is the model's. It needs a tool.
    ///
    /// ```
    /// use agenthost_sdk::prelude::*;
    ///
    /// let now = Tool::new::<()>("now", "Returns the time.", async |()| "12:00".to_owned());
    /// let request = Prompt::new("What time is it?").tool(now).parallel_tools(false).into_request();
    /// assert_eq!(request.options[1], ("parallel-tools".to_owned(), "false".to_owned()));
    /// ```
    pub fn parallel_tools(self, parallel: bool) -> Prompt {
        self.option("parallel-tools", parallel.to_string())
    }

    /// Lets the provider search the web for the model, within these bounds. The operator has to grant it; without the
    /// grant, the call fails with [`Error::Denied`](crate::llm::Error::Denied).
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new().model("fast", [Reply::error(Error::Denied("web-search".to_owned()))]);
    /// let failed = host.run(Prompt::new("Who won?").search(Search::uses(2)).text()).unwrap_err();
    /// assert_eq!(Failure::from(failed), Failure::Denied("web-search".to_owned()));
    /// ```
    pub fn search(self, bounds: Search) -> Prompt {
        self.server_tool(ServerToolKind::WebSearch, bounds, WithoutGrant::Fail)
    }

    /// As [`search`](Prompt::search), but without the grant the model answers from memory: if the host denies the
    /// request, for whatever reason, the same request is sent again without the search. The reply's
    /// [`searches`](crate::llm::Reply::searches) show whether any was made.
    ///
    /// The host denies a search that is not granted, that has no domain in common with the grant, or that no provider of
    /// the model can make; the reason is written to the task's log. It also denies models that are not granted: the second
    /// request is then denied too. A denied request costs nothing.
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let denied = Reply::error(Error::Denied("web-search".to_owned()));
    /// let host = Host::new().model("fast", [denied, Reply::text("France, in 2018.")]);
    /// let reply = host.run(Prompt::new("Who won?").search_if_granted(Search::uses(2)).reply()).unwrap();
    /// assert_eq!((reply.text().as_str(), reply.searches().len()), ("France, in 2018.", 0));
    /// assert_eq!(host.requests()[1].options, []);
    /// ```
    pub fn search_if_granted(self, bounds: Search) -> Prompt {
        self.server_tool(ServerToolKind::WebSearch, bounds, WithoutGrant::GoOn)
    }

    /// Lets the provider read pages of the web for the model, within these bounds. The operator has to grant it; without
    /// the grant, the call fails with [`Error::Denied`](crate::llm::Error::Denied).
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Sum up https://example.com/news.").fetch(Search::uses(1)).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-fetch","max-uses":1}]"#);
    /// ```
    pub fn fetch(self, bounds: Search) -> Prompt {
        self.server_tool(ServerToolKind::WebFetch, bounds, WithoutGrant::Fail)
    }

    /// As [`fetch`](Prompt::fetch), but without the grant the model answers from memory, as with
    /// [`search_if_granted`](Prompt::search_if_granted).
    ///
    /// ```
    /// use agenthost_sdk::llm::Error;
    /// use agenthost_sdk::prelude::*;
    /// use agenthost_sdk::testing::{Host, Reply};
    ///
    /// let host = Host::new().model("fast", [Reply::error(Error::Denied("web-fetch".into())), Reply::text("News.")]);
    /// let prompt = Prompt::new("Sum up https://example.com/news.").fetch_if_granted(Search::uses(1));
    /// assert_eq!(host.run(prompt.text()), Ok("News.".to_owned()));
    /// ```
    pub fn fetch_if_granted(self, bounds: Search) -> Prompt {
        self.server_tool(ServerToolKind::WebFetch, bounds, WithoutGrant::GoOn)
    }

    fn server_tool(mut self, kind: ServerToolKind, bounds: Search, without_grant: WithoutGrant) -> Prompt {
        self.server_tools.set(kind, bounds, without_grant);
        self.if_denied = self.server_tools.if_denied();
        set_option(&mut self.request, "server-tools", self.server_tools.option());
        self
    }
}
