//! What is in the cache: keys, and where their values are.

pub(crate) mod item;
#[cfg(not(loom))]
pub(crate) mod key;
pub(crate) mod place;

#[cfg(not(loom))]
use std::hash::Hash;

#[cfg(not(loom))]
use papaya::{Guard, HashMap};

#[cfg(not(loom))]
use self::item::Item;
#[cfg(not(loom))]
use self::key::{ByIdentity, Key, MarkState};

/// The index. A library's hash table, whose lookups take no lock.
#[cfg(not(loom))]
pub(crate) type Index<K> = HashMap<Key<K>, Item, MarkState>;

/// Takes this very item out of the index. False: somebody else has, or has put another in its place.
#[cfg(not(loom))]
pub(crate) fn take_out<K: Hash + Eq>(
    index: &Index<K>,
    key: &Key<K>,
    item: &Item,
    guard: &impl Guard,
) -> bool {
    matches!(index.remove_if(&ByIdentity(key), |_, found| std::ptr::eq(found, item), guard), Ok(Some(_)))
}
