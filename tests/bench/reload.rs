//! What a reload costs those who ask meanwhile, side by side with Debian's php-fpm: `cargo bench --bench reload`. nginx in
//! front, 4 PHP workers behind; requests of 1 ms without a pause, while one of 5 s is at work and a reload begins; then
//! reload after reload under requests of 1 and 50 ms. Times are of the clock: on a machine that does other things, compare
//! the columns and not the numbers.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use fpm::PhpFpm;
use support::daemon::{Dispatch, Pool, Rig};
use support::dir::Dir;
use support::process;
use support::traffic::{Ask, Sample, Traffic, quantile};
use support::web::Nginx;
use support::workers;

mod fpm;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/mod.rs"]
mod support;

const WORKERS: u32 = 4;
const RELOADS: u32 = 10;

fn main() {
    println!(
        "{:<34} {:>11} {:>11} {:>11} {:>8} {:>20}",
        "", "p99 before", "p99 during", "longest", "lost", "lost in 10 reloads"
    );
    let pool = Pool::new("www", &workers::php()).workers(WORKERS).dispatch(Dispatch::Gateway);
    let fpmd = Rig::new().pool(pool).start();
    let reload = || drop(fpmd.ctl(&["reload", "www"]));
    measure("fpmd", &fpmd.socket("www"), || fpmd.signal(Signal::SIGHUP), &reload);
    fpmd.finish();
    let Some(program) = fpm::program() else {
        return println!("skipped: php-fpm is not installed");
    };
    for (name, global) in [
        ("php-fpm, as installed", ""),
        ("php-fpm, process_control_timeout=10", "process_control_timeout = 10"),
    ] {
        let fpm = PhpFpm::start(program, WORKERS, global);
        let signal = || process::signal(fpm.pid(), Signal::SIGUSR2);
        // It does not say when it is done.
        let reload = || {
            signal();
            sleep(Duration::from_millis(300));
        };
        measure(name, &fpm.socket(), signal, &reload);
    }
}

/// One line. `signal` begins a reload, `reload` waits for its end as far as that can be known.
fn measure(name: &str, socket: &Path, signal: impl Fn(), reload: &dyn Fn()) {
    let dir = Dir::new();
    let nginx = Nginx::start(&dir, &[("www", format!("unix:{}", socket.display()))]);
    let slow = Traffic::start(nginx.socket(), &["www"], 1, &[Ask::Wait(5000)]);
    let quick = Traffic::start(nginx.socket(), &["www"], 2, &[Ask::Wait(1)]);
    sleep(Duration::from_secs(1));
    let begun = Instant::now();
    signal();
    let slow = slow.stop();
    let quick = quick.stop();
    let (before, during): (Vec<Sample>, Vec<Sample>) =
        quick.into_iter().partition(|sample| sample.ended < begun);
    let lost = slow.iter().chain(&before).chain(&during).filter(|sample| sample.failure.is_some()).count();
    let p99 = |samples: &[Sample]| quantile(samples.iter().map(Sample::took).collect(), 0.99);
    let longest = during.iter().map(Sample::took).max().unwrap_or_default();
    let traffic = Traffic::start(nginx.socket(), &["www"], 8, &[Ask::Wait(1), Ask::Wait(50)]);
    (0..RELOADS).for_each(|_| reload());
    let samples = traffic.stop();
    let lost_of_all = samples.iter().filter(|sample| sample.failure.is_some()).count();
    let millis = |span: Duration| format!("{:.1} ms", span.as_secs_f64() * 1000.0);
    println!(
        "{name:<34} {:>11} {:>11} {:>11} {lost:>8} {:>20}",
        millis(p99(&before)),
        millis(p99(&during)),
        millis(longest),
        format!("{lost_of_all} of {}", samples.len())
    );
}
