//! Prefix-warm fan-out: one of many requests with a common prefix is sent first, and the rest read the prefix from the
//! provider's prompt cache.
//!
//! Writing input to the cache costs a little more than plain input, and cached input costs a tenth of it, so it pays
//! off from the second request on. The price is time: the latency of one reply. So it is done only for requests that
//! wait at the same time ([`MIN_WAITING_TOGETHER`] of them) and share at least [`MIN_BYTES`], which is the length from which both
//! vendors cache. If a service turns out not to cache, later requests do not wait.
//!
//! The common prefix of two requests is taken to be everything before their last message part: the system text, and the
//! document in front of the question about it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use agenthost_core::llm::{Caching, Part, Request, Usage};

/// The number of requests that must wait at the same time before one is sent ahead.
const MIN_WAITING_TOGETHER: usize = 3;
/// The shortest prefix, in bytes of its text: about 1,024 tokens, from which both vendors cache.
const MIN_BYTES: usize = 4_096;
/// Milliseconds that a request waits for others with its prefix.
const PATIENCE: u64 = 50;
/// Milliseconds for which a written prefix is expected in the cache: the vendors keep it for five minutes after its
/// last use.
const KEPT: u64 = 4 * 60_000;
/// The number of replies without a cache hit after which a service is assumed not to cache.
const MISSES: u32 = 3;

/// The prefix that a request shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    key: u64,
    /// The index of the message part before which the prefix ends.
    pub end: usize,
}

impl Prefix {
    /// Returns the prefix that other requests may share. `None` if it is too short to be cached.
    ///
    /// ```
    /// use agenthost_gate::Prefix;
    /// use agenthost_core::llm::{Message, Options, Part, Request, Role};
    ///
    /// let about = |question: &str| Request {
    ///     model: "small".into(),
    ///     system: Some("The whole handbook. ".repeat(500)),
    ///     messages: vec![Message { role: Role::User, content: vec![Part::Text(question.into())] }],
    ///     max_tokens: 100,
    ///     schema: None,
    ///     options: Options::default(),
    ///     mark_prefix: None,
    /// };
    /// assert_eq!(Prefix::of(&about("When?")), Prefix::of(&about("Where?")));
    /// assert_eq!(Prefix::of(&Request { system: None, ..about("When?") }), None);
    /// ```
    pub fn of(request: &Request) -> Option<Self> {
        let parts = || request.messages.iter().flat_map(|message| &message.content);
        let end = parts().count().saturating_sub(1);
        let system = request.system.as_deref().unwrap_or_default();
        let bytes = parts().take(end).map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Media { data, .. } => data.len(),
            Part::Extension { json, .. } => json.len(),
        });
        if system.len() + bytes.sum::<usize>() < MIN_BYTES {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        request.model.hash(&mut hasher);
        system.hash(&mut hasher);
        // The schema and the tools come before the conversation.
        request.schema.as_ref().map(ToString::to_string).hash(&mut hasher);
        for tool in &request.options.tools {
            (&tool.name, &tool.description, tool.parameters.to_string(), tool.strict).hash(&mut hasher);
        }
        let options = &request.options;
        (
            &options.server_tools,
            &options.tool_choice,
            options.parallel_tools,
            options.thinking,
        )
            .hash(&mut hasher);
        for (n, part) in parts().take(end).enumerate() {
            (n, part).hash(&mut hasher);
        }
        Some(Self {
            key: hasher.finish(),
            end,
        })
    }
}

/// The role of a request for the prefix that it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The request shares no prefix, or is sent alone.
    Alone,
    /// The request writes the prefix.
    Leads,
    /// The request reads the prefix.
    Follows,
}

/// The decision whether a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrefixDecision {
    Go(Role),
    /// Another request leads.
    Wait,
    /// Other requests may join until this time.
    Until(u64),
}

#[derive(Debug)]
pub(super) struct Warm {
    /// The prefixes that are being written, or are expected in the cache until a given time.
    known: HashMap<u64, PrefixState>,
    misses: u32,
    caches: bool,
}

#[derive(Debug, Clone, Copy)]
enum PrefixState {
    Led,
    WrittenUntil(u64),
}

impl Warm {
    pub(super) fn new(caching: Caching, wanted: bool) -> Self {
        Self {
            known: HashMap::new(),
            misses: 0,
            caches: wanted && caching != Caching::None,
        }
    }

    /// Returns whether prefixes matter at all.
    pub(super) fn is_on(&self) -> bool {
        self.caches
    }

    /// Decides about a request that has waited since `since`, with `company` waiting requests of this prefix, including
    /// itself.
    pub(super) fn may(&self, prefix: Option<Prefix>, company: usize, since: u64, now: u64) -> PrefixDecision {
        let Some(prefix) = prefix.filter(|_| self.caches) else {
            return PrefixDecision::Go(Role::Alone);
        };
        match self.known.get(&prefix.key) {
            Some(PrefixState::Led) => PrefixDecision::Wait,
            Some(PrefixState::WrittenUntil(until)) if *until > now => PrefixDecision::Go(Role::Follows),
            _ if company >= MIN_WAITING_TOGETHER => PrefixDecision::Go(Role::Leads),
            _ if now >= since.saturating_add(PATIENCE) => PrefixDecision::Go(Role::Alone),
            _ => PrefixDecision::Until(since.saturating_add(PATIENCE)),
        }
    }

    pub(super) fn sent(&mut self, prefix: Option<Prefix>, role: Role, now: u64) {
        if let Some(prefix) = prefix.filter(|_| role == Role::Leads) {
            self.known
                .retain(|_, state| !matches!(state, PrefixState::WrittenUntil(until) if *until <= now));
            self.known.insert(prefix.key, PrefixState::Led);
        }
    }

    /// Takes a reply into account; `usage` is `None` if the request failed or was dropped, or the reply has none.
    pub(super) fn answered(
        &mut self,
        prefix: Option<Prefix>,
        role: Role,
        usage: Option<&Usage>,
        caching: Caching,
        now: u64,
    ) {
        let Some(prefix) = prefix.filter(|_| role != Role::Alone) else {
            return;
        };
        let Some(usage) = usage else {
            if role == Role::Leads {
                // Another request will lead.
                self.known.remove(&prefix.key);
            }
            return;
        };
        let hit = usage.cached_input > 0 || (role == Role::Leads && usage.cache_write_input > 0);
        match (role, hit) {
            (_, true) => self.misses = 0,
            // A service that caches automatically need not report cache writes.
            (Role::Leads, false) if caching == Caching::Automatic => {}
            (Role::Leads, false) => self.caches = false,
            _ => {
                self.misses += 1;
                self.caches &= self.misses < MISSES;
            }
        }
        self.known
            .insert(prefix.key, PrefixState::WrittenUntil(now.saturating_add(KEPT)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::llm::{Message, Options, Role as Speaker};

    fn request(system: &str, parts: &[&str]) -> Request {
        Request {
            model: "m".into(),
            system: Some(system.into()),
            messages: vec![Message {
                role: Speaker::User,
                content: parts.iter().map(|text| Part::Text((*text).into())).collect(),
            }],
            max_tokens: 10,
            schema: None,
            options: Options::default(),
            mark_prefix: None,
        }
    }

    fn usage(cached: u64, written: u64) -> Usage {
        Usage {
            input: 5_000,
            cached_input: cached,
            cache_write_input: written,
            ..Usage::default()
        }
    }

    #[test]
    fn all_but_the_last_part_is_shared_if_it_is_long_enough() {
        let long = "x".repeat(5_000);
        let of = |system: &str, parts: &[&str]| Prefix::of(&request(system, parts));
        assert_eq!(of("short", &["question"]), None);
        assert_eq!(of("short", &[&long]), None, "the question itself is not shared");
        let first = of(&long, &["one"]).unwrap();
        assert_eq!(Some(first), of(&long, &["two"]));
        assert_eq!(first.end, 0);
        assert_ne!(Some(first), of(&format!("{long}."), &["two"]));
        assert_eq!(of("s", &[&long, "one"]).unwrap().end, 1);
        assert_eq!(of("s", &[&long, "one"]), of("s", &[&long, "two"]));
    }

    #[test]
    fn one_leads_and_the_rest_follow_what_it_wrote() {
        let prefix = Prefix::of(&request(&"x".repeat(5_000), &["q"]));
        let mut warm = Warm::new(Caching::Marked, true);
        assert_eq!(warm.may(prefix, 1, 100, 100), PrefixDecision::Until(150));
        assert_eq!(warm.may(prefix, 1, 100, 150), PrefixDecision::Go(Role::Alone));
        assert_eq!(warm.may(prefix, 3, 100, 100), PrefixDecision::Go(Role::Leads));
        warm.sent(prefix, Role::Leads, 100);
        assert_eq!(
            warm.may(prefix, 2, 100, 10_000),
            PrefixDecision::Wait,
            "however long it takes"
        );
        // The leader fails: another request leads.
        warm.answered(prefix, Role::Leads, None, Caching::Marked, 200);
        assert_eq!(warm.may(prefix, 3, 100, 200), PrefixDecision::Go(Role::Leads));
        warm.sent(prefix, Role::Leads, 200);
        warm.answered(prefix, Role::Leads, Some(&usage(0, 4_000)), Caching::Marked, 300);
        assert_eq!(warm.may(prefix, 2, 100, 300), PrefixDecision::Go(Role::Follows));
        assert_eq!(
            warm.may(prefix, 3, 100, 300 + KEPT),
            PrefixDecision::Go(Role::Leads),
            "what was written is gone by now"
        );
        assert_eq!(warm.may(None, 9, 0, 0), PrefixDecision::Go(Role::Alone));
    }

    #[test]
    fn a_service_that_does_not_cache_is_not_waited_for_again() {
        let prefix = Prefix::of(&request(&"x".repeat(5_000), &["q"]));
        let mut marked = Warm::new(Caching::Marked, true);
        marked.answered(prefix, Role::Leads, Some(&usage(0, 0)), Caching::Marked, 0);
        assert!(!marked.is_on());
        let mut automatic = Warm::new(Caching::Automatic, true);
        automatic.answered(prefix, Role::Leads, Some(&usage(0, 0)), Caching::Automatic, 0);
        assert!(automatic.is_on(), "it need not say what it wrote");
        for _ in 0..MISSES {
            assert!(automatic.is_on());
            automatic.answered(prefix, Role::Follows, Some(&usage(0, 0)), Caching::Automatic, 0);
        }
        assert!(!automatic.is_on());
        assert_eq!(automatic.may(prefix, 9, 0, 0), PrefixDecision::Go(Role::Alone));
        assert!(!Warm::new(Caching::Marked, false).is_on());
        assert!(!Warm::new(Caching::None, true).is_on());
    }
}
