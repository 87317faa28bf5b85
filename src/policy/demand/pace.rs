//! How fast workers may be started: a few at once, then as they become ready, and a steady trickle for those that take
//! long. Owns the count of starts that nothing has paid for yet.
//!
//! Starts under way compete for the CPUs, so more of them at once make the first worker come later and the last one no
//! sooner; but a program that waits for something while it starts must not hold up the others. In any span of time
//! there are at most `at_once` starts, one for each worker that became ready in it, and `max_spawn_rate` a second.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Bounds;
use crate::ids::Moment;

/// The starts that count as under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pace {
    owed: u32,
    /// Up to when time has paid.
    paid: Moment,
}

impl Pace {
    /// Nothing is under way.
    pub fn new() -> Pace {
        Pace { owed: 0, paid: Moment(Duration::ZERO) }
    }

    /// How many more may start now; and if that is none, when the next one may, unless a worker is ready before.
    pub fn room(&mut self, now: Moment, bounds: &Bounds) -> (u32, Option<Moment>) {
        self.pay(now, bounds);
        let room = capacity(bounds).saturating_sub(self.owed);
        (room, Some(self.paid.after(interval(bounds))))
    }

    /// One starts.
    pub fn spend(&mut self, now: Moment, bounds: &Bounds) {
        self.pay(now, bounds);
        self.owed = self.owed.saturating_add(1);
    }

    /// One is ready.
    pub fn give_back(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// What time has paid since the last look.
    fn pay(&mut self, now: Moment, bounds: &Bounds) {
        let interval = interval(bounds);
        let earned = now.since(self.paid).as_nanos() / interval.as_nanos();
        match u32::try_from(earned) {
            Ok(earned) if earned < self.owed => {
                self.owed -= earned;
                self.paid = self.paid.after(interval * earned);
            }
            // All is paid: an idle pool saves nothing up beyond its capacity.
            Ok(_) | Err(_) => {
                self.owed = 0;
                self.paid = now;
            }
        }
    }
}

fn capacity(bounds: &Bounds) -> u32 {
    bounds.at_once.min(bounds.max_spawn_rate).max(1)
}

fn interval(bounds: &Bounds) -> Duration {
    (Duration::from_secs(1) / bounds.max_spawn_rate.max(1)).max(Duration::from_nanos(1))
}
