//! How the whole reaches one pool: by its name or by a worker's home, within its share of all processes. Owns the rule for
//! events that cannot be: logged once of their kind, without any other effect.

use crate::ids::{Moment, PoolName, WorkerId};
use crate::policy::Share;

use super::daemon::Supervisor;
use super::effects::Effects;
use super::event::PoolCommand;
use super::pool::Pool;
use super::waits::Wish;

impl Supervisor {
    /// Lets pools have what others no longer need.
    pub(super) fn share_out(&mut self, now: Moment) {
        let share = &mut self.share;
        let waiting = self.pools.values_mut().filter(|pool| pool.is_short_of_processes());
        for pool in waiting {
            if share.headroom(&pool.name) > 0 {
                apportioned(share, pool, |pool| pool.advance(now, &mut self.out));
            }
        }
    }

    pub(super) fn with_pool<T>(
        &mut self,
        name: &PoolName,
        act: impl FnOnce(&mut Pool, &mut Effects) -> T,
    ) -> Option<T> {
        let pool = self.pools.get_mut(name)?;
        Some(apportioned(&mut self.share, pool, |pool| act(pool, &mut self.out)))
    }

    pub(super) fn with_all(&mut self, mut act: impl FnMut(&mut Pool, &mut Effects)) {
        for pool in self.pools.values_mut() {
            apportioned(&mut self.share, pool, |pool| act(pool, &mut self.out));
        }
    }

    /// Answers about a pool that may have been removed before.
    pub(super) fn with_former(
        &mut self,
        name: &PoolName,
        kind: &'static str,
        act: impl FnOnce(&mut Pool, &mut Effects) -> bool,
    ) {
        let possible = self.with_pool(name, act);
        self.expect(possible.or(Some(true)), kind, || format!("pool {name}"));
    }

    /// Answers about a worker that may have ended, or be stuck in the kernel, by now.
    pub(super) fn with_late(&mut self, worker: WorkerId, act: impl FnOnce(&mut Pool, &mut Effects)) {
        if let Some(name) = self.out.home_of(worker).cloned() {
            self.with_pool(&name, act);
        }
    }

    /// What is said of a worker may have crossed with its end.
    pub(super) fn with_former_home(
        &mut self,
        worker: WorkerId,
        kind: &'static str,
        act: impl FnOnce(&mut Pool, &mut Effects) -> bool,
    ) {
        if self.out.home_of(worker).is_some() {
            self.with_home(worker, kind, act);
        }
    }

    pub(super) fn with_home(
        &mut self,
        worker: WorkerId,
        kind: &'static str,
        act: impl FnOnce(&mut Pool, &mut Effects) -> bool,
    ) {
        let home = self.out.home_of(worker).cloned();
        let possible = home.and_then(|name| self.with_pool(&name, act));
        self.expect(possible, kind, || format!("worker {}", worker.0));
    }

    /// Whether there is such a pool, and enough processes for what it is to do. A pool that follows demand may be given
    /// any bound, since it has no number to reach.
    pub(super) fn allows(&self, name: &PoolName, command: PoolCommand) -> Result<(), String> {
        let Some(pool) = self.pools.get(name) else { return Err(format!("there is no pool {name}")) };
        match (command, self.share.most(name)) {
            (PoolCommand::Scale(workers), Some(most)) if !pool.follows_demand() && workers > most => {
                let leaves = format!("process_max leaves it {most} beside the least of other pools");
                Err(Wish::Scale(workers).denied(name, &leaves))
            }
            (PoolCommand::Start | PoolCommand::Stop | PoolCommand::Restart | PoolCommand::Scale(_), _) => {
                Ok(())
            }
        }
    }

    pub(super) fn expect(
        &mut self,
        possible: Option<bool>,
        kind: &'static str,
        whom: impl FnOnce() -> String,
    ) {
        if possible != Some(true) && self.complaints.insert(kind) {
            let text = format!("ignoring an event that cannot be: {kind} of {}", whom());
            self.out.log(log::Level::Warn, text);
        }
    }
}

/// Has a pool act, as far as the processes go that there may be.
fn apportioned<T>(share: &mut Share, pool: &mut Pool, act: impl FnOnce(&mut Pool) -> T) -> T {
    pool.set_headroom(share.headroom(&pool.name));
    let done = act(pool);
    share.set(&pool.name, pool.claim());
    done
}
