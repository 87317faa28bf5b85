//! What a pool's control group limits, of `[pool.NAME]`, and the rules that bind these settings to each other.

use serde::{Deserialize, Serialize};

use super::walk::{Report, Table};

/// What a pool's control group limits (`cgroups(7)`, version 2); `None` leaves the kernel's own value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory, swap not counted; at least 1 MiB.
    pub memory_max: Option<u64>,
    /// Bytes of memory from which on its use is throttled; not more than `memory_max`.
    pub memory_high: Option<u64>,
    /// Bytes of memory of one worker with what it starts; not more than `memory_max`.
    pub worker_memory_max: Option<u64>,
    /// Part of the CPU when it is short, 1 to 10,000; the kernel's own is 100.
    pub cpu_weight: Option<u32>,
    /// Hundredths of one CPU, at least 1.
    pub cpu_max: Option<u32>,
    /// Processes and threads, at least 1.
    pub pids_max: Option<u32>,
}

/// A worker that may have less can hardly be started, so that it is a mistake in the unit.
const LEAST_MEMORY: u64 = 1 << 20;

/// Reads the six settings.
pub(super) fn read(report: &mut Report, table: &Table<'_>) -> Resources {
    let memory_max = memory(report, table, "memory_max");
    Resources {
        memory_max,
        memory_high: within(report, table, "memory_high", memory_max),
        worker_memory_max: within(report, table, "worker_memory_max", memory_max),
        cpu_weight: table.optional(report, "cpu_weight", |report, item| item.whole(report)),
        cpu_max: table.optional(report, "cpu_max", |report, item| item.percent(report)),
        pids_max: table.optional(report, "pids_max", |report, item| item.whole(report)),
    }
}

fn within(report: &mut Report, table: &Table<'_>, name: &str, memory_max: Option<u64>) -> Option<u64> {
    let bytes = memory(report, table, name)?;
    table.optional(report, name, |report, item| {
        if memory_max.is_some_and(|max| bytes > max) {
            return item.refuse(report, "is more than memory_max, so that it would never be reached");
        }
        Some(bytes)
    })
}

fn memory(report: &mut Report, table: &Table<'_>, name: &str) -> Option<u64> {
    table.optional(report, name, |report, item| {
        let bytes = item.size(report)?;
        if bytes < LEAST_MEMORY {
            return item.refuse(report, "is out of range; it is at least 1M");
        }
        Some(bytes)
    })
}
