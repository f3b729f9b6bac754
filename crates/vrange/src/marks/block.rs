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
//! A page that is not marked is in neither, unless it is being unmarked. A page in both is settled.

use std::ops::Range;

use super::page_set::{PageSet, Pages};
use crate::range::state::{BeginRelease, Generation, Phase, State};
use crate::range::wakes::Wakes;
use crate::sync::{AtomicU32, Ordering, thread};
#[cfg(not(loom))]
use crate::{
    prefetch::prefetch,
    range::page_map::{PAGES_PER_WORD, Page, Words},
    sync::AtomicU64,
};

/// See the [module](self). All zeros is a block in which nothing was ever marked.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Block {
    pub(crate) state: State,
    pub(crate) wakes: Wakes,
    /// 1: data was marked here, and not only free memory. What is kept in doubt is data.
    data: AtomicU32,
    claimers: Claimers,
    pub(crate) marked: PageSet,
    pub(crate) offered: PageSet,
    pub(crate) settled: PageSet,
    /// Adopted pages of a block that is not adopted whole. Taken away under a claim alone.
    pub(crate) adopted: PageSet,
    /// A hint: pages that were set to zero by an unmark, and that neither the kernel nor the reclaimer can have taken since. Changed by
    /// their owner while they are not marked, and by who holds or has claimed the block.
    pub(crate) in_memory: PageSet,
    /// What offered and settled pages held. Written by the owner of a claim; of pages that are not adopted, by who marks them.
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
            data: AtomicU32::new(0),
            claimers: Claimers(AtomicU32::new(0)),
            marked: PageSet::new(),
            offered: PageSet::new(),
            settled: PageSet::new(),
            adopted: PageSet::new(),
            in_memory: PageSet::new(),
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

    /// Holds the block, after waiting for the piece at hand of an offer or release.
    pub(crate) fn hold(&self) -> Held<'_> {
        if self.claimers.are_there() {
            self.claimers.let_go_first();
        }
        while !self.state.begin_hold() {
            self.wakes.wait(&self.state);
        }
        Held { block: self }
    }

    /// Claims the block for the calling thread alone, after waiting for those who hold it.
    pub(crate) fn claim(&self) -> Claimed<'_> {
        let mut yields = 0;
        let mut is_counted = false;
        let before = loop {
            match self.state.begin_change() {
                BeginRelease::Claimed(before) => break before,
                BeginRelease::Pinned | BeginRelease::Empty => {
                    if !is_counted {
                        is_counted = true;
                        self.claimers.come();
                    }
                    give_way(&mut yields);
                }
                BeginRelease::Busy => self.wakes.wait(&self.state),
            }
        };
        if is_counted {
            self.claimers.go();
        }
        Claimed { block: self, before }
    }

    /// In a child: whoever held the block, had claimed it or waited for that is a thread of the parent.
    #[cfg(not(loom))]
    pub(crate) fn free_in_child(&self) {
        self.claimers.forget();
        self.state.free_block_in_child();
    }

    /// Is all that is marked here free memory? For who has looked at the state before.
    pub(crate) fn is_free_memory(&self) -> bool {
        // Relaxed: written under a hold, whose end is published by the state.
        self.data.load(Ordering::Relaxed) == 0
    }

    /// What is marked here is data. The caller holds the block.
    #[inline]
    pub(crate) fn hold_data(&self) {
        if self.is_free_memory() {
            self.data.store(1, Ordering::Relaxed); // Relaxed: as above.
        }
    }

    /// Nothing is marked here any more. The caller has claimed the block.
    pub(crate) fn hold_nothing(&self) {
        self.data.store(0, Ordering::Relaxed); // Relaxed: as above.
    }

    /// Forgets that pages were marked. They were taken back from the kernel before. The caller holds or has claimed the block.
    #[inline]
    pub(crate) fn forget_marks(&self, pages: Range<usize>) {
        // A child that is forked in between finds pages that are marked and not offered, which they are by now.
        if self.offered.has_any(pages.clone()) {
            self.offered.remove(pages.clone());
        }
        if self.settled.has_any(pages.clone()) {
            self.settled.remove(pages.clone());
        }
        self.marked.remove(pages);
    }

    /// Notes that marked pages have lost their contents and have nothing left to lose. The caller has claimed the block.
    #[cfg(not(loom))]
    pub(crate) fn settle_lost(&self, pages: Range<usize>) {
        pages.clone().for_each(|page| self.notes().set(page, Page::Lost));
        self.marked.insert(pages.clone());
        self.settled.insert(pages.clone());
        self.offered.remove(pages);
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

/// How many threads want to claim a block, and wait for those who hold it.
///
/// A claim takes a moment at which nobody holds the block, and where many come and go there may be none. So whoever comes lets claimers
/// go first. Relaxed everywhere: a courtesy, on which nothing else relies. (Models try every order without it.)
#[derive(Debug)]
#[repr(transparent)]
struct Claimers(AtomicU32);

impl Claimers {
    #[inline]
    fn are_there(&self) -> bool {
        !cfg!(loom) && self.0.load(Ordering::Relaxed) != 0 // Relaxed: see the type.
    }

    /// Waits for them a little: some milliseconds in all, so that holders who are not running get a processor meanwhile, and let go. Not
    /// for ever, since this may be a signal handler of a thread that holds the block.
    #[cold]
    fn let_go_first(&self) {
        let mut yields = 0;
        for _ in 0..2 * YIELDS_MAX {
            if !self.are_there() {
                return;
            }
            give_way(&mut yields);
        }
    }

    fn come(&self) {
        if !cfg!(loom) {
            self.0.fetch_add(1, Ordering::Relaxed); // Relaxed: see the type.
        }
    }

    fn go(&self) {
        if !cfg!(loom) {
            // It may have been forgotten, in a child that was forked by a signal handler.
            // Relaxed: see the type.
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
        }
    }

    #[cfg(not(loom))]
    fn forget(&self) {
        self.0.store(0, Ordering::Relaxed); // Relaxed: see the type.
    }
}

/// So often a thread yields before it sleeps.
const YIELDS_MAX: u32 = 100;

/// Lets another thread run. One that holds a block does so for some nanoseconds, unless it is preempted, perhaps by this very
/// thread, if that has a higher priority.
fn give_way(yields: &mut u32) {
    #[cfg(not(loom))]
    if *yields > YIELDS_MAX {
        thread::sleep(std::time::Duration::from_micros(50));
        return;
    }
    *yields += 1;
    thread::yield_now();
}

/// A block that one thread has to itself, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Claimed<'a> {
    block: &'a Block,
    before: Phase,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        let is_unmarked = self.block.marked.all().is_empty();
        if is_unmarked {
            // What is marked next may be an allocator's, and the reclaimer may be asleep until then.
            self.block.hold_nothing();
        }
        match self.before {
            Phase::Free | Phase::Empty if is_unmarked => {
                self.block.wakes.wake(self.block.state.end_release(Phase::Empty, false));
            }
            _ => self.block.end_release(),
        }
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
        self.block.state.end_hold(Some(now));
        std::mem::forget(self);
    }

    /// See [`Block::forget_marks`].
    #[inline]
    pub(crate) fn forget_marks(&self, pages: Range<usize>) {
        self.block.forget_marks(pages);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.block.state.end_hold(None);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
