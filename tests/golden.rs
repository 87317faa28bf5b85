//! The renderers against the texts in tests/golden: what a person sees, and what programs parse, changes only on purpose.
//! `BLESS=1 cargo test --test golden` writes the texts anew; then read the difference. Parsers are tested elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use std::fs;
use std::path::Path;

use fpmd::ids::{Generation, Pid, PoolName, WorkerId};
use fpmd::status::snapshot::{
    Activity, GatewaySnapshot, ListenerSnapshot, PoolSnapshot, Snapshot, SpansSnapshot, WorkerSnapshot,
};
use fpmd::status::text::{Colours, Detail, Style, list, render};
use fpmd::status::{json, text};

const PLAIN: Style = Style { colours: Colours::Off, width: None };

fn matches(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, made).expect("the golden text is writable");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == made, "{name} differs\n--- golden\n{golden}\n--- made\n{made}");
}

fn listener(address: &str, queue: Option<u32>) -> ListenerSnapshot {
    ListenerSnapshot {
        address: address.into(),
        queue,
        queue_limit: queue.map(|_| 511),
        queue_method: queue.map(|_| "sock_diag".into()),
    }
}

fn pool(name: &str, state: &str) -> PoolSnapshot {
    PoolSnapshot {
        name: PoolName::new(name).unwrap(),
        state: state.into(),
        reason: None,
        retry_in: None,
        process_manager: "static".into(),
        dispatch: "direct".into(),
        generation: Generation(1),
        start_time: 1_795_000_000,
        start_since: 7_500,
        listeners: vec![listener("/run/fpmd/www.sock", Some(3))],
        max_children: 4,
        idle_processes: 3,
        active_processes: 1,
        total_processes: 4,
        started: 12,
        recycled: 8,
        recycled_requests: 5,
        recycled_lifetime: 2,
        recycled_memory: 1,
        recycled_idle: 0,
        crashed: 0,
        killed: 0,
        start_failures: 0,
        cgroup: None,
        max_children_reached: 0,
        activity_method: "open connections (sock_diag), system call (procfs)".into(),
        gateway: None,
        workers: Vec::new(),
    }
}

fn worker(id: u64, activity: Activity, seen: Option<(u32, u64, f64)>) -> WorkerSnapshot {
    WorkerSnapshot {
        id: WorkerId(id),
        pid: Pid::new(4000 + i32::try_from(id).unwrap()).unwrap(),
        generation: Generation(2),
        state: if id == 9 { "draining" } else { "running" }.into(),
        activity,
        start_time: 1_795_000_100,
        start_since: id * 700,
        connections: seen.map(|seen| seen.0),
        rss: seen.map(|seen| seen.1),
        cpu: seen.map(|seen| seen.2),
        requests: None,
    }
}

fn daemon(pools: Vec<PoolSnapshot>) -> Snapshot {
    Snapshot {
        version: "0.1.0".into(),
        pid: Pid::new(4000).unwrap(),
        start_time: 1_795_000_000,
        start_since: 7_503,
        config: Some("/etc/fpmd/fpmd.toml".into()),
        state: "running".into(),
        pools,
    }
}

/// A daemon with everything that can be said of one.
fn full() -> Snapshot {
    let mut www = pool("www", "running");
    www.listeners.push(listener("127.0.0.1:9000", Some(0)));
    www.generation = Generation(2);
    www.workers = vec![
        worker(9, Activity::Busy, Some((1, 58_720_256, 312.4))),
        worker(10, Activity::Idle, Some((0, 9_800_000, 0.254))),
        worker(11, Activity::Waiting, Some((12, 1_200, 0.0))),
        worker(12, Activity::Unknown, None),
    ];
    let mut api = pool("api-with-a-long-name", "backing off");
    api.reason = Some("cannot execute '/usr/bin/php-cgx': No such file or directory".into());
    api.retry_in = Some(12.34);
    api.listeners = vec![listener("[::1]:9001", None)];
    (api.total_processes, api.idle_processes, api.active_processes) = (0, 0, 0);
    (api.crashed, api.start_failures) = (3, 17);
    let mut old = pool("old", "stopped");
    old.listeners = Vec::new();
    (old.total_processes, old.idle_processes, old.active_processes) = (0, 0, 0);
    daemon(vec![api, old, www])
}

/// A pool whose requests come through a gateway.
fn routed() -> Snapshot {
    let mut www = pool("www", "running");
    www.dispatch = "gateway".into();
    www.activity_method = "exact, by the gateway".into();
    www.gateway = Some(GatewaySnapshot {
        pid: Pid::new(4001).unwrap(),
        accepted_conn: 123_456,
        listen_queue: 2,
        max_listen_queue: 40,
        listen_queue_len: 4096,
        max_active_processes: 4,
        slow_requests: 7,
        timed_out: 1,
        refused_full: 3,
        refused_late: 2,
        taken_back: 0,
        retried: 5,
        broken: 4,
        aborted: 6,
        server_errors: 12,
        connections: 9,
        refused_client: 1,
        refused_protocol: 8,
        queue_wait: SpansSnapshot {
            count: 123_400,
            sum: 2_000_000,
            p50: 100,
            p90: 250,
            p99: 25_000,
            max: 81_000,
        },
        duration: SpansSnapshot {
            count: 123_400,
            sum: 900_000_000,
            p50: 2_500,
            p90: 50_000,
            p99: 1_000_000,
            max: 312_000_000,
        },
    });
    www.workers = vec![
        WorkerSnapshot { requests: Some(99_000), ..worker(9, Activity::Busy, Some((1, 58_720_256, 312.4))) },
        WorkerSnapshot { requests: Some(24_456), ..worker(10, Activity::Idle, Some((0, 9_800_000, 0.254))) },
        worker(11, Activity::Busy, Some((0, 1_200, 0.0))),
    ];
    daemon(vec![www])
}

#[test]
fn a_gateway_s_numbers_are_shown() {
    matches("status-gateway.txt", &render(&routed(), Detail::Workers, PLAIN));
    matches("status-gateway.json", &json::render(&routed()));
}

/// Text that a worker, a file name or a broken daemon could have brought in.
fn hostile() -> Snapshot {
    let mut bad = pool("bad", "fai\x1b[2Jled");
    bad.reason = Some("cannot bind '/run/\x1b]0;title\x07x': one\r\nand two\n".into());
    bad.retry_in = Some(f64::NAN);
    bad.process_manager = "sta\ttic".into();
    bad.listeners[0].address = "/run/\u{202e}kcos\n.sock".into();
    bad.activity_method = "\x1b[31m".into();
    let mut snapshot = daemon(vec![bad]);
    snapshot.config = Some("/etc/\x1b[1mx\n".into());
    snapshot
}

#[test]
fn pools_at_a_glance() {
    matches("status.txt", &render(&full(), Detail::Pools, PLAIN));
}

#[test]
fn pools_with_their_workers() {
    matches("status-full.txt", &render(&full(), Detail::Workers, PLAIN));
}

#[test]
fn in_colour() {
    let style = Style { colours: Colours::On, width: None };
    matches("status-colour.txt", &render(&full(), Detail::Workers, style));
}

#[test]
fn on_a_narrow_terminal() {
    let style = Style { colours: Colours::Off, width: Some(96) };
    let made = render(&full(), Detail::Pools, style);
    matches("status-narrow.txt", &made);
    let rows = made.lines().skip(2).take(4);
    assert!(rows.clone().all(|row| row.chars().count() <= 96), "{made}");
    assert_eq!(rows.count(), 4);
}

#[test]
fn a_daemon_without_pools() {
    let mut snapshot = daemon(Vec::new());
    snapshot.config = None;
    matches("status-empty.txt", &render(&snapshot, Detail::Workers, PLAIN));
    assert_eq!(list(&snapshot, PLAIN), "");
}

#[test]
fn foreign_text_cannot_act_on_the_terminal() {
    let made = render(&hostile(), Detail::Workers, PLAIN) + &list(&hostile(), PLAIN);
    matches("status-hostile.txt", &made);
    assert!(!made.contains(|c: char| c.is_control() && c != '\n'), "{made:?}");
    let coloured = render(&hostile(), Detail::Workers, Style { colours: Colours::On, width: None });
    assert!(!coloured.contains("\x1b[2J") && !coloured.contains("\x1b]0"), "{coloured:?}");
}

#[test]
fn names_and_states() {
    matches("list.txt", &text::list(&full(), PLAIN));
}

#[test]
fn json_for_programs() {
    let made = json::render(&full());
    matches("status.json", &made);
    let read: Snapshot = serde_json::from_str(&made).unwrap();
    assert_eq!(read, full());
}
