//! The exchange of generations: `Listen` with the new settings, new workers up and ready, then the old ones drain.
//!
//! It goes in steps, as far as `reload_surge` allows processes beyond those that there should be: the first new workers
//! have to be ready, all of them, before an old one is asked to leave; from then on one leaves for each that is ready, and
//! where it was another can start. Until all new workers are ready the old generation is in force and its dead are
//! replaced. When too many new workers fail (a start that failed, or an end that nobody asked for) the old generation
//! stays: who has left is replaced by it, the new workers go when that is done, and whoever waits is told the worker's own
//! reason. A later reload before all are ready supersedes the earlier one, whose client is told that it was not done;
//! after it, both are done in turn.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, WorkerId};
use crate::policy::backoff::QUICK;
use crate::policy::{Failure, Mode, Wear};
use crate::sorted::SortedMap;

use super::effects::{Effects, JobId};
use super::event::PoolPlan;
use super::passage::Passage;
use super::pool::{Due, Pool};
use super::staff::Tally;
use super::waits::{Wait, Wish};
use super::worker::{Duty, Edition, Origin, Worker};

/// So many failures of new workers end a reload, or as many as a tenth of them where that is more.
const FAILURES: u32 = 3;

/// Settings on their way to be in force.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exchange {
    edition: Rc<Edition>,
    scale: Option<u32>,
    #[serde(default)]
    wish: Wish,
    job: Option<JobId>,
    phase: Phase,
    /// Old workers that were asked to leave, one for each new one that was ready.
    released: u32,
    /// It waits for processes that other pools have beyond what they should have.
    is_held_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// `Listen` is not answered yet.
    Opening,
    /// Its first workers come up.
    Proving { failures: u32 },
    /// As many as could be started at first were ready at once.
    Proven { failures: u32 },
}

impl Exchange {
    pub(super) fn edition(&self) -> &Rc<Edition> {
        &self.edition
    }

    /// Whether its first workers were ready.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.phase, Phase::Proven { .. })
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

    /// How many old workers have made way for new ones.
    pub(super) fn released(&self) -> u32 {
        self.released
    }

    /// Whether other pools have the processes that it needs.
    pub(super) fn is_held_up(&self) -> bool {
        self.is_held_up
    }
}

impl Pool {
    pub(super) fn begin_exchange(
        &mut self,
        now: Moment,
        plan: PoolPlan,
        scale: Option<u32>,
        wish: Wish,
        job: Option<JobId>,
        out: &mut Effects,
    ) {
        self.supersede(now, wish, out);
        let edition = self.new_edition(plan);
        let generation = edition.generation;
        let (phase, released, is_held_up) = (Phase::Opening, 0, false);
        self.exchange = Some(Exchange { edition, scale, wish, job, phase, released, is_held_up });
        self.listen(generation, out);
        self.forget_unused(out);
    }

    /// Gives up an exchange that has not come in force. The old generation has its numbers back before the new one is gone.
    pub(super) fn cancel_exchange(&mut self, now: Moment, reason: &str, out: &mut Effects) {
        let Some(exchange) = self.exchange.take() else { return };
        out.settle(exchange.job, Err(exchange.wish.denied(&self.name, reason)));
        let current = Rc::clone(&self.current);
        self.dress(&current);
        let mut others = self.others_than(current.generation);
        if self.passage(&exchange) == Passage::ToGateway {
            self.pass_intake(&exchange.edition.plan, out);
        } else if exchange.released > 0 {
            others.retain(|id| !self.workers.get_mut(id).is_some_and(Worker::retire_if_ready));
        }
        self.drain_all(now, &others, out);
    }

    /// Another exchange begins before this one is in force. What is ready of it serves on, in place of those that have left.
    fn supersede(&mut self, now: Moment, by: Wish, out: &mut Effects) {
        let Some(exchange) = self.exchange.take() else { return };
        let reason = format!("superseded by a later {}", by.verb());
        out.settle(exchange.job, Err(exchange.wish.denied(&self.name, &reason)));
        let passes_on = self.passage(&exchange) == Passage::ToGateway;
        if passes_on {
            self.pass_intake(&exchange.edition.plan, out);
        }
        let is_surplus = |worker: &&Worker| {
            let serves_on = exchange.released > 0 && !passes_on && !matches!(worker.duty, Duty::Joining(_));
            worker.generation() == exchange.edition.generation && !serves_on
        };
        let surplus: Vec<WorkerId> =
            self.workers.values().filter(is_surplus).map(|worker| worker.id).collect();
        self.drain_all(now, &surplus, out);
    }

    pub(super) fn exchange_listens(&mut self, now: Moment, generation: Generation, out: &mut Effects) {
        if let Some(exchange) = self.opening_exchange(generation) {
            exchange.phase = Phase::Proving { failures: 0 };
            let plan = exchange.edition.plan.clone();
            self.grant_times(&plan);
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

    /// Starts new workers that are missing and lets old ones go in their place; when all are ready, the new generation is in
    /// force.
    pub(super) fn advance_exchange(&mut self, now: Moment, out: &mut Effects) {
        let Some(exchange) = &mut self.exchange else { return };
        if exchange.phase == Phase::Opening {
            return;
        }
        let edition = Rc::clone(&exchange.edition);
        let wanted = self.wanted_next();
        let tally = self.tally();
        if tally.candidates_ready >= wanted {
            return self.switch(now, out);
        }
        self.make_way(now, &tally, out);
        let missing = wanted.saturating_sub(tally.candidates);
        let surge = out.surge.room(&self.name).saturating_sub(self.extra());
        let most = wanted.saturating_mul(2).saturating_sub(tally.candidates + self.superfluous());
        if let Some(exchange) = &mut self.exchange {
            exchange.is_held_up = missing.min(most) > surge;
        }
        for _ in 0..missing.min(most).min(surge) {
            self.start_worker(now, Rc::clone(&edition), Origin::Initial, true, out);
        }
    }

    /// Lets an old worker go for each new one that is ready; the first of them all at once, as a proof.
    fn make_way(&mut self, now: Moment, tally: &Tally, out: &mut Effects) {
        if tally.candidates > 0 && tally.candidates == tally.candidates_ready {
            self.prove(out);
        }
        let has_passed_on = self.has_passed_on();
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.is_proven()) else { return };
        let leave = match has_passed_on {
            true => tally.in_service,
            false => tally.candidates_ready.saturating_sub(exchange.released),
        };
        exchange.released += leave;
        let next = exchange.edition.generation;
        let serves = |worker: &&Worker| {
            worker.generation() != next && matches!(worker.duty, Duty::Joining(_) | Duty::Serving)
        };
        let leave = usize::try_from(leave).unwrap_or(usize::MAX);
        let old: Vec<WorkerId> =
            self.workers.values().filter(serves).map(|worker| worker.id).take(leave).collect();
        self.drain_all(now, &old, out);
    }

    /// The first new workers are ready.
    fn prove(&mut self, out: &mut Effects) {
        let Some(exchange) = &mut self.exchange else { return };
        let Phase::Proving { failures } = exchange.phase else { return };
        exchange.phase = Phase::Proven { failures };
        if self.has_passed_on() {
            self.open_intake(out);
        }
    }

    /// Tells all pools how many processes this one has beyond those that it should have.
    pub(super) fn note_surge(&self, out: &mut Effects) {
        let is_held_up = self.exchange.as_ref().is_some_and(Exchange::is_held_up);
        out.surge.note(&self.name, self.extra(), is_held_up);
    }

    /// Processes of an exchange beyond those that the pool should have: new workers in whose place no old one has left yet,
    /// and those of other generations that are on their way out.
    fn extra(&self) -> u32 {
        let tally = self.tally();
        let paid = self.exchange.as_ref().map_or(0, Exchange::released);
        (tally.candidates + self.superfluous()).saturating_sub(paid)
    }

    /// Workers on their way out that are not of the newest generation.
    fn superfluous(&self) -> u32 {
        let newest =
            self.exchange.as_ref().map_or(self.current.generation, |exchange| exchange.edition.generation);
        let leaves = |worker: &&Worker| {
            worker.generation() != newest && matches!(worker.duty, Duty::Draining(_) | Duty::Stopping { .. })
        };
        u32::try_from(self.workers.values().filter(leaves).count()).unwrap_or(u32::MAX)
    }

    /// Old workers get the times of the new settings: they may have been raised for their sake.
    fn grant_times(&mut self, new: &PoolPlan) {
        let mut editions: SortedMap<Generation, Rc<Edition>> = SortedMap::new();
        for worker in self.workers.values_mut().filter(|worker| !worker.is_leaving()) {
            let generation = worker.generation();
            let old = &worker.edition.plan;
            let edition = editions.or_insert_with(generation, || {
                let (stop_timeout, kill_timeout) = (new.stop_timeout, new.kill_timeout);
                Rc::new(Edition { generation, plan: PoolPlan { stop_timeout, kill_timeout, ..old.clone() } })
            });
            worker.edition = Rc::clone(edition);
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
        let most = FAILURES.max(self.wanted_next() / 10);
        let Some(exchange) = &mut self.exchange else { return };
        let (Phase::Proving { failures } | Phase::Proven { failures }) = &mut exchange.phase else { return };
        let is_recycle = matches!(failure, Failure::CleanExit { recycles: true }) && age >= QUICK;
        if worker.generation() != exchange.edition.generation || is_recycle {
            return;
        }
        *failures += 1;
        if *failures >= most {
            self.abort_exchange(now, reason, out);
        }
    }

    fn opening_exchange(&mut self, generation: Generation) -> Option<&mut Exchange> {
        self.exchange
            .as_mut()
            .filter(|exchange| exchange.phase == Phase::Opening && exchange.edition.generation == generation)
    }

    fn abort_exchange(&mut self, now: Moment, reason: &str, out: &mut Effects) {
        let Some(wish) = self.exchange.as_ref().map(|exchange| exchange.wish) else { return };
        let reason = match wish {
            _ if self.tally().ready > 0 => format!("{reason}; its old workers stay in service"),
            Wish::Reload => format!("{reason}; its old settings stay in force"),
            Wish::Start | Wish::Restart | Wish::Scale(_) => self.with_outlook(reason),
        };
        out.log(log::Level::Error, wish.denied(&self.name, &reason));
        self.cancel_exchange(now, &reason, out);
        // The attempt, or one that it superseded, may have closed or changed sockets, and the gateway has its settings.
        self.listen(self.current.generation, out);
    }

    fn switch(&mut self, now: Moment, out: &mut Effects) {
        self.prove(out);
        let was_at_rest = self.is_at_rest();
        let Some(exchange) = self.exchange.take() else { return };
        match self.passage(&exchange) {
            Passage::None => {}
            Passage::ToGateway => self.follow.ask_nobody(),
            Passage::ToWorkers => {
                self.follow.ask_nobody();
                self.pass_intake(&self.current.plan, out);
            }
        }
        self.current = exchange.edition;
        self.scale = exchange.scale;
        self.hunt = None;
        self.rebound();
        // Its sockets may be others, and it may follow demand where it did not.
        self.close_ear();
        self.survey(out);
        self.reason = None;
        self.said = None;
        self.forget_failures();
        self.backoff.started(now);
        let generation = self.current.generation;
        let old = self.others_than(generation);
        let total = old.len();
        self.drain_all(now, &old, out);
        if was_at_rest && self.bounds().mode == Mode::Ondemand {
            self.dismiss_proof(now, out);
        }
        out.log(
            log::Level::Info,
            format!(
                "[pool {}] {}ed: generation {} is in service, {total} old children leave",
                self.name,
                exchange.wish.verb(),
                generation.0
            ),
        );
        if let Some(job) = exchange.job {
            self.waits.push(Wait::OldGone { job, before: generation, total, wish: exchange.wish });
            self.announce(now, out);
        }
    }

    /// Whether no worker serves and no request waits for one.
    fn is_at_rest(&self) -> bool {
        let tally = self.tally();
        tally.in_service == 0 && tally.retiring == 0 && self.follow.load.queued == 0
    }

    /// The worker that has shown that the new settings work goes at once where there is nothing for it to do: a reload of
    /// hundreds of such pools would have a worker of each at the same time.
    fn dismiss_proof(&mut self, now: Moment, out: &mut Effects) {
        let serving: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| matches!(worker.duty, Duty::Serving))
            .map(|worker| worker.id)
            .collect();
        for id in &serving {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.wear = Some(Wear::Idle);
            }
        }
        self.drain_all(now, &serving, out);
    }

    /// The workers of every other generation.
    fn others_than(&self, generation: Generation) -> Vec<WorkerId> {
        let is_other = |worker: &&Worker| worker.generation() != generation;
        self.workers.values().filter(is_other).map(|worker| worker.id).collect()
    }

    fn drain_all(&mut self, now: Moment, workers: &[WorkerId], out: &mut Effects) {
        for worker in workers {
            self.drain(now, *worker, out);
        }
        if self.workers.is_empty() {
            self.agenda.set(Due::Progress, None);
        }
    }
}

impl Worker {
    /// Has it go as soon as its replacement is ready, if it serves; whether it does.
    pub(super) fn retire_if_ready(&mut self) -> bool {
        let serves = matches!(self.duty, Duty::Serving) && self.is_executing();
        if serves {
            self.duty = Duty::Retiring;
        }
        serves
    }
}
