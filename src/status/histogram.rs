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

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        micros.iter().for_each(|micros| histogram.observe(Duration::from_micros(*micros)));
        histogram
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = of(&[0, 100, 101, 300_000_000, 300_000_001]);
        let counts: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!((counts[0], counts[1], counts[18], counts[19]), (2, 3, 3, 4));
        assert_eq!((histogram.count(), histogram.sum(), histogram.max()), (5, 600_000_202, 300_000_001));
    }

    #[test]
    fn bounds_grow_and_are_the_same_in_both_units() {
        assert!(BOUNDS.is_sorted_by(|low, high| low.0 < high.0));
        for (micros, seconds) in BOUNDS {
            assert_eq!(Duration::from_secs_f64(seconds.parse().unwrap()), Duration::from_micros(micros));
        }
    }

    #[test]
    fn percentiles_are_bounds_that_were_not_exceeded() {
        assert_eq!(Histogram::default().percentile(99), 0);
        let histogram = of(&[50, 50, 50, 700, 2_000_000]);
        let percentiles = [0, 50, 60, 61, 80, 81, 100].map(|percent| histogram.percentile(percent));
        assert_eq!(percentiles, [100, 100, 100, 1000, 1000, 2_000_000, 2_000_000]);
        assert_eq!(of(&[400_000_000]).percentile(50), 400_000_000);
    }

    #[test]
    fn nothing_overflows() {
        let mut histogram = of(&[u64::MAX, u64::MAX]);
        histogram.observe(Duration::MAX);
        assert_eq!((histogram.count(), histogram.sum(), histogram.max()), (3, u64::MAX, u64::MAX));
    }

    proptest! {
        #[test]
        fn buckets_never_fall_and_percentiles_hold(micros in prop::collection::vec(0u64..400_000_000, 1..60), percent in 0u64..=100) {
            let histogram = of(&micros);
            let counts: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
            prop_assert!(counts.is_sorted() && *counts.last().unwrap() <= histogram.count());
            let value = histogram.percentile(percent);
            let below = micros.iter().filter(|micros| **micros <= value).count() as u64;
            prop_assert!(below * 100 >= micros.len() as u64 * percent);
            prop_assert!(value <= histogram.max());
        }

        #[test]
        fn it_survives_a_message(micros in prop::collection::vec(any::<u64>(), 0..20)) {
            let histogram = of(&micros);
            let text = serde_json::to_string(&histogram).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        }
    }
}
