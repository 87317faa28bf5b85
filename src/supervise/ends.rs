//! How a worker's end is counted, logged and judged, and what the pool does then.
//!
//! The log has php-fpm's lines. While workers keep ending young, the first [`QUIET_AFTER`] ends are logged one by one
//! and from then on each step of the back-off is; a start that fails is logged once for each distinct reason.

use crate::ids::{ExitStatus, Moment, WorkerId};
use crate::policy::backoff::QUICK;
use crate::policy::{Failure, Verdict, Wear};

use super::effects::Effects;
use super::pool::{Due, Pool, State};
use super::waits::Setback;
use super::worker::{Duty, Ending, Worker};

/// How many young ends in a row are logged at their own level; further ones are debug lines.
pub(super) const QUIET_AFTER: u32 = 5;

impl Pool {
    /// The worker's process was reaped. `false` if there is no such worker.
    pub(super) fn exited(
        &mut self,
        now: Moment,
        id: WorkerId,
        status: ExitStatus,
        out: &mut Effects,
    ) -> bool {
        let Some(worker) = self.dismiss(id, out) else { return self.stuck_ended(id, status, out) };
        let ending = worker.ending(status);
        let served = matches!(worker.duty, Duty::Joining(_) | Duty::Serving);
        let pid = worker.pid().map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        let age = worker.age(now).as_secs_f64();
        let sentence = format!("child {pid} {status} after {age:.6} seconds from start");
        self.count(ending, status);
        let failure = match ending {
            Ending::Clean => {
                let recycles = worker.edition.plan.recycles;
                Some((Failure::CleanExit { recycles }, log::Level::Info))
            }
            Ending::Crashed => Some((Failure::Crash, log::Level::Warn)),
            Ending::Unstarted | Ending::Killed | Ending::Asked | Ending::Worn(_) => None,
        };
        match failure {
            Some((failure, level)) if served => self.lost(now, &worker, failure, level, &sentence, out),
            Some((_, level)) => self.log_end(level, &sentence, out),
            None if ending == Ending::Unstarted => self.log_end(log::Level::Debug, &sentence, out),
            None => {
                self.log_end(log::Level::Info, &sentence, out);
                if matches!(worker.duty, Duty::Killed { .. }) {
                    self.replace(now, out);
                }
            }
        }
        // Whatever its end meant, it proves nothing any more.
        self.lose_probe(now, id);
        self.bury(worker, out);
        self.advance(now, out);
        true
    }

    /// What the worker said before its end.
    pub(super) fn heard_last(&mut self, id: WorkerId, text: String) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.last_words = Some(text);
        }
    }

    /// What a failure means for the next starts of the generation that the worker belongs to.
    pub(super) fn judge(
        &mut self,
        now: Moment,
        worker: &Worker,
        failure: Failure,
        reason: &str,
        sentence: &str,
        out: &mut Effects,
    ) -> Option<Verdict> {
        let is_loss = matches!(self.state, State::Serving) && !matches!(worker.duty, Duty::Retiring);
        let started_or_serving = !worker.is_leaving() || failure == Failure::NotStarted;
        if !is_loss || !started_or_serving {
            return None;
        }
        if worker.generation() != self.current.generation {
            self.candidate_failed(now, worker, failure, reason, out);
            return None;
        }
        let children = self.children();
        let failure = if failure == Failure::Crash && self.has_proven_worker(now) {
            Failure::CrashInService
        } else {
            failure
        };
        let verdict = self.backoff.failed(now, worker.requested, worker.age(now), failure, children);
        self.reason = Some(sentence.to_owned());
        match verdict {
            Verdict::NotQuick => {
                if self.probe == Some(worker.id) {
                    self.probe_survived(out);
                }
                self.replace(now, out);
            }
            Verdict::Allowed | Verdict::SameWave | Verdict::Raised(_) => {
                self.set_back(Setback::Worker(reason), out);
            }
        }
        self.lose_probe(now, worker.id);
        Some(verdict)
    }

    /// Whether the program has shown with the current settings that it can serve.
    fn has_proven_worker(&self, now: Moment) -> bool {
        let current = self.current.generation;
        let mut workers = self.workers.values();
        workers
            .any(|worker| worker.generation() == current && worker.is_executing() && worker.age(now) >= QUICK)
    }

    /// Requests are being answered: what ends workers is not their start.
    pub(super) fn works(&mut self, now: Moment, out: &mut Effects) {
        self.backoff.served(now);
        self.agenda.set(Due::Proof, None);
        self.probe_survived(out);
        self.advance(now, out);
    }

    /// Takes a worker off the list; every trace but the worker itself is gone then.
    pub(super) fn dismiss(&mut self, id: WorkerId, out: &mut Effects) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.agenda.set(Due::Worker(id), None);
        self.agenda.set(Due::Lifetime(id), None);
        out.worker_gone(id, worker.pid());
        Some(worker)
    }

    /// Goes on without a worker that SIGKILL does not end.
    pub(super) fn abandon(&mut self, id: WorkerId, out: &mut Effects) {
        let Some(mut worker) = self.workers.remove(&id) else { return };
        let name = worker.pid().map_or_else(|| "the worker".to_owned(), |pid| format!("child {pid}"));
        let text =
            format!("{name} of pool {} does not end after SIGKILL: it is stuck in the kernel", self.name);
        for job in std::mem::take(&mut worker.waiters) {
            out.settle(Some(job), Err(text.clone()));
        }
        out.log(log::Level::Error, text);
        self.stuck.insert(id, worker);
    }

    /// Tells those who waited for its end.
    pub(super) fn bury(&mut self, worker: Worker, out: &mut Effects) {
        let name = worker.pid().map_or_else(|| "the worker".to_owned(), |pid| format!("child {pid}"));
        for job in worker.waiters {
            out.settle(Some(job), Ok(format!("{name} of pool {} is gone", self.name)));
        }
    }

    /// Logs a failure unless it is the one that was logged last.
    pub(super) fn say(&mut self, level: log::Level, sentence: &str, out: &mut Effects) {
        if self.said.as_deref() != Some(sentence) {
            out.log(level, sentence.to_owned());
            self.said = Some(sentence.to_owned());
        }
    }

    /// Workers stay up again.
    pub(super) fn recovered(&mut self, out: &mut Effects) {
        self.reason = None;
        self.said = None;
        out.log(log::Level::Info, format!("[pool {}] recovered: its children stay up again", self.name));
    }

    fn lost(
        &mut self,
        now: Moment,
        worker: &Worker,
        failure: Failure,
        level: log::Level,
        sentence: &str,
        out: &mut Effects,
    ) {
        if worker.generation() != self.current.generation {
            self.log_end(level, sentence, out);
            self.judge(now, worker, failure, &worker.with_last_words(sentence), sentence, out);
            return;
        }
        let verdict = self.judge(now, worker, failure, &worker.with_last_words(sentence), sentence, out);
        let is_quick = verdict.is_some_and(|verdict| verdict != Verdict::NotQuick);
        let streak = self.backoff.streak();
        let quiet = is_quick && streak > QUIET_AFTER;
        self.log_end(if quiet { log::Level::Debug } else { level }, sentence, out);
        if quiet && streak == QUIET_AFTER + 1 {
            let text = "more children end young; from here on each is a line for the debug level only";
            out.log(level, format!("[pool {}] {text}", self.name));
        }
        if let Some(Verdict::Raised(delay)) = verdict {
            let what = format!("children keep ending young, next start in {delay:?}; last: {sentence}");
            out.log(log::Level::Warn, format!("[pool {}] {what}", self.name));
        }
    }

    fn stuck_ended(&mut self, id: WorkerId, status: ExitStatus, out: &mut Effects) -> bool {
        let Some(worker) = self.stuck.remove(&id) else { return false };
        out.worker_gone(id, worker.pid());
        self.count(worker.ending(status), status);
        self.log_end(log::Level::Info, &format!("a child that was stuck {status}"), out);
        true
    }

    fn lose_probe(&mut self, now: Moment, worker: WorkerId) {
        if self.probe == Some(worker) {
            self.probe = None;
            self.agenda.set(Due::Proof, None);
            self.backoff.probe_lost(now);
        }
    }

    fn log_end(&self, level: log::Level, sentence: &str, out: &mut Effects) {
        out.log(level, format!("[pool {}] {sentence}", self.name));
    }

    fn count(&mut self, ending: Ending, status: ExitStatus) {
        match ending {
            Ending::Unstarted => {}
            Ending::Killed => self.counters.killed += 1,
            Ending::Crashed => self.counters.crashed += 1,
            Ending::Worn(wear) => {
                let counters = &mut self.counters;
                counters.recycled += 1;
                match wear {
                    Wear::Requests => counters.worn += 1,
                    Wear::Lifetime => counters.outlived += 1,
                    Wear::Memory => counters.overweight += 1,
                    Wear::Idle => counters.idle += 1,
                    Wear::Stranded => {}
                }
            }
            Ending::Asked if status == ExitStatus::Code(0) => self.counters.recycled += 1,
            Ending::Clean if status == ExitStatus::Code(0) => {
                self.counters.recycled += 1;
                self.counters.exited += 1;
            }
            Ending::Asked | Ending::Clean => {}
        }
    }
}

impl Worker {
    /// A reason, and what the worker itself had to say.
    pub(super) fn with_last_words(&self, reason: &str) -> String {
        match &self.last_words {
            Some(words) => format!("{reason}; it said: {words}"),
            None => reason.to_owned(),
        }
    }
}
