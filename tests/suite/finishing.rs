//! Workers that go on after the end of their answer (FCGX_Finish and go on): their client has it at once, nobody waits behind
//! them, the status says what they do, and they do not go on for ever.

use std::thread;
use std::time::{Duration, Instant};

use fpmd::status::snapshot::PoolSnapshot;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::{Fpmd, Pool, Rig};
use crate::support::{wait_until, workers};

/// For so long the workers here go on, milliseconds.
const LONG: u64 = 6_000;

/// Nobody waits for so long, unless it is behind one of them.
const SHORT: Duration = Duration::from_secs(4);

fn pool(command: &[String]) -> Pool {
    routed("www", command).workers(2).key("status_path", "\"/status\"")
}

fn states(fpmd: &Fpmd) -> Vec<String> {
    let socket = fpmd.socket("www");
    let page = fpmd.ctl_done(&["request", socket.to_str().unwrap(), "/status?json&full"]);
    let page: serde_json::Value = serde_json::from_str(&page[page.find('{').unwrap()..]).unwrap();
    let workers = page["processes"].as_array().unwrap();
    workers.iter().map(|worker| worker["state"].as_str().unwrap().to_owned()).collect()
}

fn taken_back(pool: &PoolSnapshot) -> u64 {
    pool.gateway.as_ref().map_or(0, |gateway| gateway.taken_back)
}

/// `/finish` is answered at once; what comes after it is served by the other worker, whichever method it has.
#[track_caller]
fn assert_nobody_waits(command: &[String], method: &str) {
    let fpmd = serving(Rig::new().pool(pool(command)));
    let address = fpmd.address("www");
    // So that there are connections to keep.
    for _ in 0..3 {
        address.get("/pid").unwrap();
    }
    let asked = Instant::now();
    let finishing = address.get(&format!("/finish/{LONG}")).unwrap().text();
    for number in 0..20 {
        let pid = address.ask(method, "/pid", b"").unwrap().text();
        assert_ne!(pid, finishing, "{number}");
    }
    assert!(asked.elapsed() < SHORT, "{:?}", asked.elapsed());
    // The other one may be looked at, too, at a moment when it is on its way back.
    wait_until("one that goes on, and one that is idle", || {
        let mut seen = states(&fpmd);
        seen.sort();
        seen == ["Finishing", "Idle"]
    });
    fpmd.wait_pool("www", "the same numbers", |pool| (pool.idle_processes, pool.active_processes) == (1, 1));
    assert!(asked.elapsed() < Duration::from_millis(LONG), "it was too slow to tell anything");
    fpmd.wait_pool("www", "two idle workers", |pool| pool.idle_processes == 2);
    assert!(asked.elapsed() >= Duration::from_millis(LONG));
    let gateway = fpmd.pool("www").gateway.unwrap();
    assert_eq!((gateway.broken, gateway.retried, gateway.server_errors), (0, 0, 0), "{gateway:?}");
    let requests: u64 = fpmd.pool("www").workers.iter().filter_map(|worker| worker.requests).sum();
    assert_eq!(requests, 24, "a request that was taken back counts once");
    fpmd.finish();
}

#[test]
fn nobody_waits_behind_libfcgi_that_goes_on() {
    assert_nobody_waits(&workers::c(), "GET");
}

#[test]
fn nobody_waits_behind_libfcgi_that_goes_on_with_post() {
    assert_nobody_waits(&workers::c(), "POST");
}

#[test]
fn nobody_waits_behind_perl_that_goes_on() {
    assert_nobody_waits(&workers::perl(), "POST");
}

#[test]
fn a_worker_that_goes_on_is_known_before_anybody_asks_for_it() {
    let fpmd = serving(Rig::new().pool(pool(&workers::c())));
    fpmd.address("www").get(&format!("/finish/{LONG}")).unwrap();
    fpmd.wait_pool("www", "a finishing worker", |pool| pool.active_processes == 1);
    let pool = fpmd.pool("www");
    assert_eq!((pool.idle_processes, taken_back(&pool)), (1, 0));
    fpmd.finish();
}

#[test]
fn where_workers_go_on_each_is_looked_at_and_none_is_trusted() {
    let fpmd = serving(Rig::new().pool(pool(&workers::c())));
    let address = fpmd.address("www");
    address.get("/finish/100").unwrap();
    fpmd.wait_pool("www", "a finishing worker", |pool| pool.active_processes == 1);
    fpmd.wait_pool("www", "two idle workers", |pool| pool.idle_processes == 2);
    let before = taken_back(&fpmd.pool("www"));
    for _ in 0..10 {
        address.get("/finish/200").unwrap();
    }
    assert_eq!(taken_back(&fpmd.pool("www")), before, "nobody was sent to one that goes on");
    fpmd.finish();
}

#[test]
fn a_worker_that_goes_on_for_too_long_is_ended() {
    let pool = pool(&workers::c()).key("request_finish_timeout", "\"300ms\"");
    let mut fpmd = serving(Rig::new().pool(pool).expect("after its answer, terminating").expect("SIGKILL"));
    fpmd.descriptors_may_change();
    let pid: i32 = fpmd.address("www").get("/finish/60000").unwrap().text().parse().unwrap();
    fpmd.wait_log("after its answer, terminating");
    fpmd.wait_pool("www", "two other idle workers", |pool| {
        pool.idle_processes == 2 && pool.workers.iter().all(|worker| worker.pid.as_raw() != pid)
    });
    fpmd.finish();
}

/// Reload, recycling and stop wait for it as for a request.
#[test]
fn what_a_worker_goes_on_with_is_not_cut_short_by_a_reload() {
    let fpmd = serving(Rig::new().pool(pool(&workers::perl()).key("stop_signal", "\"SIGKILL\"")));
    let asked = Instant::now();
    let pid: i32 = fpmd.address("www").get("/finish/2500").unwrap().text().parse().unwrap();
    fpmd.ctl_done(&["reload"]);
    assert!(asked.elapsed() >= Duration::from_millis(2500), "{:?}", asked.elapsed());
    assert!(fpmd.workers("www").iter().all(|worker| *worker != pid));
    fpmd.finish();
}

/// A body that does not fit into a connection is on its way to a worker that does not accept it.
#[test]
fn nobody_waits_with_a_large_body_behind_one_that_goes_on() {
    for command in [workers::c(), workers::perl()] {
        let fpmd = serving(Rig::new().pool(pool(&command)));
        let mut queued = 0;
        let mut ask = |method: &'static str, path: String, length: usize| {
            let address = fpmd.address("www");
            let asked =
                thread::spawn(move || address.ask(method, &path, &vec![b'x'; length]).unwrap().text());
            queued += 1;
            fpmd.wait_pool("www", "that request", |pool| {
                pool.gateway.as_ref().is_some_and(|gateway| gateway.accepted_conn == queued)
            });
            asked
        };
        let begun = Instant::now();
        let other = ask("GET", "/slow/1500".into(), 0);
        let first = ask("GET", "/slow/500".into(), 0);
        let finishing = ask("GET", format!("/finish/{LONG}"), 0);
        let large = ask("POST", "/body".into(), 5 << 20);
        assert_eq!(finishing.join().unwrap(), first.join().unwrap());
        assert!(large.join().unwrap().starts_with("5242880 "));
        assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
        other.join().unwrap();
        assert_eq!(taken_back(&fpmd.pool("www")), 1);
        fpmd.wait_pool("www", "two idle workers", |pool| pool.idle_processes == 2);
        fpmd.finish();
    }
}
