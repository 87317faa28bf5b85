//! How often a worker is looked at while somebody waits for it, and what makes a new worker count as ready.
//! Owns the growing intervals; who is looked at and why is decided in `supervise`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::status::snapshot::Activity;

/// A new worker that is busy without ever having been seen idle counts as ready after this age. A program that loads
/// itself looks busy too, so that "busy" alone proves nothing; a pool under full load may never show an idle worker.
pub const BUSY_COUNTS_AFTER: Duration = Duration::from_secs(5);

/// For each worker that is looked at in a hurry.
const HURRIED_LOOK: Duration = Duration::from_millis(5);
/// And not more often than this: each look may stop the worker for a moment.
const FIRST_HURRIED_LOOK: Duration = Duration::from_millis(15);

/// What a worker does with its stop signal when it is not idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heed {
    /// Nobody knows: it may end at once, with whatever it has.
    #[default]
    Unknown,
    /// It finishes the request that it has, or is just about to take, and then ends.
    Finishes,
}

/// Intervals that double from a first one up to a ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    next: Duration,
    ceiling: Duration,
}

impl Poll {
    /// Until a new worker is ready: 5 ms to 100 ms. Most programs take 20 to 200 ms.
    pub fn for_readiness() -> Poll {
        Poll { next: Duration::from_millis(5), ceiling: Duration::from_millis(100) }
    }

    /// Until a busy worker is idle: 10 ms to 250 ms.
    pub fn for_idleness() -> Poll {
        Poll { next: Duration::from_millis(10), ceiling: Duration::from_millis(250) }
    }

    /// Looks come quickly again: a worker that has one short request after the other has moments between them, and the more
    /// often it is looked at the sooner one is met. `workers` are looked at in this way, which bounds what it costs: 200 looks
    /// a second for all of them, or as many as before.
    pub fn hurry(&mut self, workers: u32) {
        let most = HURRIED_LOOK.saturating_mul(workers);
        self.next = most.clamp(FIRST_HURRIED_LOOK, self.ceiling);
    }

    /// How long to wait before the next look.
    pub fn interval(&mut self) -> Duration {
        let interval = self.next;
        self.next = (self.next * 2).min(self.ceiling);
        interval
    }
}

/// Whether a worker of this age, seen doing this, serves requests: it waits for a connection or has one.
pub fn seen_ready(activity: Activity, age: Duration) -> bool {
    match activity {
        Activity::Idle | Activity::Waiting => true,
        Activity::Busy => age >= BUSY_COUNTS_AFTER,
        Activity::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_ceiling() {
        let mut poll = Poll::for_readiness();
        let millis: Vec<u128> = (0..7).map(|_| poll.interval().as_millis()).collect();
        assert_eq!(millis, [5, 10, 20, 40, 80, 100, 100]);
        let mut poll = Poll::for_idleness();
        let millis: Vec<u128> = (0..7).map(|_| poll.interval().as_millis()).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 250, 250]);
    }

    #[test]
    fn many_in_a_hurry_are_looked_at_no_more_often_than_before() {
        let mut poll = Poll::for_idleness();
        let mut after = |workers| {
            poll.hurry(workers);
            poll.interval().as_millis()
        };
        assert_eq!([after(0), after(3), after(10), after(50), after(5000)], [15, 15, 50, 250, 250]);
    }

    #[test]
    fn busy_is_no_proof_of_readiness_in_a_young_worker() {
        let young = Duration::from_millis(20);
        assert!(seen_ready(Activity::Idle, young));
        assert!(seen_ready(Activity::Waiting, young));
        assert!(!seen_ready(Activity::Busy, young));
        assert!(seen_ready(Activity::Busy, BUSY_COUNTS_AFTER));
        assert!(!seen_ready(Activity::Unknown, Duration::from_secs(60)));
    }
}
