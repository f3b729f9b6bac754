//! Where the ranges of a heap lie. Ranges smaller than a huge page are placed side by side in mappings shared by many (the
//! kernel limits the number of mappings); larger ones get a mapping of their own, aligned to huge pages.

use std::collections::{BTreeMap, BTreeSet};

use vrange_os::{HUGE_PAGE_BYTES, OsError, PAGE_BYTES, Placement, Reservation, System};

use crate::range::Memory;

/// Pages in a shared mapping, if the process may have that much address space: 64 MiB.
const CHUNK_PAGES: usize = (64 << 20) / PAGE_BYTES;

/// A place in a shared mapping: the mapping's number in the upper half, the page in the lower. Places of different
/// mappings are never neighbours, since no mapping has 2^32 pages.
type Place = u64;

fn place(chunk: usize, page: usize) -> Place {
    (chunk as u64) << 32 | page as u64
}

const fn chunk_and_page(place: Place) -> (usize, usize) {
    ((place >> 32) as usize, (place & 0xffff_ffff) as usize)
}

/// The address space of one heap. Bookkeeping costs nothing for a range in use; each gap between ranges costs two tree
/// entries. O(log gaps).
#[derive(Debug)]
pub(crate) struct Space {
    chunks: Vec<Option<Reservation>>,
    /// Gaps by place, with their length in pages.
    gaps: BTreeMap<Place, usize>,
    /// The same gaps by length: the shortest that is long enough is filled first.
    by_length: BTreeSet<(usize, Place)>,
}

/// Does a range of this many pages get a mapping of its own?
pub(crate) fn is_large(pages: usize) -> bool {
    pages * PAGE_BYTES >= HUGE_PAGE_BYTES
}

impl Space {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), gaps: BTreeMap::new(), by_length: BTreeSet::new() }
    }

    /// Finds room for `pages` pages, which read as zeros.
    pub(crate) fn take(
        &mut self,
        system: &dyn System,
        pages: usize,
        core_dump: bool,
    ) -> Result<Memory, OsError> {
        if is_large(pages) {
            let own = system.reserve(pages, Placement::HugePages, core_dump)?;
            return Ok(Memory { base: own.base(), pages });
        }
        let (length, place) = match self.by_length.range((pages, 0)..).next() {
            Some(gap) => *gap,
            None => self.add_chunk(system, pages, core_dump)?,
        };
        self.remove_gap(place, length);
        if length > pages {
            self.insert_gap(place + pages as u64, length - pages);
        }
        let (chunk, page) = chunk_and_page(place);
        let chunk = self.chunks[chunk].as_ref().expect("a gap lies in a mapping that exists");
        Ok(Memory { base: chunk.base().wrapping_add(page * PAGE_BYTES), pages })
    }

    /// Takes back the room of a small range, whose pages read as zeros again. (A large one is unmapped by its owner.)
    pub(crate) fn give_back(&mut self, system: &dyn System, memory: Memory) {
        let Some((chunk, page)) = self.find(memory) else { return };
        let (mut start, mut length) = (place(chunk, page), memory.pages);
        if let Some((before, pages)) =
            self.gaps.range(..start).next_back().map(|(before, pages)| (*before, *pages))
            && before + pages as u64 == start
        {
            self.remove_gap(before, pages);
            (start, length) = (before, length + pages);
        }
        let after = start + length as u64;
        if let Some(pages) = self.gaps.get(&after).copied() {
            self.remove_gap(after, pages);
            length += pages;
        }
        let chunk_pages = self.chunks[chunk].as_ref().map_or(0, |chunk| chunk.span().pages());
        // One empty mapping is kept for the next range.
        if length == chunk_pages && self.by_length.last().is_some_and(|(gap, _)| *gap >= CHUNK_PAGES) {
            if let Some(empty) = self.chunks[chunk].take() {
                // SAFETY: the gap is the whole mapping, so no range lies in it.
                unsafe { system.unmap(empty) };
            }
        } else {
            self.insert_gap(start, length);
        }
    }

    /// Maps another chunk, a smaller one if the process may not have a full one, and returns the gap that it is.
    fn add_chunk(
        &mut self,
        system: &dyn System,
        pages: usize,
        core_dump: bool,
    ) -> Result<(usize, Place), OsError> {
        let mut wanted = CHUNK_PAGES;
        let chunk = loop {
            match system.reserve(wanted, Placement::SmallPages, core_dump) {
                Ok(chunk) => break chunk,
                Err(error) if wanted <= pages => return Err(error),
                Err(_) => wanted = (wanted / 2).max(pages),
            }
        };
        let number = self.chunks.iter().position(Option::is_none).unwrap_or(self.chunks.len());
        if number == self.chunks.len() {
            self.chunks.push(None);
        }
        self.chunks[number] = Some(chunk);
        self.insert_gap(place(number, 0), wanted);
        Ok((wanted, place(number, 0)))
    }

    fn find(&self, memory: Memory) -> Option<(usize, usize)> {
        let address = memory.span().address();
        self.chunks.iter().enumerate().find_map(|(number, chunk)| {
            let span = chunk.as_ref()?.span();
            (span.address()..span.end())
                .contains(&address)
                .then(|| (number, (address - span.address()) / PAGE_BYTES))
        })
    }

    fn insert_gap(&mut self, place: Place, pages: usize) {
        self.gaps.insert(place, pages);
        self.by_length.insert((pages, place));
    }

    fn remove_gap(&mut self, place: Place, pages: usize) {
        self.gaps.remove(&place);
        self.by_length.remove(&(pages, place));
    }

    /// Unmaps everything. No range may be left.
    pub(crate) fn unmap_all(&mut self, system: &dyn System) {
        self.gaps.clear();
        self.by_length.clear();
        for chunk in self.chunks.drain(..).flatten() {
            // SAFETY: the heap is dropped, and each range keeps its heap alive, so there are none.
            unsafe { system.unmap(chunk) };
        }
    }

    /// Recounts all gaps and compares the two indexes.
    #[cfg(test)]
    fn validate(&self, used_pages: usize) {
        let listed: BTreeSet<(usize, Place)> =
            self.gaps.iter().map(|(place, pages)| (*pages, *place)).collect();
        assert_eq!(listed, self.by_length);
        let mapped: usize = self.chunks.iter().flatten().map(|chunk| chunk.span().pages()).sum();
        assert_eq!(mapped, used_pages + self.gaps.values().sum::<usize>());
        let mut end = None;
        for (place, pages) in &self.gaps {
            assert!(end.is_none_or(|end| end < *place), "neighbouring gaps are joined");
            end = Some(place + *pages as u64);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vrange_os::fake::{Fake, Refusals};

    proptest! {
        #[test]
        fn ranges_never_overlap_and_gaps_are_joined(steps in prop::collection::vec((any::<bool>(), 1usize..511), 1..80)) {
            let system = Fake::new();
            let mut space = Space::new();
            let mut taken: Vec<Memory> = Vec::new();
            for (take, number) in steps {
                if take || taken.is_empty() {
                    let memory = space.take(&system, number, false).expect("room");
                    let overlaps = |other: &Memory| {
                        memory.span().address() < other.span().end() && other.span().address() < memory.span().end()
                    };
                    prop_assert!(!taken.iter().any(overlaps));
                    taken.push(memory);
                } else {
                    space.give_back(&system, taken.swap_remove(number % taken.len()));
                }
                space.validate(taken.iter().map(|memory| memory.pages).sum());
            }
            for memory in taken {
                space.give_back(&system, memory);
            }
            space.validate(0);
            space.unmap_all(&system);
        }
    }

    #[test]
    fn without_address_space_the_error_names_the_call() {
        let system = Fake::new();
        system.refuse(Refusals { reserve: true, ..Refusals::default() });
        assert_eq!(Space::new().take(&system, 1, false).expect_err("refused").call(), "mmap");
    }
}
