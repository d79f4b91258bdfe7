//! The accounts from which the sub-tasks of one task spend.
//!
//! A task keeps a part of its limits back, which [`KeepBack`] describes; the rest is for its sub-tasks. A plugin can
//! divide that rest further into shares. An account is opened when the first sub-task spends from it, so a resumed task
//! divides what its present limits leave, and a guest that only talks of shares opens none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use agenthost_core::limits::ledger::Account;
use agenthost_core::limits::{KeepBack, LimitOwner, Limits, Percent, Share};

/// The most shares that count, one within the other.
const MOST_NESTED: usize = 8;
/// The most accounts of groups and parts that one task opens. From then on, new shares have the account above them.
const MOST_ACCOUNTS: usize = 10_000;

/// The accounts for the sub-tasks of one task.
pub(super) struct Shares {
    /// The account of the task itself.
    own: Account,
    /// The name of the task, for failures.
    task: String,
    keep_back: KeepBack,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The share that the guest chose last.
    chosen: Vec<Share>,
    /// The account of all sub-tasks, if the task keeps something back.
    rest: Option<Account>,
    groups: HashMap<u32, Group>,
    parts: HashMap<(u32, u32), Account>,
}

/// A group of shares.
struct Group {
    /// Bounds all parts together.
    account: Account,
    /// The number of parts that get something.
    served: u32,
    /// The limits of each of them.
    each: Limits,
    /// The number of all parts, and the fewest tokens that are of use to one.
    parts: u32,
    least_tokens: u64,
}

impl Shares {
    pub(super) fn new(own: &Account, task: String, keep_back: KeepBack) -> Self {
        Self {
            own: own.clone(),
            task,
            keep_back,
            open: Mutex::default(),
        }
    }

    /// Sets the shares, one within the other, from which the sub-tasks spend that start from now on.
    pub(super) fn spend_from(&self, mut shares: Vec<Share>) {
        shares.truncate(MOST_NESTED);
        // A guest may pass megabytes of them.
        shares.shrink_to_fit();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).chosen = shares;
    }

    /// Returns the account from which a task of `sub_agent` (`namespace:name`) spends that starts now.
    pub(super) fn account(&self, sub_agent: &str) -> Account {
        if self.keep_back.sub_agents.contains(sub_agent) {
            return self.own.clone();
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Open {
            chosen,
            rest,
            groups,
            parts,
        } = &mut *open;
        let mut account = match self.keep_back.share {
            Percent::ZERO => self.own.clone(),
            kept => rest.get_or_insert_with(|| self.open_rest(kept)).clone(),
        };
        for chosen in chosen.iter() {
            let is_full = groups.len() + parts.len() >= MOST_ACCOUNTS;
            if is_full && !groups.contains_key(&chosen.group) {
                break;
            }
            let group = groups.entry(chosen.group).or_insert_with(|| {
                let kept = Percent::at_most(chosen.keep_back);
                let all = account.child(&rest_of(&account, kept, chosen.parts));
                Group::new(all.named(LimitOwner::SubTasks(self.task.clone())), chosen)
            });
            let part = (chosen.group, chosen.part);
            account = match chosen.parts {
                0 | 1 if group.served > 0 => group.account.clone(),
                _ if is_full && !parts.contains_key(&part) => group.account.clone(),
                _ => {
                    let part = parts.entry(part);
                    part.or_insert_with(|| group.open(chosen.part, &self.task)).clone()
                }
            };
        }
        account
    }
}

impl Shares {
    /// Opens the account of all sub-tasks but those of the agents for which the task keeps something back. One task of each
    /// of these agents can be started whatever the others start.
    fn open_rest(&self, kept: Percent) -> Account {
        let agents = u64::try_from(self.keep_back.sub_agents.len()).unwrap_or(u64::MAX);
        let limits = Limits {
            tasks: self.own.tasks_left().map(|left| left.saturating_sub(agents)),
            ..self.own.divided(kept, 1)
        };
        self.own.child(&limits).named(LimitOwner::SubTasks(self.task.clone()))
    }
}

/// Returns the limits of all parts of a group together. Each part has one call if there are enough, and one is left for
/// those for whom something is kept back.
fn rest_of(account: &Account, kept: Percent, parts: u32) -> Limits {
    let limits = account.divided(kept, 1);
    let left = account.divided(Percent::ZERO, 1).calls;
    let one_each = left.map(|left| left.saturating_sub(u64::from(kept > Percent::ZERO)).min(parts.into()));
    Limits {
        calls: limits.calls.max(one_each),
        ..limits
    }
}

impl Group {
    fn new(account: Account, share: &Share) -> Self {
        let useful = account
            .divided(Percent::ZERO, 1)
            .tokens
            .map(|tokens| tokens / share.least_tokens.max(1));
        let useful = useful.map_or(u32::MAX, |useful| u32::try_from(useful).unwrap_or(u32::MAX));
        let parts = share.parts.max(1);
        let served = parts.min(useful);
        let each = account.divided(Percent::ZERO, served);
        Self {
            account,
            served,
            each,
            parts,
            least_tokens: share.least_tokens,
        }
    }

    /// Opens the account of a part, for sub-tasks of `task`.
    fn open(&self, part: u32, task: &str) -> Account {
        let task = task.to_owned();
        if part < self.served {
            return self.account.child(&self.each).named(LimitOwner::Share(task));
        }
        let nothing = Limits {
            tokens: Some(0),
            ..Limits::none()
        };
        self.account.child(&nothing).named(LimitOwner::NoShare {
            task,
            least: self.least_tokens,
            served: self.served,
            parts: self.parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_core::limits::ledger::{Used, Want};

    fn shares(tokens: u64, keep_back: KeepBack) -> (Account, Shares) {
        let own = Account::root(&Limits {
            tokens: Some(tokens),
            calls: Some(10),
            ..Limits::none()
        });
        (own.clone(), Shares::new(&own, "root".into(), keep_back))
    }

    fn share(part: u32, parts: u32) -> Share {
        Share {
            group: 1,
            keep_back: 0,
            parts,
            part,
            least_tokens: 0,
        }
    }

    fn spend(account: &Account, tokens: u64) {
        let want = Want {
            input: tokens - 1,
            output: 1,
            cost: None,
            call: true,
        };
        let reserved = account.try_reserve(&want).unwrap().unwrap();
        let used = Used {
            input: tokens - 1,
            output: 1,
            ..Used::default()
        };
        assert_eq!(reserved.settle(used), None);
    }

    fn tokens(account: &Account) -> Option<u64> {
        account.left().0
    }

    #[test]
    fn the_part_that_is_kept_back_is_fixed_when_the_first_sub_task_starts() {
        let kept = KeepBack::of_share(Percent::at_most(25)).with_sub_agent("demo:compare");
        let (own, shares) = shares(1_100, kept);
        spend(&own, 100);
        let lane = shares.account("demo:competitor");
        assert_eq!((tokens(&lane), lane.left().2), (Some(750), Some(6)));
        spend(&lane, 700);
        assert_eq!(
            tokens(&shares.account("demo:competitor")),
            Some(50),
            "and not a part of the rest again"
        );
        assert_eq!(tokens(&shares.account("demo:compare")), Some(300));
        spend(&own, 280);
        assert_eq!(
            tokens(&shares.account("demo:competitor")),
            Some(20),
            "what is left bounds everything"
        );
    }

    #[test]
    fn without_a_share_the_sub_tasks_have_all_that_is_left() {
        let (own, shares) = shares(1_000, KeepBack::default());
        spend(&shares.account("demo:competitor"), 900);
        assert_eq!(tokens(&own), Some(100));
        let unlimited = Account::root(&Limits::none());
        let shares = Shares::new(&unlimited, "root".into(), KeepBack::of_share(KeepBack::DEFAULT_SHARE));
        shares.spend_from(vec![share(3, 4)]);
        assert_eq!(shares.account("demo:competitor").left(), (None, None, None));
    }

    #[test]
    fn parts_are_equal_whenever_they_start_and_hold_all_their_sub_tasks() {
        let (_, shares) = shares(1_000, KeepBack::default());
        let lane = |part| {
            shares.spend_from(vec![share(part, 4)]);
            shares.account("demo:competitor")
        };
        let first = lane(0);
        assert_eq!((tokens(&first), first.left().2), (Some(250), Some(2)));
        spend(&first, 200);
        assert_eq!(tokens(&lane(0)), Some(50));
        assert_eq!(tokens(&lane(3)), Some(250));
        // A guest may invent parts; the group bounds them.
        assert_eq!(tokens(&lane(9)), Some(0));
        shares.spend_from(Vec::new());
        assert_eq!(tokens(&shares.account("demo:competitor")), Some(800));
    }

    #[test]
    fn shares_of_shares_and_odd_values_stay_within_what_is_left() {
        let (_, shares) = shares(1_000, KeepBack::default());
        let inner = Share {
            group: 2,
            keep_back: 255,
            parts: 0,
            part: u32::MAX,
            least_tokens: u64::MAX,
        };
        shares.spend_from(vec![share(1, 2), inner]);
        assert_eq!(
            tokens(&shares.account("demo:competitor")),
            Some(0),
            "one part has too few tokens, too"
        );
        let tenth = Share {
            group: 7,
            least_tokens: 0,
            ..inner
        };
        shares.spend_from(vec![share(1, 2), tenth]);
        assert_eq!(
            tokens(&shares.account("demo:competitor")),
            Some(50),
            "a tenth of a half"
        );
        shares.spend_from(vec![
            Share {
                group: 3,
                parts: u32::MAX,
                least_tokens: 300,
                ..inner
            };
            100
        ]);
        shares.account("demo:competitor");
        let served = Share {
            group: 4,
            least_tokens: 400,
            ..share(0, 5)
        };
        let lane = |part| {
            shares.spend_from(vec![Share { part, ..served }]);
            tokens(&shares.account("demo:competitor"))
        };
        assert_eq!(
            [lane(0), lane(1), lane(2), lane(4)],
            [Some(500), Some(500), Some(0), Some(0)]
        );
    }
}
