//! The table of all ranges of a heap: one cache line each.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use super::page_map::{PageMap, Words};
use super::share_record::ShareRecord;
use super::state::{EndClaim, Phase, State, Word};
use super::wakes::Wakes;
use super::witness::Memory;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// What is known of one range. All fields but the state are written by whoever owns the slot or has claimed the range,
/// and read by whoever has claimed or pinned it, so the state's transitions order them.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    pub(crate) state: State,
    base: AtomicPtr<u8>,
    map: PageMap,
    pages: AtomicU32,
    /// Pages from the first on whose contents the map describes and the kernel may have been offered.
    offered_pages: AtomicU32,
    wakes: Wakes,
    /// 1: the range was volatile when this process was forked, and is not counted as such yet; see
    /// [`take_part`](super::sharing::take_part).
    pub(crate) inherited: AtomicU32,
    /// Where processes that share the range's pages since a `fork` keep count; null if none does.
    pub(crate) share: AtomicPtr<ShareRecord>,
}

const _: () = assert!(size_of::<Slot>() == 64, "a range costs one cache line");

impl Slot {
    /// Describes a new range. The caller owns the slot, which is free.
    pub(crate) fn occupy(&self, base: *mut u8, pages: u32) {
        self.map.allocate(pages as usize);
        // Relaxed, here and below: `publish` releases them.
        self.base.store(base, Ordering::Relaxed);
        self.pages.store(pages, Ordering::Relaxed);
        // Relaxed: as above.
        self.offered_pages.store(0, Ordering::Relaxed);
        self.inherited.store(0, Ordering::Relaxed);
        self.share.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.state.publish();
    }

    /// Forgets the range, and leaves the slot free.
    ///
    /// # Safety
    /// The caller has claimed the range with `begin_retire`, and its memory is not used any more.
    pub(crate) unsafe fn vacate(&self) {
        // SAFETY: the number that `occupy` gave; nobody else can be using the map of a retired range.
        unsafe { self.map.free(self.pages()) };
        self.pages.store(0, Ordering::Relaxed); // Relaxed: `end_retire` releases it.
        // Somebody else may have come by, to release the heap's ranges one by one.
        self.wake(self.state.end_retire());
    }

    /// Length of the range in pages. Relaxed: see the type.
    pub(crate) fn pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed) as usize
    }

    /// The range's memory. Relaxed: see the type.
    pub(crate) fn memory(&self) -> Memory {
        Memory { base: self.base.load(Ordering::Relaxed), pages: self.pages() }
    }

    /// The range's page map.
    ///
    /// # Safety
    /// The range exists (it is pinned, claimed, or its owner is borrowed) while the result is in use.
    pub(crate) unsafe fn map(&self) -> Words<'_> {
        // SAFETY: the number that `occupy` gave, and the map is freed only when the range is retired.
        unsafe { self.map.words(self.pages()) }
    }

    /// See the field. Relaxed: see the type.
    pub(crate) fn offered_pages(&self) -> usize {
        self.offered_pages.load(Ordering::Relaxed) as usize
    }

    /// Pages that the kernel cannot take yet, of an unclaimed range that was seen as `seen`.
    pub(crate) fn unoffered_pages(&self, seen: Word) -> usize {
        match seen.phase() {
            Phase::Volatile => self.pages(),
            Phase::Offered => self.pages().saturating_sub(self.offered_pages()),
            _ => 0,
        }
    }

    /// See the field. Only the owner of a claim calls this.
    pub(crate) fn set_offered_pages(&self, pages: usize) {
        let pages = u32::try_from(pages).expect("a range's pages fit the slot");
        // Release pairs with the copy of memory that a child gets by `clone`, at any moment: with this it has the page map and the
        // state as they were before.
        self.offered_pages.store(pages, Ordering::Release);
    }

    /// The owner of a claim has seen to it that no page is offered any more. `losses`: whether the page map has new ones.
    pub(crate) fn set_none_offered(&self, losses: bool) {
        if losses {
            self.state.note_losses();
        }
        self.set_offered_pages(0);
    }

    /// Waits until the range is no longer claimed; may return early.
    pub(crate) fn wait(&self) {
        self.wakes.wait(&self.state);
    }

    /// Wakes those who wait, if there are any.
    pub(crate) fn wake(&self, end: EndClaim) {
        self.wakes.wake(end);
    }
}

/// Slots in the first bucket; each further bucket has twice as many.
const FIRST_BUCKET: usize = 64;
const BUCKETS: usize = 26;

/// A table that grows without moving: a range's slot stays where it is, and the reclaimer reads it as arrays.
///
/// Slots are appended and freed under the heap's lock; reading needs none. Unused slots are untouched memory.
#[derive(Debug)]
pub(crate) struct SlotTable {
    /// The allocated blocks, which are larger than their slots by what aligning takes; see [`first_slot`].
    buckets: [AtomicPtr<u8>; BUCKETS],
    /// Slots ever handed out.
    len: AtomicUsize,
}

impl SlotTable {
    /// Ranges that a heap can hold at once.
    pub(crate) const CAPACITY: usize = FIRST_BUCKET * ((1 << BUCKETS) - 1);

    pub(crate) fn new() -> Self {
        Self { buckets: [const { AtomicPtr::new(std::ptr::null_mut()) }; BUCKETS], len: AtomicUsize::new(0) }
    }

    /// Slots ever handed out, free ones included.
    pub(crate) fn len(&self) -> usize {
        // Acquire pairs with the Release in `push`: the buckets of all slots below are there.
        self.len.load(Ordering::Acquire)
    }

    /// Appends a free slot and returns its number; `None` when the table is full. Called under the heap's lock.
    pub(crate) fn push(&self) -> Option<usize> {
        let index = self.len();
        if index == Self::CAPACITY {
            return None;
        }
        let (bucket, _) = locate(index);
        // Relaxed: only pushes change buckets, and they are under the heap's lock.
        if self.buckets[bucket].load(Ordering::Relaxed).is_null() {
            let layout = bucket_layout(bucket);
            // SAFETY: the layout's size is not zero.
            let block = unsafe { alloc_zeroed(layout) };
            if block.is_null() {
                handle_alloc_error(layout);
            }
            // Relaxed: the store to `len` below releases it.
            self.buckets[bucket].store(block, Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `len`.
        self.len.store(index + 1, Ordering::Release);
        Some(index)
    }

    /// The slot with this number.
    ///
    /// # Panics
    /// If it was never handed out.
    pub(crate) fn get(&self, index: usize) -> &Slot {
        assert!(index < self.len(), "slot {index} was never handed out");
        let (bucket, offset) = locate(index);
        // Relaxed: `len` acquired it.
        let slots = first_slot(self.buckets[bucket].load(Ordering::Relaxed));
        // SAFETY: the bucket exists, because slots up to `len` were handed out, and has more than `offset` slots.
        let slot = unsafe { slots.add(offset) };
        // SAFETY: buckets are freed only with the table. All zeros is a valid slot: a free state, no map, no memory.
        unsafe { &*slot }
    }

    /// All slots ever handed out, with their numbers, in order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let len = self.len();
        (0..BUCKETS).flat_map(move |bucket| {
            let start = FIRST_BUCKET * ((1 << bucket) - 1);
            let count = len.saturating_sub(start).min(FIRST_BUCKET << bucket);
            // Relaxed: `len` acquired it.
            let slots = first_slot(self.buckets[bucket].load(Ordering::Relaxed));
            let slots = if count == 0 {
                &[]
            } else {
                // SAFETY: as in `get`; the bucket has at least `count` slots.
                unsafe { std::slice::from_raw_parts(slots, count) }
            };
            slots.iter().enumerate().map(move |(offset, slot)| (start + offset, slot))
        })
    }
}

impl Drop for SlotTable {
    fn drop(&mut self) {
        for (bucket, block) in self.buckets.iter().enumerate() {
            // Relaxed: nobody else refers to the table.
            let block = block.load(Ordering::Relaxed);
            if !block.is_null() {
                // SAFETY: allocated by `push` with this layout; slots own nothing that needs dropping (a live range
                // keeps its heap, and so this table, alive).
                unsafe { dealloc(block, bucket_layout(bucket)) };
            }
        }
    }
}

fn locate(index: usize) -> (usize, usize) {
    let bucket = (index / FIRST_BUCKET + 1).ilog2() as usize;
    (bucket, index - FIRST_BUCKET * ((1 << bucket) - 1))
}

/// A block for a bucket. Aligned as the allocator does by itself: only then can it hand out zeros that are not in memory
/// yet, instead of writing them.
fn bucket_layout(bucket: usize) -> Layout {
    let bytes = (FIRST_BUCKET << bucket) * size_of::<Slot>() + align_of::<Slot>();
    Layout::from_size_align(bytes, align_of::<u64>()).expect("a bucket is smaller than the address space")
}

/// The first slot in a bucket's block.
fn first_slot(block: *mut u8) -> *const Slot {
    block.wrapping_add(block.addr().wrapping_neg() % align_of::<Slot>()).cast::<Slot>().cast_const()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_its_own_place() {
        let table = SlotTable::new();
        for expected in 0..1000 {
            assert_eq!(table.push(), Some(expected));
        }
        let mut seen = std::collections::HashSet::new();
        for (index, slot) in table.iter() {
            assert!(std::ptr::eq(slot, table.get(index)));
            assert!(seen.insert(std::ptr::from_ref(slot)));
            assert_eq!(slot.state.glance().phase(), Phase::Free);
        }
        assert_eq!(seen.len(), 1000);
        assert_eq!(locate(SlotTable::CAPACITY - 1).0, BUCKETS - 1);
    }

    #[test]
    #[should_panic(expected = "never handed out")]
    fn a_slot_that_was_not_handed_out_is_refused() {
        let _ = SlotTable::new().get(0);
    }
}
