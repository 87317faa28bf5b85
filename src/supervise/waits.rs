//! Clients that wait for a pool to get somewhere, and what they are told on the way.
//! Those who wait for a single worker's end are listed with that worker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, Signal};

use super::effects::{Effects, JobId};
use super::pool::{Due, Pool, State};
use super::worker::{Duty, Worker};

/// How often a waiting client hears how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// What a client waits for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Wait {
    /// All workers of the generation in force are ready.
    Full { job: JobId, failures: u32 },
    /// No worker of an earlier generation is left; `total` is how many there were.
    OldGone { job: JobId, before: Generation, total: usize },
    /// No more workers than wanted are left.
    SurplusGone { job: JobId },
}

impl Wait {
    fn job(&self) -> JobId {
        match self {
            Wait::Full { job, .. } | Wait::OldGone { job, .. } | Wait::SurplusGone { job } => *job,
        }
    }
}

impl Pool {
    pub(super) fn wait_until_full(&mut self, job: Option<JobId>) {
        self.waits.extend(job.map(|job| Wait::Full { job, failures: 0 }));
    }

    pub(super) fn wait_until_scaled(&mut self, job: Option<JobId>) {
        if self.tally().in_service > self.wanted() {
            self.waits.extend(job.map(|job| Wait::SurplusGone { job }));
        } else {
            self.wait_until_full(job);
        }
    }

    pub(super) fn somebody_waits_until_full(&self) -> bool {
        self.waits.iter().any(|wait| matches!(wait, Wait::Full { .. }))
    }

    /// A start failed: those who wait for full numbers are told, unless they have seen fewer failures than `patience`.
    pub(super) fn fail_waits_to_be_full(&mut self, patience: u32, reason: &str, out: &mut Effects) {
        let text = format!("cannot start pool {}: {reason}", self.name);
        self.waits.retain_mut(|wait| match wait {
            Wait::Full { job, failures } if *failures >= patience => {
                out.settle(Some(*job), Err(text.clone()));
                false
            }
            Wait::Full { failures, .. } => {
                *failures += 1;
                true
            }
            Wait::OldGone { .. } | Wait::SurplusGone { .. } => true,
        });
    }

    /// Answers those whose wish has come true.
    pub(super) fn settle_waits(&mut self, out: &mut Effects) {
        if !self.waits.is_empty() {
            let waits = std::mem::take(&mut self.waits);
            for wait in waits {
                match self.outcome(&wait) {
                    Some(text) => out.settle(Some(wait.job()), Ok(text)),
                    None => self.waits.push(wait),
                }
            }
        }
        if !self.somebody_listens() {
            self.agenda.set(Due::Progress, None);
        }
    }

    /// Tells all who wait how far it is, now and every few seconds.
    pub(super) fn announce(&mut self, now: Moment, out: &mut Effects) {
        let name = &self.name;
        if let State::Stopping { jobs, total, .. } = &self.state {
            let text = format!("{name}: {} of {total} workers still there", self.workers.len());
            jobs.iter().for_each(|job| out.progress(Some(*job), &text));
        }
        let tally = self.tally();
        if let Some(exchange) = &self.exchange {
            let wanted = self.needed_by(exchange);
            let ready = tally.candidates_ready;
            let text = if exchange.is_held_up() {
                format!("{name}: {ready} of {wanted} new workers ready; reload_surge lets no more start yet")
            } else {
                format!("{name}: {ready} of {wanted} new workers ready")
            };
            out.progress(exchange.job(), &text);
        }
        for wait in &self.waits {
            let text = match wait {
                Wait::Full { .. } if self.follows_demand() => {
                    format!("{name}: {} of {} workers ready", tally.ready, tally.in_service)
                }
                Wait::Full { .. } => format!("{name}: {} of {} workers ready", tally.ready, self.wanted()),
                Wait::OldGone { before, total, .. } => {
                    let old = self.older_than(*before);
                    format!("{name}: {} of {total} old workers still there{}", old.len(), whom(now, &old))
                }
                Wait::SurplusGone { .. } => {
                    let surplus = tally.leaving + tally.in_service.saturating_sub(self.wanted());
                    format!("{name}: {surplus} surplus workers still busy")
                }
            };
            out.progress(Some(wait.job()), &text);
        }
        let again = self.somebody_listens().then(|| now.after(PROGRESS));
        self.agenda.set(Due::Progress, again);
    }

    fn outcome(&self, wait: &Wait) -> Option<String> {
        let name = &self.name;
        let tally = self.tally();
        match wait {
            Wait::Full { .. } => (matches!(self.state, State::Serving) && self.is_staffed(&tally))
                .then(|| self.running_with(tally.ready)),
            Wait::OldGone { before, .. } => self
                .older_than(*before)
                .is_empty()
                .then(|| format!("{name} is reloaded, generation {}", before.0)),
            Wait::SurplusGone { .. } => {
                let is_over = self.hunt.is_none() && tally.leaving == 0 && tally.in_service <= self.wanted();
                is_over.then(|| self.running_with(tally.in_service))
            }
        }
    }

    fn running_with(&self, workers: u32) -> String {
        let most = if self.follows_demand() { format!(", at most {}", self.wanted()) } else { String::new() };
        let plural = if workers == 1 { "" } else { "s" };
        format!("{} is running with {workers} worker{plural}{most}", self.name)
    }

    fn older_than(&self, generation: Generation) -> Vec<&Worker> {
        self.workers.values().filter(|worker| worker.generation() < generation).collect()
    }

    fn somebody_listens(&self) -> bool {
        let stopping = matches!(&self.state, State::Stopping { jobs, .. } if !jobs.is_empty());
        let reloading = self.exchange.as_ref().is_some_and(|exchange| exchange.job().is_some());
        stopping || reloading || !self.waits.is_empty()
    }
}

impl Worker {
    /// Which signal it gets next, and when, if it does not end before.
    pub(super) fn next_signal(&self) -> Option<(Moment, Signal)> {
        match &self.duty {
            Duty::Draining(watch) => Some((watch.deadline?, self.edition.plan.stop_signal)),
            Duty::Stopping { deadline, .. } => Some((*deadline, Signal::KILL)),
            Duty::Joining(_) | Duty::Serving | Duty::Retiring | Duty::Killed { .. } => None,
        }
    }
}

/// Who is waited for and for how long at most: ": 4711, 4712; SIGTERM in 25 s".
fn whom(now: Moment, workers: &[&Worker]) -> String {
    const NAMED: usize = 8;
    let named: Vec<String> =
        workers.iter().filter_map(|worker| worker.pid()).take(NAMED).map(|pid| pid.to_string()).collect();
    if named.is_empty() {
        return String::new();
    }
    let more = if workers.len() > named.len() { " and others" } else { "" };
    let next = workers.iter().filter_map(|worker| worker.next_signal()).min_by_key(|(moment, _)| *moment);
    let until = next.map_or_else(String::new, |(moment, signal)| {
        format!("; {signal} in {} s", moment.since(now).as_secs_f64().ceil())
    });
    format!(": {}{more}{until}", named.join(", "))
}
