//! How a worker that serves is asked to go: when it is idle, within a time or in its own.

use crate::ids::Moment;
use crate::policy::Wear;

use super::effects::Effects;
use super::watch::Watch;
use super::worker::{Duty, Worker};

impl Worker {
    /// Waits for it to be idle and asks it to end then; no effect on one that leaves already.
    pub(super) fn drain(&mut self, now: Moment, out: &mut Effects) {
        let deadline = now.after(self.edition.plan.stop_timeout);
        if let Duty::Draining(watch) = &mut self.duty {
            // A worn one had all the time it wanted; now somebody waits.
            watch.deadline.get_or_insert(deadline);
        }
        if self.is_leaving() {
            return;
        }
        if self.is_warming() {
            // Nobody waits for the answer to our own request.
            return self.ask_at_once(now, out);
        }
        self.begin_drain(Some(deadline), out);
    }

    /// Whether it may be busy for as long as it likes.
    pub(super) fn has_time(&self) -> bool {
        let is_worn = self.wear.is_some_and(|wear| wear != Wear::Stranded);
        is_worn && self.waiters.is_empty()
    }

    /// As `drain`, but it may be busy for as long as it likes: nobody waits for its end.
    pub(super) fn drain_in_peace(&mut self, out: &mut Effects) {
        if !self.is_leaving() {
            self.begin_drain(None, out);
        }
    }

    fn begin_drain(&mut self, deadline: Option<Moment>, out: &mut Effects) {
        self.duty = Duty::Draining(Watch::for_idleness(deadline));
        if self.is_executing() {
            self.ask_to_stop(out);
        }
    }
}
