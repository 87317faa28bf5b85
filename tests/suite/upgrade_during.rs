//! Upgrades in place while something is under way: a warm-up, a drain, changed bounds, a pool without workers.

use crate::gateway_life::routed;
use crate::support::daemon::{Dispatch, Pool, Rig};
use crate::support::{process, wait_until, workers};
use crate::upgrade::{beside, good, upgrade};

#[test]
fn a_warm_up_comes_to_its_end_and_is_asked_for_once() {
    let pool = routed("www", &workers::c()).workers(2).key("warmup_path", "\"/slow/1000\"");
    let fpmd = Rig::new().pool(pool).expect("SIGKILL").start();
    let victim = fpmd.workers("www")[0];
    process::end(victim);
    let pool = fpmd.wait_pool("www", "a new worker", |pool| {
        pool.started == 3 && pool.workers.iter().any(|worker| worker.state == "starting")
    });
    let newcomer = pool.workers.iter().map(|worker| worker.pid).max().unwrap();
    upgrade(&fpmd);
    let address = fpmd.address("www");
    good(address.get("/pid")).unwrap();
    let pool = fpmd.wait_pool("www", "both at work again", |pool| {
        pool.idle_processes == 2 && pool.workers.iter().all(|worker| worker.state == "running")
    });
    assert!(pool.workers.iter().any(|worker| worker.pid == newcomer), "{pool:?}");
    assert_eq!((pool.started, pool.crashed, pool.start_failures), (3, 1, 0), "{pool:?}");
    assert_eq!(pool.gateway.unwrap().accepted_conn, 1, "warm-ups are nobody's requests");
    fpmd.finish();
}

#[test]
fn a_drain_by_hand_is_answered_by_the_new_program_when_its_worker_is_done() {
    let fpmd = Rig::new().pool(routed("www", &workers::c())).start();
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/1500", b"").unwrap();
    let pool = fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    let worker = &pool.workers[0];
    let drain = beside(&fpmd, &["drain", &worker.pid.to_string()]);
    fpmd.wait_pool("www", "the drain", |pool| pool.workers.iter().any(|one| one.state == "draining"));
    upgrade(&fpmd);
    good(connection.answer()).unwrap();
    let drained = drain.join().unwrap();
    assert_eq!(drained.code, Some(0), "{drained:?}");
    wait_until("the drained worker to be gone", || !process::is_alive(worker.pid.as_raw()));
    good(fpmd.address("www").get("/pid")).unwrap();
    let pool = fpmd.pool("www");
    assert_eq!((pool.crashed, pool.killed), (0, 0), "{pool:?}");
    fpmd.finish();
}

#[test]
fn bounds_that_were_changed_by_hand_stay_until_the_file_changes() {
    let pool = routed("www", &workers::c()).mode("dynamic").workers(12);
    let pool = pool.pm("min_spare_servers", "1").pm("max_spare_servers", "3");
    let mut fpmd = Rig::new().pool(pool.clone()).start();
    fpmd.descriptors_may_change();
    fpmd.ctl_done(&["scale", "www", "4"]);
    upgrade(&fpmd);
    assert_eq!(fpmd.pool("www").max_children, 4);
    fpmd.ctl_done(&["reload"]);
    assert_eq!(fpmd.pool("www").max_children, 4);
    fpmd.rewrite(&[pool.workers(13)]);
    fpmd.ctl_done(&["reload"]);
    upgrade(&fpmd);
    assert_eq!(fpmd.pool("www").max_children, 13);
    fpmd.finish();
}

#[test]
fn a_pool_without_workers_starts_one_for_whoever_comes_afterwards() {
    for dispatch in [Dispatch::Gateway, Dispatch::Direct] {
        let pool = Pool::new("www", &workers::c()).dispatch(dispatch).mode("ondemand").workers(4);
        let mut fpmd = Rig::new().pool(pool.pm("process_idle_timeout", "\"500ms\"")).start();
        fpmd.descriptors_may_change();
        for started in 1..3 {
            upgrade(&fpmd);
            assert_eq!(fpmd.pool("www").total_processes, 0);
            good(fpmd.address("www").get("/pid")).unwrap();
            // The idle one goes after an upgrade, too.
            upgrade(&fpmd);
            let pool = fpmd.wait_pool("www", "nobody", |pool| pool.total_processes == 0);
            assert_eq!((pool.started, pool.crashed, pool.killed), (started, 0, 0), "{pool:?}");
        }
        fpmd.finish();
    }
}

#[test]
fn a_reload_that_fails_after_one_that_it_superseded_leaves_the_gateway_its_settings() {
    let pool = routed("www", &workers::c());
    let rig = Rig::new().pool(pool.clone()).expect("superseded").expect("cannot reload pool www");
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    // It never accepts, so that nobody takes it for ready.
    fpmd.rewrite(&[routed("www", &workers::shell("exec sleep 30")).hasty()]);
    let first = beside(&fpmd, &["reload"]);
    fpmd.wait_pool("www", "the first reload", |pool| pool.total_processes == 2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    fpmd.rewrite(&[pool.listen(&["{dir}/www.sock", &taken.local_addr().unwrap().to_string()])]);
    let second = fpmd.ctl(&["reload"]);
    assert_eq!((first.join().unwrap().code, second.code), (Some(1), Some(1)), "{second:?}");
    fpmd.wait_pool("www", "the old worker alone", |pool| pool.total_processes == 1);
    upgrade(&fpmd);
    good(fpmd.address("www").get("/pid")).unwrap();
    assert!(fpmd.pool("www").gateway.is_some());
    fpmd.finish();
}
