//! When a pool may start its next worker, after workers that died young or could not be started.
//!
//! The rules, in the order in which they apply to the end of a worker that nobody asked to end:
//!
//! 1. A worker that lived for [`QUICK`] (1 s) is replaced at once, whatever its end. One that ends with exit code 0 in a
//!    pool that expects recycling is "quick" only below [`QUICK_RECYCLE`] (100 ms).
//! 2. Quick ends have an allowance: as many as the pool has children (so that a killed batch of fresh workers is
//!    replaced at once), and [`RECYCLES_PER_CHILD`] times as many for exit code 0 in a pool that recycles and for
//!    crashes in service: while another worker lives on that has lived for `QUICK`, or within `QUICK` of an answered
//!    request. There it is requests that kill workers, and the pool goes on for the others. Starts that failed (no process, or the program did not run) have none: the next one would fail for the same reason. Nor has a
//!    probe (rule 4).
//! 3. Past the allowance each failure doubles the pool's delay: 100 ms, 200 ms … up to [`CEILING`] (30 s), or
//!    [`RECYCLE_CEILING`] (1 s) for those that have the larger allowance. It never gives up. Workers that had been asked
//!    for before the last doubling do not double again: a hundred that fail together are one failure.
//! 4. After the delay one worker is started as a probe. If it fails, rule 3 applies; when it has lived for `QUICK` the
//!    other missing workers are started. (Those with the larger allowance need no probe: all that are missing are started.)
//! 5. Allowance and delay start afresh when [`PROVEN`] (10 s) have passed since the first start after the last failure.
//!    This is computed at the next failure, so that a healthy pool needs no timer.
//!
//! Owns these numbers and no more; which workers are missing is known in `supervise`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Moment;

/// Below this age the end of a worker is "quick".
pub const QUICK: Duration = Duration::from_secs(1);
/// The same for exit code 0 where recycling is expected.
pub const QUICK_RECYCLE: Duration = Duration::from_millis(100);
/// The first delay.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
pub const CEILING: Duration = Duration::from_secs(30);
/// The longest delay after exit code 0 where recycling is expected, and after a crash while others live on.
pub const RECYCLE_CEILING: Duration = Duration::from_secs(1);
/// How long starts must go well until earlier failures are forgotten.
pub const PROVEN: Duration = Duration::from_secs(10);
/// Quick recycles, and crashes while others live on, that a pool may have for each child before they are delayed.
pub const RECYCLES_PER_CHILD: u32 = 50;

/// How a worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There never was a process, or it never ran the program.
    NotStarted,
    /// It ended by a signal or with an exit code other than 0.
    Crash,
    /// The same, while another worker with the same settings has lived for [`QUICK`]: the program is able to serve. A
    /// `Crash` soon after [`Backoff::served`] counts as this.
    CrashInService,
    /// Exit code 0.
    CleanExit {
        /// Whether the pool expects that.
        recycles: bool,
    },
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The worker was old enough: replace it at once, even while the pool backs off.
    NotQuick,
    /// Quick, and within the allowance.
    Allowed,
    /// Quick, and belongs to a failure that has raised the delay already.
    SameWave,
    /// Quick: the next start is this much later.
    Raised(Duration),
}

/// Whether a worker may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Now,
    /// Not before this moment.
    At(Moment),
    /// Not before the probe has come to an end or proved itself.
    AfterProbe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Pace {
    Free,
    Waiting { until: Moment, then: Then },
    Probing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    Probe,
    StartAll,
}

/// The memory of one pool's failures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    pace: Pace,
    delay: Duration,
    raised: Option<Moment>,
    quick_ends: u32,
    quick_tolerated: u32,
    streak: u32,
    /// The last answered request, where somebody knows of that.
    served: Option<Moment>,
    /// The first start after the last failure.
    well_since: Option<Moment>,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

impl Backoff {
    /// Of a pool that has had no failure.
    pub fn new() -> Backoff {
        Backoff {
            pace: Pace::Free,
            delay: Duration::ZERO,
            raised: None,
            quick_ends: 0,
            quick_tolerated: 0,
            streak: 0,
            served: None,
            well_since: None,
        }
    }

    /// A worker runs its program since `now`.
    pub fn started(&mut self, now: Moment) {
        self.well_since.get_or_insert(now);
    }

    /// Requests have been answered up to `now`: the program works, whatever else kills its workers. Ends a probe, and gives
    /// the larger allowance anew, so that the pool never waits while each of its workers answers something.
    pub fn served(&mut self, now: Moment) {
        self.served = Some(now);
        self.quick_tolerated = 0;
        if self.pace == Pace::Probing {
            self.pace = Pace::Free;
        }
    }

    /// A worker failed that was asked for at `requested` and lived for `age`, in a pool that should have `children`.
    pub fn failed(
        &mut self,
        now: Moment,
        requested: Moment,
        age: Duration,
        failure: Failure,
        children: u32,
    ) -> Verdict {
        let works = self.served.is_some_and(|served| now.since(served) < QUICK);
        let failure = if works && failure == Failure::Crash { Failure::CrashInService } else { failure };
        if !is_quick(failure, age) {
            if self.pace == Pace::Probing {
                self.pace = Pace::Free;
            }
            return Verdict::NotQuick;
        }
        if self.is_proven(now) {
            *self = Backoff { served: self.served, ..Backoff::new() };
        }
        self.well_since = None;
        self.streak = self.streak.saturating_add(1);
        let spared = self.spend_allowance(failure, children);
        if self.raised.is_some_and(|raised| requested <= raised) {
            return Verdict::SameWave;
        }
        if spared && self.pace == Pace::Free {
            return Verdict::Allowed;
        }
        Verdict::Raised(self.raise(now, failure))
    }

    /// Asks for one start. `Permit::Now` after a delay makes that worker the probe: see [`Backoff::is_probing`].
    pub fn permit(&mut self, now: Moment) -> Permit {
        match self.pace {
            Pace::Free => Permit::Now,
            Pace::Waiting { until, .. } if now < until => Permit::At(until),
            Pace::Waiting { then: Then::Probe, .. } => {
                self.pace = Pace::Probing;
                Permit::Now
            }
            Pace::Waiting { then: Then::StartAll, .. } => {
                self.pace = Pace::Free;
                Permit::Now
            }
            Pace::Probing => Permit::AfterProbe,
        }
    }

    /// The probe has lived for [`QUICK`]: the others may start. The delay is remembered until rule 5 forgets it.
    pub fn probe_survived(&mut self) {
        self.pace = Pace::Free;
    }

    /// The probe ended for a reason that proves nothing, such as a command to kill it: the next may start now.
    pub fn probe_lost(&mut self, now: Moment) {
        if self.pace == Pace::Probing {
            self.pace = Pace::Waiting { until: now, then: Then::Probe };
        }
    }

    /// Whether starts are held back.
    pub fn is_holding(&self) -> bool {
        self.pace != Pace::Free
    }

    /// Whether a probe is on its way.
    pub fn is_probing(&self) -> bool {
        self.pace == Pace::Probing
    }

    /// How many quick ends and failed starts there were since all was well.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// When the next worker may start, while that is known.
    pub fn retry_at(&self) -> Option<Moment> {
        match self.pace {
            Pace::Waiting { until, .. } => Some(until),
            Pace::Free | Pace::Probing => None,
        }
    }

    fn is_proven(&self, now: Moment) -> bool {
        self.well_since.is_some_and(|since| now.since(since) >= PROVEN)
    }

    fn spend_allowance(&mut self, failure: Failure, children: u32) -> bool {
        let (spent, allowance) = match failure {
            Failure::NotStarted => return false,
            Failure::Crash | Failure::CleanExit { recycles: false } => (&mut self.quick_ends, children),
            Failure::CrashInService | Failure::CleanExit { recycles: true } => {
                (&mut self.quick_tolerated, children.saturating_mul(RECYCLES_PER_CHILD))
            }
        };
        *spent = spent.saturating_add(1);
        *spent <= allowance
    }

    fn raise(&mut self, now: Moment, failure: Failure) -> Duration {
        let (ceiling, then) = match failure {
            Failure::CrashInService | Failure::CleanExit { recycles: true } => {
                (RECYCLE_CEILING, Then::StartAll)
            }
            Failure::NotStarted | Failure::Crash | Failure::CleanExit { recycles: false } => {
                (CEILING, Then::Probe)
            }
        };
        self.delay = next_delay(self.delay, ceiling);
        self.raised = Some(now);
        self.pace = Pace::Waiting { until: now.after(self.delay), then };
        self.delay
    }
}

/// The delay after this one: doubled, from [`FIRST_DELAY`] up to `ceiling`.
pub fn next_delay(delay: Duration, ceiling: Duration) -> Duration {
    delay.saturating_mul(2).clamp(FIRST_DELAY, ceiling)
}

fn is_quick(failure: Failure, age: Duration) -> bool {
    match failure {
        Failure::NotStarted => true,
        Failure::Crash | Failure::CrashInService | Failure::CleanExit { recycles: false } => age < QUICK,
        Failure::CleanExit { recycles: true } => age < QUICK_RECYCLE,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YOUNG: Duration = Duration::from_millis(30);
    const RECYCLE: Failure = Failure::CleanExit { recycles: true };

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    /// Runs a command that always fails after 30 ms; the delays in milliseconds, in order.
    fn delays(failure: Failure, children: u32, count: usize) -> Vec<u128> {
        let mut backoff = Backoff::new();
        let mut now = at(0);
        let mut delays = Vec::new();
        while delays.len() < count {
            match backoff.permit(now) {
                Permit::Now => {}
                Permit::At(until) => {
                    now = until;
                    continue;
                }
                Permit::AfterProbe => panic!("the probe has failed already"),
            }
            let requested = now;
            backoff.started(now);
            now = now.after(YOUNG);
            match backoff.failed(now, requested, YOUNG, failure, children) {
                Verdict::Allowed => delays.push(0),
                Verdict::Raised(delay) => delays.push(delay.as_millis()),
                verdict @ (Verdict::NotQuick | Verdict::SameWave) => panic!("{verdict:?}"),
            }
        }
        delays
    }

    #[test]
    fn a_crashing_command_is_tried_at_growing_intervals_for_ever() {
        assert_eq!(
            delays(Failure::Crash, 2, 14),
            [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000]
        );
        assert_eq!(delays(Failure::NotStarted, 100, 3), [100, 200, 400]);
        assert_eq!(delays(Failure::CleanExit { recycles: false }, 1, 3), [0, 100, 200]);
    }

    #[test]
    fn recycling_is_allowed_far_more_and_ends_at_one_second() {
        let delays = delays(RECYCLE, 1, 56);
        assert!(delays[..50].iter().all(|delay| *delay == 0));
        assert_eq!(delays[50..], [100, 200, 400, 800, 1000, 1000]);
        let mut backoff = Backoff::new();
        for turn in 0..10_000 {
            let age = QUICK_RECYCLE;
            assert_eq!(backoff.failed(at(turn), at(turn), age, RECYCLE, 1), Verdict::NotQuick);
        }
        assert!(!backoff.is_holding());
    }

    #[test]
    fn requests_that_kill_workers_do_not_bring_a_pool_to_a_stand() {
        let delays = delays(Failure::CrashInService, 1, 56);
        assert!(delays[..50].iter().all(|delay| *delay == 0));
        assert_eq!(delays[50..], [100, 200, 400, 800, 1000, 1000]);
        let mut backoff = Backoff::new();
        backoff.quick_tolerated = RECYCLES_PER_CHILD;
        backoff.failed(at(0), at(0), YOUNG, Failure::CrashInService, 1);
        assert_eq!(
            [backoff.permit(at(100)), backoff.permit(at(100))],
            [Permit::Now; 2],
            "all that are missing"
        );
    }

    #[test]
    fn an_answered_request_proves_as_much_as_a_long_life() {
        let mut backoff = Backoff::new();
        for turn in 0..500 {
            backoff.served(at(turn * 100));
            let verdict = backoff.failed(at(turn * 100 + 50), at(turn * 100), YOUNG, Failure::Crash, 1);
            assert_eq!(verdict, Verdict::Allowed);
        }
        let mut fail = |millis| backoff.failed(at(millis), at(millis - 10), YOUNG, Failure::Crash, 1);
        assert_eq!(fail(50_950), Verdict::Allowed, "the one that any crash has");
        assert_eq!(fail(51_000), Verdict::Raised(FIRST_DELAY));
        assert_eq!(backoff.permit(at(51_100)), Permit::Now);
        assert_eq!(backoff.permit(at(51_100)), Permit::AfterProbe);
        backoff.served(at(51_150));
        assert_eq!(backoff.permit(at(51_150)), Permit::Now);
    }

    #[test]
    fn old_workers_are_always_replaced_at_once() {
        let mut backoff = Backoff::new();
        backoff.failed(at(0), at(0), YOUNG, Failure::NotStarted, 1);
        assert_eq!(backoff.failed(at(2000), at(0), QUICK, Failure::Crash, 1), Verdict::NotQuick);
    }

    #[test]
    fn those_that_fail_together_are_one_failure() {
        let mut backoff = Backoff::new();
        assert_eq!(
            backoff.failed(at(5), at(0), YOUNG, Failure::NotStarted, 100),
            Verdict::Raised(FIRST_DELAY)
        );
        for late in 5..104 {
            let verdict = backoff.failed(at(late), at(0), YOUNG, Failure::NotStarted, 100);
            assert_eq!(verdict, Verdict::SameWave);
        }
        assert_eq!(backoff.retry_at(), Some(at(105)));
    }

    #[test]
    fn one_probe_at_a_time_and_then_all() {
        let mut backoff = Backoff::new();
        backoff.failed(at(0), at(0), YOUNG, Failure::NotStarted, 4);
        assert_eq!(backoff.permit(at(99)), Permit::At(at(100)));
        assert_eq!(backoff.permit(at(100)), Permit::Now);
        assert!(backoff.is_probing());
        assert_eq!(backoff.permit(at(100)), Permit::AfterProbe);
        backoff.probe_lost(at(150));
        assert_eq!(backoff.permit(at(150)), Permit::Now);
        backoff.probe_survived();
        assert_eq!(backoff.permit(at(1100)), Permit::Now);
        assert!(!backoff.is_holding());
    }

    #[test]
    fn failures_are_forgotten_after_ten_good_seconds_and_not_before() {
        let mut backoff = Backoff::new();
        for turn in 0..5 {
            backoff.failed(at(turn * 1000 + 1), at(turn * 1000), YOUNG, Failure::NotStarted, 1);
            backoff.permit(at(turn * 1000 + 999));
        }
        let mut early = backoff.clone();
        early.started(at(10_000));
        let verdict = early.failed(at(19_999), at(19_900), YOUNG, Failure::NotStarted, 1);
        assert_eq!(verdict, Verdict::Raised(Duration::from_millis(3200)));
        backoff.started(at(10_000));
        let verdict = backoff.failed(at(20_000), at(19_900), YOUNG, Failure::NotStarted, 1);
        assert_eq!(verdict, Verdict::Raised(FIRST_DELAY));
    }

    proptest! {
        #[test]
        fn never_gives_up(steps in prop::collection::vec((0u64..40_000, 0u64..2_000, 0u8..5, 1u32..9), 1..200)) {
            let mut backoff = Backoff::new();
            let mut now = 0;
            for (wait, age, kind, children) in steps {
                now += wait;
                let failure = match kind {
                    0 => Failure::NotStarted,
                    1 => Failure::Crash,
                    2 => RECYCLE,
                    3 => Failure::CrashInService,
                    _ => Failure::CleanExit { recycles: false },
                };
                if backoff.permit(at(now)) == Permit::Now {
                    backoff.started(at(now));
                    let requested = at(now);
                    now += age;
                    let age = Duration::from_millis(age);
                    backoff.failed(at(now), requested, age, failure, children);
                }
                // A probe that neither failed nor lived would block the pool.
                prop_assert!(!backoff.is_probing());
                if let Some(until) = backoff.retry_at() {
                    prop_assert!(until <= at(now).after(CEILING));
                }
            }
        }
    }
}
