//! When a worker is replaced although nothing is wrong with it, and how many are at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::WorkerId;

/// Why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wear {
    /// It has served as many requests as it may.
    Requests,
    /// It has lived for long enough.
    Lifetime,
    /// It keeps more memory than it may.
    Memory,
    /// It holds on to a request that it will never have the whole of.
    Stranded,
    /// It had nothing to do for `process_idle_timeout`; nobody takes its place.
    Idle,
}

/// For how long workers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// At least so long.
    pub least: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
}

impl Lifetime {
    /// How long this worker lives. Not at random: workers that were started together end as far from one another as
    /// `jitter` allows, since multiples of the golden ratio fill an interval evenly (Weyl's theorem of equidistribution).
    pub fn of(&self, worker: WorkerId) -> Duration {
        /// The golden ratio less 1, in units of 2⁻³².
        const RATIO: u64 = 2_654_435_769;
        let fraction = (worker.0.wrapping_mul(RATIO) & 0xffff_ffff) as f64 / 4_294_967_296.0;
        self.least.saturating_add(self.jitter.mul_f64(fraction))
    }
}

/// How many of so many workers are replaced at once: an eighth, and one at least.
pub fn at_once(workers: u32) -> u32 {
    (workers / 8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_end_far_from_one_another() {
        let lifetime = Lifetime { least: Duration::from_secs(100), jitter: Duration::from_secs(10) };
        let mut ends: Vec<Duration> = (41..61).map(|id| lifetime.of(WorkerId(id))).collect();
        ends.sort();
        assert!(ends[0] >= Duration::from_secs(100) && ends[19] < Duration::from_secs(110), "{ends:?}");
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        let (least, most) =
            gaps.fold((Duration::MAX, Duration::ZERO), |(a, b), gap| (a.min(gap), b.max(gap)));
        // Evenly would be half a second.
        assert!(
            least > Duration::from_millis(150) && most < Duration::from_millis(1000),
            "{least:?} {most:?}"
        );
        let exact = Lifetime { jitter: Duration::ZERO, ..lifetime };
        assert_eq!(exact.of(WorkerId(7)), Duration::from_secs(100));
    }

    #[test]
    fn an_eighth_at_once() {
        assert_eq!([0, 1, 8, 15, 16, 800].map(at_once), [1, 1, 1, 1, 2, 100]);
    }
}
