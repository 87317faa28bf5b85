//! Pools whose number of workers follows demand: they grow with a burst, shrink when it is over, begin with nobody, and
//! cost nothing while nothing happens.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::fastcgi::Connection;
use crate::support::{wait_until, workers};

const BOTH: [Dispatch; 2] = [Dispatch::Gateway, Dispatch::Direct];

fn following(mode: &str, command: &[String], dispatch: Dispatch) -> Pool {
    Pool::new("www", command)
        .dispatch(dispatch)
        .mode(mode)
        .workers(12)
        .pm("process_idle_timeout", "\"500ms\"")
}

fn dynamic(command: &[String], dispatch: Dispatch) -> Pool {
    following("dynamic", command, dispatch).pm("min_spare_servers", "1").pm("max_spare_servers", "3")
}

/// So many requests at once, each of which takes `millis`.
#[track_caller]
fn crowd(fpmd: &Fpmd, pool: &str, requests: usize, millis: u32) -> Vec<Connection> {
    let mut crowd: Vec<_> = (0..requests).map(|_| fpmd.address(pool).connect().unwrap()).collect();
    for connection in &mut crowd {
        connection.send("GET", &format!("/slow/{millis}"), &[]).unwrap();
    }
    crowd
}

#[track_caller]
fn answered(crowd: Vec<Connection>) {
    for mut connection in crowd {
        assert!(!connection.answer().unwrap().body.is_empty());
    }
}

#[test]
fn a_burst_gets_a_worker_for_each_request_and_they_go_when_it_is_over() {
    for dispatch in BOTH {
        for command in [workers::php(), workers::c()] {
            let mut fpmd = Rig::new().pool(dynamic(&command, dispatch)).start();
            let pool = fpmd.wait_pool("www", "start_servers", |pool| pool.idle_processes == 2);
            assert_eq!((pool.process_manager.as_str(), pool.max_children), ("dynamic", 12));
            let crowd = crowd(&fpmd, "www", 10, 4000);
            fpmd.wait_pool("www", "ten at work", |pool| pool.active_processes == 10);
            let pool = fpmd.wait_pool("www", "and one spare", |pool| pool.total_processes >= 11);
            assert!(pool.total_processes <= 12);
            answered(crowd);
            let pool = fpmd.wait_pool("www", "three idle ones", |pool| pool.total_processes == 3);
            assert_eq!((pool.crashed, pool.killed, pool.idle_processes), (0, 0, 3));
            assert_eq!((pool.recycled, pool.recycled_idle), (pool.started - 3, pool.started - 3));
            fpmd.descriptors_may_change();
            fpmd.finish();
        }
    }
}

#[test]
fn a_request_to_an_ondemand_pool_without_workers_waits_for_one() {
    for dispatch in BOTH {
        for command in [workers::php(), workers::c()] {
            let mut fpmd = Rig::new().pool(following("ondemand", &command, dispatch)).start();
            assert_eq!((fpmd.pool("www").total_processes, fpmd.pool("www").state.as_str()), (0, "running"));
            fpmd.ctl_done(&["health"]);
            for _ in 0..2 {
                assert!(!fpmd.address("www").get("/pid").unwrap().body.is_empty());
                fpmd.wait_pool("www", "nobody", |pool| pool.total_processes == 0);
                fpmd.ctl_done(&["health", "www"]);
            }
            let crowd = crowd(&fpmd, "www", 10, 2000);
            fpmd.wait_pool("www", "ten at work", |pool| pool.active_processes == 10);
            answered(crowd);
            fpmd.wait_pool("www", "nobody", |pool| pool.total_processes == 0);
            fpmd.ctl_done(&["reload"]);
            fpmd.wait_pool("www", "nobody after a reload", |pool| pool.total_processes == 0);
            fpmd.descriptors_may_change();
            fpmd.finish();
        }
    }
}

/// Times that a process has gone to sleep or was interrupted.
fn switches(pid: i32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect()
}

#[test]
fn a_pool_at_rest_costs_no_wake_up() {
    for dispatch in BOTH {
        let mut fpmd = Rig::new()
            .pool(dynamic(&workers::c(), dispatch))
            .pool(Pool::new("api", &workers::c()).dispatch(dispatch).mode("ondemand").workers(4))
            .start();
        fpmd.wait_pool("www", "start_servers", |pool| pool.idle_processes == 2);
        for _ in 0..10 {
            fpmd.address("www").get("/pid").unwrap();
        }
        let gateway = fpmd.pool("www").gateway.map(|gateway| gateway.pid.as_raw());
        let everyone: Vec<i32> = gateway.into_iter().chain([fpmd.pid()]).collect();
        wait_until("a second in which nobody wakes up", || {
            let before: Vec<_> = everyone.iter().map(|pid| switches(*pid)).collect();
            thread::sleep(Duration::from_secs(1));
            before == everyone.iter().map(|pid| switches(*pid)).collect::<Vec<_>>()
        });
        fpmd.descriptors_may_change();
        fpmd.finish();
    }
}

#[test]
fn max_children_is_a_bound_and_reaching_it_is_told() {
    for dispatch in BOTH {
        let said = "[pool www] server reached pm.max_children setting (3), consider raising it";
        let pool = following("ondemand", &workers::c(), dispatch).workers(3);
        let mut fpmd = Rig::new().pool(pool).expect(said).start();
        let crowd = crowd(&fpmd, "www", 6, 700);
        fpmd.wait_log(said);
        let pool = fpmd.wait_pool("www", "three at work", |pool| pool.active_processes == 3);
        assert_eq!((pool.total_processes, pool.max_children_reached), (3, 1));
        answered(crowd);
        assert_eq!(fpmd.log().matches(said).count(), 1);
        fpmd.descriptors_may_change();
        fpmd.finish();
    }
}

#[test]
fn one_pool_cannot_take_what_process_max_reserves_for_another() {
    for dispatch in BOTH {
        let other = Pool::new("api", &workers::c()).dispatch(dispatch).mode("ondemand").workers(4);
        let mut fpmd = Rig::new()
            .global("process_max", "5")
            .pool(dynamic(&workers::c(), dispatch))
            .pool(other)
            .expect("wants more children than process_max allows")
            .start();
        let crowd = crowd(&fpmd, "www", 10, 1500);
        fpmd.wait_log("wants more children than process_max allows");
        fpmd.wait_pool("www", "four at work", |pool| pool.active_processes == 4);
        assert!(!fpmd.address("api").get("/pid").unwrap().body.is_empty());
        let pools = fpmd.snapshot().pools;
        assert!(pools.iter().map(|pool| pool.total_processes).sum::<u32>() <= 5, "{pools:?}");
        answered(crowd);
        fpmd.descriptors_may_change();
        fpmd.finish();
    }
}

#[test]
fn a_scale_changes_the_bound_until_the_file_does() {
    let pool = dynamic(&workers::c(), Dispatch::Gateway);
    let mut fpmd = Rig::new().pool(pool.clone()).expect("server reached pm.max_children setting (4)").start();
    assert_eq!(fpmd.ctl_done(&["scale", "www", "4"]), "www is running with 2 workers, at most 4\n");
    let crowd = crowd(&fpmd, "www", 8, 500);
    fpmd.wait_log("server reached pm.max_children setting (4)");
    answered(crowd);
    fpmd.ctl_done(&["reload"]);
    assert_eq!(fpmd.pool("www").max_children, 4);
    fpmd.rewrite(&[pool.workers(13)]);
    fpmd.ctl_done(&["reload"]);
    assert_eq!(fpmd.pool("www").max_children, 13);
    fpmd.descriptors_may_change();
    fpmd.finish();
}

#[test]
fn a_number_that_cannot_be_is_refused_with_the_reason_and_changes_nothing() {
    for dispatch in BOTH {
        let fixed = Pool::new("www", &workers::c()).workers(2).dispatch(dispatch);
        let other = Pool::new("api", &workers::c()).workers(2).dispatch(dispatch);
        let fpmd = Rig::new().global("process_max", "5").pool(fixed).pool(other).start();
        let before = fpmd.workers("www");
        let refused = [
            ("www", "0", 2, "from 1 to 4194304"),
            ("wwww", "2", 1, "wwww"),
            ("www", "4", 1, "process_max leaves it 3"),
            ("www", "4194305", 2, "4194304"),
            ("www", "-1", 2, "-1"),
        ];
        for (pool, number, code, why) in refused {
            let ran = fpmd.ctl(&["scale", "--", pool, number]);
            assert!(ran.code == Some(code) && ran.err.contains(why), "{pool} {number}: {ran:?}");
            assert_eq!((fpmd.workers("www"), fpmd.pool("www").max_children), (before.clone(), 2));
        }
        fpmd.ctl_done(&["scale", "www", "3"]);
        fpmd.ctl_done(&["scale", "www", "2"]);
        fpmd.finish();
    }
}
