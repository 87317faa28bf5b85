//! What a generation's settings mean for its pool's gateway; and the change of a pool's `dispatch` while it serves, from the
//! gateway to workers that accept by themselves or back. When which side opens and closes is the supervisor's to say.
//!
//! A gateway wants listening sockets that do not block, and workers want them to: php-cgi and libfcgi end where they do not,
//! and that is a property of the socket and not of a descriptor. So a gateway that has workers for company leaves the sockets
//! as workers need them and takes more trouble over each connection; it has to have begun with that before the first of them
//! is started, and is alone again when the settings of the last are forgotten.

use std::sync::Arc;
use std::time::Duration;

use super::Master;
use super::gateways::{Condition, Doors, Gateways};
use super::listeners::Listeners;
use super::slots::Stage;
use crate::config::model::{Dispatch, Gateway as Options, Pool};
use crate::ids::{Generation, PoolName, WorkerId};
use crate::os::clock;
use crate::os::socket::Listener;
use crate::sorted::{SortedMap, SortedSet};
use crate::supervise::event::Event;

/// Generations whose sockets are open, but whose workers would get in the way of a gateway that has not made room yet.
pub type Awaited = SortedMap<PoolName, Generation>;

/// Whether workers can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routed {
    /// At once.
    Now,
    /// When the pool's gateway has said so.
    Later,
}

impl Master {
    /// Puts a generation's settings in force as far as its gateway is concerned: its sockets are open.
    ///
    /// # Errors
    /// A sentence; what was in force stays.
    pub(super) fn route(&mut self, settings: &Arc<Pool>, generation: Generation) -> Result<Routed, String> {
        match &settings.dispatch {
            Dispatch::Gateway(options) => self.route_by_gateway(settings, options, generation),
            Dispatch::Direct => Ok(self.route_to_workers(&settings.name)),
        }
    }

    fn route_by_gateway(
        &mut self,
        settings: &Arc<Pool>,
        options: &Options,
        generation: Generation,
    ) -> Result<Routed, String> {
        let pool = &settings.name;
        let doors = if self.settings.has_direct(pool) { Doors::Closed } else { Doors::Own };
        self.slots.open(pool)?;
        self.gateways.adopt(settings, options, generation, (doors, clock::wall().seconds))?;
        if self.gateways.condition(pool) == Condition::Running {
            self.tell_settings(pool);
        } else {
            self.start_gateway(pool)?;
        }
        Ok(Routed::Now)
    }

    fn route_to_workers(&mut self, pool: &PoolName) -> Routed {
        if self.gateways.set_doors(pool, Doors::Shared) {
            self.tell_settings(pool);
        }
        if self.gateways.is_settled(pool) { Routed::Now } else { Routed::Later }
    }

    /// Tells the pool's gateway its settings, and where it listens.
    pub(super) fn tell_settings(&mut self, pool: &PoolName) {
        self.gateways.tell_settings(pool, &doors_of(&self.listeners, &self.gateways, pool));
    }

    /// Something about the pool's gateway has changed: what waited for that can go on.
    pub(super) fn resume_listening(&mut self, pool: &PoolName) {
        if self.gateways.is_settled(pool)
            && let Some(generation) = self.awaited.remove(pool)
        {
            let event = Event::Listening { pool: pool.clone(), generation };
            self.supervisor.handle(clock::monotonic(), event);
        }
    }

    /// The gateway accepts from now on, beside the workers that did so alone.
    pub(super) fn open_intake(&mut self, pool: &PoolName) {
        self.gateways.set_doors(pool, Doors::Shared);
        self.tell_settings(pool);
    }

    /// Workers accept by themselves from now on, and the gateway no more. At an address that they do not have nobody can
    /// connect any longer; whoever has is the gateway's still.
    pub(super) fn pass_intake(&mut self, pool: &PoolName, within: Duration) {
        let theirs = self.settings.direct(pool);
        self.listeners.withdraw_others(pool, &theirs);
        if self.gateways.doors(pool) != Some(Doors::Closed) {
            let kept: Vec<&Listener> = self.listeners.wanted_by(pool, &theirs).collect();
            self.gateways.tell_settings(pool, &kept);
        }
        self.gateways.run_out(pool, within, self.workers_with_gateway(pool));
    }

    /// The workers that the pool's gateway has been told of, and no earlier one still has.
    pub(super) fn workers_with_gateway(&self, pool: &PoolName) -> SortedSet<WorkerId> {
        let known = |stage| match stage {
            Stage::Admitted { .. } | Stage::Draining { .. } => true,
            Stage::Starting | Stage::Drained => false,
        };
        let occupants = self.slots.of(pool).filter_map(|(_, _, occupant)| occupant.copied());
        let with_it = occupants.filter(|occupant| known(occupant.stage)).map(|occupant| occupant.worker);
        with_it.filter(|worker| !self.gateways.is_kept(pool, *worker)).collect()
    }

    /// A generation is over: one side may be alone again.
    pub(super) fn settle_dispatch(&mut self, pool: &PoolName) {
        if !self.settings.has_gateway(pool) {
            self.gateways.run_out(pool, Duration::ZERO, SortedSet::new());
            self.slots.close(pool);
        } else if !self.settings.has_direct(pool) && self.gateways.set_doors(pool, Doors::Own) {
            self.tell_settings(pool);
        }
    }
}

/// Where a pool's gateway listens: on the sockets of its settings, and on those that only older workers' settings name, for
/// as long as these workers are there.
pub(super) fn doors_of<'a>(
    listeners: &'a Listeners,
    gateways: &Gateways,
    pool: &PoolName,
) -> Vec<&'a Listener> {
    if gateways.doors(pool) == Some(Doors::Closed) {
        return Vec::new();
    }
    let newest = gateways.generation(pool);
    let wanted = newest.map(|generation| listeners.of(pool, generation)).into_iter().flatten();
    let mut doors: Vec<&Listener> = wanted.map(|(_, listener)| listener).collect();
    let named = doors.len();
    for listener in listeners.all(pool) {
        if !doors[..named].iter().any(|door| std::ptr::eq(*door, listener)) {
            doors.push(listener);
        }
    }
    doors
}
