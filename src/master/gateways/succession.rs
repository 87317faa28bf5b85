//! The exchange of a gateway's process for one of a new program. The successor is started beside it; once that serves, the
//! old one hands over: connections at rest, workers that it does not need, counts. Until it has nothing left, the pool has
//! two: what is said about a worker goes to the one that has it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::passage::Course;
use super::process::{Process, Program};
use super::telling::check;
use super::{Gateway, Gateways, State};
use crate::ids::{Pid, PoolName, WorkerId};
use crate::master::cgroups::Cgroups;
use crate::master::spawning::Pipe;
use crate::sorted::{SortedMap, SortedSet};
use crate::wire::gateway::{Load, Report, ToGateway};

/// A gateway that hands over.
#[derive(Debug)]
pub(super) struct Handing {
    pub(super) pool: PoolName,
    pub(super) process: Process,
    /// Workers that are with it still. What those had served before that were lent to it, which may end without having
    /// heard of them; 0 for its own.
    pub(super) workers: SortedMap<WorkerId, u64>,
    /// What it said last.
    pub(super) load: Load,
    /// Whether its successor was asked for a worker for it.
    pub(super) asked: bool,
    /// What it leaves behind.
    pub(super) course: Course,
}

/// What is on its way from a gateway that hands over, while there is none to take it.
#[derive(Debug, Default)]
pub(super) struct Undelivered {
    pub(super) clients: Vec<OwnedFd>,
    pub(super) counts: Option<Report>,
}

impl Gateways {
    /// Pools whose gateway serves, and might be exchanged.
    pub fn serving(&self) -> Vec<PoolName> {
        let serves = |gateway: &Gateway| matches!(gateway.state, State::Running(_));
        self.pools.iter().filter(|(_, gateway)| serves(gateway)).map(|(pool, _)| pool.clone()).collect()
    }

    /// Starts a successor; its number and what it logs.
    ///
    /// # Errors
    /// A sentence; everything stays as it is.
    pub fn start_successor(
        &mut self,
        pool: &PoolName,
        cgroups: &mut Cgroups,
        log: &Pipe,
    ) -> Result<(u64, Pid), String> {
        let gateway = self.pools.get_mut(pool).ok_or("it has no gateway")?;
        self.last += 1;
        let process = Program::find()?.start(self.last, pool, self.user.as_ref(), log, cgroups)?;
        let started = (process.number, process.pid);
        gateway.successor = Some(process);
        Ok(started)
    }

    /// The pool's successor is the gateway from now on; the one before hands over, and these workers are with it.
    pub fn succeed(&mut self, pool: &PoolName, workers: SortedSet<WorkerId>) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        let Some(successor) = gateway.successor.take() else { return };
        let State::Running(mut process) = std::mem::replace(&mut gateway.state, State::Running(successor))
        else {
            return;
        };
        let sent = process.channel.send(&ToGateway::HandOver, &[]);
        check(pool, &process, sent);
        let workers = workers.into_iter().map(|worker| (worker, 0)).collect();
        let handing = Handing {
            pool: pool.clone(),
            workers,
            load: Load::default(),
            asked: false,
            course: Course::Succeeded,
            process,
        };
        self.handing.insert(handing.process.number, handing);
    }

    /// Nobody waits for the successors any more that do not serve yet.
    pub fn give_up_successors(&mut self) {
        for process in self.pools.values_mut().filter_map(|gateway| gateway.successor.as_ref()) {
            process.kill();
        }
    }

    /// The gateway that has this worker, if it hands over.
    fn keeper(&mut self, pool: &PoolName, worker: WorkerId) -> Option<&mut Handing> {
        self.handing
            .values_mut()
            .find(|handing| handing.pool == *pool && handing.workers.contains_key(&worker))
    }

    /// What follows on the gateway that hands over and has this worker.
    pub(super) fn keeper_course(&self, pool: &PoolName, worker: WorkerId) -> Option<Course> {
        let keeps = |handing: &&Handing| handing.pool == *pool && handing.workers.contains_key(&worker);
        self.handing.values().find(keeps).map(|handing| handing.course)
    }

    /// Whether a gateway that hands over has this worker.
    pub fn is_kept(&self, pool: &PoolName, worker: WorkerId) -> bool {
        self.keeper_course(pool, worker).is_some()
    }

    /// Tells the gateway that has this worker something about it.
    pub fn tell_keeper(&mut self, pool: &PoolName, worker: WorkerId, message: &ToGateway) {
        match self.keeper(pool, worker) {
            Some(handing) => {
                let sent = handing.process.channel.send(message, &[]);
                check(pool, &handing.process, sent);
            }
            None => self.tell(pool, message),
        }
    }

    /// Tells those that hand over in this pool.
    pub fn tell_handing(&mut self, pool: &PoolName, message: &ToGateway) {
        for handing in self.handing.values_mut().filter(|handing| handing.pool == *pool) {
            let sent = handing.process.channel.send(message, &[]);
            check(pool, &handing.process, sent);
        }
    }

    /// Tells this very process.
    pub fn tell_process(&mut self, pool: &PoolName, number: u64, message: &ToGateway) {
        if let Some(process) = self.process_mut(number) {
            let sent = process.channel.send(message, &[]);
            check(pool, process, sent);
        }
    }

    /// A worker has left the gateway that had it, after so many requests. Who gets it: one that hands over and wants one,
    /// else the pool's gateway.
    pub fn move_worker(
        &mut self,
        pool: &PoolName,
        from: u64,
        (worker, requests): (WorkerId, u64),
        message: &ToGateway,
    ) {
        if let Some(handing) = self.handing.get_mut(&from) {
            handing.workers.remove(&worker);
            return self.tell(pool, message);
        }
        let wants = |handing: &&mut Handing| handing.pool == *pool && handing.asked;
        let Some(handing) = self.handing.values_mut().find(wants) else {
            return self.tell(pool, message);
        };
        handing.asked = false;
        handing.workers.insert(worker, requests);
        let sent = handing.process.channel.send(message, &[]);
        check(pool, &handing.process, sent);
    }

    /// A worker has ended on its way from one gateway to another: whoever waited for it gets the next one.
    pub fn miss_worker(&mut self, pool: &PoolName, from: u64, worker: WorkerId) {
        if let Some(handing) = self.handing.get_mut(&from) {
            handing.workers.remove(&worker);
            return;
        }
        for handing in self.handing.values_mut().filter(|handing| handing.pool == *pool) {
            handing.asked = false;
        }
        self.lend(pool);
    }

    /// A worker is with nobody any more.
    pub fn forget_worker(&mut self, pool: &PoolName, worker: WorkerId) {
        if let Some(handing) = self.keeper(pool, worker) {
            handing.workers.remove(&worker);
        }
    }

    /// What a gateway that hands over has to do; it may need a worker for it.
    pub fn note_load(&mut self, number: u64, load: Load) {
        let Some(handing) = self.handing.get_mut(&number) else { return };
        handing.load = load;
        let pool = handing.pool.clone();
        self.lend(&pool);
    }

    /// Asks the pool's gateway for a worker for each that hands over and has requests, but nobody idle.
    pub(super) fn lend(&mut self, pool: &PoolName) {
        if !matches!(self.pools.get(pool).map(|gateway| &gateway.state), Some(State::Running(_))) {
            return;
        }
        let wants = |handing: &&mut Handing| {
            let is_in_need = handing.load.queued > 0 && handing.load.idle == 0;
            handing.pool == *pool && handing.course == Course::Succeeded && !handing.asked && is_in_need
        };
        let mut workers = 0;
        for handing in self.handing.values_mut().filter(wants) {
            handing.asked = true;
            workers += 1;
        }
        if workers > 0 {
            self.tell(pool, &ToGateway::Spare { workers });
        }
    }

    /// Passes connections on to the pool's gateway.
    pub fn pass_clients(&mut self, pool: &PoolName, clients: Vec<OwnedFd>) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        match &mut gateway.state {
            State::Running(process) | State::Stopping(process) => {
                let borrowed: Vec<BorrowedFd<'_>> = clients.iter().map(AsFd::as_fd).collect();
                let sent = process.channel.send(&ToGateway::Clients, &borrowed);
                check(pool, process, sent);
            }
            State::Resting { .. } => gateway.undelivered.clients.extend(clients),
            State::Stopped => {}
        }
    }

    /// Passes on to the pool's gateway what was counted elsewhere.
    pub fn pass_counts(&mut self, pool: &PoolName, report: Report) {
        let Some(gateway) = self.pools.get_mut(pool) else { return self.keep_counts(pool, report) };
        match &mut gateway.state {
            State::Running(process) | State::Stopping(process) => {
                let sent = process.channel.send(&ToGateway::Inherit { report: Box::new(report) }, &[]);
                check(pool, process, sent);
            }
            State::Resting { .. } | State::Stopped => {
                gateway.undelivered.counts.get_or_insert_default().add(report);
            }
        }
    }

    /// Tells a gateway that has just been started what was meant for it before.
    pub(super) fn deliver(&mut self, pool: &PoolName) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        let Undelivered { clients, counts } = std::mem::take(&mut gateway.undelivered);
        if let Some(report) = counts {
            self.pass_counts(pool, report);
        }
        let mut clients = clients.into_iter().peekable();
        while clients.peek().is_some() {
            let some = clients.by_ref().take(crate::wire::gateway::MAX_DESCRIPTORS).collect();
            self.pass_clients(pool, some);
        }
        for handing in self.handing.values_mut().filter(|handing| handing.pool == *pool) {
            handing.asked = false;
        }
        self.lend(pool);
    }

    /// The processes of a pool that can be asked for its state, by their numbers.
    pub fn witnesses(&self, pool: &PoolName) -> Vec<u64> {
        let current = self.pools.get(pool).and_then(Gateway::process);
        let handing = self.handing.values().filter(|handing| handing.pool == *pool);
        current
            .into_iter()
            .chain(handing.map(|handing| &handing.process))
            .map(|process| process.number)
            .collect()
    }
}
