//! What has to be looked at again, and when. At most one entry a key; owns no meaning of the keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::Moment;

/// Keys with the moments at which they are due. Written down as pairs, as a key need not be text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(K, Moment)>", into = "Vec<(K, Moment)>")]
#[serde(bound(serialize = "K: Copy + Ord + Serialize", deserialize = "K: Copy + Ord + Deserialize<'de>"))]
pub struct Agenda<K> {
    moments: BTreeMap<K, Moment>,
    order: BTreeSet<(Moment, K)>,
}

impl<K: Copy + Ord> Agenda<K> {
    /// Nothing is due.
    pub fn new() -> Agenda<K> {
        Agenda { moments: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// Replaces the key's moment; `None` removes it.
    pub fn set(&mut self, key: K, moment: Option<Moment>) {
        if let Some(old) = self.moments.remove(&key) {
            self.order.remove(&(old, key));
        }
        if let Some(moment) = moment {
            self.moments.insert(key, moment);
            self.order.insert((moment, key));
        }
    }

    /// The key's moment.
    pub fn moment(&self, key: K) -> Option<Moment> {
        self.moments.get(&key).copied()
    }

    /// The earliest moment.
    pub fn next(&self) -> Option<Moment> {
        self.order.first().map(|(moment, _)| *moment)
    }

    /// Takes the earliest entry if it is due.
    pub fn pop_due(&mut self, now: Moment) -> Option<K> {
        let (moment, key) = *self.order.first()?;
        if moment > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }
}

impl<K: Copy + Ord> From<Vec<(K, Moment)>> for Agenda<K> {
    fn from(entries: Vec<(K, Moment)>) -> Agenda<K> {
        let mut agenda = Agenda::new();
        for (key, moment) in entries {
            agenda.set(key, Some(moment));
        }
        agenda
    }
}

impl<K: Copy + Ord> From<Agenda<K>> for Vec<(K, Moment)> {
    fn from(agenda: Agenda<K>) -> Vec<(K, Moment)> {
        agenda.moments.into_iter().collect()
    }
}

impl<K: Copy + Ord> Default for Agenda<K> {
    fn default() -> Agenda<K> {
        Agenda::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_entry_a_key_in_order_of_time() {
        let at = |millis| Moment(Duration::from_millis(millis));
        let mut agenda = Agenda::new();
        agenda.set('a', Some(at(5)));
        agenda.set('b', Some(at(3)));
        agenda.set('a', Some(at(9)));
        assert_eq!(agenda.next(), Some(at(3)));
        assert_eq!(agenda.pop_due(at(2)), None);
        assert_eq!(agenda.pop_due(at(8)), Some('b'));
        assert_eq!(agenda.pop_due(at(8)), None);
        agenda.set('a', None);
        assert_eq!(agenda.next(), None);
    }
}
