//! What the master says about a living worker: how far its start came, what it was seen doing, that it was signalled;
//! and what follows when one of its deadlines has come. Ends are in `ends`.

use crate::ids::{Moment, Pid, WorkerId};
use crate::policy::Failure;
use crate::status::snapshot::Activity;

use super::effects::Effects;
use super::ends::QUIET_AFTER;
use super::pool::{Due, Pool};
use super::waits::Wish;
use super::worker::{self, Duty, Origin, Process, Worker};

impl Pool {
    /// `false` if that cannot be.
    pub(super) fn forked(&mut self, now: Moment, id: WorkerId, pid: Pid, out: &mut Effects) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        if !worker.forked(now, pid, out) {
            return false;
        }
        self.agenda.set(Due::Worker(id), worker.due());
        out.worker_forked(id, pid);
        true
    }

    /// `false` if that cannot be.
    pub(super) fn executing(&mut self, now: Moment, id: WorkerId, out: &mut Effects) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        if !worker.executing(now, out) {
            return false;
        }
        let level = match worker.origin {
            Origin::Replacement if self.backoff.streak() <= QUIET_AFTER => log::Level::Info,
            Origin::Initial | Origin::Replacement => log::Level::Debug,
        };
        if let Some(pid) = worker.pid() {
            out.log(level, format!("[pool {}] child {pid} started", self.name));
        }
        self.counters.started += 1;
        self.agenda.set(Due::Worker(id), worker.due());
        if worker.generation() == self.current.generation {
            self.backoff.started(now);
        }
        self.watch_lifetime(id);
        self.probe_executes(now, id);
        if self.somebody_cares() {
            self.advance(now, out);
        }
        true
    }

    /// `false` if that cannot be.
    pub(super) fn start_failed(
        &mut self,
        now: Moment,
        id: WorkerId,
        reason: &str,
        out: &mut Effects,
    ) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        if worker.process == Process::Requested {
            // There is no process whose end would follow.
            let Some(worker) = self.dismiss(id, out) else { return false };
            self.count_start_failure(now, &worker, reason, out);
            self.bury(worker, out);
        } else if worker.unstarted() {
            self.agenda.set(Due::Worker(id), worker.due());
            // Taken out for as long as its pool is looked at; it is back before anyone counts.
            let Some(worker) = self.workers.remove(&id) else { return false };
            self.count_start_failure(now, &worker, reason, out);
            self.workers.insert(id, worker);
        } else {
            return false;
        }
        self.advance(now, out);
        true
    }

    /// `false` if nobody asked.
    pub(super) fn observed(
        &mut self,
        now: Moment,
        id: WorkerId,
        activity: Activity,
        out: &mut Effects,
    ) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        if !worker.answered() {
            return false;
        }
        let ready = worker.observed(now, activity);
        if activity != Activity::Idle {
            worker.idle_since = None;
        }
        self.agenda.set(Due::Worker(id), worker.due());
        if ready {
            self.joined(id, out);
        }
        self.hunted(id);
        if ready || self.hunt.is_some() {
            self.advance(now, out);
        }
        true
    }

    /// It has one short request after the other.
    pub(super) fn restless(&mut self, now: Moment, id: WorkerId, out: &mut Effects) {
        let workers = self.tally().leaving;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.restless(now, workers, out) {
            let (pid, signal) = (worker.pid(), worker.edition.plan.stop_signal);
            self.agenda.set(Due::Worker(id), worker.due());
            let pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
            let text =
                format!("child {pid} is never without a request: {signal}, and it finishes the one it has");
            out.log(log::Level::Debug, format!("[pool {}] {text}", self.name));
        }
    }

    /// `false` if nobody asked.
    pub(super) fn stop_sent(&mut self, now: Moment, id: WorkerId, out: &mut Effects) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        if !worker.answered() {
            return false;
        }
        worker.seen = Some(Activity::Idle);
        worker.stop_sent(now);
        self.agenda.set(Due::Worker(id), worker.due());
        self.hunted(id);
        self.asked_with_success();
        if self.hunt.is_some() {
            self.advance(now, out);
        }
        true
    }

    /// A client's connection is with it.
    pub(super) fn holding(&mut self, now: Moment, id: WorkerId, out: &mut Effects) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        if worker.holding() {
            self.agenda.set(Due::Worker(id), worker.due());
            self.joined(id, out);
            self.advance(now, out);
        }
        true
    }

    /// The worker has become ready.
    pub(super) fn joined(&mut self, id: WorkerId, out: &mut Effects) {
        self.follow.ready();
        self.admit(id, out);
    }

    pub(super) fn on_worker_due(&mut self, now: Moment, id: WorkerId, out: &mut Effects) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let due = worker.on_due(now, out);
        self.agenda.set(Due::Worker(id), worker.due());
        let Some(pid) = worker.pid() else { return };
        if due == worker::Due::Assumed {
            self.joined(id, out);
        }
        let Some(worker) = self.workers.get(&id) else { return };
        let plan = &worker.edition.plan;
        let (stop, start) = (plan.stop_timeout, plan.start_timeout);
        let (level, event) = match due {
            worker::Due::Nothing => return,
            worker::Due::Assumed => (
                log::Level::Info,
                format!("could not be seen idle or busy for {start:?}, taking it for ready"),
            ),
            worker::Due::StartTimeout => return self.start_timed_out(now, id, out),
            worker::Due::StopTimeout => (
                log::Level::Warn,
                format!("still busy after {stop:?}, sending {} all the same", plan.stop_signal),
            ),
            worker::Due::KillTimeout(signal, grace) => {
                (log::Level::Warn, format!("still there {grace:?} after {signal}, sending SIGKILL"))
            }
            worker::Due::Stuck => return self.abandon(id, out),
        };
        out.log(level, format!("[pool {}] child {pid} {event}", self.name));
    }

    fn start_timed_out(&mut self, now: Moment, id: WorkerId, out: &mut Effects) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let patience = worker.edition.plan.start_timeout;
        let reason = if worker.edition.warms() {
            format!("it has not answered its warm-up request after {patience:?}")
        } else {
            format!("its program does not run after {patience:?}")
        };
        let reason = worker.with_last_words(&reason);
        self.count_start_failure(now, &worker, &reason, out);
        self.workers.insert(id, worker);
    }

    pub(super) fn count_start_failure(
        &mut self,
        now: Moment,
        worker: &Worker,
        reason: &str,
        out: &mut Effects,
    ) {
        self.counters.start_failures += 1;
        let sentence = Wish::Start.denied(&self.name, reason);
        if !matches!(worker.duty, Duty::Killed { .. }) || matches!(worker.process, Process::Unstarted { .. })
        {
            self.say(log::Level::Error, &sentence, out);
        }
        self.judge(now, worker, Failure::NotStarted, reason, &sentence, out);
    }

    /// Whether a worker that has come up can change anything beyond itself.
    fn somebody_cares(&self) -> bool {
        let retiring = |worker: &Worker| matches!(worker.duty, Duty::Retiring);
        !self.waits.is_empty() || self.exchange.is_some() || self.workers.values().any(retiring)
    }
}
