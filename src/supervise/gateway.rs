//! Pools whose requests come through a gateway: workers are let in when they are ready, leave when the gateway has nothing
//! left for them, and go at the gateway's word. Pools without one never come here.

use std::time::Duration;

use crate::ids::{Moment, WorkerId};
use crate::policy::Wear;

use super::action::Action;
use super::effects::{Effects, JobId};
use super::event::Intake;
use super::pool::{Due, Pool};
use super::worker::{Duty, Edition, Process, Worker};

/// How long a worker may take to end whose request took too long.
pub(super) const TERMINATE_GRACE: Duration = Duration::from_secs(1);

impl Edition {
    pub(super) fn has_gateway(&self) -> bool {
        self.plan.intake == Intake::Gateway
    }
}

impl Pool {
    /// The worker is ready: requests may come.
    pub(super) fn admit(&self, id: WorkerId, out: &mut Effects) {
        if self.workers.get(&id).is_some_and(|worker| worker.edition.has_gateway()) {
            out.push(Action::Admit { worker: id });
        }
    }

    /// The gateway has no request for the worker and will have none. `false` if there is no such worker.
    pub(super) fn drained(&mut self, now: Moment, id: WorkerId, out: &mut Effects) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        match worker.duty {
            Duty::Draining(_) if worker.is_executing() => worker.ask_to_stop(out),
            // It was let go of as one of those that were idle for the longest time.
            Duty::Serving => {
                worker.wear = Some(Wear::Idle);
                self.drain(now, id, out);
            }
            Duty::Draining(_)
            | Duty::Joining(_)
            | Duty::Retiring
            | Duty::Stopping { .. }
            | Duty::Killed { .. } => {}
        }
        true
    }

    /// The worker has to go, busy as it is: its stop signal now, SIGKILL soon after; the replacement at once.
    pub(super) fn terminate(&mut self, now: Moment, id: WorkerId, job: Option<JobId>, out: &mut Effects) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return out.settle(job, Err(format!("worker {} is stuck in the kernel", id.0)));
        };
        worker.waiters.extend(job);
        worker.terminate(now, out);
        self.agenda.set(Due::Worker(id), worker.due());
        self.advance(now, out);
    }

    /// No more requests are to be taken in: half of `stop_timeout` for those that wait, the other half for those that
    /// have begun then.
    pub(super) fn close_intake(&self, out: &mut Effects) {
        if self.current.has_gateway() {
            let within = self.current.plan.stop_timeout / 2;
            out.push(Action::CloseIntake { pool: self.name.clone(), within });
        }
    }
}

impl Worker {
    fn terminate(&mut self, now: Moment, out: &mut Effects) {
        let soon = now.after(TERMINATE_GRACE);
        match &mut self.duty {
            Duty::Killed { .. } => {}
            Duty::Stopping { grace, deadline, .. } => {
                *grace = TERMINATE_GRACE.min(*grace);
                *deadline = soon.min(*deadline);
            }
            Duty::Joining(_) | Duty::Serving | Duty::Retiring | Duty::Draining(_)
                if self.process == Process::Requested =>
            {
                self.kill(now, out);
            }
            Duty::Joining(_) | Duty::Serving | Duty::Retiring | Duty::Draining(_) => {
                let signal = self.edition.plan.stop_signal;
                out.push(Action::Signal { worker: self.id, signal });
                self.duty = Duty::Stopping { signal, grace: TERMINATE_GRACE, deadline: soon };
            }
        }
    }
}
