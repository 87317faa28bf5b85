//! What a gateway wants to know of a worker's process, or done to it: only the master may look at workers.

use super::Master;
use crate::ids::{Moment, Pid, PoolName, SlotId, WorkerId};
use crate::os::activity::{self, Observer, Way};
use crate::os::{clock, inspect};
use crate::wire::gateway::{Rest, Sight, TakenBack};

impl Master {
    /// What its process is doing; nothing is known of one that has ended.
    pub(super) fn sight(&self, pool: &PoolName, slot: SlotId, worker: WorkerId) -> Sight {
        match (self.stage(pool, slot, worker), self.on_slot(worker)) {
            (Some(_), Some((_, _, pid))) => sight(pid),
            (None, _) | (_, None) => Sight::default(),
        }
    }

    /// What the worker does that has answered to the end.
    pub(super) fn rest(&self, pool: &PoolName, slot: SlotId, worker: WorkerId) -> Rest {
        match (self.stage(pool, slot, worker), self.on_slot(worker), self.slots.listener(pool, slot)) {
            (Some(_), Some((_, _, pid)), Some(listener)) => match Observer::rest(listener, pid) {
                activity::Rest::Waiting => Rest::Waiting,
                activity::Rest::AtWork => Rest::AtWork,
                activity::Rest::Unknown => Rest::Unknown,
            },
            // It has ended, and its gateway hears of that too.
            (_, _, _) => Rest::AtWork,
        }
    }

    /// Takes the one request from a worker that it has not begun with, unless it may have another one by now; or all that wait
    /// where nobody is any more.
    pub(super) fn take_back(
        &mut self,
        pool: &PoolName,
        (slot, worker): (SlotId, WorkerId),
        kept: Option<u64>,
        until: Option<Moment>,
    ) -> TakenBack {
        if self.slots.occupant(pool, slot).is_none() {
            let taken =
                self.slots.listener(pool, slot).map_or(activity::TakenBack::Begun, activity::take_pending);
            if taken == activity::TakenBack::Taken {
                // Slots where somebody waits are not closed before.
                self.facts_changed();
            }
            return judged(taken);
        }
        let is_late = until.is_some_and(|until| until < clock::monotonic());
        let (Some(_), Some((_, _, pid)), Some(listener), false) =
            (self.stage(pool, slot, worker), self.on_slot(worker), self.slots.listener(pool, slot), is_late)
        else {
            return TakenBack::Begun;
        };
        let way = kept.map_or(Way::New, Way::Kept);
        match self.observer.take_back(listener, pid, way) {
            Ok(outcome) => judged(outcome),
            Err(error) => {
                log::debug!("[pool {pool}] {error}");
                TakenBack::Unknown
            }
        }
    }
}

fn judged(outcome: activity::TakenBack) -> TakenBack {
    match outcome {
        activity::TakenBack::Taken => TakenBack::Taken,
        activity::TakenBack::Begun => TakenBack::Begun,
        activity::TakenBack::Unknown => TakenBack::Unknown,
    }
}

/// What a worker's process is doing. The place to ask for a stack trace, too: nobody makes one so far.
fn sight(pid: Pid) -> Sight {
    let seen = inspect::look(pid);
    Sight {
        state: seen.state.map(str::to_owned),
        system_call: seen.system_call,
        waits_on: seen.waits_on,
        wchan: seen.wait_channel,
        cpu: seen.cpu.map(|cpu| cpu.total()),
        memory: seen.memory,
        trace: Vec::new(),
    }
}
