//! The map. What it is for, and what not, says `sorted`.

use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::{Index, RangeInclusive};
use std::{fmt, iter, slice};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Values by their keys, in the order of the keys. Written down as a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

/// What is shown of each entry.
type Shown<'a, K, V, Part> = iter::Map<slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> Part>;
/// What is shown of each entry, to change it; its key does not change.
type Lent<'a, K, V, Part> = iter::Map<slice::IterMut<'a, (K, V)>, fn(&'a mut (K, V)) -> Part>;

impl<K, V> SortedMap<K, V> {
    /// Without an entry.
    pub const fn new() -> SortedMap<K, V> {
        SortedMap(Vec::new())
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries.
    pub fn iter(&self) -> Shown<'_, K, V, (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The entries, to change their values.
    pub fn iter_mut(&mut self) -> Lent<'_, K, V, (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys.
    pub fn keys(&self) -> Shown<'_, K, V, &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> Shown<'_, K, V, &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, to change them.
    pub fn values_mut(&mut self) -> Lent<'_, K, V, &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The values, taken out.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes the entries that this does not hold for.
    pub fn retain(&mut self, mut holds: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| holds(key, value));
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Where the key is, or would be.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(its, _)| its.borrow().cmp(key))
    }

    /// Whether there is such an entry.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// The key's value.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|place| &self.0[place].1)
    }

    /// The key's value, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|place| &mut self.0[place].1)
    }

    /// Gives the key this value; what it had before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    /// The key's value, which this makes if there is none.
    pub fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = self.place(&key).unwrap_or_else(|place| {
            self.0.insert(place, (key, make()));
            place
        });
        &mut self.0[place].1
    }

    /// The key's value, the default if there is none.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    /// Removes the key's entry; its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.place(key).ok().map(|place| self.0.remove(place).1)
    }

    /// The entries whose keys are in this range.
    pub fn range(&self, keys: RangeInclusive<K>) -> Shown<'_, K, V, (&K, &V)> {
        let from = self.0.partition_point(|(key, _)| key < keys.start());
        let rest = &self.0[from..];
        rest[..rest.partition_point(|(key, _)| key <= keys.end())].iter().map(|(key, value)| (key, value))
    }
}

impl<K: Ord, V> Index<&K> for SortedMap<K, V> {
    type Output = V;

    /// # Panics
    /// The map has no such key.
    fn index(&self, key: &K) -> &V {
        // As with the maps of the standard library: who is not sure asks `get`.
        #[allow(clippy::expect_used)]
        self.get(key).expect("no entry has this key")
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> SortedMap<K, V> {
        SortedMap::new()
    }
}

impl<K: Ord, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SortedMap<K, V> {
        let mut map = SortedMap::new();
        map.extend(entries);
        map
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Shown<'a, K, V, (&'a K, &'a V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut SortedMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = Lent<'a, K, V, (&'a K, &'a mut V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<K: Serialize, V: Serialize> Serialize for SortedMap<K, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for SortedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SortedMap<K, V>, D::Error> {
        from.deserialize_map(Entries(PhantomData))
    }
}

/// Reads a map that was written down.
struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
    type Value = SortedMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SortedMap<K, V>, A::Error> {
        let mut map = SortedMap::new();
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u8),
        Make(u8, u8),
        Remove(u8),
        Raise(u8),
        Retain(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..9_u8, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            (0..9_u8, any::<u8>()).prop_map(|(key, value)| Step::Make(key, value)),
            (0..9_u8).prop_map(Step::Remove),
            (0..9_u8).prop_map(Step::Raise),
            any::<u8>().prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_b_tree_does(steps in prop::collection::vec(step(), 0..60), from in 0..9_u8, to in 0..9_u8) {
            let (mut ours, mut tree) = (SortedMap::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(ours.insert(key, value), tree.insert(key, value)),
                    Step::Make(key, value) => {
                        prop_assert_eq!(ours.or_insert_with(key, || value), tree.entry(key).or_insert(value));
                    }
                    Step::Remove(key) => prop_assert_eq!(ours.remove(&key), tree.remove(&key)),
                    Step::Raise(key) => {
                        let raise = |value: &mut u8| *value = value.saturating_add(1);
                        prop_assert_eq!(ours.get_mut(&key).map(raise), tree.get_mut(&key).map(raise));
                    }
                    Step::Retain(least) => {
                        ours.retain(|_, value| *value >= least);
                        tree.retain(|_, value| *value >= least);
                    }
                }
                prop_assert!(ours.iter().eq(tree.iter()));
            }
            prop_assert_eq!((ours.len(), ours.is_empty()), (tree.len(), tree.is_empty()));
            for key in 0..9 {
                prop_assert_eq!(ours.get(&key), tree.get(&key));
                prop_assert_eq!(ours.contains_key(&key), tree.contains_key(&key));
            }
            if from <= to {
                prop_assert!(ours.range(from..=to).eq(tree.range(from..=to)));
            }
            prop_assert!(ours.keys().eq(tree.keys()) && ours.values().eq(tree.values()));
            prop_assert!(ours.into_values().eq(tree.into_values()));
        }
    }

    #[test]
    fn it_is_written_as_a_b_tree_is() {
        let entries = [(2, 'b'), (1, 'a'), (2, 'c')];
        let text = serde_json::to_string(&entries.into_iter().collect::<BTreeMap<_, _>>()).unwrap();
        let map: SortedMap<i32, char> = serde_json::from_str(&text).unwrap();
        assert_eq!(map, entries.into_iter().collect());
        assert_eq!(serde_json::to_string(&map).unwrap(), text);
        assert_eq!(serde_json::from_str::<SortedMap<i32, char>>(r#"{"2":"b","1":"a"}"#).unwrap().len(), 2);
    }

    #[test]
    fn values_change_in_place() {
        let mut map = SortedMap::from_iter([(1, 1), (2, 2)]);
        for (key, value) in &mut map {
            *value += key;
        }
        map.values_mut().for_each(|value| *value *= 10);
        *map.or_default(3) += 1;
        assert_eq!(Vec::from_iter(map), [(1, 20), (2, 40), (3, 1)]);
    }
}
