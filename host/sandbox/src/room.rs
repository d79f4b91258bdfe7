//! Slots for guests, shared so that a tree of tasks cannot block itself.
//!
//! A task that waits for its sub-tasks keeps its slot. If slots were first come first served, a thousand parents could
//! take them all and wait forever for children that get none. So some slots are reserved for deeper tasks: the tasks at
//! depth `d` and above may together take all slots except a share for each level below. The deepest tasks can always
//! continue, so the ones above them can too, up to the root.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of levels with reserved slots; deeper tasks share those of the last level.
pub(super) const LEVELS: u32 = 8;

/// Returns the maximum number of live wide guests, which have more memories than a regular slot, among `tasks` guests.
pub(super) fn wide_tasks(tasks: u32) -> u32 {
    (tasks / 20).max(LEVELS)
}

/// Slots for guests, and additional slots for wide guests, as many as the pool has memories for: [`wide_tasks`]. A wide
/// guest takes one of each.
pub(super) struct Room {
    places: Levels,
    wide: Levels,
}

/// A slot; dropping it frees the slot.
pub(super) struct RoomPermit {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new(places: u32) -> Self {
        Self {
            places: Levels::new(places),
            wide: Levels::new(wide_tasks(places)),
        }
    }

    /// Returns whether every slot is free.
    #[cfg(feature = "failpoints")]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.wide.is_empty()
    }

    /// Waits for a slot at `depth`; returns `None` if the room is closed.
    pub(super) async fn enter(&self, depth: u32, wide: bool) -> Option<RoomPermit> {
        let mut permits = Vec::new();
        if wide {
            self.wide.enter(depth, &mut permits).await?;
        }
        self.places.enter(depth, &mut permits).await?;
        Some(RoomPermit { _permits: permits })
    }
}

/// Level `k` counts the tasks at depth `k` and above.
struct Levels {
    levels: Vec<Arc<Semaphore>>,
    #[cfg(feature = "failpoints")]
    places: Vec<usize>,
}

impl Levels {
    fn new(places: u32) -> Self {
        // Every level needs its own slot, or a parent could hold the only one that its child can take.
        let places = places.max(LEVELS);
        // One twentieth for each level, or one slot: eight levels reserve at most two fifths of a large room.
        let share = (places / 20).max(1);
        let level = |level: u32| {
            let kept = share.saturating_mul(LEVELS - 1 - level);
            Arc::new(Semaphore::new(places.saturating_sub(kept) as usize))
        };
        let levels: Vec<_> = (0..LEVELS).map(level).collect();
        Self {
            #[cfg(feature = "failpoints")]
            places: levels.iter().map(|level| level.available_permits()).collect(),
            levels,
        }
    }

    #[cfg(feature = "failpoints")]
    fn is_empty(&self) -> bool {
        let free = self.levels.iter().map(|level| level.available_permits());
        free.eq(self.places.iter().copied())
    }

    async fn enter(&self, depth: u32, permits: &mut Vec<OwnedSemaphorePermit>) -> Option<()> {
        // From the task's own level to the deepest: a task that holds a slot of a deeper level never waits for a higher
        // one.
        for level in self.levels.iter().skip(depth.min(LEVELS - 1) as usize) {
            permits.push(Arc::clone(level).acquire_owned().await.ok()?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Runs a full tree in which every task takes a slot and waits for its children, in a room far smaller than the
    /// tree.
    fn family(room: Arc<Room>, depth: u32, children: u32) -> futures_util::future::BoxFuture<'static, u32> {
        Box::pin(async move {
            let _place = room.enter(depth, depth.is_multiple_of(2)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            if depth == 5 {
                return 1;
            }
            let below = (0..children).map(|_| tokio::spawn(family(Arc::clone(&room), depth + 1, children)));
            let below = futures_util::future::join_all(below).await;
            1 + below.into_iter().map(Result::unwrap).sum::<u32>()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_tree_larger_than_the_room_does_not_block_itself() {
        for places in [8, 9, 40] {
            let room = Arc::new(Room::new(places));
            let roots = (0..20).map(|_| tokio::spawn(family(Arc::clone(&room), 0, 3)));
            let done = tokio::time::timeout(Duration::from_secs(3_600), futures_util::future::join_all(roots));
            let done = done.await.expect("the tree blocks itself");
            assert!(done.into_iter().all(|count| count.unwrap() == 364));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_guests_than_places_are_alive() {
        let room = Arc::new(Room::new(40));
        let held: Vec<_> = futures_util::future::join_all((0..40).map(|_| room.enter(7, false))).await;
        assert!(
            tokio::time::timeout(Duration::from_secs(1), room.enter(7, false))
                .await
                .is_err()
        );
        drop(held);
        assert!(room.enter(0, false).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn wide_guests_wait_for_wide_places_and_others_do_not() {
        let room = Arc::new(Room::new(400));
        let most = wide_tasks(400) as usize;
        let held: Vec<_> = futures_util::future::join_all((0..most).map(|_| room.enter(7, true))).await;
        let moment = Duration::from_secs(1);
        assert!(tokio::time::timeout(moment, room.enter(7, true)).await.is_err());
        assert!(tokio::time::timeout(moment, room.enter(0, false)).await.is_ok());
        drop(held);
        assert!(room.enter(7, true).await.is_some());
    }
}
