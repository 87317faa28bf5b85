//! One pool: its life from the first `Listen` to the last `CloseListeners`.
//! Owns the pool's state and settings; how many workers it has is in `staff`, their ends in `ends`, the exchange of
//! generations in `reload`, the way to its end in `stop`, the clients that wait in `waits`.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, PoolName, WorkerId};
use crate::policy::backoff::{CEILING, next_delay};
use crate::policy::{Backoff, Wear};

use super::action::Action;
use super::amend::Amendment;
use super::demand::Follow;
use super::ear::Ear;
use super::effects::{Effects, JobId};
use super::event::PoolPlan;
use super::reload::Exchange;
use super::staff::Hunt;
use super::view::Counters;
use super::waits::{Setback, Wait, Wish};
use super::worker::{Edition, Worker};
use crate::policy::agenda::Agenda;
use crate::sorted::{SortedMap, SortedSet};

/// Where the pool is in its life.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum State {
    /// `Listen` was asked for; after a failure, this was the delay before it.
    Opening { delay: Duration },
    /// Its sockets cannot be opened.
    Failed { reason: String, retry_at: Moment, delay: Duration },
    /// Its sockets are open and it has workers, or tries to.
    Serving,
    /// Its workers leave; `total` is how many there were.
    Stopping { after: After, jobs: Vec<JobId>, total: usize },
    /// Nothing is open and nothing runs.
    Stopped,
    /// As `Stopped`, and the configuration no longer has it.
    Removed,
}

/// What comes after the last worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum After {
    /// Nothing.
    Rest,
    /// It starts again.
    Start,
    /// It is forgotten.
    Remove,
}

/// What has to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Due {
    /// A worker that is watched or was signalled.
    Worker(WorkerId),
    /// A worker's life has been long enough.
    Lifetime(WorkerId),
    /// Open the sockets again, or start the next worker.
    Retry,
    /// The probe has lived long enough.
    Proof,
    /// Tell those who wait how far it is.
    Progress,
    /// Decide again how many workers there should be.
    Demand,
    /// Count the connections that wait, or wait for the next one.
    Queue,
    /// Look at all workers.
    Look,
}

/// One pool with its workers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pool {
    pub(super) name: PoolName,
    /// The settings in force.
    pub(super) current: Rc<Edition>,
    /// Settings for the next start of a pool that is stopped.
    pub(super) pending: Option<PoolPlan>,
    /// Another number of workers than the settings say.
    pub(super) scale: Option<u32>,
    pub(super) state: State,
    pub(super) exchange: Option<Exchange>,
    /// `Amend` actions that are not answered yet.
    #[serde(default)]
    pub(super) amendments: VecDeque<Amendment>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Processes that outlived SIGKILL; they count for nothing.
    pub(super) stuck: BTreeMap<WorkerId, Worker>,
    /// Workers that are to be replaced in their turn.
    #[serde(default)]
    pub(super) worn: SortedMap<WorkerId, Wear>,
    pub(super) follow: Follow,
    pub(super) ear: Ear,
    pub(super) hunt: Option<Hunt>,
    pub(super) backoff: Backoff,
    pub(super) probe: Option<WorkerId>,
    pub(super) agenda: Agenda<Due>,
    pub(super) waits: Vec<Wait>,
    pub(super) counters: Counters,
    pub(super) started: Moment,
    /// The last failure in one sentence.
    pub(super) reason: Option<String>,
    /// The failure that was logged last; it is not logged again until something else is said.
    pub(super) said: Option<String>,
    /// Whether the next workers are the first of a set, whose starts are not worth a line each.
    pub(super) first_fill: bool,
    newest: Generation,
    /// Generations whose settings the master keeps for us.
    pub(super) held: SortedSet<Generation>,
    /// `Listen` actions that are not answered yet.
    listens: Vec<Generation>,
}

impl Pool {
    /// A pool that is stopped.
    pub(super) fn new(plan: PoolPlan, now: Moment) -> Pool {
        let generation = Generation(1);
        Pool {
            name: plan.name.clone(),
            pending: None,
            scale: None,
            state: State::Stopped,
            exchange: None,
            amendments: VecDeque::new(),
            workers: BTreeMap::new(),
            stuck: BTreeMap::new(),
            worn: SortedMap::new(),
            follow: Follow::new(plan.bounds.clone()),
            ear: Ear::default(),
            hunt: None,
            backoff: Backoff::new(),
            probe: None,
            agenda: Agenda::new(),
            waits: Vec::new(),
            counters: Counters::default(),
            started: now,
            reason: None,
            said: None,
            first_fill: true,
            newest: generation,
            held: SortedSet::from([generation]),
            listens: Vec::new(),
            current: Rc::new(Edition { generation, plan }),
        }
    }

    /// Starts it, or says that it runs.
    pub(super) fn start(&mut self, now: Moment, wish: Wish, job: Option<JobId>, out: &mut Effects) {
        match &mut self.state {
            State::Stopped | State::Failed { .. } => {
                self.wait_until_full(job, wish);
                self.open(Duration::ZERO, out);
            }
            State::Opening { .. } => self.wait_until_full(job, wish),
            State::Serving if self.backoff.is_holding() => {
                self.forget_failures();
                self.wait_until_full(job, wish);
                self.advance(now, out);
            }
            State::Serving => out.settle(job, Ok(format!("{} is running", self.name))),
            State::Stopping { after: After::Remove, .. } | State::Removed => {
                out.settle(job, Err(wish.denied(&self.name, "it is being removed")));
            }
            State::Stopping { after, .. } => {
                *after = After::Start;
                self.wait_until_full(job, wish);
            }
        }
    }

    /// Puts these settings in force: at once if it does not run, else generation by generation.
    pub(super) fn configure(&mut self, now: Moment, plan: PoolPlan, job: Option<JobId>, out: &mut Effects) {
        match &mut self.state {
            State::Serving => {
                let scale = self.kept_scale(&plan);
                self.begin_exchange(now, plan, scale, Wish::Reload, job, out);
            }
            State::Opening { .. } | State::Failed { .. } => {
                self.set_pending(plan);
                self.wait_until_full(job, Wish::Reload);
                self.open(Duration::ZERO, out);
                self.forget_unused(out);
            }
            State::Stopping { after: after @ (After::Remove | After::Start), .. } => {
                *after = After::Start;
                self.set_pending(plan);
                self.wait_until_full(job, Wish::Reload);
            }
            State::Stopping { after: After::Rest, .. } | State::Stopped | State::Removed => {
                self.set_pending(plan);
                let text = format!("{} is stopped: its new settings apply when it is started", self.name);
                out.settle(job, Ok(text));
            }
        }
    }

    /// A new generation with the same settings.
    pub(super) fn restart(&mut self, now: Moment, job: Option<JobId>, out: &mut Effects) {
        match self.state {
            State::Serving => {
                let plan = self.exchange.as_ref().map_or(&self.current, Exchange::edition).plan.clone();
                let scale = self.exchange.as_ref().map_or(self.scale, Exchange::scale);
                self.begin_exchange(now, plan, scale, Wish::Restart, job, out);
            }
            State::Opening { .. }
            | State::Failed { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Removed => self.start(now, Wish::Restart, job, out),
        }
    }

    /// `false` if no `Listen` for this generation was open.
    pub(super) fn listening(&mut self, now: Moment, generation: Generation, out: &mut Effects) -> bool {
        if !self.take_listen(generation) {
            return false;
        }
        match self.state {
            State::Opening { .. } if generation == self.current.generation => {
                self.state = State::Serving;
                self.forget_failures();
                self.first_fill = true;
                if self.said.take().is_some() {
                    out.log(log::Level::Info, format!("[pool {}] listens now", self.name));
                }
                self.reason = None;
                self.advance(now, out);
            }
            State::Serving => self.exchange_listens(now, generation, out),
            // Overtaken by a stop or by newer settings.
            State::Opening { .. }
            | State::Failed { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Removed => {}
        }
        true
    }

    /// `false` if no `Listen` for this generation was open.
    pub(super) fn listen_failed(
        &mut self,
        now: Moment,
        generation: Generation,
        reason: &str,
        out: &mut Effects,
    ) -> bool {
        if !self.take_listen(generation) {
            return false;
        }
        match self.state {
            State::Opening { delay } if generation == self.current.generation => {
                self.cannot_listen(now, delay, reason, out);
            }
            State::Serving => self.exchange_cannot_listen(now, generation, reason, out),
            State::Opening { .. }
            | State::Failed { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Removed => {}
        }
        true
    }

    /// Looks at everything that is due.
    pub(super) fn on_deadline(&mut self, now: Moment, out: &mut Effects) {
        while let Some(due) = self.agenda.pop_due(now) {
            match due {
                Due::Worker(worker) => self.on_worker_due(now, worker, out),
                Due::Lifetime(worker) => self.recycle(now, worker, Wear::Lifetime, None, out),
                Due::Retry => {
                    if let State::Failed { delay, .. } = self.state {
                        self.open(delay, out);
                    }
                }
                Due::Proof => self.probe_survived(out),
                Due::Progress => self.announce(now, out),
                Due::Demand => {} // `advance` decides
                Due::Queue => self.on_queue_due(out),
                Due::Look => self.survey(out),
            }
        }
        self.advance(now, out);
    }

    /// Does whatever has become possible. Called after everything that may have changed the numbers of workers.
    pub(super) fn advance(&mut self, now: Moment, out: &mut Effects) {
        match self.state {
            State::Serving => {
                self.advance_exchange(now, out);
                self.recycle_next();
                self.open_ear(out);
                self.level(now, out);
            }
            State::Stopping { .. } if self.workers.is_empty() => self.finish_stop(out),
            State::Opening { .. }
            | State::Failed { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Removed => {}
        }
        self.note_surge(out);
        self.settle_waits(out);
        self.forget_unused(out);
    }

    /// Asks for the sockets of these settings.
    pub(super) fn listen(&mut self, generation: Generation, out: &mut Effects) {
        self.listens.push(generation);
        out.push(Action::Listen { pool: self.name.clone(), generation });
    }

    /// Puts settings under the next number. A number is never used twice, even if its settings never came in force.
    pub(super) fn new_edition(&mut self, plan: PoolPlan) -> Rc<Edition> {
        self.newest = Generation(self.newest.0.saturating_add(1));
        self.held.insert(self.newest);
        Rc::new(Edition { generation: self.newest, plan })
    }

    /// Starts the back-off afresh: what failed before was something else.
    pub(super) fn forget_failures(&mut self) {
        self.backoff = Backoff::new();
        self.probe = None;
        self.agenda.set(Due::Retry, None);
        self.agenda.set(Due::Proof, None);
    }

    /// Lets the master drop the settings that no worker has any more.
    pub(super) fn forget_unused(&mut self, out: &mut Effects) {
        if self.held.len() < 2 {
            return;
        }
        let mut used: SortedSet<Generation> = self.workers.values().map(Worker::generation).collect();
        used.insert(self.current.generation);
        used.extend(self.exchange.as_ref().map(|exchange| exchange.edition().generation));
        for generation in self.held.difference(&used) {
            out.push(Action::ForgetSettings { pool: self.name.clone(), generation: *generation });
        }
        self.held.retain(|generation| used.contains(generation));
    }

    fn set_pending(&mut self, plan: PoolPlan) {
        self.scale = self.kept_scale(&plan);
        self.pending = Some(plan);
    }

    /// What was set by hand holds until the configuration says another number.
    pub(super) fn kept_scale(&self, plan: &PoolPlan) -> Option<u32> {
        let before = self.pending.as_ref().unwrap_or(&self.current.plan);
        self.scale.filter(|_| before.bounds.max_children == plan.bounds.max_children)
    }

    pub(super) fn open(&mut self, delay: Duration, out: &mut Effects) {
        if let Some(plan) = self.pending.take() {
            self.current = self.new_edition(plan);
        }
        self.agenda.set(Due::Retry, None);
        self.reset_demand();
        self.state = State::Opening { delay };
        self.listen(self.current.generation, out);
    }

    fn take_listen(&mut self, generation: Generation) -> bool {
        match self.listens.iter().position(|open| *open == generation) {
            Some(index) => {
                self.listens.remove(index);
                true
            }
            None => false,
        }
    }

    fn cannot_listen(&mut self, now: Moment, delay: Duration, reason: &str, out: &mut Effects) {
        let delay = next_delay(delay, CEILING);
        let retry_at = now.after(delay);
        let sentence = Wish::Start.denied(&self.name, reason);
        self.say(log::Level::Error, &sentence, out);
        self.state = State::Failed { reason: sentence, retry_at, delay };
        self.agenda.set(Due::Retry, Some(retry_at));
        self.set_back(Setback::Sockets(reason), out);
    }
}
