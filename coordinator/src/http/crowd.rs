//! Who is connected. There are only so many places; where all are taken, whoever has been there longest without asking anything
//! gives way, so that connections that say nothing keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    leave: Arc<Notify>,
    /// Requests that are being answered.
    busy: usize,
}

/// All connections.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    most: usize,
    places: Arc<Mutex<Places>>,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    leave: Arc<Notify>,
    crowd: Crowd,
}

/// A request that is being answered: until it is dropped, its connection gives way to nobody.
#[derive(Debug)]
pub(super) struct Busy {
    number: u64,
    crowd: Crowd,
}

impl Crowd {
    pub(super) fn of(most: usize) -> Self {
        Self { most, places: Arc::default() }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, for which another connection may have to leave; none: everybody is being answered.
    pub(super) fn enter(&self) -> Option<Arc<Seat>> {
        let mut places = self.places();
        if places.taken.len() >= self.most {
            let idle = places.taken.iter().find(|(_, place)| place.busy == 0).map(|(number, _)| *number)?;
            if let Some(place) = places.taken.remove(&idle) {
                place.leave.notify_one();
            }
        }
        let number = places.next;
        places.next += 1;
        let leave = Arc::new(Notify::new());
        places.taken.insert(number, Place { leave: Arc::clone(&leave), busy: 0 });
        Some(Arc::new(Seat { number, leave, crowd: self.clone() }))
    }
}

impl Seat {
    /// Ends when another connection needs the place.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// A request came.
    pub(super) fn busy(&self) -> Busy {
        if let Some(place) = self.crowd.places().taken.get_mut(&self.number) {
            place.busy += 1;
        }
        Busy { number: self.number, crowd: self.crowd.clone() }
    }
}

impl Busy {
    /// Passes on what it is kept for.
    pub(super) fn holds<T>(&self, passed: T) -> T {
        passed
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.places().taken.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(place) = self.crowd.places().taken.get_mut(&self.number) {
            place.busy = place.busy.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::Crowd;

    #[tokio::test]
    async fn whoever_says_nothing_gives_way_to_whoever_comes() {
        let crowd = Crowd::of(2);
        let (first, second) = (crowd.enter().expect("a place"), crowd.enter().expect("a place"));
        let at_work = first.busy();
        let third = crowd.enter().expect("the second gives way");
        timeout(Duration::from_secs(5), second.must_leave()).await.expect("it is told");
        let also_at_work = third.busy();
        assert!(crowd.enter().is_none(), "everybody is being answered");
        drop(second);
        assert!(crowd.enter().is_none(), "its place was given away before");
        drop(at_work);
        assert!(crowd.enter().is_some());
        drop(also_at_work);
    }
}
