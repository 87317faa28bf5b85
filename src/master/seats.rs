//! Where a worker accepts: the one place where the two ways of dispatch differ for a worker. On its pool's own sockets it is
//! watched from outside; on a slot the gateway knows.

use serde::{Deserialize, Serialize};

use super::Master;
use super::gateways::Condition;
use super::listeners::{ListenerId, Listeners};
use super::slots::{Slots, Stage, Taken};
use crate::config::model::{Dispatch, Pool};
use crate::ids::{ExitStatus, Generation, Pid, PoolName, Signal, SlotId, WorkerId};
use crate::os::activity::{Observation, Observer, Rest, StopOutcome};
use crate::os::socket::Listener;
use crate::os::{clock, signal};
use crate::status::snapshot::Activity;
use crate::supervise::event::Event;
use crate::wire::gateway::ToGateway;

/// The socket that is a worker's FD 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seat {
    /// One of the pool's own, with others.
    Shared(ListenerId),
    /// Its own.
    Slot(SlotId),
}

impl Master {
    /// A seat for a new worker.
    ///
    /// # Errors
    /// A sentence without the pool's name.
    pub(super) fn seat(
        &mut self,
        settings: &Pool,
        generation: Generation,
        id: WorkerId,
    ) -> Result<Seat, String> {
        let pool = &settings.name;
        match settings.dispatch {
            Dispatch::Direct => self.emptiest_listener(pool, generation).map(Seat::Shared),
            Dispatch::Gateway(_) => {
                let Taken { slot, is_new } = self.slots.take(pool, generation, id)?;
                if let (true, Some(listener)) = (is_new, self.slots.listener(pool, slot)) {
                    let path = listener.to_string();
                    let message = ToGateway::Slot { slot, path };
                    self.gateways.tell(pool, &message);
                    // Its worker may be lent to one that hands over.
                    self.gateways.tell_handing(pool, &message);
                }
                Ok(Seat::Slot(slot))
            }
        }
    }

    /// The pool's workers are shared out evenly among its sockets: each can have only one as FD 0.
    fn emptiest_listener(&self, pool: &PoolName, generation: Generation) -> Result<ListenerId, String> {
        let mut listeners: Vec<ListenerId> = self.listeners.of(pool, generation).map(|(id, _)| id).collect();
        if listeners.len() > 1 {
            let waits = |id| self.listeners.by_id(pool, id).is_some_and(Listener::has_pending);
            listeners.sort_by_key(|id| (self.workers.on_listener(*id), !waits(*id)));
        }
        listeners.into_iter().next().ok_or_else(|| "its sockets are gone".to_owned())
    }

    /// The socket of a seat.
    pub(super) fn socket(&self, pool: &PoolName, seat: Seat) -> Option<&Listener> {
        match seat {
            Seat::Shared(id) => self.listeners.by_id(pool, id),
            Seat::Slot(slot) => self.slots.listener(pool, slot),
        }
    }

    /// Looks at a worker from outside.
    pub(super) fn observe(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let sockets = sockets(&self.listeners, &self.slots, &worker.pool, worker.seat);
        let look = self.observer.observe(&sockets, worker.pid);
        if look.connections.is_some_and(|connections| connections > 0) {
            self.supervisor.handle(clock::monotonic(), Event::Holding { worker: id });
        }
        self.supervisor.handle(clock::monotonic(), Event::Observed { worker: id, activity: look.activity });
    }

    /// A look at a worker, for the status.
    pub(super) fn look(&mut self, id: WorkerId, pid: Pid) -> Observation {
        let place = self.workers.get(id).map(|worker| (&worker.pool, worker.seat));
        let sockets =
            place.map(|(pool, seat)| sockets(&self.listeners, &self.slots, pool, seat)).unwrap_or_default();
        self.observer.observe(&sockets, pid)
    }

    /// Has a worker end if it is idle.
    pub(super) fn stop_if_idle(&mut self, id: WorkerId, signal: Signal) {
        let event = match self.known_stage(id) {
            Some(stage) => self.stop_if_drained(id, stage, signal),
            None => self.stop_if_seen_idle(id, signal),
        };
        if let Some(event) = event {
            self.supervisor.handle(clock::monotonic(), event);
        }
    }

    /// What a living gateway knows of the worker, if it knows it.
    fn known_stage(&self, id: WorkerId) -> Option<Stage> {
        let (pool, slot, _) = self.on_slot(id)?;
        let occupant = self.slots.occupant(&pool, slot).filter(|occupant| occupant.worker == id)?;
        match (occupant.stage, self.gateways.condition_for(&pool, id)) {
            (Stage::Starting, _) => None,
            (stage @ Stage::Drained, _) => Some(stage),
            (Stage::Admitted { .. } | Stage::Draining { .. }, Condition::Absent) => None,
            (
                stage @ (Stage::Admitted { .. } | Stage::Draining { .. }),
                Condition::Running | Condition::Stopping,
            ) => Some(stage),
        }
    }

    fn stop_if_drained(&mut self, id: WorkerId, stage: Stage, signal: Signal) -> Option<Event> {
        let (pool, slot, pid) = self.on_slot(id)?;
        let busy = Event::Observed { worker: id, activity: Activity::Busy };
        match stage {
            // Its last client has the answer, and it goes on.
            Stage::Drained if self.is_finishing(&pool, slot, pid) => Some(busy),
            Stage::Drained => Some(match signal::send(pid, signal) {
                Ok(_) => Event::StopSent { worker: id },
                Err(error) => {
                    log::error!("[pool {pool}] {error}");
                    Event::Observed { worker: id, activity: Activity::Unknown }
                }
            }),
            // A gateway that stops needs its workers for what waits; when it has ended, they are idle.
            Stage::Admitted { .. } if self.gateways.condition_for(&pool, id) == Condition::Stopping => {
                Some(busy)
            }
            Stage::Admitted { .. } => {
                self.slots.set_stage(&pool, slot, id, Stage::Draining { pid });
                self.gateways.tell_keeper(&pool, id, &ToGateway::Drain { slot, worker: id });
                Some(busy)
            }
            Stage::Draining { .. } | Stage::Starting => Some(busy),
        }
    }

    /// Whether a worker without a request is at something else.
    fn is_finishing(&self, pool: &PoolName, slot: SlotId, pid: Pid) -> bool {
        self.slots.listener(pool, slot).is_some_and(|listener| Observer::rest(listener, pid) == Rest::AtWork)
    }

    fn stop_if_seen_idle(&mut self, id: WorkerId, signal: Signal) -> Option<Event> {
        let worker = self.workers.get_mut(id)?;
        let sockets = sockets(&self.listeners, &self.slots, &worker.pool, worker.seat);
        Some(match self.observer.stop_if_idle(&sockets, worker.pid, signal, &mut worker.trail) {
            Ok(StopOutcome::Sent) => Event::StopSent { worker: id },
            Ok(StopOutcome::NotIdle(activity)) => Event::Observed { worker: id, activity },
            Ok(StopOutcome::Restless(activity)) => {
                self.supervisor.handle(clock::monotonic(), Event::Restless { worker: id });
                Event::Observed { worker: id, activity }
            }
            Ok(StopOutcome::Gone) => Event::Observed { worker: id, activity: Activity::Unknown },
            Err(error) => {
                log::error!("[pool {}] {error}", worker.pool);
                Event::Observed { worker: id, activity: Activity::Unknown }
            }
        })
    }

    /// The worker was never started: its seat is free.
    pub(super) fn leave(&mut self, pool: &PoolName, seat: Seat, id: WorkerId) -> Option<Stage> {
        match seat {
            Seat::Shared(_) => None,
            Seat::Slot(slot) => self.slots.vacate(pool, slot, id).map(|occupant| occupant.stage),
        }
    }

    /// The worker has ended: its seat is free, and the gateway learns that, even if it never knew the worker: requests may
    /// have waited for it.
    pub(super) fn vacate(&mut self, pool: &PoolName, seat: Seat, id: WorkerId, status: ExitStatus) {
        if let (Seat::Slot(slot), Some(_)) = (seat, self.leave(pool, seat, id)) {
            self.gateways.tell_gone(pool, slot, id, status);
        }
    }
}

/// The sockets on which a worker may have accepted.
fn sockets<'a>(listeners: &'a Listeners, slots: &'a Slots, pool: &PoolName, seat: Seat) -> Vec<&'a Listener> {
    match seat {
        Seat::Shared(_) => listeners.all(pool).collect(),
        Seat::Slot(slot) => slots.listener(pool, slot).into_iter().collect(),
    }
}
