//! What becomes of those who are connected when fpmd stops: they are served, or told by a 503 that they are late. Nobody who
//! has connected is cut off without a word.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::gateway_life::{routed, serving};
use crate::support::daemon::{Fpmd, Rig};
use crate::support::fastcgi::{Address, Connection};
use crate::support::{Load, as_root, process, wait_until, workers};

const CLIENTS: usize = 12;

fn gateway_of(fpmd: &Fpmd) -> i32 {
    fpmd.pool("www").gateway.expect("a gateway that answers").pid.as_raw()
}

/// Whole requests that nobody has accepted: the gateway does not run.
fn knock(address: &Address, path: &str) -> Vec<Connection> {
    let knock = |_| {
        let mut connection = address.connect().unwrap();
        connection.send("GET", path, b"").unwrap();
        connection
    };
    (0..CLIENTS).map(knock).collect()
}

fn statuses(waiting: Vec<Connection>) -> Vec<bool> {
    let is_served = |mut connection: Connection| {
        let answer = connection.answer().expect("an answer, and not a reset");
        let is_late = answer.head.starts_with("Status: 503");
        assert!(is_late || !answer.body.is_empty(), "{answer:?}");
        !is_late
    };
    waiting.into_iter().map(is_served).collect()
}

fn pool_address(fpmd: &Fpmd) -> Address {
    let address = fpmd.pool("www").listeners[0].address.clone();
    match address.parse::<SocketAddr>() {
        Ok(address) => Address::Tcp(address),
        Err(_) => fpmd.address("www"),
    }
}

#[test]
fn who_has_connected_is_served_at_a_stop_even_if_nobody_has_accepted_yet() {
    for listen in ["{dir}/www.sock", "127.0.0.1:0"] {
        let pool = routed("www", &workers::perl()).listen(&[listen]);
        let fpmd = serving(Rig::new().pool(pool));
        let (gateway, address) = (gateway_of(&fpmd), pool_address(&fpmd));
        process::signal(gateway, Signal::SIGSTOP);
        let waiting = knock(&address, "/slow/20");
        fpmd.signal(Signal::SIGTERM);
        fpmd.wait_log("got SIGTERM");
        process::signal(gateway, Signal::SIGCONT);
        assert_eq!(statuses(waiting), [true; CLIENTS], "{listen}");
        fpmd.finish_stopped();
    }
}

#[test]
fn who_waits_past_the_deadline_is_told_so() {
    let pool = routed("www", &workers::perl()).key("stop_timeout", "\"4s\"");
    let fpmd = serving(Rig::new().pool(pool));
    let (gateway, address) = (gateway_of(&fpmd), fpmd.address("www"));
    process::signal(gateway, Signal::SIGSTOP);
    let waiting = knock(&address, "/slow/400");
    fpmd.signal(Signal::SIGTERM);
    fpmd.wait_log("got SIGTERM");
    process::signal(gateway, Signal::SIGCONT);
    let served = statuses(waiting);
    let count = served.iter().filter(|served| **served).count();
    assert!((1..CLIENTS).contains(&count), "{served:?}");
    fpmd.finish_stopped();
}

/// Who cannot connect goes elsewhere; who could is answered.
fn answered_or_refused(address: &Address) -> Result<(), String> {
    let Ok(mut connection) = address.connect() else {
        std::thread::sleep(Duration::from_millis(1));
        return Ok(());
    };
    connection.send("GET", "/slow/3", b"").map_err(|error| format!("sending: {error}"))?;
    let answer = connection.answer().map_err(|error| format!("waiting: {error}"))?;
    let is_answer = answer.head.starts_with("Status: 503") || !answer.body.is_empty();
    if is_answer { Ok(()) } else { Err(format!("{answer:?}")) }
}

#[test]
fn who_connects_during_a_stop_is_answered_or_refused_but_never_cut_off() {
    for listen in ["{dir}/www.sock", "127.0.0.1:0"] {
        let pool = routed("www", &workers::c()).workers(2).listen(&[listen]);
        let fpmd = serving(Rig::new().pool(pool));
        let address = pool_address(&fpmd);
        let load = Load::start(6, move || answered_or_refused(&address));
        wait_until("load", || fpmd.pool("www").gateway.is_some_and(|gateway| gateway.accepted_conn > 100));
        fpmd.ctl_done(&["stop", "www"]);
        fpmd.ctl_done(&["start", "www"]);
        fpmd.signal(Signal::SIGTERM);
        fpmd.finish_stopped();
        let (served, bad) = load.stop();
        assert_eq!(bad, [""; 0], "{listen}");
        assert!(served > 100);
    }
}

/// As php-fpm, which closes at once: the kernel would keep a client waiting for nobody.
#[test]
fn the_address_is_gone_once_nobody_waits_any_more() {
    let fpmd = serving(Rig::new().pool(routed("www", &workers::perl())));
    let (address, path) = (fpmd.address("www"), fpmd.socket("www"));
    let slow = std::thread::spawn(move || address.get("/slow/3000").map(|answer| answer.text()));
    fpmd.wait_pool("www", "a busy worker", |pool| pool.active_processes == 1);
    fpmd.signal(Signal::SIGTERM);
    wait_until("no address", || !Path::exists(&path));
    assert!(UnixStream::connect(&path).is_err());
    assert!(!slow.is_finished(), "its request goes on");
    assert!(!slow.join().unwrap().unwrap().is_empty());
    fpmd.finish_stopped();
}

#[test]
fn without_root_a_tcp_pool_that_stops_says_once_at_most_who_may_be_reset() {
    if !as_root("a user of our own") {
        return;
    }
    let user = (55_200 + std::process::id() % 4_000).to_string();
    let rig = Rig::new().without_root(&user, "");
    let worker = rig.own_worker();
    let pool = |name| routed(name, &worker).listen(&["127.0.0.1:0"]).without("user");
    let mut fpmd = serving(rig.pool(pool("one")).pool(pool("www")));
    fpmd.descriptors_may_change();
    for name in ["one", "www", "one"] {
        fpmd.ctl_done(&["stop", name]);
        fpmd.ctl_done(&["start", name]);
    }
    let told = fpmd.log().matches("does not let fpmd turn newcomers away").count();
    assert!(told <= 1, "told {told} times:\n{}", fpmd.log());
    // A warning would be a failure here.
    fpmd.finish();
}
