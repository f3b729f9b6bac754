//! Marks on memory of which we know nothing but that it is there now. It may be unmapped at any time without our hearing of
//! it, and may be protected against reading or writing. So pages are offered with the mark and not later, and are looked at
//! only through the kernel, which reports what would otherwise be a fault.

use std::ops::Range;

use rustix::io::Errno;
use vrange_os::linux::{close_to_merging, look_into, make_dirty, page_out};
use vrange_os::{OsError, PAGE_BYTES, Residency, Span, System};

use super::address_map::{AddressMap, Place, leaf_parts};
use super::engine::{Marks, memory_of};
use super::page_set::Pages;
use super::unmark::Found;
use crate::inner::Inner;
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
    /// anonymous memory or is locked (nothing behind it is marked). EAGAIN: there is no memory for the notes.
    pub(crate) unsafe fn mark_at_once(&self, span: Span, system: &dyn System) -> Result<(), OsError> {
        let mut outcome = Ok(());
        for part in leaf_parts(span) {
            if !AddressMap::reaches(part) {
                // More than there can be, and perhaps more than there is time to look at.
                outcome = outcome.and(Err(OsError::new("madvise(MADV_FREE)", Errno::NOMEM)));
                continue;
            }
            // Nothing has to be noted of what is not there.
            let offered = if self.map.has_leaf(part) || is_anything_there(part, system)? {
                // SAFETY: passed on from the caller.
                unsafe { self.mark_part(part, system) }
            } else {
                // SAFETY: as above.
                unsafe { offer(system, part) }
            };
            match offered {
                Err(error) if error.errno() != Errno::NOMEM => return Err(error),
                other => outcome = outcome.and(other),
            }
        }
        outcome
    }

    /// As [`mark_at_once`](Self::mark_at_once), for pages of one leaf.
    ///
    /// # Safety
    /// As there.
    unsafe fn mark_part(&self, part: Span, system: &dyn System) -> Result<(), OsError> {
        if !self.map.make_leaves(part, system) {
            // Offered and not noted, they could be lost after their unmark.
            return Err(OsError::new("mmap", Errno::AGAIN));
        }
        let mut outcome = Ok(());
        let mut is_over = false;
        self.map.each_known(part, |place, pages| {
            if !is_over {
                // SAFETY: passed on from the caller.
                let offered = unsafe { self.mark_block(&place, pages, system) };
                is_over = offered.is_err_and(|error| error.errno() != Errno::NOMEM);
                outcome = if is_over { offered } else { outcome.and(offered) };
            }
        });
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
        let span = memory_of(place).span().slice(pages.start, pages.len());
        // Pages that KSM shares would take others along.
        close_to_merging(span)?;
        let block = place.block();
        let held = place.hold();
        place.set_used();
        // What is adopted the reclaimer may release, so it has to know what it is, and how old.
        let has_adopted = place.has_adopted(pages.clone());
        if has_adopted {
            block.hold_data();
        }
        let marked_before = block.marked.among(pages.clone());
        // What is not there now keeps its note: it may have gone since an earlier mark. What is there is looked at again: it may
        // be other memory than was there then.
        let known = marked_before.and(&block.offered.all().or(&block.settled.all()));
        let noted = note_through_kernel(place, pages.clone(), &known, system)?;
        block.marked.insert(pages.clone());
        noted.there.runs(usize::MAX).for_each(|run| {
            block.offered.insert(run.clone());
            block.settled.remove(run);
        });
        let absent = Pages::of(pages.clone()).without(&noted.there).without(&known);
        absent.runs(usize::MAX).for_each(|run| block.settled.insert(run));
        // SAFETY: passed on from the caller.
        let offered = unsafe { offer(system, span) };
        if let Err(error) = offered
            && error.errno() != Errno::NOMEM
        {
            let before = Before {
                new: Pages::of(pages.clone()).without(&marked_before),
                fresh: marked_before.without(&known),
            };
            // Memory is short, and the kernel was not even asked.
            let pages = if error.errno() == Errno::AGAIN { 0..0 } else { pages };
            // SAFETY: passed on from the caller.
            let reached = unsafe { reached_by_refused(place, pages, system) }.and(&noted.there);
            self.take_back_refused(place, &before, &reached, system);
            drop(held);
            return offered;
        }
        self.counters.offered(noted.resident);
        if has_adopted {
            held.mark(pages, Inner::now());
        }
        offered
    }

    /// The kernel has refused to be offered some of the pages of a held block, and may have taken those that it has `reached`. They are
    /// taken back, and new marks end. What is lost, or cannot be taken back, stays marked, so that an unmark tells of it.
    ///
    /// Pages that were marked before are taken back, too, and stay marked: that mark may have been one of memory that was unmapped
    /// unseen, and nobody will unmark what the program knows to be refused.
    fn take_back_refused(&self, place: &Place<'_>, before: &Before, reached: &Pages, system: &dyn System) {
        let block = place.block();
        let mut lost = Pages::NONE;
        let mut note_lost = |page: usize| lost.insert(page..page + 1);
        let mut found = Found::new(&mut note_lost);
        // Whatever fails here is told by `kept`.
        let _ = take_back(place, reached, system, &mut found);
        self.counters.lost(found.lost);
        let is_back = |pages: &Pages| pages.without(&found.kept).without(&lost);
        // What was only marked before is no more than that again, for the reclaimer to offer.
        is_back(&before.fresh).runs(usize::MAX).for_each(|run| block.offered.remove(run));
        let ended = is_back(&before.new);
        ended.runs(usize::MAX).for_each(|run| block.forget_marks(run));
        for page in lost.runs(usize::MAX).flatten() {
            block.notes().set_beside_others(page, Page::Lost);
            block.settled.insert(page..page + 1);
            block.offered.remove(page..page + 1);
        }
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
    // Those on swap, too: a page that is being moved in memory looks the same.
    system.residency(span, false, &mut |run, _| {
        outcome = outcome.and(make_dirty(span.slice(run.start, run.len())));
    })?;
    outcome
}

fn is_anything_there(part: Span, system: &dyn System) -> Result<bool, OsError> {
    let mut found = false;
    match system.residency(part, false, &mut |_, _| found = true) {
        // Beyond the end of this process's address space, where there is nothing.
        Err(error) if error.errno() == Errno::FAULT => Ok(found),
        looked => looked.map(|()| found),
    }
}

/// # Safety
/// As for [`Marks::mark_at_once`].
unsafe fn offer(system: &dyn System, span: Span) -> Result<(), OsError> {
    // SAFETY: passed on from the caller; the kernel refuses what is not private anonymous memory.
    unsafe { system.offer(&[span]) }.stopped_by.map_or(Ok(()), Err)
}

/// Which of the pages that were to be offered with one call the kernel has offered, though it refused the call: it goes from page to page,
/// so those before the first that it refuses by itself. What lies behind is nobody's to touch: the pages of a file, say.
///
/// # Safety
/// As for [`Marks::mark_at_once`].
unsafe fn reached_by_refused(place: &Place<'_>, pages: Range<usize>, system: &dyn System) -> Pages {
    let is_passed = |page: &usize| {
        // SAFETY: passed on from the caller. What was offered is offered again, which changes nothing.
        let offered = unsafe { offer(system, memory_of(place).span().slice(*page, 1)) };
        offered.is_ok() || offered.is_err_and(|error| error.errno() == Errno::NOMEM)
    };
    let first = pages.start;
    Pages::of(first..first + pages.take_while(is_passed).count())
}

/// What pages were before a mark.
struct Before {
    /// Not marked.
    new: Pages,
    /// Marked and nothing else, as only those are that are adopted.
    fresh: Pages,
}

struct Noted {
    /// Pages in memory.
    resident: usize,
    /// Pages that hold something, in memory or on swap.
    there: Pages,
}

/// Notes what pages hold without touching them. Those that hold nothing, and of which nothing is `known`, are noted as absent.
fn note_through_kernel(
    place: &Place<'_>,
    pages: Range<usize>,
    known: &Pages,
    system: &dyn System,
) -> Result<Noted, OsError> {
    let (memory, notes) = (memory_of(place), place.block().notes());
    let mut noted = Noted { resident: 0, there: Pages::NONE };
    let mut outcome = Ok(());
    let span = memory.span().slice(pages.start, pages.len());
    witness::wait_for_migration(system, span);
    system.residency(span, false, &mut |found, residency| {
        for page in pages.start + found.start..pages.start + found.end {
            let is_swapped = residency == Residency::Swapped;
            noted.resident += usize::from(!is_swapped);
            match if is_swapped { Ok(true) } else { has_contents(memory.span().slice(page, 1)) } {
                Ok(has_contents) => {
                    // Zeros where there were contents at an earlier mark: those are lost, and are told of.
                    let is_lost =
                        known.contains(page) && matches!(notes.get(page), Page::Witnessed | Page::Lost);
                    if residency == Residency::Shared && !has_contents && !is_lost {
                        // The kernel's zero page, or zeros shared since a `fork`: nothing to lose, and a store gives the
                        // storer a page of its own. To take such a page back would make it one that can go to swap.
                        continue;
                    }
                    match (has_contents, is_lost) {
                        (true, _) => notes.set_beside_others(page, Page::Witnessed),
                        (false, true) => {}
                        (false, false) => notes.set_beside_others(page, Page::Blank),
                    }
                    noted.there.insert(page..page + 1);
                }
                Err(error) => outcome = Err(error),
            }
        }
    })?;
    outcome?;
    let absent = Pages::of(pages).without(&noted.there).without(known);
    absent.runs(usize::MAX).flatten().for_each(|page| notes.set_beside_others(page, Page::Absent));
    Ok(noted)
}

/// Is any byte of the page not zero? So it seems too, where the program itself could not read it.
///
/// # Errors
/// It cannot be told, for example because a seccomp filter forbids to look.
fn has_contents(page: Span) -> Result<bool, OsError> {
    let mut bytes = [0u8; PAGE_BYTES];
    let (first, rest) = bytes.split_at_mut(64);
    for (at, part) in [(0, first), (64, rest)] {
        match look_into(page.address() + at, part) {
            Err(error) if error.errno() == Errno::FAULT => return Ok(true),
            Err(error) => return Err(error),
            Ok(()) if part.iter().any(|byte| *byte != 0) => return Ok(true),
            Ok(()) => {}
        }
    }
    Ok(false)
}

/// Takes offered pages of a held or claimed block back. Those that cannot be made dirty are `kept`.
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
    for run in offered.runs(usize::MAX) {
        let span = memory.span().slice(run.start, run.len());
        let looked = system.residency(span, false, &mut |pages, _| {
            there.insert(run.start + pages.start..run.start + pages.end);
        });
        if looked.is_err() {
            found.kept = *offered;
            return looked;
        }
    }
    let mut outcome = Ok(());
    for run in offered.and(&there).runs(usize::MAX) {
        let all = keep(place, run.clone());
        if all.is_err() {
            // One by one, to find which.
            for page in run {
                let kept = keep(place, page..page + 1);
                if kept.is_err() {
                    found.kept.insert(page..page + 1);
                    outcome = outcome.and(kept);
                }
            }
        }
    }
    for page in offered.without(&found.kept).runs(usize::MAX).flatten() {
        // Contents that cannot be looked at any more cannot be vouched for.
        let is_intact =
            || there.contains(page) && has_contents(memory.span().slice(page, 1)).unwrap_or(false);
        match notes.get(page) {
            Page::Witnessed if is_intact() => found.intact += 1,
            Page::Witnessed => found.lose(page),
            // An earlier mark, or a thread of the parent, has found that out.
            Page::Lost => (found.tell)(page),
            Page::Absent | Page::Blank => {}
        }
    }
    outcome
}

/// Makes offered pages dirty that are in memory.
fn keep(place: &Place<'_>, run: Range<usize>) -> Result<(), OsError> {
    let memory = memory_of(place);
    match make_dirty(memory.span().slice(run.start, run.len())) {
        // A kernel before 5.14: by stores of our own, which are faults if the program has made the memory read-only or has
        // unmapped it, against what an unmark asks of it there.
        Err(error) if error.errno() == Errno::NOSYS => {
            run.for_each(|page| {
                // SAFETY: the program unmarks memory that it has, readable and writable.
                unsafe { witness::take_back(memory, page, place.block().notes().get(page)) };
            });
            Ok(())
        }
        other => other,
    }
}
