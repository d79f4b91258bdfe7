//! The shares that the calls of a policy spend from.
//!
//! While a call is polled, its share is the innermost of those in effect. The host learns of them only when the call
//! starts a sub-task: a plugin that divides nothing does not import `agenthost:plugin/shares`.

use std::cell::{Cell, RefCell};

use crate::bindings::agenthost::plugin::shares::Share;

thread_local! {
    /// The shares in effect, one within the other.
    static IN_EFFECT: RefCell<Vec<Share>> = const { RefCell::new(Vec::new()) };
    /// Passes the shares in effect to the host. Set by the first policy that has shares.
    static PASS_ON: Cell<Option<fn()>> = const { Cell::new(None) };
    static GROUPS: Cell<u32> = const { Cell::new(0) };
}

/// The shares of the calls of one policy.
pub(super) struct Group {
    number: u32,
    pub(super) parts: u32,
    /// In percent.
    pub(super) keep_back: u8,
    pub(super) least_tokens: u64,
}

impl Group {
    pub(super) fn new() -> Self {
        PASS_ON.set(Some(pass_on));
        let number = GROUPS.get();
        GROUPS.set(number.wrapping_add(1));
        Group {
            number,
            parts: 1,
            keep_back: 0,
            least_tokens: 0,
        }
    }

    /// Puts the share of the call with this index into effect, until the result is dropped.
    pub(super) fn choose(&self, index: usize) -> InEffect {
        let part = u32::try_from(index).unwrap_or(u32::MAX);
        let share = Share {
            group: self.number,
            keep_back: self.keep_back,
            parts: self.parts,
            part: if self.parts > 1 { part } else { 0 },
            least_tokens: self.least_tokens,
        };
        IN_EFFECT.with_borrow_mut(|shares| shares.push(share));
        InEffect
    }
}

/// A share that is in effect while this exists.
pub(super) struct InEffect;

impl Drop for InEffect {
    fn drop(&mut self) {
        IN_EFFECT.with_borrow_mut(Vec::pop);
    }
}

/// Called before each start of a sub-task.
pub(crate) fn before_sub_task() {
    if let Some(pass_on) = PASS_ON.get() {
        pass_on();
    }
}

fn pass_on() {
    IN_EFFECT.with_borrow(|shares| crate::bindings::agenthost::plugin::shares::spend_from(shares));
}
