//! The CPUs of the machine, as far as workers need them to start: all starts under way share them equally.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Starts under way. Work is counted on a clock that runs as fast as each of them gets a CPU.
#[derive(Debug)]
pub struct Machine {
    cpus: f64,
    clock: f64,
    /// The real time up to which the clock is right.
    at: f64,
    /// When each is done, on the clock; in tenths of a microsecond, so that it has an order.
    jobs: BinaryHeap<Reverse<(u64, usize)>>,
}

const TICKS: f64 = 10.0;

impl Machine {
    pub fn new(cpus: u32) -> Machine {
        Machine { cpus: f64::from(cpus), clock: 0.0, at: 0.0, jobs: BinaryHeap::new() }
    }

    fn speed(&self) -> f64 {
        (self.cpus / self.jobs.len() as f64).min(1.0)
    }

    fn advance(&mut self, now: u64) {
        if !self.jobs.is_empty() {
            self.clock += (now as f64 - self.at).max(0.0) * self.speed();
        }
        self.at = now as f64;
    }

    /// A worker begins to start, which takes `work` of one CPU.
    pub fn begin(&mut self, now: u64, worker: usize, work: u64) {
        self.advance(now);
        self.jobs.push(Reverse((((self.clock + work as f64) * TICKS) as u64, worker)));
    }

    /// When the next one is done, if no other begins.
    pub fn next(&self) -> Option<u64> {
        let Reverse((done, _)) = self.jobs.peek()?;
        let left = (*done as f64 / TICKS - self.clock).max(0.0);
        Some((self.at + left / self.speed()).ceil() as u64)
    }

    /// The one that is done.
    pub fn finish(&mut self, now: u64) -> Option<usize> {
        self.advance(now);
        self.jobs.pop().map(|Reverse((_, worker))| worker)
    }
}
