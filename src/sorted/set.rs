//! The set. What it is for, and what not, says `sorted`.

use serde::{Deserialize, Serialize};

/// Values, each once, in their order. Written down as a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<T>", bound(deserialize = "T: Deserialize<'de> + Ord"))]
pub struct SortedSet<T>(Vec<T>);

impl<T> SortedSet<T> {
    /// Without a value.
    pub const fn new() -> SortedSet<T> {
        SortedSet(Vec::new())
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Removes the values that this does not hold for.
    pub fn retain(&mut self, holds: impl FnMut(&T) -> bool) {
        self.0.retain(holds);
    }
}

impl<T: Ord> SortedSet<T> {
    /// Whether it has the value.
    pub fn contains(&self, value: &T) -> bool {
        self.0.binary_search(value).is_ok()
    }

    /// Adds the value; whether it is new.
    pub fn insert(&mut self, value: T) -> bool {
        let place = self.0.binary_search(&value);
        if let Err(place) = place {
            self.0.insert(place, value);
        }
        place.is_err()
    }

    /// Removes the value; whether it was there.
    pub fn remove(&mut self, value: &T) -> bool {
        self.0.binary_search(value).map(|place| self.0.remove(place)).is_ok()
    }

    /// The values that the other has not.
    pub fn difference<'a>(&'a self, other: &'a SortedSet<T>) -> impl Iterator<Item = &'a T> {
        self.iter().filter(|value| !other.contains(value))
    }

    /// The values that the other has, too.
    pub fn intersection<'a>(&'a self, other: &'a SortedSet<T>) -> impl Iterator<Item = &'a T> {
        self.iter().filter(|value| other.contains(value))
    }
}

impl<T> Default for SortedSet<T> {
    fn default() -> SortedSet<T> {
        SortedSet::new()
    }
}

impl<T: Ord> Extend<T> for SortedSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.insert(value);
        }
    }
}

impl<T: Ord> FromIterator<T> for SortedSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> SortedSet<T> {
        let mut set = SortedSet::new();
        set.extend(values);
        set
    }
}

impl<T: Ord> From<Vec<T>> for SortedSet<T> {
    fn from(values: Vec<T>) -> SortedSet<T> {
        values.into_iter().collect()
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for SortedSet<T> {
    fn from(values: [T; N]) -> SortedSet<T> {
        values.into_iter().collect()
    }
}

impl<T> IntoIterator for SortedSet<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a SortedSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_b_tree_does(
            steps in prop::collection::vec((any::<bool>(), 0..9_u8), 0..60),
            other in prop::collection::vec(0..9_u8, 0..9),
        ) {
            let (mut ours, mut tree) = (SortedSet::new(), BTreeSet::new());
            for (adds, value) in steps {
                if adds {
                    prop_assert_eq!(ours.insert(value), tree.insert(value));
                } else {
                    prop_assert_eq!(ours.remove(&value), tree.remove(&value));
                }
                prop_assert!(ours.iter().eq(tree.iter()));
            }
            prop_assert_eq!((ours.len(), ours.is_empty()), (tree.len(), tree.is_empty()));
            prop_assert!((0..9).all(|value| ours.contains(&value) == tree.contains(&value)));
            let others = (SortedSet::from(other.clone()), BTreeSet::from_iter(other));
            prop_assert!(ours.difference(&others.0).eq(tree.difference(&others.1)));
            prop_assert!(ours.intersection(&others.0).eq(tree.intersection(&others.1)));
            ours.retain(|value| value % 2 == 0);
            tree.retain(|value| value % 2 == 0);
            prop_assert!(ours.into_iter().eq(tree));
        }
    }

    #[test]
    fn it_is_written_as_a_b_tree_is() {
        let text = serde_json::to_string(&SortedSet::from([2, 1, 2])).unwrap();
        assert_eq!(text, serde_json::to_string(&BTreeSet::from([2, 1, 2])).unwrap());
        assert_eq!(serde_json::from_str::<SortedSet<i32>>("[2,1,2]").unwrap(), SortedSet::from([1, 2]));
    }
}
