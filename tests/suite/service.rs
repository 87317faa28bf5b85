//! What a service manager hears from fpmd: sd_notify(3), with a manager of our own.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use fpmd::os::fdpass;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::fastcgi::Address;
use crate::support::fronts::free_port;
use crate::support::{process, wait_until, workers};

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

/// Becomes fpmd, with what a service manager has kept for it if there is any: it is got from a socket.
const ACTIVATE: &str = "
import os, socket, sys
place = sys.argv[1]
os.environ['FDSTORE'] = '16'
if os.path.exists(place):
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(place)
        names, kept, _, _ = socket.recv_fds(door, 4096, 16)
    high = [os.dup2(fd, 100 + at) for at, fd in enumerate(kept)]
    for at, fd in enumerate(high):
        os.dup2(fd, 3 + at, inheritable=True)
        os.close(fd)
    pid = str(os.getpid())
    os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names.decode(), LISTEN_PID=pid)
os.execv(sys.argv[2], sys.argv[2:])
";

/// Hands these to the next fpmd.
fn hand_back(fpmd: &Fpmd, kept: Vec<(String, OwnedFd)>) -> JoinHandle<()> {
    let door = UnixListener::bind(fpmd.rig.dir.join("activate")).unwrap();
    thread::spawn(move || {
        let (stream, _) = door.accept().unwrap();
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        let descriptors: Vec<_> = kept.iter().map(|(_, fd)| fd.as_fd()).collect();
        fdpass::send(stream.as_fd(), names.join(":").as_bytes(), &descriptors).unwrap();
    })
}

#[test]
fn clients_that_come_while_a_killed_fpmd_is_restarted_are_served() {
    let rig = Rig::new();
    let port = free_port();
    let direct = Pool::new("direct", &workers::c()).dispatch(Dispatch::Direct);
    let www = Pool::new("www", &workers::php()).workers(2);
    let place = rig.dir.join("activate").to_str().unwrap().to_owned();
    let rig = rig.pool(direct.listen(&[&format!("127.0.0.1:{port}")])).pool(www);
    let mut fpmd = rig.wrapper(&["/usr/bin/python3", "-c", ACTIVATE, &place]).start();
    // One for each socket, and nothing more: without FDPOLL=0 a dead one is dropped by the service manager.
    let kept: Vec<_> = fpmd.stored();
    let kept: Vec<_> = kept
        .into_iter()
        .map(|(text, fd)| (text.strip_prefix("FDSTORE=1\nFDNAME=").unwrap().to_owned(), fd))
        .collect();
    assert!(kept.len() == 2 && kept.iter().all(|(name, _)| name.starts_with("fpmd-")), "{kept:?}");
    let inode = |fpmd: &Fpmd| std::fs::metadata(fpmd.socket("www")).unwrap().ino();
    let (before, family) = (inode(&fpmd), process::descendants(fpmd.pid()));
    fpmd.kill_master();
    wait_until("everybody to end", || !family.iter().any(process::still_runs));
    let addresses = [Address::Tcp(([127, 0, 0, 1], port).into()), fpmd.address("www")];
    let mut waiting: Vec<_> =
        addresses.iter().cycle().take(8).map(|address| address.connect().unwrap()).collect();
    for connection in &mut waiting {
        connection.send("GET", "/pid", b"").unwrap();
    }
    // What would make a service manager drop them.
    for (name, fd) in &kept {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut polled, PollTimeout::ZERO), Ok(0), "{name}: {polled:?}");
    }
    let manager = hand_back(&fpmd, kept);
    let mut fpmd = fpmd.start_again();
    manager.join().unwrap();
    std::fs::remove_file(fpmd.rig.dir.join("activate")).unwrap();
    for mut connection in waiting {
        assert!(!connection.answer().unwrap().body.is_empty());
    }
    assert_eq!(inode(&fpmd), before);
    addresses.iter().for_each(|address| drop(address.get("/pid").unwrap()));
    assert!(fpmd.stored().is_empty(), "they are there already");
    // A pool that is stopped takes its socket out.
    for pool in ["direct", "www"] {
        fpmd.ctl_done(&["stop", pool]);
    }
    wait_told(&mut fpmd, "FDSTOREREMOVE=1\nFDNAME=fpmd-", 2);
    fpmd.finish();
}
