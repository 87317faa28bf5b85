//! A control group for each pool, where we are allowed to make one: it knows what a pool's workers left behind, whatever
//! sessions and parents those processes chose. Without it the sessions of workers have to do.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::PoolName;
use crate::os::cgroup::{Delegated, Group};

/// The groups on their way to a new program: their directories.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Written {
    groups: BTreeMap<PoolName, PathBuf>,
    gateways: Option<PathBuf>,
    leaving: Vec<PathBuf>,
}

/// The groups of all pools.
#[derive(Debug)]
pub struct Cgroups {
    delegated: Option<Delegated>,
    groups: BTreeMap<PoolName, Group>,
    gateways: Option<Group>,
    /// Killed, and to be removed when the last process in them is reaped.
    leaving: Vec<Group>,
}

impl Cgroups {
    /// Finds out whether there can be any; says once why not.
    pub fn new() -> Cgroups {
        let delegated =
            Delegated::find().inspect_err(|reason| log::debug!("no control groups for pools: {reason}")).ok();
        Cgroups { delegated, groups: BTreeMap::new(), gateways: None, leaving: Vec::new() }
    }

    /// Makes sure that the pool has its group, if it can have one.
    pub fn prepare(&mut self, pool: &PoolName) {
        let Some(delegated) = &self.delegated else { return };
        if self.groups.contains_key(pool) {
            return;
        }
        match delegated.create(pool) {
            Ok(group) => {
                self.groups.insert(pool.clone(), group);
            }
            // A limit on groups or a change of permissions: the others will not fare better.
            Err(error) => {
                log::warn!("[pool {pool}] {error}; going on without control groups");
                self.delegated = None;
            }
        }
    }

    /// What a new gateway joins.
    pub fn of_gateways(&mut self) -> Option<BorrowedFd<'_>> {
        if let (None, Some(delegated)) = (&self.gateways, &self.delegated) {
            self.gateways = delegated.create_for_gateways().inspect_err(|error| log::warn!("{error}")).ok();
        }
        self.gateways.as_ref().map(Group::procs)
    }

    /// What a new worker of the pool joins.
    pub fn of(&self, pool: &PoolName) -> Option<BorrowedFd<'_>> {
        self.groups.get(pool).map(Group::procs)
    }

    /// Kills whatever is left in the pool's group, which is removed when it is empty.
    pub fn kill(&mut self, pool: &PoolName) {
        let Some(group) = self.groups.remove(pool) else { return };
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
        cgroups
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Empty by now, unless someone put a process of theirs there.
        if let Some(group) = &self.gateways {
            let _ = group.remove();
        }
    }
}
