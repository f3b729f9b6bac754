//! Marks on memory of the program's own.

use std::ffi::{c_int, c_uchar, c_void};

use vrange::raw::{self, Mark};

use crate::border::{Failure, count, give, place, status};
use crate::stats::MarkStats;
use crate::status::Status;

/// Of a page, from vrange_query: it is not marked.
pub const VRANGE_MARK_NONE: c_uchar = 0;
/// Of a page, from vrange_query: it is marked, and the kernel cannot take it yet.
pub const VRANGE_MARK_FRESH: c_uchar = 1;
/// Of a page, from vrange_query: it is marked, and the kernel may have taken it.
pub const VRANGE_MARK_OFFERED: c_uchar = 2;
/// Of a page, from vrange_query: it is marked, and nothing of it is left to be taken.
pub const VRANGE_MARK_SETTLED: c_uchar = 3;

/// Runs a call that has no more to say than whether it went well.
#[inline]
fn done(work: impl FnOnce() -> Result<(), vrange::Error>) -> c_int {
    status(|| {
        work()?;
        Ok(Status::Ok)
    })
}

/// A byte for each page that a call for this range is about, all 0 ([`VRANGE_MARK_NONE`]).
///
/// # Safety
/// Unless `first` is null there are as many, initialized or not, and nobody else uses them.
unsafe fn byte_each<'a>(
    addr: *mut c_void,
    length: usize,
    first: *mut c_uchar,
) -> Result<&'a mut [c_uchar], Failure> {
    let first = place(first)?;
    let pages = raw::whole_pages(addr.cast(), length)?;
    // SAFETY: passed on from the caller.
    unsafe { first.write_bytes(VRANGE_MARK_NONE, pages) };
    // SAFETY: as above, and initialized now.
    Ok(unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), pages) })
}

/// Starts the reclaimer now, instead of at the first mark of adopted memory, which then does not allocate. For a process whose
/// allocator makes marks, and again in its children.
///
/// Fails with VRANGE_STATUS_UNSUPPORTED.
#[unsafe(no_mangle)]
pub extern "C" fn vrange_prepare() -> c_int {
    done(raw::prepare)
}

/// Promises to say so before a mapping ends: marks in it are deferred from now on, and cost nanoseconds.
///
/// The range lies in a private anonymous mapping, readable and writable and not locked. Before any of it is unmapped, replaced, moved,
/// locked, protected or kept from children (MADV_DONTFORK), vrange_abandon or vrange_forget is called for that part; otherwise data that is there afterwards is lost.
/// Never allocates.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_UNSUPPORTED.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_adopt(addr: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on from the caller.
    done(|| unsafe { raw::adopt(addr.cast(), length) })
}

/// Takes adopted memory back from the library: its marks end, what was offered is taken back, and when this returns nothing is in
/// progress on it. Pages that are found lost stay marked, so that the next unmark tells of them.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, and as vrange_unmark.
///
/// # Safety
/// As for [`vrange_unmark`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_abandon(addr: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on from the caller.
    done(|| unsafe { raw::abandon(addr.cast(), length) })
}

/// As vrange_abandon, for memory whose contents are not wanted any more: nothing is taken back.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE.
#[unsafe(no_mangle)]
pub extern "C" fn vrange_forget(addr: *mut c_void, length: usize) -> c_int {
    done(|| raw::forget(addr.cast(), length))
}

/// Marks pages as volatile: they may vanish from now on. The length is rounded down to whole pages.
///
/// Of adopted memory each 4 MiB cost two atomic operations and a few stores, whatever is in memory. Other memory is offered to the
/// kernel at once, which costs a look at each page and what madvise(MADV_FREE) costs. Nobody uses the pages until vrange_unmark has
/// returned. Never allocates, but for the first call on adopted memory (see vrange_prepare).
///
/// Fails with VRANGE_STATUS_INVALID_RANGE; for memory that is not adopted also with VRANGE_STATUS_NOT_MARKABLE, VRANGE_STATUS_NOT_MAPPED,
/// VRANGE_STATUS_OUT_OF_MEMORY, VRANGE_STATUS_REFUSED.
///
/// # Safety
/// The contents may be lost, and the pages are not used until they are unmarked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_mark(addr: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on from the caller.
    done(|| unsafe { raw::mark(addr.cast(), length) })
}

/// Ends the marks on pages. Nothing of them is lost afterwards, however they are written to. Pages that are not marked are passed
/// over. "purged" may be NULL; it is set to 1 if contents were lost, else to 0.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NOT_WRITABLE.
///
/// # Safety
/// Nobody stores to the pages meanwhile; adopted memory is readable and writable. `purged` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_unmark(addr: *mut c_void, length: usize, purged: *mut c_int) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller.
        let unmarked = unsafe { raw::unmark(addr.cast(), length) }?;
        if let Ok(purged) = place(purged) {
            // SAFETY: passed on from the caller.
            unsafe { purged.write(c_int::from(unmarked.is_purged())) };
        }
        Ok(Status::Ok)
    })
}

/// As vrange_unmark, and says of each page whether it was lost, in the manner of mincore(2): "lost" has a byte for each page of the
/// range, which becomes 1 if the page had contents and reads as zeros now, else 0.
///
/// Fails as vrange_unmark, and with VRANGE_STATUS_NULL_POINTER.
///
/// # Safety
/// As for [`vrange_unmark`]; `lost` is null or has a byte for each whole page of the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_unmark_pages(addr: *mut c_void, length: usize, lost: *mut c_uchar) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller, who uses the bytes for nothing else meanwhile.
        let lost = unsafe { byte_each(addr, length, lost) }?;
        // SAFETY: passed on from the caller.
        unsafe { raw::unmark_each(addr.cast(), length, |page| lost[page] = 1) }?;
        Ok(Status::Ok)
    })
}

/// Offers pages to the kernel at once and notes nothing: madvise(MADV_FREE), with the manners of the other calls. No unmark is needed,
/// and none can tell what was lost: a store to a page ends the offer of that page. Of memory that the program opened to KSM, close it
/// first (MADV_UNMERGEABLE).
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NOT_MARKABLE, VRANGE_STATUS_NOT_MAPPED.
///
/// # Safety
/// The contents may be lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_mark_now(addr: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on from the caller.
    done(|| unsafe { raw::mark_now(addr.cast(), length) })
}

/// Ends what vrange_mark_now began, on the pages that are still there. Needed only before a device writes to them past the page table
/// (io_uring's registered buffers); a store does the same for its page.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NOT_WRITABLE, VRANGE_STATUS_NOT_MAPPED.
///
/// # Safety
/// The memory is mapped by the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_unmark_now(addr: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on from the caller.
    done(|| unsafe { raw::unmark_now(addr.cast(), length) })
}

/// Drops marked pages now. They stay marked, and the unmark tells what was lost.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_UNSUPPORTED.
///
/// # Safety
/// As for [`vrange_mark`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_purge(addr: *mut c_void, length: usize) -> c_int {
    // SAFETY: passed on from the caller.
    done(|| unsafe { raw::purge(addr.cast(), length) }.map(|_| ()))
}

/// Says of each page how it is marked: "marks" has a byte for each page of the range, which becomes VRANGE_MARK_... No system call; says
/// nothing of what the kernel has taken.
///
/// Fails with VRANGE_STATUS_INVALID_RANGE, VRANGE_STATUS_NULL_POINTER.
///
/// # Safety
/// `marks` is null or has a byte for each whole page of the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_query(addr: *mut c_void, length: usize, marks: *mut c_uchar) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller, who uses the bytes for nothing else meanwhile.
        let marks = unsafe { byte_each(addr, length, marks) }?;
        raw::query(addr.cast(), length, |page, mark| {
            marks[page] = match mark {
                Mark::Fresh => VRANGE_MARK_FRESH,
                Mark::Offered => VRANGE_MARK_OFFERED,
                Mark::Settled => VRANGE_MARK_SETTLED,
                // What a later version of the library knows besides is none of these.
                _ => VRANGE_MARK_NONE,
            };
        })?;
        Ok(Status::Ok)
    })
}

/// Hands the coldest marked pages of adopted memory to the kernel until "bytes" bytes in memory are offered, or nothing is left. Returns
/// how many. Their contents stay until memory is short. Allocates.
#[unsafe(no_mangle)]
pub extern "C" fn vrange_offer(bytes: u64) -> u64 {
    count(|| raw::offer(bytes).map_err(Failure::from))
}

/// Counts what is marked in the process. "stats_size" is sizeof(vrange_mark_stats). No system call.
///
/// Fails with VRANGE_STATUS_NULL_POINTER.
///
/// # Safety
/// `stats` is null or may be written to for `stats_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_marks_get_stats(stats: *mut MarkStats, stats_size: usize) -> c_int {
    // SAFETY: passed on from the caller.
    status(|| unsafe { give(&MarkStats::from(raw::stats()), stats, stats_size) })
}
