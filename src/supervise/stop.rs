//! The end of a pool: its workers leave, then its sockets are closed.

use std::time::Duration;

use crate::ids::{Moment, WorkerId};

use super::action::Action;
use super::effects::{Effects, JobId};
use super::pool::{After, Due, Pool, State};
use super::waits::Setback;

impl Pool {
    /// Lets every worker end when it is idle, then closes the sockets. They stay open until then, so that clients in
    /// the queue are served by the workers that are still there: a worker in use finds them before it is seen idle.
    pub(super) fn stop(&mut self, now: Moment, then: After, job: Option<JobId>, out: &mut Effects) {
        match &mut self.state {
            State::Stopped | State::Removed => {
                out.settle(job, Ok(format!("{} is stopped", self.name)));
                if then == After::Remove {
                    self.remove(out);
                }
            }
            State::Stopping { after, jobs, .. } => {
                if *after != After::Remove {
                    *after = then;
                }
                jobs.extend(job);
                self.set_back(Setback::Stop, out);
            }
            State::Opening { .. } | State::Failed { .. } | State::Serving => {
                self.begin_stop(now, then, job, out);
            }
        }
    }

    /// SIGKILL to every worker of a pool that stops.
    pub(super) fn kill_all(&mut self, now: Moment, out: &mut Effects) {
        for worker in self.workers.values_mut() {
            worker.kill(now, out);
            self.agenda.set(Due::Worker(worker.id), worker.due());
        }
        self.advance(now, out);
    }

    fn begin_stop(&mut self, now: Moment, after: After, job: Option<JobId>, out: &mut Effects) {
        self.cancel_exchange(now, "it is being stopped", out);
        self.forget_failures();
        self.hunt = None;
        self.worn.clear();
        self.close_ear();
        self.reason = None;
        self.said = None;
        self.close_intake(out);
        let jobs = job.into_iter().collect();
        self.state = State::Stopping { after, jobs, total: self.workers.len() };
        self.set_back(Setback::Stop, out);
        let everyone: Vec<WorkerId> = self.workers.keys().copied().collect();
        for worker in everyone {
            self.drain(now, worker, out);
        }
        self.announce(now, out);
        self.advance(now, out);
    }

    pub(super) fn finish_stop(&mut self, out: &mut Effects) {
        let State::Stopping { after, jobs, .. } = std::mem::replace(&mut self.state, State::Stopped) else {
            return;
        };
        let pool = || self.name.clone();
        out.push(Action::KillLeftovers { pool: pool() });
        out.push(Action::CloseListeners { pool: pool() });
        out.log(log::Level::Info, format!("[pool {}] stopped", self.name));
        for job in jobs {
            out.settle(Some(job), Ok(format!("{} is stopped", self.name)));
        }
        match after {
            After::Rest => {}
            After::Start => self.open(Duration::ZERO, out),
            After::Remove => self.remove(out),
        }
    }

    fn remove(&mut self, out: &mut Effects) {
        self.state = State::Removed;
        for generation in std::mem::take(&mut self.held) {
            out.push(Action::ForgetSettings { pool: self.name.clone(), generation });
        }
    }
}
