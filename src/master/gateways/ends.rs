//! The ends of gateways: expected, or not; and what the pool has then.

use std::time::Duration;

use super::process::Process;
use super::succession::Handing;
use super::{AT_ONCE, Gateways, State};
use crate::ids::{ExitStatus, Moment, Pid, PoolName, WorkerId};
use crate::os::process::{Report as Started, ReportPipe};
use crate::policy::backoff::{CEILING, PROVEN, next_delay};
use crate::sorted::SortedMap;

/// What the end of a process was.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Not that of a gateway.
    Foreign,
    /// As it should be.
    Expected,
    /// The pool needs another one.
    Lost,
    /// It was handing over, and these workers were with it.
    HandedOver {
        /// Its pool.
        pool: PoolName,
        /// They need another gateway; with the requests that they are known to have served.
        workers: SortedMap<WorkerId, u64>,
    },
    /// It was to be the next one; the one before goes on.
    Heirless {
        /// Its pool.
        pool: PoolName,
        /// How it ended.
        why: String,
    },
}

impl Gateways {
    /// A child has ended.
    pub fn ended(&mut self, now: Moment, pid: Pid, status: ExitStatus) -> End {
        if let Some(number) = self.leaving.values().find(|gone| gone.pid == pid).map(|gone| gone.number) {
            self.leaving.remove(&number);
            return End::Expected;
        }
        if let Some(end) = self.succession_ended(pid, status) {
            return end;
        }
        let Some(pool) = self.pool_of(pid) else { return End::Foreign };
        let Some(gateway) = self.pools.get_mut(&pool) else { return End::Foreign };
        match std::mem::replace(&mut gateway.state, AT_ONCE) {
            State::Running(process) => {
                let age = now.since(process.since);
                let why = match process.report.as_ref().map_or(Started::Executing, ReportPipe::read) {
                    Started::Failed(error) => error.to_string(),
                    Started::Executing | Started::Pending => status.to_string(),
                };
                let is_first = age >= PROVEN;
                let delay = if is_first { Duration::ZERO } else { gateway.delay };
                gateway.delay = if is_first { Duration::ZERO } else { next_delay(gateway.delay, CEILING) };
                let next = if delay.is_zero() { "at once".to_owned() } else { format!("in {delay:?}") };
                log::error!(
                    "[pool {pool}] gateway {pid} {why} after {:.6} seconds from start, starting another {next}",
                    age.as_secs_f64()
                );
                gateway.state = State::Resting { until: now.after(delay) };
                End::Lost
            }
            State::Stopping(_) => {
                gateway.state = State::Stopped;
                if status != ExitStatus::Code(0) {
                    log::warn!("[pool {pool}] gateway {pid} {status} while it was stopping");
                }
                End::Expected
            }
            state @ (State::Resting { .. } | State::Stopped) => {
                gateway.state = state;
                End::Foreign
            }
        }
    }

    /// The end of one that handed over, or was to follow.
    fn succession_ended(&mut self, pid: Pid, status: ExitStatus) -> Option<End> {
        let handing = self.handing.values().find(|handing| handing.process.pid == pid);
        if let Some(number) = handing.map(|handing| handing.process.number) {
            let Handing { pool, workers, .. } = self.handing.remove(&number)?;
            if status != ExitStatus::Code(0) {
                log::error!("[pool {pool}] gateway {pid} {status} while it was handing over");
            }
            return Some(End::HandedOver { pool, workers });
        }
        let is_it = |process: &mut Process| process.pid == pid;
        let (pool, successor) = self
            .pools
            .iter_mut()
            .find_map(|(pool, gateway)| Some((pool.clone(), gateway.successor.take_if(is_it)?)))?;
        let why = match successor.report.as_ref().map_or(Started::Executing, ReportPipe::read) {
            Started::Failed(error) => error.to_string(),
            Started::Executing | Started::Pending => format!("gateway {pid} {status} before it served"),
        };
        Some(End::Heirless { pool, why })
    }
}
