//! What a gateway enforces: requests a worker, time a request, room in the queue, who may connect.

use std::net::SocketAddr;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::Rig;
use crate::support::fastcgi::Address;
use crate::support::{wait_until, workers};

#[test]
fn a_worker_serves_exactly_max_requests() {
    let pool = routed("www", &workers::php()).pm("max_requests", "5");
    let mut fpmd = serving(Rig::new().pool(pool));
    fpmd.descriptors_may_change();
    let pids: Vec<String> = (0..20).map(|_| fpmd.address("www").get("/pid").unwrap().text()).collect();
    for five in pids.chunks(5) {
        assert!(five.iter().all(|pid| *pid == five[0]), "{pids:?}");
    }
    let distinct: std::collections::BTreeSet<&String> = pids.iter().collect();
    assert_eq!(distinct.len(), 4, "{pids:?}");
    fpmd.wait_pool("www", "four recycled workers", |pool| pool.recycled == 4);
    assert_eq!(fpmd.pool("www").crashed, 0);
    fpmd.finish();
}

#[test]
fn a_worker_that_a_signal_ends_counts_as_recycled_too() {
    let pool = routed("www", &workers::c()).pm("max_requests", "3").key("stop_signal", "\"SIGKILL\"");
    let mut fpmd = serving(Rig::new().pool(pool));
    fpmd.descriptors_may_change();
    (0..9).for_each(|_| drop(fpmd.address("www").get("/pid").unwrap()));
    let pool = fpmd.wait_pool("www", "three recycled workers", |pool| pool.recycled == 3);
    assert_eq!((pool.crashed, pool.killed), (0, 0));
    fpmd.finish();
}

#[test]
fn a_request_that_takes_too_long_gets_504_and_its_worker_goes() {
    let pool = routed("www", &workers::php()).key("request_terminate_timeout", "\"300ms\"");
    let mut fpmd = serving(Rig::new().pool(pool).expect("terminating").expect("SIGKILL"));
    fpmd.descriptors_may_change();
    let before = fpmd.workers("www");
    let answer = fpmd.address("www").get("/slow/5000").unwrap();
    assert!(answer.head.starts_with("Status: 504"), "{answer:?}");
    fpmd.wait_log(&format!("child {}", before[0]));
    assert!(fpmd.log().contains("/slow/5000"), "{}", fpmd.log());
    let quick = fpmd.address("www").get("/pid").unwrap().text();
    assert_ne!(quick, before[0].to_string());
    let pool = fpmd.wait_pool("www", "one worker", |pool| pool.total_processes == 1);
    assert_eq!(pool.gateway.unwrap().timed_out, 1);
    fpmd.finish();
}

#[test]
fn a_full_queue_is_answered_with_503() {
    let pool = routed("www", &workers::php()).key("queue_limit", "1");
    let fpmd = serving(Rig::new().pool(pool));
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let address = fpmd.address("www");
            std::thread::spawn(move || address.get("/slow/1000").unwrap().text())
        })
        .collect();
    fpmd.wait_pool("www", "one waiting", |pool| {
        pool.gateway.as_ref().is_some_and(|gateway| gateway.listen_queue == 1)
    });
    let refused = fpmd.address("www").get("/pid").unwrap();
    assert!(refused.head.starts_with("Status: 503"), "{refused:?}");
    assert!(refused.head.contains("Retry-After: "), "{refused:?}");
    slow.into_iter().for_each(|slow| assert!(!slow.join().unwrap().is_empty()));
    assert_eq!(fpmd.pool("www").gateway.unwrap().refused_full, 1);
    fpmd.finish();
}

#[test]
fn a_request_that_waits_too_long_is_answered_with_503() {
    let pool = routed("www", &workers::php()).key("queue_timeout", "\"200ms\"");
    let fpmd = serving(Rig::new().pool(pool));
    let address = fpmd.address("www");
    let slow = std::thread::spawn(move || address.get("/slow/1500").unwrap().text());
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let refused = fpmd.address("www").get("/pid").unwrap();
    assert!(refused.head.starts_with("Status: 503"), "{refused:?}");
    assert!(!slow.join().unwrap().is_empty());
    assert_eq!(fpmd.pool("www").gateway.unwrap().refused_late, 1);
    fpmd.finish();
}

#[test]
fn only_allowed_clients_are_served_over_tcp() {
    let pool =
        |clients: &str| routed("www", &workers::c()).listen(&["127.0.0.1:0"]).key("allowed_clients", clients);
    for (clients, is_served) in [("[\"127.0.0.0/8\"]", true), ("[\"192.0.2.1\"]", false)] {
        let fpmd = serving(Rig::new().pool(pool(clients)).expect("127.0.0.1"));
        let address: SocketAddr = fpmd.pool("www").listeners[0].address.parse().unwrap();
        let served = Address::Tcp(address).get("/pid").is_ok_and(|answer| !answer.body.is_empty());
        assert_eq!(served, is_served, "{clients}");
        fpmd.finish();
    }
}

#[test]
fn the_slot_of_a_dead_worker_is_its_replacement_s() {
    let rig = Rig::new().pool(routed("www", &workers::c())).expect("exited on signal 9");
    let fpmd = serving(rig);
    let slot = fpmd.rig.dir.join("run/slots/www/0.sock");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&slot).unwrap());
    let before = fpmd.workers("www")[0];
    crate::support::process::signal(before, nix::sys::signal::Signal::SIGKILL);
    wait_until("a replacement", || fpmd.workers("www").first().is_some_and(|pid| *pid != before));
    fpmd.address("www").get("/pid").unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&slot).unwrap()), inode);
    fpmd.finish();
}
