//! New settings for workers that run: `Amend`, then the plan is exchanged under the same generation. Nothing is started or
//! ended for it, unless the number of workers has changed.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, WorkerId};

use super::action::Action;
use super::effects::{Effects, JobId};
use super::event::PoolPlan;
use super::pool::{Pool, State};
use super::waits::Wish;
use super::worker::Edition;

/// Settings that the master is putting in force.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Amendment {
    generation: Generation,
    plan: PoolPlan,
    job: Option<JobId>,
}

impl Pool {
    /// Puts these settings in force without new workers; as `configure` where there is no settled set of workers.
    pub(super) fn amend(&mut self, now: Moment, plan: PoolPlan, job: Option<JobId>, out: &mut Effects) {
        if !matches!(self.state, State::Serving) || self.exchange.is_some() {
            return self.configure(now, plan, job, out);
        }
        let generation = self.current.generation;
        self.amendments.push_back(Amendment { generation, plan, job });
        out.push(Action::Amend { pool: self.name.clone(), generation });
    }

    /// The master has done so, or not. `false` if nobody asked.
    pub(super) fn amended(
        &mut self,
        now: Moment,
        generation: Generation,
        result: Result<(), String>,
        out: &mut Effects,
    ) -> bool {
        let is_this = |amendment: &Amendment| amendment.generation == generation;
        let Some(index) = self.amendments.iter().position(is_this) else { return false };
        let Some(Amendment { plan, job, .. }) = self.amendments.remove(index) else { return false };
        match result {
            Err(reason) => {
                let text = Wish::Reload.denied(&self.name, &format!("{reason}; nothing has changed there"));
                out.log(log::Level::Error, text.clone());
                out.settle(job, Err(text));
            }
            // Overtaken by newer settings, which hold all that these did.
            Ok(()) if generation != self.current.generation || !matches!(self.state, State::Serving) => {
                out.settle(job, Ok(format!("{} is reloaded", self.name)));
            }
            Ok(()) => self.take_amendment(now, plan, job, out),
        }
        true
    }

    fn take_amendment(&mut self, now: Moment, plan: PoolPlan, job: Option<JobId>, out: &mut Effects) {
        let is_resized = plan.bounds != self.current.plan.bounds;
        let edition = Rc::new(Edition { generation: self.current.generation, plan });
        self.scale = self.kept_scale(&edition.plan);
        self.dress(&edition);
        self.current = edition;
        out.log(log::Level::Info, format!("[pool {}] reloaded: its workers stay", self.name));
        self.rebound();
        // Its sockets may be others, and it may follow demand where it did not.
        self.close_ear();
        self.survey(out);
        if is_resized {
            self.first_fill = true;
            self.wait_until_scaled(job, Wish::Reload);
        } else {
            out.settle(job, Ok(format!("{} is reloaded, its workers stay", self.name)));
        }
        self.advance(now, out);
    }

    /// Gives the workers of this generation these settings.
    pub(super) fn dress(&mut self, edition: &Rc<Edition>) {
        let same = |worker: &&mut super::worker::Worker| worker.generation() == edition.generation;
        self.workers.values_mut().filter(same).for_each(|worker| worker.edition = Rc::clone(edition));
        let running = self.workers.values().filter(|worker| worker.is_executing()).map(|worker| worker.id);
        let running: Vec<WorkerId> = running.collect();
        running.into_iter().for_each(|worker| self.watch_lifetime(worker));
    }
}
