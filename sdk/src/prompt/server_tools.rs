//! Searches and fetches that the provider makes for the model.
//!
//! Bounded by the operator's grant, which is off by default; the host refuses what exceeds it. Left out: the results,
//! which are parts of the reply.

use serde::Serialize;

use super::linked::Linked;

/// The bounds of the searches that a provider makes for one model call, for [`Prompt::search`](crate::Prompt::search), or
/// of the pages that it reads, for [`Prompt::fetch`](crate::Prompt::fetch).
///
/// A domain has no scheme and no path, and covers its subdomains.
///
/// ```
/// use agenthost_sdk::{Prompt, Search};
///
/// let search = Search::uses(5).domains(["example.com", "example.org"]);
/// let request = Prompt::new("What does Acme cost?").search(search).into_request();
/// let option = r#"[{"kind":"web-search","max-uses":5,"allowed-domains":["example.com","example.org"]}]"#;
/// assert_eq!(request.options, [("server-tools".to_owned(), option.to_owned())]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Search {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_domains: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_domains: Option<Vec<String>>,
}

impl Search {
    /// Creates bounds of at most this many uses, at least 1. [`Search::default`] leaves the number to the grant.
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Who won?").search(Search::uses(2)).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-search","max-uses":2}]"#);
    /// ```
    #[must_use]
    pub fn uses(max: u32) -> Search {
        Search {
            max_uses: Some(max),
            ..Search::default()
        }
    }

    /// Allows only pages of these domains. It excludes [`without`](Search::without). An empty list would allow no page:
    /// the host rejects it as an invalid request.
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Who won?").search(Search::default().domains(["example.com"])).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-search","allowed-domains":["example.com"]}]"#);
    /// ```
    #[must_use]
    pub fn domains<D: Into<String>>(mut self, domains: impl IntoIterator<Item = D>) -> Search {
        let allowed = self.allowed_domains.get_or_insert_default();
        allowed.extend(domains.into_iter().map(Into::into));
        self
    }

    /// Blocks pages of these domains. It excludes [`domains`](Search::domains), and an empty list is invalid as there.
    ///
    /// ```
    /// use agenthost_sdk::{Prompt, Search};
    ///
    /// let request = Prompt::new("Who won?").search(Search::default().without(["example.com"])).into_request();
    /// assert_eq!(request.options[0].1, r#"[{"kind":"web-search","blocked-domains":["example.com"]}]"#);
    /// ```
    #[must_use]
    pub fn without<D: Into<String>>(mut self, domains: impl IntoIterator<Item = D>) -> Search {
        let blocked = self.blocked_domains.get_or_insert_default();
        blocked.extend(domains.into_iter().map(Into::into));
        self
    }
}

/// The tools that run at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ServerToolKind {
    WebSearch,
    WebFetch,
}

impl ServerToolKind {
    fn name(self) -> &'static str {
        match self {
            ServerToolKind::WebSearch => "web-search",
            ServerToolKind::WebFetch => "web-fetch",
        }
    }
}

/// The way in which a call goes on without the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithoutGrant {
    /// The call fails.
    Fail,
    /// The call is made without the tool.
    GoOn,
}

/// The element of the option `server-tools`.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct ServerTool {
    kind: ServerToolKind,
    #[serde(flatten)]
    bounds: Search,
    #[serde(skip)]
    without_grant: WithoutGrant,
}

/// The tools at the provider that a prompt asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServerTools(Vec<ServerTool>);

impl ServerTools {
    /// Adds a tool, or replaces the one of the same kind.
    pub(super) fn set(&mut self, kind: ServerToolKind, bounds: Search, without_grant: WithoutGrant) {
        self.0.retain(|known| known.kind != kind);
        self.0.push(ServerTool {
            kind,
            bounds,
            without_grant,
        });
    }

    /// Returns the value of the option `server-tools`, if there are any.
    pub(super) fn option(&self) -> Option<String> {
        option(self.0.iter())
    }

    /// Returns the second attempt after a denial; `None` if all tools have to be granted.
    pub(super) fn if_denied(&self) -> Option<SecondAttempt> {
        let is_needed = |tool: &&ServerTool| tool.without_grant == WithoutGrant::Fail;
        let (needed, left_out): (Vec<&ServerTool>, Vec<&ServerTool>) = self.0.iter().partition(is_needed);
        let names: Vec<&str> = left_out.iter().map(|tool| tool.kind.name()).collect();
        (!names.is_empty()).then(|| SecondAttempt {
            server_tools: option(needed.into_iter()),
            left_out: names.join(" and "),
            log: Linked(log),
        })
    }
}

/// The request that is sent after a denial.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SecondAttempt {
    /// The option `server-tools`; `None` if the request has none.
    pub(super) server_tools: Option<String>,
    /// The names of the tools that the first request has and this one has not.
    left_out: String,
    log: Linked<fn(&str, &str)>,
}

impl SecondAttempt {
    /// Writes to the task's log why the model answers without the tools.
    pub(super) fn log(&self, denial: &str) {
        let Linked(log) = self.log;
        log(denial, &self.left_out);
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the host keeps the standard error of a task as its log"
)]
fn log(denial: &str, left_out: &str) {
    eprintln!("the model call is denied: {denial}; it is sent again without {left_out}");
}

fn option<'a>(tools: impl ExactSizeIterator<Item = &'a ServerTool>) -> Option<String> {
    let tools: Vec<&ServerTool> = (tools.len() > 0).then(|| tools.collect())?;
    serde_json::to_string(&tools).ok()
}
