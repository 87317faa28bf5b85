//! How a pool without a gateway notices demand: its workers take connections by themselves, and nobody tells.
//!
//! A pool at rest waits for the next connection and for nothing else. When one comes, the workers get a moment to take it;
//! whatever waits then has no worker. A pool that keeps up is left alone for some milliseconds before that begins again, so
//! that a busy one costs a few looks a second whatever its traffic is. Which workers are idle is looked at less often, as
//! long as there is something to see.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Moment, WorkerId};
use crate::status::snapshot::Activity;

use super::action::Action;
use super::effects::Effects;
use super::event::Load;
use super::pool::{Due, Pool, State};
use super::worker::{Duty, Worker};

/// An idle worker takes a connection within this time.
const MOMENT: Duration = Duration::from_millis(2);
/// Between two counts of a queue that does not become empty, from the first to the last.
const COUNTS: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(250));
/// How long a pool that keeps up is left alone, from the first to the last.
const RESTS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(80));
/// Between two looks at all workers, from the first to the last.
const LOOKS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Where the pool's attention is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ear {
    stage: Stage,
    /// The last interval between two counts, or of rest.
    interval: Duration,
    /// The last look at all workers, and the interval after it.
    looked: Option<Moment>,
    gap: Duration,
    /// The interval after the last time that workers were asked to end who were seen idle.
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Stage {
    /// It does not serve.
    #[default]
    Deaf,
    /// `AwaitQueue` is not answered.
    Listening,
    /// The workers have a moment, or the queue is counted again in a while.
    Waiting,
    /// `Measure` is not answered.
    Counting,
    /// It keeps up.
    Resting,
}

impl Ear {
    /// What it heard counts no more; its answers may still come.
    pub(super) fn deafen(&mut self) {
        *self = Ear::default();
    }
}

impl Pool {
    /// Listens from now on, if it does not yet.
    pub(super) fn open_ear(&mut self, out: &mut Effects) {
        if self.has_ear() && self.ear.stage == Stage::Deaf {
            self.listen_for_demand(out);
        }
    }

    /// Nothing is listened for any more.
    pub(super) fn close_ear(&mut self) {
        self.ear.deafen();
        for due in [Due::Queue, Due::Look, Due::Demand] {
            self.agenda.set(due, None);
        }
    }

    /// A connection has come.
    pub(super) fn queued(&mut self, now: Moment, out: &mut Effects) {
        if !self.listens_for_demand() || self.ear.stage != Stage::Listening {
            return;
        }
        self.survey_soon(now);
        if self.tally().ready == 0 {
            // Nobody is there who could take it.
            self.count_queue(out);
        } else {
            self.ear.stage = Stage::Waiting;
            self.agenda.set(Due::Queue, Some(now.after(MOMENT)));
        }
    }

    /// The moment, the interval or the rest is over.
    pub(super) fn on_queue_due(&mut self, out: &mut Effects) {
        match self.ear.stage {
            Stage::Waiting => self.count_queue(out),
            Stage::Resting => self.listen_for_demand(out),
            Stage::Deaf | Stage::Listening | Stage::Counting => {}
        }
    }

    /// So many connections wait.
    pub(super) fn measured(&mut self, now: Moment, queued: u32, out: &mut Effects) {
        if !self.listens_for_demand() || self.ear.stage != Stage::Counting {
            return;
        }
        let (stage, (first, last)) =
            if queued == 0 { (Stage::Resting, RESTS) } else { (Stage::Waiting, COUNTS) };
        let has_changed = (queued == 0) != (self.follow.load.queued == 0);
        self.ear.stage = stage;
        self.ear.interval = if has_changed { first } else { (self.ear.interval * 2).clamp(first, last) };
        self.agenda.set(Due::Queue, Some(now.after(self.ear.interval)));
        self.hear_queue(now, queued);
        self.advance(now, out);
    }

    /// What everyone does.
    pub(super) fn surveyed(
        &mut self,
        now: Moment,
        queued: u32,
        seen: &[(WorkerId, Activity)],
        out: &mut Effects,
    ) {
        if !self.listens_for_demand() {
            return;
        }
        for (id, activity) in seen {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.seen = Some(*activity);
                worker.idle_since = match activity {
                    Activity::Idle => worker.idle_since.or(Some(now)),
                    Activity::Waiting | Activity::Busy | Activity::Unknown => None,
                };
            }
        }
        let current = self.current.generation;
        let serving = self.workers.values().filter(|worker| {
            worker.generation() == current && matches!(worker.duty, Duty::Serving) && worker.is_executing()
        });
        let (idle, busy): (Vec<_>, Vec<_>) = serving.partition(|worker| worker.idle_since.is_some());
        let (idle, busy) = (idle.len() as u32, busy.len() as u32);
        self.look_later(now, busy > 0);
        self.loaded(now, Load { queued, busy, least_idle: idle }, out);
    }

    /// Has all workers looked at soon: something has changed.
    pub(super) fn survey_soon(&mut self, now: Moment) {
        if !self.has_ear() || self.agenda.moment(Due::Look).is_some() {
            return;
        }
        let gap = self.ear.gap.clamp(LOOKS.0, LOOKS.1);
        let at = self.ear.looked.map_or(now, |looked| looked.after(gap)).max(now.after(LOOKS.0 / 4));
        self.agenda.set(Due::Look, Some(at));
    }

    /// While a connection waits nobody is idle; whether that stays so is to be looked at.
    fn hear_queue(&mut self, now: Moment, queued: u32) {
        self.follow.load.queued = queued;
        if queued > 0 {
            let ready = self.tally().ready;
            self.follow.load = Load { queued, busy: ready, least_idle: 0 };
            self.survey_soon(now);
        }
    }

    fn look_later(&mut self, now: Moment, is_busy: bool) {
        self.ear.looked = Some(now);
        self.ear.gap = if is_busy { (self.ear.gap * 2).clamp(LOOKS.0, LOOKS.1) } else { LOOKS.0 };
        self.agenda.set(Due::Look, is_busy.then(|| now.after(self.ear.gap)));
    }

    /// Idle workers were asked to end. One that never does so is asked ever less often.
    pub(super) fn look_after_asking(&mut self, now: Moment) {
        self.ear.patience = (self.ear.patience * 2).clamp(LOOKS.0, LOOKS.1);
        self.agenda.set(Due::Look, Some(now.after(self.ear.patience)));
    }

    /// One of them ends.
    pub(super) fn asked_with_success(&mut self) {
        self.ear.patience = Duration::ZERO;
    }

    fn listens_for_demand(&self) -> bool {
        matches!(self.state, State::Serving) && self.has_ear()
    }

    fn listen_for_demand(&mut self, out: &mut Effects) {
        self.ear.stage = Stage::Listening;
        out.push(Action::AwaitQueue { pool: self.name.clone() });
    }

    fn count_queue(&mut self, out: &mut Effects) {
        self.ear.stage = Stage::Counting;
        out.push(Action::Measure { pool: self.name.clone() });
    }
}

impl Worker {
    /// A client's connection is with it; `true` if it has just become ready.
    pub(super) fn holding(&mut self) -> bool {
        let joins =
            matches!(self.duty, Duty::Joining(_)) && self.is_executing() && !self.edition.has_gateway();
        if joins {
            self.duty = Duty::Serving;
        }
        joins
    }
}
