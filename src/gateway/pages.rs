//! The pool's own pages: status in all its forms, and ping. Made from what the gateway counts and from a look at /proc and at
//! the listening sockets at this moment; nobody is asked, so that they answer when every worker is stuck. What they look
//! like is `status`' business. php-fpm's manual, "FPM status page"; fpmd-status(7).

use std::cell::Cell;

use super::finished::{Shown, View, WorkerView};
use super::params::Params;
use super::seam::Pages;
use crate::ids::Generation;
use crate::os::clock::{self, WallTime};
use crate::os::procfs::{self, Memory};
use crate::os::sockdiag::{Queue, SockDiag};
use crate::status::answer;
use crate::status::page::{AcceptQueue, PoolPage, ProcessRow, ProcessState, Recycled, Refused};
use crate::status::stamp::Stamp;
use crate::wire::gateway::Settings;

/// The pages of one pool.
#[derive(Debug, Default)]
pub struct PoolPages {
    /// The most memory that was ever seen of one worker, bytes.
    peak: Cell<u64>,
}

impl Pages for PoolPages {
    fn answers(&self, settings: &Settings, params: &Params) -> bool {
        let (status, ping) = (&settings.status_path, &settings.ping_path);
        if status.is_none() && ping.is_none() {
            return false;
        }
        let name = params.script_name();
        is(status.as_ref(), name) || is(ping.as_ref(), name)
    }

    fn page(&self, params: &Params, view: &View<'_>, out: &mut Vec<u8>) {
        let method = params.method();
        if is(view.settings.ping_path.as_ref(), params.script_name()) {
            return answer::ping(&view.settings.ping_response, method, out);
        }
        let memory: Vec<Option<Memory>> = view.workers.iter().map(memory).collect();
        let most = memory.iter().flatten().map(|memory| memory.peak).max();
        self.peak.set(self.peak.get().max(most.unwrap_or(0)).max(view.facts.memory_peak));
        let page = pool(view, &memory, self.peak.get());
        answer::status(&page, params.query(), method, out);
    }
}

fn is(path: Option<&String>, name: &[u8]) -> bool {
    path.is_some_and(|path| path.as_bytes() == name)
}

/// `None` of one that has ended since.
fn memory(worker: &WorkerView<'_>) -> Option<Memory> {
    procfs::memory(worker.name.pid).ok().flatten()
}

fn pool<'a>(view: &'a View<'a>, memory: &[Option<Memory>], peak: u64) -> PoolPage<'a> {
    let (settings, facts, report) = (view.settings, view.facts, view.report);
    let queues = accept_queues(view);
    let sum = |part: fn(&AcceptQueue<'_>) -> Option<u32>| -> u64 {
        queues.iter().filter_map(part).map(u64::from).sum()
    };
    let listen_queue = u64::from(report.load.queued) + sum(|queue| queue.queue);
    let idle = view.workers.iter().filter(|worker| worker.state == ProcessState::Idle).count();
    PoolPage {
        pool: settings.pool.as_str(),
        process_manager: &settings.process_manager,
        start_time: stamp(WallTime { seconds: settings.start_time, micros: 0 }),
        start_since: view.now.seconds.saturating_sub(settings.start_time).max(0).unsigned_abs(),
        accepted: report.accepted,
        listen_queue,
        max_listen_queue: listen_queue.max(report.max_queued.into()),
        listen_queue_len: u64::from(settings.queue_limit) + sum(|queue| queue.limit),
        idle: count(idle),
        active: count(view.workers.len() - idle),
        total: count(view.workers.len()),
        max_active: report.max_active,
        max_children_reached: facts.max_children_reached,
        slow_requests: report.slow,
        memory_peak: peak,
        generation: Generation(facts.generation),
        max_children: facts.max_children,
        queued: report.load.queued,
        queue_limit: settings.queue_limit,
        accept_queues: queues,
        connections: report.connections,
        server_errors: report.server_errors,
        retried: report.retried,
        timed_out: report.timed_out,
        broken: report.broken,
        aborted: report.aborted,
        refused: Refused {
            queue_full: report.refused_full,
            queue_timeout: report.refused_late,
            client: Some(report.refused_client),
            protocol: Some(report.refused_protocol),
        },
        started: facts.started,
        recycled: Recycled {
            total: facts.recycled,
            max_requests: Some(facts.recycled_requests),
            max_lifetime: Some(facts.recycled_lifetime),
            max_memory: Some(facts.recycled_memory),
            idle: Some(facts.recycled_idle),
            exited: Some(facts.recycled_exited),
        },
        crashed: facts.crashed,
        killed: facts.killed,
        start_failures: facts.start_failures,
        oom_kills: facts.oom_kills,
        memory: resident(memory),
        queue_wait: &report.queue_wait,
        request_duration: &report.duration,
        processes: view.workers.iter().zip(memory).map(|(worker, memory)| row(worker, *memory)).collect(),
    }
}

/// All workers together; unknown where not one could be looked at.
fn resident(memory: &[Option<Memory>]) -> Option<u64> {
    let known = memory.iter().flatten().map(|memory| memory.resident);
    (memory.is_empty() || known.clone().next().is_some()).then(|| known.sum())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn stamp(wall: WallTime) -> Stamp {
    Stamp { seconds: wall.seconds, micros: wall.micros, offset: clock::local(wall).offset }
}

/// The kernel's queues, as it tells them now.
fn accept_queues<'a>(view: &View<'a>) -> Vec<AcceptQueue<'a>> {
    let mut diag = SockDiag::open().ok();
    let named = view.settings.listeners.iter().zip(&view.listeners);
    let queues = named.map(|(listen, fd)| {
        let queue: Option<Queue> = diag.as_mut().and_then(|diag| diag.queue_of(*fd).ok().flatten());
        AcceptQueue { listen, queue: queue.map(|queue| queue.pending), limit: queue.map(|queue| queue.limit) }
    });
    queues.collect()
}

fn row<'a>(worker: &'a WorkerView<'a>, memory: Option<Memory>) -> ProcessRow<'a> {
    let shown = worker.shown.as_ref();
    let idle = worker.state == ProcessState::Idle;
    let resident = memory.map(|memory| memory.resident);
    ProcessRow {
        pid: worker.name.pid,
        state: worker.state,
        start_time: stamp(worker.start),
        start_since: worker.age.as_secs(),
        requests: worker.requests,
        request_duration: shown.map(|shown| shown.duration).unwrap_or_default(),
        method: shown.map_or(b"", |shown| shown.method),
        uri: shown.map_or(b"", |shown| shown.uri),
        query: shown.map_or(b"", |shown| shown.query),
        content_length: shown.and_then(|shown| shown.content_length).unwrap_or(0),
        user: shown.map_or(b"", |shown| shown.user),
        script: shown.map_or(b"", |shown| shown.script),
        last_request_cpu: shown.filter(|_| idle).and_then(share).unwrap_or(0.0),
        last_request_memory: resident.filter(|_| idle && shown.is_some()).unwrap_or(0),
        slot: worker.name.slot,
        generation: worker.name.generation,
        current: worker.current,
        queue_wait: shown.map(|shown| shown.queue_wait).unwrap_or_default(),
        rss: resident,
    }
}

/// CPU time as a share of the duration, percent, where somebody measured it.
fn share(shown: &Shown<'_>) -> Option<f64> {
    let used = shown.cpu?.total().as_secs_f64();
    Some(100.0 * used / shown.duration.as_secs_f64()).filter(|share| share.is_finite())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fcgi::pairs;
    use crate::gateway::testing;
    use crate::os::procfs::CpuTimes;
    use crate::wire::gateway::{Facts, Report};

    fn settings(status_path: Option<&str>, ping_path: Option<&str>) -> Settings {
        Settings {
            listeners: vec!["/run/www.sock".into(), "127.0.0.1:9000".into()],
            status_path: status_path.map(str::to_owned),
            ping_path: ping_path.map(str::to_owned),
            ..testing::settings()
        }
    }

    fn asked(script_name: &str) -> Params {
        let mut bytes = Vec::new();
        pairs::encode(&mut bytes, b"SCRIPT_NAME", script_name.as_bytes()).unwrap();
        let mut params = Params::default();
        params.push(&bytes, 1000).unwrap();
        params.check().unwrap();
        params
    }

    #[test]
    fn only_paths_that_are_set_are_pages() {
        let answers =
            |status, ping, name| PoolPages::default().answers(&settings(status, ping), &asked(name));
        assert!(answers(Some("/status"), None, "/status") && answers(None, Some("/ping"), "/ping"));
        for name in ["", "/status/", "/Status", "/ping"] {
            assert!(!answers(Some("/status"), None, name), "{name}");
        }
        assert!(!answers(None, None, ""));
    }

    #[test]
    fn what_cannot_be_known_is_not_shown_as_nothing() {
        let known = Memory { resident: 5, peak: 9 };
        assert_eq!(resident(&[]), Some(0));
        assert_eq!(resident(&[None]), None);
        assert_eq!(resident(&[None, Some(known), Some(known)]), Some(10));
        let settings = settings(None, None);
        let (facts, report) = (Facts::default(), Report { max_queued: 7, ..Report::default() });
        let now = WallTime { seconds: 900, micros: 0 };
        let view = View {
            settings: &settings,
            listeners: Vec::new(),
            facts: &facts,
            report: &report,
            workers: Vec::new(),
            now,
        };
        let page = pool(&view, &[], 0);
        assert_eq!((page.start_since, page.max_listen_queue, page.listen_queue_len), (0, 7, 100));
    }

    #[test]
    fn shares_are_of_the_duration() {
        let cpu = CpuTimes { user: Duration::from_millis(20), system: Duration::from_millis(5) };
        let shown = |millis, cpu| Shown {
            method: b"",
            uri: b"",
            query: b"",
            script: b"",
            user: b"",
            content_length: None,
            duration: Duration::from_millis(millis),
            queue_wait: Duration::ZERO,
            cpu,
            runs: false,
        };
        assert_eq!(share(&shown(100, Some(cpu))), Some(25.0));
        assert_eq!((share(&shown(0, Some(cpu))), share(&shown(100, None))), (None, None));
    }
}
