//! How long things took, counted in fixed buckets from 100 µs to 5 minutes, as OpenMetrics counts them: each bucket is shown
//! with everything below it. Observing allocates nothing and costs one short search.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds, inclusive: microseconds, and the same in seconds as OpenMetrics writes a float.
pub const BOUNDS: [(u64, &str); 20] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (2_500_000, "2.5"),
    (5_000_000, "5.0"),
    (10_000_000, "10.0"),
    (30_000_000, "30.0"),
    (60_000_000, "60.0"),
    (120_000_000, "120.0"),
    (300_000_000, "300.0"),
];

/// Spans of time, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// One for each bound, and one for what is longer than all.
    counts: [u64; BOUNDS.len() + 1],
    /// All spans together, microseconds.
    sum: u64,
    /// The longest one, microseconds.
    max: u64,
}

impl Histogram {
    /// Counts one span.
    pub fn observe(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.sum = self.sum.saturating_add(micros);
        self.max = self.max.max(micros);
    }

    /// How many spans were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// All spans together, microseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The longest span, microseconds; 0 where there was none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// For each of `BOUNDS`, how many spans were not longer; what is longer than all is in `count` only.
    pub fn cumulative(&self) -> impl Iterator<Item = ((u64, &'static str), u64)> + '_ {
        BOUNDS.iter().zip(&self.counts).scan(0u64, |sum, (bound, count)| {
            *sum = sum.saturating_add(*count);
            Some((*bound, *sum))
        })
    }

    /// A time in microseconds that `percent` (0 to 100) of the spans did not exceed: the bound of their bucket, but never
    /// more than the longest span. 0 where there was none.
    pub fn percentile(&self, percent: u64) -> u64 {
        let wanted = u128::from(self.count()) * u128::from(percent.min(100));
        let reached = |sum: u64| u128::from(sum) * 100 >= wanted;
        let bound = self.cumulative().find(|(_, sum)| reached(*sum)).map(|((micros, _), _)| micros);
        bound.unwrap_or(self.max).min(self.max)
    }
}
