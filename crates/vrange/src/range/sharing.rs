//! Ranges whose pages several processes map since a `fork`.
//!
//! The kernel discards an offered page only where every process that maps it has offered it; where one alone has, that
//! one loses the page and nothing is freed. So a range that was forked keeps, in memory that the processes share, how many
//! of them map it and in how many it is volatile, and is offered only when the two agree, or when all its pages turn out
//! to be this process's own again (the others exited, or wrote and got copies). A process that died without a word leaves
//! the counts unequal: then the data is kept.
//!
//! This is the rule of the RFC of 2012: "a volatile page will only be purged if ALL vmas pointing to it are VM_VOLATILE".
//!
//! Where all hold it volatile, one offer makes the kernel's lists, and so every process, believe that there is memory to be
//! had, though there is none until the last has offered it. So the record also tells the others to follow.
//!
//! A range without pages counts as volatile: there is nothing in it that its process could miss. What was volatile when a
//! process was forked counts only once that process has a reclaimer, since nobody would offer it before: the others would
//! lose their pages, and nothing would be freed.

use std::ptr::null_mut;

use vrange_os::{Residency, System};

use super::share_record::{ShareRecord, new_record};
use super::slots::{Slot, SlotTable};
use super::state::Phase;
use super::witness::has_contents;
use crate::sync::Ordering;

/// Marks every range as shared with one more process: a `fork` is about to happen, and nobody is at work on ranges, though
/// others go on pinning and unpinning. O(ranges).
///
/// Ranges without pages are marked too: they could be pinned and written to before the `fork` copies the page table.
///
/// If the `fork` then fails, the counts stay too high; the pages are found to be this process's own when that matters.
pub(crate) fn share(table: &SlotTable) {
    for (_, slot) in table.iter() {
        let seen = slot.state.glance();
        if seen.phase() == Phase::Free {
            continue;
        }
        let is_new = !seen.is_shared();
        if is_new {
            // Relaxed: the mark below publishes it.
            slot.share.store(new_record(), Ordering::Relaxed);
        }
        let record = record(slot);
        if let Some(record) = record {
            // This process, if it did not count before, and the new one, whose own share of the second count is added by
            // `take_part` there. A new range counts as volatile until it is known: a pin that takes one away finds one.
            record.add(1 + u64::from(is_new), u64::from(is_new));
        }
        // Pins and unpins that follow this step see the mark, and count themselves.
        let before = slot.state.set_shared(true);
        if let Some(record) = record
            && is_new
            && !counts_as_volatile(before.phase())
        {
            record.take_away(0, 1);
        }
    }
}

fn counts_as_volatile(phase: Phase) -> bool {
    matches!(phase, Phase::Empty | Phase::Volatile | Phase::Offered)
}

fn has_pages(slot: &Slot) -> bool {
    !matches!(slot.state.glance().phase(), Phase::Free | Phase::Empty)
}

fn record(slot: &Slot) -> Option<&ShareRecord> {
    // Relaxed: whoever has seen the mark in the state sees the pointer that was stored before it.
    let record = slot.share.load(Ordering::Relaxed);
    // SAFETY: null, or in a chunk, which is never unmapped.
    unsafe { record.as_ref() }
}

/// The range has just become volatile in this process.
pub(crate) fn mark_volatile(slot: &Slot) {
    if let Some(record) = record(slot) {
        record.add(0, 1);
    }
}

/// The range is no longer volatile in this process.
pub(crate) fn mark_pinned(slot: &Slot) {
    if let Some(record) = record(slot) {
        record.take_away(0, 1);
        record.forget_offer();
    }
}

/// This process offers the claimed range: if others map it, they are to follow.
pub(crate) fn note_offer(slot: &Slot) {
    if slot.state.glance().is_shared()
        && let Some(record) = record(slot)
    {
        record.note_offer();
    }
}

/// Has another process offered the range, which this one only marked as volatile? Until all have, nothing is freed.
pub(crate) fn is_offered_elsewhere(slot: &Slot) -> bool {
    record(slot).is_some_and(|record| record.is_offered() && record.all_volatile())
}

/// In a child whose parent has called [`share`], while it has one thread: notes what is volatile, from the child's own
/// copy of the state. It may have changed since the parent counted.
pub(crate) fn inherit(slot: &Slot) {
    let word = slot.state.glance();
    let is_volatile = word.is_shared() && counts_as_volatile(word.phase());
    // Relaxed: there is one thread so far.
    slot.inherited.store(u32::from(is_volatile), Ordering::Relaxed);
}

/// This process can offer from now on: what it inherited as volatile counts. (What was pinned and unpinned since has been
/// counted by those pins and unpins, which this only completes.)
pub(crate) fn take_part(slot: &Slot) {
    // Relaxed: one of those who come here adds it; see `ShareRecord`.
    if let Some(record) = record(slot)
        && slot.inherited.swap(0, Ordering::Relaxed) == 1
    {
        record.add(0, 1);
    }
}

/// In a child whose parent knows nothing of it: with whom its ranges are shared cannot be known, so they are kept until
/// their pages are its own. The records belong to others.
pub(crate) fn part(slot: &Slot) {
    // Relaxed, both: the child has one thread so far.
    slot.share.store(null_mut(), Ordering::Relaxed);
    slot.inherited.store(0, Ordering::Relaxed);
    if has_pages(slot) {
        let _ = slot.state.set_shared(true);
    }
}

/// Marks a range whose pages another process maps already, since a `fork` that nobody watched for: with whom it is shared
/// is not known, so it is kept until its pages are this process's own.
pub(crate) fn mark_if_shared(system: &dyn System, slot: &Slot) {
    if !has_pages(slot) || slot.state.glance().is_shared() {
        return;
    }
    let mut shared = false;
    let read = system.residency(slot.memory().span(), true, &mut |_, residency| {
        // The kernel's zero page looks the same. No matter: the mark is taken away when nothing but it is found.
        shared |= residency != Residency::Present;
    });
    if shared || read.is_err() {
        let _ = slot.state.set_shared(true);
    }
}

/// May a claimed range, marked as shared, be offered? Looks at its pages, until one is found that others map.
pub(crate) fn may_offer(system: &dyn System, slot: &Slot) -> bool {
    if maps_foreign_pages(system, slot) {
        return record(slot).is_some_and(ShareRecord::all_volatile);
    }
    leave(slot, Phase::Volatile);
    true
}

/// This process maps none of the shared pages any more. The caller has claimed the range, which was in phase `before`.
pub(crate) fn leave(slot: &Slot, before: Phase) {
    if !slot.state.glance().is_shared() {
        return;
    }
    if let Some(record) = record(slot) {
        record.take_away(1, u64::from(counts_as_volatile(before)));
        // Relaxed: as in `take_part`, which may be doing the same.
        if slot.inherited.swap(0, Ordering::Relaxed) == 1 {
            record.add(0, 1);
        }
    }
    slot.share.store(null_mut(), Ordering::Relaxed); // Relaxed: the end of the claim publishes it.
    let _ = slot.state.set_shared(false);
}

/// Pages looked at between two looks at whether a pinner waits: about 5 µs.
const LOOKED_AT_ONCE: usize = 128;

/// Does another process map a page of the claimed range that has contents? Where that cannot be told, because a pinner
/// must not be kept waiting, the page table cannot be read, or pages are on swap: yes.
fn maps_foreign_pages(system: &dyn System, slot: &Slot) -> bool {
    let memory = slot.memory();
    (0..memory.pages).step_by(LOOKED_AT_ONCE).any(|start| {
        let mut foreign = slot.state.is_cancelled();
        let piece = memory.span().slice(start, if foreign { 0 } else { LOOKED_AT_ONCE });
        let read = system.residency(piece, true, &mut |pages, residency| {
            foreign |= match residency {
                Residency::Present => false,
                // Others may refer to it too. It takes no memory, so little is lost by keeping it.
                Residency::Swapped => true,
                // The kernel's zero page is shared with everybody, and has no contents.
                Residency::Shared => pages.clone().any(|page| {
                    // SAFETY: the range is claimed, so it is mapped and nobody stores to it.
                    unsafe { has_contents(memory, start + page) }
                }),
            }
        });
        read.is_err() || foreign
    })
}
