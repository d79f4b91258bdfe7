//! The number of tasks of a batch that run at once.
//!
//! The gate in front of each provider knows the capacity of that provider. This module only ensures that enough tasks
//! run to use it, and not so many more that most of them wait. It is pure arithmetic.

/// The tasks that run at once at the start of a growing batch: the gate's own initial concurrency.
pub const START: u32 = 4;

/// The most that a batch grows to by itself: the gate's most requests at once to one model.
pub const MOST: u32 = 64;

/// The number of tasks that may run at once.
///
/// ```
/// use agenthost::batch::workers::{START, Workers};
///
/// let workers = Workers::Auto(8);
/// assert_eq!(workers.start(), START);
/// assert_eq!(workers.after_end(START, START as usize, 0), START + 1); // all were busy and no request waited
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// [`START`], then more while no request waits at the gate, up to this number.
    Auto(u32),
    /// This number from start to end, at least one.
    Fixed(u32),
}

impl Workers {
    /// Returns the number at the start.
    pub fn start(self) -> u32 {
        match self {
            Self::Auto(most) => START.min(most).max(1),
            Self::Fixed(count) => count.max(1),
        }
    }

    /// Returns the number after the end of a task, if there were `now` workers, `busy` of them had a task, and
    /// `waiting` requests wait at the gate: one more if none waits, one less if more wait than half of the workers.
    pub fn after_end(self, now: u32, busy: usize, waiting: u64) -> u32 {
        let Self::Auto(most) = self else { return now };
        let all_busy = busy >= now as usize;
        match waiting {
            0 if all_busy => now.saturating_add(1).min(most.max(1)),
            waiting if waiting > u64::from(now / 2) && waiting > 0 => now.saturating_sub(1).max(1),
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_while_nobody_waits_and_shrink_while_many_do() {
        let auto = Workers::Auto(6);
        assert_eq!(auto.start(), 4);
        assert_eq!(auto.after_end(4, 4, 0), 5);
        assert_eq!(auto.after_end(6, 6, 0), 6, "no more than asked for");
        assert_eq!(auto.after_end(5, 3, 0), 5, "more would not be used");
        assert_eq!(auto.after_end(5, 5, 1), 5);
        assert_eq!(auto.after_end(5, 5, 2), 5, "two are not more than half of five");
        assert_eq!(auto.after_end(5, 5, 3), 4);
        assert_eq!(auto.after_end(1, 1, 90), 1, "one always works");
        assert_eq!(auto.after_end(0, 0, 0), 1);
        assert_eq!(Workers::Auto(2).start(), 2);
        assert_eq!(Workers::Auto(0).start(), 1);
    }

    #[test]
    fn a_fixed_number_stays() {
        let fixed = Workers::Fixed(10);
        assert_eq!(
            (fixed.start(), fixed.after_end(10, 10, 0), fixed.after_end(10, 10, 99)),
            (10, 10, 10)
        );
        assert_eq!(Workers::Fixed(0).start(), 1);
    }
}
