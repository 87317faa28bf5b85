//! Workers that have to answer a warm-up request before they get any other: who is let in by it, and whose start has failed.

use crate::ids::{Moment, WorkerId};

use super::effects::Effects;
use super::event::Readiness;
use super::pool::{Due, Pool};
use super::worker::{Duty, Edition, Process, Worker};

impl Edition {
    /// Whether its workers warm up.
    pub(super) fn warms(&self) -> bool {
        self.plan.readiness == Readiness::Warmed
    }
}

impl Pool {
    /// The worker has answered its warm-up request, or cannot.
    pub(super) fn warmed(
        &mut self,
        now: Moment,
        id: WorkerId,
        result: Result<(), String>,
        out: &mut Effects,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match result {
            Ok(()) if worker.warmed() => {
                self.agenda.set(Due::Worker(id), worker.due());
                self.joined(id, out);
            }
            Err(reason) if worker.reject(now, out) => {
                self.agenda.set(Due::Worker(id), worker.due());
                // As in `start_failed`.
                let Some(worker) = self.workers.remove(&id) else { return };
                self.count_start_failure(now, &worker, &reason, out);
                self.workers.insert(id, worker);
            }
            Ok(()) | Err(_) => return,
        }
        self.advance(now, out);
    }
}

impl Worker {
    /// Whether its warm-up request is under way, which nobody but us waits for.
    pub(super) fn is_warming(&self) -> bool {
        matches!(self.duty, Duty::Joining(_)) && self.is_executing() && self.edition.warms()
    }

    /// It has answered its warm-up request. `false` if nobody waits for that any more.
    pub(super) fn warmed(&mut self) -> bool {
        let joins = matches!(self.duty, Duty::Joining(_)) && self.is_executing();
        if joins {
            self.duty = Duty::Serving;
        }
        joins
    }

    /// It runs, but it will not do: SIGKILL, and its start has failed. `false` if nobody waits for it any more.
    pub(super) fn reject(&mut self, now: Moment, out: &mut Effects) -> bool {
        let (Duty::Joining(_), Process::Executing { pid, since }) = (&self.duty, self.process) else {
            return false;
        };
        self.kill(now, out);
        self.process = Process::Unstarted { pid, since };
        true
    }
}
