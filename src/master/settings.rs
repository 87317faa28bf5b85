//! Which settings each generation of a pool runs with, and which the next generation will get.
//!
//! The supervisor numbers generations and says when one is over; the settings themselves stay here.

mod written;

use std::sync::Arc;

pub use self::written::Written;
use crate::config::model::{Dispatch, Pool};
use crate::ids::{Generation, PoolName};
use crate::sorted::SortedMap;

/// Settings by pool and generation.
#[derive(Debug, Default)]
pub struct Settings {
    /// What the configuration says, for the next generation.
    newest: SortedMap<PoolName, Arc<Pool>>,
    /// What the generations that still have workers or sockets were started with.
    in_force: SortedMap<(PoolName, Generation), Arc<Pool>>,
}

/// The settings of a generation that were exchanged.
#[derive(Debug)]
pub struct Amended {
    /// Before.
    pub old: Arc<Pool>,
    /// Now.
    pub new: Arc<Pool>,
}

impl Settings {
    /// Takes a pool's settings from a checked configuration; its next generation gets them.
    pub fn propose(&mut self, pool: Pool) {
        self.newest.insert(pool.name.clone(), Arc::new(pool));
    }

    /// The configuration no longer has this pool; generations that run keep their settings until they are over.
    pub fn withdraw(&mut self, name: &PoolName) {
        self.newest.remove(name);
    }

    /// The settings of a generation; one that was not seen before gets the newest.
    pub fn adopt(&mut self, name: &PoolName, generation: Generation) -> Option<Arc<Pool>> {
        let key = (name.clone(), generation);
        if let Some(pool) = self.in_force.get(&key) {
            return Some(Arc::clone(pool));
        }
        let pool = Arc::clone(self.newest.get(name)?);
        self.in_force.insert(key, Arc::clone(&pool));
        Some(pool)
    }

    /// Gives a generation that runs the newest settings; what it had before.
    pub fn amend(&mut self, name: &PoolName, generation: Generation) -> Option<Amended> {
        let new = Arc::clone(self.newest.get(name)?);
        let in_force = self.in_force.get_mut(&(name.clone(), generation))?;
        let old = std::mem::replace(in_force, Arc::clone(&new));
        Some(Amended { old, new })
    }

    /// Gives a generation the settings back that it had before: the new ones cannot be put in force.
    pub fn restore(&mut self, generation: Generation, old: Arc<Pool>) {
        self.newest.insert(old.name.clone(), Arc::clone(&old));
        self.in_force.insert((old.name.clone(), generation), old);
    }

    /// A generation is over. If it was the newest and an older one goes on (a reload that failed), that one's settings
    /// are what a later restart will use.
    pub fn forget(&mut self, name: &PoolName, generation: Generation) {
        let Some(gone) = self.in_force.remove(&(name.clone(), generation)) else { return };
        let was_newest = self.newest.get(name).is_some_and(|newest| Arc::ptr_eq(newest, &gone));
        if let (true, Some(older)) = (was_newest, self.latest_in_force(name)) {
            self.newest.insert(name.clone(), older);
        }
    }

    /// The newest generation that runs.
    pub fn generation(&self, name: &PoolName) -> Option<Generation> {
        self.range(name).next_back().map(|((_, generation), _)| *generation)
    }

    /// The generations that run with `dispatch = "direct"`.
    pub fn direct(&self, name: &PoolName) -> Vec<Generation> {
        let direct = self.range(name).filter(|(_, pool)| pool.dispatch == Dispatch::Direct);
        direct.map(|((_, generation), _)| *generation).collect()
    }

    /// Whether there is such a one.
    pub fn has_direct(&self, name: &PoolName) -> bool {
        self.range(name).any(|(_, pool)| pool.dispatch == Dispatch::Direct)
    }

    /// Whether there is one that has a gateway.
    pub fn has_gateway(&self, name: &PoolName) -> bool {
        self.range(name).any(|(_, pool)| pool.dispatch != Dispatch::Direct)
    }

    /// The settings of a generation that was seen before.
    pub fn of(&self, name: &PoolName, generation: Generation) -> Option<Arc<Pool>> {
        self.in_force.get(&(name.clone(), generation)).map(Arc::clone)
    }

    /// What the pool runs with now, or will run with when it is started.
    pub fn current(&self, name: &PoolName) -> Option<Arc<Pool>> {
        self.latest_in_force(name).or_else(|| self.newest.get(name).map(Arc::clone))
    }

    /// The newest settings of every pool in the configuration, in the order of their names.
    pub fn newest(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.newest.values()
    }

    fn latest_in_force(&self, name: &PoolName) -> Option<Arc<Pool>> {
        self.range(name).next_back().map(|(_, pool)| Arc::clone(pool))
    }

    fn range(
        &self,
        name: &PoolName,
    ) -> impl DoubleEndedIterator<Item = (&(PoolName, Generation), &Arc<Pool>)> {
        self.in_force.range((name.clone(), Generation(0))..=(name.clone(), Generation(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::testing::pool;

    fn with_command(word: &str) -> Pool {
        Pool { command: vec![word.to_owned()], ..pool("www") }
    }

    fn command(pool: Option<Arc<Pool>>) -> Option<String> {
        pool.map(|pool| pool.command[0].clone())
    }

    #[test]
    fn a_generation_keeps_its_settings_and_the_next_gets_the_newest() {
        let mut settings = Settings::default();
        let name = pool("www").name;
        assert_eq!(command(settings.adopt(&name, Generation(1))), None);
        settings.propose(with_command("/one"));
        assert_eq!(command(settings.adopt(&name, Generation(1))).as_deref(), Some("/one"));
        settings.propose(with_command("/two"));
        assert_eq!(command(settings.adopt(&name, Generation(1))).as_deref(), Some("/one"));
        assert_eq!(command(settings.current(&name)).as_deref(), Some("/one"));
        assert_eq!(command(settings.adopt(&name, Generation(2))).as_deref(), Some("/two"));
        settings.forget(&name, Generation(1));
        assert_eq!(command(settings.current(&name)).as_deref(), Some("/two"));
    }

    #[test]
    fn a_generation_that_runs_gets_new_settings_and_gets_its_old_ones_back() {
        let mut settings = Settings::default();
        let name = pool("www").name;
        settings.propose(with_command("/one"));
        assert!(settings.amend(&name, Generation(1)).is_none());
        settings.adopt(&name, Generation(1));
        settings.propose(with_command("/two"));
        let amended = settings.amend(&name, Generation(1)).unwrap();
        assert_eq!((amended.old.command[0].as_str(), amended.new.command[0].as_str()), ("/one", "/two"));
        assert_eq!(command(settings.current(&name)).as_deref(), Some("/two"));
        settings.restore(Generation(1), amended.old);
        assert_eq!(command(settings.adopt(&name, Generation(1))).as_deref(), Some("/one"));
        assert_eq!(command(settings.adopt(&name, Generation(2))).as_deref(), Some("/one"));
        assert_eq!(settings.generation(&name), Some(Generation(2)));
    }

    #[test]
    fn after_a_failed_reload_a_restart_uses_what_works() {
        let mut settings = Settings::default();
        let name = pool("www").name;
        settings.propose(with_command("/good"));
        settings.adopt(&name, Generation(1));
        settings.propose(with_command("/bad"));
        settings.adopt(&name, Generation(2));
        settings.forget(&name, Generation(2));
        assert_eq!(command(settings.adopt(&name, Generation(3))).as_deref(), Some("/good"));
    }

    #[test]
    fn a_stopped_pool_remembers_and_a_withdrawn_one_does_not() {
        let mut settings = Settings::default();
        let name = pool("www").name;
        settings.propose(with_command("/one"));
        settings.adopt(&name, Generation(1));
        settings.forget(&name, Generation(1));
        assert_eq!(command(settings.adopt(&name, Generation(2))).as_deref(), Some("/one"));
        settings.withdraw(&name);
        assert_eq!(command(settings.adopt(&name, Generation(2))).as_deref(), Some("/one"), "it still runs");
        settings.forget(&name, Generation(2));
        assert_eq!(command(settings.current(&name)), None);
    }
}
