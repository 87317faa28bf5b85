//! What is left when fpmd ends: orphans that workers left behind and that became ours, because fpmd is a subreaper or
//! process 1. They are killed and reaped, so that nothing of ours outlives us.

use std::collections::HashSet;
use std::time::Duration;

use mio::Events;

use serde::{Deserialize, Serialize};

use super::Master;
use crate::ids::{Pid, Signal};
use crate::os::{clock, session, signal, wait};

/// Children that were there before us: a shell that started jobs and then became fpmd left them to us.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Strangers {
    /// There before us; never touched.
    foreign: HashSet<Pid>,
    /// Killed by us and in the log already: a killed process takes its time to end.
    named: HashSet<Pid>,
}

/// How long killed processes may take to end; those that wait in the kernel for a dead disk never do.
const PATIENCE: Duration = Duration::from_secs(2);

impl Strangers {
    /// Whoever is our child before the first worker is started.
    pub fn note() -> Strangers {
        let children = session::children().unwrap_or_default();
        let foreign = children.into_iter().map(|child| child.pid).collect();
        Strangers { foreign, named: HashSet::new() }
    }

    /// These were killed as leftovers of a pool, and the log says so.
    pub fn name(&mut self, killed: impl Iterator<Item = Pid>) {
        self.named.extend(killed);
    }

    /// The number may be another process's from now on.
    pub fn reaped(&mut self, pid: Pid) {
        self.named.remove(&pid);
        self.foreign.remove(&pid);
    }

    /// Kills every other child that has not ended; whether there is any other child left, zombies too.
    fn kill_others(&mut self) -> bool {
        let Ok(children) = session::children() else { return false };
        let mut is_any_left = false;
        for child in children.into_iter().filter(|child| !self.foreign.contains(&child.pid)) {
            is_any_left = true;
            if !child.zombie {
                if self.named.insert(child.pid) {
                    log::warn!("killing orphan {} ({})", child.pid, child.name);
                }
                // If that fails, it has gone by itself.
                let _ = signal::send_to_group(child.pid, Signal::KILL);
            }
        }
        is_any_left
    }
}

impl Master {
    /// Kills and reaps what is left of ours, and what becomes ours while we do.
    pub(super) fn bury(&mut self) {
        let deadline = clock::monotonic().after(PATIENCE);
        let mut events = Events::with_capacity(16);
        while self.strangers.kill_others() && clock::monotonic() < deadline {
            while let Ok(Some(_)) = wait::reap() {}
            let left = deadline.since(clock::monotonic()).min(GLANCE);
            // SIGCHLD ends the wait; whatever else does only makes this look again sooner.
            let _ = self.poll.poll(&mut events, Some(left));
            self.signals.pending().for_each(drop);
        }
    }
}

/// A grandchild that becomes our child raises no SIGCHLD.
const GLANCE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_that_has_ended_leaves_its_number_to_ours() {
        let (first, second) = (Pid::new(7).unwrap(), Pid::new(8).unwrap());
        let mut strangers = Strangers { foreign: HashSet::from([first, second]), named: HashSet::new() };
        strangers.name([first].into_iter());
        strangers.reaped(first);
        assert_eq!((strangers.foreign, strangers.named), (HashSet::from([second]), HashSet::new()));
    }
}
