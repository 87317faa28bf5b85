//! The memory that workers keep after a request: the gateway looks itself, at the end of an answer and not while the next
//! one is being made, and not more often than once a second for each worker.

use std::time::Duration;

use super::core::{Gateway, Timer};
use super::request::Told;
use super::slab::Key;
use super::slot::{Slot, State, Worker};
use crate::os::procfs;
use crate::policy::Wear;

/// Between two looks at one worker.
const PAUSE: Duration = Duration::from_secs(1);

impl Gateway {
    /// Looks at those that have been idle since before their turn.
    pub(super) fn weigh_idle(&mut self) {
        self.weighing = false;
        let is_new = |worker: &Worker| worker.weighed.0 < worker.answered;
        let is_idle = |slot: &Slot| slot.load() == 0 && slot.worker.as_ref().is_some_and(is_new);
        for key in self.slots.keys(is_idle) {
            self.weigh(key);
        }
    }

    /// A worker has answered to the end: the master is told if it keeps too much.
    pub(super) fn weigh(&mut self, key: Key) {
        let Some(most) = self.settings.max_memory else { return };
        let now = self.now;
        let worker = self.slots.get_mut(key).and_then(|slot| slot.worker.as_mut());
        let Some(worker) = worker.filter(|worker| worker.state == State::Serving) else { return };
        let (last, told) = worker.weighed;
        if told == Told::Yes {
            return;
        }
        if now.since(last) < PAUSE {
            // It may have been its last request for a long time.
            if !self.weighing {
                self.weighing = true;
                self.timers.set(Timer::Weight, Some(now.after(PAUSE)));
            }
            return;
        }
        // What cannot be seen is never too much.
        let kept = procfs::private_memory(worker.name.pid).unwrap_or(0);
        worker.weighed = (now, if kept > most { Told::Yes } else { Told::No });
        if kept > most {
            let (name, requests) = (worker.name, worker.served);
            let pool = &self.settings.pool;
            ::log::info!(
                "[pool {pool}] child {} keeps {kept} bytes of memory after {requests} requests, replacing it",
                name.pid
            );
            self.outbox.push_back(name.worn(requests, Wear::Memory));
        }
    }
}
