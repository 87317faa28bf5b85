//! The loss test: a web server in front, clients that never rest, every kind of worker; and meanwhile reloads, bad reloads,
//! upgrades in place, other numbers of workers, recycling, log rotation, and SIGKILL for workers and gateways. Every request
//! is answered well, but for those that were inside a process which was killed.
//! `FPMD_TEST_LOSS=600` goes on for so many seconds instead of twice through everything.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Pool, Rig};
use crate::support::traffic::{Ask, Sample, Traffic, quantile};
use crate::support::trouble::{Trouble, Troubles, Victim, WARNINGS};
use crate::support::web::Nginx;
use crate::support::{wait_until, workers};

const POOLS: [&str; 5] = ["php", "c", "perl", "flup", "go"];
const CLIENTS: usize = 32;
const WORKERS: u32 = 3;
const ASKS: [Ask; 4] = [Ask::Wait(1), Ask::Wait(50), Ask::Wait(500), Ask::Upload(5 << 20)];

fn command(pool: &str) -> Vec<String> {
    match pool {
        "php" => workers::php(),
        "c" => workers::c(),
        "perl" => workers::perl(),
        "flup" => workers::flup("threaded"),
        _ => workers::go(),
    }
}

fn pool(name: &str) -> Pool {
    let pool = Pool::new(name, &command(name)).workers(WORKERS).dispatch(Dispatch::Gateway);
    pool.key("access_log", &format!("\"{{dir}}/{name}.access\"")).pm("max_requests", "40")
}

/// Rounds without the knob.
const ROUNDS: usize = 2;

#[test]
fn nothing_is_lost_but_what_was_in_a_killed_process() {
    let mut rig = Rig::new().for_python();
    for name in POOLS {
        rig = rig.pool(pool(name));
    }
    for piece in WARNINGS {
        rig = rig.expect(piece);
    }
    let mut fpmd = rig.start();
    fpmd.descriptors_may_change();
    let upstreams = POOLS.map(|name| (name, format!("unix:{}", fpmd.socket(name).display())));
    let nginx = Nginx::start(&fpmd.rig.dir, &upstreams);
    let traffic = Traffic::start(nginx.socket(), &POOLS, CLIENTS, &ASKS);
    let span = std::env::var("FPMD_TEST_LOSS").ok().and_then(|text| text.parse().ok());
    let end = span.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut troubles = Troubles::new(POOLS.map(pool).to_vec());
    let mut rounds = 0;
    loop {
        Trouble::ALL.into_iter().for_each(|trouble| troubles.make(trouble, &mut fpmd));
        rounds += 1;
        if end.map_or(rounds >= ROUNDS, |end| Instant::now() >= end) {
            break;
        }
    }
    let samples = traffic.stop();
    judge(&samples, &troubles, rounds);
    drop(nginx);
    for name in POOLS {
        fpmd.wait_pool(name, "all its workers", |pool| pool.idle_processes == WORKERS);
    }
    fpmd.finish();
}

/// Each failure was inside a process that was killed, and a worker takes one request along at most.
#[track_caller]
fn judge(samples: &[Sample], troubles: &Troubles, rounds: usize) {
    let failed: Vec<&Sample> = samples.iter().filter(|sample| sample.failure.is_some()).collect();
    let unexplained: Vec<&&Sample> =
        failed.iter().filter(|sample| troubles.explanation(sample).is_none()).collect();
    assert!(unexplained.is_empty(), "{} of {}: {unexplained:#?}", unexplained.len(), samples.len());
    let kills = &troubles.kills;
    let inside = |victim| {
        let of = |sample: &&&Sample| kills.iter().any(|kill| kill.victim == victim && kill.explains(sample));
        failed.iter().filter(of).count()
    };
    let (by_gateway, by_worker) = (inside(Victim::Gateway), inside(Victim::Worker));
    let workers = kills.iter().filter(|kill| kill.victim == Victim::Worker).count();
    assert!(failed.len() - by_gateway <= workers, "{failed:#?}");
    assert!(samples.len() > CLIENTS * 4, "{} requests", samples.len());
    eprintln!(
        "{rounds} rounds, {} requests: {} failed, all inside a process that was killed ({by_worker} when a worker \
         was, {by_gateway} when a gateway was); p99 of 1-ms requests {:?}",
        samples.len(),
        failed.len(),
        quantile(
            samples.iter().filter(|sample| sample.ask == Ask::Wait(1)).map(Sample::took).collect(),
            0.99
        )
    );
}

/// php-fpm makes every request wait for the slowest one: 4.7 s here.
#[test]
fn a_slow_request_delays_no_other_through_a_reload() {
    let pool = Pool::new("www", &workers::php()).workers(4).dispatch(Dispatch::Gateway);
    let fpmd = Rig::new().pool(pool).start();
    let nginx = Nginx::start(&fpmd.rig.dir, &[("www", format!("unix:{}", fpmd.socket("www").display()))]);
    let slow = Traffic::start(nginx.socket(), &["www"], 1, &[Ask::Wait(5000)]);
    wait_until("the slow request to be at work", || fpmd.pool("www").active_processes == 1);
    let old = fpmd.workers("www");
    let traffic = Traffic::start(nginx.socket(), &["www"], 2, &[Ask::Wait(1)]);
    fpmd.signal(Signal::SIGHUP);
    // The new generation serves, and all of the old one but the slow request's worker has gone, while that goes on.
    wait_until("three old workers to be gone", || {
        let now = fpmd.workers("www");
        now.len() == 5 && old.iter().filter(|pid| now.contains(pid)).count() == 1
    });
    let exchanged = Instant::now();
    wait_until("further requests", || {
        (0..20).all(|_| crate::support::traffic::one(nginx.socket(), "www", Ask::Wait(1)).is_ok())
    });
    let served = Instant::now();
    let slow = slow.stop();
    let (quick, bad): (Vec<Sample>, Vec<Sample>) =
        traffic.stop().into_iter().partition(|sample| sample.failure.is_none());
    assert!(bad.is_empty() && slow.iter().all(|sample| sample.failure.is_none()), "{bad:?} {slow:?}");
    assert!(slow[0].spans(exchanged) && slow[0].spans(served), "all this while the slow request was at work");
    // None waited for it: each that began before it ended has ended before it, or is one of the two under way then.
    let waited = quick.iter().filter(|sample| sample.spans(slow[0].ended)).count();
    assert!(waited <= 2, "{waited} requests ended with the slow one");
    let longest = quick.iter().filter(|sample| sample.ended < slow[0].ended).map(Sample::took).max();
    assert!(longest.is_some_and(|longest| longest < Duration::from_secs(3)), "{longest:?}");
    wait_until("the last old worker to be gone", || fpmd.workers("www").len() == 4);
    drop(nginx);
    fpmd.finish();
}
