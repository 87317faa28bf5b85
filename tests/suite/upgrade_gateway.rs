//! Upgrades in place of pools with a gateway: its process is exchanged as well, while connections, waiting requests and
//! workers go from the old one to the new one.

use std::path::Path;
use std::thread;

use fpmd::status::snapshot::PoolSnapshot;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::{Fpmd, Rig};
use crate::support::fastcgi::{Answer, pairs, record, script};
use crate::support::{Load, process, wait_until, workers};

const BEGIN_REQUEST: u8 = 1;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;

#[track_caller]
fn upgrade(fpmd: &Fpmd) {
    let said = fpmd.ctl_done(&["upgrade"]);
    assert!(said.contains("is upgraded"), "{said}");
}

/// The gateways' processes.
fn gateways(fpmd: &Fpmd) -> Vec<i32> {
    let children = process::descendants(fpmd.pid()).into_iter();
    children
        .filter(|child| child.name == "fpmd-gateway" && child.state != 'Z')
        .map(|child| child.pid)
        .collect()
}

fn good(answer: std::io::Result<Answer>) -> Result<(), String> {
    match answer {
        Ok(answer) if !answer.head.starts_with("Status: 5") && !answer.body.is_empty() => Ok(()),
        Ok(answer) => Err(answer.head),
        Err(error) => Err(error.to_string()),
    }
}

/// A request that is sent in parts; `keep` leaves the connection open.
fn beginning(path: &str, length: usize, keep: bool) -> Vec<u8> {
    let mut out = record(BEGIN_REQUEST, &[0, 1, u8::from(keep), 0, 0, 0, 0, 0]);
    let method = if length > 0 { "POST" } else { "GET" };
    out.extend(record(PARAMS, &pairs(&script("php/app.php"), method, path, length).concat()));
    out.extend(record(PARAMS, &[]));
    out
}

fn whole(path: &str, keep: bool) -> Vec<u8> {
    [beginning(path, 0, keep), record(STDIN, &[])].concat()
}

/// Numbers that must never go back.
fn counts(pool: &PoolSnapshot) -> Vec<u64> {
    let gateway = pool.gateway.as_ref().unwrap();
    let mut counts =
        vec![gateway.accepted_conn, gateway.duration.count, u64::from(gateway.max_active_processes)];
    counts.extend(pool.workers.iter().map(|worker| worker.requests.unwrap_or(0)));
    counts
}

#[test]
fn nothing_is_lost_and_nothing_counted_goes_back_under_load() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php()).workers(3)));
    let (address, kept) = (fpmd.address("www"), fpmd.address("www"));
    let before = fpmd.workers("www");
    let load = Load::start(4, move || good(address.get("/slow/3")));
    let keeping = Load::start(2, move || {
        let mut connection = kept.connect().map_err(|error| error.to_string())?;
        for _ in 0..40 {
            connection.send_raw(&whole("/slow/1", true)).map_err(|error| format!("kept, send: {error}"))?;
            good(connection.answer()).map_err(|error| format!("kept: {error}"))?;
        }
        Ok(())
    });
    let mut last = counts(&fpmd.pool("www"));
    for _ in 0..5 {
        let old = gateways(&fpmd);
        upgrade(&fpmd);
        wait_until("the old gateway to be gone", || old.iter().all(|pid| !process::is_alive(*pid)));
        let now = fpmd.wait_pool("www", "every worker known", |pool| {
            pool.workers.iter().all(|worker| worker.requests.is_some())
        });
        let now = counts(&now);
        assert!(now.iter().zip(&last).all(|(now, last)| now >= last), "{last:?} then {now:?}");
        last = now;
    }
    let ((answered, bad), (rounds, worse)) = (load.stop(), keeping.stop());
    assert_eq!((bad, worse), (Vec::<String>::new(), Vec::<String>::new()));
    assert!(answered > 20 && rounds > 1, "{answered}, {rounds}");
    let pool = fpmd.pool("www");
    let gateway = pool.gateway.as_ref().unwrap();
    assert_eq!(fpmd.workers("www"), before);
    assert!(gateway.accepted_conn >= answered + 40 * rounds, "{gateway:?}");
    assert_eq!((gateway.server_errors, gateway.broken, gateway.aborted), (0, 0, 0), "{gateway:?}");
    fpmd.finish();
}

#[test]
fn who_waits_is_served_before_who_comes_later() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let ask = |path: &'static str| {
        let mut connection = fpmd.address("www").connect().unwrap();
        connection.send("GET", path, b"").unwrap();
        thread::spawn(move || good(connection.answer()).map(|()| std::time::Instant::now()))
    };
    let slow = ask("/slow/900");
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let earlier: Vec<_> = (0..3).map(|_| ask("/slow/20")).collect();
    fpmd.wait_pool("www", "a queue", |pool| pool.gateway.as_ref().unwrap().listen_queue == 3);
    let old = gateways(&fpmd);
    upgrade(&fpmd);
    assert!(gateways(&fpmd).len() == 2 && process::is_alive(old[0]), "{old:?} {:?}", gateways(&fpmd));
    let pool = fpmd.pool("www");
    assert_eq!((pool.active_processes, pool.gateway.as_ref().unwrap().listen_queue), (1, 3), "{pool:?}");
    let later = ask("/slow/20");
    let mut times = vec![slow.join().unwrap().unwrap()];
    times.extend(earlier.into_iter().map(|earlier| earlier.join().unwrap().unwrap()));
    times.push(later.join().unwrap().unwrap());
    assert!(times.is_sorted(), "{times:?}");
    wait_until("the old gateway to be gone", || !process::is_alive(old[0]));
    assert_eq!(fpmd.pool("www").gateway.unwrap().accepted_conn, 5);
    fpmd.finish();
}

#[test]
fn a_request_that_is_still_coming_in_is_served_when_it_is_complete() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send_raw(&beginning("/echo", 6, false)).unwrap();
    connection.send_raw(&record(STDIN, b"abc")).unwrap();
    fpmd.wait_pool("www", "a connection", |pool| pool.gateway.as_ref().unwrap().connections == 1);
    let old = gateways(&fpmd);
    upgrade(&fpmd);
    // The only worker is the new gateway's meanwhile.
    good(fpmd.address("www").get("/pid")).unwrap();
    assert!(process::is_alive(old[0]));
    connection.send_raw(&[record(STDIN, b"def"), record(STDIN, &[])].concat()).unwrap();
    good(connection.answer()).unwrap();
    wait_until("the old gateway to be gone", || !process::is_alive(old[0]));
    good(fpmd.address("www").get("/pid")).unwrap();
    fpmd.finish();
}

#[test]
fn a_kept_connection_goes_along() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let mut connection = fpmd.address("www").connect().unwrap();
    let mut silent = fpmd.address("www").connect().unwrap();
    for _ in 0..3 {
        connection.send_raw(&whole("/pid", true)).unwrap();
        good(connection.answer()).unwrap();
        let old = gateways(&fpmd);
        upgrade(&fpmd);
        wait_until("the old gateway to be gone", || !process::is_alive(old[0]));
    }
    silent.send_raw(&whole("/pid", false)).unwrap();
    good(silent.answer()).unwrap();
    fpmd.finish();
}

#[test]
fn two_upgrades_while_a_request_lasts_and_a_third_after_it() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php()).workers(2)));
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/1200", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let first = gateways(&fpmd);
    upgrade(&fpmd);
    good(fpmd.address("www").get("/pid")).unwrap();
    upgrade(&fpmd);
    good(fpmd.address("www").get("/pid")).unwrap();
    assert!(process::is_alive(first[0]));
    fpmd.wait_pool("www", "one busy worker", |pool| pool.active_processes == 1);
    good(connection.answer()).unwrap();
    wait_until("one gateway only", || gateways(&fpmd).len() == 1);
    upgrade(&fpmd);
    let pool = fpmd.wait_pool("www", "idle workers", |pool| pool.idle_processes == 2);
    assert_eq!((pool.started, pool.gateway.unwrap().accepted_conn), (2, 3));
    fpmd.finish();
}

#[test]
fn workers_of_an_old_gateway_that_dies_are_the_new_ones() {
    let rig = Rig::new().pool(routed("www", &workers::php())).expect("while it was handing over");
    let fpmd = serving(rig);
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/400", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let old = gateways(&fpmd);
    upgrade(&fpmd);
    process::end(old[0]);
    assert!(connection.answer().is_err());
    good(fpmd.address("www").get("/pid")).unwrap();
    assert_eq!(fpmd.pool("www").started, 1);
    fpmd.finish();
}

#[test]
fn what_concerns_a_worker_reaches_the_gateway_that_has_it() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/700", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let before = fpmd.workers("www");
    upgrade(&fpmd);
    // The old one's worker is drained, and another takes its place.
    fpmd.ctl_done(&["restart", "www"]);
    good(connection.answer()).unwrap();
    wait_until("the old worker to be gone", || !process::is_alive(before[0]));
    good(fpmd.address("www").get("/pid")).unwrap();
    let pool = fpmd.pool("www");
    assert_eq!((pool.crashed, pool.killed), (0, 0), "{pool:?}");
    wait_until("one gateway only", || gateways(&fpmd).len() == 1);
    fpmd.finish();
}

#[test]
fn a_pool_stops_while_its_gateway_is_exchanged() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php()).key("stop_timeout", "\"10s\"")));
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/700", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    upgrade(&fpmd);
    fpmd.ctl_done(&["stop", "www"]);
    good(connection.answer()).unwrap();
    wait_until("no gateway", || gateways(&fpmd).is_empty());
    fpmd.finish();
}

#[test]
fn a_gateway_that_does_not_start_leaves_the_old_one_in_service() {
    leaves_the_old_one_in_service("echo broken >&2; exit 1");
}

#[test]
fn a_gateway_that_never_serves_leaves_the_old_one_in_service() {
    leaves_the_old_one_in_service("exec sleep 1000");
}

#[track_caller]
fn leaves_the_old_one_in_service(script: &str) {
    let rig = Rig::new().pool(routed("www", &workers::php()));
    let built = Path::new(env!("CARGO_BIN_EXE_fpmd"));
    rig.dir.install(built, "fpmd");
    rig.dir.install(&built.with_file_name("fpmd-gateway"), "fpmd-gateway");
    let program = rig.dir.join("fpmd");
    let fpmd = serving(rig.program(&program).expect("cannot exchange the gateway").expect("broken"));
    let old = gateways(&fpmd);
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/500", b"").unwrap();
    std::fs::remove_file(fpmd.rig.dir.join("fpmd-gateway")).unwrap();
    fpmd.rig.dir.program("fpmd-gateway", &format!("#!/bin/sh\n{script}\n"));
    let ran = fpmd.ctl(&["upgrade"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("cannot exchange the gateway of pool www"), "{ran:?}");
    good(connection.answer()).unwrap();
    good(fpmd.address("www").get("/pid")).unwrap();
    assert_eq!(gateways(&fpmd), old);
    std::fs::remove_file(fpmd.rig.dir.join("fpmd-gateway")).unwrap();
    fpmd.rig.dir.install(&built.with_file_name("fpmd-gateway"), "fpmd-gateway");
    upgrade(&fpmd);
    wait_until("the old gateway to be gone", || !process::is_alive(old[0]));
    fpmd.finish();
}

#[test]
fn who_waits_in_an_old_gateway_is_served_although_its_workers_leave() {
    let mut fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    fpmd.descriptors_may_change();
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let address = fpmd.address("www");
            thread::spawn(move || good(address.get("/slow/300")))
        })
        .collect();
    fpmd.wait_pool("www", "a queue", |pool| pool.gateway.as_ref().unwrap().listen_queue == 7);
    upgrade(&fpmd);
    // Each takes along the worker that serves the old gateway; and then there are slots that it has not known.
    for _ in 0..2 {
        fpmd.ctl_done(&["restart", "www"]);
    }
    fpmd.ctl_done(&["scale", "www", "2"]);
    fpmd.ctl_done(&["restart", "www"]);
    for request in crowd {
        request.join().unwrap().unwrap();
    }
    wait_until("one gateway only", || gateways(&fpmd).len() == 1);
    assert_eq!(fpmd.pool("www").gateway.unwrap().accepted_conn, 8);
    fpmd.finish();
}
