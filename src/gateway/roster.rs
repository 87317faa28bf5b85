//! Who gets the next request, found without a look at every slot: a heap of slots as they were when they became candidates.
//! An entry that the slot has left behind is noticed when it comes to the top. What makes one better is `rules`' business.

use std::collections::BinaryHeap;

use super::rules::Candidate;
use super::slab::Key;

/// Entries a slot, from which on those that were left behind are cleared away.
const CROWDED: usize = 4;

/// Entries that are never too many.
const FEW: usize = 64;

/// Slots whose worker could take a request, the best one first.
#[derive(Debug, Default)]
pub struct Roster {
    heap: BinaryHeap<(Candidate, Key)>,
}

impl Roster {
    /// A slot is a candidate, or is another one than before. To be told as often as one likes.
    pub fn enter(&mut self, key: Key, candidate: Candidate) {
        self.heap.push((candidate, key));
    }

    /// Whether there is more to clear away than to keep, with so many slots.
    pub fn is_crowded(&self, slots: usize) -> bool {
        self.heap.len() > slots * CROWDED + FEW
    }

    /// Begins anew with these.
    pub fn refill(&mut self, candidates: impl Iterator<Item = (Key, Candidate)>) {
        self.heap.clear();
        self.heap.extend(candidates.map(|(key, candidate)| (candidate, key)));
    }

    /// The best candidate. `now` says what a slot is as a candidate now, if it is one; every slot that is one must have been
    /// entered since it became it. It stays here.
    pub fn best(&mut self, now: impl Fn(Key) -> Option<Candidate>) -> Option<Key> {
        while let Some((entered, key)) = self.heap.peek().copied() {
            match now(key) {
                Some(candidate) if candidate == entered => return Some(key),
                Some(candidate) => {
                    self.heap.pop();
                    self.enter(key, candidate);
                }
                None => drop(self.heap.pop()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::slab::Slab;
    use crate::ids::Generation;

    fn candidate(generation: u32, current: u32, freed: u64) -> Candidate {
        Candidate { generation: Generation(generation), current, freed }
    }

    proptest! {
        #[test]
        fn the_best_is_the_best_of_all(
            steps in vec((0usize..6, prop::option::of((0u32..3, 0u32..3, 0u64..9)), any::<bool>()), 1..200),
        ) {
            let (mut roster, mut slots) = (Roster::default(), Slab::new());
            let keys: Vec<Key> = (0..6).map(|_| slots.insert(None)).collect();
            for (at, now, worse_untold) in steps {
                let (slot, now) = (slots.get_mut(keys[at]).unwrap(), now.map(|(g, c, f)| candidate(g, c, f)));
                // Nothing need be told of a slot that is not a candidate any more, or has become a worse one.
                let untold = worse_untold && now <= *slot;
                *slot = now;
                if let Some(candidate) = now.filter(|_| !untold) {
                    roster.enter(keys[at], candidate);
                }
                if roster.is_crowded(slots.len()) {
                    roster.refill(slots.iter().filter_map(|(key, slot)| Some((key, (*slot)?))));
                }
                let best = roster.best(|key| *slots.get(key)?);
                let wanted = slots.iter().filter_map(|(_, slot)| *slot).max();
                prop_assert_eq!(best.and_then(|key| *slots.get(key)?), wanted);
            }
        }
    }

    #[test]
    fn it_stays_small() {
        let (mut roster, mut slots) = (Roster::default(), Slab::new());
        let key = slots.insert(candidate(1, 0, 0));
        for freed in 0..10_000 {
            let now = candidate(1, 0, freed);
            *slots.get_mut(key).unwrap() = now;
            roster.enter(key, now);
            if roster.is_crowded(slots.len()) {
                roster.refill(slots.iter().map(|(key, slot)| (key, *slot)));
            }
        }
        assert!(roster.heap.len() <= FEW + CROWDED);
        assert_eq!(roster.best(|key| slots.get(key).copied()), Some(key));
    }
}
