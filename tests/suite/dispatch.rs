//! A reload that changes who accepts a pool's connections, to a gateway or to its workers, while clients never rest.

use std::thread;

use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig, fpmctl};
use crate::support::fastcgi::Address;
use crate::support::traffic::{Ask, Sample, Traffic};
use crate::support::web::Nginx;
use crate::support::{process, wait_until, workers};

const POOLS: [&str; 3] = ["php", "c", "go"];
const CLIENTS: usize = 12;
const WORKERS: u32 = 3;
const ASKS: [Ask; 3] = [Ask::Wait(1), Ask::Wait(30), Ask::Upload(1 << 20)];

fn command(pool: &str) -> Vec<String> {
    match pool {
        "php" => workers::php(),
        "c" => workers::c(),
        _ => workers::go(),
    }
}

fn pool(name: &str, dispatch: Dispatch) -> Pool {
    let pool = Pool::new(name, &command(name)).workers(WORKERS).dispatch(dispatch);
    if name != "c" {
        return pool;
    }
    pool.mode("dynamic").pm("start_servers", "2").pm("min_spare_servers", "1").pm("max_spare_servers", "2")
}

fn word(dispatch: Dispatch) -> &'static str {
    match dispatch {
        Dispatch::Direct => "direct",
        Dispatch::Gateway => "gateway",
    }
}

/// Every pool has been changed to this, and nothing is left of what it was before.
#[track_caller]
fn assert_is(fpmd: &Fpmd, dispatch: Dispatch, before: &[Vec<i32>]) {
    for (name, before) in POOLS.iter().zip(before) {
        let pool = fpmd.pool(name);
        assert_eq!((pool.dispatch.as_str(), pool.crashed, pool.killed), (word(dispatch), 0, 0), "{pool:?}");
        assert_eq!(pool.gateway.is_some(), dispatch == Dispatch::Gateway);
        assert!(!pool.workers.iter().any(|worker| before.contains(&worker.pid.as_raw())), "{pool:?}");
        wait_until("the old workers to be gone", || !before.iter().any(|pid| process::is_alive(*pid)));
    }
}

#[test]
fn nothing_is_lost_to_and_fro() {
    let mut rig = Rig::new().expect("server reached pm.max_children setting");
    for name in POOLS {
        rig = rig.pool(pool(name, Dispatch::Gateway));
    }
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    let upstreams = POOLS.map(|name| (name, format!("unix:{}", fpmd.socket(name).display())));
    let nginx = Nginx::start(&fpmd.rig.dir, &upstreams);
    let traffic = Traffic::start(nginx.socket(), &POOLS, CLIENTS, &ASKS);
    let mut accepted = [0; 3];
    for dispatch in [Dispatch::Direct, Dispatch::Gateway, Dispatch::Direct, Dispatch::Gateway] {
        let before = POOLS.map(|name| fpmd.workers(name));
        fpmd.rewrite(&POOLS.map(|name| pool(name, dispatch).key("umask", "\"022\"")));
        fpmd.ctl_done(&["reload"]);
        assert_is(&fpmd, dispatch, &before);
        for (name, accepted) in POOLS.iter().zip(&mut accepted) {
            let Some(gateway) = fpmd.pool(name).gateway else { continue };
            assert!(gateway.accepted_conn >= *accepted, "{} after {accepted}", gateway.accepted_conn);
            *accepted = gateway.accepted_conn;
        }
    }
    let samples = traffic.stop();
    let failed: Vec<&Sample> = samples.iter().filter(|sample| sample.failure.is_some()).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), samples.len());
    assert!(samples.len() > CLIENTS * 4, "{} requests", samples.len());
    assert!(accepted.iter().all(|accepted| *accepted > 0), "{accepted:?}");
    eprintln!("{} requests, none lost", samples.len());
    drop(nginx);
    fpmd.finish();
}

#[test]
fn new_workers_that_fail_leave_the_old_way_in_service() {
    for dispatch in [Dispatch::Gateway, Dispatch::Direct] {
        let other = if dispatch == Dispatch::Gateway { Dispatch::Direct } else { Dispatch::Gateway };
        let mut fpmd = Rig::new()
            .pool(Pool::new("www", &workers::c()).workers(2).dispatch(dispatch))
            .expect("cannot reload pool www")
            .expect("exited with code 3")
            .expect("no such database")
            .start();
        let before = fpmd.workers("www");
        let address = fpmd.address("www");
        let broken = workers::shell("echo 'no such database' >&2; exit 3");
        fpmd.rewrite(&[Pool::new("www", &broken).workers(2).dispatch(other)]);
        let ran = fpmd.ctl(&["reload"]);
        assert!(ran.code == Some(1) && ran.err.contains("no such database"), "{ran:?}");
        wait_until("the new workers to be gone", || fpmd.workers("www") == before);
        let pool = fpmd.pool("www");
        assert_eq!(
            (pool.dispatch.as_str(), pool.gateway.is_some()),
            (word(dispatch), dispatch == Dispatch::Gateway)
        );
        for _ in 0..20 {
            address.get("/pid").unwrap();
        }
        // And the change is still to be had.
        fpmd.descriptors_may_change();
        fpmd.rewrite(&[Pool::new("www", &workers::c()).workers(2).dispatch(other)]);
        fpmd.ctl_done(&["reload"]);
        assert_eq!(fpmd.pool("www").dispatch, word(other));
        address.get("/pid").unwrap();
        fpmd.finish();
    }
}

#[test]
fn what_is_at_work_and_what_waits_in_a_gateway_is_served() {
    let gateway = Pool::new("www", &workers::php()).workers(1).dispatch(Dispatch::Gateway);
    let mut fpmd = Rig::new().pool(gateway.clone()).start();
    fpmd.descriptors_may_change();
    let address = fpmd.address("www");
    let ask = |address: &Address| {
        let mut connection = address.connect().unwrap();
        connection.send("GET", "/slow/700", &[]).unwrap();
        connection
    };
    let mut asked: Vec<_> = (0..3).map(|_| ask(&address)).collect();
    wait_until("two to wait", || fpmd.pool("www").gateway.is_some_and(|gateway| gateway.listen_queue == 2));
    fpmd.rewrite(&[Pool::new("www", &workers::php())
        .workers(2)
        .listen(&["{dir}/moved.sock"])
        .dispatch(Dispatch::Direct)]);
    let socket = fpmd.control().to_str().unwrap().to_owned();
    let reload = thread::spawn(move || fpmctl(&["--socket", &socket, "reload"]));
    wait_until("the new way", || fpmd.pool("www").dispatch == "direct");
    fpmd.address("moved").get("/pid").unwrap();
    for connection in &mut asked {
        assert!(!connection.answer().unwrap().body.is_empty());
    }
    assert_eq!(reload.join().unwrap().code, Some(0));
    fpmd.ctl_done(&["upgrade"]);
    assert!(!fpmd.socket("www").exists());
    fpmd.address("moved").get("/pid").unwrap();
    fpmd.finish();
}

#[test]
fn whoever_is_overtaken_or_stopped_on_the_way_leaves_a_pool_that_serves() {
    let direct = || Pool::new("www", &workers::c()).workers(2).dispatch(Dispatch::Direct);
    let slow = || Pool::new("www", &workers::shell("exec sleep 30")).hasty().dispatch(Dispatch::Gateway);
    let mut fpmd = Rig::new().pool(direct()).expect("superseded").start();
    fpmd.descriptors_may_change();
    let address = fpmd.address("www");
    for round in 0..2 {
        fpmd.rewrite(&[slow()]);
        let socket = fpmd.control().to_str().unwrap().to_owned();
        let reload = thread::spawn(move || fpmctl(&["--socket", &socket, "reload"]));
        fpmd.wait_pool("www", "a worker of the next generation", |pool| {
            pool.workers.iter().any(|worker| worker.generation > pool.generation)
        });
        address.get("/pid").unwrap();
        fpmd.rewrite(&[direct()]);
        if round == 0 {
            fpmd.ctl_done(&["reload"]);
        } else {
            fpmd.ctl_done(&["stop", "www"]);
            fpmd.ctl_done(&["reload"]);
            fpmd.ctl_done(&["start", "www"]);
        }
        let ran = reload.join().unwrap();
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let pool = fpmd.pool("www");
        assert_eq!(
            (pool.dispatch.as_str(), pool.total_processes, pool.gateway.is_some()),
            ("direct", 2, false)
        );
        address.get("/pid").unwrap();
    }
    fpmd.finish();
}

#[test]
fn a_gateway_that_is_killed_on_the_way_to_direct_costs_only_what_was_in_it() {
    let pool = |dispatch| Pool::new("www", &workers::c()).workers(2).dispatch(dispatch);
    let mut fpmd = Rig::new().pool(pool(Dispatch::Gateway)).expect("gateway").start();
    fpmd.descriptors_may_change();
    let gateway = fpmd.pool("www").gateway.expect("a gateway").pid.as_raw();
    // It cannot say that it has made room.
    process::signal(gateway, Signal::SIGSTOP);
    fpmd.rewrite(&[pool(Dispatch::Direct)]);
    let socket = fpmd.control().to_str().unwrap().to_owned();
    let reload = thread::spawn(move || fpmctl(&["--socket", &socket, "reload"]));
    let address = fpmd.address("www");
    let mut waiting = address.connect().unwrap();
    waiting.send("GET", "/pid", &[]).unwrap();
    wait_until("the reload to begin", || fpmd.pool("www").state == "reloading");
    process::signal(gateway, Signal::SIGKILL);
    assert!(!waiting.answer().unwrap().body.is_empty());
    assert_eq!(reload.join().unwrap().code, Some(0));
    assert_eq!(fpmd.pool("www").dispatch, "direct");
    address.get("/pid").unwrap();
    fpmd.finish();
}
