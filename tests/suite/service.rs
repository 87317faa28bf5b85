//! What a service manager hears from fpmd: sd_notify(3), with a manager of our own.

use nix::sys::signal::Signal;

use crate::support::daemon::{Fpmd, Pool, Rig};
use crate::support::{wait_until, workers};

#[track_caller]
fn wait_told(fpmd: &mut Fpmd, piece: &str, times: usize) {
    wait_until(&format!("{piece} {times} times"), || fpmd.notified().matches(piece).count() >= times);
}

#[test]
fn reloads_the_state_and_a_stop_are_told() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(2)).start();
    wait_told(&mut fpmd, "STATUS=Ready to handle connections: pools 1, workers 2", 1);
    fpmd.signal(Signal::SIGHUP);
    wait_told(&mut fpmd, "READY=1", 2);
    let said = fpmd.notified().to_owned();
    let (begun, ended) = (said.find("RELOADING=1\nMONOTONIC_USEC="), said.rfind("READY=1"));
    assert!(begun.is_some() && begun < ended, "{said}");
    assert_eq!(fpmd.pool("www").generation.0, 2);
    fpmd.signal(Signal::SIGTERM);
    wait_told(&mut fpmd, "STOPPING=1", 1);
    wait_told(&mut fpmd, "EXTEND_TIMEOUT_USEC=", 1);
    fpmd.finish_stopped();
}

#[test]
fn the_watchdog_is_fed_over_an_upgrade_and_only_if_there_is_one() {
    let pool = || Pool::new("www", &workers::c());
    let mut fpmd = Rig::new().pool(pool()).environment("WATCHDOG_USEC", "100000").start();
    wait_told(&mut fpmd, "WATCHDOG=1", 3);
    fpmd.ctl_done(&["upgrade"]);
    let before = fpmd.notified().matches("WATCHDOG=1").count();
    wait_told(&mut fpmd, "WATCHDOG=1", before + 3);
    fpmd.finish();
    let mut fpmd = Rig::new().pool(pool()).start();
    fpmd.ctl_done(&["status"]);
    assert!(!fpmd.notified().contains("WATCHDOG"));
    fpmd.finish();
}

#[test]
fn a_reload_by_signal_ends_for_the_service_manager_over_an_upgrade() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::php())).start();
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/1500", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    fpmd.signal(Signal::SIGHUP);
    // Its old worker drains, and the upgrade need not wait for that.
    fpmd.wait_log("generation 2 is in service");
    fpmd.ctl_done(&["upgrade"]);
    connection.answer().unwrap();
    wait_told(&mut fpmd, "READY=1", 2);
    fpmd.finish();
}

/// With Type=notify-reload a service manager waits for READY=1 as long as for a start.
#[test]
fn a_long_reload_asks_for_time_until_it_is_done() {
    let mut fpmd = Rig::new().pool(Pool::new("www", &workers::php())).start();
    assert!(!fpmd.notified().contains("EXTEND_TIMEOUT_USEC="));
    let mut connection = fpmd.address("www").connect().unwrap();
    connection.send("GET", "/slow/5000", b"").unwrap();
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    fpmd.signal(Signal::SIGHUP);
    wait_told(&mut fpmd, "EXTEND_TIMEOUT_USEC=30000000", 2);
    // What another program takes over goes on as well.
    fpmd.ctl_done(&["upgrade"]);
    wait_told(&mut fpmd, "EXTEND_TIMEOUT_USEC=30000000", 3);
    assert_eq!(fpmd.notified().matches("READY=1").count(), 1);
    connection.answer().unwrap();
    wait_told(&mut fpmd, "READY=1", 2);
    let said = fpmd.notified().to_owned();
    let extended = said.find("EXTEND_TIMEOUT_USEC=");
    assert!(
        said.find("RELOADING=1") < extended && said.rfind("EXTEND_TIMEOUT_USEC=") < said.rfind("READY=1")
    );
    fpmd.finish();
}
