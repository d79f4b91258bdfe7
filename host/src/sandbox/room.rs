//! Room for guests, shared so that a tree of tasks cannot block itself.
//!
//! A task that waits for its sub-tasks keeps its place. If tasks took places first come first served, a thousand parents
//! could fill the room and wait for ever for children that find none. So some places are kept for deeper tasks: those at
//! depth `d` and above may together take all places but a share for each level below. The deepest can always go on, so
//! the ones above them can, up to the root.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Levels that have places kept for them; deeper tasks share those of the last.
pub(super) const LEVELS: u32 = 8;

/// Places for guests. Level `k` counts the tasks at depth `k` and above.
pub(super) struct Room {
    levels: Vec<Arc<Semaphore>>,
    #[cfg(feature = "failpoints")]
    places: Vec<usize>,
}

/// A place; dropping it makes room.
pub(super) struct Place {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new(places: u32) -> Self {
        // Every level needs a place of its own, or a parent could hold the only one that its child can take.
        let places = places.max(LEVELS);
        // A twentieth for each level, or one: eight levels keep at most two fifths of a large room.
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

    /// Whether every place is free.
    #[cfg(feature = "failpoints")]
    pub(super) fn is_empty(&self) -> bool {
        let free = self.levels.iter().map(|level| level.available_permits());
        free.eq(self.places.iter().copied())
    }

    /// Waits for a place at `depth`; none when the room is closed.
    pub(super) async fn enter(&self, depth: u32) -> Option<Place> {
        let mut permits = Vec::new();
        // From the own level to the deepest: whoever holds a place further down never waits for one further up.
        for level in self.levels.iter().skip(depth.min(LEVELS - 1) as usize) {
            permits.push(Arc::clone(level).acquire_owned().await.ok()?);
        }
        Some(Place { _permits: permits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Every task of a full tree takes its place and waits for its children, in a room far smaller than the tree.
    fn family(room: Arc<Room>, depth: u32, children: u32) -> futures_util::future::BoxFuture<'static, u32> {
        Box::pin(async move {
            let _place = room.enter(depth).await.unwrap();
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
        let held: Vec<_> = futures_util::future::join_all((0..40).map(|_| room.enter(7))).await;
        assert!(
            tokio::time::timeout(Duration::from_secs(1), room.enter(7))
                .await
                .is_err()
        );
        drop(held);
        assert!(room.enter(0).await.is_some());
    }
}
