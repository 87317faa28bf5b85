//! The loss test: a web server in front, clients that never rest, every kind of worker; and meanwhile reloads, bad reloads,
//! upgrades in place, other numbers of workers, recycling for every reason, log rotation, and SIGKILL for idle and busy workers
//! and for gateways. Every request is answered well, but for those that were inside a process which was killed; and each is in
//! the access logs once.
//!
//! Kinds that are alike share an fpmd, and each of those goes once through all troubles; not all kinds have a turn, for want of
//! time. `FPMD_TEST_LOSS=600` goes on for so many seconds, with all kinds in one fpmd.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Dispatch, Fpmd, Pool, Rig};
use crate::support::traffic::{Ask, Sample, Traffic, quantile};
use crate::support::trouble::{Trouble, Troubles, Victim, WARNINGS};
use crate::support::web::Nginx;
use crate::support::workers::{self, KINDS};
use crate::support::{ledger, wait_until};

const CLIENTS: usize = 32;
const WORKERS: u32 = 3;
const ASKS: [Ask; 4] = [Ask::Wait(1), Ask::Wait(50), Ask::Wait(500), Ask::Upload(5 << 20)];

/// What some kinds say when they are interrupted, and of those that were killed with children of their own.
const SAID: [&str; 5] =
    ["said into stderr", "exited with code 1", "leftover", "orphan", "still busy after 8s"];

/// `stop_timeout`: flup's threads wait for a body that a killed gateway had, until they are ended.
const STRANDED: &str = "\"8s\"";

fn pool(kind: &str) -> Pool {
    // php-cgi ends by itself as well: between two requests, or when one has been sent to it already.
    let command = match kind {
        "php" => workers::shell("PHP_FCGI_MAX_REQUESTS=20 exec /usr/bin/php-cgi"),
        kind => workers::of_kind(kind),
    };
    let pool =
        Pool::new(kind, &command).workers(WORKERS).dispatch(Dispatch::Gateway).pm("max_requests", "40");
    let pool = pool.key("stop_timeout", STRANDED);
    pool.key("access_log", &format!("\"{{dir}}/{kind}.access\"")).key("access_format", ledger::FORMAT)
}

/// All that goes on at once.
struct Scene {
    fpmd: Fpmd,
    nginx: Nginx,
    kinds: Vec<&'static str>,
    troubles: Troubles,
}

impl Scene {
    fn new(kinds: &[&'static str]) -> Scene {
        let pools: Vec<Pool> = kinds.iter().map(|kind| pool(kind)).collect();
        let rig = WARNINGS.iter().chain(&SAID).fold(Rig::new().for_python(), |rig, piece| rig.expect(piece));
        let mut fpmd = pools.iter().fold(rig, |rig, pool| rig.pool(pool.clone())).start();
        fpmd.descriptors_may_change();
        let upstream = |kind: &&'static str| (*kind, format!("unix:{}", fpmd.socket(kind).display()));
        let nginx = Nginx::start(&fpmd.rig.dir, &kinds.iter().map(upstream).collect::<Vec<_>>());
        Scene { fpmd, nginx, kinds: kinds.to_vec(), troubles: Troubles::new(pools) }
    }

    /// Goes through all troubles until `end`, once at least, and judges what has become of the requests.
    #[track_caller]
    fn play(mut self, end: Instant) {
        let traffic = Traffic::start(self.nginx.socket(), &self.kinds, CLIENTS, &ASKS);
        let mut rounds = 0;
        while rounds == 0 || Instant::now() < end {
            Trouble::ALL.into_iter().for_each(|trouble| self.troubles.make(trouble, &mut self.fpmd));
            rounds += 1;
        }
        let samples = traffic.stop();
        judge(&samples, &self.troubles);
        for kind in &self.kinds {
            self.fpmd.wait_pool(kind, "all its workers", |pool| {
                (pool.idle_processes, pool.total_processes) == (WORKERS, WORKERS)
            });
        }
        self.judge_logs(&samples);
        eprintln!("{rounds} rounds: {}", summary(&samples, &self.troubles));
        drop(self.nginx);
        self.fpmd.finish();
    }

    /// Each request is in the access logs once. A gateway that is killed takes along the lines of those that it has just
    /// answered: one for each of the pool's clients at most.
    #[track_caller]
    fn judge_logs(&self, samples: &[Sample]) {
        for (index, kind) in self.kinds.iter().enumerate() {
            let lines = ledger::read(self.fpmd.rig.dir.path(), kind);
            let mut lost = Vec::new();
            for sample in samples.iter().filter(|sample| sample.pool == index) {
                let status = lines.get(&sample.number).map_or(&[][..], Vec::as_slice);
                match (status, &sample.failure) {
                    ([], None) => lost.push(sample),
                    ([], Some(_)) => {}
                    ([200], None) => {}
                    ([_], Some(_)) => {}
                    _ => panic!("{kind}: {sample:?} is logged with {status:?}"),
                }
            }
            let kills = &self.troubles.kills;
            let kills =
                kills.iter().filter(|kill| kill.pool == index && kill.victim == Victim::Gateway).count();
            let clients = CLIENTS.div_ceil(self.kinds.len());
            assert!(
                lost.len() <= kills * clients,
                "{kind}: {} of {} not logged: {lost:#?}",
                lost.len(),
                lines.len()
            );
        }
    }
}

/// Each failure was inside a process that was killed, and a worker takes one request along at most.
#[track_caller]
fn judge(samples: &[Sample], troubles: &Troubles) {
    let failed: Vec<&Sample> = samples.iter().filter(|sample| sample.failure.is_some()).collect();
    let unexplained: Vec<&&Sample> =
        failed.iter().filter(|sample| troubles.explanation(sample).is_none()).collect();
    assert!(unexplained.is_empty(), "{} of {}: {unexplained:#?}", unexplained.len(), samples.len());
    let kills = &troubles.kills;
    let by_gateway = inside(samples, troubles, Victim::Gateway);
    let workers = kills.iter().filter(|kill| kill.victim == Victim::Worker).count();
    assert!(failed.len() - by_gateway <= workers, "{failed:#?}");
    assert!(samples.len() > CLIENTS * 4, "{} requests", samples.len());
}

/// Requests that failed while such a process was killed.
fn inside(samples: &[Sample], troubles: &Troubles, victim: Victim) -> usize {
    let of =
        |sample: &&Sample| troubles.kills.iter().any(|kill| kill.victim == victim && kill.explains(sample));
    samples.iter().filter(|sample| sample.failure.is_some()).filter(of).count()
}

fn summary(samples: &[Sample], troubles: &Troubles) -> String {
    let failed = samples.iter().filter(|sample| sample.failure.is_some()).count();
    let [workers, gateways] =
        [Victim::Worker, Victim::Gateway].map(|victim| inside(samples, troubles, victim));
    let short = samples.iter().filter(|sample| sample.ask == Ask::Wait(1)).map(Sample::took).collect();
    format!(
        "{} requests: {failed} failed, all inside a process that was killed ({workers} when a worker was, {gateways} when a \
         gateway was); p99 of 1-ms requests {:?}",
        samples.len(),
        quantile(short, 0.99)
    )
}

/// The knob, if it is set.
fn span() -> Option<Duration> {
    let knob = std::env::var("FPMD_TEST_LOSS").ok();
    knob.map(|text| Duration::from_secs(text.parse().expect("FPMD_TEST_LOSS is a number of seconds")))
}

/// Some kinds, once through all troubles; nothing with the knob.
#[track_caller]
fn nothing_is_lost_with(kinds: &[&'static str]) {
    if span().is_none() {
        Scene::new(kinds).play(Instant::now());
    }
}

#[test]
fn nothing_is_lost_with_php_c_and_perl() {
    nothing_is_lost_with(&["php", "c", "perl", "fcgiwrap"]);
}

#[test]
fn nothing_is_lost_with_threads() {
    nothing_is_lost_with(&["flup-threaded", "go"]);
}

/// With the knob only.
#[test]
fn nothing_is_lost_for_as_long_as_it_goes_on() {
    if let Some(span) = span() {
        Scene::new(&KINDS).play(Instant::now() + span);
    }
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
