//! What a gateway counts: in numbers for its master, worker by worker, and how much it has to do at the moment.

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, SlotId, WorkerId};
use crate::status::histogram::Histogram;

/// Demand at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Requests that wait for a worker.
    pub queued: u32,
    /// Workers that could take one more.
    pub idle: u32,
    /// Workers with at least one request.
    pub busy: u32,
    /// Those of them that may get more when they are done.
    #[serde(default)]
    pub working: u32,
    /// Workers that may get requests and have none.
    #[serde(default)]
    pub free: u32,
    /// The least that `free` was since this was last told.
    #[serde(default)]
    pub least_free: u32,
}

/// What the gateway knows: exact, since every request passes through it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Now.
    pub load: Load,
    /// Requests accepted since the pool started: php-fpm's `accepted conn` counts requests, kept connections included.
    pub accepted: u64,
    /// The most requests that waited at once.
    pub max_queued: u32,
    /// The most workers that were busy at once.
    pub max_active: u32,
    /// Requests that were slower than `request_slowlog_timeout`.
    pub slow: u64,
    /// Requests that were ended by `request_terminate_timeout`.
    pub timed_out: u64,
    /// Requests answered with a 503 by us, by reason: queue full, queue timeout.
    pub refused_full: u64,
    /// See `refused_full`.
    pub refused_late: u64,
    /// Connections turned away since `allowed_clients` does not name their address.
    #[serde(default)]
    pub refused_client: u64,
    /// Connections closed because they broke the protocol, or took longer than `input_timeout`.
    #[serde(default)]
    pub refused_protocol: u64,
    /// Requests sent once more after their worker had failed or closed a kept connection.
    pub retried: u64,
    /// Requests taken from a worker that was still at work after an earlier one, before it had begun with them.
    #[serde(default)]
    pub taken_back: u64,
    /// Requests whose worker ended before its answer was complete.
    pub broken: u64,
    /// Requests whose client left before the answer.
    pub aborted: u64,
    /// Requests that a worker has answered in full.
    #[serde(default)]
    pub answered: u64,
    /// Responses with a status of 500 or more, ours included.
    pub server_errors: u64,
    /// Client connections that are open.
    pub connections: u32,
    /// How long requests waited for a worker, those that were given to one.
    #[serde(default)]
    pub queue_wait: Histogram,
    /// How long requests took from their dispatch to the end.
    #[serde(default)]
    pub duration: Histogram,
    /// The workers, in the order of their slots; the last of them, where `FromGateway::Workers` brought the others.
    pub workers: Vec<WorkerReport>,
}

impl Report {
    /// Adds what another gateway of the pool knows.
    pub fn add(&mut self, other: Report) {
        let Report {
            load,
            accepted,
            max_queued,
            max_active,
            slow,
            timed_out,
            refused_full,
            refused_late,
            refused_client,
            refused_protocol,
            retried,
            taken_back,
            broken,
            aborted,
            answered,
            server_errors,
            connections,
            queue_wait,
            duration,
            workers,
        } = other;
        // Of another process: nothing that it says may overflow.
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        let add_short = |sum: &mut u32, more: u32| *sum = sum.saturating_add(more);
        add_short(&mut self.load.queued, load.queued);
        add_short(&mut self.load.idle, load.idle);
        add_short(&mut self.load.busy, load.busy);
        add(&mut self.accepted, accepted);
        self.max_queued = self.max_queued.max(max_queued);
        self.max_active = self.max_active.max(max_active);
        add(&mut self.slow, slow);
        add(&mut self.timed_out, timed_out);
        add(&mut self.refused_full, refused_full);
        add(&mut self.refused_late, refused_late);
        add(&mut self.refused_client, refused_client);
        add(&mut self.refused_protocol, refused_protocol);
        add(&mut self.retried, retried);
        add(&mut self.taken_back, taken_back);
        add(&mut self.broken, broken);
        add(&mut self.aborted, aborted);
        add(&mut self.answered, answered);
        add(&mut self.server_errors, server_errors);
        add_short(&mut self.connections, connections);
        self.queue_wait.add(&queue_wait);
        self.duration.add(&duration);
        self.workers.extend(workers);
    }
}

/// One worker, as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its slot.
    pub slot: SlotId,
    /// Which worker.
    pub worker: WorkerId,
    /// Its process.
    pub pid: Pid,
    /// php-fpm's word: `Idle`, `Running` or `Finishing`.
    pub state: String,
    /// Requests served, the current ones included.
    pub requests: u64,
    /// Requests that it has now.
    pub current: u32,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_another_gateway_says_is_added_and_never_overflows() {
        let mut observed = Histogram::default();
        observed.observe(Duration::from_millis(3));
        let load = Load { queued: 1, idle: 2, busy: 3, ..Load::default() };
        let few = Report { load, accepted: 5, max_active: 2, connections: 4, ..Report::default() };
        let few = Report { duration: observed, server_errors: 6, ..few };
        let mut sum = few.clone();
        sum.add(few.clone());
        assert_eq!((sum.load.queued, sum.load.idle, sum.load.busy), (2, 4, 6));
        assert_eq!((sum.accepted, sum.max_active, sum.connections, sum.server_errors), (10, 2, 8, 12));
        assert_eq!(sum.duration.count(), 2);
        // As a gateway that has lost its mind would.
        let load = Load { queued: u32::MAX, idle: u32::MAX, busy: u32::MAX, ..Load::default() };
        let mad = Report { load, accepted: u64::MAX, answered: u64::MAX, connections: u32::MAX, ..few };
        sum.add(mad.clone());
        sum.add(mad);
        assert_eq!((sum.load.queued, sum.accepted, sum.connections), (u32::MAX, u64::MAX, u32::MAX));
    }
}
