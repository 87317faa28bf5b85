//! The loop's timers: at most one deadline a key, the next one at hand, nothing to wake up for when there is none.

use std::time::Duration;

use crate::ids::Moment;
use crate::policy::agenda::Agenda;

/// Deadlines by key.
#[derive(Debug)]
pub struct Timers<K>(Agenda<K>);

impl<K: Copy + Ord> Timers<K> {
    /// No deadline.
    pub fn new() -> Timers<K> {
        Timers(Agenda::new())
    }

    /// Sets, moves or (with `None`) clears the deadline of `key`.
    pub fn set(&mut self, key: K, deadline: Option<Moment>) {
        self.0.set(key, deadline);
    }

    /// Sets the deadline of `key`, unless it has one that is sooner: one that is moved ever again never comes.
    pub fn set_sooner(&mut self, key: K, deadline: Moment) {
        if self.0.moment(key).is_none_or(|set| deadline < set) {
            self.0.set(key, Some(deadline));
        }
    }

    /// A key whose deadline has come, the earliest first; its deadline is cleared.
    pub fn expired(&mut self, now: Moment) -> Option<K> {
        self.0.pop_due(now)
    }

    /// How long to wait from `now`; `None` is for ever. Rounded up to milliseconds, epoll's unit, so that a wait never
    /// ends just before its deadline and spins.
    pub fn wait(&self, now: Moment) -> Option<Duration> {
        let micros = self.0.next()?.since(now).as_micros();
        Some(Duration::from_millis(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX)))
    }
}

impl<K: Copy + Ord> Default for Timers<K> {
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
    fn a_deadline_that_is_set_again_and_again_comes_all_the_same() {
        let mut timers = Timers::new();
        timers.set_sooner(1, at(20));
        timers.set_sooner(1, at(30));
        assert_eq!(timers.expired(at(20)), Some(1));
        timers.set_sooner(1, at(60));
        timers.set_sooner(1, at(40));
        assert_eq!(timers.expired(at(40)), Some(1));
        assert_eq!(timers.expired(at(90)), None);
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
}
