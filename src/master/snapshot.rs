//! Builds the snapshot: the supervisor's states, joined with what is seen of processes and sockets at this moment.
//!
//! Looked at only when someone asks, so that a pool that nobody asks about costs nothing.

use std::collections::HashMap;

use super::Master;
use super::inquiries::Reports;
use crate::config::model::{Dispatch, Pool};
use crate::config::{self, Config};
use crate::ids::{Moment, Pid, PoolName, WorkerId};
use crate::os::activity::{self, Observation, Observer};
use crate::os::socket::Listener;
use crate::os::{clock, procfs};
use crate::status::snapshot::{
    Activity, CgroupSnapshot, GatewaySnapshot, ListenerSnapshot, PoolSnapshot, Snapshot, WorkerSnapshot,
};
use crate::supervise::{PoolState, PoolView, WorkerView};
use crate::wire::gateway::{Report, WorkerReport};

impl Master {
    /// The daemon with this pool, or with all; `reports` are what gateways have said.
    pub(super) fn snapshot(&mut self, pool: Option<&PoolName>, reports: &Reports) -> Snapshot {
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
            pools: views
                .into_iter()
                .map(|view| {
                    let report = reports.get(&view.name);
                    self.pool_snapshot(view, now, report)
                })
                .collect(),
        }
    }

    /// The configuration in force, as TOML.
    pub(super) fn dump(&self) -> String {
        let pools = self.settings.newest().map(|pool| (pool.name.clone(), Pool::clone(pool))).collect();
        config::dump(&Config { global: self.global.clone(), pools })
    }

    fn pool_snapshot(&mut self, view: PoolView, now: Moment, report: Option<&Report>) -> PoolSnapshot {
        let in_force = self.settings.of(&view.name, view.generation);
        let settings = in_force.or_else(|| self.settings.current(&view.name));
        let seen = if self.settings.has_gateway(&view.name) {
            self.reported(&view, report)
        } else {
            self.observed(&view)
        };
        let workers: Vec<WorkerSnapshot> = view
            .workers
            .iter()
            .zip(&seen.workers)
            .map(|(worker, seen)| worker_snapshot(worker, seen, now))
            .collect();
        let listeners = self.listeners.all(&view.name);
        let sockets = listeners.map(|listener| listener_snapshot(listener, &mut self.observer)).collect();
        let count = |wanted: fn(Activity) -> bool| {
            u32::try_from(workers.iter().filter(|worker| wanted(worker.activity)).count()).unwrap_or(u32::MAX)
        };
        let gateway_retry = self.gateways.rests_until(&view.name).filter(|_| view.state.is_up());
        let retry_at = gateway_retry.or(view.retry_at);
        PoolSnapshot {
            state: gateway_retry.map_or(view.state, |_| PoolState::BackingOff).to_string(),
            retry_in: retry_at.map(|moment| moment.since(now).as_secs_f64()),
            process_manager: settings.as_ref().map_or("static", |pool| pool.pm.mode.as_str()).to_owned(),
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
            recycled_requests: view.counters.worn,
            recycled_lifetime: view.counters.outlived,
            recycled_memory: view.counters.overweight,
            recycled_idle: view.counters.idle,
            crashed: view.counters.crashed,
            killed: view.counters.killed,
            start_failures: view.counters.start_failures,
            max_children_reached: view.counters.max_children_reached,
            activity_method: seen.method.to_owned(),
            cgroup: self.cgroups.usage(&view.name).map(|(usage, limits)| CgroupSnapshot {
                memory: usage.memory,
                memory_peak: usage.memory_peak,
                memory_max: limits.memory_max,
                oom_kills: usage.oom_kills,
            }),
            gateway: report.zip(self.gateways.pid(&view.name)).map(|(report, pid)| {
                let limit = settings.as_ref().map_or(0, |pool| queue_limit(pool));
                gateway_snapshot(report, pid, limit)
            }),
            workers,
            reason: gateway_retry.map(|_| NO_GATEWAY.to_owned()).or(view.reason),
            name: view.name,
        }
    }

    /// The workers as they are seen from outside.
    fn observed(&mut self, view: &PoolView) -> Seen {
        let listeners: Vec<&Listener> = self.listeners.all(&view.name).collect();
        let pids: Vec<Pid> = view.workers.iter().map(|worker| worker.pid).collect();
        let observations = self.observer.observe_all(&listeners, &pids);
        let method = observations.first().map_or(activity::METHOD, |observation| observation.method);
        Seen { method, workers: observations.into_iter().map(SeenWorker::from).collect() }
    }

    /// The workers as their gateway knows them; one that was not let in yet is looked at.
    fn reported(&mut self, view: &PoolView, report: Option<&Report>) -> Seen {
        let reports = report.map(|report| report.workers.as_slice());
        let known: HashMap<WorkerId, &WorkerReport> =
            reports.unwrap_or_default().iter().map(|worker| (worker.worker, worker)).collect();
        let workers = view.workers.iter().map(|worker| match known.get(&worker.id) {
            Some(known) => SeenWorker::from(*known),
            None if report.is_none() && self.on_slot(worker.id).is_some() => SeenWorker::default(),
            None => SeenWorker::from(self.look(worker.id, worker.pid)),
        });
        let workers = workers.collect();
        let method = match (report, self.settings.has_direct(&view.name)) {
            (None, _) if view.state == PoolState::Stopped => NOBODY,
            (None, _) => NO_ANSWER,
            (Some(_), false) => EXACT,
            (Some(_), true) => IN_PART,
        };
        Seen { method, workers }
    }
}

/// How the activity of workers is known that a gateway gives their requests.
const EXACT: &str = "exact, by the gateway";
/// And while others accept by themselves: `dispatch` has been changed.
const IN_PART: &str = "exact, by the gateway, of its workers; others are seen from outside";
/// Why a pool is backing off whose workers are well.
const NO_GATEWAY: &str = "its gateway keeps ending; the log says how";
/// And where it does not say so in time.
const NO_ANSWER: &str = "unknown: the gateway does not answer";

/// And where there is nobody to tell, or to be told about.
const NOBODY: &str = "";

/// A pool's workers at one moment.
struct Seen {
    method: &'static str,
    workers: Vec<SeenWorker>,
}

/// One worker at one moment.
struct SeenWorker {
    activity: Activity,
    connections: Option<u32>,
    requests: Option<u64>,
}

impl Default for SeenWorker {
    fn default() -> SeenWorker {
        SeenWorker { activity: Activity::Unknown, connections: None, requests: None }
    }
}

impl From<Observation> for SeenWorker {
    fn from(observation: Observation) -> SeenWorker {
        SeenWorker { activity: observation.activity, connections: observation.connections, requests: None }
    }
}

impl From<&WorkerReport> for SeenWorker {
    fn from(report: &WorkerReport) -> SeenWorker {
        SeenWorker {
            activity: if report.state == "Idle" { Activity::Idle } else { Activity::Busy },
            connections: Some(report.current),
            requests: Some(report.requests),
        }
    }
}

fn queue_limit(pool: &Pool) -> u32 {
    match &pool.dispatch {
        Dispatch::Gateway(gateway) => gateway.queue_limit,
        Dispatch::Direct => 0,
    }
}

fn gateway_snapshot(report: &Report, pid: Pid, queue_limit: u32) -> GatewaySnapshot {
    GatewaySnapshot {
        pid,
        accepted_conn: report.accepted,
        listen_queue: report.load.queued,
        max_listen_queue: report.max_queued,
        listen_queue_len: queue_limit,
        max_active_processes: report.max_active,
        slow_requests: report.slow,
        timed_out: report.timed_out,
        refused_full: report.refused_full,
        refused_late: report.refused_late,
        retried: report.retried,
        taken_back: report.taken_back,
        broken: report.broken,
        aborted: report.aborted,
        server_errors: report.server_errors,
        connections: report.connections,
        refused_client: report.refused_client,
        refused_protocol: report.refused_protocol,
        queue_wait: (&report.queue_wait).into(),
        duration: (&report.duration).into(),
    }
}

fn worker_snapshot(worker: &WorkerView, seen: &SeenWorker, now: Moment) -> WorkerSnapshot {
    // It may have ended since: then nothing is known of it.
    let stat = procfs::stat(worker.pid).ok();
    WorkerSnapshot {
        id: worker.id,
        pid: worker.pid,
        generation: worker.generation,
        state: worker.state.to_string(),
        activity: seen.activity,
        start_time: wall_time(worker.started, now),
        start_since: now.since(worker.started).as_secs(),
        connections: seen.connections,
        requests: seen.requests,
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
