//! What gateways are told: everything when they come up, then what changes. The messages are `wire`'s; a gateway that cannot
//! be told is killed, and the next one is told everything.

use std::os::fd::{AsFd, BorrowedFd};

use super::channel::Fault;
use super::process::Process;
use super::settings::Logs;
use super::{Doors, Gateways, Role, State, settings};
use crate::config::model::Dispatch;
use crate::ids::{ExitStatus, PoolName, SlotId, WorkerId};
use crate::master::slots::{Occupant, Slots, Stage};
use crate::os::socket::Listener;
use crate::wire::gateway::{Company, Facts, Past, Settings, ToGateway};

/// What a gateway that came up is told before anything else.
pub struct World<'a> {
    /// The pool's sockets, in the order of its settings.
    pub listeners: Vec<&'a Listener>,
    /// The sockets and workers behind it.
    pub slots: &'a Slots,
}

impl Gateways {
    /// Tells a gateway its settings; the first thing that it hears, and again when they have changed.
    pub fn tell_settings(&mut self, pool: &PoolName, listeners: &[&Listener]) {
        self.send_settings(pool, Role::Current, listeners);
    }

    /// Tells a successor its settings, so that it serves.
    pub fn tell_successor(&mut self, pool: &PoolName, listeners: &[&Listener]) {
        self.send_settings(pool, Role::Successor, listeners);
    }

    fn send_settings(&mut self, pool: &PoolName, role: Role, listeners: &[&Listener]) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        let Dispatch::Gateway(options) = &gateway.settings.dispatch else { return };
        let addresses = listeners.iter().map(ToString::to_string).collect();
        let company = match gateway.doors {
            Doors::Own => Company::Alone,
            Doors::Shared | Doors::Closed => Company::Workers,
        };
        let settings = Settings {
            company,
            ..settings::wire(&gateway.settings, options, addresses, &gateway.logs, gateway.start_time)
        };
        let process = match (role, &mut gateway.state) {
            (Role::Current, State::Running(process)) => Some(process),
            (Role::Current | Role::Handing, _) => None,
            (Role::Successor, _) => gateway.successor.as_mut(),
        };
        let Some(process) = process else { return };
        let sockets = listeners.iter().map(|listener| listener.as_fd());
        let descriptors: Vec<BorrowedFd<'_>> = sockets.chain(gateway.logs.descriptors()).collect();
        let message = ToGateway::Settings(Box::new(settings));
        process.untaken += 1;
        let sent = process.channel.send(&message, &descriptors);
        check(pool, process, sent);
    }

    /// Tells a gateway that has just been started all there is.
    pub fn tell_everything(&mut self, pool: &PoolName, world: &World<'_>) {
        self.tell_settings(pool, &world.listeners);
        if let Some(gateway) = self.pools.get(pool) {
            let facts = gateway.facts.clone();
            self.tell(pool, &ToGateway::Facts(facts));
        }
        for (slot, listener, occupant) in world.slots.of(pool) {
            self.tell(pool, &ToGateway::Slot { slot, path: listener.to_string() });
            let Some(occupant) = occupant else { continue };
            let Occupant { worker, generation, started, .. } = *occupant;
            if self.is_kept(pool, worker) {
                continue;
            }
            let (pid, drains) = match occupant.stage {
                Stage::Starting | Stage::Drained => continue,
                Stage::Admitted { pid } => (pid, false),
                Stage::Draining { pid } => (pid, true),
            };
            let past = Past::Unknown;
            self.tell(pool, &ToGateway::Worker { slot, worker, pid, generation, started, past });
            if drains {
                self.tell(pool, &ToGateway::Drain { slot, worker });
            }
        }
        self.deliver(pool);
    }

    /// Tells a pool's gateway something, if there is one.
    pub fn tell(&mut self, pool: &PoolName, message: &ToGateway) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        if let State::Running(process) | State::Stopping(process) = &mut gateway.state {
            let sent = process.channel.send(message, &[]);
            check(pool, process, sent);
        }
    }

    /// Tells a pool's gateway what has changed, if anything has.
    pub fn tell_facts(&mut self, pool: &PoolName, facts: Facts) {
        let Some(gateway) = self.pools.get_mut(pool) else { return };
        if gateway.facts != facts {
            gateway.facts = facts.clone();
            self.tell(pool, &ToGateway::Facts(facts));
        }
    }

    /// Tells a pool's gateway that a worker has ended.
    pub fn tell_gone(&mut self, pool: &PoolName, slot: SlotId, worker: WorkerId, status: ExitStatus) {
        self.tell_keeper(pool, worker, &ToGateway::WorkerGone { slot, worker, how: status.to_string() });
        self.forget_worker(pool, worker);
    }

    /// Opens the log files of all gateways again, after a rotation. One that cannot be opened is kept as it is.
    ///
    /// # Errors
    /// A line for each pool whose files are not as they should be.
    pub fn reopen_logs(&mut self) -> Result<(), String> {
        let mut refusals = Vec::new();
        for (pool, gateway) in &mut self.pools {
            let Dispatch::Gateway(options) = &gateway.settings.dispatch else { continue };
            match Logs::open(options) {
                Ok(logs) => gateway.logs = logs,
                Err(refusal) => {
                    refusals.push(format!("[pool {pool}] {refusal}; the old one is kept"));
                    continue;
                }
            }
            let current = match &mut gateway.state {
                State::Running(process) | State::Stopping(process) => Some(process),
                State::Resting { .. } | State::Stopped => None,
            };
            let handing = self.handing.values_mut().filter(|handing| handing.pool == *pool);
            let handing = handing.map(|handing| &mut handing.process);
            for process in current.into_iter().chain(&mut gateway.successor).chain(handing) {
                let message = ToGateway::Logs {
                    has_access_log: gateway.logs.access.is_some(),
                    has_slowlog: gateway.logs.slow.is_some(),
                };
                let descriptors: Vec<BorrowedFd<'_>> = gateway.logs.descriptors().collect();
                let sent = process.channel.send(&message, &descriptors);
                check(pool, process, sent);
            }
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("\n")) }
    }
}

/// A gateway that cannot be talked to is killed; its end brings the next.
pub(super) fn check(pool: &PoolName, process: &Process, sent: Result<(), Fault>) {
    match sent {
        // Its end follows by itself.
        Ok(()) | Err(Fault::Closed) => {}
        Err(fault) => {
            log::error!("[pool {pool}] gateway {}: {fault}; killing it", process.pid);
            process.kill();
        }
    }
}
