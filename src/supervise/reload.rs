//! The exchange of generations: `Listen` with the new settings, new workers up and ready, then the old ones drain.
//!
//! Until the new workers are all ready the old generation is in force and its dead are replaced. Three failures of new
//! workers (a start that failed, or an end that nobody asked for) end the attempt: the old generation stays, the new
//! workers leave as soon as they are idle, and whoever waits is told the worker's own reason. A later reload before
//! that point supersedes the earlier one, whose client is told that it was not done; after it, both are done in turn.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, WorkerId};
use crate::policy::Failure;
use crate::policy::backoff::QUICK;

use super::effects::{Effects, JobId};
use super::event::PoolPlan;
use super::pool::{Due, Pool};
use super::waits::Wait;
use super::worker::{Edition, Origin, Worker};

/// So many failures of new workers end a reload.
const FAILURES: u32 = 3;

/// Settings on their way to be in force.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    edition: Rc<Edition>,
    scale: Option<u32>,
    job: Option<JobId>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// `Listen` is not answered yet.
    Opening,
    /// Its workers come up.
    Starting { failures: u32 },
}

impl Exchange {
    pub(super) fn edition(&self) -> &Rc<Edition> {
        &self.edition
    }

    pub(super) fn scale(&self) -> Option<u32> {
        self.scale
    }

    pub(super) fn scale_to(&mut self, workers: u32) {
        self.scale = Some(workers);
    }

    pub(super) fn job(&self) -> Option<JobId> {
        self.job
    }
}

impl Pool {
    pub(super) fn begin_exchange(
        &mut self,
        now: Moment,
        plan: PoolPlan,
        scale: Option<u32>,
        job: Option<JobId>,
        out: &mut Effects,
    ) {
        self.cancel_exchange(now, "superseded by a later reload", out);
        let edition = self.new_edition(plan);
        let generation = edition.generation;
        self.exchange = Some(Exchange { edition, scale, job, phase: Phase::Opening });
        self.listen(generation, out);
        self.forget_unused(out);
    }

    /// Gives up an exchange that has not come in force.
    pub(super) fn cancel_exchange(&mut self, now: Moment, reason: &str, out: &mut Effects) {
        let Some(exchange) = self.exchange.take() else { return };
        out.settle(exchange.job, Err(format!("cannot reload pool {}: {reason}", self.name)));
        self.drain_all_but_current(now, out);
    }

    pub(super) fn exchange_listens(&mut self, now: Moment, generation: Generation, out: &mut Effects) {
        if let Some(exchange) = self.opening_exchange(generation) {
            exchange.phase = Phase::Starting { failures: 0 };
            self.advance(now, out);
            self.announce(now, out);
        }
    }

    pub(super) fn exchange_cannot_listen(
        &mut self,
        now: Moment,
        generation: Generation,
        reason: &str,
        out: &mut Effects,
    ) {
        if self.opening_exchange(generation).is_some() {
            self.abort_exchange(now, reason, out);
            self.advance(now, out);
        } else if generation == self.current.generation {
            let sentence = format!("cannot reopen the sockets of pool {}: {reason}", self.name);
            out.log(log::Level::Error, sentence);
        }
    }

    /// Starts new workers that are missing; when all are ready, the new generation is in force.
    pub(super) fn advance_exchange(&mut self, now: Moment, out: &mut Effects) {
        let Some(exchange) = &self.exchange else { return };
        if exchange.phase == Phase::Opening {
            return;
        }
        let (wanted, edition) = (exchange.wanted(), Rc::clone(&exchange.edition));
        let tally = self.tally();
        if tally.candidates_ready >= wanted {
            return self.switch(now, out);
        }
        let room = wanted.saturating_mul(2).saturating_sub(tally.candidates + tally.leaving);
        for _ in 0..wanted.saturating_sub(tally.candidates).min(room) {
            self.start_worker(now, Rc::clone(&edition), Origin::Initial, true, out);
        }
    }

    /// A worker that is not of the generation in force was lost.
    pub(super) fn candidate_failed(
        &mut self,
        now: Moment,
        worker: &Worker,
        failure: Failure,
        reason: &str,
        out: &mut Effects,
    ) {
        let age = worker.age(now);
        let Some(exchange) = &mut self.exchange else { return };
        let Phase::Starting { failures } = &mut exchange.phase else { return };
        let is_recycle = matches!(failure, Failure::CleanExit { recycles: true }) && age >= QUICK;
        if worker.generation() != exchange.edition.generation || is_recycle {
            return;
        }
        *failures += 1;
        if *failures >= FAILURES {
            self.abort_exchange(now, reason, out);
            // The attempt may have closed sockets that only the old settings have.
            self.listen(self.current.generation, out);
        }
    }

    fn opening_exchange(&mut self, generation: Generation) -> Option<&mut Exchange> {
        self.exchange
            .as_mut()
            .filter(|exchange| exchange.phase == Phase::Opening && exchange.edition.generation == generation)
    }

    fn abort_exchange(&mut self, now: Moment, reason: &str, out: &mut Effects) {
        let reason = format!("{reason}; its old workers stay in service");
        out.log(log::Level::Error, format!("cannot reload pool {}: {reason}", self.name));
        self.cancel_exchange(now, &reason, out);
    }

    fn switch(&mut self, now: Moment, out: &mut Effects) {
        let Some(exchange) = self.exchange.take() else { return };
        self.current = exchange.edition;
        self.scale = exchange.scale;
        self.hunt = None;
        self.reason = None;
        self.said = None;
        self.forget_failures();
        self.backoff.started(now);
        let generation = self.current.generation;
        let total = self.drain_all_but_current(now, out);
        out.log(
            log::Level::Info,
            format!(
                "[pool {}] reloaded: generation {} is in service, {total} old children leave",
                self.name, generation.0
            ),
        );
        if let Some(job) = exchange.job {
            self.waits.push(Wait::OldGone { job, before: generation, total });
            self.announce(now, out);
        }
    }

    fn drain_all_but_current(&mut self, now: Moment, out: &mut Effects) -> usize {
        let current = self.current.generation;
        let others: Vec<WorkerId> =
            self.workers.values().filter(|w| w.generation() != current).map(|w| w.id).collect();
        for worker in &others {
            self.drain(now, *worker, out);
        }
        if self.workers.is_empty() {
            self.agenda.set(Due::Progress, None);
        }
        others.len()
    }
}
