//! How many workers a pool starts or stops now: static, dynamic and ondemand with php-fpm's settings, driven by demand
//! instead of php-fpm's one-second tick. Owns one pool's memory of what was superfluous since when, and of the starts
//! under way; which workers there are, and whether a start is held back after failures, is known in `supervise`.
//!
//! 1. **Wanted** are: static, `max_children`; dynamic, the busy ones, one for each request that waits, and `min_spare` idle
//!    ones; ondemand, the busy ones and one for each request that waits. Workers that are starting or idle count as had.
//!    A dynamic pool begins with `start_servers`.
//! 2. **Starts** are bounded by `max_children`, by the headroom that `process_max` leaves (see [`super::share`]), and except
//!    for static and the first fill by the pace (`pace`): [`Bounds::at_once`] starts may be under way at once; each
//!    worker that becomes ready lets one more begin, and so does each `1/max_spawn_rate` of a second.
//! 3. **Stops** are idle workers only, and none while something waits: a dynamic pool stops as many as there were beyond
//!    `max_spare` idle throughout `idle_timeout`, an ondemand pool as many as were idle throughout it. All at once; the
//!    longest idle first. As this is the least number of idle workers in that time, a load that comes and goes within it
//!    never makes the pool stop a worker that it starts again.
//! 4. More workers than `max_children`, after that was lowered: the idle ones are stopped at once.
//!
//! **When to call [`Scaling::decide`]**: at the start; when the queue becomes empty, non-empty or longer; when a worker
//! becomes ready, becomes idle or busy, or ends; when the bounds change; when `process_max` has room again for a pool
//! that it held back; and at [`Decision::look_again`], which is `None` for a pool that has nothing to wait for. A caller
//! that learns of idle workers only from time to time says in [`Demand::least_idle`] what it may have missed.

mod pace;
#[cfg(test)]
mod properties;
mod surplus;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Moment;
use pace::Pace;
use surplus::Surplus;

/// The starts that may be under way at once on a machine with so many CPUs: enough to keep them all at work while some
/// starts wait for a disk, few enough that the first worker is ready long before the last.
pub fn at_once(cpus: u32) -> u32 {
    cpus.saturating_mul(2).max(4)
}

/// The settings of one pool. The configuration has checked them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// How the number is decided.
    pub mode: Mode,
    /// The most workers, at least 1.
    pub max_children: u32,
    /// Requests that one worker serves at once, at least 1; 1 in direct mode.
    pub concurrency: u32,
    /// Starts a second that need not wait for earlier ones to be ready, at least 1. Means nothing to a static pool.
    pub max_spawn_rate: u32,
    /// Starts that may be under way at once before `max_spawn_rate` lets more begin: [`at_once`].
    pub at_once: u32,
    /// How long an idle worker must have been superfluous until it is stopped. Means nothing to a static pool.
    pub idle_timeout: Duration,
}

/// How the number of workers is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Always `max_children`.
    Static,
    /// Some idle ones in reserve.
    Dynamic {
        /// How many it begins with, `min_spare` to `max_spare`.
        start_servers: u32,
        /// Fewer idle ones make it start some, at least 1.
        min_spare: u32,
        /// More idle ones make it stop some, at least `min_spare`.
        max_spare: u32,
    },
    /// Only while there are requests.
    Ondemand,
}

impl Bounds {
    /// The workers that the pool must be able to have whatever the others do: what `process_max` reserves for it.
    pub fn reserved(&self) -> u32 {
        match self.mode {
            Mode::Static => self.max_children,
            Mode::Dynamic { min_spare, .. } => min_spare.clamp(1, self.max_children.max(1)),
            Mode::Ondemand => 1,
        }
    }
}

/// What the caller sees of the pool now. Each worker is in one of the four counts, or in none once it is stuck for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Requests or connections that wait for a worker. Those that an idle worker is about to take may be among them.
    pub queued: u32,
    /// Workers that are ready and have no request.
    pub idle: u32,
    /// The least that `idle` was since the last call; `idle` itself where every change makes a call.
    pub least_idle: u32,
    /// Workers with a request, those that work on after their answer included.
    pub busy: u32,
    /// Workers that were asked for and are not ready yet.
    pub starting: u32,
    /// Workers that are on their way out. They fill `max_children` too, as their memory does, so a caller leaves out those
    /// whose replacement is meant to run beside them (recycling, the old generation of a reload).
    pub leaving: u32,
    /// Processes that `process_max` lets this pool add: [`super::share::Share::headroom`]; `u32::MAX` without that setting.
    pub headroom: u32,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decision {
    /// Start so many now. The caller may start fewer, and says [`Scaling::started`] of each that it starts.
    pub start: u32,
    /// Stop so many idle workers now, the longest idle first ([`longest_idle`]). Never together with `start`.
    pub stop: u32,
    /// Decide again then, if nothing else happens before.
    pub look_again: Option<Moment>,
    /// What kept it from starting all that were wanted.
    pub limit: Option<Limit>,
    /// The same if it has just come up: worth a line in the log. [`Scaling::max_children_reached`] has counted it.
    pub news: Option<Limit>,
}

/// What keeps a pool from having as many workers as it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// `max_children`. Never in a static pool.
    MaxChildren,
    /// `process_max`: other pools have, or are entitled to, the rest.
    ProcessMax,
    /// `max_spawn_rate`, for a moment. Never news.
    SpawnRate,
}

/// One pool's memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaling {
    bounds: Bounds,
    pace: Pace,
    surplus: Surplus,
    first_fill: FirstFill,
    /// The limit that was news last and has been in the way since.
    reported: Option<Limit>,
    max_children_reached: u64,
}

/// Whether a dynamic pool has had its `start_servers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum FirstFill {
    Due,
    Done,
}

impl Scaling {
    /// Of a pool without workers.
    pub fn new(bounds: Bounds) -> Scaling {
        Scaling {
            pace: Pace::new(),
            bounds,
            surplus: Surplus::new(),
            first_fill: FirstFill::Due,
            reported: None,
            max_children_reached: 0,
        }
    }

    /// The bounds in force.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Other bounds, after a reload or `fpmctl scale`; decide again after it. What is known of the load stays.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// One worker was asked for at `now`.
    pub fn started(&mut self, now: Moment) {
        self.pace.spend(now, &self.bounds);
    }

    /// One worker has become ready. Not to be said of one that ended before.
    pub fn ready(&mut self) {
        self.pace.give_back();
    }

    /// How often more workers than `max_children` have come to be wanted: php-fpm's `max children reached`, which is counted
    /// again only after there were fewer.
    pub fn max_children_reached(&self) -> u64 {
        self.max_children_reached
    }

    /// What to do now.
    pub fn decide(&mut self, now: Moment, demand: &Demand) -> Decision {
        self.note(now, demand);
        let have = demand.idle.saturating_add(demand.busy).saturating_add(demand.starting);
        let beyond = have.saturating_sub(self.bounds.max_children);
        if beyond > 0 {
            return Decision { stop: beyond.min(demand.idle), ..Decision::default() };
        }
        let mut decision = match self.wanted(demand).checked_sub(have) {
            Some(missing) if missing > 0 => self.start(now, demand, missing),
            Some(_) | None => self.stop(now, demand),
        };
        decision.news = self.news(decision.limit, have.saturating_add(demand.leaving), demand.headroom);
        decision
    }

    fn note(&mut self, now: Moment, demand: &Demand) {
        self.surplus.observe(now, demand.least_idle.min(demand.idle));
        // What waits is about to be taken.
        self.surplus.observe(now, demand.idle.saturating_sub(demand.queued));
        // From the first worker that is ready on, what runs follows the demand, even if some of the first never came up.
        if demand.idle.saturating_add(demand.busy) > 0 {
            self.first_fill = FirstFill::Done;
        }
    }

    /// How many workers there should be, without regard to limits.
    fn wanted(&self, demand: &Demand) -> u32 {
        // Also where those that are busy would be done with the queue before a new one is ready: to wait for them was
        // simulated, and saved starts by longer waits (the 99th percentile by up to a half).
        let needed = demand.queued.div_ceil(self.bounds.concurrency.max(1));
        let working = demand.busy.saturating_add(needed);
        match self.bounds.mode {
            Mode::Static => self.bounds.max_children,
            Mode::Dynamic { start_servers, min_spare, .. } => {
                let first = match self.first_fill {
                    FirstFill::Due => start_servers,
                    FirstFill::Done => 0,
                };
                working.saturating_add(min_spare).max(first)
            }
            Mode::Ondemand => working,
        }
    }

    fn start(&mut self, now: Moment, demand: &Demand, missing: u32) -> Decision {
        let have = demand.idle.saturating_add(demand.busy).saturating_add(demand.starting);
        let room = self.bounds.max_children.saturating_sub(have.saturating_add(demand.leaving));
        let (paced, next) = match (self.bounds.mode, self.first_fill) {
            (Mode::Static, _) | (Mode::Dynamic { .. }, FirstFill::Due) => (u32::MAX, None),
            (Mode::Dynamic { .. }, FirstFill::Done) | (Mode::Ondemand, _) => {
                self.pace.room(now, &self.bounds)
            }
        };
        let start = missing.min(room).min(demand.headroom).min(paced);
        let limit = if missing == start {
            None
        } else if start == room {
            (self.bounds.mode != Mode::Static).then_some(Limit::MaxChildren)
        } else if start == demand.headroom {
            Some(Limit::ProcessMax)
        } else {
            Some(Limit::SpawnRate)
        };
        let look_again = next.filter(|_| limit == Some(Limit::SpawnRate));
        Decision { start, limit, look_again, ..Decision::default() }
    }

    fn stop(&mut self, now: Moment, demand: &Demand) -> Decision {
        let keep = match self.bounds.mode {
            Mode::Static => return Decision::default(),
            Mode::Dynamic { min_spare, max_spare, .. } => max_spare.max(min_spare),
            Mode::Ondemand => 0,
        };
        if demand.queued > 0 {
            return Decision::default(); // its end makes another call
        }
        let settled = self.surplus.settled(now, self.bounds.idle_timeout).min(demand.idle);
        let stop = settled.saturating_sub(keep);
        let look_again = self.surplus.next(now, keep, self.bounds.idle_timeout);
        Decision { stop, look_again, ..Decision::default() }
    }

    /// The limit, if it was not in the way all the time since it was news last.
    fn news(&mut self, limit: Option<Limit>, processes: u32, headroom: u32) -> Option<Limit> {
        let gone = match self.reported {
            Some(Limit::MaxChildren) => processes < self.bounds.max_children,
            Some(Limit::ProcessMax) => headroom > 0,
            Some(Limit::SpawnRate) | None => true,
        };
        if gone {
            self.reported = None;
        }
        let news = limit.filter(|limit| *limit != Limit::SpawnRate && self.reported != Some(*limit))?;
        if news == Limit::MaxChildren {
            self.max_children_reached += 1;
        }
        self.reported = Some(news);
        Some(news)
    }
}

/// The `count` workers that have been idle for longest, out of pairs of a worker and since when it is idle.
pub fn longest_idle<W: Copy + Ord>(idle: impl IntoIterator<Item = (W, Moment)>, count: u32) -> Vec<W> {
    let mut idle: Vec<(Moment, W)> = idle.into_iter().map(|(worker, since)| (since, worker)).collect();
    idle.sort_unstable();
    idle.into_iter().take(count as usize).map(|(_, worker)| worker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn bounds(mode: Mode, max_children: u32) -> Bounds {
        Bounds {
            mode,
            max_children,
            concurrency: 1,
            max_spawn_rate: 32,
            at_once: 32,
            idle_timeout: 10 * SECOND,
        }
    }

    fn dynamic(start_servers: u32, min_spare: u32, max_spare: u32) -> Mode {
        Mode::Dynamic { start_servers, min_spare, max_spare }
    }

    /// Nobody is there and nothing is asked.
    fn quiet() -> Demand {
        Demand {
            queued: 0,
            idle: 0,
            least_idle: u32::MAX,
            busy: 0,
            starting: 0,
            leaving: 0,
            headroom: u32::MAX,
        }
    }

    fn start(start: u32) -> Decision {
        Decision { start, ..Decision::default() }
    }

    #[test]
    fn a_static_pool_is_filled_at_once_and_kept_full() {
        let mut pool = Scaling::new(bounds(Mode::Static, 100));
        assert_eq!(pool.decide(at(0), &quiet()), start(100));
        assert_eq!(pool.decide(at(1), &Demand { idle: 97, queued: 500, ..quiet() }), start(3));
        assert_eq!(pool.decide(at(2), &Demand { idle: 97, leaving: 1, ..quiet() }), start(2));
        assert_eq!(pool.decide(at(100_000), &Demand { idle: 100, ..quiet() }), Decision::default());
    }

    #[test]
    fn a_dynamic_pool_begins_with_its_start_servers_and_then_keeps_its_spare_ones() {
        let mut pool = Scaling::new(bounds(dynamic(4, 2, 6), 40));
        assert_eq!(pool.decide(at(0), &quiet()), start(4));
        assert_eq!(pool.decide(at(1), &Demand { starting: 3, ..quiet() }), start(1));
        assert_eq!(pool.decide(at(9), &Demand { starting: 3, idle: 1, ..quiet() }), start(0));
        assert_eq!(pool.decide(at(10), &Demand { idle: 1, ..quiet() }), start(1));
        assert_eq!(pool.decide(at(10), &Demand { idle: 2, busy: 9, ..quiet() }), start(0));
        assert_eq!(pool.decide(at(10), &Demand { idle: 1, busy: 9, ..quiet() }), start(1));
        let crowd = Demand { queued: 20, busy: 10, starting: 3, ..quiet() };
        assert_eq!(pool.decide(at(11), &crowd), start(19), "20 in the queue and 2 spare, 3 are coming");
    }

    #[test]
    fn an_ondemand_pool_starts_as_many_as_wait_and_stops_them_after_the_timeout() {
        let mut pool = Scaling::new(bounds(Mode::Ondemand, 10));
        assert_eq!(pool.decide(at(0), &quiet()), Decision::default());
        assert_eq!(pool.decide(at(1), &Demand { queued: 10, ..quiet() }), start(10));
        assert_eq!(pool.decide(at(2), &Demand { queued: 10, starting: 9, idle: 1, ..quiet() }), start(0));
        let rest = Demand { idle: 10, ..quiet() };
        let waits = Decision { look_again: Some(at(11_000)), ..Decision::default() };
        assert_eq!(pool.decide(at(1_000), &rest), waits);
        // One more request meanwhile: nine were idle throughout.
        assert_eq!(pool.decide(at(6_000), &Demand { idle: 9, busy: 1, ..quiet() }), waits);
        assert_eq!(pool.decide(at(6_001), &rest), waits);
        let nine = Decision { stop: 9, look_again: Some(at(16_001)), ..Decision::default() };
        assert_eq!(pool.decide(at(11_000), &rest), nine);
        let last = Demand { idle: 1, leaving: 9, ..quiet() };
        assert_eq!(pool.decide(at(16_001), &last), Decision { stop: 1, ..Decision::default() });
        assert_eq!(pool.decide(at(16_002), &quiet()), Decision::default(), "and nothing to wait for");
    }

    #[test]
    fn a_dynamic_pool_stops_what_was_beyond_max_spare_for_the_whole_timeout() {
        let mut pool = Scaling::new(bounds(dynamic(4, 2, 6), 40));
        let waits = pool.decide(at(0), &Demand { idle: 9, busy: 1, ..quiet() });
        assert_eq!((waits.stop, waits.look_again), (0, Some(at(10_000))));
        // Down to 7 for a moment between two calls: one of the nine is superfluous since the start, two more since then.
        let dip = Demand { idle: 9, least_idle: 7, busy: 1, ..quiet() };
        assert_eq!(pool.decide(at(5_000), &dip).look_again, Some(at(10_000)));
        let one = pool.decide(at(10_000), &Demand { idle: 9, busy: 1, ..quiet() });
        assert_eq!((one.stop, one.look_again), (1, Some(at(15_000))));
        let two = pool.decide(at(15_000), &Demand { idle: 8, busy: 1, ..quiet() });
        assert_eq!((two.stop, two.look_again), (2, None));
        assert_eq!(pool.decide(at(15_001), &Demand { idle: 6, busy: 1, ..quiet() }), Decision::default());
    }

    #[test]
    fn a_lower_max_children_ends_idle_workers_at_once_and_no_busy_ones() {
        let mut pool = Scaling::new(bounds(Mode::Static, 10));
        pool.set_bounds(bounds(Mode::Static, 4));
        let stop = |stop| Decision { stop, ..Decision::default() };
        assert_eq!(pool.decide(at(0), &Demand { idle: 3, busy: 7, queued: 5, ..quiet() }), stop(3));
        assert_eq!(pool.decide(at(1), &Demand { busy: 7, leaving: 3, ..quiet() }), stop(0));
        assert_eq!(pool.decide(at(2), &Demand { idle: 1, busy: 6, ..quiet() }), stop(1));
        assert_eq!(pool.decide(at(3), &Demand { idle: 1, busy: 3, leaving: 1, ..quiet() }), stop(0));
    }

    #[test]
    fn max_children_is_news_and_counted_once_until_there_are_fewer() {
        let mut pool = Scaling::new(bounds(dynamic(1, 1, 3), 3));
        pool.decide(at(0), &Demand { idle: 1, ..quiet() });
        let full = pool.decide(at(1), &Demand { busy: 1, queued: 4, ..quiet() });
        assert_eq!(
            (full.start, full.limit, full.news),
            (2, Some(Limit::MaxChildren), Some(Limit::MaxChildren))
        );
        for queued in [9, 0, 9] {
            let again = pool.decide(at(2), &Demand { busy: 3, queued, ..quiet() });
            assert_eq!((again.start, again.limit, again.news), (0, Some(Limit::MaxChildren), None));
        }
        assert_eq!(pool.max_children_reached(), 1);
        assert_eq!(pool.decide(at(3), &Demand { idle: 2, ..quiet() }).limit, None);
        assert_eq!(pool.decide(at(4), &Demand { busy: 3, ..quiet() }).news, Some(Limit::MaxChildren));
        assert_eq!(pool.max_children_reached(), 2);
    }

    #[test]
    fn process_max_is_named_when_it_is_in_the_way() {
        let mut pool = Scaling::new(bounds(Mode::Static, 5));
        let some = pool.decide(at(0), &Demand { headroom: 3, ..quiet() });
        let limit = Some(Limit::ProcessMax);
        assert_eq!((some.start, some.limit, some.news), (3, limit, limit));
        let none = pool.decide(at(1), &Demand { starting: 3, headroom: 0, ..quiet() });
        assert_eq!((none.start, none.limit, none.news), (0, limit, None));
        assert_eq!(pool.decide(at(2), &Demand { idle: 3, headroom: 2, ..quiet() }), start(2));
    }

    /// A pool with a crowd before it, of which 4 starts may be under way and 10 a second begin all the same.
    fn crowded() -> (Scaling, Demand) {
        let bounds = Bounds { max_spawn_rate: 10, at_once: 4, ..bounds(Mode::Ondemand, 100) };
        (Scaling::new(bounds), Demand { queued: 50, ..quiet() })
    }

    #[test]
    fn starts_are_let_in_by_workers_that_become_ready_and_by_time() {
        let (mut pool, crowd) = crowded();
        let first = pool.decide(at(1_000), &crowd);
        assert_eq!((first.start, first.limit, first.news), (4, Some(Limit::SpawnRate), None));
        assert_eq!(first.look_again, Some(at(1_100)));
        for _ in 0..first.start {
            pool.started(at(1_000));
        }
        assert_eq!(pool.decide(at(1_020), &Demand { starting: 4, ..crowd }).start, 0);
        pool.ready();
        pool.ready();
        assert_eq!(pool.decide(at(1_030), &Demand { starting: 2, busy: 2, queued: 48, ..crowd }).start, 2);
        pool.started(at(1_030));
        pool.started(at(1_030));
        let held = Demand { starting: 4, busy: 2, queued: 48, ..crowd };
        assert_eq!(pool.decide(at(1_099), &held).look_again, Some(at(1_100)));
        assert_eq!(pool.decide(at(1_100), &held).start, 1, "a tenth of a second");
        assert_eq!(pool.decide(at(9_000), &held).start, 4, "nothing is saved up");
    }

    #[test]
    fn a_worker_for_several_requests_counts_for_several() {
        let bounds = Bounds { concurrency: 8, ..bounds(Mode::Ondemand, 10) };
        let mut pool = Scaling::new(bounds);
        assert_eq!(pool.decide(at(0), &Demand { queued: 17, ..quiet() }), start(3));
    }

    #[test]
    fn the_longest_idle_go_first() {
        let idle = [(7, at(30)), (1, at(10)), (4, at(20)), (2, at(10))];
        assert_eq!(longest_idle(idle, 3), [1, 2, 4]);
        assert_eq!(longest_idle(idle, 9), [1, 2, 4, 7]);
    }
}
