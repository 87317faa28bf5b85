//! Two gateways of one pool, when fpmd is upgraded: the old one gives everything away and ends, the new one takes it over.
//! Who is connected and asks for nothing goes along with the connection; a worker goes when it has no request here and
//! nobody waits for one; what is counted is passed on once. No connection is closed and no request is refused for it.

use std::os::fd::{AsFd, OwnedFd};

use super::client::{Client, Interest};
use super::core::{Gateway, Phase, Token, unwatch};
use super::slab::Key;
use super::slot::Worker;
use crate::os::stream::Stream;
use crate::wire::gateway::{FromGateway, Report};

impl Gateway {
    /// Another gateway takes over.
    pub(super) fn hand_over(&mut self) {
        if self.phase != Phase::Serving {
            return;
        }
        // Who has not been accepted yet is the other one's.
        drop(self.shut_doors());
        self.phase = Phase::Leaving;
        self.pass_counts_on();
    }

    /// Gives away what is not needed here any more. Comes after all that was read is taken in.
    pub(super) fn give_away(&mut self) {
        self.pay();
        if self.phase != Phase::Leaving {
            return;
        }
        for key in self.clients.keys(Client::is_at_rest) {
            let Some(client) = self.clients.remove(key) else { continue };
            if client.interest != Interest::None {
                // The other one has the same socket, so that closing ours would not end the watch (epoll(7)).
                unwatch(&self.registry, client.stream.as_fd());
            }
            self.gifts.push_back(client.stream.into());
        }
        if self.queue.is_empty() {
            for key in self.free_workers() {
                self.part_with(key);
            }
        }
        // Whatever the pool's mode: the master lends a worker for what came in as a whole after its workers had left.
        let in_need = !self.queue.is_empty() && self.counters.load.idle == 0;
        let need = in_need.then(|| self.slots.iter().filter(|(_, slot)| slot.is_serving()).count());
        // Nobody is told of the same need twice; but who was lent may end, and with that it is another one.
        let is_news = match (self.need, need) {
            (Some(before), Some(now)) => now < before,
            (before, now) => before.is_some() != now.is_some(),
        };
        self.need = need;
        if is_news {
            self.say_load();
        }
    }

    /// Takes connections over from another gateway.
    pub(super) fn take_over_clients(&mut self, connections: Vec<OwnedFd>) {
        let mut taken = Vec::new();
        for connection in connections {
            let stream = Stream::from(connection);
            let tcp = stream.is_tcp();
            let Some(peer) = self.admit(&stream, tcp) else { continue };
            let key = self.clients.insert(Client::new(stream, peer, self.now));
            self.watch_client(key, Interest::Read);
            // What has come meanwhile raises no edge.
            self.again.push(Token::Client(key));
            taken.push(key);
        }
        // A connection to a worker is worth more than one on which nothing is asked for.
        while self.reserve.fill(self.doors.len()).is_err() {
            let Some(key) = taken.pop() else { return };
            self.clients.remove(key);
        }
    }

    /// The master wants so many workers more for another gateway, which has older requests.
    pub(super) fn owe(&mut self, workers: u32) {
        self.owed = self.owed.saturating_add(workers);
        self.pay();
    }

    /// Gives away workers that are owed, as far as any is idle. Comes before the own queue.
    pub(super) fn pay(&mut self) {
        if self.owed == 0 {
            return;
        }
        for key in self.free_workers() {
            if self.owed == 0 {
                return;
            }
            self.owed -= 1;
            self.part_with(key);
        }
    }

    fn free_workers(&self) -> Vec<Key> {
        self.slots.keys(|slot| slot.is_serving() && slot.load() == 0)
    }

    /// Gives away the workers that are left, whatever they do: nobody waits for them here and the gateway ends.
    pub(super) fn leave_workers(&mut self) {
        if self.phase != Phase::Leaving {
            return;
        }
        for key in self.slots.keys(|slot| slot.worker.is_some()) {
            let Some(Worker { name, served, .. }) = self.take_worker(key) else { continue };
            let (slot, worker) = (name.slot, name.worker);
            self.outbox.push_back(FromGateway::Left { slot, worker, requests: served });
        }
    }

    fn part_with(&mut self, key: Key) {
        let Some(Worker { name, served, .. }) = self.take_worker(key) else { return };
        let (slot, worker) = (name.slot, name.worker);
        self.outbox.push_back(FromGateway::Released { slot, worker, requests: served });
    }

    fn take_worker(&mut self, key: Key) -> Option<Worker> {
        let slot = self.slots.get_mut(key)?;
        let worker = slot.worker.take()?;
        // The other one opens its own, and a worker with one request at a time hears nobody else until these are closed.
        for connection in std::mem::take(&mut slot.kept) {
            self.upstreams.remove(connection);
        }
        self.recount(key);
        Some(worker)
    }

    /// Tells what was counted since the last time, and begins anew.
    pub(super) fn pass_counts_on(&mut self) {
        let kept = Report { load: self.counters.load, ..Report::default() };
        let counted = std::mem::replace(&mut self.counters, kept);
        let report = Report { load: Default::default(), max_queued: self.queue.most(), ..counted };
        self.outbox.push_back(FromGateway::Counts { report: Box::new(report) });
    }

    /// Goes on counting from where another gateway was.
    pub(super) fn inherit(&mut self, report: Report) {
        self.counters.add(report);
        self.queue.remember_most(self.counters.max_queued);
    }
}
