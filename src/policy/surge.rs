//! How many processes reloads may have beyond what their pools should have, in all pools together: a host with hundreds of
//! pools must not have all of its workers twice at once. Pools that find no room get it in the order in which they asked.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ids::PoolName;
use crate::sorted::SortedMap;

/// `reload_surge`, if the configuration does not say otherwise: 32 workers of php-cgi are about 800 MB.
pub const DEFAULT: u32 = 32;

/// The processes beyond those that there should be, pool by pool.
#[derive(Debug, Serialize, Deserialize)]
pub struct Surge {
    most: u32,
    used: SortedMap<PoolName, u32>,
    waiting: VecDeque<PoolName>,
}

impl Surge {
    /// Nobody has any.
    pub fn new() -> Surge {
        Surge { most: DEFAULT, used: SortedMap::new(), waiting: VecDeque::new() }
    }

    /// Another bound from now on, at least 1. Nobody has to give back what it has.
    pub fn set_most(&mut self, most: u32) {
        self.most = most.max(1);
    }

    /// How many this pool may have at once, those that it has included.
    pub fn room(&self, pool: &PoolName) -> u32 {
        let others = self.used.iter().filter(|(name, _)| *name != pool).map(|(_, used)| *used);
        self.most.saturating_sub(others.fold(0, u32::saturating_add))
    }

    /// How many this pool has, and whether it could do with more.
    pub fn note(&mut self, pool: &PoolName, used: u32, wants_more: bool) {
        if used > 0 {
            self.used.insert(pool.clone(), used);
        } else {
            self.used.remove(pool);
        }
        let place = self.waiting.iter().position(|name| name == pool);
        match place {
            Some(place) if !wants_more => drop(self.waiting.remove(place)),
            None if wants_more => self.waiting.push_back(pool.clone()),
            Some(_) | None => {}
        }
    }

    /// The pool that has waited for longest and has room now.
    pub fn next(&self) -> Option<&PoolName> {
        self.waiting.iter().find(|pool| self.room(pool) > self.used.get(*pool).copied().unwrap_or(0))
    }
}

impl Default for Surge {
    fn default() -> Surge {
        Surge::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_in_the_order_of_asking() {
        let [a, b, c] = ["a", "b", "c"].map(|name| PoolName::new(name).unwrap());
        let mut surge = Surge::new();
        surge.set_most(4);
        assert_eq!(surge.room(&a), 4);
        surge.note(&a, 4, true);
        surge.note(&b, 0, true);
        surge.note(&c, 0, true);
        assert_eq!((surge.room(&a), surge.room(&b), surge.next()), (4, 0, None));
        surge.note(&a, 3, false);
        assert_eq!((surge.room(&b), surge.next()), (1, Some(&b)));
        surge.note(&b, 1, true);
        assert_eq!(surge.next(), None);
        surge.note(&b, 0, false);
        surge.note(&a, 0, false);
        assert_eq!((surge.room(&c), surge.next()), (4, Some(&c)));
    }

    #[test]
    fn a_lower_bound_takes_nothing_away_and_gives_nothing() {
        let a = PoolName::new("a").unwrap();
        let mut surge = Surge::new();
        surge.note(&a, 9, true);
        surge.set_most(0);
        assert_eq!((surge.room(&a), surge.next()), (1, None));
    }
}
