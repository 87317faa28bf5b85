//! What fpmd costs, as ratios and counts on the machine at hand: `cargo bench`. Not a test: numbers are printed with
//! the bound that we hold ourselves to, and it is for the reader to judge them on a quiet machine.
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
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use support::daemon::{Dispatch, Fpmd, Pool, Rig};
use support::dir::Dir;
use support::fastcgi::Address;
use support::{Load, process, wait_until, workers};

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/mod.rs"]
mod support;

/// Every part, or those named: `cargo bench -- replacement many`.
fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 5] = [
        ("load", direct_mode_costs_nothing),
        ("sleep", the_master_sleeps),
        ("replacement", replacement),
        ("memory", memory),
        ("many", many),
    ];
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part();
        }
    }
}

/// One line of the result.
fn say(what: &str, found: &str, bound: &str) {
    println!("{what:<58} {found:>16}   {bound}");
}

/// Requests a second of `address` in one second of load.
fn rate(address: &Address) -> f64 {
    let (address, since) = (address.clone(), Instant::now());
    let load = Load::start(4, move || address.get("/pid").map(drop).map_err(|error| error.to_string()));
    std::thread::sleep(Duration::from_secs(1));
    let (good, bad) = load.stop();
    assert!(bad.is_empty(), "{bad:?}");
    good as f64 / since.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn direct(command: &[String]) -> Pool {
    Pool::new("www", command).dispatch(Dispatch::Direct)
}

/// php-cgi under fpmd and under the original spawn-fcgi, turn by turn, so that both see the same machine.
fn direct_mode_costs_nothing() {
    let fpmd = Rig::new().pool(direct(&workers::php()).workers(4)).start();
    let dir = Dir::new();
    let original = Address::Unix(dir.join("original.sock"));
    // PHP_FCGI_CHILDREN stays unset: one process each, as under fpmd.
    let output = Command::new("/usr/bin/spawn-fcgi")
        .args([
            "-F",
            "4",
            "-b",
            "4096",
            "-s",
            dir.join("original.sock").to_str().unwrap(),
            "--",
            "/usr/bin/php-cgi",
        ])
        .env("PHP_FCGI_MAX_REQUESTS", "0")
        .stdin(Stdio::null())
        .output()
        .expect("spawn-fcgi; tests/setup.sh installs it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let pids: Vec<i32> = said.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert_eq!(pids.len(), 4, "{said}");
    let (mut ratios, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..10 {
        // Whoever is first has the colder caches: take turns in that too.
        let (us, them) = if round % 2 == 0 {
            let us = rate(&fpmd.address("www"));
            (us, rate(&original))
        } else {
            let them = rate(&original);
            (rate(&fpmd.address("www")), them)
        };
        ratios.push(us / them);
        ours.push(us);
        theirs.push(them);
    }
    pids.into_iter().for_each(process::end);
    let spread = ratios.iter().copied().fold(0.0, f64::max) - ratios.iter().copied().fold(f64::MAX, f64::min);
    say(
        "php-cgi requests/s, fpmd / original spawn-fcgi",
        &format!("{:.3}", median(ratios)),
        &format!("1.00, spread {spread:.2}"),
    );
    say("    fpmd, requests/s", &format!("{:.0}", median(ours)), "");
    say("    original, requests/s", &format!("{:.0}", median(theirs)), "");
    fpmd.finish();
}

/// Times that the process was put on a CPU, and its CPU time in microseconds (proc(5), schedstat).
fn scheduled(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let fields: Vec<u64> = text.split_whitespace().map(|field| field.parse().unwrap()).collect();
    (fields[2], fields[0] / 1000)
}

fn the_master_sleeps() {
    let fpmd = Rig::new().pool(direct(&workers::php()).workers(4)).start();
    let pid = fpmd.pid();
    for (what, under_load) in [("idle", false), ("under load", true)] {
        let address = fpmd.address("www");
        let load = under_load.then(|| {
            Load::start(4, move || address.get("/pid").map(drop).map_err(|error| error.to_string()))
        });
        let before = scheduled(pid);
        std::thread::sleep(Duration::from_secs(10));
        let after = scheduled(pid);
        let requests = load.map_or(0, |load| load.stop().0);
        let bound = format!("0 ({requests} requests)");
        say(&format!("wake-ups of the master in 10 s, {what}"), &(after.0 - before.0).to_string(), &bound);
    }
    let trace = fpmd.rig.dir.join("strace");
    let address = fpmd.address("www");
    let load = Load::start(4, move || address.get("/pid").map(drop).map_err(|error| error.to_string()));
    let line = ["-c", "-o", trace.to_str().unwrap(), "-p", &pid.to_string()];
    let strace = Command::new("timeout").args(["10", "strace"]).args(line).stderr(Stdio::null()).status();
    load.stop();
    if strace.is_ok() {
        let text = fs::read_to_string(trace).unwrap_or_default();
        let total = text.lines().find(|line| line.ends_with("total"));
        let calls = total.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("0");
        // The call that strace interrupts to attach is restarted once.
        say("system calls of the master in 10 s under load", calls, "0, and 1 for strace itself");
    }
    fpmd.finish();
}

/// Waits, without a sleep, until the master has `count` children that run a program that is not ours.
fn wait_executing(master: i32, count: usize, but: &[i32]) -> Vec<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let path = format!("/proc/{master}/task/{master}/children");
    loop {
        let text = fs::read_to_string(&path).unwrap();
        let children = text.split_whitespace().filter_map(|word| word.parse::<i32>().ok());
        let runs = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // A gateway is no worker, and a child that has not executed yet is still called fpmd.
            !name.is_empty() && !name.starts_with("fpmd") && process::is_alive(*pid)
        };
        let found: Vec<i32> = children.filter(|pid| !but.contains(pid)).filter(runs).collect();
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{} of {count}", found.len());
    }
}

fn replacement() {
    const WORKERS: u32 = 30;
    let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(WORKERS)).start();
    let master = fpmd.pid();
    let mut children = wait_executing(master, WORKERS as usize, &[]);
    // Old enough that their end is no crash loop, which would be answered by waiting.
    std::thread::sleep(Duration::from_secs(10));
    let (mut walls, mut own) = (Vec::new(), Vec::new());
    for victim in children.clone() {
        let (cpu, since) = (scheduled(master).1, Instant::now());
        process::signal(victim, Signal::SIGKILL);
        children.extend(wait_executing(master, 1, &children));
        walls.push(since.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(20));
        own.push((scheduled(master).1 - cpu) as f64 / 1000.0);
    }
    say("worker killed -> replacement executing, ms", &format!("{:.2}", median(walls)), "");
    say("    fpmd's own CPU time in that, ms", &format!("{:.2}", median(own)), "< 2");
    end(fpmd);
}

fn resident_kb(pid: i32) -> f64 {
    process::resident_kb(pid).unwrap() as f64
}

/// Which pages of programs and libraries are in memory depends on where they lie, which is random: several starts.
fn memory() {
    const STARTS: usize = 12;
    let resident = |_| {
        let fpmd = Rig::new().pool(Pool::new("www", &workers::c()).workers(4)).start();
        let resident = resident_kb(fpmd.pid());
        end(fpmd);
        resident
    };
    let found: Vec<f64> = (0..STARTS).map(resident).collect();
    let most = found.iter().copied().fold(0.0, f64::max);
    say("resident memory of the master, 4 idle workers, kB", &format!("{:.0}", median(found)), "< 4000");
    say(&format!("    the most in {STARTS} starts"), &format!("{most:.0}"), "");
}

fn many() {
    let sleepers = |number| Pool::new("www", &workers::sleep()).workers(number).hasty();
    let fpmd = Rig::new().pool(sleepers(1)).start();
    let one = resident_kb(fpmd.pid());
    end(fpmd);

    let since = Instant::now();
    let fpmd = Rig::new().pool(sleepers(1000)).spawn();
    let master = fpmd.pid();
    let mut before = wait_executing(master, 1000, &[]);
    say("1,000 workers of /bin/sleep executing, s", &format!("{:.2}", since.elapsed().as_secs_f64()), "< 2");
    wait_until("a settled master", || fpmd.log().contains("ready"));
    say(
        "    memory of the master for each, kB",
        &format!("{:.1}", (resident_kb(master) - one) / 999.0),
        "< 20",
    );

    before.truncate(100);
    let all = wait_executing(master, 1000, &[]);
    let since = Instant::now();
    before.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
    wait_executing(master, 100, &all);
    let wall = since.elapsed().as_secs_f64() * 1000.0;
    say("100 of them killed -> 100 replacements executing, ms", &format!("{wall:.0}"), "");
    let pool = fpmd.pool("www");
    say("    counted as crashed", &pool.crashed.to_string(), "100");
    end(fpmd);
}

/// Ends a fpmd whose log is full of what was done to it.
fn end(mut fpmd: Fpmd) {
    fpmd.expect("");
    fpmd.descriptors_may_change();
    fpmd.finish();
}
