//! What the master says: settings, slots and workers come and go, logs are replaced, the pool stops.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use super::client::{Client, NEW};
use super::core::{Door, Gateway, Phase, Timer, unwatch};
use super::finished::WorkerName;
use super::lost::HERITAGE;
use super::request::Told;
use super::seam::LogFiles;
use super::slab::Key;
use super::slot::{Last, Slot, State, Worker};
use crate::ids::{Moment, SlotId, WorkerId};
use crate::os::clock::WallTime;
use crate::os::stream::{inode, prepare_listener, prepare_shared_listener};
use crate::wire::gateway::{Company, FromGateway, Past, Settings, ToGateway, VERSION, WORKERS_AT_ONCE};

impl Gateway {
    /// Does what the master says. `descriptors` came with it.
    pub(super) fn obey(&mut self, order: ToGateway, descriptors: Vec<OwnedFd>) {
        match order {
            ToGateway::Settings(settings) => self.configure(*settings, descriptors),
            ToGateway::Slot { slot, path } => self.open_slot(slot, PathBuf::from(path)),
            ToGateway::Worker { slot, worker, pid, generation, started, past } => {
                self.start_worker(WorkerName { slot, worker, pid, generation }, started, past);
            }
            ToGateway::Warm { slot, worker, path, root } => self.warm(slot, worker, &path, &root),
            ToGateway::HandOver => self.hand_over(),
            ToGateway::Clients => self.take_over_clients(descriptors),
            ToGateway::Spare { workers } => self.owe(workers),
            ToGateway::Inherit { report } => self.inherit(*report),
            ToGateway::Drain { slot, worker } => self.drain(slot, worker),
            ToGateway::WorkerGone { slot, worker, how } => self.end_worker(slot, worker, &how),
            ToGateway::SlotGone { slot } => self.close_slot_for_good(slot),
            ToGateway::Logs { has_access_log, has_slowlog } => {
                let files = log_files(descriptors.into_iter(), has_access_log, has_slowlog);
                self.seams.journal.configure(&self.settings, files);
            }
            ToGateway::Facts(facts) => self.facts = facts,
            ToGateway::Seen { number, sight } => self.seams.journal.seen(number, &sight),
            ToGateway::Rest { slot, worker, rest } => self.seen_at_rest(slot, worker, rest),
            ToGateway::TakenBack { slot, worker, outcome } => self.taken_back(slot, worker, outcome),
            ToGateway::Ask { number } => {
                let mut report = Box::new(self.report());
                while report.workers.len() > WORKERS_AT_ONCE {
                    let workers = report.workers.drain(..WORKERS_AT_ONCE).collect();
                    self.outbox.push_back(FromGateway::Workers { number, workers });
                }
                self.outbox.push_back(FromGateway::Report { number, report });
            }
            ToGateway::Survey => self.say_load(),
            ToGateway::LetGo { count } => self.let_go(count),
            ToGateway::Stop { within } => self.stop(within),
            ToGateway::Shut => self.shut(),
            ToGateway::RunOut { within } => self.run_out(within),
        }
    }

    /// Takes new settings, listening sockets and logs in place of the old ones.
    pub(super) fn configure(&mut self, settings: Settings, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        let before = self.shut_doors();
        self.settings.company = settings.company;
        for fd in descriptors.by_ref().take(settings.listeners.len()) {
            self.open_door(fd);
        }
        for door in before {
            if !self.has_door(&door) {
                self.take_in(&door);
            }
        }
        let files = log_files(descriptors, settings.has_access_log, settings.has_slowlog);
        self.seams.journal.configure(&settings, files);
        let wear = |settings: &Settings| (settings.max_requests, settings.max_requests_jitter);
        let wears_anew = wear(&self.settings) != wear(&settings);
        self.settings = settings;
        if wears_anew {
            self.wear_anew();
        }
        self.read_networks();
        for key in self.slots.keys(|_| true) {
            self.recount(key);
        }
        self.timers.set(Timer::Accept, None);
        self.inspect_input();
        // What runs has its new limits from its own dispatch on.
        self.inspect_running();
        self.watch_queue();
        self.feed();
        self.outbox.push_back(FromGateway::Ready { version: VERSION });
    }

    /// Workers that are there already may have another number of requests from now on. One that has had more than that gets
    /// one more, so that those whose time has come do not all leave at once, but as they are needed.
    fn wear_anew(&mut self) {
        for key in self.slots.keys(|slot| slot.worker.is_some()) {
            let wear = self.next_wear();
            if let Some(worker) = self.slots.get_mut(key).and_then(|slot| slot.worker.as_mut()) {
                worker.wear = wear;
            }
        }
    }

    fn open_door(&mut self, fd: OwnedFd) {
        let pool = &self.settings.pool;
        let company = self.settings.company;
        let prepared = match company {
            Company::Alone => prepare_listener(fd.as_fd()),
            Company::Workers => prepare_shared_listener(fd.as_fd()),
        };
        match prepared {
            Ok(tcp) => {
                self.doors.push(Door { fd, company, tcp, crowd: 1 });
                self.watch_door(self.doors.len() - 1);
            }
            Err(errno) => {
                let cause = crate::os::errno::Cause(errno);
                ::log::error!("[pool {pool}] cannot use a listening socket: {cause}");
            }
        }
    }

    /// Whether this socket is one of those that we listen on, under whatever descriptor.
    fn has_door(&self, door: &Door) -> bool {
        let number = inode(door.fd.as_fd());
        self.doors.iter().any(|open| inode(open.fd.as_fd()) == number)
    }

    fn open_slot(&mut self, id: SlotId, path: PathBuf) {
        match self.places.get(&id).and_then(|key| self.slots.get_mut(*key)) {
            Some(slot) => slot.path = path,
            None => {
                let key = self.slots.insert(Slot::new(id, path));
                self.places.insert(id, key);
            }
        }
    }

    fn start_worker(&mut self, name: WorkerName, started: Option<Moment>, past: Past) {
        let Some(key) = self.places.get(&name.slot).copied() else { return };
        let since = started.unwrap_or(self.now);
        let age = self.now.since(since).as_secs();
        let wear = self.next_wear();
        self.stamp += 1;
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.closed_until = None;
        slot.tail = None;
        slot.worker = Some(Worker {
            name,
            state: State::Serving,
            served: u64::from(slot.active) + past.requests(),
            wear,
            since,
            start: WallTime { seconds: self.wall.seconds.saturating_sub_unsigned(age), ..self.wall },
            freed: self.stamp,
            answered: self.now,
            weighed: (Moment(Duration::ZERO), Told::No),
            looked_at: self.now,
            last: Last::default(),
        });
        self.timers.set(Timer::Slot(key), None);
        let may_be_at_work = match past {
            Past::Unknown => self.now.since(self.born) <= HERITAGE,
            Past::Released(_) => false,
            Past::Orphaned(_) => true,
        };
        if may_be_at_work {
            self.find_inherited(key, past);
        }
        self.recount(key);
        self.feed();
    }

    fn drain(&mut self, slot: SlotId, worker: WorkerId) {
        let Some(key) = self.places.get(&slot).copied() else { return };
        let known = self.slots.get_mut(key).and_then(|slot| slot.worker.as_mut());
        if let Some(known) = known.filter(|known| known.name.worker == worker) {
            known.state = State::Draining(Told::No);
            self.recount(key);
        }
    }

    /// Lets go of workers without a request, those first that have been so for the longest time.
    fn let_go(&mut self, count: u32) {
        let free = self.slots.iter().filter(|(_, slot)| slot.counted.free);
        let since = |slot: &Slot| slot.worker.as_ref().map(|worker| worker.freed);
        let mut free: Vec<(Option<u64>, Key)> = free.map(|(key, slot)| (since(slot), key)).collect();
        free.sort_unstable_by_key(|(since, _)| *since);
        // While something waits nobody is idle, whatever it looks like.
        let count = if self.queue.is_empty() { count as usize } else { 0 };
        for (_, key) in free.into_iter().take(count) {
            if let Some(worker) = self.slots.get_mut(key).and_then(|slot| slot.worker.as_mut()) {
                worker.state = State::Draining(Told::No);
            }
            self.recount(key);
        }
        self.outbox.push_back(FromGateway::LetGo);
    }

    fn end_worker(&mut self, slot: SlotId, worker: WorkerId, how: &str) {
        let Some(key) = self.places.get(&slot).copied() else { return };
        self.forget_warming(worker);
        self.ask_for_unaccepted(slot, worker);
        let Some(place) = self.slots.get_mut(key) else { return };
        if place.worker.as_ref().is_none_or(|known| known.name.worker != worker) {
            return;
        }
        ::log::debug!("[pool {}] worker {} on slot {} {how}", self.settings.pool, worker.0, slot.0);
        // Connections that it had accepted are left alone: their end comes as an event, after what it had still to say.
        place.worker = None;
        place.lost.clear();
        place.tail = None;
        for kept in std::mem::take(&mut place.kept) {
            self.upstreams.remove(kept);
        }
        self.recount(key);
        if self.counters.answered > self.works {
            self.works = self.counters.answered;
            self.outbox.push_back(FromGateway::Works);
        }
    }

    fn close_slot_for_good(&mut self, id: SlotId) {
        let Some(key) = self.places.remove(&id) else { return };
        if let Some(slot) = self.slots.get_mut(key) {
            slot.worker = None;
        }
        for upstream in self.upstreams.keys(|upstream| upstream.slot == key) {
            self.upstream_lost(upstream);
        }
        self.recount(key);
        self.timers.set(Timer::Slot(key), None);
        if let Some(slot) = self.slots.remove(key) {
            // Requests that nobody waits for end with the slot.
            self.counters.load.busy -= u32::from(slot.counted.busy);
        }
    }

    fn stop(&mut self, within: Duration) {
        match self.phase {
            Phase::Serving | Phase::Leaving => {}
            // Nobody is left who could serve what waits.
            Phase::Stopping => return self.timers.set(Timer::Stop, Some(self.now.after(within))),
            Phase::Stopped => return,
        }
        // Who has connected by now is served; who comes later waits until nobody can come any more, so that a crowd that
        // does not end cannot hold up the stop.
        let doors = self.shut_doors();
        doors.iter().for_each(|door| self.take_in(door));
        self.doors = doors;
        self.timers.set(Timer::Accept, None);
        self.phase = Phase::Stopping;
        self.timers.set(Timer::Stop, Some(self.now.after(within)));
        self.dismiss_idle();
    }

    /// Nobody can connect any more. Who has connected by now is served.
    fn shut(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Stopping;
        }
        for door in self.shut_doors() {
            self.take_in(&door);
        }
        self.dismiss_idle();
    }

    /// The sockets are others' from now on, with whoever waits there.
    fn run_out(&mut self, within: Duration) {
        if self.phase != Phase::Serving {
            return;
        }
        drop(self.shut_doors());
        self.phase = Phase::Stopping;
        self.timers.set(Timer::Stop, Some(self.now.after(within)));
        self.timers.set(Timer::Accept, None);
        self.pass_counts_on();
        self.dismiss_idle();
    }

    /// Lets clients go that want nothing, but for those that have had no time yet to say so.
    pub(super) fn dismiss_idle(&mut self) {
        for client in self.clients.keys(|client| client.active.is_empty()) {
            self.settle(client);
        }
        if self.clients.iter().any(|(_, client)| client.is_new(self.now)) {
            self.timers.set(Timer::Newcomers, Some(self.now.after(NEW)));
        }
    }

    /// Tells the master, once, when nothing waits any more after a stop.
    pub(super) fn tell_served(&mut self) {
        let stops = matches!(self.phase, Phase::Stopping | Phase::Stopped);
        if stops && self.queue.is_empty() && !self.told_served {
            self.told_served = true;
            self.outbox.push_back(FromGateway::QueueServed);
        }
    }

    /// Forgets the listening sockets. They stay open in the master, so that closing ours would not end the watch: it goes
    /// with the last descriptor of the socket (epoll(7)).
    pub(super) fn shut_doors(&mut self) -> Vec<Door> {
        for door in &self.doors {
            unwatch(&self.registry, door.fd.as_fd());
        }
        std::mem::take(&mut self.doors)
    }

    /// Whether nothing is left to serve after a stop.
    pub(super) fn is_over(&self) -> bool {
        let is_done = |client: &Client| client.is_flushed() && !client.is_new(self.now);
        match self.phase {
            Phase::Serving => false,
            Phase::Leaving => self.requests.is_empty() && self.clients.is_empty() && self.warming.is_empty(),
            Phase::Stopping | Phase::Stopped => {
                let served =
                    self.requests.is_empty() && self.clients.iter().all(|(_, client)| is_done(client));
                self.doors.is_empty() && served
            }
        }
    }
}

fn log_files(mut descriptors: impl Iterator<Item = OwnedFd>, access: bool, slow: bool) -> LogFiles {
    let access = if access { descriptors.next().map(File::from) } else { None };
    let slow = if slow { descriptors.next().map(File::from) } else { None };
    LogFiles { access, slow }
}
