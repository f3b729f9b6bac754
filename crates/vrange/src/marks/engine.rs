//! The marks of a process, as programs and the reclaimer see them.

use std::ops::Range;

use rustix::io::Errno;
use vrange_os::process::Owner;
use vrange_os::{OsError, Span, System};

use super::address_map::{AddressMap, Piece, Place};
use super::block::Block;
use super::page_set::BLOCK_PAGES;
use super::policy::Policy;
use crate::range::Memory;
use crate::range::gate::Gate;
use crate::range::state::Generation;
use crate::stats::Counters;

/// The marks of this process.
pub(crate) static MARKS: Marks = Marks::new();

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Marks {
    pub(super) map: AddressMap,
    /// Entered for offers, closed by a fork: no page is offered as this process's own while a child comes to share it. Marks
    /// and unmarks do not wait for a fork: an allocator's handlers may wait for whoever makes them.
    pub(super) gate: Gate,
    pub(crate) counters: Counters,
    pub(crate) policy: Policy,
    /// The process that this copy belongs to.
    process: Owner,
}

/// What the marks add up to, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Marked, and nothing else.
    pub(crate) fresh: usize,
    /// The kernel may have taken them.
    pub(crate) offered: usize,
    /// Nothing of them is left.
    pub(crate) settled: usize,
}

/// What is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody would like to have it back.
    Data,
    /// Nobody wants the contents.
    FreeMemory,
}

/// What is known of a page of memory that this library did not map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// Not marked.
    None,
    /// Marked: the kernel cannot take it yet.
    Fresh,
    /// Marked: the kernel may have taken it.
    Offered,
    /// Marked: nothing of it is left to be taken.
    Settled,
}

impl Marks {
    pub(super) const fn new() -> Self {
        Self {
            map: AddressMap::new(),
            gate: Gate::new(),
            counters: Counters::new(),
            policy: Policy::new(),
            process: Owner::new_unowned(),
        }
    }

    /// In a child whose `clone` ran no handlers, what threads of the parent had begun is put right first.
    #[inline]
    pub(crate) fn enter(&self) {
        self.process.enter(|| self.recover_in_child());
    }

    /// From now on marks in `span` are deferred. What is noted of whatever lay there before is forgotten.
    pub(crate) fn adopt(&self, span: Span, system: &dyn System) {
        self.forget(span);
        self.map.adopt(span, system);
    }

    /// Are all pages of `span` adopted?
    pub(crate) fn is_adopted(&self, span: Span) -> bool {
        self.map.pieces(span).all(|piece| match piece {
            Piece::Block(place, pages) => place.is_adopted(pages),
            Piece::Unknown(_) => false,
        })
    }

    /// Calls `visit` with what is adopted, block by block.
    pub(crate) fn each_adopted(&self, mut visit: impl FnMut(Span)) {
        self.map.each_adopted(|place, pages| {
            visit(Span::new(place.address(), BLOCK_PAGES).slice(pages.start, pages.len()));
        });
    }

    /// Marks pages. Adopted ones: two exchanges and a store for each block, and `deferred` becomes true. Of others, `offer_now`
    /// is asked to offer them.
    ///
    /// # Errors
    /// Those of `offer_now`. One with ENOMEM is returned at the end, others at once.
    #[inline]
    pub(crate) fn mark(
        &self,
        span: Span,
        kind: Kind,
        now: Generation,
        deferred: &mut bool,
        mut offer_now: impl FnMut(&Self, Span) -> Result<(), OsError>,
    ) -> Result<(), OsError> {
        self.enter();
        let mut outcome = Ok(());
        // Neighbours that are not adopted go together: these pages of the span.
        let mut others = 0..0;
        for piece in self.map.pieces(span) {
            let pages = match &piece {
                Piece::Block(_, pages) => pages.len(),
                Piece::Unknown(part) => part.pages(),
            };
            let end = others.end + pages;
            if let Piece::Block(place, pages) = piece
                && place.is_adopted(pages.clone())
            {
                // Those before it come first, since nothing is marked behind what is refused.
                outcome = outcome.and(self.offer_others(span, others.clone(), &mut offer_now)?);
                others.start = others.end;
                if self.mark_adopted(&place, pages, kind, now) {
                    *deferred = true;
                    others.start = end;
                }
            }
            others.end = end;
        }
        outcome.and(self.offer_others(span, others, &mut offer_now)?)
    }

    /// Marks pages that are adopted, as it seems. Returns whether they still were.
    #[inline]
    fn mark_adopted(&self, place: &Place<'_>, pages: Range<usize>, kind: Kind, now: Generation) -> bool {
        if pages.end == BLOCK_PAGES {
            // The mark may go on.
            place.prefetch_ahead();
        }
        let held = place.hold();
        // They may have been abandoned before the block was held, and cannot be as long as it is.
        if !place.is_adopted(pages.clone()) {
            return false;
        }
        place.set_used();
        if kind == Kind::Data {
            place.block().hold_data();
        } else if self.policy.limit_pages().is_some() && place.block().is_free_memory() {
            self.policy.marked(pages.len() - place.block().marked.among(pages.clone()).count());
        }
        held.mark(pages, now);
        true
    }

    /// The outer error ends the whole, the inner one does not.
    #[inline]
    fn offer_others(
        &self,
        span: Span,
        pages: Range<usize>,
        offer_now: &mut impl FnMut(&Self, Span) -> Result<(), OsError>,
    ) -> Result<Result<(), OsError>, OsError> {
        if pages.is_empty() {
            return Ok(Ok(()));
        }
        match offer_now(self, span.slice(pages.start, pages.len())) {
            Err(error) if error.errno() != Errno::NOMEM => Err(error),
            outcome => Ok(outcome),
        }
    }

    /// Forgets marks without taking anything back, and that pages were adopted: the memory is about to go, or has just been
    /// made. When this returns nothing is in progress on it.
    pub(crate) fn forget(&self, span: Span) {
        self.enter();
        self.each_noted(span, |place, pages| {
            place.abandon(pages.clone());
            place.block().in_memory.remove(pages.clone());
            place.block().forget_marks(pages);
        });
    }

    /// Claims each block in which a page of `span` is adopted or marked, and calls `change` with it. Of other pages there is nothing to change,
    /// and nobody is doing anything to them: marks go last. So a call for them does not wait for who holds the block, and may be stopped.
    pub(super) fn each_noted<'a>(&'a self, span: Span, mut change: impl FnMut(&Place<'a>, Range<usize>)) {
        self.map.each_known(span, |place, pages| {
            let has_marks = place.is_used() && place.block().marked.has_any(pages.clone());
            if has_marks || place.has_adopted(pages.clone()) {
                let _claimed = place.claim();
                change(&place, pages);
            }
        });
    }

    /// Calls `visit` with each part of `span` whose block may have marks.
    #[inline]
    pub(super) fn each_marked<'a>(&'a self, span: Span, mut visit: impl FnMut(Place<'a>, Range<usize>)) {
        self.map.each_known(span, |place, pages| {
            if place.is_used() {
                visit(place, pages);
            }
        });
    }

    /// What is known of each page of `span`, in order. Says nothing of what the kernel has taken.
    pub(crate) fn query(&self, span: Span, mut visit: impl FnMut(usize, Mark)) {
        self.enter();
        let mut next = 0;
        for piece in self.map.pieces(span) {
            match piece {
                Piece::Block(place, pages) => {
                    let count = pages.len();
                    pages.zip(next..).for_each(|(page, number)| visit(number, mark_of(place.block(), page)));
                    next += count;
                }
                Piece::Unknown(part) => {
                    (next..next + part.pages()).for_each(|number| visit(number, Mark::None));
                    next += part.pages();
                }
            }
        }
    }

    /// Calls `visit` with runs of pages of `span`, in order, and whether they were noted to be [in memory](Block::in_memory).
    pub(crate) fn each_in_memory(&self, span: Span, mut visit: impl FnMut(Range<usize>, bool)) {
        let mut next = 0;
        for piece in self.map.pieces(span) {
            match piece {
                Piece::Block(place, pages) => {
                    let mut from = pages.start;
                    let mut tell = |to: usize, known: bool| {
                        if from < to {
                            visit(next + from - pages.start..next + to - pages.start, known);
                            from = to;
                        }
                    };
                    for run in place.block().in_memory.among(pages.clone()).runs(BLOCK_PAGES) {
                        tell(run.start, false);
                        tell(run.end, true);
                    }
                    tell(pages.end, false);
                    next += pages.len();
                }
                Piece::Unknown(part) => {
                    visit(next..next + part.pages(), false);
                    next += part.pages();
                }
            }
        }
    }

    /// The owner of these pages, which are not marked, has written to each of them.
    pub(crate) fn note_in_memory(&self, span: Span) {
        self.map.each_known(span, |place, pages| place.block().in_memory.insert(pages));
    }

    /// How many pages of `span` are marked.
    #[inline]
    pub(crate) fn count_marked(&self, span: Span) -> usize {
        self.enter();
        let mut count = 0;
        self.each_marked(span, |place, pages| count += place.block().marked.among(pages).count());
        count
    }

    /// Counts pages. O(blocks in use).
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.map.each_used(|place| {
            let block = place.block();
            let marked = block.marked.all();
            sums.fresh += block.fresh().count();
            sums.offered += marked.and(&block.offered.all()).count();
            sums.settled += marked.and(&block.settled.all()).count();
        });
        sums
    }

    /// Until [`open`](Self::open) nothing is offered: a `fork` is about to happen.
    pub(crate) fn close_for_fork(&self) {
        self.enter();
        self.gate.close();
    }

    /// See [`close_for_fork`](Self::close_for_fork).
    pub(crate) fn open(&self) {
        self.gate.open();
    }

    /// In a child made by `fork`.
    pub(crate) fn open_in_child(&self) {
        self.process.enter(|| ());
        self.recover_in_child();
    }

    /// Other threads of the parent may have been in the middle of anything. Each bit of theirs is set before what it stands for
    /// is done, and cleared after it is undone, so what they leave is true: a page that is called offered may be so, and one
    /// that is not called offered is not.
    fn recover_in_child(&self) {
        self.map.each_touched(|place| place.block().free_in_child());
        self.gate.reset_in_child();
    }
}

fn mark_of(block: &Block, page: usize) -> Mark {
    let has = |set: &super::page_set::PageSet| set.has_all(page..page + 1);
    match (has(&block.marked), has(&block.offered), has(&block.settled)) {
        (false, _, _) => Mark::None,
        (true, false, false) => Mark::Fresh,
        (true, true, _) => Mark::Offered,
        (true, false, true) => Mark::Settled,
    }
}

/// The memory of a block.
pub(super) fn memory_of(place: &Place<'_>) -> Memory {
    Memory { base: std::ptr::with_exposed_provenance_mut(place.address()), pages: BLOCK_PAGES }
}
