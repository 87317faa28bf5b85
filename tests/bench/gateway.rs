//! What the gateway costs, as ratios against direct mode in the same run: `cargo bench --bench gateway`, or some parts of
//! it: `-- hello syscalls`. Every comparison is in turns, each number the median over the rounds. Numbers are printed
//! with the bound that we hold ourselves to; it is for the reader to judge them on a quiet machine.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use fpmd::fcgi::body::Connection;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use load::{Load, Outcome};
use support::daemon::{Dispatch, Fpmd, Pool, Rig};
use support::{process, wait_until, workers};

#[allow(dead_code, reason = "another benchmark uses the rest")]
mod fpm;
mod load;
mod nginx;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/mod.rs"]
mod support;

const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(700);
const CLIENTS: usize = 16;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 9] = [
        ("hello", || compare("PHP hello, 4 workers", workers::php(), 4, "/hello", (0.93, 1.5))),
        ("c", || compare("C hello, 2 workers", workers::c(), 2, "/pid", (0.95, 1.7))),
        ("cpu", || compare("PHP 1 ms, 4 workers", workers::php(), 4, "/cpu/6000", (0.97, 0.97))),
        ("64k", || compare("PHP 64 kB, 4 workers", workers::php(), 4, "/big/65536", (0.88, 1.25))),
        ("10m", || compare("PHP 10 MB, 4 workers", workers::php(), 4, "/big/10485760", (0.72, 0.72))),
        ("nginx", nginx::against_php_fpm),
        ("syscalls", system_calls),
        ("overload", overload),
        ("idle", idle_connections),
    ];
    println!("{:<60} {:>12}   wanted", "", "measured");
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part();
        }
    }
}

/// What a number should be.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// It is for the reader's information.
    Anything,
}

/// One line of the result: what was measured, with so many decimals, what was wanted, and whether it was reached.
fn say(what: &str, found: f64, decimals: usize, wanted: Wanted) {
    let (bound, verdict) = match wanted {
        Wanted::AtLeast(least) => (format!(">= {least}"), if found >= least { "reached" } else { "missed" }),
        Wanted::AtMost(most) => (format!("<= {most}"), if found <= most { "reached" } else { "missed" }),
        Wanted::Anything => (String::new(), ""),
    };
    println!("{what:<60} {found:>12.decimals$}   {bound:<9} {verdict}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two pools of the same workers, `direct` and `gateway`.
fn pair(command: &[String], workers: u32) -> Fpmd {
    let pool = |name: &str, dispatch| Pool::new(name, command).workers(workers).dispatch(dispatch);
    Rig::new().pool(pool("direct", Dispatch::Direct)).pool(pool("gateway", Dispatch::Gateway)).start()
}

fn load(fpmd: &Fpmd, pool: &str, path: &str, connection: Connection) -> Load {
    Load { socket: fpmd.socket(pool), path: path.to_owned(), clients: CLIENTS, connection }
}

/// The gateway's process.
fn gateway(fpmd: &Fpmd) -> i32 {
    let named = |pid: &i32| process::arguments(*pid).concat().contains("fpmd-gateway");
    process::children(fpmd.pid()).into_iter().find(named).expect("a gateway runs")
}

/// CPU time of a process, microseconds (proc(5), schedstat).
fn cpu(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// Runs a load and gives the gateway's CPU time a request, too.
fn measured(load: &Load, gateway: i32) -> (Outcome, f64) {
    let before = cpu(gateway);
    let outcome = load.run(SPAN);
    let each = (cpu(gateway) - before) / outcome.requests as f64;
    (outcome, each)
}

/// Direct mode without kept connections, as web servers do by default, against the gateway without and with.
fn compare(what: &str, command: Vec<String>, workers: u32, path: &str, wanted: (f64, f64)) {
    let fpmd = pair(&command, workers);
    let pid = gateway(&fpmd);
    let direct = load(&fpmd, "direct", path, Connection::Close);
    let closed = load(&fpmd, "gateway", path, Connection::Close);
    let kept = load(&fpmd, "gateway", path, Connection::Keep);
    let (mut base, mut ratios, mut costs) = (Vec::new(), [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..=ROUNDS {
        // Whoever is first has the colder caches: take turns in that too.
        let early = (round % 2 == 0).then(|| direct.run(SPAN));
        let found = [measured(&closed, pid), measured(&kept, pid)];
        let plain = early.unwrap_or_else(|| direct.run(SPAN)).rate();
        if round == 0 {
            continue; // warms up
        }
        base.push(plain);
        for (at, (outcome, cost)) in found.into_iter().enumerate() {
            ratios[at].push(outcome.rate() / plain);
            costs[at].push(cost);
        }
    }
    say(&format!("{what}: direct, closed, a second"), median(base), 0, Wanted::Anything);
    let [closed, kept] = ratios;
    say("    gateway, closed / direct", median(closed), 2, Wanted::AtLeast(wanted.0));
    say("    gateway, kept / direct", median(kept), 2, Wanted::AtLeast(wanted.1));
    let [closed, kept] = costs;
    let most = |most| if path == "/hello" { Wanted::AtMost(most) } else { Wanted::Anything };
    say("    gateway, closed: CPU a request, us", median(closed), 1, most(14.0));
    say("    gateway, kept: CPU a request, us", median(kept), 1, most(8.0));
    fpmd.finish();
}

/// Counted by strace, which slows everything down alike.
fn system_calls() {
    let fpmd = pair(&workers::php(), 4);
    let pid = gateway(&fpmd);
    for (what, connection, bound) in [("closed", Connection::Close, 6.5), ("kept", Connection::Keep, 4.3)] {
        let load = load(&fpmd, "gateway", "/hello", connection);
        load.run(Duration::from_millis(200));
        let file = fpmd.rig.dir.join(&format!("strace-{what}"));
        let mut command = Command::new("strace");
        command.args(["-c", "-o"]).arg(&file).args(["-p", &pid.to_string()]);
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut strace = strace.expect("strace; tests/setup.sh installs it");
        let traced = || process::status_line(pid, "TracerPid").is_some_and(|tracer| tracer != "0");
        wait_until("strace to be there", traced);
        let requests = load.run(Duration::from_secs(4)).requests;
        process::signal(i32::try_from(strace.id()).unwrap(), Signal::SIGINT);
        strace.wait().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let total =
            text.lines().find(|line| line.trim_end().ends_with("total")).expect("a line of the total");
        let calls: f64 = total.split_whitespace().nth(3).unwrap().parse().unwrap();
        let each = calls / requests as f64;
        say(&format!("system calls of the gateway a request, {what}"), each, 2, Wanted::AtMost(bound));
        println!("{text}");
    }
    fpmd.finish();
}

fn overload() {
    let fpmd = pair(&workers::php(), 4);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let [direct, gateway] = ["direct", "gateway"].map(|pool| {
            let load = Load { clients: 64, ..load(&fpmd, pool, "/pid", Connection::Close) };
            load.run(SPAN).p99().as_secs_f64()
        });
        ratios.push(gateway / direct);
    }
    say("p99 with 64 clients, gateway / direct", median(ratios), 2, Wanted::AtMost(1.3));
    fpmd.finish();
}

/// Memory of an idle gateway, and with 10,000 kept connections that do nothing.
fn idle_connections() {
    const CONNECTIONS: usize = 10_000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if most < 2 * CONNECTIONS as u64 {
        return println!("skipped: 10,000 connections; only {most} open files are allowed");
    }
    let fpmd = pair(&workers::php(), 4);
    let pid = gateway(&fpmd);
    let megabytes = || {
        let text = process::status_line(pid, "VmRSS").unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1024.0
    };
    say("resident memory of an idle gateway, MB", megabytes(), 2, Wanted::AtMost(4.0));
    let (request, mut kept) = (load(&fpmd, "gateway", "/pid", Connection::Keep).request(), Vec::new());
    while kept.len() < CONNECTIONS {
        let mut connection = fpmd.address("gateway").connect().unwrap();
        connection.send_raw(&request).unwrap();
        connection.answer().unwrap();
        kept.push(connection);
    }
    say("    with 10,000 idle kept connections, MB", megabytes(), 2, Wanted::AtMost(60.0));
    // It has yet to put the last request away, and to tell its master that it is idle.
    std::thread::sleep(Duration::from_secs(2));
    let before = cpu(pid);
    std::thread::sleep(Duration::from_secs(3));
    say("    CPU of the gateway in 3 s, us", cpu(pid) - before, 0, Wanted::AtMost(0.0));
    drop(kept);
    wait_until("the connections to be gone", || process::descriptors(pid).len() < 100);
    say("    after them, MB", megabytes(), 2, Wanted::Anything);
    fpmd.finish();
}
