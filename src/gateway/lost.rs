//! Requests that nobody waits for any more: their client has left, or the gateway that had them was killed. A worker may be at
//! work on them still, and gets nothing else meanwhile; it is done when it has closed its side of the connection.
//!
//! One that can never have the whole of such a request's body may wait for it for ever (flup's threaded server does). It is
//! replaced, and goes as a busy one does.

use std::time::Duration;

use super::core::{Gateway, Timer};
use super::slab::Key;
use super::slot::{Slot, State};
use crate::ids::Moment;
use crate::os::sockdiag::SockDiag;
use crate::os::socket::LocalName;
use crate::policy::Wear;
use crate::wire::gateway::Past;

/// How often it is looked whether a worker is done with what nobody waits for.
const LOOK: Duration = Duration::from_millis(20);

/// A request is not a short one after this.
const LONG: Duration = Duration::from_secs(1);

/// After this long without any means to see that, it counts as done.
const BLIND: Duration = Duration::from_secs(1);

/// After this long it counts as done where `request_terminate_timeout` sets no limit: a program that the worker has started
/// may have inherited the connection and hold it for ever.
const FORGET: Duration = Duration::from_secs(300);

/// Workers that were busy for an earlier gateway are told of this soon after our start.
pub(super) const HERITAGE: Duration = Duration::from_secs(5);

/// A worker that misses some of a request's body has noticed by then.
const STRANDED: Duration = Duration::from_secs(5);

/// A request that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// When it began, as far as is known.
    pub since: Moment,
    /// How much of it there is.
    pub extent: Extent,
}

/// How much of a request its worker can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Not all of it, or nobody knows.
    Cut,
    /// The same, and the master was told that the worker does not let go of it.
    Stranded,
}

impl Gateway {
    /// A worker goes on with a request that nobody waits for. Its connection is closed, as a web server would do.
    pub(super) fn leave_to_worker(&mut self, upstream: Key, since: Moment) {
        let Some(connection) = self.upstreams.remove(upstream) else { return };
        let extent = if connection.is_sent() { Extent::Whole } else { Extent::Cut };
        if let Some(slot) = self.slots.get_mut(connection.slot) {
            slot.active -= 1;
            slot.lost.push(Lost { since, extent });
        }
        drop(connection.stream);
        self.recount(connection.slot);
        self.timers.set_sooner(Timer::Lost, self.now.after(LOOK));
    }

    /// A worker may be at work on requests of an earlier gateway, which has ended: nobody waits for those either.
    pub(super) fn find_inherited(&mut self, key: Key, past: Past) {
        self.look_at_heir(key);
        let Some(held) = self.held_by_worker(key) else { return };
        let Some(slot) = self.slots.get_mut(key) else { return };
        let extent = match past {
            // It was killed in the middle of whatever it did.
            Past::Unknown => Extent::Cut,
            Past::Released(_) | Past::Orphaned(_) => Extent::Whole,
        };
        let ours = slot.active as usize + slot.kept.len();
        let inherited = held.saturating_sub(ours).min(self.settings.concurrency as usize);
        slot.lost = vec![Lost { since: self.now, extent }; inherited];
        if inherited > 0 {
            self.timers.set_sooner(Timer::Lost, self.now.after(LOOK));
            self.watch_running();
        }
    }

    /// How many connections of a slot are open at its worker, those that it has not accepted yet included; `None` where the
    /// kernel does not tell.
    fn held_by_worker(&mut self, key: Key) -> Option<usize> {
        let name = LocalName::Path(self.slots.get(key)?.path.clone());
        SockDiag::opened(&mut self.diag)?.connections(&name).ok()
    }

    /// Whether workers are done with what nobody waits for: they have closed their side of the connection then. The kernel
    /// tells how many connections of a slot are open still.
    pub(super) fn look_for_lost(&mut self) {
        let mut youngest = None;
        let forget = if self.settings.request_terminate_timeout.is_some() { Duration::MAX } else { FORGET };
        for key in self.slots.keys(|slot| !slot.lost.is_empty()) {
            let held = self.held_by_worker(key);
            let Some(slot) = self.slots.get_mut(key) else { continue };
            match held {
                Some(held) => slot.forget_lost(held),
                None => slot.lost.retain(|lost| self.now.since(lost.since) < BLIND),
            }
            slot.lost.retain(|lost| self.now.since(lost.since) < forget);
            youngest = slot.lost.iter().map(|lost| lost.since).chain(youngest).max();
            self.give_up_stranded(key);
            self.recount(key);
        }
        if let Some(since) = youngest {
            // What takes long is looked at less often: each look asks about all Unix sockets of the machine.
            let pause = if self.now.since(since) < LONG { LOOK } else { LOOK * 10 };
            self.timers.set(Timer::Lost, Some(self.now.after(pause)));
        }
        self.feed();
    }

    /// Has a worker replaced that holds on to what it can never have the whole of.
    fn give_up_stranded(&mut self, key: Key) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        let Some(worker) = slot.worker.as_ref().filter(|worker| worker.state != State::Doomed) else {
            return;
        };
        let is_stranded = |lost: &&mut Lost| lost.extent == Extent::Cut && now.since(lost.since) >= STRANDED;
        let mut any = false;
        for lost in slot.lost.iter_mut().filter(is_stranded) {
            lost.extent = Extent::Stranded;
            any = true;
        }
        if !any {
            return;
        }
        let (name, requests) = (worker.name, worker.served);
        let pool = &self.settings.pool;
        ::log::info!(
            "[pool {pool}] child {} holds on to a request that it will never have the whole of, replacing it",
            name.pid
        );
        self.outbox.push_back(name.worn(requests, Wear::Stranded));
    }

    /// What nobody waits for has its limit too.
    pub(super) fn terminate_lost(&mut self, most: Option<Duration>, next: &mut Option<Moment>) {
        let Some(most) = most else { return };
        for key in self.slots.keys(|slot| !slot.lost.is_empty()) {
            let Some(slot) = self.slots.get(key) else { continue };
            let Some(oldest) = slot.lost.iter().map(|lost| lost.since).min() else { continue };
            let Some(worker) = slot.worker.as_ref().map(|worker| worker.name.worker) else { continue };
            if self.now.since(oldest) >= most {
                let age = self.now.since(oldest).as_secs_f64();
                self.doom(key, worker, format!("a request whose client has left went on for {age:.3} s"));
            } else {
                let due = oldest.after(most);
                *next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
    }
}

impl Slot {
    /// So many connections are open at its worker. Which of those that nobody waits for are done cannot be told: whole ones
    /// before others, the oldest first.
    fn forget_lost(&mut self, held: usize) {
        let ours = self.active as usize + self.kept.len();
        let left = held.saturating_sub(ours).min(self.lost.len());
        self.lost.sort_by_key(|lost| (lost.extent, lost.since));
        self.lost.drain(..self.lost.len() - left);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ids::SlotId;

    #[test]
    fn what_may_be_stranded_is_kept_in_mind_the_longest() {
        let at = |millis| Moment(Duration::from_millis(millis));
        let whole = |millis| Lost { since: at(millis), extent: Extent::Whole };
        let cut = Lost { since: at(1), extent: Extent::Cut };
        let mut slot = Slot::new(SlotId(0), PathBuf::new());
        (slot.active, slot.lost) = (1, vec![cut, whole(3), whole(2)]);
        slot.forget_lost(4);
        assert_eq!(slot.lost.len(), 3, "one of the four is ours");
        slot.forget_lost(3);
        assert_eq!(slot.lost, [whole(3), cut]);
        slot.forget_lost(2);
        assert_eq!(slot.lost, [cut]);
        slot.forget_lost(1);
        assert!(slot.lost.is_empty());
    }
}
