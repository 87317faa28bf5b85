//! The whole: hands each event to the pool that it is about, and ends the daemon when every pool has stopped.
//! Owns the pools and the daemon's own state.

use serde::{Deserialize, Serialize};

use crate::ids::{Moment, Pid, PoolName, Ticket, WorkerId};
use crate::policy::Share;
use crate::sorted::{SortedMap, SortedSet};
use crate::status::snapshot::Activity;

use super::action::Action;
use super::effects::{Effects, JobId};
use super::event::{Event, Intake, PoolCommand, PoolPlan, WorkerCommand};
use super::pool::{After, Pool, State};
use super::view::{DaemonState, PoolView};
use super::waits::Wish;

/// Decides everything and does nothing: events in, actions out.
///
/// The master calls [`Supervisor::handle`] for each event, then does every [`Supervisor::next_action`], and sends
/// `Event::Deadline` when [`Supervisor::next_deadline`] has come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Supervisor {
    pub(super) pools: SortedMap<PoolName, Pool>,
    life: Life,
    pub(super) out: Effects,
    /// Who may have how many of the processes that there may be.
    pub(super) share: Share,
    /// Processes of removed pools that are stuck in the kernel.
    orphans: SortedSet<WorkerId>,
    /// Impossible events that were logged already, by kind.
    #[serde(skip)]
    pub(super) complaints: SortedSet<&'static str>,
}

/// Settings for pools, and what they need.
struct Proposals {
    /// New workers.
    plans: Vec<PoolPlan>,
    /// None.
    amended: Vec<PoolPlan>,
}

/// How a pool takes settings over.
type Apply = fn(&mut Pool, Moment, PoolPlan, Option<JobId>, &mut Effects);

#[derive(Debug, Serialize, Deserialize)]
enum Life {
    Running,
    /// Every pool drains.
    Stopping {
        jobs: Vec<JobId>,
    },
    /// Every worker was sent SIGKILL.
    Killing {
        jobs: Vec<JobId>,
    },
    /// `Action::Exit` was given.
    Over,
}

impl Supervisor {
    /// Without pools: the first `Event::Configure` brings them. `now` is the daemon's start.
    pub fn new(_now: Moment) -> Supervisor {
        Supervisor {
            pools: SortedMap::new(),
            life: Life::Running,
            out: Effects::default(),
            share: Share::default(),
            orphans: SortedSet::new(),
            complaints: SortedSet::new(),
        }
    }

    /// Takes one event in. An event that cannot be is logged once of its kind and has no other effect.
    pub fn handle(&mut self, now: Moment, event: Event) {
        match event {
            Event::ProcessMax { most } => self.share.set_process_max(most),
            Event::Configure { plans, amended, removed, ticket } => {
                self.configure(now, Proposals { plans, amended }, removed, ticket);
            }
            Event::Listening { pool, generation } => {
                self.with_former(&pool, "Listening", |pool, out| pool.listening(now, generation, out));
            }
            Event::ListenFailed { pool, generation, reason } => {
                let failed =
                    |pool: &mut Pool, out: &mut Effects| pool.listen_failed(now, generation, &reason, out);
                self.with_former(&pool, "ListenFailed", failed);
            }
            Event::Amended { pool, generation, result } => {
                self.with_former(&pool, "Amended", |pool, out| pool.amended(now, generation, result, out));
            }
            Event::ReloadSurge { processes } => self.out.surge.set_most(processes),
            Event::LastWords { worker, text } => {
                self.with_late(worker, |pool, _| pool.heard_last(worker, text));
            }
            Event::Forked { worker, pid } => {
                self.with_home(worker, "Forked", |pool, out| pool.forked(now, worker, pid, out));
            }
            Event::Executing { worker } => {
                self.with_home(worker, "Executing", |pool, out| pool.executing(now, worker, out));
            }
            Event::StartFailed { worker, reason } => self.start_failed(now, worker, &reason),
            Event::Exited { worker, .. } if self.orphans.remove(&worker) => {}
            Event::Exited { worker, status } => {
                self.with_home(worker, "Exited", |pool, out| pool.exited(now, worker, status, out));
            }
            Event::Warmed { worker, result } => {
                self.with_late(worker, |pool, out| pool.warmed(now, worker, result, out));
            }
            Event::Restless { worker } => self.with_late(worker, |pool, out| pool.restless(now, worker, out)),
            Event::Observed { worker, activity } => self.observed(now, worker, activity),
            Event::StopSent { worker } => {
                self.with_former_home(worker, "StopSent", |pool, out| pool.stop_sent(now, worker, out));
            }
            Event::Drained { worker } => {
                self.with_former_home(worker, "Drained", |pool, out| pool.drained(now, worker, out));
            }
            Event::Holding { worker } => {
                self.with_former_home(worker, "Holding", |pool, out| pool.holding(now, worker, out));
            }
            // It may be about a pool that was removed since.
            Event::Demand { pool, news } => {
                self.with_pool(&pool, |pool, out| pool.hear(now, news, out));
            }
            Event::Pool { pool, command, ticket } => self.command_pool(now, &pool, command, ticket),
            Event::Worker { worker, command, ticket } => self.command_worker(now, worker, command, ticket),
            Event::Stop { ticket } => self.stop(now, ticket),
            Event::Deadline => self.with_all(|pool, out| pool.on_deadline(now, out)),
        }
        self.follow_up(now);
    }

    /// What one pool has done may let others go on, and the daemon end.
    fn follow_up(&mut self, now: Moment) {
        self.share_surge(now);
        self.sweep();
        self.share_out(now);
    }

    fn start_failed(&mut self, now: Moment, worker: WorkerId, reason: &str) {
        self.with_home(worker, "StartFailed", |pool, out| pool.start_failed(now, worker, reason, out));
    }

    fn observed(&mut self, now: Moment, worker: WorkerId, activity: Activity) {
        self.with_former_home(worker, "Observed", |pool, out| pool.observed(now, worker, activity, out));
    }

    /// Lets pools go on whose exchange waited for what others had.
    fn share_surge(&mut self, now: Moment) {
        while let Some(name) = self.out.surge.next().cloned() {
            if self.with_pool(&name, |pool, out| pool.advance(now, out)).is_none() {
                self.out.surge.note(&name, 0, false);
            }
        }
    }

    /// The next thing to do, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.out.next_action()
    }

    /// When to send `Event::Deadline`; `None` while nothing waits for time to pass.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.pools.values().filter_map(|pool| pool.agenda.next()).min()
    }

    /// Every pool, in the order of their names.
    pub fn pools(&self) -> impl Iterator<Item = PoolView> + '_ {
        self.pools.values().map(Pool::view)
    }

    /// How requests come to the workers of the generation in force.
    pub fn intake(&self, pool: &PoolName) -> Option<Intake> {
        self.pools.get(pool).map(|pool| pool.current.plan.intake)
    }

    /// The living worker with this process.
    pub fn worker_by_pid(&self, pid: Pid) -> Option<WorkerId> {
        self.out.worker_by_pid(pid)
    }

    /// The process of a living worker; `None` as long as it has none.
    pub fn pid_of(&self, worker: WorkerId) -> Option<Pid> {
        let pool = self.pools.get(self.out.home_of(worker)?)?;
        pool.worker(worker)?.pid()
    }

    /// Why another program cannot go on from here: what is being exchanged should come to its end first.
    pub fn refuse_exchange(&self) -> Option<String> {
        if !matches!(self.life, Life::Running) {
            return Some("fpmd is stopping".to_owned());
        }
        let reloading = self.pools.values().find(|pool| pool.exchange.is_some());
        reloading.map(|pool| format!("pool {} is being reloaded; try again when that is done", pool.name))
    }

    /// What the daemon is doing.
    pub fn state(&self) -> DaemonState {
        match self.life {
            Life::Running if self.pools.values().any(Pool::is_reloading) => DaemonState::Reloading,
            Life::Running => DaemonState::Running,
            Life::Stopping { .. } | Life::Killing { .. } | Life::Over => DaemonState::Stopping,
        }
    }

    fn configure(
        &mut self,
        now: Moment,
        Proposals { plans, amended }: Proposals,
        removed: Vec<PoolName>,
        ticket: Option<Ticket>,
    ) {
        if self.refuse_while_stopping(ticket) {
            return;
        }
        let known: SortedSet<PoolName> =
            removed.into_iter().filter(|name| self.pools.contains_key(name)).collect();
        let parts = plans.len() + amended.len() + known.len();
        if parts == 0 {
            return self.answer(ticket, Ok("nothing has changed".to_owned()));
        }
        let job = self.out.open_job(ticket, parts);
        for name in known {
            self.with_pool(&name, |pool, out| pool.stop(now, After::Remove, job, out));
        }
        let exchanged = plans.into_iter().map(|plan| (plan, Pool::configure as Apply));
        let amended = amended.into_iter().map(|plan| (plan, Pool::amend as Apply));
        for (plan, apply) in exchanged.chain(amended) {
            let name = plan.name.clone();
            if self.pools.contains_key(&name) {
                self.with_pool(&name, |pool, out| apply(pool, now, plan, job, out));
            } else {
                self.pools.insert(name.clone(), Pool::new(plan, now));
                self.with_pool(&name, |pool, out| pool.start(now, Wish::Start, job, out));
            }
        }
    }

    fn command_pool(&mut self, now: Moment, name: &PoolName, command: PoolCommand, ticket: Option<Ticket>) {
        if self.refuse_while_stopping(ticket) {
            return;
        }
        if let Err(reason) = self.allows(name, command) {
            return self.answer(ticket, Err(reason));
        }
        let job = self.out.open_job(ticket, 1);
        self.with_pool(name, |pool, out| match command {
            PoolCommand::Start => pool.start(now, Wish::Start, job, out),
            PoolCommand::Stop => pool.stop(now, After::Rest, job, out),
            PoolCommand::Restart => pool.restart(now, job, out),
            PoolCommand::Scale(workers) => pool.scale_to(now, workers, job, out),
        });
    }

    fn command_worker(
        &mut self,
        now: Moment,
        worker: WorkerId,
        command: WorkerCommand,
        ticket: Option<Ticket>,
    ) {
        let home = self.out.home_of(worker).cloned();
        let Some(home) = home.filter(|name| self.pools.contains_key(name)) else {
            return self.answer(ticket, Err(format!("there is no worker {}", worker.0)));
        };
        let job = self.out.open_job(ticket, 1);
        self.with_pool(&home, |pool, out| match command {
            WorkerCommand::Drain => pool.retire(now, worker, job, out),
            WorkerCommand::Kill => pool.kill(now, worker, job, out),
            WorkerCommand::Recycle(wear) => pool.recycle(now, worker, wear, job, out),
            WorkerCommand::Terminate => pool.terminate(now, worker, job, out),
        });
    }

    fn stop(&mut self, now: Moment, ticket: Option<Ticket>) {
        match &mut self.life {
            Life::Running => {
                self.out.log(log::Level::Info, "stopping: workers end when they are idle".to_owned());
                let job = self.out.open_job(ticket, self.pools.len() + 1);
                self.life = Life::Stopping { jobs: job.into_iter().collect() };
                self.with_all(|pool, out| pool.stop(now, After::Rest, job, out));
            }
            Life::Stopping { jobs } => {
                self.out.log(log::Level::Info, "stopping at once: workers get SIGKILL".to_owned());
                let mut jobs = std::mem::take(jobs);
                jobs.extend(self.out.open_job(ticket, 1));
                self.life = Life::Killing { jobs };
                self.with_all(|pool, out| pool.kill_all(now, out));
            }
            Life::Killing { jobs } => jobs.extend(self.out.open_job(ticket, 1)),
            Life::Over => self.answer(ticket, Ok("fpmd has stopped".to_owned())),
        }
    }

    /// Forgets pools that were removed, and ends the daemon when the last has stopped.
    fn sweep(&mut self) {
        self.pools.retain(|_, pool| {
            let removed = matches!(pool.state, State::Removed);
            for worker in pool.stuck.values().filter(|_| removed) {
                self.out.worker_gone(worker.id, worker.pid());
                self.orphans.insert(worker.id);
            }
            if removed {
                self.share.remove(&pool.name);
            }
            !removed
        });
        let (Life::Stopping { jobs } | Life::Killing { jobs }) = &mut self.life else { return };
        if !self.pools.values().all(|pool| matches!(pool.state, State::Stopped)) {
            return;
        }
        for job in std::mem::take(jobs) {
            self.out.settle(Some(job), Ok("fpmd has stopped".to_owned()));
        }
        self.life = Life::Over;
        self.out.push(Action::Exit);
    }

    fn refuse_while_stopping(&mut self, ticket: Option<Ticket>) -> bool {
        let stopping = !matches!(self.life, Life::Running);
        if stopping {
            self.answer(ticket, Err("fpmd is stopping".to_owned()));
        }
        stopping
    }

    fn answer(&mut self, ticket: Option<Ticket>, result: Result<String, String>) {
        if let Some(ticket) = ticket {
            self.out.answer(ticket, result);
        }
    }
}
