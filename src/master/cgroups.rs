//! A control group for each pool, where we are allowed to make one: it knows what a pool's workers left behind, whatever
//! sessions and parents those processes chose, and it limits what they use together. Without it the sessions of workers
//! have to do, and limits are not in force, which is said once.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::model::Resources;
use crate::config::values::show_size;
use crate::ids::{PoolName, WorkerId};
use crate::os::cgroup::limits::{self, Usage};
use crate::os::cgroup::{Delegated, Group, Unavailable};
use crate::sorted::{SortedMap, SortedSet};

/// The groups on their way to a new program: their directories.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Written {
    groups: SortedMap<PoolName, PathBuf>,
    gateways: Option<PathBuf>,
    leaving: Vec<PathBuf>,
    #[serde(default)]
    limits: SortedMap<PoolName, Resources>,
    #[serde(default)]
    workers: SortedMap<WorkerId, PathBuf>,
}

/// The groups of all pools.
#[derive(Debug)]
pub struct Cgroups {
    /// Or why there are none.
    delegated: Result<Delegated, String>,
    groups: SortedMap<PoolName, Group>,
    /// What each pool's group was limited to, or could not be.
    limits: SortedMap<PoolName, Resources>,
    /// Below their pools' groups, those of workers with a limit of their own.
    workers: SortedMap<WorkerId, Group>,
    gateways: Option<Group>,
    /// Killed, and to be removed when the last process in them is reaped.
    leaving: Vec<Group>,
    /// OOM kills that are known: of each pool, and of the machine.
    oom_kills: SortedMap<PoolName, u64>,
    machine_oom_kills: u64,
}

impl Cgroups {
    /// Finds out whether there can be any; says once why not.
    pub fn new() -> Cgroups {
        let delegated = Delegated::find()
            .inspect_err(|reason| log::debug!("no control groups for pools: {reason}"))
            .map_err(|reason: Unavailable| reason.to_string());
        Cgroups {
            delegated,
            groups: SortedMap::new(),
            limits: SortedMap::new(),
            workers: SortedMap::new(),
            gateways: None,
            leaving: Vec::new(),
            oom_kills: SortedMap::new(),
            machine_oom_kills: limits::oom_kills_of_the_machine().unwrap_or(0),
        }
    }

    /// Makes sure that the pool has its group, if it can have one, and that its limits are in force.
    pub fn prepare(&mut self, pool: &PoolName, resources: &Resources) {
        if let (Ok(delegated), false) = (&self.delegated, self.groups.contains_key(pool)) {
            match delegated.create(pool) {
                Ok(group) => {
                    self.groups.insert(pool.clone(), group);
                }
                // A limit on groups or a change of permissions: the others will not fare better.
                Err(error) => {
                    log::warn!("[pool {pool}] {error}; going on without control groups");
                    self.delegated = Err(error.to_string());
                }
            }
        }
        self.limits.or_default(pool.clone());
        self.limit(pool, resources);
    }

    /// Puts other limits in force for a pool that has been prepared; a pool that has not gets them then.
    pub fn limit(&mut self, pool: &PoolName, resources: &Resources) {
        let Some(known) = self.limits.get_mut(pool) else { return };
        if std::mem::replace(known, *resources) == *resources {
            return;
        }
        for sentence in self.put_in_force(pool, resources) {
            log::warn!("[pool {pool}] {sentence}");
        }
    }

    /// What could not be done, a sentence each.
    fn put_in_force(&self, pool: &PoolName, resources: &Resources) -> Vec<String> {
        let given = limits::settings(resources);
        let all: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
        let delegated = match (&self.delegated, self.groups.get(pool)) {
            (Ok(delegated), Some(group)) => (delegated, group),
            (Err(reason), _) => return vec![not_in_force(&all, reason)],
            (Ok(_), None) => return vec![not_in_force(&all, "the pool has no control group")],
        };
        let (delegated, group) = delegated;
        let wanted: SortedSet<_> = given.iter().map(|(_, controller)| *controller).collect();
        let had = match delegated.hand_down(&wanted) {
            Ok(had) => had,
            Err(error) if error.is_shared() => {
                let why = format!(
                    "{error}: other processes are in it; a service with Delegate=yes has it for itself"
                );
                return vec![not_in_force(&all, &why)];
            }
            Err(error) => return vec![not_in_force(&all, &error.to_string())],
        };
        let mut sentences = Vec::new();
        for missing in wanted.difference(&had) {
            let names: Vec<&str> =
                given.iter().filter(|(_, controller)| controller == missing).map(|(name, _)| *name).collect();
            let why = format!("fpmd's control group has no {missing} controller");
            sentences.push(not_in_force(&names, &why));
        }
        sentences.extend(group.limit(resources).err().map(|error| error.to_string()));
        sentences
    }

    /// What a new gateway joins.
    pub fn of_gateways(&mut self) -> Option<BorrowedFd<'_>> {
        if let (None, Ok(delegated)) = (&self.gateways, &self.delegated) {
            self.gateways = delegated.create_for_gateways().inspect_err(|error| log::warn!("{error}")).ok();
        }
        self.gateways.as_ref().map(Group::procs)
    }

    /// Makes the group of a new worker that is to have one of its own; without it the pool's has to do.
    pub fn prepare_worker(&mut self, pool: &PoolName, worker: WorkerId, resources: &Resources) {
        let (Some(group), Some(bytes)) = (self.groups.get(pool), resources.worker_memory_max) else { return };
        if group.usage().memory.is_none() {
            return; // without the controller, as was said when the pool was prepared
        }
        match group.create_for_worker(worker, bytes) {
            Ok(own) => drop(self.workers.insert(worker, own)),
            Err(error) => log::warn!("[pool {pool}] worker_memory_max is not in force for a worker: {error}"),
        }
    }

    /// What a new worker of the pool joins.
    pub fn of(&self, pool: &PoolName, worker: WorkerId) -> Option<BorrowedFd<'_>> {
        self.workers.get(&worker).or_else(|| self.groups.get(pool)).map(Group::procs)
    }

    /// The worker has ended, or never was. What it left behind stays in its group.
    pub fn worker_gone(&mut self, worker: WorkerId) {
        if let Some(group) = self.workers.remove(&worker).filter(|group| group.remove().is_err()) {
            self.leaving.push(group);
        }
    }

    /// What the pool uses, and what it may; `None` without a group.
    pub fn usage(&self, pool: &PoolName) -> Option<(Usage, Resources)> {
        let group = self.groups.get(pool)?;
        Some((group.usage(), self.limits.get(pool).copied().unwrap_or_default()))
    }

    /// Why a worker that got a SIGKILL which is not ours may have got it: the kernel ran out of memory. To be asked before
    /// `worker_gone`.
    pub fn why_killed(&mut self, pool: &PoolName, worker: WorkerId) -> Option<String> {
        const SHORTAGE: &str = "the machine or its container is short of memory";
        let in_pool = self.groups.get(pool).and_then(Group::oom_kills);
        let of_machine = limits::oom_kills_of_the_machine().unwrap_or(0);
        let is_new = of_machine > std::mem::replace(&mut self.machine_oom_kills, of_machine);
        let Some(kills) = in_pool else { return is_new.then(|| SHORTAGE.to_owned()) };
        if kills <= self.oom_kills.insert(pool.clone(), kills).unwrap_or(0) {
            return None;
        }
        let limits = self.limits.get(pool).copied().unwrap_or_default();
        let its_own = self.workers.get(&worker).and_then(Group::oom_kills).is_some_and(|kills| kills > 0);
        Some(match (limits.worker_memory_max.filter(|_| its_own), limits.memory_max) {
            (Some(bytes), _) => format!("its worker_memory_max is {}", show_size(bytes)),
            (None, Some(bytes)) => format!("the pool's memory_max is {}", show_size(bytes)),
            (None, None) => SHORTAGE.to_owned(),
        })
    }

    /// Kills whatever is left in the pool's group, which is removed when it is empty.
    pub fn kill(&mut self, pool: &PoolName) {
        let Some(group) = self.groups.remove(pool) else { return };
        self.limits.remove(pool);
        self.oom_kills.remove(pool);
        match group.members() {
            Ok(members) if members.is_empty() => {}
            Ok(members) => log::warn!("[pool {pool}] killing {} leftover processes", members.len()),
            Err(error) => log::warn!("[pool {pool}] {error}"),
        }
        if let Err(error) = group.kill() {
            log::warn!("[pool {pool}] {error}");
        }
        self.leaving.push(group);
        self.sweep();
    }

    /// Removes groups that have become empty.
    pub fn sweep(&mut self) {
        self.leaving.retain(|group| group.remove().is_err());
    }
}

impl Cgroups {
    /// What the successor of this process has to know.
    pub fn bequeath(&self) -> Written {
        let path = |group: &Group| group.path().to_owned();
        Written {
            groups: self.groups.iter().map(|(pool, group)| (pool.clone(), path(group))).collect(),
            gateways: self.gateways.as_ref().map(path),
            leaving: self.leaving.iter().map(path).collect(),
            limits: self.limits.clone(),
            workers: self.workers.iter().map(|(worker, group)| (*worker, path(group))).collect(),
        }
    }

    /// Goes on with the groups of a predecessor; one that cannot be used any more is left to the sessions of its workers.
    pub fn claim(written: Written) -> Cgroups {
        let open = |path: PathBuf| {
            Group::open(path)
                .inspect_err(|error| log::warn!("going on without a control group: {error}"))
                .ok()
        };
        let mut cgroups = Cgroups::new();
        let groups = written.groups.into_iter();
        cgroups.groups = groups.filter_map(|(pool, path)| Some((pool, open(path)?))).collect();
        cgroups.gateways = written.gateways.and_then(open);
        cgroups.leaving = written.leaving.into_iter().filter_map(open).collect();
        cgroups.limits = written.limits;
        let workers = written.workers.into_iter();
        cgroups.workers = workers.filter_map(|(worker, path)| Some((worker, open(path)?))).collect();
        let counted =
            cgroups.groups.iter().filter_map(|(pool, group)| Some((pool.clone(), group.oom_kills()?)));
        cgroups.oom_kills = counted.collect();
        cgroups
    }
}

/// That settings have no effect, in one sentence.
fn not_in_force(names: &[&str], why: &str) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb} not in force: {why}", names.join(", "))
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Empty by now, unless someone put a process of theirs there.
        self.sweep();
        if let Some(group) = &self.gateways {
            let _ = group.remove();
        }
        if let Ok(delegated) = &self.delegated {
            delegated.step_back();
        }
    }
}
