//! The end of marks: what was offered is taken back, and what was lost is told.

use std::ops::Range;

use vrange_os::{OsError, PAGE_BYTES, Span, System};

use super::address_map::Place;
use super::engine::{Marks, memory_of};
use super::page_set::Pages;
use crate::range::page_map::Page;
use crate::range::witness::{Fate, prefetched, take_back};

/// What was found of pages that were taken back.
pub(super) struct Found<'a> {
    /// Number of the block's first page, counted from that of the whole request.
    pub(super) first: isize,
    pub(super) intact: usize,
    pub(super) lost: usize,
    pub(super) tell: &'a mut dyn FnMut(usize),
}

impl Found<'_> {
    /// A page of the block was lost.
    pub(super) fn lose(&mut self, page: usize) {
        self.lost += 1;
        (self.tell)(page.wrapping_add_signed(self.first));
    }
}

impl Marks {
    /// Ends the marks on pages, and calls `lost` with the number of each page that was lost, in ascending order. Afterwards
    /// the pages stay as they are. Pages that are not marked are passed over.
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
            let held = place.block().hold();
            let (offered, settled) = (&place.block().offered, &place.block().settled);
            if offered.has_any(pages.clone()) || settled.has_any(pages.clone()) {
                // SAFETY: passed on from the caller; the block is held, so its notes stay.
                let found = unsafe { self.take_back(&place, pages.clone(), span, &system, lost) };
                if found.is_err() {
                    outcome = outcome.and(found);
                    return;
                }
            }
            held.forget_marks(pages);
        });
        outcome
    }

    /// Takes back the pages of one block that were offered.
    ///
    /// # Safety
    /// As for [`unmark`](Self::unmark), and the block is held.
    #[cold]
    unsafe fn take_back(
        &self,
        place: &Place<'_>,
        pages: Range<usize>,
        span: Span,
        system: &dyn Fn() -> Option<&'static dyn System>,
        tell: &mut dyn FnMut(usize),
    ) -> Result<(), OsError> {
        let block = place.block();
        let first =
            (place.address() / PAGE_BYTES).cast_signed() - (span.address() / PAGE_BYTES).cast_signed();
        let mut found = Found { first, intact: 0, lost: 0, tell };
        let marked = block.marked.among(pages.clone());
        let settled = marked.and(&block.settled.among(pages.clone()));
        let offered = marked.and(&block.offered.among(pages.clone()));
        let adopted = place.adopted();
        let others = offered.without(&adopted);
        // Pages that are not adopted are all settled or offered, and few blocks have both kinds.
        let outcome = match system() {
            Some(system) if !others.is_empty() => {
                super::at_once::take_back(place, &others, system, &mut found)
            }
            _ => Ok(()),
        };
        // SAFETY: passed on from the caller.
        unsafe { take_back_adopted(place, &offered.and(&adopted), &settled, pages, &mut found) };
        self.counters.rescued(found.intact);
        self.counters.lost(found.lost);
        outcome
    }
}

/// Takes back adopted pages, and tells of settled ones that were lost.
///
/// # Safety
/// As for [`Marks::unmark`], and the block is held.
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
                found.lose(page);
            }
        } else if offered.contains(page) {
            // SAFETY: adopted memory is readable and writable; nobody stores to it but the owner of the page, who is the
            // caller.
            match unsafe { take_back(memory, page, notes.get(page)) } {
                Fate::Intact => found.intact += 1,
                Fate::Lost => found.lose(page),
                Fate::NothingToLose => {}
            }
        }
    }
}
