//! The timer heap: at most one deadline a key, the next one at hand, nothing to wake up for when it is empty.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::ids::Moment;

/// Deadlines by key. Moving or clearing one leaves its old heap entry behind, which is skipped when it surfaces.
#[derive(Debug)]
pub struct Timers<K> {
    deadlines: HashMap<K, Moment>,
    heap: BinaryHeap<Reverse<(Moment, K)>>,
}

impl<K: Copy + Eq + Hash + Ord> Timers<K> {
    /// No deadline.
    pub fn new() -> Timers<K> {
        Timers { deadlines: HashMap::new(), heap: BinaryHeap::new() }
    }

    /// Sets, moves or (with `None`) clears the deadline of `key`.
    pub fn set(&mut self, key: K, deadline: Option<Moment>) {
        let Some(moment) = deadline else {
            self.deadlines.remove(&key);
            return;
        };
        if self.deadlines.insert(key, moment) != Some(moment) {
            self.heap.push(Reverse((moment, key)));
        }
        self.drop_stale_bulk();
    }

    /// A key whose deadline has come, the earliest first; its deadline is cleared.
    pub fn expired(&mut self, now: Moment) -> Option<K> {
        let (moment, key) = self.earliest()?;
        if moment > now {
            return None;
        }
        self.heap.pop();
        self.deadlines.remove(&key);
        Some(key)
    }

    /// How long to wait from `now`; `None` is for ever. Rounded up to milliseconds, epoll's unit, so that a wait never
    /// ends just before its deadline and spins.
    pub fn wait(&mut self, now: Moment) -> Option<Duration> {
        let (moment, _) = self.earliest()?;
        let micros = moment.since(now).as_micros();
        Some(Duration::from_millis(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX)))
    }

    /// The earliest live entry, after dropping stale ones above it.
    fn earliest(&mut self) -> Option<(Moment, K)> {
        while let Some(Reverse((moment, key))) = self.heap.peek() {
            if self.deadlines.get(key) == Some(moment) {
                return Some((*moment, *key));
            }
            self.heap.pop();
        }
        None
    }

    /// Keeps the heap in proportion to the live deadlines when keys move often.
    fn drop_stale_bulk(&mut self) {
        if self.heap.len() > 64 && self.heap.len() > 4 * self.deadlines.len() {
            let deadlines = &self.deadlines;
            self.heap.retain(|Reverse((moment, key))| deadlines.get(key) == Some(moment));
        }
    }
}

impl<K: Copy + Eq + Hash + Ord> Default for Timers<K> {
    fn default() -> Self {
        Timers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn expires_in_order_and_once() {
        let mut timers = Timers::new();
        timers.set('b', Some(at(20)));
        timers.set('a', Some(at(10)));
        assert_eq!(timers.expired(at(9)), None);
        assert_eq!(timers.expired(at(30)), Some('a'));
        assert_eq!(timers.expired(at(30)), Some('b'));
        assert_eq!(timers.expired(at(30)), None);
        assert_eq!(timers.wait(at(30)), None);
    }

    #[test]
    fn moved_and_cleared_deadlines_do_not_fire() {
        let mut timers = Timers::new();
        timers.set(1, Some(at(10)));
        timers.set(1, Some(at(50)));
        timers.set(2, Some(at(10)));
        timers.set(2, None);
        assert_eq!(timers.expired(at(40)), None);
        assert_eq!(timers.wait(at(40)), Some(Duration::from_millis(10)));
        assert_eq!(timers.expired(at(50)), Some(1));
    }

    #[test]
    fn a_deadline_moved_away_and_back_fires_once() {
        let mut timers = Timers::new();
        timers.set(1, Some(at(10)));
        timers.set(1, Some(at(20)));
        timers.set(1, Some(at(10)));
        assert_eq!(timers.expired(at(30)), Some(1));
        assert_eq!(timers.expired(at(30)), None);
    }

    #[test]
    fn waits_are_rounded_up() {
        let mut timers = Timers::new();
        timers.set(1, Some(Moment(Duration::from_micros(1_001))));
        assert_eq!(timers.wait(at(0)), Some(Duration::from_millis(2)));
        assert_eq!(timers.wait(at(5)), Some(Duration::ZERO));
    }

    #[test]
    fn the_heap_stays_in_proportion() {
        let mut timers = Timers::new();
        for millis in 0..10_000 {
            timers.set(1, Some(at(millis)));
        }
        assert!(timers.heap.len() <= 65, "{} entries for one deadline", timers.heap.len());
    }
}
