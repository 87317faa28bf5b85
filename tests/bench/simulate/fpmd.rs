//! fpmd's own policy, as its master and gateway apply it: the gateway tells of the load at once when it has been quiet,
//! and at most every 10 ms; the master knows at once who is ready, gone or dead.

use std::time::Duration;

use fpmd::ids::Moment;
use fpmd::policy::{Backoff, Bounds, Demand, Failure, Permit, Scaling};

use crate::world::{Cause, Manager, Order, Orders, View};

/// The gateway's pace.
const PACE: u64 = 10_000;
/// A worker that has lived for so long proves that starts go well.
const PROOF: u64 = 1_000_000;

/// How the load is seen: by a gateway, which is told what is served and gives the next request to the worker that was idle
/// last, or from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Gateway,
    Direct,
}

/// Of the load, what the gateway finds worth telling: the number of bits of what waits and of what is idle.
type Gist = (u32, u32);

fn gist(view: &View) -> Gist {
    let bits = |number: usize| usize::BITS - number.leading_zeros();
    (bits(view.queued), bits(view.idle.len()))
}

pub struct Fpmd {
    scaling: Scaling,
    backoff: Backoff,
    sight: Sight,
    told: Option<(u64, Gist)>,
    tell: Option<u64>,
    look_again: Option<u64>,
    least_idle: usize,
    probe: Option<u64>,
}

fn moment(micros: u64) -> Moment {
    Moment(Duration::from_micros(micros))
}

fn micros(moment: Moment) -> u64 {
    u64::try_from(moment.0.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

impl Fpmd {
    pub fn new(bounds: Bounds, sight: Sight) -> Fpmd {
        Fpmd {
            scaling: Scaling::new(bounds),
            backoff: Backoff::new(),
            sight,
            told: None,
            tell: None,
            look_again: None,
            least_idle: usize::MAX,
            probe: None,
        }
    }

    fn decide(&mut self, now: u64, view: &View, orders: &mut Orders) {
        let count = |number: usize| u32::try_from(number).unwrap();
        let demand = Demand {
            queued: count(view.queued),
            idle: count(view.idle.len()),
            least_idle: count(self.least_idle.min(view.idle.len())),
            busy: count(view.busy),
            starting: count(view.starting),
            leaving: count(view.leaving),
            headroom: u32::MAX,
        };
        self.least_idle = view.idle.len();
        let decision = self.scaling.decide(moment(now), &demand);
        self.look_again = decision.look_again.map(micros);
        for _ in 0..decision.start {
            match self.backoff.permit(moment(now)) {
                Permit::Now => self.start(now, orders),
                Permit::At(until) => {
                    let until = micros(until);
                    self.look_again = Some(self.look_again.map_or(until, |at| at.min(until)));
                    break;
                }
                Permit::AfterProbe => break,
            }
        }
        // The world has them in that order already: `policy::demand::longest_idle`.
        orders.stop.extend(view.idle.iter().take(decision.stop as usize).map(|idle| idle.worker));
    }

    fn start(&mut self, now: u64, orders: &mut Orders) {
        orders.start += 1;
        self.scaling.started(moment(now));
        self.backoff.started(moment(now));
        if self.backoff.is_probing() {
            self.probe = Some(now + PROOF);
        }
    }

    /// Whether the gateway speaks up now.
    fn load_changed(&mut self, now: u64, view: &View) -> bool {
        self.least_idle = self.least_idle.min(view.idle.len());
        let gist = gist(view);
        match self.told {
            Some((_, told)) if told == gist => false,
            Some((at, _)) if now < at + PACE => {
                self.tell = Some(at + PACE);
                false
            }
            Some(_) | None => {
                (self.told, self.tell) = (Some((now, gist)), None);
                true
            }
        }
    }

    fn died(&mut self, now: u64, age: u64, oldest: u64) {
        let failure = if oldest >= PROOF { Failure::CrashInService } else { Failure::Crash };
        let (requested, age) = (moment(now - age), Duration::from_micros(age));
        let children = self.scaling.bounds().max_children;
        self.backoff.failed(moment(now), requested, age, failure, children);
        self.probe = None;
    }

    fn timer(&mut self, now: u64, view: &View) {
        if self.probe.is_some_and(|at| at <= now) {
            self.probe = None;
            self.backoff.probe_survived();
        }
        if self.tell.is_some_and(|at| at <= now) {
            (self.told, self.tell) = (Some((now, gist(view))), None);
        }
    }
}

impl Manager for Fpmd {
    fn act(&mut self, now: u64, cause: Cause, view: &View) -> Orders {
        let mut orders = Orders::default();
        let decides = match cause {
            Cause::Begin | Cause::Left => true,
            Cause::Arrived => self.load_changed(now, view),
            Cause::Served => {
                if self.sight == Sight::Gateway {
                    self.backoff.served(moment(now));
                }
                self.load_changed(now, view)
            }
            Cause::Ready => {
                self.scaling.ready();
                true
            }
            Cause::Died { age, oldest } => {
                self.died(now, age, oldest);
                true
            }
            Cause::Timer => {
                self.timer(now, view);
                true
            }
        };
        if decides {
            self.decide(now, view, &mut orders);
        }
        orders.timer = [self.tell, self.look_again, self.probe].into_iter().flatten().min();
        orders
    }

    fn order(&self) -> Order {
        match self.sight {
            Sight::Gateway => Order::LastIdle,
            Sight::Direct => Order::LongestIdle,
        }
    }
}
