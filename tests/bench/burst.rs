//! How long a burst waits for workers that are not there yet, side by side with Debian's php-fpm: `cargo bench --bench
//! burst`. Requests that sleep in PHP, all at once, into a pool that was just started: from the first connection to the
//! last answer. php-fpm's ondemand master forks once for each time that it is woken, so that it does much better where
//! requests come a little apart: that is measured too. php-cgi behind fpmd, in both dispatch modes; rounds in turn, and
//! the median of each. Times are of the clock: on a machine that does other things, compare the ratios and not the times.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::thread::sleep;
use std::time::{Duration, Instant};

use fpm::PhpFpm;
use support::daemon::{Dispatch, Pool, Rig};
use support::fastcgi::{Address, Connection};
use support::{process, wait_until, workers};

mod fpm;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/mod.rs"]
mod support;

const ROUNDS: usize = 5;
const MOST: u32 = 32;
const AT_START: u32 = 2;

/// How both decide about the number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Dynamic,
    Ondemand,
}

/// Who answers.
#[derive(Debug, Clone, Copy)]
enum Side {
    Fpmd(Dispatch),
    /// The program.
    PhpFpm(&'static str),
}

/// One burst.
#[derive(Debug, Clone, Copy)]
struct Burst {
    mode: Mode,
    requests: usize,
    millis: u32,
    /// From one request to the next.
    apart: Duration,
    /// The part of php-fpm's time that fpmd may take.
    wanted: f64,
}

const AT_ONCE: Duration = Duration::ZERO;
const APART: Duration = Duration::from_millis(5);

const BURSTS: [Burst; 4] = [
    Burst { mode: Mode::Dynamic, requests: 32, millis: 100, apart: AT_ONCE, wanted: 0.6 },
    Burst { mode: Mode::Ondemand, requests: 10, millis: 1000, apart: AT_ONCE, wanted: 0.4 },
    Burst { mode: Mode::Ondemand, requests: 32, millis: 100, apart: AT_ONCE, wanted: 1.5 },
    Burst { mode: Mode::Ondemand, requests: 32, millis: 100, apart: APART, wanted: 1.5 },
];

fn main() {
    let Some(program) = fpm::program() else {
        return println!("skipped: php-fpm is not installed");
    };
    let sides = [Side::PhpFpm(program), Side::Fpmd(Dispatch::Gateway), Side::Fpmd(Dispatch::Direct)];
    println!("{:<34} {:<14} {:>9} {:>7} {:>8}", "a burst into a pool", "", "median", "ratio", "wanted");
    for burst in BURSTS {
        let mut times = sides.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for (times, side) in times.iter_mut().zip(sides) {
                times.push(burst.into_new_pool(side));
            }
        }
        let [original, gateway, direct] = times.map(median);
        println!("{:<34} {:<14} {:>9}", burst.name(), "php-fpm", millis(original));
        for (name, ours) in [("fpmd, gateway", gateway), ("fpmd, direct", direct)] {
            let ratio = ours.as_secs_f64() / original.as_secs_f64();
            let verdict = if ratio <= burst.wanted { "reached" } else { "missed" };
            let wanted = format!("≤ {}", burst.wanted);
            println!("{:<34} {name:<14} {:>9} {ratio:>7.2} {wanted:>8} {verdict}", "", millis(ours));
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(span: Duration) -> String {
    format!("{:.0} ms", span.as_secs_f64() * 1000.0)
}

impl Burst {
    fn name(self) -> String {
        let mode = match self.mode {
            Mode::Dynamic => "dynamic",
            Mode::Ondemand => "ondemand",
        };
        let apart = match self.apart {
            AT_ONCE => "at once".to_owned(),
            apart => format!("{} apart", millis(apart)),
        };
        format!("{} × {} ms, {mode}, {apart}", self.requests, self.millis)
    }

    /// One round: the pool's life begins and ends with it, since each side shrinks in its own time.
    fn into_new_pool(self, side: Side) -> Duration {
        match side {
            Side::Fpmd(dispatch) => self.into_fpmd(dispatch),
            Side::PhpFpm(program) => self.into_php_fpm(program),
        }
    }

    fn into_fpmd(self, dispatch: Dispatch) -> Duration {
        let pool = Pool::new("www", &workers::php()).dispatch(dispatch).workers(MOST);
        let pool = match self.mode {
            Mode::Dynamic => pool
                .mode("dynamic")
                .pm("start_servers", &AT_START.to_string())
                .pm("min_spare_servers", "1")
                .pm("max_spare_servers", "3"),
            Mode::Ondemand => pool.mode("ondemand"),
        };
        let mut fpmd = Rig::new().pool(pool).expect("server reached pm.max_children").start();
        let ready = self.workers_before();
        fpmd.wait_pool("www", "its first workers", |pool| pool.idle_processes == ready);
        let took = self.answered(&fpmd.address("www"));
        fpmd.descriptors_may_change();
        fpmd.finish();
        took
    }

    fn into_php_fpm(self, program: &'static str) -> Duration {
        let mode = match self.mode {
            Mode::Dynamic => format!(
                "pm = dynamic\npm.start_servers = {AT_START}\npm.min_spare_servers = 1\npm.max_spare_servers = 3\n"
            ),
            Mode::Ondemand => "pm = ondemand\n".to_owned(),
        };
        let fpm = PhpFpm::managed(program, &format!("{mode}pm.max_children = {MOST}\n"), "");
        let ready = self.workers_before() as usize;
        wait_until("its first workers", || process::children(fpm.pid()).len() == ready);
        self.answered(&Address::Unix(fpm.socket()))
    }

    fn workers_before(self) -> u32 {
        match self.mode {
            Mode::Dynamic => AT_START,
            Mode::Ondemand => 0,
        }
    }

    /// From the first connection to the last answer.
    fn answered(self, address: &Address) -> Duration {
        let path = format!("/slow/{}", self.millis);
        let begun = Instant::now();
        let ask = |_| {
            let mut connection = address.connect().unwrap();
            connection.send("GET", &path, &[]).unwrap();
            sleep(self.apart);
            connection
        };
        let crowd: Vec<Connection> = (0..self.requests).map(ask).collect();
        for mut connection in crowd {
            assert!(!connection.answer().unwrap().body.is_empty());
        }
        begun.elapsed()
    }
}
