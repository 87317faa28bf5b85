//! How the supervisor sees the demand on a pool, and has its gateway let go of idle workers. Pools without a gateway are
//! looked at from outside: their queue by the sockets, their workers one by one.

use std::os::fd::AsFd;

use super::Master;
use super::listeners::ListenerId;
use crate::event;
use crate::event::token::Token;
use crate::ids::{Pid, PoolName, WorkerId};
use crate::os::socket::Listener;
use crate::os::{clock, errno};
use crate::sorted::SortedMap;
use crate::status::snapshot::Activity;
use crate::supervise::event::{Event, Intake, Load, News};
use crate::wire::gateway::{self, ToGateway};

/// The pools whose next connection is waited for, with the sockets that are watched for it.
#[derive(Debug, Default)]
pub struct Ears(SortedMap<PoolName, Vec<ListenerId>>);

impl Master {
    /// Says how much demand there is. A gateway answers later, or is replaced.
    pub(super) fn survey(&mut self, pool: PoolName) {
        if self.supervisor.intake(&pool) == Some(Intake::Gateway) {
            return self.gateways.tell(&pool, &ToGateway::Survey);
        }
        let queued = self.count_queue(&pool);
        let workers: Vec<(WorkerId, Pid)> = self.workers.named(&pool).collect();
        let listeners: Vec<&Listener> = self.listeners.all(&pool).collect();
        let pids: Vec<Pid> = workers.iter().map(|(_, pid)| *pid).collect();
        let looks = self.observer.observe_all(&listeners, &pids);
        let seen: Vec<(WorkerId, Activity)> =
            workers.iter().zip(looks).map(|((worker, _), look)| (*worker, look.activity)).collect();
        self.supervisor
            .handle(clock::monotonic(), Event::Demand { pool, news: News::Surveyed { queued, seen } });
    }

    /// Has the pool's gateway let go of idle workers.
    pub(super) fn release_workers(&mut self, pool: &PoolName, count: u32) {
        self.gateways.tell(pool, &ToGateway::LetGo { count });
    }

    /// Counts the connections that wait on the pool's sockets.
    pub(super) fn measure(&mut self, pool: PoolName) {
        let queued = self.count_queue(&pool);
        self.supervisor.handle(clock::monotonic(), Event::Demand { pool, news: News::Measured(queued) });
    }

    /// Waits for a connection on the pool's sockets.
    pub(super) fn await_queue(&mut self, pool: &PoolName) {
        self.deafen(pool);
        let mut watched = Vec::new();
        let mut failure = None;
        for (id, listener) in self.listeners.with_ids(pool) {
            match event::watch(self.poll.registry(), listener.as_fd(), Token::Listener(id.number())) {
                Ok(()) => watched.push(id),
                Err(error) => failure = Some(error),
            }
        }
        self.ears.0.insert(pool.clone(), watched);
        if let Some(error) = failure {
            let cause = errno::said(&error);
            log::error!("[pool {pool}] cannot watch its sockets, looking at them instead: {cause}");
            self.heard(pool);
        }
    }

    /// A connection waits on a socket.
    pub(super) fn on_queue(&mut self, number: u64) {
        let is_it =
            |watched: &&(&PoolName, &Vec<ListenerId>)| watched.1.iter().any(|id| id.number() == number);
        let pool = self.ears.0.iter().find(|watched| is_it(&watched)).map(|(pool, _)| pool.clone());
        if let Some(pool) = pool {
            self.heard(&pool);
        }
    }

    /// Nobody waits for connections since another program took over: as if one had come, which is waited for again then.
    pub(super) fn listen_again(&mut self) {
        let pools: Vec<PoolName> = self.supervisor.pools().map(|view| view.name).collect();
        pools.iter().for_each(|pool| self.heard(pool));
    }

    fn heard(&mut self, pool: &PoolName) {
        self.deafen(pool);
        self.supervisor.handle(clock::monotonic(), Event::Demand { pool: pool.clone(), news: News::Queued });
    }

    /// Waits no more. Has to come before sockets are closed: workers have them too, so that closing ours ends no watch.
    /// Whether it was waiting.
    pub(super) fn deafen(&mut self, pool: &PoolName) -> bool {
        let Some(watched) = self.ears.0.remove(pool) else { return false };
        for listener in watched.into_iter().filter_map(|id| self.listeners.by_id(pool, id)) {
            event::unwatch(self.poll.registry(), listener.as_fd());
        }
        true
    }

    fn count_queue(&mut self, pool: &PoolName) -> u32 {
        let mut sum: u32 = 0;
        for listener in self.listeners.all(pool) {
            let counted = self.observer.diag().and_then(|diag| diag.queue(listener).ok().flatten());
            // One at least, where the kernel does not count for us.
            let waiting = counted.map_or_else(|| u32::from(listener.has_pending()), |queue| queue.pending);
            sum = sum.saturating_add(waiting);
        }
        sum
    }

    /// A pool's gateway has seen that the program works.
    pub(super) fn on_works(&mut self, pool: &PoolName) {
        self.supervisor.handle(clock::monotonic(), Event::Demand { pool: pool.clone(), news: News::Works });
    }

    /// What the pool's gateway sees.
    pub(super) fn on_load(&mut self, pool: &PoolName, load: gateway::Load) {
        let load = Load { queued: load.queued, busy: load.working, least_idle: load.least_free };
        self.supervisor
            .handle(clock::monotonic(), Event::Demand { pool: pool.clone(), news: News::Load(load) });
    }

    /// The pool's gateway has let go of whom it could, or has just begun and owes no answer.
    pub(super) fn on_let_go(&mut self, pool: &PoolName) {
        self.supervisor
            .handle(clock::monotonic(), Event::Demand { pool: pool.clone(), news: News::Released });
    }
}
