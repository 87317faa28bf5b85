//! Clients that wait for a pool to get somewhere, and what they are told on the way and at its end, in the words of what they
//! asked for. Those who wait for a single worker's end are listed with that worker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, Moment, PoolName, Signal};

use super::effects::{Effects, JobId};
use super::pool::{Due, Pool, State};
use super::worker::{Duty, Worker};

/// How often a waiting client hears how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// What a pool was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wish {
    /// To run.
    Start,
    /// Other workers with the same settings.
    Restart,
    /// The settings of the configuration.
    #[default]
    Reload,
    /// So many workers.
    Scale(u32),
}

impl Wish {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Wish::Start => "start",
            Wish::Restart => "restart",
            Wish::Reload => "reload",
            Wish::Scale(_) => "scale",
        }
    }

    /// "cannot restart pool www: it is being stopped".
    pub(super) fn denied(self, pool: &PoolName, reason: &str) -> String {
        let to = match self {
            Wish::Scale(workers) => format!(" to {}", counted(workers)),
            Wish::Start | Wish::Restart | Wish::Reload => String::new(),
        };
        format!("cannot {} pool {pool}{to}: {reason}", self.verb())
    }
}

/// What a client waits for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Wait {
    /// All workers of the generation in force are ready.
    Full {
        job: JobId,
        failures: u32,
        #[serde(default)]
        wish: Wish,
    },
    /// No worker of an earlier generation is left; `total` is how many there were.
    OldGone {
        job: JobId,
        before: Generation,
        total: usize,
        #[serde(default)]
        wish: Wish,
    },
    /// No more workers than wanted are left.
    SurplusGone {
        job: JobId,
        #[serde(default)]
        wish: Wish,
    },
}

/// Why those who wait for a pool's workers may wait in vain.
#[derive(Debug, Clone, Copy)]
pub(super) enum Setback<'a> {
    /// Nobody is to be started any more.
    Stop,
    /// Its sockets cannot be opened.
    Sockets(&'a str),
    /// A worker could not be started, or has ended: one of several that may do so.
    Worker(&'a str),
}

/// How many workers may fail before those who wait hear of it.
const FAILURES: u32 = 2;

impl Wait {
    fn job(&self) -> JobId {
        match self {
            Wait::Full { job, .. } | Wait::OldGone { job, .. } | Wait::SurplusGone { job, .. } => *job,
        }
    }
}

impl Pool {
    pub(super) fn wait_until_full(&mut self, job: Option<JobId>, wish: Wish) {
        self.waits.extend(job.map(|job| Wait::Full { job, failures: 0, wish }));
    }

    pub(super) fn wait_until_scaled(&mut self, job: Option<JobId>, wish: Wish) {
        if self.tally().in_service > self.wanted() {
            self.waits.extend(job.map(|job| Wait::SurplusGone { job, wish }));
        } else {
            self.wait_until_full(job, wish);
        }
    }

    pub(super) fn somebody_waits_until_full(&self) -> bool {
        self.waits.iter().any(|wait| matches!(wait, Wait::Full { .. }))
    }

    /// Tells those who wait for a number of workers that they do so in vain, as far as that is clear.
    pub(super) fn set_back(&mut self, by: Setback, out: &mut Effects) {
        let reason = match by {
            Setback::Stop => "it is being stopped".to_owned(),
            Setback::Sockets(reason) | Setback::Worker(reason) => self.with_outlook(reason),
        };
        let name = &self.name;
        self.waits.retain_mut(|wait| match (wait, by) {
            (Wait::Full { failures, .. }, Setback::Worker(_)) if *failures < FAILURES => {
                *failures += 1;
                true
            }
            (Wait::Full { job, wish, .. }, _) | (Wait::SurplusGone { job, wish }, Setback::Stop) => {
                out.settle(Some(*job), Err(wish.denied(name, &reason)));
                false
            }
            (Wait::SurplusGone { .. }, Setback::Sockets(_) | Setback::Worker(_))
            | (Wait::OldGone { .. }, _) => true,
        });
    }

    /// A reason, what fpmd does about it, and what is left to whoever asked.
    pub(super) fn with_outlook(&self, reason: &str) -> String {
        let mended = format!("mended settings come in force by `fpmctl reload {}`", self.name);
        format!("{reason}; fpmd keeps trying, {mended}")
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
            Wait::OldGone { before, wish, .. } => {
                let text = || format!("{name} is {}ed, generation {}", wish.verb(), before.0);
                self.older_than(*before).is_empty().then(text)
            }
            Wait::SurplusGone { .. } => {
                let is_over = self.hunt.is_none() && tally.leaving == 0 && tally.in_service <= self.wanted();
                is_over.then(|| self.running_with(tally.in_service))
            }
        }
    }

    fn running_with(&self, workers: u32) -> String {
        let most = if self.follows_demand() { format!(", at most {}", self.wanted()) } else { String::new() };
        format!("{} is running with {}{most}", self.name, counted(workers))
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

/// "1 worker", "2 workers".
fn counted(workers: u32) -> String {
    format!("{workers} worker{}", if workers == 1 { "" } else { "s" })
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
