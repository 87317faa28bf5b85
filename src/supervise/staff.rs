//! How many workers a pool has: those that are missing are started, those that are too many are drained.
//!
//! A pool has at most twice as many workers as it should have (those that were sent SIGKILL not counted), and as
//! many again of the next generation during a reload: old workers that are slow to leave hold back new ones.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, MOST_PROCESSES, Moment, WorkerId};
use crate::policy::backoff::QUICK;
use crate::policy::{Permit, Wear};
use crate::status::snapshot::Activity;

use super::action::Action;
use super::effects::{Effects, JobId};
use super::pool::{Due, Pool, State};
use super::reload::Exchange;
use super::waits::Wish;
use super::worker::{Duty, Edition, Origin, Process, Worker};

/// How many workers do what.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of the generation in force, not about to go.
    pub(super) in_service: u32,
    /// Those of them that run their program and that nobody watches any more.
    pub(super) ready: u32,
    /// They serve until their replacement does.
    pub(super) retiring: u32,
    /// They were told to end, or will be when they are idle.
    pub(super) leaving: u32,
    /// Those of them that are of the generation in force and leave nobody to take their place.
    pub(super) outgoing: u32,
    /// Of the generation that is to come in force.
    pub(super) candidates: u32,
    /// Those of them that are ready.
    pub(super) candidates_ready: u32,
}

/// The search for idle workers among too many: one is asked at a time, so that no more than needed are stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hunt {
    untried: Vec<WorkerId>,
    asked: Option<WorkerId>,
}

impl Pool {
    /// How many workers of the generation in force there should be now, or at most where that follows demand: fewer while
    /// others take their places.
    pub(super) fn wanted(&self) -> u32 {
        let made_way =
            self.exchange.as_ref().filter(|_| !self.follows_demand()).map_or(0, Exchange::released);
        self.children().saturating_sub(made_way)
    }

    /// How many workers there should be; the most of a pool that follows demand.
    pub(super) fn children(&self) -> u32 {
        self.scale.unwrap_or(self.current.plan.bounds.max_children).max(1)
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        let next = self.exchange.as_ref().map(|exchange| exchange.edition().generation);
        for worker in self.workers.values() {
            let ready = matches!(worker.duty, Duty::Serving) && worker.is_executing();
            let unstarted = matches!(worker.process, Process::Unstarted { .. });
            match &worker.duty {
                Duty::Joining(_) | Duty::Serving if unstarted => {}
                Duty::Joining(_) | Duty::Serving if Some(worker.generation()) == next => {
                    tally.candidates += 1;
                    tally.candidates_ready += u32::from(ready);
                }
                Duty::Joining(_) | Duty::Serving => {
                    tally.in_service += 1;
                    tally.ready += u32::from(ready);
                }
                Duty::Retiring => tally.retiring += 1,
                Duty::Draining(_) | Duty::Stopping { .. } => {
                    tally.leaving += 1;
                    let is_current = worker.generation() == self.current.generation;
                    let is_replaced = worker.wear.is_some_and(|wear| wear != Wear::Idle);
                    tally.outgoing += u32::from(is_current && !is_replaced);
                }
                Duty::Killed { .. } => {}
            }
        }
        tally
    }

    /// Brings the numbers to where they should be, as far as that is possible now.
    pub(super) fn level(&mut self, now: Moment, out: &mut Effects) {
        if self.has_passed_on() {
            return;
        }
        if self.follows_demand() {
            self.hunt = None;
            return self.follow(now, out);
        }
        let tally = self.tally();
        if tally.in_service == self.wanted() && tally.retiring == 0 {
            // The usual case, and all that has to be counted again after each of a thousand deaths.
            self.hunt = None;
            self.first_fill = false;
            self.agenda.set(Due::Retry, None);
            return;
        }
        self.fill(now, out);
        self.release_retiring(now, out);
        self.trim(now, out);
    }

    /// Starts workers that are missing, as far as the back-off permits.
    fn fill(&mut self, now: Moment, out: &mut Effects) {
        let missing = self.missing();
        if missing == 0 {
            self.agenda.set(Due::Retry, None);
        }
        let watch = self.is_watched();
        if self.start_permitted(now, missing, watch, out) == missing {
            self.first_fill = false;
        }
    }

    /// Starts so many workers, or as many of them as the back-off permits, which sets the time for more; how many.
    pub(super) fn start_permitted(&mut self, now: Moment, most: u32, watch: bool, out: &mut Effects) -> u32 {
        let origin = if self.first_fill { Origin::Initial } else { Origin::Replacement };
        for started in 0..most {
            match self.backoff.permit(now) {
                Permit::Now => {
                    let worker = self.start_worker(now, Rc::clone(&self.current), origin, watch, out);
                    if self.backoff.is_probing() {
                        self.await_probe(worker);
                    }
                }
                Permit::At(moment) => {
                    self.agenda.set(Due::Retry, Some(moment));
                    return started;
                }
                Permit::AfterProbe => return started,
            }
        }
        most
    }

    /// Starts one worker in place of one that ended for a reason that the back-off has nothing to do with.
    pub(super) fn replace(&mut self, now: Moment, out: &mut Effects) {
        if !matches!(self.state, State::Serving) || self.has_passed_on() {
            return;
        }
        if self.follows_demand() {
            return self.follow_an_end(now, out);
        }
        if self.missing() > 0 {
            let watch = self.is_watched();
            self.start_worker(now, Rc::clone(&self.current), Origin::Replacement, watch, out);
        }
    }

    /// Drains those whose replacements serve: each as soon as one is there that does. Waiting for all replacements would be
    /// waiting for ever where some of them are to be replaced themselves before the last one is up.
    fn release_retiring(&mut self, now: Moment, out: &mut Effects) {
        let tally = self.tally();
        if tally.retiring == 0 || (self.exchange.is_some() && tally.ready < self.wanted()) {
            return;
        }
        let replaced = (tally.ready + tally.retiring).saturating_sub(self.wanted());
        self.let_retiring_go(now, replaced as usize, out);
    }

    /// Drains as many of those that retire, first those that get no more requests in any case.
    pub(super) fn let_retiring_go(&mut self, now: Moment, most: usize, out: &mut Effects) {
        let retiring = |worker: &&Worker| matches!(worker.duty, Duty::Retiring);
        let mut released: Vec<(bool, WorkerId)> = (self.workers.values().filter(retiring))
            .map(|worker| (worker.wear != Some(Wear::Requests), worker.id))
            .collect();
        released.sort_unstable();
        for (_, id) in released.into_iter().take(most) {
            match self.workers.get_mut(&id) {
                Some(worker) if worker.has_time() => {
                    worker.drain_in_peace(out);
                    self.agenda.set(Due::Worker(id), worker.due());
                }
                Some(_) | None => self.drain(now, id, out),
            }
        }
    }

    /// Drains surplus workers, the idle first: as many as are found idle, then the youngest of the busy ones.
    fn trim(&mut self, now: Moment, out: &mut Effects) {
        let surplus = self.tally().in_service.saturating_sub(self.wanted());
        if surplus == 0 {
            self.hunt = None;
            return;
        }
        if self.current.has_gateway() {
            // Nothing is lost by draining one that is busy.
            return self.drain_youngest(now, surplus, out);
        }
        let current = self.current.generation;
        let mut hunt = self.hunt.take().unwrap_or_else(|| self.new_hunt());
        hunt.asked.take_if(|asked| !self.serves(*asked));
        while hunt.asked.is_none() {
            let Some(next) = hunt.untried.pop() else {
                return self.drain_youngest(now, surplus, out);
            };
            if let Some(worker) = self.workers.get_mut(&next).filter(|worker| is_huntable(worker, current)) {
                worker.ask_to_stop(out);
                hunt.asked = Some(next);
            }
        }
        self.hunt = Some(hunt);
    }

    /// The worker that was asked during a hunt has answered.
    pub(super) fn hunted(&mut self, worker: WorkerId) {
        if let Some(hunt) = &mut self.hunt {
            hunt.asked.take_if(|asked| *asked == worker);
        }
    }

    /// Another number of workers than the settings say, until these say another.
    pub(super) fn scale_to(&mut self, now: Moment, workers: u32, job: Option<JobId>, out: &mut Effects) {
        let wish = Wish::Scale(workers);
        if workers == 0 {
            return out.settle(job, Err(wish.denied(&self.name, "stop it instead")));
        }
        if workers > MOST_PROCESSES {
            let most = format!("there can be {MOST_PROCESSES} at most");
            return out.settle(job, Err(wish.denied(&self.name, &most)));
        }
        self.scale = Some(workers);
        if let Some(exchange) = &mut self.exchange {
            exchange.scale_to(workers);
        }
        match self.state {
            State::Serving => {
                self.first_fill = true;
                self.rebound();
                self.wait_until_scaled(job, wish);
                self.advance(now, out);
            }
            State::Opening { .. }
            | State::Failed { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Removed => {
                let most = if self.follows_demand() { "at most " } else { "" };
                let text = format!("{} does not run: it will start with {most}{workers} workers", self.name);
                out.settle(job, Ok(text));
            }
        }
    }

    /// Starts the replacement of a worker, then drains it.
    pub(super) fn retire(&mut self, now: Moment, id: WorkerId, job: Option<JobId>, out: &mut Effects) {
        let full = self.tally().retiring >= self.wanted();
        let Some(worker) = self.workers.get_mut(&id) else {
            return out.settle(job, Err(format!("worker {} is stuck in the kernel", id.0)));
        };
        match worker.duty {
            Duty::Serving if full => {
                let reason =
                    format!("cannot drain another worker of pool {}: its replacements are not up", self.name);
                out.settle(job, Err(reason));
            }
            Duty::Serving => {
                worker.duty = Duty::Retiring;
                worker.waiters.extend(job);
                self.advance(now, out);
            }
            Duty::Joining(_) => {
                let reason = format!("cannot drain a worker of pool {}: it is still starting", self.name);
                out.settle(job, Err(reason));
            }
            Duty::Retiring | Duty::Draining(_) | Duty::Stopping { .. } | Duty::Killed { .. } => {
                worker.waiters.extend(job);
            }
        }
    }

    /// SIGKILL; the replacement is started when it is gone.
    pub(super) fn kill(&mut self, now: Moment, id: WorkerId, job: Option<JobId>, out: &mut Effects) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return out.settle(job, Err(format!("worker {} is stuck in the kernel", id.0)));
        };
        worker.waiters.extend(job);
        worker.kill(now, out);
        self.agenda.set(Due::Worker(id), worker.due());
    }

    pub(super) fn drain(&mut self, now: Moment, id: WorkerId, out: &mut Effects) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.drain(now, out);
        self.agenda.set(Due::Worker(id), worker.due());
    }

    /// Asks for one worker more; if it is watched, somebody waits for it to be ready.
    pub(super) fn start_worker(
        &mut self,
        now: Moment,
        edition: Rc<Edition>,
        origin: Origin,
        watched: bool,
        out: &mut Effects,
    ) -> WorkerId {
        let id = out.new_worker(&self.name);
        let generation = edition.generation;
        // A gateway's workers are let in when they are ready, so that one that still loads holds up no request.
        let watched = watched || edition.has_gateway() || edition.follows_demand();
        self.follow.started(now);
        out.push(Action::Start { pool: self.name.clone(), generation, worker: id });
        self.workers.insert(id, Worker::new(id, edition, origin, watched, now));
        id
    }

    /// Further starts wait for this one.
    pub(super) fn await_probe(&mut self, worker: WorkerId) {
        self.probe = Some(worker);
        self.agenda.set(Due::Proof, None);
    }

    /// The probe runs its program: from now on it proves something.
    pub(super) fn probe_executes(&mut self, now: Moment, worker: WorkerId) {
        if self.probe == Some(worker) {
            self.agenda.set(Due::Proof, Some(now.after(QUICK)));
        }
    }

    /// The probe has lived for [`QUICK`].
    pub(super) fn probe_survived(&mut self, out: &mut Effects) {
        if self.probe.take().is_some() {
            self.backoff.probe_survived();
            self.recovered(out);
        }
    }

    fn missing(&self) -> u32 {
        let wanted = self.wanted();
        let tally = self.tally();
        let room = wanted.saturating_mul(2).saturating_sub(tally.in_service + tally.retiring + tally.leaving);
        wanted.saturating_sub(tally.in_service).min(room)
    }

    fn serves(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| is_huntable(worker, self.current.generation))
    }

    fn new_hunt(&self) -> Hunt {
        let idle = |worker: &&Worker| worker.seen == Some(Activity::Idle);
        let current = self.current.generation;
        let serving = || self.workers.values().filter(move |worker| is_huntable(worker, current));
        // Taken from the end: those that were idle when last seen, then the youngest.
        let mut untried: Vec<WorkerId> = serving().filter(|w| !idle(w)).map(|w| w.id).collect();
        untried.extend(serving().filter(idle).map(|w| w.id));
        Hunt { untried, asked: None }
    }

    fn drain_youngest(&mut self, now: Moment, surplus: u32, out: &mut Effects) {
        let current = self.current.generation;
        let in_service = |worker: &&Worker| {
            worker.generation() == current && matches!(worker.duty, Duty::Joining(_) | Duty::Serving)
        };
        let youngest = self.workers.values().rev().filter(in_service).map(|worker| worker.id);
        let chosen: Vec<WorkerId> = youngest.take(surplus as usize).collect();
        for worker in chosen {
            self.drain(now, worker, out);
        }
    }

    /// Whether somebody waits for new workers of the generation in force.
    fn is_watched(&self) -> bool {
        self.somebody_waits_until_full()
            || self.workers.values().any(|worker| matches!(worker.duty, Duty::Retiring))
    }
}

fn is_huntable(worker: &Worker, current: Generation) -> bool {
    worker.generation() == current && matches!(worker.duty, Duty::Serving) && worker.is_executing()
}
