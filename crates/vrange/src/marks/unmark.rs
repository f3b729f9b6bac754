//! The end of marks: what was offered is taken back, and what was lost is told.

use std::ops::Range;

use vrange_os::linux::release_unlocked;
use vrange_os::{OsError, PAGE_BYTES, Span, System};

use super::address_map::Place;
use super::engine::{Marks, memory_of};
use super::offers::present;
use super::page_set::{BLOCK_PAGES, Pages};
use crate::range::page_map::Page;
use crate::range::witness::{Fate, prefetched, take_back};

/// What was found of pages that were taken back.
pub(super) struct Found<'a> {
    pub(super) intact: usize,
    /// Found lost now.
    pub(super) lost: usize,
    /// Pages that could not be taken back: the kernel may still take them.
    pub(super) kept: Pages,
    pub(super) tell: &'a mut dyn FnMut(usize),
}

impl<'a> Found<'a> {
    /// Nothing yet; `tell` will be called with the number in its block of each lost page.
    pub(super) fn new(tell: &'a mut dyn FnMut(usize)) -> Self {
        Self { intact: 0, lost: 0, kept: Pages::NONE, tell }
    }

    /// A page of the block was lost.
    pub(super) fn lose(&mut self, page: usize) {
        self.lost += 1;
        (self.tell)(page);
    }
}

impl Marks {
    /// Ends the marks on pages, and calls `lost` with the number of each page that was lost, counted from the span's first.
    /// Afterwards the pages stay as they are. Pages that are not marked are passed over.
    ///
    /// # Safety
    /// Adopted pages are readable and writable, and nobody stores to the pages meanwhile.
    ///
    /// # Errors
    /// Memory that is not adopted could not be written to: those pages stay marked, and may be lost later.
    #[inline]
    pub(crate) unsafe fn unmark(
        &self,
        span: Span,
        system: impl Fn() -> Option<&'static dyn System>,
        lost: &mut dyn FnMut(usize),
    ) -> Result<(), OsError> {
        self.enter();
        let mut outcome = Ok(());
        self.each_marked(span, |place, pages| {
            let block = place.block();
            let held = place.hold();
            if self.policy.limit_pages().is_some() && block.is_free_memory() {
                let marked = block.marked.among(pages.clone()).and(&place.adopted());
                self.policy.unmarked(marked.without(&block.settled.among(pages.clone())).count());
            }
            if block.offered.has_any(pages.clone()) || block.settled.has_any(pages.clone()) {
                block.in_memory.remove(pages.clone());
                let first = (place.address() / PAGE_BYTES).cast_signed()
                    - (span.address() / PAGE_BYTES).cast_signed();
                let mut tell = |page: usize| lost(page.wrapping_add_signed(first));
                let mut found = Found::new(&mut tell);
                // SAFETY: passed on from the caller; the block is held, so its notes stay.
                let taken =
                    unsafe { self.take_back(&place, pages.clone(), &place.adopted(), &system, &mut found) };
                outcome = outcome.and(taken);
                let kept = found.kept;
                if !kept.is_empty() {
                    let ended = Pages::of(pages).without(&kept);
                    ended.runs(usize::MAX).for_each(|run| held.forget_marks(run));
                    return;
                }
            }
            held.forget_marks(pages);
        });
        outcome
    }

    /// Drops free memory that is marked and has not gone yet, and ends its marks. What the kernel refuses to drop, and all
    /// else that is marked, stays marked. Returns how many pages are not marked any more; they read as zeros.
    ///
    /// # Safety
    /// Nobody uses the adopted pages among them meanwhile.
    pub(crate) unsafe fn unmark_dropped(&self, span: Span, system: &dyn System) -> usize {
        self.enter();
        let mut pages_dropped = 0;
        self.each_marked(span, |place, pages| {
            let _held = place.hold();
            // SAFETY: passed on from the caller; the block is held, so the reclaimer does nothing to the pages.
            pages_dropped += unsafe { self.drop_marked(&place, pages, system) };
        });
        pages_dropped
    }

    /// Drops all free memory that is marked, and ends its marks. What the kernel refuses to drop stays marked. Waits for whoever holds a block.
    pub(crate) fn drop_free_memory(&self, system: &dyn System) {
        self.enter();
        self.map.each_used(|place| {
            let _claimed = place.claim();
            // SAFETY: marked free memory, which nobody uses or wants back as it is; the block is claimed, so nobody takes it meanwhile.
            unsafe { self.drop_marked(&place, 0..BLOCK_PAGES, system) };
        });
    }

    /// Drops the free memory among pages of a block that is held or claimed, as far as the kernel does, and ends its marks. Returns how
    /// many pages are not marked any more.
    ///
    /// # Safety
    /// Nobody uses the adopted pages among them.
    unsafe fn drop_marked(&self, place: &Place<'_>, pages: Range<usize>, system: &dyn System) -> usize {
        let block = place.block();
        let mut pages_dropped = 0;
        if !block.is_free_memory() {
            return pages_dropped;
        }
        let marked = block.marked.among(pages.clone()).and(&place.adopted());
        for run in marked.without(&block.settled.among(pages)).runs(usize::MAX) {
            // A child that is forked in between has marks on pages that are empty, of which nobody is told.
            // SAFETY: passed on from the caller.
            if !unsafe { self.drop_free(place, run.clone(), system) } {
                break;
            }
            if self.policy.limit_pages().is_some() {
                self.policy.unmarked(run.len());
            }
            block.in_memory.remove(run.clone());
            pages_dropped += run.len();
            block.forget_marks(run);
        }
        pages_dropped
    }

    /// Drops a run of marked pages in a block that is held or claimed, and counts them. Returns whether the kernel did.
    ///
    /// # Safety
    /// Nobody uses the pages, which are adopted, or wants their contents.
    unsafe fn drop_free(&self, place: &Place<'_>, run: Range<usize>, system: &dyn System) -> bool {
        let block = place.block();
        let span = memory_of(place).span();
        let present = present(system, span, run.clone()).unwrap_or(Pages::ALL);
        // SAFETY: passed on from the caller.
        if unsafe { release_unlocked(span.slice(run.start, run.len())) }.is_err() {
            return false;
        }
        let taken = block.offered.among(run.clone()).without(&present).runs(usize::MAX).flatten();
        self.counters.lost(taken.filter(|page| block.notes().get(*page) == Page::Witnessed).count());
        self.counters.released(Pages::of(run).and(&present).count());
        true
    }

    /// Pages are adopted no longer: their marks end, and what was offered is taken back. Those that are found lost stay marked,
    /// and so are told of by the next unmark. When this returns nothing is in progress on them.
    ///
    /// # Safety
    /// As for [`unmark`](Self::unmark).
    ///
    /// # Errors
    /// As for [`unmark`](Self::unmark).
    pub(crate) unsafe fn abandon(
        &self,
        span: Span,
        system: impl Fn() -> Option<&'static dyn System>,
    ) -> Result<(), OsError> {
        self.enter();
        let mut outcome = Ok(());
        self.each_noted(span, |place, pages| {
            let adopted = place.adopted();
            place.abandon(pages.clone());
            let block = place.block();
            block.in_memory.remove(pages.clone());
            let mut lost = Pages::NONE;
            let mut tell = |page: usize| lost.insert(page..page + 1);
            let mut found = Found::new(&mut tell);
            // SAFETY: passed on from the caller; the block is claimed. What was adopted until now is still as it was.
            let taken = unsafe { self.take_back(place, pages.clone(), &adopted, &system, &mut found) };
            outcome = outcome.and(taken);
            let kept = found.kept;
            let ended = Pages::of(pages).without(&lost).without(&kept);
            ended.runs(usize::MAX).for_each(|run| block.forget_marks(run));
            lost.runs(usize::MAX).for_each(|run| block.settle_lost(run));
        });
        outcome
    }

    /// Notes that pages were lost, for the next unmark to tell. Without memory for the note nothing is told.
    pub(crate) fn set_lost(&self, span: Span, system: &dyn System) {
        self.enter();
        self.map.make_leaves(span, system);
        self.map.each_known(span, |place, pages| {
            let _claimed = place.claim();
            place.set_used();
            place.block().settle_lost(pages);
        });
    }

    /// Takes back those pages of one block that were offered, and tells of those that are lost.
    ///
    /// # Safety
    /// As for [`unmark`](Self::unmark), with `adopted` for adopted, and the block is held or claimed.
    #[cold]
    unsafe fn take_back(
        &self,
        place: &Place<'_>,
        pages: Range<usize>,
        adopted: &Pages,
        system: &dyn Fn() -> Option<&'static dyn System>,
        found: &mut Found<'_>,
    ) -> Result<(), OsError> {
        let block = place.block();
        let marked = block.marked.among(pages.clone());
        let settled = marked.and(&block.settled.among(pages.clone()));
        let offered = marked.and(&block.offered.among(pages.clone())).without(&settled);
        let others = offered.without(adopted);
        // Pages that are not adopted are all settled or offered, and few blocks have both kinds.
        let outcome = match system() {
            Some(system) if !others.is_empty() => super::at_once::take_back(place, &others, system, found),
            _ => Ok(()),
        };
        // SAFETY: passed on from the caller.
        unsafe { take_back_adopted(place, &offered.and(adopted), &settled, pages, found) };
        self.counters.rescued(found.intact);
        self.counters.lost(found.lost);
        outcome
    }
}

/// Takes back adopted pages, and tells of settled ones that were lost.
///
/// # Safety
/// As for [`Marks::unmark`], and the block is held or claimed.
unsafe fn take_back_adopted(
    place: &Place<'_>,
    offered: &Pages,
    settled: &Pages,
    pages: Range<usize>,
    found: &mut Found<'_>,
) {
    let (memory, notes) = (memory_of(place), place.block().notes());
    for page in prefetched(memory, pages) {
        if settled.contains(page) {
            if notes.get(page) == Page::Lost {
                (found.tell)(page);
            }
        } else if offered.contains(page) {
            let note = notes.get(page);
            // SAFETY: adopted memory is readable and writable; nobody stores to it but the owner of the page, who is the
            // caller.
            match unsafe { take_back(memory, page, note) } {
                Fate::Intact => found.intact += 1,
                // Whoever has found that out has counted it.
                Fate::Lost if note == Page::Lost => (found.tell)(page),
                Fate::Lost => found.lose(page),
                Fate::NothingToLose => {}
            }
        }
    }
}
