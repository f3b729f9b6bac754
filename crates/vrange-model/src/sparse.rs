//! A table with an entry for every page number, of which few differ from the default.

use std::collections::BTreeMap;
use std::ops::Range;

const CHUNK: u64 = 512;

/// Entries by page number, kept in chunks the size of a page table.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<T> {
    chunks: BTreeMap<u64, Box<[T]>>,
}

impl<T: Copy + Default + PartialEq> Sparse<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: BTreeMap::new() }
    }

    pub(crate) fn get(&self, page: u64) -> T {
        self.chunks.get(&(page / CHUNK)).map_or_else(T::default, |chunk| chunk[within(page)])
    }

    pub(crate) fn set(&mut self, page: u64, entry: T) {
        if entry == T::default() && !self.chunks.contains_key(&(page / CHUNK)) {
            return;
        }
        let empty = || vec![T::default(); within(CHUNK - 1) + 1].into_boxed_slice();
        self.chunks.entry(page / CHUNK).or_insert_with(empty)[within(page)] = entry;
    }

    /// The pages of `range` whose entries are not the default.
    pub(crate) fn populated(&self, range: Range<u64>) -> Vec<u64> {
        if range.is_empty() {
            return Vec::new();
        }
        let chunks = self.chunks.range(range.start / CHUNK..=(range.end - 1) / CHUNK);
        let entries = chunks.flat_map(|(chunk, entries)| (chunk * CHUNK..).zip(entries));
        let set = entries.filter(|(page, entry)| range.contains(page) && **entry != T::default());
        set.map(|(page, _)| page).collect()
    }
}

fn within(page: u64) -> usize {
    usize::try_from(page % CHUNK).expect("below the size of a chunk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_found_and_the_rest_is_default() {
        let mut table = Sparse::new();
        table.set(511, 1_u8);
        table.set(512, 2);
        table.set(10_000, 3);
        table.set(512, 0);
        assert_eq!((table.get(511), table.get(512), table.get(513), table.get(10_000)), (1, 0, 0, 3));
        assert_eq!(table.populated(0..10_000), [511]);
        assert_eq!(table.populated(511..10_001), [511, 10_000]);
        assert_eq!(table.populated(600..600), [0_u64; 0]);
    }
}
