//! The order of waiting requests: first come, first served among the tasks of one parent, round robin among parents.
//!
//! So a fan-out of a thousand delays another run's single call by one request and not by a thousand. This module only
//! keeps the order.

use std::collections::{HashMap, VecDeque};

/// The key of a line: the run and the parent task of the requests in it.
pub type FairnessKey = std::sync::Arc<str>;

#[derive(Debug)]
pub(super) struct Queue<T> {
    lines: HashMap<FairnessKey, VecDeque<(u64, T)>>,
    /// The lines that are not empty, the next one first.
    turn: VecDeque<FairnessKey>,
    next: u64,
}

/// A place in the queue.
#[derive(Debug, Clone)]
pub(super) struct QueuePosition {
    line: FairnessKey,
    number: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            turn: VecDeque::new(),
            next: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Adds `item` at the end of its line, or at the front if `front` is set.
    pub(super) fn push(&mut self, line: &FairnessKey, front: bool, item: T) -> QueuePosition {
        let number = self.next;
        self.next += 1;
        let waiting = self.lines.entry(FairnessKey::clone(line)).or_insert_with(|| {
            self.turn.push_back(FairnessKey::clone(line));
            VecDeque::new()
        });
        if front {
            waiting.push_front((number, item));
        } else {
            waiting.push_back((number, item));
        }
        QueuePosition {
            line: FairnessKey::clone(line),
            number,
        }
    }

    /// Removes the item at `place`. `None` if it is not in the queue any more.
    pub(super) fn remove(&mut self, place: &QueuePosition) -> Option<T> {
        let waiting = self.lines.get_mut(&place.line)?;
        let at = waiting.iter().position(|(number, _)| *number == place.number)?;
        let (_, item) = waiting.remove(at)?;
        self.forget_if_empty(&place.line);
        Some(item)
    }

    /// Returns the next item for which `may` returns true: the first such item of the first line that has one.
    pub(super) fn next(&mut self, mut may: impl FnMut(&T) -> bool) -> Option<(QueuePosition, &mut T)> {
        let place = self.turn.iter().find_map(|line| {
            let (number, _) = self.lines.get(line)?.iter().find(|(_, item)| may(item))?;
            Some(QueuePosition {
                line: FairnessKey::clone(line),
                number: *number,
            })
        })?;
        let waiting = self.lines.get_mut(&place.line)?;
        let (_, item) = waiting.iter_mut().find(|(number, _)| *number == place.number)?;
        Some((place, item))
    }

    /// Removes the item at `place`, and moves its line behind all others.
    pub(super) fn serve(&mut self, place: &QueuePosition) -> Option<T> {
        let item = self.remove(place)?;
        if let Some(at) = self.turn.iter().position(|line| *line == place.line) {
            self.turn.rotate_left(at);
            self.turn.rotate_left(1);
        }
        Some(item)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lines.values().flatten().map(|(_, item)| item)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn forget_if_empty(&mut self, line: &FairnessKey) {
        if self.lines.get(line).is_some_and(VecDeque::is_empty) {
            self.lines.remove(line);
            self.turn.retain(|known| known != line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> FairnessKey {
        name.into()
    }

    fn serve(queue: &mut Queue<u32>) -> Option<u32> {
        let (place, _) = queue.next(|_| true)?;
        queue.serve(&place)
    }

    #[test]
    fn lines_take_turns_and_each_keeps_its_order() {
        let mut queue = Queue::default();
        for item in 0..5 {
            queue.push(&line("a"), false, item);
        }
        queue.push(&line("b"), false, 100);
        queue.push(&line("c"), false, 200);
        queue.push(&line("c"), false, 201);
        let order: Vec<_> = std::iter::from_fn(|| serve(&mut queue)).collect();
        assert_eq!(order, [0, 100, 200, 1, 201, 2, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_was_sent_back_is_first_and_who_gave_up_is_gone() {
        let mut queue = Queue::default();
        queue.push(&line("a"), false, 1);
        let gone = queue.push(&line("a"), false, 2);
        queue.push(&line("a"), true, 0);
        assert_eq!(queue.remove(&gone), Some(2));
        assert_eq!(queue.remove(&gone), None);
        assert_eq!(serve(&mut queue), Some(0));
        assert_eq!(serve(&mut queue), Some(1));
        assert_eq!(serve(&mut queue), None);
    }

    #[test]
    fn one_that_may_not_go_is_passed_over_and_keeps_its_place() {
        let mut queue = Queue::default();
        for item in 0..3 {
            queue.push(&line("a"), false, item);
        }
        let (place, _) = queue.next(|item| *item > 0).unwrap();
        assert_eq!(queue.serve(&place), Some(1));
        assert_eq!(serve(&mut queue), Some(0));
    }
}
