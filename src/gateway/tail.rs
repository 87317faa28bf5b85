//! What workers do after the end of an answer (FCGX_Finish and go on): a worker that does is "finishing" and gets no request
//! until it waits for one again, and not longer than `request_finish_timeout`.
//!
//! Only the master may look at a worker, and a look costs more than a small request. So most workers are trusted to be done
//! with their answer: the master is asked about one that has been idle for a moment, ever less often while all is well. A
//! worker that was trusted wrongly is noticed since its next request stays unread, and the master takes that back from it (`reception`).
//! While a pool's workers go on after some of their answers, each of them is looked at after each answer.

use std::time::Duration;

use super::core::{Gateway, Timer};
use super::slab::Key;
use super::slot::Slot;
use crate::ids::{Moment, SlotId, WorkerId};
use crate::wire::gateway::{FromGateway, Rest};

/// A worker that is done is back at its socket after so long.
const MOMENT: Duration = Duration::from_millis(5);

/// The longest time between two looks at trusted workers.
const SELDOM: Duration = Duration::from_secs(1);

/// Workers that are looked at at once while they are trusted.
const SAMPLE: usize = 8;

/// Answers in a row without anything after them before workers are trusted again.
const PROBATION: u32 = 100;

/// A master that does not answer for so long holds nobody up.
const SILENCE: Duration = Duration::from_millis(100);

/// Where no worker has ever been seen waiting, this long after an answer means that it cannot be seen.
const BLIND: Duration = Duration::from_secs(1);

/// The pauses between looks at a worker that goes on are an eighth of how long it has, within these bounds.
pub(super) const BRIEF: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_millis(100);

/// What is known of the pool's workers.
#[derive(Debug)]
pub struct Tails {
    pub(super) trust: Trust,
    /// Until the next look at trusted workers.
    pause: Duration,
    /// Whether some worker was ever seen waiting.
    any_waited: bool,
    /// When the next look is due, if one is.
    next: Option<Moment>,
    /// Whether it is looked for unread requests soon.
    pub(super) listens: bool,
}

/// Whether an answer's end means that the worker is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It does.
    Full,
    /// Not before so many answers with nothing after them.
    Probation(u32),
    /// Nobody can tell.
    Blind,
}

/// What one worker does after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The end of the answer.
    since: Moment,
    /// When to look again; while the master has been asked, when it should have answered.
    next: Moment,
    /// Whether the master has been asked.
    asked: bool,
    /// Since when it has no connection of ours, on which it would wait instead of at its socket.
    alone: Moment,
    /// Whether it was seen at work, and not just on its way back.
    at_work: bool,
}

impl Default for Tails {
    fn default() -> Tails {
        Tails { trust: Trust::Full, pause: MOMENT, any_waited: false, next: None, listens: false }
    }
}

impl Tails {
    /// Whether connections to workers may be kept.
    pub fn may_keep(&self) -> bool {
        !matches!(self.trust, Trust::Probation(_))
    }

    /// A worker was seen waiting, after work or at once.
    fn note(&mut self, worked: bool) {
        self.any_waited = true;
        self.trust = match self.trust {
            Trust::Full | Trust::Probation(_) if worked => Trust::Probation(PROBATION),
            Trust::Probation(left) if left > 1 => Trust::Probation(left - 1),
            Trust::Full | Trust::Probation(_) => Trust::Full,
            Trust::Blind => Trust::Blind,
        };
        if worked {
            self.pause = MOMENT;
        }
    }
}

impl Tail {
    /// Of an answer that ended at `since`; no connection of ours holds the worker since `alone`.
    fn new(since: Moment, alone: Moment) -> Tail {
        Tail { since, next: alone, asked: false, alone, at_work: false }
    }

    /// Of a worker that has left a request unread since.
    pub fn proven(since: Moment, now: Moment) -> Tail {
        Tail { at_work: true, ..Tail::new(since, now) }
    }

    fn seen_at_work(&mut self, now: Moment) {
        self.next = now.after((now.since(self.since) / 8).clamp(BRIEF, LONG));
        self.asked = false;
        self.at_work |= now.since(self.alone) >= MOMENT;
    }
}

impl Gateway {
    /// A worker has answered to the end.
    pub(super) fn begin_tail(&mut self, key: Key) {
        match self.tails.trust {
            Trust::Blind => {}
            // One that serves several at once takes the next whatever it does.
            Trust::Full | Trust::Probation(_) if self.settings.concurrency > 1 => {}
            Trust::Full if self.tails.next.is_some() => {}
            Trust::Full => self.watch_tails(self.now.after(self.tails.pause)),
            Trust::Probation(_) => {
                let now = self.now;
                let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.worker.is_some()) else { return };
                slot.tail = Some(Tail::new(now, now));
                self.look(key);
                self.look_no_later_than(now.after(SILENCE));
            }
        }
    }

    /// The master has looked at a worker.
    pub(super) fn seen_at_rest(&mut self, slot: SlotId, worker: WorkerId, rest: Rest) {
        let Some(key) = self.place_of(slot, worker) else { return };
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        match rest {
            Rest::Unknown => return self.trust_blindly(),
            Rest::Waiting => {
                let worked = slot.tail.take().is_some_and(|tail| tail.at_work);
                self.tails.note(worked);
            }
            Rest::AtWork => {
                let Some(mut tail) = tail_of(slot) else { return };
                if !self.tails.any_waited && now.since(tail.alone) > BLIND {
                    return self.trust_blindly();
                }
                tail.seen_at_work(now);
                slot.tail = Some(tail);
                self.look_no_later_than(tail.next);
            }
        }
        self.recount(key);
        self.feed();
    }

    /// A worker that an earlier gateway has known may be at work still.
    pub(super) fn look_at_heir(&mut self, key: Key) {
        if let Some(worker) = self.slots.get_mut(key).and_then(|slot| slot.worker.as_mut()) {
            worker.looked_at = Moment(Duration::ZERO);
        }
        self.look_no_later_than(self.now.after(MOMENT));
    }

    /// Looks at workers that go on after their answers, and now and then at those that should not.
    pub(super) fn look_at_tails(&mut self) {
        self.tails.next = None;
        let mut next = None;
        for key in self.slots.keys(|slot| slot.tail.is_some()) {
            if let Some(due) = self.mind_tail(key) {
                next = Some(next.map_or(due, |next: Moment| next.min(due)));
            }
        }
        if self.tails.trust == Trust::Full && self.settings.concurrency == 1 {
            self.look_at_trusted();
        }
        if let Some(next) = next {
            self.look_no_later_than(next);
        }
        self.feed();
    }

    /// Whether a worker that goes on has to end, or is to be looked at; when that is due next.
    fn mind_tail(&mut self, key: Key) -> Option<Moment> {
        let (now, most) = (self.now, self.settings.request_finish_timeout);
        let slot = self.slots.get_mut(key)?;
        let tail = slot.tail.as_mut()?;
        let worker = slot.worker.as_ref()?.name.worker;
        if most.is_some_and(|most| now.since(tail.since) >= most) {
            let age = now.since(tail.since).as_secs_f64();
            self.doom(key, worker, format!("it went on for {age:.3} s after its answer"));
            return None;
        }
        let silent = tail.asked && tail.next <= now;
        if silent && !tail.at_work {
            // The master does not answer: the worker is most likely done.
            slot.tail = None;
            self.recount(key);
            return None;
        }
        if tail.next <= now {
            self.look(key);
        }
        let tail = self.slots.get(key)?.tail?;
        let end = most.map(|most| tail.since.after(most));
        Some(end.map_or(tail.next, |end| end.min(tail.next)))
    }

    /// Asks about some that have been idle for a moment since they were last looked at.
    fn look_at_trusted(&mut self) {
        let now = self.now;
        self.tails.pause = (self.tails.pause * 2).min(SELDOM);
        let fresh = |slot: &Slot| {
            let worker = slot.worker.as_ref().filter(|_| slot.load() == 0);
            worker.filter(|worker| worker.looked_at < worker.answered).map(|worker| worker.answered)
        };
        let settled = |slot: &Slot| fresh(slot).is_some_and(|since| now.since(since) >= MOMENT);
        for key in self.slots.keys(settled).into_iter().take(SAMPLE) {
            self.look(key);
        }
        if self.slots.iter().any(|(_, slot)| fresh(slot).is_some_and(|since| now.since(since) < MOMENT)) {
            self.watch_tails(now.after(self.tails.pause));
        }
    }

    /// Asks the master what the worker on a slot does.
    fn look(&mut self, key: Key) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        if let Some(tail) = &mut slot.tail {
            tail.asked = true;
            tail.next = now.after(SILENCE);
        }
        // One that waits on its connection for its next request and one that works look alike in an event loop.
        let kept = std::mem::take(&mut slot.kept);
        let Some(worker) = &mut slot.worker else { return };
        worker.looked_at = now;
        let name = worker.name;
        for connection in kept {
            self.upstreams.remove(connection);
        }
        self.outbox.push_back(FromGateway::Look { slot: name.slot, worker: name.worker });
    }

    pub(super) fn look_no_later_than(&mut self, moment: Moment) {
        let sooner = self.tails.next.filter(|next| *next < moment);
        self.watch_tails(sooner.unwrap_or(moment));
    }

    fn watch_tails(&mut self, moment: Moment) {
        self.tails.next = Some(moment);
        self.timers.set(Timer::Tail, Some(moment));
    }

    /// Nobody can tell what workers do: all of them count as done with their answers.
    fn trust_blindly(&mut self) {
        ::log::debug!("[pool {}] cannot see whether workers go on after their answers", self.settings.pool);
        self.tails.trust = Trust::Blind;
        for key in self.slots.keys(|slot| slot.tail.is_some()) {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.tail = None;
            }
            self.recount(key);
        }
        self.feed();
    }

    /// The slot of a worker, while it is there.
    fn place_of(&self, slot: SlotId, worker: WorkerId) -> Option<Key> {
        let key = self.places.get(&slot).copied()?;
        let known = self.slots.get(key)?.worker.as_ref()?;
        (known.name.worker == worker).then_some(key)
    }
}

/// What a worker that was seen at work goes on with, if it was not given anything since it was looked at.
fn tail_of(slot: &Slot) -> Option<Tail> {
    match (slot.tail, &slot.worker) {
        (Some(tail), _) => Some(tail),
        (None, Some(worker)) if slot.load() == 0 && worker.answered <= worker.looked_at => {
            Some(Tail::new(worker.answered, worker.looked_at))
        }
        (None, Some(_) | None) => None,
    }
}
