//! The requests that wait for a worker, first come, first served. Requests that leave on their own stay as marks, which are
//! skipped; the count is exact all the same. Pure: what a request is, and whether it still waits, is the caller's.

use std::collections::VecDeque;

/// Requests in the order of their arrival.
#[derive(Debug)]
pub struct Queue<K> {
    order: VecDeque<K>,
    /// Entries of `order` that still wait.
    waiting: u32,
    /// The most that ever waited at once.
    most: u32,
}

impl<K: Copy> Queue<K> {
    /// Nobody.
    pub fn new() -> Queue<K> {
        Queue { order: VecDeque::new(), waiting: 0, most: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> u32 {
        self.waiting
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The most that ever waited at once.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// So many are known to have waited at once, in another queue.
    pub fn remember_most(&mut self, most: u32) {
        self.most = self.most.max(most);
    }

    /// Adds one at the end.
    pub fn push(&mut self, key: K) {
        self.order.push_back(key);
        self.grew();
    }

    /// Puts one back that has waited its time already.
    pub fn push_front(&mut self, key: K) {
        self.order.push_front(key);
        self.grew();
    }

    /// The next one for which `waits` holds; it waits no more.
    pub fn pop(&mut self, waits: impl Fn(K) -> bool) -> Option<K> {
        self.front(waits)?;
        self.waiting = self.waiting.saturating_sub(1);
        self.order.pop_front()
    }

    /// The next one for which `waits` holds; it goes on waiting.
    pub fn front(&mut self, waits: impl Fn(K) -> bool) -> Option<K> {
        while let Some(key) = self.order.front() {
            if waits(*key) {
                return Some(*key);
            }
            self.order.pop_front();
        }
        None
    }

    /// One has left, of its own: `waits` does not hold for it any more.
    pub fn left(&mut self, waits: impl Fn(K) -> bool) {
        self.waiting = self.waiting.saturating_sub(1);
        // Keeps the marks in proportion, whatever leaves in the middle.
        if self.order.len() > 64 && self.order.len() / 2 > self.waiting as usize {
            self.order.retain(|key| waits(*key));
        }
    }

    fn grew(&mut self) {
        self.waiting += 1;
        self.most = self.most.max(self.waiting);
    }
}

impl<K: Copy> Default for Queue<K> {
    fn default() -> Queue<K> {
        Queue::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_list_of_those_who_wait(steps in vec((0u8..4, any::<usize>()), 0..300)) {
            let (mut queue, mut model, mut live) = (Queue::new(), VecDeque::new(), BTreeSet::new());
            let mut most = 0;
            for (number, (step, pick)) in steps.into_iter().enumerate() {
                match step {
                    0 => { queue.push(number); model.push_back(number); live.insert(number); }
                    1 => { queue.push_front(number); model.push_front(number); live.insert(number); }
                    2 if !model.is_empty() => {
                        let gone = model.remove(pick % model.len()).unwrap();
                        live.remove(&gone);
                        queue.left(|key| live.contains(&key));
                    }
                    _ => {
                        let next = queue.pop(|key| live.contains(&key));
                        prop_assert_eq!(next, model.pop_front());
                        next.map(|key| live.remove(&key));
                    }
                }
                most = most.max(model.len());
                prop_assert_eq!(queue.len() as usize, model.len());
                prop_assert_eq!(queue.most() as usize, most);
                prop_assert_eq!(queue.front(|key| live.contains(&key)), model.front().copied());
                prop_assert!(queue.order.len() <= 64 + 2 * model.len() + 1);
            }
        }
    }
}
