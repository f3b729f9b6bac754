//! Ranges whose pages several processes map since a `fork`.
//!
//! The kernel discards an offered page only where every process that maps it has offered it; where one alone has, that
//! one loses the page and nothing is freed. So a range that was forked keeps, in memory that the processes share, how many
//! of them map it and in how many it is volatile, and is offered only when the two agree, or when all its pages turn out
//! to be this process's own again (the others exited, or wrote and got copies). A process that died without a word leaves
//! the counts unequal: then the data is kept.
//!
//! This is the rule of the RFC of 2012: "a volatile page will only be purged if ALL vmas pointing to it are VM_VOLATILE".

use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vrange_os::{Residency, System};

use super::slots::{ShareRecord, Slot, SlotTable};
use super::state::Phase;
use super::witness::has_contents;
use crate::sync::Ordering;

/// Marks every range that has pages as shared with one more process: a `fork` is about to happen, and nobody is at work on
/// ranges. O(ranges), and one mapping for the counts of those that were not shared before.
///
/// If the `fork` then fails, the counts stay too high; the pages are found to be this process's own when that matters.
pub(crate) fn share(table: &SlotTable) {
    let unshared = |slot: &Slot| has_pages(slot) && !slot.state.glance().is_shared();
    let mut fresh = map_records(table.iter().filter(|(_, slot)| unshared(slot)).count());
    for (_, slot) in table.iter().filter(|(_, slot)| has_pages(slot)) {
        if unshared(slot) && let Some(first) = fresh {
            // Relaxed: a pin that sees the mark below finds the record, or null and skips it; see `mark_pinned`.
            slot.share.store(first, Ordering::Relaxed);
            // The mapping has one record for each range without one; pins in between cannot add to those.
            fresh = Some(first.wrapping_add(1));
        }
        // Other threads go on pinning and unpinning: whatever they do after this step, they count themselves.
        let before = slot.state.set_shared(true);
        if let Some(record) = record(slot) {
            let newcomers = if before.is_shared() { 1 } else { 2 };
            let is_volatile = u32::from(matches!(before.phase(), Phase::Volatile | Phase::Offered));
            // Relaxed: counts that order nothing; the child sees them because it is forked afterwards.
            record.mappers.fetch_add(newcomers, Ordering::Relaxed);
            record.volatile.fetch_add(newcomers * is_volatile, Ordering::Relaxed);
        }
    }
}

fn has_pages(slot: &Slot) -> bool {
    !matches!(slot.state.glance().phase(), Phase::Free | Phase::Empty)
}

fn map_records(count: usize) -> Option<*mut ShareRecord> {
    if count == 0 {
        return None;
    }
    let bytes = count * size_of::<ShareRecord>();
    // SAFETY: a new mapping wherever the kernel likes. Zeros are a valid record. It is never unmapped: other processes
    // come and go, and each keeps its own mapping of it until it ends.
    let mapped = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) };
    mapped.ok().map(|records| records.cast())
}

fn record(slot: &Slot) -> Option<&ShareRecord> {
    // Relaxed: set before a fork in the only thread then at work, or in the parent of this process.
    let record = slot.share.load(Ordering::Relaxed);
    // SAFETY: null, or in a mapping made by `map_records`, which is never unmapped.
    unsafe { record.as_ref() }
}

/// The range has just become volatile in this process.
pub(crate) fn mark_volatile(slot: &Slot) {
    if let Some(record) = record(slot) {
        record.volatile.fetch_add(1, Ordering::Relaxed); // Relaxed: a count; see the module.
    }
}

/// The range is no longer volatile in this process.
pub(crate) fn mark_pinned(slot: &Slot) {
    if let Some(record) = record(slot) {
        record.volatile.fetch_sub(1, Ordering::Relaxed); // Relaxed: a count; see the module.
    }
}

/// Marks a range whose pages another process maps already, since a `fork` that nobody watched for: with whom it is shared
/// is not known, so it is kept until its pages are this process's own.
pub(crate) fn mark_if_shared(system: &dyn System, slot: &Slot) {
    if !has_pages(slot) {
        return;
    }
    let mut shared = false;
    let read = system.residency(slot.memory().span(), true, &mut |_, residency| {
        // The kernel's zero page looks the same. No matter: the mark is taken away when nothing but it is found.
        shared |= residency == Residency::Shared;
    });
    if shared || read.is_err() {
        let _ = slot.state.set_shared(true);
    }
}

/// May a claimed range, marked as shared, be offered? Looks at each of its pages.
pub(crate) fn may_offer(system: &dyn System, slot: &Slot) -> bool {
    if !maps_foreign_pages(system, slot) {
        leave(slot, Phase::Volatile);
        return true;
    }
    // Relaxed: counts that order nothing. A process that pins at this moment may find its neighbour's offer harmless:
    // only this process's mapping is offered.
    record(slot).is_some_and(|record| record.mappers.load(Ordering::Relaxed) == record.volatile.load(Ordering::Relaxed))
}

/// This process maps none of the shared pages any more. The caller has claimed the range, which was in phase `before`.
pub(crate) fn leave(slot: &Slot, before: Phase) {
    if !slot.state.glance().is_shared() {
        return;
    }
    if let Some(record) = record(slot) {
        // Relaxed, both: counts; see the module.
        record.mappers.fetch_sub(1, Ordering::Relaxed);
        if matches!(before, Phase::Volatile | Phase::Offered) {
            record.volatile.fetch_sub(1, Ordering::Relaxed);
        }
    }
    slot.share.store(null_mut(), Ordering::Relaxed); // Relaxed: the end of the claim publishes it.
    let _ = slot.state.set_shared(false);
}

/// Does another process map a page of the claimed range that has contents? Where that cannot be read: yes.
fn maps_foreign_pages(system: &dyn System, slot: &Slot) -> bool {
    let memory = slot.memory();
    let mut foreign = false;
    let read = system.residency(memory.span(), true, &mut |pages, residency| {
        // The kernel's zero page is shared with everybody, and has no contents.
        foreign = foreign
            || residency == Residency::Shared
                && pages.clone().any(|page| {
                    // SAFETY: the range is claimed, so it is mapped and nobody stores to it.
                    unsafe { has_contents(memory, page) }
                });
    });
    read.is_err() || foreign
}
