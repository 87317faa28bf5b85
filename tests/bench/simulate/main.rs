//! How pools size themselves: traces of requests, played by an invented clock against fpmd's policy and against models of
//! php-fpm's `dynamic` and `ondemand`. `cargo bench --bench simulate [CASE…]` prints the table; `cargo test` checks the
//! models against figures measured of the real php-fpm, and fpmd's policy against them. Every run gives the same numbers.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::Duration;

use fpmd::policy::demand::{Bounds, Mode, at_once};

use fpmd_model::{Fpmd, Sight};
use php_fpm::PhpFpm;
use trace::{MILLI, Request, SECOND, Takes, poisson, volley, with_crashes};
use world::{Manager, Outcome, Start, play};

mod calibration;
#[path = "fpmd.rs"]
mod fpmd_model;
mod machine;
mod php_fpm;
mod random;
mod trace;
mod world;

/// php-cgi is exec'ed and loads itself; php-fpm forks a loaded process.
const EXEC: Start = Start { cpu: 30 * MILLI, wait: 0 };
const FORK: Start = Start { cpu: 3 * MILLI, wait: 0 };
/// An application that reads its code and asks its database before it accepts; the same under each manager.
const HEAVY: Start = Start { cpu: 200 * MILLI, wait: 2_800 * MILLI };
/// Of the machine that is invented.
const CPUS: u32 = 4;
/// Debian's and php-fpm's own.
const IDLE_TIMEOUT: u64 = 10 * SECOND;

/// One trace and the pool that it meets.
struct Case {
    name: &'static str,
    what: &'static str,
    requests: Vec<Request>,
    until: u64,
    max_children: u32,
    spare: (u32, u32, u32),
    /// Of fpmd's workers and of php-fpm's.
    start: (Start, Start),
}

fn cases() -> Vec<Case> {
    vec![steady(), burst(), diurnal(), flash_crowd(), slow_workers(), crash_storm(), short(), many()]
}

fn steady() -> Case {
    let takes = Takes::Exponential(50 * MILLI);
    Case {
        name: "steady",
        what: "200 requests a second of 50 ms, for 10 minutes",
        requests: poisson(1, (SECOND, 600 * SECOND), 200.0, |_| 200.0, takes),
        until: 600 * SECOND,
        max_children: 60,
        spare: (10, 5, 15),
        start: (EXEC, FORK),
    }
}

fn burst() -> Case {
    let mut requests = Vec::new();
    for number in 0..20 {
        requests.extend(volley((7_300 + 30_100 * number) * MILLI, 40, 20, 100 * MILLI));
    }
    Case {
        name: "burst",
        what: "40 requests of 100 ms at once, every 30 s",
        requests,
        until: 600 * SECOND,
        max_children: 40,
        spare: (2, 2, 4),
        start: (EXEC, FORK),
    }
}

fn diurnal() -> Case {
    const DAY: u64 = 86_400 * SECOND;
    let rate = |at: u64| {
        let turn = at as f64 / DAY as f64 * std::f64::consts::TAU;
        11.0 - 10.0 * turn.cos()
    };
    Case {
        name: "diurnal",
        what: "a day, 1 request a second of 200 ms at night, 21 at noon",
        requests: poisson(2, (0, DAY), 21.0, rate, Takes::Exponential(200 * MILLI)),
        until: DAY,
        max_children: 50,
        spare: (3, 2, 5),
        start: (EXEC, FORK),
    }
}

fn flash_crowd() -> Case {
    let rate = |at: u64| if (20 * SECOND..50 * SECOND).contains(&at) { 1_000.0 } else { 10.0 };
    Case {
        name: "flash",
        what: "10 requests a second of 50 ms, 1,000 for half a minute",
        requests: poisson(3, (0, 120 * SECOND), 1_000.0, rate, Takes::Exponential(50 * MILLI)),
        until: 120 * SECOND,
        max_children: 100,
        spare: (5, 5, 10),
        start: (EXEC, FORK),
    }
}

fn slow_workers() -> Case {
    let rate = |at: u64| if (60 * SECOND..300 * SECOND).contains(&at) { 60.0 } else { 5.0 };
    Case {
        name: "slow",
        what: "workers that take 3 s to start; 5 requests a second of 200 ms, 60 for 4 minutes",
        requests: poisson(4, (4 * SECOND, 600 * SECOND), 60.0, rate, Takes::Exponential(200 * MILLI)),
        until: 600 * SECOND,
        max_children: 40,
        spare: (3, 3, 6),
        start: (HEAVY, HEAVY),
    }
}

fn crash_storm() -> Case {
    let span = (30 * SECOND, 60 * SECOND);
    let requests = poisson(5, (SECOND, 120 * SECOND), 100.0, |_| 100.0, Takes::Exponential(50 * MILLI));
    Case {
        name: "crashes",
        what: "100 requests a second of 50 ms; for half a minute every third kills its worker",
        requests: with_crashes(6, span, 0.33, requests),
        until: 120 * SECOND,
        max_children: 40,
        spare: (8, 5, 15),
        start: (EXEC, FORK),
    }
}

fn short() -> Case {
    let mut requests = poisson(8, (SECOND, 300 * SECOND), 500.0, |_| 500.0, Takes::Exponential(2 * MILLI));
    for number in 0..30 {
        requests.extend(volley((5 + 10 * number) * SECOND, 60, 20, 2 * MILLI));
    }
    requests.sort_by_key(|request| request.at);
    Case {
        name: "short",
        what: "500 requests a second of 2 ms, and every 10 s 60 of them at once",
        requests,
        until: 300 * SECOND,
        max_children: 40,
        spare: (4, 2, 6),
        start: (EXEC, FORK),
    }
}

fn many() -> Case {
    let rate = |at: u64| if at < 60 * SECOND { 7_000.0 } else { 100.0 };
    Case {
        name: "many",
        what: "7,000 requests a second of 1 s for a minute: up to 10,000 workers, on 64 CPUs",
        requests: poisson(7, (SECOND, 120 * SECOND), 7_000.0, rate, Takes::Exponential(SECOND)),
        until: 120 * SECOND,
        max_children: 10_000,
        spare: (500, 500, 1_000),
        start: (EXEC, FORK),
    }
}

/// php-fpm's `max_spawn_rate` and `process_idle_timeout` by default, for a pool of one's choice.
fn bounds(mode: Mode, max_children: u32, cpus: u32) -> Bounds {
    Bounds {
        mode,
        max_children,
        concurrency: 1,
        max_spawn_rate: 32,
        at_once: at_once(cpus),
        idle_timeout: Duration::from_micros(IDLE_TIMEOUT),
    }
}

impl Case {
    fn cpus(&self) -> u32 {
        if self.max_children > 1_000 { 64 } else { CPUS }
    }

    /// The managers by name, each with what its starts cost.
    fn managers(&self) -> Vec<(&'static str, Start, Box<dyn Manager>)> {
        let (start, min, max) = self.spare;
        let mode = Mode::Dynamic { start_servers: start, min_spare: min, max_spare: max };
        let spare = php_fpm::Mode::Dynamic {
            start_servers: start as usize,
            min_spare: min as usize,
            max_spare: max as usize,
        };
        let ours = |mode, sight| Box::new(Fpmd::new(bounds(mode, self.max_children, self.cpus()), sight));
        let theirs = |mode| Box::new(PhpFpm::new(mode, self.max_children as usize, 700 * MILLI));
        let (exec, fork) = self.start;
        vec![
            ("dynamic   fpmd", exec, ours(mode, Sight::Gateway)),
            ("          fpmd, direct", exec, ours(mode, Sight::Direct)),
            ("          php-fpm", fork, theirs(spare)),
            ("ondemand  fpmd", exec, ours(Mode::Ondemand, Sight::Gateway)),
            ("          fpmd, direct", exec, ours(Mode::Ondemand, Sight::Direct)),
            ("          php-fpm", fork, theirs(php_fpm::Mode::Ondemand { idle_timeout: IDLE_TIMEOUT })),
        ]
    }

    fn print(&self) {
        println!("\n{}: {}; at most {} workers", self.name, self.what, self.max_children);
        println!(
            "{:<24}{:>9}{:>9}{:>9}{:>10}{:>7}{:>8}{:>8}{:>6}",
            "", "wait p50", "p99", "max ms", "worker-s", "most", "starts", "stops", "lost"
        );
        for (name, start, mut manager) in self.managers() {
            let outcome = play(&self.requests, self.until, self.cpus(), start, manager.as_mut());
            println!("{name:<24}{}", row(&outcome));
        }
    }
}

fn row(outcome: &Outcome) -> String {
    let millis = |micros: u64| micros as f64 / MILLI as f64;
    format!(
        "{:>9.1}{:>9.1}{:>9.0}{:>10.0}{:>7}{:>8}{:>8}{:>6}",
        millis(outcome.wait(50)),
        millis(outcome.wait(99)),
        millis(outcome.wait(100)),
        outcome.worker_time as f64 / SECOND as f64,
        outcome.most,
        outcome.starts,
        outcome.stops,
        outcome.lost,
    )
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    calibration::check();
    // Without `--bench` this is `cargo test`.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let named: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    for case in cases() {
        if named.is_empty() || named.iter().any(|word| *word == case.name) {
            case.print();
        }
    }
}
