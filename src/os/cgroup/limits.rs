//! What a control group may use, and what it did use: the files of the controllers `cpu`, `memory` and `pids`
//! (`Documentation/admin-guide/cgroup-v2.rst` of the kernel). Which groups there are is decided in `super`.
//!
//! A group has a controller's files only if its parent hands the controller down, and the kernel lets a parent do that
//! only while no process is in the parent itself. So fpmd goes into a group of its own before, and back at its end.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::{CgroupError, Delegated, Group, own_name};
use crate::config::model::Resources;
use crate::ids::WorkerId;
use crate::sorted::SortedSet;

/// What hands out one kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// `cpu_weight`, `cpu_max`.
    Cpu,
    /// `memory_max`, `memory_high`, `worker_memory_max`, and the count of OOM kills.
    Memory,
    /// `pids_max`.
    Pids,
}

impl Controller {
    /// The kernel's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }

    fn parse(word: &str) -> Option<Controller> {
        [Controller::Cpu, Controller::Memory, Controller::Pids]
            .into_iter()
            .find(|known| known.as_str() == word)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names of the settings that are given, each with its controller.
pub fn settings(resources: &Resources) -> Vec<(&'static str, Controller)> {
    let given = [
        ("memory_max", Controller::Memory, resources.memory_max.is_some()),
        ("memory_high", Controller::Memory, resources.memory_high.is_some()),
        ("worker_memory_max", Controller::Memory, resources.worker_memory_max.is_some()),
        ("cpu_weight", Controller::Cpu, resources.cpu_weight.is_some()),
        ("cpu_max", Controller::Cpu, resources.cpu_max.is_some()),
        ("pids_max", Controller::Pids, resources.pids_max.is_some()),
    ];
    given.into_iter().filter(|(_, _, given)| *given).map(|(name, controller, _)| (name, controller)).collect()
}

/// What a group uses; `None` where its controller is not handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of memory now, page cache included.
    pub memory: Option<u64>,
    /// The most that it was, since the group exists.
    pub memory_peak: Option<u64>,
    /// Processes that the kernel has killed for want of memory, since the group exists.
    pub oom_kills: Option<u64>,
}

impl Delegated {
    /// Hands controllers down to the groups of the pools, as far as we have them ourselves.
    ///
    /// # Errors
    /// The kernel refused: EBUSY if processes that are not ours are in fpmd's own group.
    pub fn hand_down(&self, wanted: &SortedSet<Controller>) -> Result<SortedSet<Controller>, CgroupError> {
        let available = self.controllers("cgroup.controllers")?;
        let possible: SortedSet<Controller> = wanted.intersection(&available).copied().collect();
        let enabled = self.controllers("cgroup.subtree_control")?;
        let fresh: Vec<Controller> = possible.difference(&enabled).copied().collect();
        if fresh.is_empty() {
            return Ok(possible);
        }
        self.step_aside()?;
        let words: Vec<String> = fresh.iter().map(|controller| format!("+{controller}")).collect();
        let handed = fs::write(self.path.join("cgroup.subtree_control"), words.join(" "));
        if let Err(error) = handed {
            if enabled.is_empty() {
                self.step_back();
            }
            return Err(CgroupError::new("hand controllers down from", self.path.clone(), error));
        }
        Ok(possible)
    }

    fn controllers(&self, file: &str) -> Result<SortedSet<Controller>, CgroupError> {
        let path = self.path.join(file);
        let text = fs::read_to_string(&path).map_err(|error| CgroupError::new("read", path, error))?;
        Ok(text.split_ascii_whitespace().filter_map(Controller::parse).collect())
    }

    /// Moves this process out of the group that the others are in.
    fn step_aside(&self) -> Result<(), CgroupError> {
        let own = self.path.join(own_name());
        match fs::create_dir(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CgroupError::new("make", own, error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::write(own.join("cgroup.procs"), "0").map_err(|error| CgroupError::new("join", own, error))
    }

    /// Undoes what `hand_down` did, as far as that is possible: the groups of the pools must be gone.
    pub fn step_back(&self) {
        let own = self.path.join(own_name());
        if !own.exists() {
            return;
        }
        // Somebody else may have handed these down as well, and keeps them then.
        for controller in [Controller::Cpu, Controller::Memory, Controller::Pids] {
            let _ = fs::write(self.path.join("cgroup.subtree_control"), format!("-{controller}"));
        }
        let _ = fs::write(self.path.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&own);
    }
}

impl Group {
    /// Makes a group below this one, for one worker and what it starts, that may use so much memory. If they need more,
    /// the kernel kills the largest of them (all of them, as `memory.oom.group` has it, would be counted twice).
    ///
    /// # Errors
    /// There is no memory controller, or the kernel refused.
    pub fn create_for_worker(&self, worker: WorkerId, memory_max: u64) -> Result<Group, CgroupError> {
        let error = |verb, path: &Path, error| CgroupError::new(verb, path.to_owned(), error);
        let control = self.path.join("cgroup.subtree_control");
        fs::write(&control, "+memory").map_err(|cause| error("limit workers in", &self.path, cause))?;
        let path = self.path.join(format!("worker-{}", worker.0));
        fs::create_dir(&path).map_err(|cause| error("make", &path, cause))?;
        if let Err(cause) = fs::write(path.join("memory.max"), memory_max.to_string()) {
            let _ = fs::remove_dir(&path);
            return Err(error("limit", &path, cause));
        }
        Group::open(path)
    }

    /// Puts limits in force for everyone in it; what is `None` gets the kernel's own value back. Controllers that it does
    /// not have are left out.
    ///
    /// # Errors
    /// The kernel refused one of them; the others may be in force.
    pub fn limit(&self, resources: &Resources) -> Result<(), CgroupError> {
        let number = |value: Option<u64>| value.map_or("max".to_owned(), |value| value.to_string());
        let cpu = |percent: u32| u64::from(percent) * (PERIOD / 100);
        let files = [
            ("memory.max", number(resources.memory_max)),
            ("memory.high", number(resources.memory_high)),
            ("cpu.weight", resources.cpu_weight.unwrap_or(100).to_string()),
            ("cpu.max", format!("{} {PERIOD}", number(resources.cpu_max.map(cpu)))),
            ("pids.max", number(resources.pids_max.map(u64::from))),
        ];
        for (file, value) in files {
            let path = self.path.join(file);
            match fs::write(&path, value) {
                // Without the controller there is no file, and nothing may make one: EACCES or EPERM, not ENOENT.
                Err(_) if !path.exists() => {}
                Err(error) => return Err(CgroupError::new("limit", path, error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// What it uses.
    pub fn usage(&self) -> Usage {
        Usage {
            memory: number_in(&self.path, "memory.current"),
            memory_peak: number_in(&self.path, "memory.peak"),
            oom_kills: self.oom_kills(),
        }
    }

    /// How many processes in it the kernel has killed for want of memory; `None` without the controller.
    pub fn oom_kills(&self) -> Option<u64> {
        let events = fs::read_to_string(self.path.join("memory.events")).ok()?;
        oom_kills(&events)
    }
}

/// Microseconds by which CPU time is counted: the kernel's own value.
const PERIOD: u64 = 100_000;

fn number_in(group: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(group.join(file)).ok()?.trim_end().parse().ok()
}

fn oom_kills(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

/// How many processes of the machine the kernel has killed for want of memory (`/proc/vmstat`), for whatever reason.
pub fn oom_kills_of_the_machine() -> Option<u64> {
    oom_kills(&fs::read_to_string("/proc/vmstat").ok()?)
}

impl CgroupError {
    /// Whether somebody else's processes are in fpmd's own group.
    pub fn is_shared(&self) -> bool {
        self.cause.0 == Errno::EBUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_counted_by_their_own_line() {
        let events = "low 0\nhigh 3\nmax 41\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(oom_kills(events), Some(1));
        assert_eq!(oom_kills("low 0\noom_group_kill 7\n"), None);
        assert!(oom_kills_of_the_machine().is_some(), "Linux counts them since 4.13");
    }

    #[test]
    fn each_setting_names_its_controller() {
        let resources = Resources { memory_max: Some(1 << 20), pids_max: Some(9), ..Resources::default() };
        let found = settings(&resources);
        assert_eq!(found, [("memory_max", Controller::Memory), ("pids_max", Controller::Pids)]);
        assert!(settings(&Resources::default()).is_empty());
    }
}
