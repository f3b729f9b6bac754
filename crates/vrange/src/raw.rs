//! Marks on memory that this library did not map: for authors of allocators and runtimes, and for programs written for
//! `madvise(MADV_VOLATILE)`.
#![doc = include_str!("../docs/raw.md")]

use std::ops::Range;
use std::time::Duration;

use rustix::io::Errno;
use vrange_os::linux::{Linux, offer_unmerged};
use vrange_os::{OsError, PAGE_BYTES, Residency, Span, System};

use crate::error::{Error, ErrorKind};
use crate::inner::Inner;
use crate::marks::{self, Kind, MARKS};
use crate::reclaim::pool::MarkedMemory;
use crate::reclaim::runtime;
use crate::reclaim::selection::{self, Picks};
use crate::reclaim::shortage::SHORTAGE;
use crate::settings::Content;
use crate::stats::Pages;

pub use crate::marks::Mark;

/// What an [`unmark`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "says whether contents were lost"]
pub struct Unmarked {
    lost_pages: usize,
}

impl Unmarked {
    /// Was anything lost?
    pub fn is_purged(self) -> bool {
        self.lost_pages > 0
    }

    /// How many pages had contents and read as zeros now.
    pub fn lost_pages(self) -> usize {
        self.lost_pages
    }
}

/// What the marks of the process add up to, and what has become of marked pages. Taken by [`stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawStats {
    /// Pages marked now that the kernel cannot take yet.
    pub marked: Pages,
    /// Pages marked now that the kernel may have taken.
    pub offered_now: Pages,
    /// Pages marked now of which nothing is left: they were never written, or were dropped.
    pub settled: Pages,
    /// Pages in memory that were handed to the kernel, each time counted anew.
    pub offered: Pages,
    /// Offered pages that were unmarked intact.
    pub rescued: Pages,
    /// Offered pages that the kernel had discarded.
    pub lost: Pages,
    /// Pages in memory that were dropped by request or ahead of need.
    pub released: Pages,
}

/// A range in the seed's manner: the start at a page, the length cut down to whole pages.
fn span(start: *mut u8, bytes: usize) -> Result<Option<Span>, Error> {
    let pages = bytes / PAGE_BYTES;
    let address = start.expose_provenance();
    if !address.is_multiple_of(PAGE_BYTES)
        || (bytes > 0 && pages == 0)
        || address.checked_add(bytes).is_none()
    {
        return Err(Error::new(ErrorKind::InvalidRange));
    }
    Ok((pages > 0).then(|| Span::new(address, pages)))
}

/// How many pages a call for this range is about: the length rounded down to whole pages. For callers that need room for something
/// of each, such as what [`unmark_each`] and [`query`] tell.
///
/// # Errors
/// [`ErrorKind::InvalidRange`], as every function here.
pub fn whole_pages(start: *mut u8, bytes: usize) -> Result<usize, Error> {
    Ok(span(start, bytes)?.map_or(0, |span| span.pages()))
}

fn system() -> Option<&'static dyn System> {
    Linux::get().ok().map(|linux| -> &'static dyn System { linux })
}

fn need_system() -> Result<&'static dyn System, Error> {
    Linux::get()
        .map(|linux| -> &'static dyn System { linux })
        .map_err(|error| Error::from_system(ErrorKind::Unsupported, error))
}

fn mark_error(error: OsError) -> Error {
    let kind = match error.errno() {
        Errno::NOMEM => ErrorKind::NotMapped,
        Errno::INVAL => ErrorKind::NotMarkable,
        Errno::FAULT | Errno::ACCESS => ErrorKind::NotWritable,
        Errno::AGAIN => ErrorKind::OutOfMemory,
        _ => ErrorKind::Refused,
    };
    Error::from_system(kind, error)
}

/// Starts the reclaimer now, instead of at the first mark of adopted memory, which then does not allocate. For a process whose
/// allocator makes marks; and for its children, since a child has no reclaimer of its own until it is started there.
///
/// # Errors
/// [`ErrorKind::Unsupported`].
pub fn prepare() -> Result<(), Error> {
    need_system()?;
    runtime::after_mark();
    Ok(())
}

/// What a library that is loaded before `main` does best at once, instead of when the reclaimer is started.
///
/// Registers the handlers by which forks are noticed (`pthread_atfork(3)`), since what was registered last runs first before a `fork`, and
/// last after it: a library's own handlers come before or after them. From the first of these handlers to the last, [`prepare`] does
/// nothing. And asks the dynamic linker for what the reclaimer would have to ask it for, and wait for where a program loads something
/// at that time.
pub fn at_load() {
    runtime::register_fork_handlers();
    vrange_os::thread::prepare();
}

/// Promises to say so before a mapping ends: marks in it are deferred from now on, and cost nanoseconds.
///
/// Whatever was known of the addresses before is forgotten. Cost: a store for each 4 MiB; the first in each 16 GiB of address
/// space makes a reservation of 3.5 MiB, of which what is used takes memory. Neither allocates nor locks.
///
/// # Safety
/// The range is a private anonymous mapping, or lies in one, readable and writable and not locked. Before any of it is
/// unmapped, replaced, moved, locked, protected (`mprotect`, `pkey_mprotect`, guard regions) or kept from children
/// (`MADV_DONTFORK`: the child has the promise, and something else at the address), [`abandon`] or [`forget`] is called for that
/// part.
///
/// # Errors
/// [`ErrorKind::InvalidRange`], [`ErrorKind::Unsupported`].
pub unsafe fn adopt(start: *mut u8, bytes: usize) -> Result<(), Error> {
    let system = need_system()?;
    if let Some(span) = span(start, bytes)? {
        MARKS.adopt(span, system);
        runtime::after_unmark(span);
    }
    Ok(())
}

/// Takes memory back from the library: it is adopted no longer, its marks end, what was offered is taken back, and when this
/// returns nothing is in progress on it. Pages that are found lost are the exception: they stay marked, so that the next
/// unmark tells of them. Waits for the piece of an offer at hand (140 µs at most).
///
/// # Safety
/// As for [`unmark`].
///
/// # Errors
/// [`ErrorKind::InvalidRange`]. [`ErrorKind::NotWritable`] as for [`unmark`].
pub unsafe fn abandon(start: *mut u8, bytes: usize) -> Result<(), Error> {
    let Some(span) = span(start, bytes)? else { return Ok(()) };
    // SAFETY: passed on from the caller.
    let taken_back = unsafe { MARKS.abandon(span, system) };
    runtime::after_unmark(span);
    taken_back.map_err(mark_error)
}

/// As [`abandon`] for memory that is about to be unmapped, or whose contents are not wanted any more: nothing is taken back, and
/// nothing is told.
///
/// # Errors
/// [`ErrorKind::InvalidRange`].
pub fn forget(start: *mut u8, bytes: usize) -> Result<(), Error> {
    if let Some(span) = span(start, bytes)? {
        MARKS.forget(span);
        runtime::after_unmark(span);
    }
    Ok(())
}

/// Notes that pages were lost, for the next unmark to tell: for who moves memory (`mremap`) and has been told of a loss by
/// [`unmark_each`] at its old address.
///
/// # Errors
/// [`ErrorKind::InvalidRange`], [`ErrorKind::Unsupported`].
pub fn set_lost(start: *mut u8, bytes: usize) -> Result<(), Error> {
    let system = need_system()?;
    if let Some(span) = span(start, bytes)? {
        MARKS.set_lost(span, system);
    }
    Ok(())
}

/// As [`abandon`], for all memory that was ever adopted. Looks at the bookkeeping of each 16 GiB in which something was.
///
/// # Safety
/// As for [`abandon`].
pub unsafe fn abandon_all() {
    MARKS.each_adopted(|span| {
        // SAFETY: passed on from the caller.
        let _ = unsafe { abandon(pointer(span), span.bytes()) };
    });
}

/// Closes memory to KSM (`madvise(MADV_UNMERGEABLE)`), which would take live pages along with an offered one that it has merged: for who
/// adopts memory that the program may have opened. A system call; a failure shows in offers that are refused.
pub fn close_to_merging(start: *mut u8, bytes: usize) {
    if let Ok(Some(span)) = span(start, bytes) {
        let _ = vrange_os::linux::close_to_merging(span);
    }
}

/// Is all of the range adopted?
pub fn is_adopted(start: *mut u8, bytes: usize) -> bool {
    matches!(span(start, bytes), Ok(Some(span)) if MARKS.is_adopted(span))
}

/// Marks pages as volatile: they may vanish from now on. The length is rounded down to whole pages.
///
/// Of adopted memory each 4 MiB cost two atomic exchanges and a few stores, whatever is in memory; a system call only to
/// wake a reclaimer that sleeps. Other memory is offered to the kernel at once, which costs a look at each page and what
/// `madvise(MADV_FREE)` costs. To mark what is marked makes it younger, nothing else.
///
/// # Safety
/// The contents may be lost. Nobody stores to the pages, or relies on what is loaded from them, until [`unmark`] returns.
/// After an unmark that was forgotten, new contents are lost.
///
/// # Errors
/// [`ErrorKind::InvalidRange`]: the address is not that of a page, or the length is less than a page and not 0.
/// For memory that is not adopted: [`ErrorKind::NotMarkable`] and [`ErrorKind::NotMapped`] as [`mark_now`];
/// [`ErrorKind::OutOfMemory`], [`ErrorKind::Refused`]: what the pages hold cannot be noted, and they are not marked.
/// What lies before the page that is refused may be marked, so an [`unmark`] belongs to a mark that fails, too.
#[inline]
pub unsafe fn mark(start: *mut u8, bytes: usize) -> Result<(), Error> {
    let Some(span) = span(start, bytes)? else { return Ok(()) };
    let mut deferred = false;
    let marked = MARKS.mark(span, Kind::Data, Inner::now(), &mut deferred, |marks, part| {
        let system = system().ok_or(OsError::new("sysconf(_SC_PAGESIZE)", Errno::NOTSUP))?;
        // SAFETY: passed on from the caller.
        let offered = unsafe { marks.mark_at_once(part, system) };
        runtime::after_unmark(part);
        offered
    });
    if deferred {
        runtime::after_mark();
    }
    marked.map_err(mark_error)
}

/// As [`mark`], for calls from inside an allocator: allocates nothing, starts no thread, and never makes a system call but to wake a
/// reclaimer that sleeps. Returns whether the pages are marked; if not, nothing was done, and the caller gives the memory back in
/// its own way. That is so where the memory is not adopted, where the process has no reclaimer yet ([`prepare`] starts it; a child
/// made by `fork` has none either), or where more would be marked than [`set_limit`] allows.
///
/// # Safety
/// As for [`mark`].
///
/// # Errors
/// [`ErrorKind::InvalidRange`].
#[inline]
pub unsafe fn try_mark(start: *mut u8, bytes: usize) -> Result<bool, Error> {
    let Some(span) = span(start, bytes)? else { return Ok(true) };
    if !runtime::is_started() || MARKS.policy.is_reached(span.pages()) || !MARKS.is_adopted(span) {
        return Ok(false);
    }
    let mut deferred = false;
    // What is abandoned meanwhile, which the memory's owner alone can do, is left as it is.
    let _ = MARKS.mark(span, Kind::FreeMemory, Inner::now(), &mut deferred, |_, _| Ok(()));
    runtime::after_mark_in_allocator();
    Ok(true)
}

/// What memory that was marked by [`try_mark`] is, from now on: data worth keeping ([`Content::Cache`], as it is by default), or the free
/// memory of an allocator ([`Content::Free`]), which is offered early and released after a while, so that resident memory falls. A block of
/// 4 MiB in which [`mark`] marks anything is data in any case, until nothing is marked in it.
///
/// Of free memory, pages that a forked process still shares are released as soon as they would be offered: to write there
/// would copy them anyway.
pub fn set_content(content: Content) {
    MARKS.policy.set_content(content);
}

/// Has the reclaimer's thread call `work` when it starts, and then, while anything is marked that may be in memory, after a turn that comes
/// `every` or more after the last call: with [free memory](Content::Free) a quarter of a second more at most, otherwise a second.
/// [`is_short`] is up to date then. For what an allocator has to look after from outside of itself. The first that is set stays. While
/// `work` runs the reclaimer does nothing else.
pub fn set_housekeeping(every: Duration, work: fn()) {
    runtime::set_housekeeping(every, work);
}

/// Has this process a reclaimer, so that [`try_mark`] can defer? A load or two.
pub fn is_prepared() -> bool {
    runtime::is_started()
}

/// How much memory [`try_mark`] may have marked at a time, or any amount (`None`). It refuses what would be more, and the reclaimer
/// releases the coldest when little is left. Counted are pages that may be in memory.
pub fn set_limit(bytes: Option<u64>) {
    MARKS.policy.set_limit(bytes);
}

/// Offers pages to the kernel at once and notes nothing: one `madvise(MADV_FREE)`. No unmark is needed, and none can tell
/// what was lost: a store to a page ends the offer of that page, and a page that was taken reads as zeros. The length is
/// rounded down to whole pages.
///
/// # Safety
/// The contents may be lost. KSM must not merge the pages (memory is closed to it unless `MADV_MERGEABLE` or
/// `PR_SET_MEMORY_MERGE` opened it; `MADV_UNMERGEABLE` closes it again): the kernel takes other pages along that were merged
/// with an offered one. Pages that the device side of an io_uring registered buffer writes to must be written to by the
/// processor first.
///
/// # Errors
/// [`ErrorKind::InvalidRange`] as for [`mark`]. [`ErrorKind::NotMarkable`]: some of it is file-backed, shared, or locked;
/// nothing behind that was marked. [`ErrorKind::NotMapped`]: some of it is not mapped; all the rest is marked.
pub unsafe fn mark_now(start: *mut u8, bytes: usize) -> Result<(), Error> {
    // On a kernel with larger pages the rounding would be another.
    need_system()?;
    let Some(span) = span(start, bytes)? else { return Ok(()) };
    // SAFETY: passed on from the caller.
    unsafe { offer_unmerged(span) }.map_err(mark_error)
}

/// Ends what [`mark_now`] began, on the pages that are still there: they stay. It cannot tell which are not. Needed only before
/// the device side of an io_uring registered buffer writes to them; a store of the processor does the same for its page.
///
/// Cost: a look at the page table, and a call for each run of pages that are there.
///
/// # Safety
/// Nobody else relies on what the kernel says of the memory meanwhile; it is mapped by the caller.
///
/// # Errors
/// [`ErrorKind::InvalidRange`]. [`ErrorKind::NotWritable`], [`ErrorKind::NotMapped`]: some pages could not be made to stay.
pub unsafe fn unmark_now(start: *mut u8, bytes: usize) -> Result<(), Error> {
    let Some(span) = span(start, bytes)? else { return Ok(()) };
    marks::keep_what_is_there(span, need_system()?).map_err(mark_error)
}

/// Ends the marks on pages. Nothing of them is lost afterwards, however they are written to. Pages that are not marked
/// are passed over, and so are unmapped ones.
///
/// Of adopted memory that was not offered: two atomic exchanges and a few stores for each 4 MiB. What was offered is looked
/// at, a load and a read-modify-write for each page (11 µs a MiB). Waits for the piece of an offer at hand.
///
/// # Safety
/// Nobody stores to the pages meanwhile. Adopted memory is readable and writable.
///
/// # Errors
/// [`ErrorKind::InvalidRange`]. [`ErrorKind::NotWritable`]: pages that are not adopted cannot be written to now. They stay
/// marked.
#[inline]
pub unsafe fn unmark(start: *mut u8, bytes: usize) -> Result<Unmarked, Error> {
    let mut lost_pages = 0;
    // SAFETY: passed on from the caller.
    unsafe { unmark_each(start, bytes, |_| lost_pages += 1) }?;
    Ok(Unmarked { lost_pages })
}

/// As [`unmark`], and sets to zero what is still there, as an allocator may have promised: afterwards the whole range reads as
/// zeros. Pages that were never touched, or that are lost, take no memory. Returns how many were set to zero.
///
/// Cost: that of [`unmark`], that of writing each page that is in memory or on swap, and a look at the page table for those pages that
/// were not set to zero by this function before, or have been offered since.
///
/// # Safety
/// As for [`unmark`].
///
/// # Errors
/// As for [`unmark`].
pub unsafe fn unmark_zeroed(start: *mut u8, bytes: usize) -> Result<usize, Error> {
    let Some(span) = span(start, bytes)? else { return Ok(0) };
    // SAFETY: passed on from the caller.
    let _ = unsafe { unmark(start, bytes) }?;
    let system = need_system()?;
    let mut zeroed = 0;
    MARKS.each_in_memory(span, |pages, is_in_memory| {
        let part = span.slice(pages.start, pages.len());
        zeroed += if is_in_memory {
            // SAFETY: passed on from the caller, and nothing in the range is marked any more.
            unsafe { zero(part) }
        } else {
            // SAFETY: as above.
            unsafe { zero_what_is_there(part, system) }
        };
    });
    Ok(zeroed)
}

/// Sets to zero what is there of the pages, and notes it. Returns how many there are.
///
/// # Safety
/// The caller's own pages, readable and writable, which are not marked, and which nobody else uses meanwhile.
unsafe fn zero_what_is_there(span: Span, system: &dyn System) -> usize {
    let mut zeroed = 0;
    let mut zero = |pages: Range<usize>| {
        let part = span.slice(pages.start, pages.len());
        // SAFETY: passed on from the caller.
        zeroed += unsafe { zero(part) };
        MARKS.note_in_memory(part);
    };
    let looked = system.residency(span, false, &mut |pages, residency| match residency {
        // To write to the shared zero page would take a page of memory.
        Residency::Shared => {
            // SAFETY: as above, and in whole words.
            let is_zero = |page: &usize| unsafe { is_zero(pointer(span.slice(*page, 1))) };
            pages.filter(|page| !is_zero(page)).for_each(|page| zero(page..page + 1));
        }
        Residency::Present | Residency::Swapped => zero(pages),
    });
    if looked.is_err() {
        zero(0..span.pages());
    }
    zeroed
}

/// Sets pages to zero, and returns how many.
///
/// # Safety
/// As for [`zero_what_is_there`].
unsafe fn zero(span: Span) -> usize {
    // SAFETY: passed on from the caller.
    unsafe { pointer(span).write_bytes(0, span.bytes()) };
    span.pages()
}

fn pointer(span: Span) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(span.address())
}

/// # Safety
/// A readable page that nobody writes to.
unsafe fn is_zero(page: *const u8) -> bool {
    // SAFETY: as promised by the caller; a page is aligned for any word.
    let words = unsafe { std::slice::from_raw_parts(page.cast::<u64>(), PAGE_BYTES / size_of::<u64>()) };
    words.iter().all(|word| *word == 0)
}

/// As [`unmark`], and drops free memory ([`try_mark`]) that is there, so that only what is used of it takes memory again: for an allocator
/// that takes back more than it needs at once while memory [is short](is_short). Returns how many pages hold nothing any more, because they
/// are lost or dropped; if all, the range reads as zeros. What is locked stays.
///
/// Cost: a look at the page table, and what `madvise(MADV_DONTNEED)` costs.
///
/// # Safety
/// As for [`unmark`], and nobody wants the contents.
///
/// # Errors
/// As for [`unmark`].
pub unsafe fn unmark_dropped(start: *mut u8, bytes: usize) -> Result<usize, Error> {
    let Some(span) = span(start, bytes)? else { return Ok(0) };
    // SAFETY: passed on from the caller.
    let mut empty_pages = unsafe { MARKS.unmark_dropped(span, need_system()?) };
    // SAFETY: passed on from the caller.
    unsafe { unmark_each(start, bytes, |_| empty_pages += 1) }?;
    Ok(empty_pages)
}

/// Drops all free memory ([`try_mark`]) that is marked, and ends its marks: for a child made by `fork` that is not to have a reclaimer before
/// it needs one, and has all that was marked in its parent. What is locked stays. Starts and allocates nothing.
///
/// Cost: a look at the page table, and what `madvise(MADV_DONTNEED)` costs. (A child that becomes another program would pay the latter then.)
///
/// # Errors
/// [`ErrorKind::Unsupported`].
pub fn drop_free_memory() -> Result<(), Error> {
    MARKS.drop_free_memory(need_system()?);
    Ok(())
}

/// Is memory short, in a cgroup that this process is in or on the machine; or would it be if all free memory were taken back that is
/// [offered](Mark::Offered); or was that so within the last ten seconds? As the reclaimer has read it: a load, and a look at the clock.
/// While nothing is marked that is in memory nobody reads, and nothing is known.
#[inline]
pub fn is_short() -> bool {
    SHORTAGE.is_felt()
}

/// As [`unmark`], and calls `lost` with the number of each lost page, counted from `start`, in no particular order. `lost`
/// must not use the functions of this module.
///
/// # Safety
/// As for [`unmark`].
///
/// # Errors
/// As for [`unmark`].
#[inline]
pub unsafe fn unmark_each(start: *mut u8, bytes: usize, mut lost: impl FnMut(usize)) -> Result<(), Error> {
    let Some(span) = span(start, bytes)? else { return Ok(()) };
    // SAFETY: passed on from the caller.
    let unmarked = unsafe { MARKS.unmark(span, system, &mut lost) };
    runtime::after_unmark(span);
    unmarked.map_err(mark_error)
}

/// Hands the coldest marked pages of adopted memory to the kernel until `bytes` bytes in memory are offered, or nothing is
/// left. Returns how many. Their contents stay until memory is short. Costs about what `madvise(MADV_FREE)` does. This
/// is the one function of the module that allocates.
///
/// # Errors
/// [`ErrorKind::Unsupported`].
pub fn offer(bytes: u64) -> Result<u64, Error> {
    MARKS.enter();
    let pool = MarkedMemory { marks: &MARKS, system: need_system()? };
    Ok(selection::offer_coldest(&mut Picks::new(), &[&pool], bytes).bytes)
}

/// Drops marked pages now. They stay marked, and the unmark tells what was lost. Of memory that is not adopted, pages that
/// were written to since the mark stay. Returns the bytes of adopted memory that were dropped.
///
/// # Safety
/// As for [`mark`].
///
/// # Errors
/// [`ErrorKind::InvalidRange`], [`ErrorKind::Unsupported`].
pub unsafe fn purge(start: *mut u8, bytes: usize) -> Result<usize, Error> {
    let Some(span) = span(start, bytes)? else { return Ok(0) };
    Ok(MARKS.purge(span, need_system()?) * PAGE_BYTES)
}

/// What is known of the marks on each page: calls `visit` with the number of each, counted from `start`. No system call;
/// says nothing of what the kernel has taken.
///
/// # Errors
/// [`ErrorKind::InvalidRange`].
pub fn query(start: *mut u8, bytes: usize, visit: impl FnMut(usize, Mark)) -> Result<(), Error> {
    if let Some(span) = span(start, bytes)? {
        MARKS.query(span, visit);
    }
    Ok(())
}

/// How many pages of the range are marked. Some twenty loads for each 4 MiB; no system call.
///
/// # Errors
/// [`ErrorKind::InvalidRange`].
#[inline]
pub fn count_marked(start: *mut u8, bytes: usize) -> Result<usize, Error> {
    Ok(span(start, bytes)?.map_or(0, |span| MARKS.count_marked(span)))
}

/// Counts: see [`RawStats`]. O(4 MiB blocks in which something is marked); no system call.
pub fn stats() -> RawStats {
    let sums = MARKS.sums();
    let totals = MARKS.counters.totals();
    RawStats {
        marked: Pages::new(sums.fresh),
        offered_now: Pages::new(sums.offered),
        settled: Pages::new(sums.settled),
        offered: totals.offered,
        rescued: totals.rescued,
        lost: totals.lost,
        released: totals.released,
    }
}
