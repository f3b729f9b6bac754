//! What the threads that pin and unpin do for the reclaimer: they wake it, tell it of ranges that processes share, and keep
//! the bounds of their heap themselves, since it may not get to run.

use super::runtime;
use super::selection;
use crate::inner::Inner;
use crate::range::protocol::Candidate;
use crate::range::sharing;
use crate::range::slots::Slot;
use crate::range::state::Word;
use crate::sleeper::Sleeper;
use crate::sync::Ordering;

/// What an unpin has to do beyond its exchange; almost always nothing. `quiet`: the heap's, which is looked at first.
#[inline]
pub(crate) fn after_unpin(quiet: &Sleeper, heap: &Inner, slot: &Slot, word: Word) {
    if word.is_shared() || !quiet.is_awake() {
        after_unpin_slowly(heap, slot, word);
    }
}

#[cold]
fn after_unpin_slowly(heap: &Inner, slot: &Slot, word: Word) {
    if word.is_shared() {
        runtime::enter(heap);
        sharing::mark_volatile(slot);
    }
    if heap.has_bounds {
        keep_limit(heap);
        keep_cap(heap, slot);
    }
    if !heap.sleeper.is_awake() {
        runtime::wake(heap.sleeper);
    }
}

/// A pin that was not the first of its kind: the range was empty, or forked processes share it.
pub(crate) fn after_pin(heap: &Inner, slot: &Slot, word: Word, was_empty: bool) {
    if was_empty {
        // In a child that came by `clone` alone, the reclaimer is told that it has none.
        runtime::enter(heap);
        heap.counters.filled(slot.pages());
        keep_limit(heap);
    }
    if word.is_shared() && word.pins() == 1 {
        runtime::enter(heap);
        sharing::mark_pinned(slot);
    }
}

/// Releases ranges until the heap holds no more than its limit, or only pinned ones are left.
fn keep_limit(heap: &Inner) {
    if let Some(limit) = heap.settings.limit_bytes {
        let held = heap.counters.held_bytes();
        if held > limit {
            selection::release_coldest_ranges(&[heap], held - limit);
        }
    }
}

/// Offers ranges until no more than the cap is volatile without having been offered.
fn keep_cap(heap: &Inner, slot: &Slot) {
    let Some(cap) = heap.settings.max_unoffered_bytes else { return };
    if cap == 0 {
        heap.protocol().offer(&[Candidate { slot, seen: slot.state.glance() }]);
        return;
    }
    let bytes = slot.memory().span().bytes() as u64;
    // Relaxed: the number is an upper bound that orders nothing.
    let unoffered = heap.unoffered_bytes_max.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if unoffered > cap {
        // Down to half of it, so that the next unpins find room.
        let left = selection::offer_down_to(heap, cap / 2);
        heap.unoffered_bytes_max.store(left, Ordering::Relaxed); // Relaxed: see above.
    }
}
