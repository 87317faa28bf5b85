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

/// How soon the master is told after it was told last, where more or fewer workers may be needed.
const SOON: Duration = Duration::from_millis(10);

/// And where the load has changed in any other way.
const LATER: Duration = Duration::from_millis(100);

/// What the master was told of the load.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadTold {
    load: Load,
    at: Option<Moment>,
    /// When the timer goes off.
    due: Option<Moment>,
}

/// How long the master's picture may differ from what there is; `None` if it does not.
fn patience(told: &Load, load: &Load, spare: u32) -> Option<Duration> {
    let bits = |queued: u32| u32::BITS - queued.leading_zeros();
    let lacking = |load: &Load| spare.saturating_sub(load.free);
    if told.queued == 0 && load.queued > 0 {
        // At most once in each `SOON`, as it has to be told that the queue is empty first.
        Some(Duration::ZERO)
    } else if load.queued > told.queued
        || bits(load.queued) != bits(told.queued)
        || lacking(load) != lacking(told)
        || (load.free == 0) != (told.free == 0)
    {
        Some(SOON)
    } else if (load.queued, load.free, load.working) != (told.queued, told.free, told.working) {
        Some(LATER)
    } else {
        None
    }
}

impl Gateway {
    /// Tells the master of the load, or plans to, if it has changed and the master wants to know.
    pub(super) fn tell_load(&mut self) {
        let Some(spare) = self.settings.spare else { return };
        self.counters.load.queued = self.queue.len();
        let due = match self.told.at {
            None => self.now,
            Some(at) => match patience(&self.told.load, &self.counters.load, spare) {
                None => return,
                Some(patience) => at.after(patience),
            },
        };
        if due <= self.now {
            self.say_load();
        } else if self.told.due.is_none_or(|set| due < set) {
            self.told.due = Some(due);
            self.timers.set(Timer::Load, Some(due));
        }
    }

    /// Tells the master of the load in any case.
    pub(super) fn say_load(&mut self) {
        let load = &mut self.counters.load;
        load.queued = self.queue.len();
        // A master that has not read the last one is told once, however long it takes.
        match self.outbox.back_mut() {
            Some(FromGateway::Load(untold)) => {
                *untold = Load { least_free: untold.least_free.min(load.least_free), ..*load };
            }
            _ => self.outbox.push_back(FromGateway::Load(*load)),
        }
        load.least_free = load.free;
        self.told = LoadTold { load: *load, at: Some(self.now), due: self.told.due };
    }

    /// The timer has gone off: the load is told before every wait.
    pub(super) fn load_is_due(&mut self) {
        self.told.due = None;
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
    fn the_master_is_told_the_sooner_the_more_it_matters() {
        let load = |queued, free, working| Load { queued, free, working, ..Load::default() };
        let told = |before, now, spare| patience(&before, &now, spare);
        assert_eq!(told(load(0, 4, 0), load(0, 4, 0), 2), None);
        assert_eq!(told(load(0, 0, 4), load(1, 0, 4), 0), Some(Duration::ZERO), "a queue forms");
        assert_eq!(told(load(1, 0, 4), load(2, 0, 4), 0), Some(SOON), "it grows");
        assert_eq!(told(load(7, 0, 4), load(6, 0, 4), 0), Some(LATER), "it shrinks");
        assert_eq!(told(load(7, 0, 4), load(3, 0, 4), 0), Some(SOON), "by half");
        assert_eq!(told(load(1, 0, 4), load(0, 0, 4), 0), Some(SOON), "it is gone");
        assert_eq!(told(load(0, 3, 1), load(0, 2, 2), 2), Some(LATER), "two are enough");
        assert_eq!(told(load(0, 2, 2), load(0, 1, 3), 2), Some(SOON), "one is not");
        assert_eq!(told(load(0, 0, 4), load(0, 1, 3), 0), Some(SOON), "there is one");
        assert_eq!(told(load(0, 1, 3), load(0, 1, 4), 0), Some(LATER));
    }
}
