//! Workers that are replaced although nothing is wrong with them: at the end of their lives, for the memory that they keep.
//! No request is lost by it, nobody busy is hurried, and it is counted by reason.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fpmd::status::snapshot::PoolSnapshot;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::{Fpmd, Pool, Rig};
use crate::support::{Load, wait_until, workers};

const MEGABYTE: usize = 1024 * 1024;

fn direct(command: &[String]) -> Pool {
    Pool::new("www", command)
}

fn load(fpmd: &Fpmd) -> Load {
    let address = fpmd.address("www");
    Load::start(3, move || match address.get("/slow/3") {
        Ok(answer) if !answer.body.is_empty() && !answer.head.starts_with("Status: 5") => Ok(()),
        Ok(answer) => Err(answer.head),
        Err(error) => Err(error.to_string()),
    })
}

/// Every worker is replaced again and again, under load.
#[track_caller]
fn assert_lives_end(pool: Pool) {
    let pool = pool.workers(4).pm("max_lifetime", "\"400ms\"").pm("max_lifetime_jitter", "\"300ms\"");
    let mut fpmd = Rig::new().pool(pool).expect("after SIGTERM").start();
    fpmd.descriptors_may_change();
    let first: BTreeSet<i32> = fpmd.workers("www").into_iter().collect();
    let load = load(&fpmd);
    let pool =
        fpmd.wait_pool("www", "eight that have lived for long enough", |pool| pool.recycled_lifetime >= 8);
    assert!(pool.total_processes <= 8, "{pool:?}");
    let (served, bad) = load.stop();
    assert_eq!(bad, [""; 0]);
    assert!(served > 20, "{served}");
    let pool = fpmd.pool("www");
    assert_eq!((pool.crashed, pool.killed, pool.recycled_memory), (0, 0, 0), "{pool:?}");
    assert!(pool.workers.iter().all(|worker| !first.contains(&worker.pid.as_raw())));
    fpmd.finish();
}

#[test]
fn lives_end_without_a_loss_with_libfcgi() {
    assert_lives_end(routed("www", &workers::c()));
}

#[test]
fn lives_end_without_a_loss_with_php_cgi() {
    assert_lives_end(routed("www", &workers::php()));
}

#[test]
fn lives_end_without_a_loss_with_perl_in_direct_mode() {
    assert_lives_end(direct(&workers::perl()));
}

/// A request that takes longer than `stop_timeout` is not ended for that.
#[test]
fn a_busy_worker_is_not_hurried() {
    let pool =
        routed("www", &workers::perl()).pm("max_lifetime", "\"500ms\"").key("stop_timeout", "\"200ms\"");
    let mut fpmd = serving(Rig::new().pool(pool));
    fpmd.descriptors_may_change();
    let begun = Instant::now();
    let address = fpmd.address("www");
    let pid = address.get("/slow/4000").unwrap().text();
    assert!(begun.elapsed() >= Duration::from_secs(4));
    wait_until("its end", || !fpmd.workers("www").iter().any(|worker| worker.to_string() == pid));
    assert_eq!(fpmd.pool("www").killed, 0);
    fpmd.finish();
}

#[test]
fn a_changed_lifetime_is_applied_at_once() {
    let pool = || routed("www", &workers::c()).workers(2);
    let mut fpmd = serving(Rig::new().pool(pool().pm("max_lifetime", "\"1h\"")));
    fpmd.descriptors_may_change();
    let first = fpmd.workers("www");
    fpmd.rewrite(&[pool().pm("max_lifetime", "\"200ms\"")]);
    fpmd.ctl_done(&["reload", "--changed"]);
    fpmd.wait_pool("www", "two others", |pool| {
        pool.recycled_lifetime >= 2 && pool.workers.iter().all(|worker| !first.contains(&worker.pid.as_raw()))
    });
    fpmd.finish();
}

#[track_caller]
fn assert_weighed(pool: Pool) {
    let pool = pool.workers(2).pm("max_memory", "\"30M\"");
    let mut fpmd = Rig::new().pool(pool).start();
    fpmd.descriptors_may_change();
    let address = fpmd.address("www");
    for _ in 0..10 {
        address.get("/pid").unwrap();
    }
    let large = address.get(&format!("/hold/{}", 60 * MEGABYTE)).unwrap().text();
    let is_replaced = |pool: &PoolSnapshot| {
        let gone = pool.workers.iter().all(|worker| worker.pid.to_string() != large);
        gone && pool.recycled_memory == 1 && pool.total_processes == 2
    };
    wait_until("its replacement", || {
        // Where there is a gateway, it looks once a second at most, after an answer.
        address.get("/pid").unwrap();
        is_replaced(&fpmd.pool("www"))
    });
    let pool = fpmd.pool("www");
    assert_eq!((pool.recycled, pool.crashed, pool.started), (1, 0, 3), "{pool:?}");
    fpmd.finish();
}

#[test]
fn a_worker_that_keeps_too_much_memory_is_replaced() {
    assert_weighed(routed("www", &workers::c()));
}

#[test]
fn a_worker_that_keeps_too_much_memory_is_replaced_with_perl() {
    assert_weighed(routed("www", &workers::perl()));
}

#[test]
fn a_worker_that_keeps_too_much_memory_is_replaced_in_direct_mode() {
    assert_weighed(direct(&workers::c()));
}
