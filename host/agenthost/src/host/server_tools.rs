//! The tools that a provider runs for a call: their permission, and the most that they can add to its cost.
//!
//! A request names the tools that it wants. The host narrows each to the grant, or refuses the request, before anything
//! is reserved. A provider receives a number of uses always, so that the cost of searches is known beforehand.

use agenthost_core::limits::Usd;
use agenthost_core::llm::{Extension, Part, Request, ServerTool, ServerToolGrants, ServerToolKind};

use crate::price::{Price, SEARCH_TOKENS};

/// Narrows the provider's tools of `request` to `grants`. `refusal` explains why a tool is not granted.
pub(super) fn narrow(
    request: &mut Request,
    grants: &ServerToolGrants,
    refusal: impl Fn(ServerToolKind) -> String,
) -> Result<(), NarrowError> {
    for tool in &mut request.options.server_tools {
        let grant = grants
            .get(tool.kind)
            .ok_or_else(|| NarrowError::NotGranted(refusal(tool.kind)))?;
        *tool = tool.granted(grant).map_err(NarrowError::Domains)?;
    }
    Ok(())
}

/// The reason why a request may not use a tool.
#[derive(Debug, PartialEq)]
pub(super) enum NarrowError {
    /// The tool is not granted.
    NotGranted(String),
    /// The domains that the request asks for are not granted.
    Domains(String),
}

/// The most uses of the provider's tools in one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MostUses {
    /// Searches, which are billed by the piece.
    pub(super) searches: u64,
    /// Searches and pages, which add input.
    pub(super) pages: u64,
}

impl MostUses {
    pub(super) fn of(tools: &[ServerTool]) -> Self {
        let mut most = Self::default();
        for tool in tools {
            let uses = u64::from(tool.bounds().uses());
            most.pages += uses;
            if tool.kind == ServerToolKind::WebSearch {
                most.searches += uses;
            }
        }
        most
    }

    /// Returns the most input of a request whose prompt has `prompt` tokens, if one use adds `learned` tokens: the provider
    /// reads the prompt again after each use.
    pub(super) fn input(self, prompt: u64, price: Option<&Price>, learned: u64) -> u64 {
        let each = price.map_or(SEARCH_TOKENS, Price::search_tokens).max(learned);
        let passes = self.pages.saturating_add(1);
        prompt
            .saturating_mul(passes)
            .saturating_add(each.saturating_mul(self.pages))
    }

    /// Returns the price of the searches.
    pub(super) fn cost(self, price: Option<&Price>) -> Usd {
        price.map_or(Usd::ZERO, |price| price.searches(self.searches))
    }
}

/// Narrows the tools of a request that goes on after `content` by the uses in it. A tool without uses left is removed,
/// unless the provider paused in the middle of one.
pub(super) fn without_used(tools: &mut Vec<ServerTool>, content: &[Part]) {
    let is_pending = match content.last().and_then(Extension::of) {
        Some(Ok(Extension::Echo(echo))) => echo.block.get("type").is_some_and(|kind| kind == "server_tool_use"),
        _ => false,
    };
    tools.retain_mut(|tool| {
        let left = tool.bounds().uses().saturating_sub(uses_in(content, tool.kind));
        tool.max_uses = Some(left.max(1));
        left > 0 || is_pending
    });
}

/// Returns how often a reply used a tool.
pub(super) fn uses_in(content: &[Part], kind: ServerToolKind) -> u32 {
    let is_use = |part: &&Part| match Extension::of(part) {
        Some(Ok(Extension::Search(search))) => search.tool == kind.name(),
        _ => false,
    };
    u32::try_from(content.iter().filter(is_use).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use agenthost_core::llm::{Echo, SearchReport, ServerToolGrant};

    use super::*;

    fn tools(json: &str) -> Vec<ServerTool> {
        ServerTool::read_list(json).unwrap()
    }

    #[test]
    fn a_continuation_may_use_what_is_left() {
        let search = SearchReport {
            tool: "web-search".to_owned(),
            ..SearchReport::default()
        };
        let used = vec![Extension::Search(search).into_part(); 2];
        let pending = Extension::Echo(Echo {
            wire: "anthropic".to_owned(),
            model: "m".to_owned(),
            block: serde_json::json!({"type": "server_tool_use"}),
        });
        let all = tools(r#"[{"kind": "web-search", "max-uses": 3}, {"kind": "web-fetch", "max-uses": 3}]"#);
        let mut left = all.clone();
        without_used(&mut left, &used);
        assert_eq!((left[0].max_uses, left[1].max_uses), (Some(1), Some(3)));
        let most = MostUses::of(&left);
        assert_eq!((most.searches, most.pages), (1, 4));
        assert_eq!(
            (most.input(100, None, 0), most.input(100, None, 12_000)),
            (40_500, 48_500)
        );

        let used = [used.as_slice(), used.as_slice()].concat();
        let mut left = all.clone();
        without_used(&mut left, &used);
        assert_eq!(
            (left.len(), left[0].kind),
            (1, ServerToolKind::WebFetch),
            "no search is left"
        );
        let mut left = all;
        without_used(&mut left, &[used.as_slice(), &[pending.into_part()]].concat());
        assert_eq!(
            (left.len(), left[0].max_uses),
            (2, Some(1)),
            "the provider is in the middle of one"
        );
    }

    #[test]
    fn a_tool_without_a_grant_is_refused() {
        let mut request = Request {
            model: "m".to_owned(),
            system: None,
            messages: Vec::new(),
            max_tokens: 10,
            schema: None,
            options: Default::default(),
            mark_prefix: None,
        };
        request.options.server_tools = tools(r#"[{"kind": "web-search", "max-uses": 9}, {"kind": "web-fetch"}]"#);
        let mut grants = ServerToolGrants::default();
        grants.0.insert(ServerToolKind::WebSearch, ServerToolGrant::default());
        let refused = narrow(&mut request.clone(), &grants, |kind| format!("{kind} is not granted"));
        assert_eq!(
            refused,
            Err(NarrowError::NotGranted("web-fetch is not granted".to_owned()))
        );
        request.options.server_tools.truncate(1);
        assert_eq!(narrow(&mut request, &grants, |_| String::new()), Ok(()));
        assert_eq!(request.options.server_tools[0].max_uses, Some(5));

        request.options.server_tools = tools(r#"[{"kind": "web-search", "allowed-domains": ["b.com"]}]"#);
        let bounds = ServerToolGrant {
            allowed_domains: vec!["a.com".parse().unwrap()],
            ..ServerToolGrant::default()
        };
        grants.0.insert(ServerToolKind::WebSearch, bounds);
        let refused = narrow(&mut request, &grants, |_| String::new());
        assert!(matches!(refused, Err(NarrowError::Domains(why)) if why.contains("b.com")));
    }
}
