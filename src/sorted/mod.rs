//! A map and a set that are a vector in the order of its keys, for what there are some dozens of: pools, gateways,
//! clients, generations, the variables of an environment. They are walked more often than changed, and the code of a
//! B-tree, 5 to 8 kB for every type of entry, stays in memory for as long as a daemon runs; this is a tenth of it.
//!
//! The methods are those of `BTreeMap` and `BTreeSet`. To insert or to remove moves what comes after it: the state of
//! workers, of which there may be thousands, is in B-trees.
#![forbid(unsafe_code)]

mod map;
mod set;

pub use self::map::SortedMap;
pub use self::set::SortedSet;
