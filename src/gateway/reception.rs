//! Whether workers begin with what they are sent. A request that stays unread was sent to a worker that is at work on
//! something else, whatever it seemed to be: the master takes it back, unread as it is, and it is given to the next idle one.

use std::os::fd::AsFd;
use std::time::Duration;

use super::core::{Gateway, Timer, Token};
use super::request::Passage;
use super::slab::Key;
use super::slot::State;
use super::tail::{BRIEF, Tail, Trust};
use super::upstream::Heard;
use crate::ids::{Moment, SlotId, WorkerId};
use crate::os::sockdiag::{Reception, SockDiag};
use crate::wire::gateway::{FromGateway, TakenBack};

/// A request that is unread for so long is doubtful.
const UNREAD: Duration = Duration::from_millis(10);

/// A request that the master was asked to take back is left to its worker this long after its dispatch.
const DOUBT: Duration = Duration::from_millis(500);

/// The master may take it back in this part of that time.
const PART: u32 = 2;

/// It is doubled for each time that it could not be taken back, up to so often.
const DOUBTS: u8 = 7;

impl Gateway {
    /// Has it looked at soon whether workers have begun with what they were sent.
    pub(super) fn watch_receptions(&mut self) {
        let tails = &mut self.tails;
        if !tails.listens && self.settings.concurrency == 1 && tails.trust != Trust::Blind {
            tails.listens = true;
            self.timers.set(Timer::Reception, Some(self.now.after(UNREAD)));
        }
    }

    /// Looks at requests that workers may not have begun with.
    pub(super) fn look_at_receptions(&mut self) {
        self.tails.listens = false;
        let (now, mut next, mut late) = (self.now, None, Vec::new());
        for (key, upstream) in self.upstreams.iter() {
            let patience = match upstream.heard {
                Heard::Unknown => UNREAD * (1 << upstream.doubts.min(DOUBTS)),
                Heard::Doubtful => DOUBT * (1 << upstream.doubts.min(DOUBTS)),
                Heard::Yes => continue,
            };
            let request = upstream.request.and_then(|at| self.requests.get(at));
            let Some(since) = request.and_then(|request| request.dispatched) else { continue };
            let due = since.after(patience);
            if due <= now {
                late.push(key);
            } else {
                next = Some(next.map_or(due, |next: Moment| next.min(due)));
            }
        }
        for key in late {
            self.look_at_reception(key);
            next = next.or(Some(now.after(DOUBT)));
        }
        if let Some(next) = next {
            self.tails.listens = true;
            self.timers.set(Timer::Reception, Some(next));
        }
    }

    fn look_at_reception(&mut self, key: Key) {
        let unread = self.is_unread(key);
        let now = self.now;
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        if upstream.heard == Heard::Doubtful {
            // The master does not answer.
            upstream.heard = Heard::Yes;
            return self.again.push(Token::Upstream(key));
        }
        let serves = |worker: &&super::slot::Worker| worker.state != State::Doomed;
        let worker = self.slots.get(upstream.slot).and_then(|slot| slot.worker.as_ref()).filter(serves);
        match worker {
            Some(worker) if unread => {
                upstream.heard = Heard::Doubtful;
                let kept = (upstream.served > 0).then_some(upstream.written);
                let (slot, worker) = (worker.name.slot, worker.name.worker);
                let until = Some(now.after(DOUBT / PART));
                self.outbox.push_back(FromGateway::TakeBack { slot, worker, kept, until });
            }
            Some(_) | None => upstream.heard = Heard::Yes,
        }
    }

    /// Whether a worker has not read a byte of its request, which can be sent again: all of it is on its way, or the connection
    /// is not even accepted.
    fn is_unread(&mut self, key: Key) -> bool {
        let Some(upstream) = self.upstreams.get(key) else { return false };
        let (sent, request) = (upstream.is_sent(), upstream.request.and_then(|at| self.requests.get(at)));
        if request.is_none_or(|request| request.passage != Passage::Whole) {
            return false;
        }
        match self.reception(key) {
            Some(Reception::NotAccepted) => true,
            Some(Reception::NotRead) => sent,
            Some(Reception::Begun) | None => false,
        }
    }

    /// What was done with a request that no byte was answered to.
    fn reception(&mut self, key: Key) -> Option<Reception> {
        let upstream = self.upstreams.get(key)?;
        let request = upstream.request.and_then(|at| self.requests.get(at))?;
        if request.answer.any() > 0 {
            return None;
        }
        SockDiag::opened(&mut self.diag)?.reception(upstream.stream.as_fd(), upstream.written).ok()?
    }

    /// A worker has ended. What it had not accepted waits for the next one on its slot, but whether and when one comes there
    /// is for the master to know: it takes everything back if nobody is there. Asked in any case, as a connection that nobody
    /// cares for any more, of a warm-up request for one, keeps the slot open too.
    pub(super) fn ask_for_unaccepted(&mut self, slot: SlotId, worker: WorkerId) {
        let Some(place) = self.places.get(&slot).copied() else { return };
        for key in self.upstreams.keys(|upstream| upstream.slot == place && upstream.request.is_some()) {
            if self.reception(key) == Some(Reception::NotAccepted)
                && let Some(upstream) = self.upstreams.get_mut(key)
            {
                upstream.heard = Heard::Doubtful;
            }
        }
        self.outbox.push_back(FromGateway::TakeBack { slot, worker, kept: None, until: None });
    }

    /// Whether requests could be taken back.
    pub(super) fn taken_back(&mut self, slot: SlotId, worker: WorkerId, outcome: TakenBack) {
        let Some(key) = self.places.get(&slot).copied() else { return };
        if outcome == TakenBack::Unknown {
            self.tails.trust = Trust::Blind;
        }
        let mut doubtful =
            self.upstreams.keys(|upstream| upstream.slot == key && upstream.heard == Heard::Doubtful);
        let is_there = self.slots.get(key).is_some_and(|slot| slot.worker.is_some());
        if doubtful.is_empty() && is_there && outcome == TakenBack::Taken {
            // A master that was late has taken what the worker got meanwhile. What is not at hand as a whole any more cannot be
            // sent again; its connection has ended. What the worker answers to already was not taken.
            let may_be_taken = |at| {
                let request = self.requests.get(at);
                request.is_some_and(|request| request.passage == Passage::Whole && request.answer.any() == 0)
            };
            doubtful = self
                .upstreams
                .keys(|upstream| upstream.slot == key && upstream.request.is_some_and(may_be_taken));
        }
        for upstream in doubtful {
            match outcome {
                TakenBack::Taken => self.give_to_another(upstream, key, worker),
                TakenBack::Begun | TakenBack::Unknown => self.leave_it(upstream),
            }
        }
        self.recount(key);
        self.feed();
    }

    /// One that its worker got no time to stop for is asked about again.
    fn leave_it(&mut self, key: Key) {
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.heard = Heard::Unknown;
            upstream.doubts = upstream.doubts.saturating_add(1);
        }
        self.again.push(Token::Upstream(key));
        self.watch_receptions();
    }

    fn give_to_another(&mut self, upstream: Key, slot: Key, worker: WorkerId) {
        let request = self.upstreams.remove(upstream).and_then(|upstream| upstream.request);
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.active -= 1;
            if let Some(known) = slot.worker.as_mut().filter(|known| known.name.worker == worker) {
                known.served = known.served.saturating_sub(1);
                slot.tail = Some(Tail::proven(known.answered, now));
                self.look_no_later_than(now.after(BRIEF));
            }
        }
        self.counters.taken_back += 1;
        if let Some(at) = request {
            if let Some(request) = self.requests.get_mut(at) {
                request.attempts = request.attempts.saturating_sub(1);
            }
            self.put_back(at);
        }
    }
}
