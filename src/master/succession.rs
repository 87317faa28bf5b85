//! The exchange of gateways after an upgrade: a successor for each, workers that go from one to the other, and the end of it
//! all, of which whoever asked for the upgrade is told.

use super::Master;
use super::gateways::{Condition, World};
use super::passage::doors_of;
use super::run::Timer;
use super::slots::{Occupant, Stage};
use super::spawning::Pipe;
use super::upgrade::{Succession, Upgrade};
use crate::ids::{PoolName, SlotId, WorkerId};
use crate::os::clock;
use crate::sorted::SortedMap;
use crate::supervise::event::Event;
use crate::wire::gateway::{Past, ToGateway};

impl Master {
    /// Starts a gateway of the program that fpmd is by now, beside the one that serves.
    pub(super) fn start_successor(&mut self, pool: &PoolName) -> Result<(), String> {
        let log = Pipe::open()?;
        let (number, pid) = self.gateways.start_successor(pool, &mut self.cgroups, &log)?;
        self.watch_gateway(pool, number, pid, log)?;
        self.gateways.tell_successor(pool, &doors_of(&self.listeners, &self.gateways, pool));
        Ok(())
    }

    /// It serves: from now on it is the gateway, and gets from the one before what that has no need of.
    pub(super) fn succeed(&mut self, pool: &PoolName) {
        let with_it = self.workers_with_gateway(pool);
        self.gateways.succeed(pool, with_it);
        let listeners = doors_of(&self.listeners, &self.gateways, pool);
        self.gateways.tell_everything(pool, &World { listeners, slots: &self.slots });
        log::info!("[pool {pool}] a new gateway serves, the one before hands over");
        self.on_succession(pool, Ok(()));
    }

    /// A gateway has no request for a worker any more, and it is another one's turn.
    pub(super) fn on_released(
        &mut self,
        pool: &PoolName,
        number: u64,
        slot: SlotId,
        worker: WorkerId,
        past: Past,
    ) {
        let occupant = self.slots.occupant(pool, slot).copied().filter(|occupant| occupant.worker == worker);
        let Some((occupant, pid, drains)) = occupant.and_then(|occupant| match occupant.stage {
            Stage::Admitted { pid } => Some((occupant, pid, false)),
            Stage::Draining { pid } => Some((occupant, pid, true)),
            Stage::Starting | Stage::Drained => None,
        }) else {
            // It has ended meanwhile.
            return self.gateways.miss_worker(pool, number, worker);
        };
        let Occupant { generation, started, .. } = occupant;
        let message = ToGateway::Worker { slot, worker, pid, generation, started, past };
        self.gateways.move_worker(pool, number, (worker, past.requests()), &message);
        if drains {
            self.gateways.tell_keeper(pool, worker, &ToGateway::Drain { slot, worker });
        }
    }

    /// These workers were with a gateway that has ended; each with how many requests it is known to have served.
    pub(super) fn give_orphans(&mut self, pool: &PoolName, workers: &SortedMap<WorkerId, u64>) {
        let mut places = Vec::new();
        for (slot, _, occupant) in self.slots.of(pool) {
            let orphan = occupant.and_then(|one| Some((one.worker, *workers.get(&one.worker)?)));
            places.extend(orphan.map(|(worker, requests)| (slot, worker, requests)));
        }
        for (slot, worker, requests) in places {
            self.on_released(pool, 0, slot, worker, Past::Orphaned(requests));
            if self.gateways.condition(pool) == Condition::Absent {
                // Nobody will have a request for it.
                self.supervisor.handle(clock::monotonic(), Event::Drained { worker });
            }
        }
    }

    /// A pool's gateway was exchanged, or could not be.
    pub(super) fn on_succession(&mut self, pool: &PoolName, result: Result<(), String>) {
        let Upgrade::Succeeding(succession) = &mut self.upgrade else { return };
        succession.waiting.remove(pool);
        if let Err(reason) = result {
            let text = format!("cannot exchange the gateway of pool {pool}: {reason}; the old one goes on");
            ::log::error!("{text}");
            succession.failed.push(text);
        }
        self.conclude_upgrade();
    }

    /// Tells who waits, if nothing is left to do.
    pub(super) fn conclude_upgrade(&mut self) {
        if !matches!(&self.upgrade, Upgrade::Succeeding(succession) if succession.waiting.is_empty()) {
            return;
        }
        let Upgrade::Succeeding(succession) = std::mem::take(&mut self.upgrade) else { return };
        self.timers.set(Timer::Upgrade, None);
        let Succession { ticket, release, failed, .. } = succession;
        let text = format!("fpmd is upgraded from {release} to {}", env!("CARGO_PKG_VERSION"));
        if let Some(ticket) = ticket {
            self.answer(ticket, if failed.is_empty() { Ok(text) } else { Err(failed.join("\n")) });
        }
    }
}
