//! A pool's change between the two ways of dispatch while it serves. On the way to workers that accept by themselves, and back,
//! both accept on the pool's sockets for a while; then one side runs out: it takes in nobody and serves what it has. What a
//! gateway has counted waits for the pool's next one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::succession::Handing;
use super::telling::check;
use super::{Gateway, Gateways, State};
use crate::ids::{PoolName, WorkerId};
use crate::sorted::SortedSet;
use crate::wire::gateway::{Load, Report, ToGateway};

/// Whether a gateway accepts on its pool's sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doors {
    /// Alone.
    #[default]
    Own,
    /// Beside workers of another generation.
    Shared,
    /// Not yet: its workers are not ready, and others serve.
    Closed,
}

/// What a gateway that takes in nobody leaves behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Course {
    /// Another one has its place, and gets what this one does not need.
    #[default]
    Succeeded,
    /// Nobody but itself and the workers that it has serves what is in it.
    RunningOut,
}

/// What a pool without a gateway has from one that it had.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Past {
    pub(super) counts: Option<Report>,
    pub(super) memory_peak: u64,
    pub(super) start_time: Option<i64>,
}

impl Gateways {
    /// Whether the pool's gateway accepts.
    pub fn doors(&self, pool: &PoolName) -> Option<Doors> {
        self.pools.get(pool).map(|gateway| gateway.doors)
    }

    /// Has it accept so from the next time on that it is told its settings; whether that is anything new.
    pub fn set_doors(&mut self, pool: &PoolName, doors: Doors) -> bool {
        let gateway = self.pools.get_mut(pool);
        gateway.is_some_and(|gateway| std::mem::replace(&mut gateway.doors, doors) != doors)
    }

    /// Whether all that was told of settings is in force, so that nobody accepts otherwise.
    pub fn is_settled(&self, pool: &PoolName) -> bool {
        let Some(gateway) = self.pools.get(pool) else { return true };
        gateway.successor.is_none() && gateway.process().is_none_or(|process| process.untaken == 0)
    }

    /// The settings that this process was told are in force.
    pub fn note_ready(&mut self, number: u64) {
        if let Some(process) = self.process_mut(number) {
            process.untaken = process.untaken.saturating_sub(1);
        }
    }

    /// The pool has no gateway any more: its process takes in nobody, serves what it has with these workers, what waits for
    /// one within this time, and ends.
    pub fn run_out(&mut self, pool: &PoolName, within: Duration, workers: SortedSet<WorkerId>) {
        let Some(gateway) = self.pools.remove(pool) else { return };
        let Gateway { state, successor, undelivered, memory_peak, start_time, .. } = gateway;
        let past = Past { counts: undelivered.counts, memory_peak, start_time: Some(start_time) };
        self.past.insert(pool.clone(), past);
        self.leave_unwanted(successor);
        let (State::Running(mut process) | State::Stopping(mut process)) = state else { return };
        let sent = process.channel.send(&ToGateway::RunOut { within }, &[]);
        check(pool, &process, sent);
        let workers = workers.into_iter().map(|worker| (worker, 0)).collect();
        let (load, course) = (Load::default(), Course::RunningOut);
        let handing = Handing { pool: pool.clone(), process, workers, load, asked: false, course };
        self.handing.insert(handing.process.number, handing);
    }

    /// Counts that nobody shows for now.
    pub(super) fn keep_counts(&mut self, pool: &PoolName, report: Report) {
        // A pool that has stopped begins anew.
        if let Some(past) = self.past.get_mut(pool) {
            past.counts.get_or_insert_default().add(report);
        }
    }

    /// The pools that any process serves.
    pub fn served(&self) -> SortedSet<PoolName> {
        let running_out = self.handing.values().map(|handing| &handing.pool);
        self.pools.keys().chain(running_out).cloned().collect()
    }
}
