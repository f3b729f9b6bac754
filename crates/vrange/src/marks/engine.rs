//! The marks of a process, as programs and the reclaimer see them.

use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use vrange_os::process::Owner;
use vrange_os::{OsError, PAGE_BYTES, Span, System};

use super::address_map::{AddressMap, BLOCK_BYTES, Place, pieces};
use super::block::Block;
use crate::range::Memory;
use crate::range::gate::Gate;
use crate::range::state::{BeginRelease, Generation, Phase};
use crate::stats::Counters;
use crate::sync::thread;

/// A `fork` waits this long for threads in the middle of a mark. (One of them may be the forking thread itself, in a signal
/// handler.) What is still held then stays so in the child, and is never offered there.
const FORK_WAIT_MAX: Duration = Duration::from_millis(100);

/// The marks of this process.
pub(crate) static MARKS: Marks = Marks::new();

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Marks {
    pub(super) map: AddressMap,
    pub(super) gate: Gate,
    pub(crate) counters: Counters,
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
    const fn new() -> Self {
        Self {
            map: AddressMap::new(),
            gate: Gate::new(),
            counters: Counters::new(),
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
        self.enter();
        self.forget(span);
        self.map.adopt(span, system);
    }

    /// From now on marks in `span` are not deferred. Call [`forget`](Self::forget) afterwards, or
    /// [`unmark`](Self::unmark) before.
    pub(crate) fn abandon(&self, span: Span) {
        self.enter();
        self.map.abandon(span);
    }

    /// Are all pages of `span` adopted?
    pub(crate) fn is_adopted(&self, span: Span) -> bool {
        pieces(span).all(|(number, pages)| self.map.get(number).is_some_and(|place| place.is_adopted(pages)))
    }

    /// Calls `visit` with what is adopted, block by block.
    pub(crate) fn each_adopted(&self, mut visit: impl FnMut(Span)) {
        self.map.each_adopted(|place, pages| {
            visit(Span::new(place.address(), super::page_set::BLOCK_PAGES).slice(pages.start, pages.len()));
        });
    }

    /// Marks pages. Adopted ones: two exchanges and a store for each block, then `after` is called. Of others, `offer_now`
    /// is asked to offer them.
    ///
    /// # Errors
    /// Those of `offer_now`. One with ENOMEM is returned at the end, others at once.
    #[inline]
    pub(crate) fn mark(
        &self,
        span: Span,
        now: Generation,
        after: impl FnOnce(),
        mut offer_now: impl FnMut(&Self, Span) -> Result<(), OsError>,
    ) -> Result<(), OsError> {
        self.enter();
        let mut outcome = Ok(());
        let mut deferred = false;
        // Neighbouring blocks that are not adopted go together.
        let mut other = Span::new(span.address(), 0);
        for (number, pages) in pieces(span) {
            let adopted = self.map.get(number).filter(|place| place.is_adopted(pages.clone()));
            if let Some(place) = adopted {
                outcome = outcome.and(self.offer_others(other, &mut offer_now)?);
                mark_block(&place, pages, now);
                deferred = true;
                other = Span::new(span.address(), 0);
            } else if other.pages() == 0 {
                other = Span::new(number * BLOCK_BYTES + pages.start * PAGE_BYTES, pages.len());
            } else {
                other = Span::new(other.address(), other.pages() + pages.len());
            }
        }
        if deferred {
            after();
        }
        outcome.and(self.offer_others(other, &mut offer_now)?)
    }

    /// The outer error ends the whole, the inner one does not.
    #[inline]
    fn offer_others(
        &self,
        span: Span,
        offer_now: &mut impl FnMut(&Self, Span) -> Result<(), OsError>,
    ) -> Result<Result<(), OsError>, OsError> {
        if span.pages() == 0 {
            return Ok(Ok(()));
        }
        match offer_now(self, span) {
            Err(error) if error.errno() != Errno::NOMEM => Err(error),
            outcome => Ok(outcome),
        }
    }

    /// Forgets marks without taking anything back: the memory is about to go, or has just been made.
    pub(crate) fn forget(&self, span: Span) {
        self.enter();
        self.each_marked(span, |place, pages| place.block().hold().forget_marks(pages));
    }

    /// Calls `visit` with each part of `span` whose block may have marks.
    #[inline]
    pub(super) fn each_marked<'a>(&'a self, span: Span, mut visit: impl FnMut(Place<'a>, Range<usize>)) {
        for (number, pages) in pieces(span) {
            if let Some(place) = self.map.get(number).filter(|place| !place.block().is_unused()) {
                visit(place, pages);
            }
        }
    }

    /// What is known of each page of `span`, in order. Says nothing of what the kernel has taken.
    pub(crate) fn query(&self, span: Span, mut visit: impl FnMut(usize, Mark)) {
        self.enter();
        for (number, pages) in pieces(span) {
            let first = number * (BLOCK_BYTES / PAGE_BYTES) + pages.start - span.address() / PAGE_BYTES;
            let block = self.map.get(number).map(|place| place.block());
            for page in pages.clone() {
                visit(first + page - pages.start, block.map_or(Mark::None, |block| mark_of(block, page)));
            }
        }
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

    /// Until [`open`](Self::open) no marks change: a `fork` is about to happen. Pages may be shared from then on.
    pub(crate) fn close_for_fork(&self) {
        self.enter();
        self.gate.close();
        let begin = Instant::now();
        self.map.each_used(|place| {
            let block = place.block();
            let _ = block.state.set_shared(true);
            // The gate is closed, so nobody has claimed the block; others hold it for a moment.
            while let BeginRelease::Pinned = block.state.begin_release() {
                if begin.elapsed() > FORK_WAIT_MAX {
                    break;
                }
                thread::yield_now();
            }
        });
    }

    /// See [`close_for_fork`](Self::close_for_fork).
    pub(crate) fn open(&self) {
        self.map.each_used(|place| {
            let block = place.block();
            if block.state.glance().phase() == Phase::Releasing {
                block.end_release();
            }
        });
        self.gate.open();
    }

    /// In a child made by `fork`.
    pub(crate) fn open_in_child(&self) {
        self.process.enter(|| ());
        self.open();
        self.gate.reset_in_child();
    }

    fn recover_in_child(&self) {
        self.map.each_used(|place| {
            place.block().state.recover_in_child();
            let _ = place.block().state.set_shared(true);
        });
        self.gate.reset_in_child();
    }
}

/// Marks pages of an adopted block.
#[inline]
fn mark_block(place: &Place<'_>, pages: Range<usize>, now: Generation) {
    if pages.end == super::page_set::BLOCK_PAGES {
        // The mark may go on.
        place.prefetch_ahead();
    }
    let held = place.block().hold();
    place.set_used();
    held.mark(pages, now);
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
    Memory {
        base: std::ptr::with_exposed_provenance_mut(place.address()),
        pages: super::page_set::BLOCK_PAGES,
    }
}
