//! A block of address space in which pages are marked: the unit that is claimed for an offer.
//!
//! Marks are bits. Whoever changes some of them *holds* the block meanwhile, as a pinner holds a range; many can. The
//! reclaimer claims the block, which takes that nobody holds it, and makes whoever wants to hold it wait. So an offer never
//! runs while marks change, and a mark that is gone is not offered. (It is the [state](crate::range::state) of a range, used
//! as that of a block.)
//!
//! | a marked page is | in `offered` | in `settled` |
//! |---|---|---|
//! | fresh: nobody but its owner knows | no | no |
//! | offered: the kernel may take it | yes | no |
//! | settled: nothing of it is left to be taken; its note tells whether contents were lost | no | yes |
//!
//! A page that is not marked is in neither, unless it is being unmarked.

use std::ops::Range;

use super::page_set::{PageSet, Pages};
use crate::range::state::{BeginPin, Generation, Phase, State, Unpin, Word};
use crate::range::wakes::Wakes;
#[cfg(not(loom))]
use crate::{
    prefetch::prefetch,
    range::page_map::{PAGES_PER_WORD, Words},
    sync::AtomicU64,
};

/// See the [module](self). All zeros is a block in which nothing was ever marked.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Block {
    pub(crate) state: State,
    pub(crate) wakes: Wakes,
    pub(crate) marked: PageSet,
    pub(crate) offered: PageSet,
    pub(crate) settled: PageSet,
    /// Pages that were adopted one by one; see [`Adopted`](super::page_map).
    pub(crate) adopted: PageSet,
    /// What offered and settled pages held. Written by the owner of a claim alone.
    #[cfg(not(loom))]
    notes: [AtomicU64; super::page_set::BLOCK_PAGES / PAGES_PER_WORD],
}

impl Block {
    /// A block with nothing in it, for models.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            state: State::new_free(),
            wakes: Wakes::new(),
            marked: PageSet::new(),
            offered: PageSet::new(),
            settled: PageSet::new(),
            adopted: PageSet::new(),
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn notes(&self) -> Words<'_> {
        Words::new(&self.notes, super::page_set::BLOCK_PAGES)
    }

    /// Has the processor fetch what a mark touches.
    #[cfg(not(loom))]
    pub(crate) fn prefetch(&self) {
        const LINE_BYTES: usize = 64;
        let start = std::ptr::from_ref(self).cast::<u8>();
        let end = std::mem::offset_of!(Self, marked) + size_of::<PageSet>();
        (0..end).step_by(LINE_BYTES).for_each(|offset| prefetch(start.wrapping_add(offset)));
    }

    /// Was nothing marked here lately? Exact for whoever marks and unmarks the pages that are asked about.
    pub(crate) fn is_unused(&self) -> bool {
        matches!(self.state.glance().phase(), Phase::Free | Phase::Empty)
    }

    /// Holds the block, after waiting for the piece at hand of an offer or release.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.state.occupy();
        loop {
            match self.state.begin_pin() {
                BeginPin::Pinned(_) | BeginPin::PinnedEmpty(_) => return Held { block: self },
                // Pages may be offered: that is for whoever unmarks them to see to.
                BeginPin::Offered if self.state.begin_rescue() => {
                    let (_, end) = self.state.end_rescue(false);
                    self.wakes.wake(end);
                    return Held { block: self };
                }
                BeginPin::Offered => {}
                BeginPin::Claimed => self.wakes.wait(&self.state),
            }
        }
    }

    /// Ends a claim for a release.
    pub(crate) fn end_release(&self) {
        let any = !self.offered.all().is_empty();
        let left = if any { Phase::Offered } else { Phase::Volatile };
        self.wakes.wake(self.state.end_release(left, false));
    }

    /// Marked pages that are neither offered nor settled.
    pub(crate) fn fresh(&self) -> Pages {
        self.marked.all().without(&self.offered.all()).without(&self.settled.all())
    }
}

/// A held block: what is marked and not offered stays so. Dropping it lets go, as of the block's own age.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held<'a> {
    block: &'a Block,
}

impl Held<'_> {
    /// Marks pages, and lets go: everything in the block counts as used `now`.
    #[inline]
    pub(crate) fn mark(self, pages: Range<usize>, now: Generation) {
        self.block.marked.insert(pages);
        self.end(now);
        std::mem::forget(self);
    }

    /// Forgets that pages were marked. They were taken back from the kernel before.
    #[inline]
    pub(crate) fn forget_marks(&self, pages: Range<usize>) {
        let block = self.block;
        if block.offered.has_any(pages.clone()) {
            block.offered.remove(pages.clone());
        }
        if block.settled.has_any(pages.clone()) {
            block.settled.remove(pages.clone());
        }
        block.marked.remove(pages);
    }

    fn end(&self, generation: Generation) {
        let (Unpin::StillPinned | Unpin::Volatile(_)) = self.block.state.unpin(generation);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let word: Word = self.block.state.glance();
        self.end(word.generation());
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
