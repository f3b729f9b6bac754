//! What the hooks of all allocators come down to.

use std::sync::atomic::{AtomicBool, Ordering};

use vrange::raw;

use crate::PAGE_BYTES;
use crate::report::Call;

/// Up to so many pages are set to zero without asking which of them are there, and stay when memory is short.
const SMALL_PAGES: usize = 16;
/// A piece of a page.
const PIECE_BYTES: usize = 1024;

/// Relaxed everywhere: set when the process starts, before there are other threads.
static ON: AtomicBool = AtomicBool::new(false);

/// Has the hooks mark free memory from now on. Before that they leave it to their allocator.
pub(crate) fn turn_on() {
    ON.store(true, Ordering::Relaxed); // Relaxed: see `ON`.
}

/// Is free memory marked?
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed) // Relaxed: see `ON`.
}

/// An allocator has no use for this memory at the moment: it may go. Returns false if it is not marked, and the allocator is to give
/// it back in its own way: in a process without a reclaimer, beyond the limit, or where hooks are off.
///
/// Cost: two atomic exchanges and a few stores for each 4 MiB; no system call but to wake a reclaimer that sleeps. The first time
/// that memory of a 16 GiB part of the address space is given, a reservation is made.
///
/// # Safety
/// Whole pages of a private anonymous mapping, readable and writable. Nobody uses them, and they are not unmapped, until [`take`] or
/// [`take_zeroed`] returns, or [`forget`].
#[inline]
pub unsafe fn give(start: *mut u8, bytes: usize) -> bool {
    if !is_on() {
        return false;
    }
    let call = Call::begin();
    // SAFETY: passed on from the caller.
    let mut marked = unsafe { try_mark(start, bytes) };
    // SAFETY: as above.
    if !marked && unsafe { adopt_new(start, bytes) } {
        // SAFETY: as above.
        marked = unsafe { try_mark(start, bytes) };
    }
    call.gave(bytes, marked);
    marked
}

/// # Safety
/// As for [`give`].
#[inline]
unsafe fn try_mark(start: *mut u8, bytes: usize) -> bool {
    // SAFETY: passed on from the caller.
    unsafe { raw::try_mark(start, bytes) }.is_ok_and(|marked| marked)
}

/// Memory that was never given has to be adopted first. Returns whether this is such memory.
///
/// # Safety
/// As for [`give`].
#[cold]
unsafe fn adopt_new(start: *mut u8, bytes: usize) -> bool {
    if !raw::is_prepared() || raw::is_adopted(start, bytes) {
        return false;
    }
    // SAFETY: passed on from the caller: the allocator says so before it unmaps any of it, and the program has no business with
    // memory that it has freed. A failure is one of the mark, too.
    let _ = unsafe { raw::adopt(start, bytes) };
    raw::close_to_merging(start, bytes);
    true
}

/// The allocator wants this memory again: nothing of it is lost from now on. What it holds is not known. Memory that was not given is
/// passed over. Returns whether all of it was lost, and so reads as zeros.
///
/// Cost: as for [`give`]; a load and a read-modify-write for each page that was offered. While memory [is short](raw::is_short), more than
/// 64 KiB are dropped first, which costs `madvise(MADV_DONTNEED)` and a page fault for each page that is used.
///
/// # Safety
/// Memory of the allocator's, readable and writable if it was given, which nobody uses until this returns.
#[inline]
pub unsafe fn take(start: *mut u8, bytes: usize) -> bool {
    if !is_on() {
        return false;
    }
    let call = Call::begin_taking(start, bytes);
    let lost_pages = if is_to_come_empty(bytes) {
        // SAFETY: passed on from the caller. Memory that was adopted when it was given can be taken back always.
        unsafe { raw::unmark_dropped(start, bytes) }.unwrap_or(0)
    } else {
        let mut lost_pages = 0;
        // SAFETY: as above.
        let _ = unsafe { raw::unmark_each(start, bytes, |_| lost_pages += 1) };
        lost_pages
    };
    call.took(lost_pages, 0);
    lost_pages * PAGE_BYTES == bytes
}

/// Is memory that is taken back to be dropped first? An allocator takes large pieces whole, and may need little of them; what is there of
/// the rest would count as used, and while memory is short others need it.
#[inline]
fn is_to_come_empty(bytes: usize) -> bool {
    bytes > SMALL_PAGES * PAGE_BYTES && raw::is_short()
}

/// As [`take`], and it reads as zeros: what survived is set to zero.
///
/// # Safety
/// As for [`take`].
pub unsafe fn take_zeroed(start: *mut u8, bytes: usize) {
    if !is_on() {
        return;
    }
    let call = Call::begin_taking(start, bytes);
    let pages = bytes / PAGE_BYTES;
    let zeroed = if pages <= SMALL_PAGES {
        // SAFETY: passed on from the caller.
        unsafe { take_small_zeroed(start, pages) }
    } else {
        if raw::is_short() {
            // What is dropped need not be set to zero.
            // SAFETY: passed on from the caller.
            let _ = unsafe { raw::unmark_dropped(start, bytes) };
        }
        // SAFETY: as above.
        unsafe { raw::unmark_zeroed(start, bytes) }.unwrap_or(0)
    };
    call.took(pages - zeroed, zeroed);
}

/// As [`raw::unmark_zeroed`], without a look at the page table: as a rule, all of so small a piece was in use. Returns how many pages
/// were set to zero.
///
/// # Safety
/// As for [`take`].
unsafe fn take_small_zeroed(start: *mut u8, pages: usize) -> usize {
    let mut lost = 0u64;
    // SAFETY: passed on from the caller.
    let _ = unsafe { raw::unmark_each(start, pages * PAGE_BYTES, |page| lost |= 1 << page) };
    for page in (0..pages).filter(|page| lost >> page & 1 == 0) {
        let page = start.wrapping_add(page * PAGE_BYTES);
        // In pieces that are set by a few vector stores each.
        for piece in (0..PAGE_BYTES).step_by(PIECE_BYTES) {
            // SAFETY: as promised by the caller; the page is ours until this returns.
            unsafe { page.wrapping_add(piece).write_bytes(0, PIECE_BYTES) };
        }
    }
    pages - lost.count_ones() as usize
}

/// Gives memory back in the ordinary way, `madvise(MADV_DONTNEED)`, for who has no way of his own. Returns whether that could be done.
///
/// # Safety
/// Nobody wants the contents.
pub unsafe fn give_back(start: *mut u8, bytes: usize) -> bool {
    // SAFETY: passed on from the caller.
    unsafe { rustix::mm::madvise(start.cast(), bytes, rustix::mm::Advice::LinuxDontNeed) }.is_ok()
}

/// The memory is about to be unmapped: nothing of what was noted of it is left.
pub fn forget(start: *mut u8, bytes: usize) {
    if is_on() {
        let _ = raw::forget(start, bytes);
    }
}
