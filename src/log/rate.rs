//! How much of a worker's output is logged: a bucket of bytes that fills with time. Pure: `now` is an argument.
//! Once empty it stays closed until a second's worth has come in, so that a flood makes few lines about itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Moment;

/// What a logged line costs besides its own bytes: about what decoration adds to it.
const LINE_COST: u64 = 64;

/// A bucket of bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bucket {
    tokens: u64,
    burst: u64,
    rate: u64,
    filled: Moment,
    dropped: Option<Dropped>,
}

/// What was not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// Lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What to do with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Log it.
    Pass,
    /// Log it, and before it that these were dropped.
    PassAfter(Dropped),
    /// Drop it, and say that lines are dropped from here on.
    CloseAndDrop,
    /// Drop it.
    Drop,
}

impl Bucket {
    /// Full: `burst` bytes at once, then `rate` bytes a second.
    pub fn new(burst: u64, rate: u64, now: Moment) -> Bucket {
        Bucket { tokens: burst, burst, rate, filled: now, dropped: None }
    }

    /// Judges a line of `bytes` bytes.
    pub fn judge(&mut self, bytes: u64, now: Moment) -> Verdict {
        self.fill(now);
        // A line that is dearer than the whole bucket passes when the bucket is full.
        let cost = (bytes + LINE_COST).min(self.burst);
        match self.dropped {
            None if self.tokens >= cost => {
                self.tokens -= cost;
                Verdict::Pass
            }
            Some(dropped) if self.tokens >= cost.max(self.rate.min(self.burst)) => {
                self.tokens -= cost;
                self.dropped = None;
                Verdict::PassAfter(dropped)
            }
            before => {
                let total = before.unwrap_or_default();
                self.dropped = Some(Dropped { lines: total.lines + 1, bytes: total.bytes + bytes });
                if before.is_none() { Verdict::CloseAndDrop } else { Verdict::Drop }
            }
        }
    }

    /// Takes out what was dropped and not reported yet.
    pub fn finish(&mut self) -> Option<Dropped> {
        self.dropped.take()
    }

    fn fill(&mut self, now: Moment) {
        let micros = now.since(self.filled).as_micros();
        let gained = micros * u128::from(self.rate) / Duration::from_secs(1).as_micros();
        if gained > 0 {
            // Below one byte the time is left to run on, or frequent calls would never gain anything.
            self.filled = now;
            self.tokens =
                self.tokens.saturating_add(u64::try_from(gained).unwrap_or(u64::MAX)).min(self.burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_passes_and_then_the_bucket_closes_until_a_second_has_come_in() {
        let mut bucket = Bucket::new(1000, 100, at(0));
        for _ in 0..10 {
            assert_eq!(bucket.judge(36, at(0)), Verdict::Pass);
        }
        assert_eq!(bucket.judge(10, at(0)), Verdict::CloseAndDrop);
        assert_eq!(bucket.judge(10, at(500)), Verdict::Drop);
        assert_eq!(bucket.judge(10, at(1000)), Verdict::PassAfter(Dropped { lines: 2, bytes: 20 }));
        assert_eq!(bucket.judge(1, at(1000)), Verdict::CloseAndDrop);
        assert_eq!(bucket.finish(), Some(Dropped { lines: 1, bytes: 1 }));
        assert_eq!(bucket.finish(), None);
    }

    #[test]
    fn a_line_dearer_than_the_bucket_passes_when_it_is_full() {
        let mut bucket = Bucket::new(1000, 100, at(0));
        assert_eq!(bucket.judge(5000, at(0)), Verdict::Pass);
        assert_eq!(bucket.judge(5000, at(9000)), Verdict::CloseAndDrop);
        assert_eq!(bucket.judge(5000, at(10_000)), Verdict::PassAfter(Dropped { lines: 1, bytes: 5000 }));
    }

    #[test]
    fn frequent_calls_gain_as_much_as_rare_ones() {
        let mut bucket = Bucket::new(1000, 1, at(0));
        assert_eq!(bucket.judge(1000, at(0)), Verdict::Pass);
        for millis in 1..65_000 {
            assert_ne!(bucket.judge(1, at(millis)), Verdict::Pass);
        }
        assert!(matches!(bucket.judge(1, at(65_000)), Verdict::PassAfter(_)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(lines in proptest::collection::vec((1u64..500, 0u64..300), 1..200)) {
            let mut bucket = Bucket::new(1000, 100, at(0));
            let (mut now, mut passed, mut dropped, mut reported) = (0, 0, 0, 0);
            for (bytes, pause) in lines {
                now += pause;
                match bucket.judge(bytes, at(now)) {
                    Verdict::Pass => passed += bytes + LINE_COST,
                    Verdict::PassAfter(gone) => {
                        passed += bytes + LINE_COST;
                        reported += gone.lines;
                    }
                    Verdict::CloseAndDrop | Verdict::Drop => dropped += 1,
                }
                prop_assert!(passed <= 1000 + now / 10);
            }
            prop_assert_eq!(dropped, reported + bucket.finish().map_or(0, |gone| gone.lines));
        }
    }
}
