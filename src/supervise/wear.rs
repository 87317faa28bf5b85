//! Workers that are replaced although nothing is wrong with them: at the gateway's word, at the end of their lives, for
//! their memory. The replacement is ready first, a share of the pool goes at once (`policy::wear`), and none is hurried:
//! one that is busy leaves when it is idle, however long that takes; but for one that most likely never will be.

use crate::ids::{Moment, WorkerId};
use crate::policy::Wear;
use crate::policy::wear;

use super::effects::{Effects, JobId};
use super::pool::{Due, Pool};
use super::worker::{Duty, Worker};

impl Pool {
    /// The worker is worn.
    pub(super) fn recycle(
        &mut self,
        now: Moment,
        id: WorkerId,
        wear: Wear,
        job: Option<JobId>,
        out: &mut Effects,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return out.settle(job, Err(format!("worker {} is stuck in the kernel", id.0)));
        };
        worker.waiters.extend(job);
        match wear {
            Wear::Requests => self.recycle_idler(now, id, out),
            Wear::Stranded if worker.is_leaving() => self.drain(now, id, out),
            Wear::Lifetime | Wear::Memory | Wear::Stranded | Wear::Idle => drop(self.worn.insert(id, wear)),
        }
        self.advance(now, out);
    }

    /// Lets as many worn workers go as may at once. Not during a reload, which replaces all of them.
    pub(super) fn recycle_next(&mut self) {
        if self.worn.is_empty() || self.exchange.is_some() {
            return;
        }
        // Those whose replacements are there take no place from anyone.
        let is_on_its_way = |worker: &&Worker| {
            let wear = worker.wear.filter(|wear| *wear != Wear::Requests);
            wear.is_some() && matches!(worker.duty, Duty::Retiring)
        };
        let leaving = u32::try_from(self.workers.values().filter(is_on_its_way).count()).unwrap_or(u32::MAX);
        let serving = u32::try_from(self.workers.len()).unwrap_or(u32::MAX).saturating_sub(leaving);
        let mut room = wear::at_once(serving).saturating_sub(leaving);
        let workers = &mut self.workers;
        self.worn.retain(|id, wear| {
            let Some(worker) = workers.get_mut(id).filter(|worker| !worker.is_leaving()) else {
                return false;
            };
            if room == 0 || !matches!(worker.duty, Duty::Serving) {
                return !matches!(worker.duty, Duty::Retiring);
            }
            room -= 1;
            worker.wear = Some(*wear);
            worker.duty = Duty::Retiring;
            false
        });
    }

    /// The worker's life ends, if lives do in this pool.
    pub(super) fn watch_lifetime(&mut self, id: WorkerId) {
        let end = self.workers.get(&id).and_then(Worker::end_of_life);
        self.agenda.set(Due::Lifetime(id), end);
    }

    /// The worker has served enough. With too many leaving already it goes before its replacement is there: it serves nobody
    /// any more.
    fn recycle_idler(&mut self, now: Moment, id: WorkerId, out: &mut Effects) {
        let full = self.tally().retiring >= self.wanted();
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.wear = Some(Wear::Requests);
        match worker.duty {
            Duty::Serving if full => self.drain(now, id, out),
            Duty::Serving => worker.duty = Duty::Retiring,
            Duty::Joining(_) => self.drain(now, id, out),
            Duty::Retiring | Duty::Draining(_) | Duty::Stopping { .. } | Duty::Killed { .. } => {}
        }
    }
}

impl Worker {
    fn end_of_life(&self) -> Option<Moment> {
        let lifetime = self.edition.plan.max_lifetime?;
        Some(self.since()?.after(lifetime.of(self.id)))
    }
}
