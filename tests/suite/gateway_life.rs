//! Pools with a gateway over their lives: started, killed piece by piece, reloaded, reopened, stopped; and what is known
//! of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use fpmd::status::snapshot::Activity;
use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::web::Nginx;
use crate::support::{Load, as_root, process, wait_until, workers};

/// A pool whose requests come through a gateway.
pub fn routed(name: &str, command: &[String]) -> Pool {
    Pool::new(name, command).dispatch(Dispatch::Gateway)
}

/// Starts it and waits until every worker has been let in.
#[track_caller]
pub fn serving(rig: Rig) -> Fpmd {
    let fpmd = rig.start();
    for pool in fpmd.snapshot().pools {
        fpmd.wait_pool(pool.name.as_str(), "idle workers", |pool| pool.idle_processes == pool.max_children);
    }
    fpmd
}

#[track_caller]
fn gateway_of(fpmd: &Fpmd) -> i32 {
    let pool = fpmd.wait_pool("www", "a gateway that answers", |pool| pool.gateway.is_some());
    pool.gateway.unwrap().pid.as_raw()
}

fn good(answer: std::io::Result<crate::support::fastcgi::Answer>) -> Result<(), String> {
    match answer {
        Ok(answer) if !answer.head.starts_with("Status: 5") && !answer.body.is_empty() => Ok(()),
        Ok(answer) => Err(answer.head),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_request_is_counted() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php()).workers(2)));
    let mut served: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..50 {
        *served.entry(fpmd.address("www").get("/pid").unwrap().text()).or_default() += 1;
    }
    let pool = fpmd.pool("www");
    assert_eq!((pool.dispatch.as_str(), pool.activity_method.as_str()), ("gateway", "exact, by the gateway"));
    let gateway = pool.gateway.as_ref().unwrap();
    assert_eq!((gateway.accepted_conn, gateway.server_errors, gateway.broken), (50, 0, 0));
    assert_eq!((pool.idle_processes, pool.active_processes), (2, 0));
    for worker in &pool.workers {
        let known = served.get(&worker.pid.to_string()).copied().unwrap_or(0);
        assert_eq!(worker.requests, Some(known), "worker {}", worker.pid);
    }
    fpmd.finish();
}

#[test]
fn a_busy_worker_and_a_waiting_request_are_seen_as_they_are() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let slow: Vec<_> = (0..3)
        .map(|_| {
            let address = fpmd.address("www");
            std::thread::spawn(move || good(address.get("/slow/1500")))
        })
        .collect();
    let pool = fpmd.wait_pool("www", "one request at work and two waiting", |pool| {
        pool.gateway.as_ref().is_some_and(|gateway| gateway.listen_queue == 2)
    });
    assert_eq!((pool.idle_processes, pool.active_processes), (0, 1));
    assert_eq!((pool.workers[0].activity, pool.workers[0].connections), (Activity::Busy, Some(1)));
    slow.into_iter().for_each(|slow| slow.join().unwrap().unwrap());
    let gateway = fpmd.pool("www").gateway.unwrap();
    assert_eq!((gateway.accepted_conn, gateway.max_listen_queue, gateway.listen_queue), (3, 2, 0));
    assert_eq!(gateway.max_active_processes, 1);
    fpmd.finish();
}

#[test]
fn a_gateway_has_no_privilege_and_runs_as_nobody() {
    if !as_root("the gateway's user") {
        return;
    }
    let fpmd = serving(Rig::new().global("gateway_user", "\"nobody\"").pool(routed("www", &workers::c())));
    let pid = gateway_of(&fpmd);
    let line = |name| process::status_line(pid, name).unwrap();
    assert_eq!(line("Uid"), "65534\t65534\t65534\t65534");
    assert_eq!(line("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!(line("NoNewPrivs"), "1");
    assert_eq!(process::environment(pid), Some(BTreeMap::new()));
    fpmd.finish();
}

#[test]
fn a_web_server_in_front_is_served_with_bodies() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php()).workers(2)));
    let nginx = Nginx::start(&fpmd.rig.dir, &[("www", format!("unix:{}", fpmd.socket("www").display()))]);
    for size in [0, 1, 8_192, 65_535, 1_048_576] {
        let body = fpmd.rig.dir.write("body", &"x".repeat(size));
        let option = format!("@{}", body.display());
        let page = nginx.page("/www/body", &["--data-binary", &option]).unwrap();
        assert_eq!(page.split(' ').next(), Some(size.to_string().as_str()));
        assert_eq!(nginx.curl(&format!("/www/big/{size}"), &[]).unwrap().len(), size);
    }
    fpmd.finish();
}

#[test]
fn killed_workers_cost_at_most_the_requests_in_them() {
    const KILLS: usize = 10;
    let rig = Rig::new()
        .pool(routed("www", &workers::php()).workers(3))
        .expect("exited on signal 9")
        .expect("young")
        .expect("closed its connection");
    let mut fpmd = serving(rig);
    fpmd.descriptors_may_change();
    let address = fpmd.address("www");
    let load = Load::start(4, move || good(address.get("/slow/5")));
    for _ in 0..KILLS {
        let before = fpmd.workers("www");
        process::signal(before[0], Signal::SIGKILL);
        fpmd.wait_pool("www", "a replacement", |pool| {
            let gone = pool.workers.iter().all(|worker| worker.pid.as_raw() != before[0]);
            gone && pool.total_processes == 3
        });
        load.wait_for_more(6);
    }
    let (served, bad) = load.stop();
    assert!(served > 50, "{served}");
    assert!(bad.len() <= KILLS, "{bad:?}");
    let broken = fpmd.pool("www").gateway.unwrap();
    assert!(broken.broken + broken.retried <= KILLS as u64, "{broken:?}");
    fpmd.finish();
}

/// Where nobody needs to come after it, nobody would ever accept on its slot.
#[test]
fn what_waits_for_a_killed_worker_is_served_where_workers_follow_demand() {
    for mode in ["ondemand", "dynamic"] {
        let pool = routed("www", &workers::c()).mode(mode).workers(12);
        let pool = match mode {
            "dynamic" => pool.pm("min_spare_servers", "1").pm("max_spare_servers", "3"),
            _ => pool,
        };
        let mut fpmd = Rig::new().pool(pool).expect("exited on signal 9").start();
        fpmd.descriptors_may_change();
        good(fpmd.address("www").get("/pid")).unwrap();
        let before = fpmd.wait_pool("www", "idle workers", |pool| pool.idle_processes > 0);
        let workers: Vec<i32> = before.workers.iter().map(|worker| worker.pid.as_raw()).collect();
        workers.iter().for_each(|pid| process::signal(*pid, Signal::SIGSTOP));
        let stopped = |pid: &i32| process::process(*pid).is_some_and(|one| one.state == 'T');
        wait_until("stopped workers", || workers.iter().all(stopped));
        let ask = |_| {
            let address = fpmd.address("www");
            std::thread::spawn(move || good(address.get("/pid")))
        };
        let clients: Vec<_> = workers.iter().map(ask).collect();
        fpmd.wait_pool("www", "all at work", |pool| pool.active_processes as usize >= workers.len());
        workers.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
        clients.into_iter().for_each(|client| client.join().unwrap().unwrap());
        let gateway = fpmd.pool("www").gateway.unwrap();
        assert_eq!(gateway.broken, 0, "{gateway:?}");
        fpmd.finish();
    }
}

#[test]
fn a_killed_gateway_comes_back_and_its_workers_stay() {
    let rig = Rig::new().pool(routed("www", &workers::php()).workers(2)).expect("exited on signal 9");
    let fpmd = serving(rig);
    let before = fpmd.workers("www");
    for _ in 0..3 {
        let gateway = gateway_of(&fpmd);
        process::signal(gateway, Signal::SIGKILL);
        wait_until("another gateway", || gateway_of(&fpmd) != gateway);
        good(fpmd.address("www").get("/pid")).unwrap();
    }
    assert_eq!(fpmd.workers("www"), before);
    fpmd.finish();
}

#[test]
fn a_gateway_killed_under_load_costs_the_requests_in_it() {
    const CLIENTS: usize = 4;
    const KILLS: usize = 3;
    let rig = Rig::new().pool(routed("www", &workers::php()).workers(2)).expect("exited on signal 9");
    let fpmd = serving(rig);
    let (before, address) = (fpmd.workers("www"), fpmd.address("www"));
    let load = Load::start(CLIENTS, move || good(address.get("/slow/5")));
    for _ in 0..KILLS {
        let gateway = gateway_of(&fpmd);
        process::signal(gateway, Signal::SIGKILL);
        wait_until("another gateway", || gateway_of(&fpmd) != gateway);
        load.wait_for_more(1);
    }
    let (served, bad) = load.stop();
    assert!(bad.len() <= KILLS * CLIENTS, "{bad:?}");
    assert!(served > 0);
    assert_eq!(fpmd.workers("www"), before);
    fpmd.finish();
}

#[test]
fn a_killed_master_takes_its_gateway_along_and_the_next_one_starts() {
    let mut fpmd = serving(Rig::new().pool(routed("www", &workers::php()).workers(2)));
    let family = [fpmd.workers("www"), vec![gateway_of(&fpmd)]].concat();
    fpmd.kill_master();
    wait_until("workers and gateway to be gone", || !family.iter().any(|pid| process::is_alive(*pid)));
    let fpmd = fpmd.start_again();
    good(fpmd.address("www").get("/pid")).unwrap();
    fpmd.finish();
}

#[test]
fn a_gateway_that_keeps_ending_is_told_and_tried_again() {
    let rig = Rig::new().pool(routed("www", &workers::c())).expect("exited on signal 9");
    let fpmd = serving(rig);
    let tried = |fpmd: &Fpmd| fpmd.ctl(&["health"]).code != Some(0);
    wait_until("a health that says so", || {
        let gateways = process::children(fpmd.pid());
        let is_gateway =
            |pid: &&i32| process::arguments(**pid).iter().any(|word| word.starts_with("fpmd-gateway"));
        if let Some(pid) = gateways.iter().find(is_gateway) {
            process::end(*pid);
        }
        tried(&fpmd)
    });
    fpmd.wait_log("starting another in");
    wait_until("a healthy pool", || fpmd.ctl(&["health"]).code == Some(0));
    good(fpmd.address("www").get("/pid")).unwrap();
    fpmd.finish();
}

#[test]
fn a_stuck_gateway_holds_up_nobody_who_asks_for_the_status() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::c())).pool(routed("api", &workers::c())));
    let gateway = gateway_of(&fpmd);
    process::signal(gateway, Signal::SIGSTOP);
    let asked = Instant::now();
    let snapshot = fpmd.snapshot();
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    let [api, www] = &snapshot.pools[..] else { panic!("{snapshot:?}") };
    assert!(api.gateway.is_some() && www.gateway.is_none());
    assert_eq!(www.activity_method, "unknown: the gateway does not answer");
    assert_eq!(www.workers[0].activity, Activity::Unknown);
    fpmd.ctl_done(&["health"]);
    process::signal(gateway, Signal::SIGCONT);
    gateway_of(&fpmd);
    fpmd.finish();
}

/// Reloads again and again under load; every request has to be answered.
#[track_caller]
fn assert_lossless(command: &[String], reloads: usize) {
    let fpmd = serving(Rig::new().pool(routed("www", command).workers(2)).expect("after SIGTERM"));
    let address = fpmd.address("www");
    let load = Load::start(4, move || good(address.get("/slow/5")));
    for _ in 0..reloads {
        let before = fpmd.workers("www");
        fpmd.ctl_done(&["reload"]);
        wait_until("the old workers to be gone", || !before.iter().any(|pid| process::is_alive(*pid)));
        load.wait_for_more(7);
    }
    let (served, bad) = load.stop();
    assert_eq!(bad, [""; 0]);
    assert!(served > 20, "{served}");
    let pool = fpmd.pool("www");
    let gateway = pool.gateway.as_ref().unwrap();
    assert_eq!((pool.crashed, gateway.broken, gateway.retried), (0, 0, 0), "{pool:?}");
    assert_eq!(gateway.accepted_conn, served);
    fpmd.finish();
}

#[test]
fn a_reload_under_load_loses_nothing_with_php_cgi() {
    assert_lossless(&workers::php(), 5);
}

#[test]
fn a_reload_under_load_loses_nothing_with_libfcgi() {
    assert_lossless(&workers::c(), 5);
}

#[test]
fn a_reload_under_load_loses_nothing_with_perl() {
    assert_lossless(&workers::perl(), 3);
}

/// In direct mode this one cannot be kept from losing requests.
#[test]
fn a_reload_under_load_loses_nothing_with_flup() {
    assert_lossless(&workers::flup("threaded"), 3);
}

#[test]
fn new_settings_reach_the_gateway() {
    let mut fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let ask = |fpmd: &Fpmd| fpmd.address("www").get("/ping").map(|answer| answer.text());
    assert_ne!(ask(&fpmd).unwrap(), "here");
    let gateway = gateway_of(&fpmd);
    fpmd.rewrite(&[routed("www", &workers::php())
        .key("ping_path", "\"/ping\"")
        .key("ping_response", "\"here\"")]);
    fpmd.ctl_done(&["reload"]);
    assert_eq!(gateway_of(&fpmd), gateway, "it stays");
    fpmd.finish();
}

#[test]
fn log_files_are_reopened_after_a_rotation() {
    let fpmd = serving(Rig::new().pool(
        routed("www", &workers::php()).key("access_log", "\"{dir}/access\"").key("access_format", "\"%r\""),
    ));
    let lines = |name: &str| fs::read_to_string(fpmd.rig.dir.join(name)).unwrap_or_default().lines().count();
    fpmd.address("www").get("/pid").unwrap();
    wait_until("a line", || lines("access") == 1);
    fs::rename(fpmd.rig.dir.join("access"), fpmd.rig.dir.join("access.1")).unwrap();
    fpmd.signal(Signal::SIGUSR1);
    wait_until("a new file", || fpmd.rig.dir.join("access").exists());
    fpmd.ctl_done(&["status"]);
    fpmd.address("www").get("/pid").unwrap();
    wait_until("a line in the new file", || lines("access") == 1);
    assert_eq!(lines("access.1"), 1);
    fpmd.finish();
}

#[test]
fn a_stop_serves_what_waits() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::php())));
    let slow: Vec<_> = (0..3)
        .map(|_| {
            let address = fpmd.address("www");
            std::thread::spawn(move || good(address.get("/slow/400")))
        })
        .collect();
    fpmd.wait_pool("www", "two requests waiting", |pool| {
        pool.gateway.as_ref().is_some_and(|gateway| gateway.listen_queue == 2)
    });
    fpmd.signal(Signal::SIGTERM);
    slow.into_iter().for_each(|slow| slow.join().unwrap().unwrap());
    fpmd.finish_stopped();
}

#[test]
fn what_waits_when_the_last_worker_is_gone_is_refused_and_not_dropped() {
    // It never comes to accept: one request waits on its slot, the other in the gateway.
    let mut fpmd = Rig::new().pool(routed("www", &workers::sleep()).hasty()).start();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let address = fpmd.address("www");
            std::thread::spawn(move || address.get("/pid"))
        })
        .collect();
    fpmd.wait_pool("www", "a request waiting", |pool| {
        pool.gateway.as_ref().is_some_and(|gateway| gateway.accepted_conn == 2 && gateway.listen_queue == 1)
    });
    fpmd.signal(Signal::SIGTERM);
    for waits in waiting {
        let refused = waits.join().unwrap().unwrap();
        assert!(refused.head.starts_with("Status: 50"), "{refused:?}");
    }
    fpmd.expect("after SIGTERM");
    fpmd.finish_stopped();
}
