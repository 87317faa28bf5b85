//! What the gateway knows, for its master and for its pages; and when the master is told of the load without asking.

use std::os::fd::AsFd;
use std::time::Duration;

use super::core::{Gateway, Timer};
use super::finished::{View, WorkerView};
use super::request::Stage;
use super::slab::Key;
use super::slot::{self, Slot};
use crate::ids::Moment;
use crate::wire::gateway::{FromGateway, Load, Report, WorkerReport};

/// The master is told of changes of the load at most this often.
const PACE: Duration = Duration::from_millis(10);

/// What the master was told of the load.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadTold {
    gist: Gist,
    at: Option<Moment>,
}

/// What of the load matters to the master: whether and about how many requests wait, and whether somebody is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Gist {
    /// Bits of the number of waiting requests: a change is a doubling or a halving.
    queued: u32,
    idle: bool,
}

impl Gist {
    fn of(load: &Load) -> Gist {
        Gist { queued: u32::BITS - load.queued.leading_zeros(), idle: load.idle > 0 }
    }
}

impl Gateway {
    /// Tells the master of the load if it has changed in a way that matters.
    pub(super) fn tell_load(&mut self) {
        self.counters.load.queued = self.queue.len();
        let load = self.counters.load;
        let gist = Gist::of(&load);
        if self.told.at.is_some() && gist == self.told.gist {
            return;
        }
        if let Some(at) = self.told.at.filter(|at| self.now.since(*at) < PACE) {
            self.timers.set(Timer::Load, Some(at.after(PACE)));
            return;
        }
        self.told = LoadTold { gist, at: Some(self.now) };
        self.outbox.push_back(FromGateway::Load(load));
    }

    /// All counts, as they are now.
    pub(super) fn report(&self) -> Report {
        let workers = self.places.values().filter_map(|key| worker_report(self.slots.get(*key)?)).collect();
        Report {
            load: Load { queued: self.queue.len(), ..self.counters.load },
            max_queued: self.queue.most(),
            connections: self.clients.len() as u32,
            workers,
            ..self.counters.clone()
        }
    }

    /// Everything that a page can show.
    pub(super) fn view<'a>(&'a self, report: &'a Report) -> View<'a> {
        let workers = self.places.values().filter_map(|key| self.worker_view(*key)).collect();
        let listeners = self.doors.iter().map(|door| door.fd.as_fd()).collect();
        View { settings: &self.settings, listeners, facts: &self.facts, report, workers, now: self.wall }
    }

    fn worker_view(&self, key: Key) -> Option<WorkerView<'_>> {
        let slot = self.slots.get(key)?;
        let worker = slot.worker.as_ref()?;
        let mine = self.requests.iter().map(|(_, request)| request).filter(|request| {
            matches!(request.stage, Stage::Running(_)) && request.worker == Some(worker.name)
        });
        let runs = mine.max_by_key(|request| request.dispatched);
        let shown = match runs.and_then(|request| Some((request, request.dispatched?))) {
            Some((request, since)) => Some(slot::shown(request, since, self.now)),
            None => worker.last.shown(),
        };
        Some(WorkerView {
            name: worker.name,
            state: slot.activity(),
            start: worker.start,
            age: self.now.since(worker.since),
            requests: worker.served,
            current: slot.active,
            shown,
        })
    }
}

fn worker_report(slot: &Slot) -> Option<WorkerReport> {
    let worker = slot.worker.as_ref()?;
    Some(WorkerReport {
        slot: slot.id,
        worker: worker.name.worker,
        pid: worker.name.pid,
        state: slot.activity().word().to_owned(),
        requests: worker.served,
        current: slot.active,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gist_changes_at_none_and_at_doublings() {
        let gist = |queued, idle| Gist::of(&Load { queued, idle, busy: 0 });
        assert_ne!(gist(0, 1), gist(0, 0));
        assert_ne!(gist(0, 0), gist(1, 0));
        assert_ne!(gist(3, 0), gist(4, 0));
        assert_eq!(gist(4, 0), gist(7, 0));
        assert_eq!(gist(0, 1), gist(0, 9));
    }
}
