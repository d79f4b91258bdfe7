//! The tools that a provider runs for a call: their permission, and the most that they can add to its cost.
//!
//! A request names the tools that it wants. The host narrows each to the grant, or refuses the request, before anything
//! is reserved. A provider receives a number of uses always, so that the cost of searches is known beforehand.

use agenthost_core::limits::Usd;
use agenthost_core::llm::{CallError, Extension, Part, Request, ServerTool, ServerToolGrants, ServerToolKind};

use crate::price::Price;

/// The input tokens that one search or page adds, for a model without a price.
const TOKENS_PER_USE: u64 = 10_000;

/// Narrows the provider's tools of `request` to `grants`. `refusal` explains why a tool is not granted.
pub(super) fn narrow(
    request: &mut Request,
    grants: &ServerToolGrants,
    refusal: impl Fn(ServerToolKind) -> String,
) -> Result<(), CallError> {
    for tool in &mut request.options.server_tools {
        let grant = grants
            .get(tool.kind)
            .ok_or_else(|| CallError::Denied(refusal(tool.kind)))?;
        *tool = tool.granted(grant).map_err(CallError::Denied)?;
    }
    Ok(())
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

    /// Returns the input that the tools add at most, if one use adds `learned` tokens.
    pub(super) fn input(self, price: Option<&Price>, learned: u64) -> u64 {
        let each = price.map_or(TOKENS_PER_USE, Price::search_tokens);
        self.pages.saturating_mul(each.max(learned))
    }

    /// Returns the price of the searches.
    pub(super) fn cost(self, price: Option<&Price>) -> Usd {
        price.map_or(Usd::ZERO, |price| price.searches(self.searches))
    }
}

/// Narrows the tools of a request that goes on after `content` by the uses in it. One use is always left, because the
/// provider paused in the middle of it.
pub(super) fn without_used(tools: &mut [ServerTool], content: &[Part]) {
    for tool in tools {
        let is_use = |part: &Part| match Extension::of(part) {
            Some(Ok(Extension::Search(search))) => search.tool == tool.kind.name(),
            _ => false,
        };
        let used = content.iter().filter(|part| is_use(part)).count();
        let left = tool
            .bounds()
            .uses()
            .saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        tool.max_uses = Some(left.max(1));
    }
}

#[cfg(test)]
mod tests {
    use agenthost_core::llm::{SearchReport, ServerToolGrant};

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
        let mut left = tools(r#"[{"kind": "web-search", "max-uses": 3}, {"kind": "web-fetch", "max-uses": 3}]"#);
        without_used(&mut left, &used);
        assert_eq!((left[0].max_uses, left[1].max_uses), (Some(1), Some(3)));
        without_used(&mut left, &used);
        assert_eq!(left[0].max_uses, Some(1));
        let most = MostUses::of(&left);
        assert_eq!(
            (most.searches, most.pages, most.input(None, 0), most.input(None, 12_000)),
            (1, 4, 40_000, 48_000)
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
        assert_eq!(refused, Err(CallError::Denied("web-fetch is not granted".to_owned())));
        request.options.server_tools.truncate(1);
        assert_eq!(narrow(&mut request, &grants, |_| String::new()), Ok(()));
        assert_eq!(request.options.server_tools[0].max_uses, Some(5));
    }
}
