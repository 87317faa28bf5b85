//! What the gateway costs, as ratios against direct mode in the same run: `cargo bench --bench gateway`, or some parts of
//! it: `-- hello syscalls`. Every comparison is in turns, each number the median over the rounds unless it says otherwise.
//! Numbers are printed with the bound that we hold ourselves to; it is for the reader to judge them on a quiet machine.
//! Where a system call or a wake-up costs more than usual, as in nested virtual machines, any relay falls behind direct
//! mode: how far is told by one that does nothing else (`bare`), and what the gateway adds to that by the ratio of both.
//! `scheduling_policy = "batch"` saves some of the task switches: what that gives is told beside, and what it costs by `waits`.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fpmd::fcgi::body::Connection;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use bare::Bare;
use load::Load;
use support::daemon::{Dispatch, Fpmd, Pool, Rig};
use support::{process, wait_until, workers};

mod bare;
#[allow(dead_code, reason = "another benchmark uses the rest")]
mod fpm;
mod load;
mod nginx;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/mod.rs"]
mod support;

const ROUNDS: usize = 11;
const SPAN: Duration = Duration::from_millis(400);
const CLIENTS: usize = 16;

/// The part of the bare relay's best rate that the gateway reaches with all that it does besides.
const NEAR_BARE: f64 = 0.9;

/// Whether each session has a share of the processors of its own (sched(7)), and with it each worker, where there is no
/// control group for the processor. A service with `Delegate=yes` has one, and so has a container. Behind nginx, where
/// php-fpm's workers are one group, ours as many groups made 0.84 of 1.01.
const AUTOGROUP: &str = "/proc/sys/kernel/sched_autogroup_enabled";

fn main() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(bare::ROLE) {
        bare::relay(words.map(PathBuf::from));
    }
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 10] = [
        ("hello", || compare("PHP hello, 4 workers", workers::php(), 4, "/hello", (0.93, 1.5))),
        ("c", || compare("C hello, 2 workers", workers::c(), 2, "/pid", (0.95, 1.7))),
        ("cpu", || compare("PHP 1 ms, 4 workers", workers::php(), 4, "/cpu/6000", (0.97, 0.97))),
        ("64k", || compare("PHP 64 kB, 4 workers", workers::php(), 4, "/big/65536", (0.88, 1.25))),
        ("10m", || compare("PHP 10 MB, 4 workers", workers::php(), 4, "/big/10485760", (0.72, 0.72))),
        ("nginx", nginx::against_php_fpm),
        ("syscalls", system_calls),
        ("overload", overload),
        ("waits", waits),
        ("idle", idle_connections),
    ];
    println!("{:<60} {:>12}   wanted", "", "measured");
    if fs::read_to_string(AUTOGROUP).is_ok_and(|text| text.trim() == "1") {
        println!(
            "{AUTOGROUP} is 1: each worker is scheduled as a group of its own here, and not as a service"
        );
    }
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

/// Pools of the same workers: `direct`, `gateway`, `batch` with that scheduling policy, and `bare`, whose own gateway has
/// nothing to do.
fn pools(command: &[String], workers: u32) -> Fpmd {
    let pool = |name: &str, dispatch| Pool::new(name, command).workers(workers).dispatch(dispatch);
    Rig::new()
        .pool(pool("direct", Dispatch::Direct))
        .pool(pool("gateway", Dispatch::Gateway))
        .pool(pool("batch", Dispatch::Gateway).key("scheduling_policy", "\"batch\""))
        .pool(pool("bare", Dispatch::Gateway))
        .start()
}

/// A bare relay to the workers of the pool `bare`, on the slots that a gateway would reach them on.
fn bare_relay(fpmd: &Fpmd) -> Bare {
    let mut slots = fpmd.rig.dir.sockets();
    slots.retain(|path| path.parent().is_some_and(|folder| folder.ends_with("slots/bare")));
    Bare::start(&slots)
}

fn load(socket: PathBuf, path: &str, connection: Connection) -> Load {
    Load { socket, path: path.to_owned(), clients: CLIENTS, connection }
}

/// The process of the gateway of a pool.
fn gateway_of(fpmd: &Fpmd, pool: &str) -> i32 {
    fpmd.pool(pool).gateway.expect("a gateway runs").pid.as_raw()
}

/// CPU time of a process, microseconds (proc(5), schedstat).
fn cpu(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

/// A way to workers, and what was measured on it.
struct Way {
    load: Load,
    /// Whose CPU time counts.
    pid: i32,
    rounds: Vec<Round>,
}

struct Round {
    /// Requests a second.
    rate: f64,
    /// CPU time a request, microseconds.
    cost: f64,
}

impl Way {
    fn new(load: Load, pid: i32) -> Way {
        Way { load, pid, rounds: Vec::new() }
    }

    fn measure(&mut self) {
        let before = cpu(self.pid);
        let outcome = self.load.run(SPAN);
        let cost = (cpu(self.pid) - before) / outcome.requests as f64;
        self.rounds.push(Round { rate: outcome.rate(), cost });
    }

    fn rate(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.rate).collect())
    }

    fn cost(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.cost).collect())
    }

    /// How many times as fast as the other it is.
    fn over(&self, other: &Way) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(pairs.map(|(own, other)| own.rate / other.rate).collect())
    }

    /// The rate of the fastest round. Where relay, workers and clients share two processors, the scheduler places them so in
    /// one round and so in the next, at up to twice the rate: two ways can be compared only where both had it well.
    fn best(&self) -> f64 {
        self.rounds.iter().map(|round| round.rate).fold(0.0, f64::max)
    }
}

/// Direct mode without kept connections, as web servers do by default, against the gateway and the bare relay without
/// and with, and against a gateway whose workers are scheduled as `batch`.
fn compare(what: &str, command: Vec<String>, workers: u32, path: &str, wanted: (f64, f64)) {
    let fpmd = pools(&command, workers);
    let relay = bare_relay(&fpmd);
    let to_gateway =
        |name, connection| Way::new(load(fpmd.socket(name), path, connection), gateway_of(&fpmd, name));
    let to_relay = |connection| Way::new(load(relay.socket(), path, connection), relay.pid());
    let mut ways = [
        Way::new(load(fpmd.socket("direct"), path, Connection::Close), fpmd.pid()),
        to_gateway("gateway", Connection::Close),
        to_gateway("batch", Connection::Close),
        to_relay(Connection::Close),
        to_relay(Connection::Keep),
        to_gateway("batch", Connection::Keep),
        to_gateway("gateway", Connection::Keep),
    ];
    for way in &ways {
        way.load.run(SPAN); // warms up
    }
    for round in 0..ROUNDS {
        // Whoever is first has the colder caches: take turns in that too.
        if round % 2 == 0 {
            ways.iter_mut().for_each(Way::measure);
        } else {
            ways.iter_mut().rev().for_each(Way::measure);
        }
    }
    let [direct, closed, batch_closed, bare_closed, bare_kept, batch_kept, kept] = ways;
    say(&format!("{what}: direct, closed, a second"), direct.rate(), 0, Wanted::Anything);
    let most = |most| if path == "/hello" { Wanted::AtMost(most) } else { Wanted::Anything };
    tell("closed", &closed, &bare_closed, &direct, (Wanted::AtLeast(wanted.0), most(14.0)));
    tell("kept", &kept, &bare_kept, &direct, (Wanted::AtLeast(wanted.1), most(8.0)));
    for (name, batch, least) in [("closed", batch_closed, wanted.0), ("kept", batch_kept, wanted.1)] {
        let least = Wanted::AtLeast(least);
        say(&format!("    gateway, {name}, workers under batch / direct"), batch.over(&direct), 2, least);
        say(
            &format!("    gateway, {name}, workers under batch: CPU a request, us"),
            batch.cost(),
            1,
            Wanted::Anything,
        );
    }
    drop(relay);
    fpmd.finish();
}

/// What the gateway and the bare relay do with connections of a kind; of the gateway's rate, as a part of direct mode's, and
/// of its CPU time is said what they should be.
fn tell(name: &str, gateway: &Way, bare: &Way, direct: &Way, (rate, cost): (Wanted, Wanted)) {
    let near = Wanted::AtLeast(NEAR_BARE);
    say(&format!("    gateway, {name} / direct"), gateway.over(direct), 2, rate);
    say(&format!("    bare relay, {name} / direct"), bare.over(direct), 2, Wanted::Anything);
    say(&format!("    gateway / bare relay, {name}, at best"), gateway.best() / bare.best(), 2, near);
    say(&format!("    gateway, {name}: CPU a request, us"), gateway.cost(), 1, cost);
    say(&format!("    bare relay, {name}: CPU a request, us"), bare.cost(), 1, Wanted::Anything);
}

/// Counted by strace, which slows everything down alike.
fn system_calls() {
    let fpmd = pools(&workers::php(), 4);
    let (relay, pid) = (bare_relay(&fpmd), gateway_of(&fpmd, "gateway"));
    for (name, connection, bound) in [("closed", Connection::Close, 6.5), ("kept", Connection::Keep, 4.3)] {
        let load = |socket| load(socket, "/hello", connection);
        let (each, calls) = traced(&fpmd, &load(fpmd.socket("gateway")), pid);
        say(&format!("system calls of the gateway a request, {name}"), each, 2, Wanted::AtMost(bound));
        println!("{calls}");
        let (each, _) = traced(&fpmd, &load(relay.socket()), relay.pid());
        say(&format!("    of the bare relay, {name}"), each, 2, Wanted::Anything);
    }
    drop(relay);
    fpmd.finish();
}

/// System calls of a process for each request of a load, and how often it made which.
fn traced(fpmd: &Fpmd, load: &Load, pid: i32) -> (f64, String) {
    load.run(Duration::from_millis(200));
    let file = fpmd.rig.dir.join("strace");
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
    let total = text.lines().find(|line| line.trim_end().ends_with("total")).expect("a line of the total");
    let calls: f64 = total.split_whitespace().nth(3).unwrap().parse().unwrap();
    (calls / requests as f64, text)
}

fn overload() {
    let fpmd = pools(&workers::php(), 4);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let [direct, gateway] = ["direct", "gateway"].map(|pool| {
            let load = Load { clients: 64, ..load(fpmd.socket(pool), "/pid", Connection::Close) };
            load.run(SPAN).p99().as_secs_f64()
        });
        ratios.push(gateway / direct);
    }
    say("p99 with 64 clients, gateway / direct", median(ratios), 2, Wanted::AtMost(1.3));
    fpmd.finish();
}

/// The price of scheduling_policy = "batch": a request that waits ten times, while other programs keep the processors busy.
fn waits() {
    let fpmd = pools(&workers::php(), 4);
    let busy = std::thread::available_parallelism().unwrap().get();
    let mut loops: Vec<Child> = (0..busy).map(|_| busy_loop()).collect();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (pool, times) in ["gateway", "batch"].iter().zip(&mut times) {
            let load = Load { clients: 1, ..load(fpmd.socket(pool), "/waits/10", Connection::Keep) };
            times.push(load.run(SPAN).p50().as_secs_f64() * 1000.0);
        }
    }
    for child in &mut loops {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let [usual, batch] = times.map(median);
    say("ten waits of 0.5 ms beside busy loops, ms", usual, 1, Wanted::Anything);
    say("    with workers under batch, ms", batch, 1, Wanted::Anything);
    fpmd.finish();
}

/// A program that only computes, and that for a minute at most.
fn busy_loop() -> Child {
    Command::new("sh").args(["-c", "ulimit -t 60; while :; do :; done"]).spawn().unwrap()
}

/// Memory of an idle gateway, and with 10,000 kept connections that do nothing.
fn idle_connections() {
    const CONNECTIONS: usize = 10_000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if most < 2 * CONNECTIONS as u64 {
        return println!("skipped: 10,000 connections; only {most} open files are allowed");
    }
    let fpmd = pools(&workers::php(), 4);
    let pid = gateway_of(&fpmd, "gateway");
    let megabytes = || process::resident_kb(pid).unwrap() as f64 / 1024.0;
    say("resident memory of an idle gateway, MB", megabytes(), 2, Wanted::AtMost(4.0));
    let (request, mut kept) = (load(fpmd.socket("gateway"), "/pid", Connection::Keep).request(), Vec::new());
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
