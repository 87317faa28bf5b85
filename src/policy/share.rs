//! Who may have how many of the processes that `process_max` allows: each pool is reserved its minimum, whatever the others
//! do (php-fpm lets the first pools take all of `process.max` and the last wait for ever); the rest is first come, first
//! served. Owns the count of each pool's processes.
//!
//! When a pool's claim shrinks, pools that were held back ([`super::demand::Limit::ProcessMax`]) have to decide again.

use serde::{Deserialize, Serialize};

use crate::ids::PoolName;
use crate::sorted::SortedMap;

/// One pool's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claim {
    /// What it must be able to have: [`super::demand::Bounds::reserved`]; 0 for a pool that is stopped.
    pub reserved: u32,
    /// What it has: every process of it that exists or was asked for, old generations and leaving ones included.
    pub processes: u32,
}

impl Claim {
    fn committed(self) -> u64 {
        u64::from(self.reserved.max(self.processes))
    }
}

/// The processes of all pools.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Share {
    /// `None` is no limit.
    process_max: Option<u32>,
    claims: SortedMap<PoolName, Claim>,
    /// The sum of what each claim commits.
    committed: u64,
}

impl Share {
    /// Of no pools. `process_max` is the setting; `None` without one.
    pub fn new(process_max: Option<u32>) -> Share {
        Share { process_max, claims: SortedMap::new(), committed: 0 }
    }

    /// Another limit, after a reload. Nothing is stopped for it.
    pub fn set_process_max(&mut self, process_max: Option<u32>) {
        self.process_max = process_max;
    }

    /// Replaces a pool's claim.
    pub fn set(&mut self, pool: &PoolName, claim: Claim) {
        let old = self.claims.insert(pool.clone(), claim).unwrap_or_default();
        self.committed = self.committed - old.committed() + claim.committed();
    }

    /// The pool is no more.
    pub fn remove(&mut self, pool: &PoolName) {
        let old = self.claims.remove(pool).unwrap_or_default();
        self.committed -= old.committed();
    }

    /// How many processes the pool can be sure of if it is given a minimum of its own choice: what the other pools' minima
    /// leave. `None` without a limit.
    pub fn most(&self, pool: &PoolName) -> Option<u32> {
        let others = self.claims.iter().filter(|(name, _)| *name != pool);
        let reserved = others.fold(0, |sum: u32, (_, claim)| sum.saturating_add(claim.reserved));
        self.process_max.map(|most| most.saturating_sub(reserved))
    }

    /// How many processes the pool may add: up to its minimum in any case where the minima fit ([`shortfall`]), beyond it
    /// what no other pool has or is entitled to. `u32::MAX` without a limit.
    pub fn headroom(&self, pool: &PoolName) -> u32 {
        let Some(most) = self.process_max else { return u32::MAX };
        let own = self.claims.get(pool).copied().unwrap_or_default();
        let others = self.committed - own.committed();
        let taken = others + u64::from(own.processes);
        u32::try_from(u64::from(most).saturating_sub(taken)).unwrap_or(u32::MAX)
    }
}

/// By how much the pools' minima exceed `process_max`: a mistake in the configuration, as some pool would never get its own.
pub fn shortfall(process_max: u32, reserved: impl IntoIterator<Item = u32>) -> Option<u64> {
    let needed: u64 = reserved.into_iter().map(u64::from).sum();
    needed.checked_sub(u64::from(process_max)).filter(|missing| *missing > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(name: &str) -> PoolName {
        PoolName::new(name).expect("a valid name")
    }

    fn claim(reserved: u32, processes: u32) -> Claim {
        Claim { reserved, processes }
    }

    #[test]
    fn the_first_pool_leaves_the_others_their_minimum() {
        let (first, second) = (pool("a"), pool("b"));
        let mut share = Share::new(Some(6));
        share.set(&first, claim(2, 0));
        share.set(&second, claim(2, 0));
        assert_eq!(share.headroom(&first), 4);
        share.set(&first, claim(2, 4));
        assert_eq!((share.headroom(&first), share.headroom(&second)), (0, 2));
        share.set(&second, claim(2, 2));
        assert_eq!(share.headroom(&second), 0);
        share.set(&first, claim(2, 1));
        assert_eq!(
            (share.headroom(&first), share.headroom(&second)),
            (3, 2),
            "one of the four is still reserved"
        );
        share.remove(&first);
        assert_eq!(share.headroom(&second), 4);
        share.set_process_max(None);
        assert_eq!(share.headroom(&second), u32::MAX);
    }

    #[test]
    fn a_pool_may_choose_a_minimum_that_leaves_the_others_theirs() {
        let (first, second) = (pool("a"), pool("b"));
        let mut share = Share::new(Some(6));
        share.set(&first, claim(2, 2));
        share.set(&second, claim(1, 4));
        assert_eq!(
            (share.most(&first), share.most(&second), share.most(&pool("c"))),
            (Some(5), Some(4), Some(3))
        );
        share.set_process_max(Some(1));
        assert_eq!(share.most(&second), Some(0));
        share.set_process_max(None);
        assert_eq!(share.most(&first), None);
    }

    #[test]
    fn minima_that_do_not_fit_are_told() {
        assert_eq!(shortfall(6, [2, 4]), None);
        assert_eq!(shortfall(6, [2, 4, 1]), Some(1));
        assert_eq!(shortfall(1, [u32::MAX, u32::MAX]), Some(2 * u64::from(u32::MAX) - 1));
    }

    proptest! {
        /// Pools start and end processes in any order, as far as they are let: `process_max` holds, and each can always
        /// come to its minimum.
        #[test]
        fn nobody_is_kept_from_its_minimum(
            reserved in prop::collection::vec(0_u32..5, 1..6),
            spare in 0_u32..8,
            steps in prop::collection::vec((0_usize..6, 0_u32..6, any::<bool>()), 0..80),
        ) {
            let most = reserved.iter().sum::<u32>() + spare;
            let names: Vec<PoolName> = (0..reserved.len()).map(|index| pool(&format!("p{index}"))).collect();
            let mut share = Share::new(Some(most));
            let mut processes = vec![0; reserved.len()];
            for (name, reserved) in names.iter().zip(&reserved) {
                share.set(name, claim(*reserved, 0));
            }
            for (index, count, starts) in steps {
                let index = index % names.len();
                if starts {
                    processes[index] += count.min(share.headroom(&names[index]));
                } else {
                    processes[index] -= count.min(processes[index]);
                }
                share.set(&names[index], claim(reserved[index], processes[index]));
                prop_assert!(processes.iter().sum::<u32>() <= most);
                for (name, (reserved, processes)) in names.iter().zip(reserved.iter().zip(&processes)) {
                    prop_assert!(processes + share.headroom(name) >= *reserved);
                }
            }
        }
    }
}
