//! Marks on memory of which we know nothing but that it is there now. It may be unmapped at any time without our hearing of
//! it, and may be protected against reading or writing. So pages are offered with the mark and not later, and are looked at
//! only through the kernel, which reports what would otherwise be a fault.

use std::ops::Range;

use rustix::io::Errno;
use vrange_os::linux::{close_to_merging, look_into, make_dirty, page_out};
use vrange_os::{OsError, PAGE_BYTES, Residency, Span, System};

use super::address_map::{BLOCK_BYTES, Place, pieces};
use super::engine::{Marks, memory_of};
use super::page_set::Pages;
use super::unmark::Found;
use crate::range::page_map::Page;
use crate::range::witness;

impl Marks {
    /// Notes what the pages of `span` hold, and offers them.
    ///
    /// # Safety
    /// The owner of the pages agrees that their contents may go, and nobody stores to them meanwhile.
    ///
    /// # Errors
    /// What the kernel said: ENOMEM where a part is not mapped (the rest is marked), EINVAL where a part is not private
    /// anonymous memory or is locked (nothing behind it is marked).
    pub(crate) unsafe fn mark_at_once(&self, span: Span, system: &dyn System) -> Result<(), OsError> {
        let mut outcome = Ok(());
        for (number, pages) in pieces(span) {
            let part = Span::new(number * BLOCK_BYTES + pages.start * PAGE_BYTES, pages.len());
            // Pages that KSM shares would take others along.
            close_to_merging(part)?;
            let place = self.map.get_or_make(number, system);
            let offered = match place {
                // SAFETY: passed on from the caller.
                Some(place) => unsafe { self.mark_block(&place, pages, system) },
                // SAFETY: passed on from the caller. Without a place for notes, losses are not told of.
                None => unsafe { offer(system, part) },
            };
            match offered {
                Err(error) if error.errno() != Errno::NOMEM => return Err(error),
                other => outcome = outcome.and(other),
            }
        }
        outcome
    }

    /// # Safety
    /// As for [`mark_at_once`](Self::mark_at_once).
    unsafe fn mark_block(
        &self,
        place: &Place<'_>,
        pages: Range<usize>,
        system: &dyn System,
    ) -> Result<(), OsError> {
        let block = place.block();
        let held = block.hold();
        place.set_used();
        // What was marked before, and is not used since, keeps its notes.
        let known = block.marked.among(pages.clone()).and(&block.offered.all().or(&block.settled.all()));
        let new = Pages::of(pages.clone()).without(&known);
        let noted = note_through_kernel(place, &new, system)?;
        block.marked.insert(pages.clone());
        for run in new.without(&noted.absent).runs(usize::MAX) {
            block.offered.insert(run);
        }
        noted.absent.runs(usize::MAX).for_each(|run| block.settled.insert(run));
        let part = Span::new(place.address() + pages.start * PAGE_BYTES, pages.len());
        // SAFETY: passed on from the caller.
        let offered = unsafe { offer(system, part) };
        if offered.is_err_and(|error| error.errno() != Errno::NOMEM) {
            let mut ignored = Found { first: 0, intact: 0, lost: 0, tell: &mut |_| () };
            let taken_back = take_back(place, &new, system, &mut ignored);
            held.forget_marks(pages);
            return offered.and(taken_back);
        }
        self.counters.offered(noted.resident);
        offered
    }

    /// Drops marked pages now: see [`release_among`](Marks::release_among). Of memory that is not adopted, those that were
    /// not written to since the mark.
    pub(crate) fn purge(&self, span: Span, system: &dyn System) -> usize {
        let mut pages_dropped = 0;
        self.enter();
        self.each_marked(span, |place, pages| {
            pages_dropped += self.release_among(system, &place, pages.clone());
            let block = place.block();
            let others = block.marked.among(pages).and(&block.offered.all()).without(&place.adopted());
            for run in others.runs(usize::MAX) {
                // Pages that were offered and are clean go; whatever else is there now stays.
                let _ = page_out(memory_of(&place).span().slice(run.start, run.len()));
            }
        });
        pages_dropped
    }
}

/// Makes pages that are in memory dirty, so that they stay.
///
/// # Errors
/// What the kernel said; `ENOSYS` where it cannot.
pub(crate) fn keep_what_is_there(span: Span, system: &dyn System) -> Result<(), OsError> {
    let mut outcome = Ok(());
    system.residency(span, false, &mut |run, residency| {
        if residency != Residency::Swapped {
            outcome = outcome.and(make_dirty(span.slice(run.start, run.len())));
        }
    })?;
    outcome
}

/// # Safety
/// As for [`Marks::mark_at_once`].
unsafe fn offer(system: &dyn System, span: Span) -> Result<(), OsError> {
    // SAFETY: passed on from the caller; the kernel refuses what is not private anonymous memory.
    unsafe { system.offer(&[span]) }.stopped_by.map_or(Ok(()), Err)
}

struct Noted {
    /// Pages in memory.
    resident: usize,
    /// Pages of which nothing can be lost.
    absent: Pages,
}

/// Notes what pages hold without touching them.
fn note_through_kernel(place: &Place<'_>, new: &Pages, system: &dyn System) -> Result<Noted, OsError> {
    let (memory, notes) = (memory_of(place), place.block().notes());
    let mut noted = Noted { resident: 0, absent: *new };
    for run in new.runs(usize::MAX) {
        let span = memory.span().slice(run.start, run.len());
        system.residency(span, false, &mut |found, residency| {
            let found = run.start + found.start..run.start + found.end;
            noted.absent = noted.absent.without(&Pages::of(found.clone()));
            for page in found {
                noted.resident += usize::from(residency != Residency::Swapped);
                let has_contents =
                    residency == Residency::Swapped || has_contents(memory.span().slice(page, 1));
                notes.set_beside_others(page, if has_contents { Page::Witnessed } else { Page::Blank });
            }
        })?;
    }
    noted.absent.runs(usize::MAX).flatten().for_each(|page| notes.set_beside_others(page, Page::Absent));
    Ok(noted)
}

/// Is any byte of the page not zero? So it seems too, where the kernel does not let it be read.
fn has_contents(page: Span) -> bool {
    let mut bytes = [0u8; PAGE_BYTES];
    let (first, rest) = bytes.split_at_mut(64);
    look_into(page.address(), first).is_err()
        || first.iter().any(|byte| *byte != 0)
        || look_into(page.address() + first.len(), rest).is_err()
        || rest.iter().any(|byte| *byte != 0)
}

/// Takes offered pages of a held block back. What cannot be made dirty stays marked.
///
/// # Errors
/// Pages are still there that cannot be written to.
pub(super) fn take_back(
    place: &Place<'_>,
    offered: &Pages,
    system: &dyn System,
    found: &mut Found<'_>,
) -> Result<(), OsError> {
    let (memory, notes) = (memory_of(place), place.block().notes());
    let mut there = Pages::NONE;
    let mut outcome = Ok(());
    for run in offered.runs(usize::MAX) {
        let span = memory.span().slice(run.start, run.len());
        system.residency(span, false, &mut |pages, _| {
            there.insert(run.start + pages.start..run.start + pages.end);
        })?;
    }
    for run in offered.and(&there).runs(usize::MAX) {
        outcome = outcome.and(match make_dirty(memory.span().slice(run.start, run.len())) {
            // An old kernel: by stores of our own, which are faults if the memory cannot be written to.
            Err(error) if error.errno() == Errno::NOSYS => {
                run.for_each(|page| {
                    // SAFETY: the program unmarks memory that it has, and that is in memory.
                    unsafe { witness::take_back(memory, page, notes.get(page)) };
                });
                Ok(())
            }
            other => other,
        });
    }
    for page in offered.runs(usize::MAX).flatten() {
        if notes.get(page) == Page::Witnessed {
            if there.contains(page) && has_contents(memory.span().slice(page, 1)) {
                found.intact += 1;
            } else {
                found.lose(page);
            }
        }
    }
    outcome
}
