//! What arrives when, and how long it takes. Times in microseconds.

use crate::random::Random;

pub const MILLI: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub at: u64,
    /// How long its worker has it.
    pub takes: u64,
    pub end: End,
}

/// What becomes of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Served,
    /// The worker dies of it when its time is over.
    Crash,
}

/// How long requests take.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// Short ones mostly, and a few long ones; the mean.
    Exponential(u64),
}

impl Takes {
    fn draw(self, random: &mut Random) -> u64 {
        match self {
            Takes::Exponential(mean) => random.exponential(mean as f64) as u64,
        }
    }
}

/// `count` requests from `at` on, one each `spacing`.
pub fn volley(at: u64, count: u64, spacing: u64, takes: u64) -> Vec<Request> {
    (0..count).map(|number| Request { at: at + number * spacing, takes, end: End::Served }).collect()
}

/// Independent requests from `from` to `to`, `rate` of them a second, which may depend on the time.
pub fn poisson(
    seed: u64,
    (from, to): (u64, u64),
    most: f64,
    rate: impl Fn(u64) -> f64,
    takes: Takes,
) -> Vec<Request> {
    let mut random = Random(seed);
    let mut requests = Vec::new();
    let mut at = from as f64;
    loop {
        at += random.exponential(SECOND as f64 / most);
        if at >= to as f64 {
            return requests;
        }
        // Thinned from the highest rate.
        if random.unit() * most < rate(at as u64) {
            let takes = takes.draw(&mut random);
            requests.push(Request { at: at as u64, takes, end: End::Served });
        }
    }
}

/// Some of those that arrive in the span, `share` of them, end their workers.
pub fn with_crashes(
    seed: u64,
    (from, to): (u64, u64),
    share: f64,
    mut requests: Vec<Request>,
) -> Vec<Request> {
    let mut random = Random(seed);
    for request in requests.iter_mut().filter(|request| (from..to).contains(&request.at)) {
        if random.unit() < share {
            request.end = End::Crash;
        }
    }
    requests
}
