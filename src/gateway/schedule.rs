//! Which request goes to which worker, and when: the queue with its bounds, the choice of the worker, and what the clock
//! brings about: requests that waited too long, that are slow, that ran too long.

use std::time::Duration;

use super::answer::Answer;
use super::client::Interest;
use super::core::{Gateway, Phase, Timer};
use super::finished::{Outcome, Slow};
use super::params::brief;
use super::request::{Stage, Told};
use super::slab::Key;
use super::slot::State;
use crate::ids::Moment;
use crate::os::stream::Presence;
use crate::wire::gateway::FromGateway;

/// Nobody leaves a queue sooner; and a request that was never worth a look has cost a worker no more than it waited.
const BRIEF: Duration = Duration::from_millis(25);

impl Gateway {
    /// A request that can be given to a worker: now, later, or not at all.
    pub(super) fn submit(&mut self, at: Key) {
        let Some(request) = self.requests.get_mut(at) else { return };
        request.ready = Some(self.now);
        if self.seams.pages.answers(&self.settings, &request.params) {
            request.stage = Stage::Paged;
            return self.pages.push_back(at);
        }
        if self.phase == Phase::Stopped {
            return self.answer(at, Answer::Late, Outcome::RefusedLate);
        }
        let at_once = self.queue.is_empty() && self.counters.load.idle > 0;
        if let Some(slot) = at_once.then(|| self.choose()).flatten() {
            self.dispatch(at, slot);
            // It waits only where that worker could not be reached: somebody else may be idle.
            return self.feed_waiting();
        }
        if self.queue.len() >= self.settings.queue_limit {
            return self.answer(at, Answer::Full, Outcome::RefusedFull);
        }
        if let Some(request) = self.requests.get_mut(at) {
            request.stage = Stage::Queued;
        }
        self.queue.push(at);
        self.watch_queue();
    }

    /// Gives waiting requests to idle workers while there are both; other gateways of the pool come first.
    pub(super) fn feed(&mut self) {
        self.pay();
        self.feed_waiting();
    }

    fn feed_waiting(&mut self) {
        while !self.queue.is_empty() && self.counters.load.idle > 0 {
            let Some(slot) = self.choose() else { return };
            let requests = &self.requests;
            let Some(at) = self.queue.pop(|key| Gateway::waits(requests, key)) else { return };
            if self.has_left(at) {
                self.abandon_client_of(at);
                continue;
            }
            self.dispatch(at, slot);
        }
    }

    fn choose(&mut self) -> Option<Key> {
        let slots = &self.slots;
        let best = self.roster.best(|key| slots.get(key)?.candidate());
        debug_assert_eq!(
            best.and_then(|key| slots.get(key)?.candidate()),
            slots.iter().filter_map(|(_, slot)| slot.candidate()).max(),
        );
        best
    }

    /// Whether a waiting request's client has gone without the event loop telling: it is not watched. Not asked of those
    /// who have waited for a moment only, since it takes a system call.
    fn has_left(&self, at: Key) -> bool {
        let Some(request) = self.requests.get(at) else { return true };
        let Some(client) = self.clients.get(request.client) else { return true };
        let waited = self.now.since(request.ready.unwrap_or(self.now));
        client.interest == Interest::None && waited >= BRIEF && client.stream.presence() == Presence::Gone
    }

    fn abandon_client_of(&mut self, at: Key) {
        // It was taken off the queue already, and must not be counted as leaving it.
        if let Some(request) = self.requests.get_mut(at) {
            request.stage = Stage::Body;
            let client = request.client;
            self.lose_client(client);
        }
    }

    /// Puts a request at the head of the queue: its worker could not take it.
    pub(super) fn put_back(&mut self, at: Key) {
        let Some(request) = self.requests.get_mut(at) else { return };
        request.dispatched = None;
        if self.phase == Phase::Stopped {
            request.stage = Stage::Body;
            return self.answer(at, Answer::Late, Outcome::RefusedLate);
        }
        request.stage = Stage::Queued;
        self.queue.push_front(at);
        self.watch_queue();
    }

    /// Sets the timer for the first request that waits.
    pub(super) fn watch_queue(&mut self) {
        let Some(timeout) = self.settings.queue_timeout else {
            return self.timers.set(Timer::Queue, None);
        };
        let requests = &self.requests;
        let first = self.queue.front(|key| Gateway::waits(requests, key));
        let ready = first.and_then(|key| self.requests.get(key)?.ready);
        self.timers.set(Timer::Queue, ready.map(|ready| ready.after(timeout)));
    }

    /// Something is due.
    pub(super) fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Queue => self.expire_queue(),
            Timer::Running => self.inspect_running(),
            Timer::Heads => self.let_heads_go(),
            Timer::Input => self.inspect_input(),
            Timer::Accept => self.watch_doors(),
            Timer::Slot(key) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.closed_until = None;
                }
                self.recount(key);
                self.feed();
            }
            Timer::Lost => self.look_for_lost(),
            Timer::Tail => self.look_at_tails(),
            Timer::Reception => self.look_at_receptions(),
            Timer::Weight => self.weigh_idle(),
            Timer::Load => self.load_is_due(),
            // It is told at the end of every round.
            Timer::Master => {}
            Timer::Stop => self.stop_serving(),
            Timer::Newcomers => self.dismiss_idle(),
        }
    }

    /// Answers those that have waited too long.
    fn expire_queue(&mut self) {
        let Some(timeout) = self.settings.queue_timeout else { return };
        loop {
            let requests = &self.requests;
            let Some(at) = self.queue.front(|key| Gateway::waits(requests, key)) else { break };
            let ready = self.requests.get(at).and_then(|request| request.ready).unwrap_or(self.now);
            if self.now.since(ready) < timeout {
                break;
            }
            self.refuse_first(at);
        }
        self.watch_queue();
    }

    /// Answers the first request of the queue, which is `at`, with a 503; or forgets it if nobody is there.
    fn refuse_first(&mut self, at: Key) {
        let requests = &self.requests;
        self.queue.pop(|key| Gateway::waits(requests, key));
        if self.has_left(at) {
            return self.abandon_client_of(at);
        }
        if let Some(request) = self.requests.get_mut(at) {
            request.stage = Stage::Body;
        }
        self.answer(at, Answer::Late, Outcome::RefusedLate);
    }

    /// The pool has stopped for as long as it may take: whoever waits still is told so.
    pub(super) fn stop_serving(&mut self) {
        if self.phase == Phase::Serving {
            return;
        }
        self.phase = Phase::Stopped;
        loop {
            let requests = &self.requests;
            let Some(at) = self.queue.front(|key| Gateway::waits(requests, key)) else { break };
            self.refuse_first(at);
        }
        let incomplete = self.requests.keys(|request| matches!(request.stage, Stage::Params | Stage::Body));
        for at in incomplete {
            if let Some(client) = self.requests.get(at).map(|request| request.client) {
                self.lose_client(client);
            }
        }
    }

    /// Sets the timer for what runs, unless it is set: it goes off early rather than being moved by every request.
    pub(super) fn watch_running(&mut self) {
        if self.watching {
            return;
        }
        let limits = [self.settings.request_terminate_timeout, self.settings.request_slowlog_timeout];
        if let Some(first) = limits.into_iter().flatten().min() {
            self.watching = true;
            self.timers.set(Timer::Running, Some(self.now.after(first)));
        }
    }

    /// Looks for requests that are slow or have run for too long.
    pub(super) fn inspect_running(&mut self) {
        self.watching = false;
        let (now, settings) = (self.now, &self.settings);
        let (most, slow) = (settings.request_terminate_timeout, settings.request_slowlog_timeout);
        let mut next: Option<Moment> = None;
        let (mut late, mut slower) = (Vec::new(), Vec::new());
        for (key, request) in self.requests.iter() {
            let (Stage::Running(_), Some(since)) = (request.stage, request.dispatched) else { continue };
            let unslow = slow.filter(|_| request.slow == Told::No);
            if most.is_some_and(|most| now.since(since) >= most) {
                late.push(key);
            }
            if unslow.is_some_and(|slow| now.since(since) >= slow) {
                slower.push(key);
            }
            let coming = [most, unslow].into_iter().flatten().map(|limit| since.after(limit));
            next = coming.filter(|moment| *moment > now).chain(next).min();
        }
        for key in slower {
            self.tell_slow(key);
        }
        for key in late {
            self.terminate(key);
        }
        self.terminate_lost(most, &mut next);
        if let Some(next) = next {
            self.watching = true;
            self.timers.set(Timer::Running, Some(next));
        }
    }

    fn tell_slow(&mut self, key: Key) {
        let Some(request) = self.requests.get_mut(key) else { return };
        request.slow = Told::Yes;
        self.counters.slow += 1;
        let (Some(ready), Some(dispatched), Some(worker)) =
            (request.ready, request.dispatched, request.worker)
        else {
            return;
        };
        let peer = self.clients.get(request.client).map_or(super::finished::Peer::Unix, |client| client.peer);
        let number = self.seams.journal.slow(&Slow {
            params: &request.params,
            peer,
            start: request.start,
            arrived: request.arrived,
            ready,
            dispatched,
            now: self.now,
            bytes_in: request.bytes_in(),
            bytes_out: request.answer.body(),
            worker,
            cpu_before: request.cpu_before,
        });
        if let Some(number) = number {
            self.outbox.push_back(FromGateway::Slow { number, slot: worker.slot, worker: worker.worker });
        }
    }

    /// Ends a request that ran for too long, and its worker.
    fn terminate(&mut self, key: Key) {
        let Some(request) = self.requests.get(key) else { return };
        let Stage::Running(upstream) = request.stage else { return };
        let (Some(since), Some(worker)) = (request.dispatched, request.worker) else { return };
        let params = &request.params;
        let line = format!("{} {}", brief(params.method()), brief(params.uri()));
        let script = brief(params.script());
        let age = self.now.since(since).as_secs_f64();
        let bytes = request.answer.body();
        let reason = format!(
            "request \"{line}\" (script '{script}') timed out after {age:.3} s, {bytes} bytes answered"
        );
        let mut told = Told::No;
        if let Some(connection) = self.upstreams.remove(upstream) {
            if let Some(slot) = self.slots.get_mut(connection.slot) {
                slot.active -= 1;
            }
            told = self.doom(connection.slot, worker.worker, reason.clone());
        }
        // The master logs why it ends a worker.
        if told == Told::No {
            ::log::warn!("[pool {}] child {}, {reason}", self.settings.pool, worker.pid);
        }
        self.give_up(key, Answer::TimedOut, Outcome::TimedOut);
    }

    /// Has the master end the worker of a slot, if it is this one still and the master was not told before.
    pub(super) fn doom(&mut self, slot_key: Key, worker_id: crate::ids::WorkerId, reason: String) -> Told {
        let mut told = Told::No;
        let worker = self.slots.get_mut(slot_key).and_then(|slot| slot.worker.as_mut());
        let same = |worker: &&mut super::slot::Worker| worker.name.worker == worker_id;
        if let Some(worker) = worker.filter(same).filter(|worker| worker.state != State::Doomed) {
            worker.state = State::Doomed;
            let slot = worker.name.slot;
            self.outbox.push_back(FromGateway::Terminate { slot, worker: worker_id, reason });
            told = Told::Yes;
        }
        self.recount(slot_key);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing::{Rig, settings};
    use crate::wire::gateway::Settings;

    /// No event, no clock: whoever is idle gets it in the same step.
    #[test]
    fn a_worker_that_cannot_be_reached_leaves_the_request_to_the_next_one() {
        let mut rig = Rig::new(settings());
        let (well, _) = rig.seat();
        for _ in 0..2 {
            let (gone, key) = rig.seat();
            drop(gone);
            std::fs::remove_file(&rig.gateway.slots.get(key).unwrap().path).unwrap();
        }
        let (_client, _) = rig.ask("/");
        assert!(well.accept().is_ok());
        assert_eq!((rig.gateway.queue.len(), rig.gateway.counters.load.busy), (0, 1));
    }

    #[test]
    fn a_limit_that_becomes_shorter_holds_for_what_runs_from_its_own_dispatch() {
        let mut rig = Rig::new(settings());
        let (_worker, _) = rig.seat();
        let (_client, _) = rig.ask("/slow");
        rig.gateway.now = rig.gateway.now.after(Duration::from_secs(50));
        let limit = Some(Duration::from_secs(60));
        rig.gateway.configure(Settings { request_terminate_timeout: limit, ..settings() }, Vec::new());
        let soon = rig.gateway.now.after(Duration::from_secs(11));
        assert_eq!(rig.gateway.counters.timed_out, 0);
        rig.gateway.now = soon;
        rig.gateway.keep_time();
        assert_eq!(rig.gateway.counters.timed_out, 1);
    }
}
