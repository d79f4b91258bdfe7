//! Tools that a provider runs at its side, such as web search: requests for them, and grants.
//!
//! Such a tool widens what a plugin can do: the model can write input data into a query, and a page can contain
//! instructions. So an operator has to grant each, and a grant bounds it. Grants, the wishes of manifests and the
//! ceilings of policies have the same form.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::option_value::read_json;
use crate::nearest::nearest;

/// The most uses of a tool in one model call, if neither the request nor the grant sets another number.
pub const DEFAULT_MAX_USES: u32 = 5;
/// The highest number of uses that a grant can set.
pub const MOST_USES: u32 = 100;
/// The most domains of one list.
const MAX_DOMAINS: usize = 100;

/// The kind of a tool that a provider runs.
///
/// ```
/// use agenthost_core::llm::ServerToolKind;
///
/// assert_eq!("web-fetch".parse(), Ok(ServerToolKind::WebFetch));
/// let why = "web-serch".parse::<ServerToolKind>();
/// assert_eq!(why, Err("`web-serch` is not a tool of a provider; the nearest is `web-search`".to_owned()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerToolKind {
    /// Searches the web.
    WebSearch,
    /// Reads a page.
    WebFetch,
}

impl ServerToolKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::WebSearch, Self::WebFetch];

    /// Returns the name: `web-search` or `web-fetch`.
    ///
    /// ```
    /// use agenthost_core::llm::ServerToolKind;
    ///
    /// assert_eq!(ServerToolKind::WebSearch.name(), "web-search");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSearch => "web-search",
            Self::WebFetch => "web-fetch",
        }
    }

    /// Returns the name under which a model calls the tool.
    pub(super) fn wire_name(self) -> &'static str {
        match self {
            Self::WebSearch => "web_search",
            Self::WebFetch => "web_fetch",
        }
    }
}

impl FromStr for ServerToolKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| match nearest(name, names.into_iter()) {
            Some(near) => format!("`{name}` is not a tool of a provider; the nearest is `{near}`"),
            None => format!(
                "`{name}` is not a tool of a provider; the known ones are {}",
                names.join(" and ")
            ),
        })
    }
}

impl fmt::Display for ServerToolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl<'de> Deserialize<'de> for ServerToolKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// A domain without scheme and path, in lower case. It covers its subdomains.
///
/// ```
/// use agenthost_core::llm::server_tool::Domain;
///
/// let domain: Domain = "Example.com".parse()?;
/// assert!(domain.covers(&"docs.example.com".parse()?) && !domain.covers(&"badexample.com".parse()?));
/// assert!("https://example.com".parse::<Domain>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Domain(String);

impl Domain {
    /// Returns the domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether `other` is this domain or one below it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0 == self.0 || other.0.strip_suffix(&self.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && text.contains('.') && text.split('.').all(label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(format!(
                "{text:?} is not a domain; write it without scheme and path, such as \"example.com\""
            ))
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Reads a list of domains that is there. An empty one would mean all domains.
fn some_domains<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Domain>, D::Error> {
    let domains = Vec::deserialize(deserializer)?;
    match domains.is_empty() {
        true => Err(D::Error::custom(
            "a list of domains is empty; leave it out for all domains",
        )),
        false => Ok(domains),
    }
}

/// The bounds of one tool: in a grant, in the wish of a manifest, or in the ceiling of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ServerToolGrant {
    /// The most uses in one model call; `None` for [`DEFAULT_MAX_USES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// The domains that the tool may use, with their subdomains; empty for all.
    #[serde(deserialize_with = "some_domains", skip_serializing_if = "Vec::is_empty")]
    pub allowed_domains: Vec<Domain>,
    /// The domains that the tool may not use. Excludes `allowed_domains`.
    #[serde(deserialize_with = "some_domains", skip_serializing_if = "Vec::is_empty")]
    pub blocked_domains: Vec<Domain>,
}

impl ServerToolGrant {
    /// Returns the most uses in one model call.
    pub fn uses(&self) -> u32 {
        self.max_uses.unwrap_or(DEFAULT_MAX_USES)
    }

    /// Checks the values.
    ///
    /// ```
    /// use agenthost_core::llm::ServerToolGrant;
    ///
    /// let none = ServerToolGrant { max_uses: Some(0), ..ServerToolGrant::default() };
    /// assert!(none.check().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason if a number is out of range, or if both lists of domains are set.
    pub fn check(&self) -> Result<(), String> {
        if self.max_uses.is_some_and(|uses| uses == 0 || uses > MOST_USES) {
            return Err(format!("`max-uses` is a number from 1 to {MOST_USES}"));
        }
        if !self.allowed_domains.is_empty() && !self.blocked_domains.is_empty() {
            return Err("`allowed-domains` and `blocked-domains` exclude each other".to_owned());
        }
        if self.allowed_domains.len().max(self.blocked_domains.len()) > MAX_DOMAINS {
            return Err(format!("a list of domains has at most {MAX_DOMAINS}"));
        }
        Ok(())
    }

    /// Returns the narrower of two grants, such as the operator's within a policy's ceiling, or `None` if no domain is
    /// left.
    ///
    /// ```
    /// use agenthost_core::llm::ServerToolGrant;
    ///
    /// let ceiling = ServerToolGrant { allowed_domains: vec!["example.com".parse()?], ..ServerToolGrant::default() };
    /// let other = ServerToolGrant { allowed_domains: vec!["other.org".parse()?], ..ServerToolGrant::default() };
    /// assert_eq!(other.within(&ceiling), None);
    /// assert_eq!(ServerToolGrant::default().within(&ceiling), Some(ceiling.clone()));
    /// # Ok::<(), String>(())
    /// ```
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> Option<Self> {
        let max_uses = match (self.max_uses, ceiling.max_uses) {
            (None, None) => None,
            _ => Some(self.uses().min(ceiling.uses())),
        };
        let mut allowed = match (self.allowed_domains.is_empty(), ceiling.allowed_domains.is_empty()) {
            (true, _) => ceiling.allowed_domains.clone(),
            (false, true) => self.allowed_domains.clone(),
            (false, false) => common(&self.allowed_domains, &ceiling.allowed_domains),
        };
        let mut blocked: Vec<Domain> = self.blocked_domains.clone();
        for domain in &ceiling.blocked_domains {
            if !blocked.contains(domain) {
                blocked.push(domain.clone());
            }
        }
        let is_limited = !self.allowed_domains.is_empty() || !ceiling.allowed_domains.is_empty();
        if is_limited {
            // Providers take one of both lists. An allowed domain with a blocked one below it is left out.
            allowed.retain(|allowed| {
                !blocked
                    .iter()
                    .any(|blocked| blocked.covers(allowed) || allowed.covers(blocked))
            });
            blocked.clear();
            if allowed.is_empty() {
                return None;
            }
        }
        Some(Self {
            max_uses,
            allowed_domains: allowed,
            blocked_domains: blocked,
        })
    }

    /// Explains why [`ServerToolGrant::within`] leaves no domain, as the end of a sentence. Returns an empty text if both
    /// grants just name different domains.
    #[doc(hidden)]
    pub fn no_domain_left(&self, ceiling: &Self) -> String {
        let within = |allowed: &Self, blocked: &Self| {
            let mut pairs = allowed.allowed_domains.iter().flat_map(|allowed| {
                let below = blocked.blocked_domains.iter().find(|blocked| allowed.covers(blocked));
                below
                    .filter(|below| *below != allowed)
                    .map(|below| (allowed.clone(), below.clone()))
            });
            pairs.next()
        };
        match within(self, ceiling).or_else(|| within(ceiling, self)) {
            Some((allowed, blocked)) => format!(
                "; {allowed} is left out because {blocked} below it is blocked, and a provider takes only one of both lists"
            ),
            None => String::new(),
        }
    }

    /// Returns whether this grant allows everything that `other` does.
    ///
    /// ```
    /// use agenthost_core::llm::ServerToolGrant;
    ///
    /// let three = ServerToolGrant { max_uses: Some(3), ..ServerToolGrant::default() };
    /// assert!(ServerToolGrant::default().covers(&three) && !three.covers(&ServerToolGrant::default()));
    /// ```
    pub fn covers(&self, other: &Self) -> bool {
        let domains = if self.allowed_domains.is_empty() {
            self.blocked_domains.iter().all(|blocked| other.excludes(blocked))
        } else {
            let within = |domain: &Domain| self.allowed_domains.iter().any(|allowed| allowed.covers(domain));
            !other.allowed_domains.is_empty() && other.allowed_domains.iter().all(within)
        };
        other.uses() <= self.uses() && domains
    }

    /// Returns whether the grant allows no page of `domain`.
    fn excludes(&self, domain: &Domain) -> bool {
        if self.allowed_domains.is_empty() {
            return self.blocked_domains.iter().any(|blocked| blocked.covers(domain));
        }
        let reaches = |allowed: &Domain| allowed.covers(domain) || domain.covers(allowed);
        !self.allowed_domains.iter().any(reaches)
    }
}

/// Returns the domains that both lists allow.
fn common(one: &[Domain], other: &[Domain]) -> Vec<Domain> {
    let mut both = Vec::new();
    for a in one {
        for b in other {
            let narrower = if a.covers(b) {
                b
            } else if b.covers(a) {
                a
            } else {
                continue;
            };
            if !both.contains(narrower) {
                both.push(narrower.clone());
            }
        }
    }
    both
}

/// Writes `5 uses a call` and the domains.
impl fmt::Display for ServerToolGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |domains: &[Domain]| {
            let texts: Vec<_> = domains.iter().map(Domain::as_str).collect();
            texts.join(", ")
        };
        match self.uses() {
            1 => f.write_str("1 use a call")?,
            uses => write!(f, "{uses} uses a call")?,
        }
        if !self.allowed_domains.is_empty() {
            write!(f, ", only {}", list(&self.allowed_domains))?;
        }
        if !self.blocked_domains.is_empty() {
            write!(f, ", not {}", list(&self.blocked_domains))?;
        }
        Ok(())
    }
}

/// The tools that a plugin may use, with their bounds.
///
/// ```
/// use agenthost_core::llm::ServerToolGrants;
///
/// let grants: ServerToolGrants = serde_json::from_str(r#"{"web-search": {"max-uses": 3}}"#)?;
/// assert_eq!(grants.to_string(), "web-search (3 uses a call)");
/// assert!(grants.covers(&ServerToolGrants::default()) && !ServerToolGrants::default().covers(&grants));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerToolGrants(pub BTreeMap<ServerToolKind, ServerToolGrant>);

impl ServerToolGrants {
    /// Returns whether no tool is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the grant of one tool.
    pub fn get(&self, kind: ServerToolKind) -> Option<&ServerToolGrant> {
        self.0.get(&kind)
    }

    /// Returns the same tools, each with its number of uses written out.
    ///
    /// ```
    /// use agenthost_core::llm::ServerToolGrants;
    ///
    /// let grants: ServerToolGrants = serde_json::from_str(r#"{"web-search": {}}"#)?;
    /// assert_eq!(serde_json::to_string(&grants.with_uses())?, r#"{"web-search":{"max-uses":5}}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn with_uses(mut self) -> Self {
        for grant in self.0.values_mut() {
            grant.max_uses = Some(grant.uses());
        }
        self
    }

    /// Returns the tools that both grant, each with the narrower bounds.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> Self {
        let narrowed = self.0.iter().filter_map(|(kind, grant)| {
            let ceiling = ceiling.0.get(kind)?;
            Some((*kind, grant.within(ceiling)?))
        });
        Self(narrowed.collect())
    }

    /// Returns whether this allows everything that `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        let covered =
            |(kind, grant): (&ServerToolKind, &ServerToolGrant)| self.0.get(kind).is_some_and(|own| own.covers(grant));
        other.0.iter().all(covered)
    }
}

/// Writes the tools with their bounds; `none` if there are none.
impl fmt::Display for ServerToolGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let texts: Vec<_> = self.0.iter().map(|(kind, grant)| format!("{kind} ({grant})")).collect();
        f.write_str(&texts.join("; "))
    }
}

/// A tool that a request asks the provider to run.
///
/// ```
/// use agenthost_core::llm::{ServerTool, ServerToolKind};
///
/// let tools = ServerTool::read_list(r#"[{"kind": "web-search", "max-uses": 2}]"#)?;
/// assert_eq!((tools[0].kind, tools[0].max_uses), (ServerToolKind::WebSearch, Some(2)));
/// assert!(ServerTool::read_list(r#"[{"kind": "shell"}]"#).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerTool {
    /// The kind.
    pub kind: ServerToolKind,
    /// The most uses. A provider receives it always: the host sets it from the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// The domains that the tool may use, with their subdomains; empty for all.
    #[serde(default, deserialize_with = "some_domains", skip_serializing_if = "Vec::is_empty")]
    pub allowed_domains: Vec<Domain>,
    /// The domains that the tool may not use. Excludes `allowed_domains`.
    #[serde(default, deserialize_with = "some_domains", skip_serializing_if = "Vec::is_empty")]
    pub blocked_domains: Vec<Domain>,
}

impl ServerTool {
    /// Reads the value of the option `server-tools`.
    ///
    /// # Errors
    ///
    /// Returns the reason if it is not a list of known tools, each at most once and with valid bounds.
    pub fn read_list(text: &str) -> Result<Vec<Self>, String> {
        let tools: Vec<Self> = read_json("server-tools", "a list of tools of the provider", text)?;
        if tools.is_empty() {
            return Err("option `server-tools` has no tool".to_owned());
        }
        for (index, tool) in tools.iter().enumerate() {
            if tools.iter().take(index).any(|other| other.kind == tool.kind) {
                return Err(format!("option `server-tools` has {} twice", tool.kind));
            }
            tool.bounds()
                .check()
                .map_err(|why| format!("option `server-tools`, {}: {why}", tool.kind))?;
        }
        Ok(tools)
    }

    /// Returns the bounds that the request sets itself.
    pub fn bounds(&self) -> ServerToolGrant {
        ServerToolGrant {
            max_uses: self.max_uses,
            allowed_domains: self.allowed_domains.clone(),
            blocked_domains: self.blocked_domains.clone(),
        }
    }

    /// Returns the tool as the provider receives it: within the bounds of `grant`, and with a number of uses.
    ///
    /// # Errors
    ///
    /// Returns the reason if the request asks for domains that the grant does not allow. More uses than granted are
    /// no error: the provider receives the granted number.
    pub fn granted(&self, grant: &ServerToolGrant) -> Result<Self, String> {
        let outside = |domain: &&Domain| {
            let allowed = &grant.allowed_domains;
            let is_allowed = allowed.is_empty() || allowed.iter().any(|allowed| allowed.covers(domain));
            !is_allowed || grant.blocked_domains.iter().any(|blocked| blocked.covers(domain))
        };
        if let Some(domain) = self.allowed_domains.iter().find(outside) {
            return Err(format!("the domain {domain} is not granted for {}", self.kind));
        }
        let asked = self.bounds();
        let bounds = asked.within(grant).ok_or_else(|| {
            let why = asked.no_domain_left(grant);
            format!("no domain that is granted for {} is left{why}", self.kind)
        })?;
        let asked = self.max_uses.unwrap_or(grant.uses());
        Ok(Self {
            kind: self.kind,
            max_uses: Some(asked.min(grant.uses())),
            allowed_domains: bounds.allowed_domains,
            blocked_domains: bounds.blocked_domains,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(json: &str) -> ServerToolGrant {
        let grant: ServerToolGrant = serde_json::from_str(json).unwrap();
        grant.check().unwrap();
        grant
    }

    #[test]
    fn a_request_never_receives_more_than_is_granted() {
        for (asked, granted, sent) in [
            ("{}", "{}", Ok(r#"{"max-uses":5}"#)),
            (r#"{"max-uses": 9}"#, r#"{"max-uses": 3}"#, Ok(r#"{"max-uses":3}"#)),
            (r#"{"max-uses": 2}"#, "{}", Ok(r#"{"max-uses":2}"#)),
            (
                "{}",
                r#"{"allowed-domains": ["a.com"]}"#,
                Ok(r#"{"max-uses":5,"allowed-domains":["a.com"]}"#),
            ),
            (
                r#"{"allowed-domains": ["x.a.com"]}"#,
                r#"{"allowed-domains": ["a.com"]}"#,
                Ok(r#"{"max-uses":5,"allowed-domains":["x.a.com"]}"#),
            ),
            (
                r#"{"allowed-domains": ["b.com"]}"#,
                r#"{"allowed-domains": ["a.com"]}"#,
                Err("the domain b.com is not granted for web-search"),
            ),
            (
                r#"{"allowed-domains": ["a.com"]}"#,
                r#"{"allowed-domains": ["x.a.com"]}"#,
                Err("the domain a.com is not granted for web-search"),
            ),
            (
                r#"{"allowed-domains": ["x.b.com"]}"#,
                r#"{"blocked-domains": ["b.com"]}"#,
                Err("the domain x.b.com is not granted for web-search"),
            ),
            (
                r#"{"blocked-domains": ["c.com"]}"#,
                r#"{"blocked-domains": ["b.com"]}"#,
                Ok(r#"{"max-uses":5,"blocked-domains":["c.com","b.com"]}"#),
            ),
            (
                r#"{"blocked-domains": ["a.com"]}"#,
                r#"{"allowed-domains": ["a.com"]}"#,
                Err("no domain that is granted for web-search is left"),
            ),
            (
                r#"{"blocked-domains": ["x.a.com", "c.com"]}"#,
                r#"{"allowed-domains": ["a.com", "b.com"]}"#,
                Ok(r#"{"max-uses":5,"allowed-domains":["b.com"]}"#),
            ),
            (
                r#"{"blocked-domains": ["x.a.com"]}"#,
                r#"{"allowed-domains": ["a.com"]}"#,
                Err(
                    "no domain that is granted for web-search is left; a.com is left out because x.a.com below it is blocked, \
                     and a provider takes only one of both lists",
                ),
            ),
        ] {
            let bounds = grant(asked);
            let tool = ServerTool {
                kind: ServerToolKind::WebSearch,
                max_uses: bounds.max_uses,
                allowed_domains: bounds.allowed_domains,
                blocked_domains: bounds.blocked_domains,
            };
            match (tool.granted(&grant(granted)), sent) {
                (Ok(tool), Ok(sent)) => {
                    assert_eq!(
                        serde_json::to_string(&tool.bounds()).unwrap(),
                        sent,
                        "{asked} of {granted}"
                    );
                }
                (Err(why), Err(expected)) => assert!(why.ends_with(expected), "{asked} of {granted}: {why}"),
                (got, _) => panic!("{asked} of {granted}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_grant_covers_what_is_within_it() {
        for (wide, narrow, covers) in [
            ("{}", r#"{"max-uses": 5}"#, true),
            ("{}", r#"{"max-uses": 6}"#, false),
            ("{}", r#"{"allowed-domains": ["a.com"]}"#, true),
            (r#"{"allowed-domains": ["a.com"]}"#, "{}", false),
            (
                r#"{"allowed-domains": ["a.com"]}"#,
                r#"{"allowed-domains": ["x.a.com"]}"#,
                true,
            ),
            (r#"{"blocked-domains": ["a.com"]}"#, "{}", false),
            (
                r#"{"blocked-domains": ["x.a.com"]}"#,
                r#"{"blocked-domains": ["a.com"]}"#,
                true,
            ),
            (
                r#"{"blocked-domains": ["a.com"]}"#,
                r#"{"allowed-domains": ["b.com"]}"#,
                true,
            ),
            (
                r#"{"blocked-domains": ["x.a.com"]}"#,
                r#"{"allowed-domains": ["a.com"]}"#,
                false,
            ),
        ] {
            assert_eq!(grant(wide).covers(&grant(narrow)), covers, "{wide} covers {narrow}");
        }
    }

    #[test]
    fn lists_with_invalid_entries_are_refused() {
        for (list, expected) in [
            (
                r#"[{"kind": "web-search"}, {"kind": "web-search"}]"#,
                "web-search twice",
            ),
            (r#"[{"kind": "web-search", "max-uses": 0}]"#, "from 1 to 100"),
            (
                r#"[{"kind": "web-search", "allowed-domains": ["https://a.com/x"]}]"#,
                "without scheme and path",
            ),
            (
                r#"[{"kind": "web-search", "allowed-domains": ["a.com"], "blocked-domains": ["b.com"]}]"#,
                "exclude",
            ),
            (r#"[{"kind": "web-serch"}]"#, "the nearest is `web-search`"),
            // An empty list would mean all domains.
            (
                r#"[{"kind": "web-search", "allowed-domains": []}]"#,
                "a list of domains is empty",
            ),
            (
                r#"[{"kind": "web-search", "blocked-domains": []}]"#,
                "a list of domains is empty",
            ),
            (r#"[{"kind": "web-search", "type": "mcp"}]"#, "unknown field `type`"),
        ] {
            let why = ServerTool::read_list(list).unwrap_err();
            assert!(why.contains(expected), "{list}: {why}");
        }
    }
}
