//! The requests of one client's connection, by their numbers. Nearly every client has one at a time: that one takes no memory
//! of its own.

use super::slab::Key;
use crate::fcgi::record::RequestId;

/// Requests in the order in which they began, but for those that moved up into the place of one that ended.
#[derive(Debug, Default)]
pub struct Active {
    first: Option<(RequestId, Key)>,
    more: Vec<(RequestId, Key)>,
}

impl Active {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, Key)> + '_ {
        self.first.iter().chain(&self.more).copied()
    }

    /// Adds one.
    pub fn push(&mut self, id: RequestId, key: Key) {
        match self.first {
            None => self.first = Some((id, key)),
            Some(_) => self.more.push((id, key)),
        }
    }

    /// Takes one out; does nothing if it is not there.
    pub fn remove(&mut self, key: Key) {
        if self.first.is_some_and(|(_, first)| first == key) {
            self.first = self.more.pop();
        } else {
            self.more.retain(|(_, other)| *other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_was_put_in_and_not_taken_out(steps in vec((any::<bool>(), 0u16..6), 0..60)) {
            let (mut active, mut model) = (Active::default(), Vec::new());
            for (puts, number) in steps {
                let entry = (RequestId(number), Key::unpack(u64::from(number)));
                if puts && !model.contains(&entry) {
                    active.push(entry.0, entry.1);
                    model.push(entry);
                } else if !puts {
                    active.remove(entry.1);
                    model.retain(|other| *other != entry);
                }
                let mut found: Vec<_> = active.iter().collect();
                found.sort_unstable();
                model.sort_unstable();
                prop_assert_eq!(&found, &model);
                prop_assert_eq!((active.len(), active.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
