//! Builds the snapshot: the supervisor's states, joined with what is seen of processes and sockets at this moment.
//!
//! Looked at only when someone asks, so that a pool that nobody asks about costs nothing.

use super::Master;
use crate::config::model::{PmMode, Pool};
use crate::config::{self, Config};
use crate::ids::{Moment, Pid, PoolName};
use crate::os::activity::{self, Observation, Observer};
use crate::os::socket::Listener;
use crate::os::{clock, procfs};
use crate::status::snapshot::{Activity, ListenerSnapshot, PoolSnapshot, Snapshot, WorkerSnapshot};
use crate::supervise::{PoolView, WorkerView};

impl Master {
    /// The daemon with this pool, or with all.
    pub(super) fn snapshot(&mut self, pool: Option<&PoolName>) -> Snapshot {
        let now = clock::monotonic();
        let is_wanted = |view: &PoolView| pool.is_none_or(|name| *name == view.name);
        let views: Vec<PoolView> = self.supervisor.pools().filter(is_wanted).collect();
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: super::start::own_pid(),
            start_time: wall_time(self.started, now),
            start_since: now.since(self.started).as_secs(),
            config: self.source.path().map(|path| path.display().to_string()),
            state: self.supervisor.state().to_string(),
            pools: views.into_iter().map(|view| self.pool_snapshot(view, now)).collect(),
        }
    }

    /// The configuration in force, as TOML.
    pub(super) fn dump(&self) -> String {
        let pools = self.settings.newest().map(|pool| (pool.name.clone(), Pool::clone(pool))).collect();
        config::dump(&Config { global: self.global.clone(), pools })
    }

    fn pool_snapshot(&mut self, view: PoolView, now: Moment) -> PoolSnapshot {
        let listeners: Vec<&Listener> = self.listeners.all(&view.name).collect();
        let pids: Vec<Pid> = view.workers.iter().map(|worker| worker.pid).collect();
        let observations = self.observer.observe_all(&listeners, &pids);
        let sockets =
            listeners.iter().map(|listener| listener_snapshot(listener, &mut self.observer)).collect();
        let method = observations.first().map_or(activity::METHOD, |observation| observation.method);
        let workers: Vec<WorkerSnapshot> = view
            .workers
            .iter()
            .zip(&observations)
            .map(|(worker, observation)| worker_snapshot(worker, observation, now))
            .collect();
        let settings = self.settings.current(&view.name);
        let count = |wanted: fn(Activity) -> bool| {
            u32::try_from(workers.iter().filter(|worker| wanted(worker.activity)).count()).unwrap_or(u32::MAX)
        };
        PoolSnapshot {
            state: view.state.to_string(),
            retry_in: view.retry_at.map(|moment| moment.since(now).as_secs_f64()),
            process_manager: match settings.as_ref().map(|pool| pool.pm.mode) {
                Some(PmMode::Static) | None => "static".to_owned(),
            },
            dispatch: settings.as_ref().map_or("direct", |pool| pool.dispatch.as_str()).to_owned(),
            generation: view.generation,
            start_time: wall_time(view.started, now),
            start_since: now.since(view.started).as_secs(),
            listeners: sockets,
            max_children: view.children,
            idle_processes: count(|activity| activity == Activity::Idle),
            active_processes: count(|activity| matches!(activity, Activity::Busy | Activity::Waiting)),
            total_processes: count(|_| true),
            started: view.counters.started,
            recycled: view.counters.recycled,
            crashed: view.counters.crashed,
            killed: view.counters.killed,
            start_failures: view.counters.start_failures,
            activity_method: method.to_owned(),
            workers,
            reason: view.reason,
            name: view.name,
        }
    }
}

fn worker_snapshot(worker: &WorkerView, observation: &Observation, now: Moment) -> WorkerSnapshot {
    // It may have ended since: then nothing is known of it.
    let stat = procfs::stat(worker.pid).ok();
    WorkerSnapshot {
        id: worker.id,
        pid: worker.pid,
        generation: worker.generation,
        state: worker.state.to_string(),
        activity: observation.activity,
        start_time: wall_time(worker.started, now),
        start_since: now.since(worker.started).as_secs(),
        connections: observation.connections,
        rss: stat.as_ref().map(procfs::Stat::rss),
        cpu: stat.as_ref().map(|stat| stat.cpu().as_secs_f64()),
    }
}

/// Seconds since the epoch of a moment, by what both clocks say now: a clock that is set moves all starts with it.
fn wall_time(moment: Moment, now: Moment) -> u64 {
    let seconds = clock::wall().seconds.max(0).unsigned_abs();
    seconds.saturating_sub(now.since(moment).as_secs())
}

fn listener_snapshot(listener: &Listener, observer: &mut Observer) -> ListenerSnapshot {
    let queue = observer.diag().and_then(|diag| diag.queue(listener).ok().flatten());
    ListenerSnapshot {
        address: listener.to_string(),
        queue: queue.map(|queue| queue.pending),
        queue_limit: queue.map(|queue| queue.limit),
        queue_method: queue.map(|queue| queue.method.to_owned()),
    }
}
