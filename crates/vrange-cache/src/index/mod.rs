//! What is in the cache: keys, and where their values are.

pub(crate) mod item;
#[cfg(not(loom))]
pub(crate) mod key;
pub(crate) mod place;

#[cfg(not(loom))]
use std::hash::{BuildHasher, Hash};

#[cfg(not(loom))]
use equivalent::Equivalent;
#[cfg(not(loom))]
use papaya::{Guard, HashMap};

#[cfg(not(loom))]
use self::item::Item;
#[cfg(not(loom))]
use self::key::{Key, Mark, MarkState};

/// The index. A library's hash table, whose lookups take no lock.
#[cfg(not(loom))]
pub(crate) type Index<K> = HashMap<Key<K>, Item, MarkState>;

/// Entries for which an index has room from the beginning: a few times those that are put in between two looks of [`grow_early`].
#[cfg(not(loom))]
const ENTRIES_MIN: usize = 192;
/// An index with more grows when it is full, by and by: to make it larger at once would keep one insertion for too long (measured: 2 ms
/// with as many entries, 300 ms with forty times as many). The time of a lookup in it is mostly memory's anyhow.
#[cfg(not(loom))]
const EARLY_ENTRIES_MAX: usize = 1 << 15;

#[cfg(not(loom))]
pub(crate) fn empty<K>() -> Index<K> {
    HashMap::with_capacity_and_hasher(ENTRIES_MIN, MarkState)
}

/// Makes the index larger once two thirds of it are taken. To be called with the mark of each key that was put in; one in 64 looks.
///
/// papaya itself waits until it finds no free place near where an entry belongs, which is when hardly one in twenty is left, and then
/// moves some entries with each insertion that follows. An index that is filled and then only looked things up in would stay
/// crowded, or in two tables, for ever: lookups take twice as long there.
#[cfg(not(loom))]
pub(crate) fn grow_early<K: Hash + Eq, V, S: BuildHasher>(
    index: &HashMap<Key<K>, V, S>,
    mark: Mark,
    guard: &impl Guard,
) {
    if mark.is_sample() {
        let entries = index.len();
        if entries < EARLY_ENTRIES_MAX {
            // The library takes four places for three entries.
            index.reserve(entries / 8, guard);
        }
    }
}

/// Takes this very item out of the index, which was found by the same `name`. False: somebody else has, or has put another in its place.
///
/// It has to be found as it was before: while the table grows, a replaced item still stands where it was in the old table, and says to
/// whoever takes it for the same that the new table has to be asked. Whoever looks for one item by its address goes past it, and
/// believes that the key is in neither.
#[cfg(not(loom))]
pub(crate) fn take_out<K: Hash + Eq>(
    index: &Index<K>,
    name: &(impl Hash + Equivalent<Key<K>> + ?Sized),
    item: &Item,
    guard: &impl Guard,
) -> bool {
    matches!(index.remove_if(name, |_, found| std::ptr::eq(found, item), guard), Ok(Some(_)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::item::{Location, Packed};
    use super::key::{ByKey, ByMark, MarkHasher};
    use super::place::{Place, Version};
    use super::*;
    use crate::clock::Moment;

    fn mark(key: u64) -> Mark {
        // What a hash does, and different for each key.
        Mark::from_bits(key.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn put(index: &Index<u64>, key: u64) {
        let packed = Packed::new(Place::new(0, Version::from_count(0), 0), 1);
        let item = Item { deadline: Moment::NEVER, location: Location::Packed(packed) };
        index.insert(Key { mark: mark(key), key }, item, &index.guard());
    }

    /// Counts what the table hashes: each key that is put in or looked for, and each that is moved to a larger table.
    struct Counting<'a>(&'a Cell<usize>);

    impl BuildHasher for Counting<'_> {
        type Hasher = MarkHasher;

        fn build_hasher(&self) -> MarkHasher {
            self.0.set(self.0.get() + 1);
            MarkState.build_hasher()
        }
    }

    /// Puts in as many keys, and has `grow` called after each. Returns how many the insertions themselves have moved.
    fn moved(keys: usize, grow: impl Fn(&HashMap<Key<u64>, (), Counting<'_>>, Mark)) -> usize {
        let hashed = Cell::new(0);
        let index = HashMap::with_capacity_and_hasher(ENTRIES_MIN, Counting(&hashed));
        let mut moved = 0;
        for key in 0..keys as u64 {
            let before = hashed.get();
            index.insert(Key { mark: mark(key), key }, (), &index.guard());
            moved += hashed.get() - before - 1;
            grow(&index, mark(key));
        }
        assert_eq!(index.len(), keys);
        moved
    }

    #[test]
    fn an_index_grows_before_it_is_full() {
        let early = |index: &HashMap<_, _, Counting<'_>>, mark| grow_early(index, mark, &index.guard());
        assert_eq!(moved(EARLY_ENTRIES_MAX, early), 0);
    }

    /// The control: the library is left to itself.
    #[test]
    fn an_index_that_is_left_alone_grows_when_it_is_full() {
        assert!(moved(EARLY_ENTRIES_MAX, |_, _| {}) > 0);
    }

    /// Replaces items while the table grows, and takes them out by the name that `take` uses. Returns how many stayed.
    fn stayed(take: impl Fn(&Index<u64>, u64, &Item) -> bool) -> u64 {
        let index = Index::<u64>::with_hasher(MarkState);
        let mut stayed = 0;
        for key in 0..20_000 {
            put(&index, key);
            let other = key / 2;
            put(&index, other);
            let guard = index.guard();
            let item = index.get(&ByKey { mark: mark(other), key: &other }, &guard).expect("just put in");
            if !take(&index, other, item) {
                stayed += 1;
            }
            put(&index, other);
        }
        stayed
    }

    #[test]
    fn an_item_is_taken_out_while_the_table_grows() {
        let by_key = |index: &Index<u64>, key: u64, item: &Item| {
            take_out(index, &ByKey { mark: mark(key), key: &key }, item, &index.guard())
        };
        assert_eq!(stayed(by_key), 0);
        let by_mark = |index: &Index<u64>, key: u64, item: &Item| {
            take_out(index, &ByMark(mark(key)), item, &index.guard())
        };
        assert_eq!(stayed(by_mark), 0);
    }

    /// The control: a name that fits one item only.
    struct ByAddress<'a>(Mark, &'a Key<u64>);

    impl Hash for ByAddress<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            ByMark(self.0).hash(state);
        }
    }

    impl Equivalent<Key<u64>> for ByAddress<'_> {
        fn equivalent(&self, key: &Key<u64>) -> bool {
            std::ptr::eq(self.1, key)
        }
    }

    #[test]
    fn an_item_that_is_looked_for_by_its_address_stays() {
        let by_address = |index: &Index<u64>, key: u64, item: &Item| {
            let guard = index.guard();
            let (found, _) =
                index.get_key_value(&ByKey { mark: mark(key), key: &key }, &guard).expect("there");
            take_out(index, &ByAddress(mark(key), found), item, &guard)
        };
        assert!(stayed(by_address) > 0);
    }
}
