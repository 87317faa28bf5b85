//! What the decisions of one event add up to: actions in order, tickets and their answers, workers that come and go.
//! Owns the tickets (one may wait for several pools and gets exactly one answer) and the directory of all workers.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, PoolName, Ticket, WorkerId};

use crate::policy::Surge;
use crate::sorted::SortedMap;

use super::action::Action;

/// One thing that was asked for by a client who waits; `None` in `Option<JobId>` is that nobody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct JobId(u64);

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    ticket: Ticket,
    open: usize,
    done: Vec<String>,
    failed: Vec<String>,
}

/// The outgoing side of the supervisor.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Effects {
    /// Done before anything is written down.
    #[serde(skip)]
    actions: VecDeque<Action>,
    last_worker: u64,
    homes: HashMap<WorkerId, PoolName>,
    pids: HashMap<Pid, WorkerId>,
    last_job: u64,
    /// Processes that reloads have beyond those that there should be.
    #[serde(default)]
    pub(super) surge: Surge,
    jobs: SortedMap<JobId, Job>,
}

impl Effects {
    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn log(&mut self, level: log::Level, text: String) {
        self.push(Action::Log { level, text });
    }

    /// A number that no worker has had, for one of this pool.
    pub(super) fn new_worker(&mut self, pool: &PoolName) -> WorkerId {
        self.last_worker += 1;
        let worker = WorkerId(self.last_worker);
        self.homes.insert(worker, pool.clone());
        worker
    }

    pub(super) fn worker_forked(&mut self, worker: WorkerId, pid: Pid) {
        self.pids.insert(pid, worker);
    }

    pub(super) fn worker_gone(&mut self, worker: WorkerId, pid: Option<Pid>) {
        self.homes.remove(&worker);
        if let Some(pid) = pid.filter(|pid| self.pids.get(pid) == Some(&worker)) {
            self.pids.remove(&pid);
        }
    }

    /// The pool that a living worker belongs to.
    pub(super) fn home_of(&self, worker: WorkerId) -> Option<&PoolName> {
        self.homes.get(&worker)
    }

    pub(super) fn worker_by_pid(&self, pid: Pid) -> Option<WorkerId> {
        self.pids.get(&pid).copied()
    }

    /// A job of this many parts (at least 1), each of which is settled once.
    pub(super) fn open_job(&mut self, ticket: Option<Ticket>, parts: usize) -> Option<JobId> {
        let ticket = ticket?;
        self.last_job += 1;
        let job = JobId(self.last_job);
        self.jobs.insert(job, Job { ticket, open: parts, done: Vec::new(), failed: Vec::new() });
        Some(job)
    }

    /// One part of the job has come to its end; with the last one the ticket is answered.
    pub(super) fn settle(&mut self, job: Option<JobId>, result: Result<String, String>) {
        let Some(id) = job else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match result {
            Ok(text) => job.done.push(text),
            Err(reason) => job.failed.push(reason),
        }
        job.open = job.open.saturating_sub(1);
        if job.open > 0 {
            return;
        }
        if let Some(job) = self.jobs.remove(&id) {
            let result =
                if job.failed.is_empty() { Ok(job.done.join("\n")) } else { Err(job.failed.join("\n")) };
            self.answer(job.ticket, result);
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, result: Result<String, String>) {
        self.push(Action::Answer { ticket, result });
    }

    pub(super) fn progress(&mut self, job: Option<JobId>, text: &str) {
        if let Some(job) = job.and_then(|id| self.jobs.get(&id)) {
            let ticket = job.ticket;
            self.push(Action::Progress { ticket, text: text.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_answered_once_when_every_part_is_settled() {
        let mut out = Effects::default();
        let job = out.open_job(Some(Ticket(7)), 2);
        out.settle(job, Err("a failed".into()));
        assert_eq!(out.next_action(), None);
        out.settle(job, Ok("b is reloaded".into()));
        let result = Err("a failed".into());
        assert_eq!(out.next_action(), Some(Action::Answer { ticket: Ticket(7), result }));
        out.settle(job, Ok("again".into()));
        assert_eq!(out.next_action(), None);
    }

    #[test]
    fn nobody_waits_without_a_ticket() {
        let mut out = Effects::default();
        let job = out.open_job(None, 1);
        out.progress(job, "half way");
        out.settle(job, Ok(String::new()));
        assert_eq!(out.next_action(), None);
    }
}
