//! From an address to its block, without a lock and without the allocator.
//!
//! The lower half of the address space is 2^48 bytes at most where programs do not ask for more. It is divided into leaves
//! of 16 GiB, each with its blocks in one reservation, of which only what is used takes memory. Leaves are made as
//! they are needed and never go.

use std::ops::Range;

use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES, Placement, Span, System};

use super::block::{Block, Claimed, Held};
use super::page_set::{BLOCK_PAGES, Pages};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Bytes of address space in a block.
pub(crate) const BLOCK_BYTES: usize = BLOCK_PAGES * PAGE_BYTES;
const _: () = assert!(BLOCK_BYTES.is_multiple_of(HUGE_PAGE_BYTES), "a huge page lies in one block");

/// How many blocks ahead of the one that is marked the processor is told to fetch.
const PREFETCH_BLOCKS: usize = 4;

const LEAF_BLOCKS: usize = 1 << 12;
const LEAF_BYTES: usize = LEAF_BLOCKS * BLOCK_BYTES;
const LEAVES: usize = 1 << 14;
const BITS: usize = u64::BITS as usize;

/// The blocks of 16 GiB. All zeros is a leaf in which nothing was ever marked.
#[derive(Debug)]
#[repr(C)]
struct Leaf {
    /// The leaf that was put into the list before this one.
    older: AtomicPtr<Leaf>,
    /// Which of all leaves this is.
    index: AtomicU64,
    /// Blocks in which something may be marked.
    used: [AtomicU64; LEAF_BLOCKS / BITS],
    /// Blocks that were ever held or claimed by a thread that a child may not have.
    touched: [AtomicU64; LEAF_BLOCKS / BITS],
    /// Blocks that are adopted whole.
    adopted: [AtomicU64; LEAF_BLOCKS / BITS],
    blocks: [Block; LEAF_BLOCKS],
}

/// A block, and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    leaf: &'a Leaf,
    /// Number of the block, counted from address 0 on.
    pub(crate) number: usize,
}

impl<'a> Place<'a> {
    /// Number of the block in its leaf.
    fn index(&self) -> usize {
        self.number % LEAF_BLOCKS
    }

    pub(crate) fn block(&self) -> &'a Block {
        &self.leaf.blocks[self.index()]
    }

    /// Has the processor fetch a block that is to be marked soon, if it is in the same leaf.
    #[inline]
    pub(crate) fn prefetch_ahead(&self) {
        if let Some(ahead) = self.leaf.blocks.get(self.index() + PREFETCH_BLOCKS) {
            ahead.prefetch();
        }
    }

    /// Address of the block's first byte.
    pub(crate) fn address(&self) -> usize {
        self.number * BLOCK_BYTES
    }

    /// Has the reclaimer look at the block from now on. The caller holds it.
    #[inline]
    pub(crate) fn set_used(&self) {
        let (word, bit) = (&self.leaf.used[self.index() / BITS], 1 << (self.index() % BITS));
        // Relaxed, here and below: the reclaimer finds the block, or the caller finds the reclaimer asleep, by the block's
        // state and the sleeper's word.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst); // SeqCst pairs with the load in `each_used`.
        }
    }

    /// Nothing is marked in the block any more. The caller has claimed it.
    pub(crate) fn clear_used(&self) {
        // Relaxed: the end of the claim orders it before the next hold.
        self.leaf.used[self.index() / BITS].fetch_and(!(1 << (self.index() % BITS)), Ordering::Relaxed);
    }

    /// May something be marked in the block? Exact for whoever marks and unmarks the pages that are asked about.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        // Relaxed: whoever asks has set it, or has learnt of the marks from whoever did.
        self.leaf.used[self.index() / BITS].load(Ordering::Relaxed) & 1 << (self.index() % BITS) != 0
    }

    /// Holds the block. See [`Block::hold`].
    #[inline]
    pub(crate) fn hold(&self) -> Held<'a> {
        self.set_touched();
        self.block().hold()
    }

    /// Claims the block. See [`Block::claim`].
    pub(crate) fn claim(&self) -> Claimed<'a> {
        self.set_touched();
        self.block().claim()
    }

    /// The block is about to be held or claimed, and a child that is forked then has to free it. The bit is never taken away, so
    /// it is in the copy before the block's state can be.
    #[inline]
    pub(crate) fn set_touched(&self) {
        let (word, bit) = (&self.leaf.touched[self.index() / BITS], 1 << (self.index() % BITS));
        // Relaxed: it was set for good.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst); // SeqCst pairs with the exchange of the hold or claim that follows.
        }
    }

    /// Are all of `pages` adopted?
    #[inline]
    pub(crate) fn is_adopted(&self, pages: Range<usize>) -> bool {
        self.is_whole() || self.block().adopted.has_all(pages)
    }

    /// Those pages of the block that are adopted.
    pub(crate) fn adopted(&self) -> Pages {
        if self.is_whole() { Pages::ALL } else { self.block().adopted.all() }
    }

    fn is_whole(&self) -> bool {
        // Acquire pairs with the Release in `abandon`: the pages' own bits are seen by whoever sees that the block's is gone.
        let word = self.leaf.adopted[self.index() / BITS].load(Ordering::Acquire);
        word & 1 << (self.index() % BITS) != 0
    }

    fn adopt(&self, pages: Range<usize>) {
        if pages == (0..BLOCK_PAGES) {
            // Relaxed: whoever marks pages of a mapping has learnt of the mapping from whoever made it.
            self.leaf.adopted[self.index() / BITS].fetch_or(1 << (self.index() % BITS), Ordering::Relaxed);
        } else {
            self.block().adopted.insert(pages);
        }
    }

    /// Is any of `pages` adopted?
    pub(crate) fn has_adopted(&self, pages: Range<usize>) -> bool {
        self.is_whole() || self.block().adopted.has_any(pages)
    }

    /// `pages` are adopted no longer. The caller has claimed the block, so nobody does this to its other pages meanwhile.
    pub(crate) fn abandon(&self, pages: Range<usize>) {
        if self.is_whole() {
            self.block().adopted.insert(0..BLOCK_PAGES);
            let bit = 1 << (self.index() % BITS);
            // Release pairs with the Acquire in `is_whole`.
            self.leaf.adopted[self.index() / BITS].fetch_and(!bit, Ordering::Release);
        }
        self.block().adopted.remove(pages);
    }
}

/// A part of a span.
#[derive(Clone, Debug)]
pub(crate) enum Piece<'a> {
    /// Pages of a block.
    Block(Place<'a>, Range<usize>),
    /// Pages of which nothing was ever noted, in one leaf that was not made or beyond all.
    Unknown(Span),
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct AddressMap {
    leaves: [AtomicPtr<Leaf>; LEAVES],
    newest: AtomicPtr<Leaf>,
}

impl AddressMap {
    pub(crate) const fn new() -> Self {
        Self {
            leaves: [const { AtomicPtr::new(std::ptr::null_mut()) }; LEAVES],
            newest: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The leaf at `index`, if it was made.
    fn leaf(&self, index: usize) -> Option<&Leaf> {
        // Acquire pairs with the Release in `make`.
        let leaf = self.leaves.get(index)?.load(Ordering::Acquire);
        // SAFETY: null, or a leaf that was published and never goes.
        unsafe { leaf.as_ref() }
    }

    /// The leaf at `index`. `None`: beyond the address space that is looked after, or no memory for it.
    fn leaf_or_make(&self, index: usize, system: &dyn System) -> Option<&Leaf> {
        match self.leaf(index) {
            Some(leaf) => Some(leaf),
            None => self.make(index, system),
        }
    }

    #[cold]
    fn make(&self, index: usize, system: &dyn System) -> Option<&Leaf> {
        let place = self.leaves.get(index)?;
        let pages = Span::pages_for(size_of::<Leaf>());
        let reservation = system.reserve(pages, Placement::SmallPages, false).ok()?;
        let made = reservation.base().cast::<Leaf>();
        // SAFETY: as large as a leaf, aligned to a page, zeros, which is a valid leaf; it is never unmapped.
        let leaf = unsafe { &*made };
        leaf.index.store(index as u64, Ordering::Relaxed); // Relaxed: published below.
        // In the list first: a child that is forked in between marks in no leaf that its reclaimer never looks at.
        // Relaxed: the exchange below publishes it.
        let mut older = self.newest.load(Ordering::Relaxed);
        loop {
            leaf.older.store(older, Ordering::Relaxed); // Relaxed: as above.
            // Release pairs with the Acquire in `each_leaf`; Relaxed on failure: tried again.
            match self.newest.compare_exchange(older, made, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => older = now,
            }
        }
        // Release pairs with the Acquire in `leaf`; Acquire with the Release of whoever was faster, whose leaf is the one to mark in. Ours
        // stays in the list, with nothing in it.
        match place.compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(leaf),
            Err(_) => self.leaf(index),
        }
    }

    /// The block with this number, if its leaf was made.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<Place<'_>> {
        Some(Place { leaf: self.leaf(number / LEAF_BLOCKS)?, number })
    }

    /// Calls `visit` with each block in which something may be marked.
    pub(crate) fn each_used<'a>(&'a self, mut visit: impl FnMut(Place<'a>)) {
        self.each_leaf(|leaf, first| {
            for (word, bits) in leaf.used.iter().enumerate() {
                // SeqCst pairs with the exchange in `set_used`: part of the handshake before the reclaimer sleeps.
                let mut bits = bits.load(Ordering::SeqCst);
                while bits != 0 {
                    let bit = bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    visit(Place { leaf, number: first + word * BITS + bit });
                }
            }
        });
    }

    /// Calls `visit` with each block that anybody may hold or have claimed.
    pub(crate) fn each_touched<'a>(&'a self, mut visit: impl FnMut(Place<'a>)) {
        self.each_leaf(|leaf, first| {
            for (word, bits) in leaf.touched.iter().enumerate() {
                // Relaxed: for a child, which has one thread so far.
                let bits = bits.load(Ordering::Relaxed);
                for bit in (0..BITS).filter(|bit| bits & 1 << bit != 0) {
                    visit(Place { leaf, number: first + word * BITS + bit });
                }
            }
        });
    }

    /// Calls `visit` with each run of adopted pages in each block. Looks at all blocks of all leaves.
    pub(crate) fn each_adopted(&self, mut visit: impl FnMut(Place<'_>, Range<usize>)) {
        self.each_leaf(|leaf, first| {
            for place in (first..first + LEAF_BLOCKS).map(|number| Place { leaf, number }) {
                place.adopted().runs(BLOCK_PAGES).for_each(|pages| visit(place, pages));
            }
        });
    }

    /// Calls `visit` with each leaf and the number of its first block.
    fn each_leaf<'a>(&'a self, mut visit: impl FnMut(&'a Leaf, usize)) {
        // Acquire pairs with the Release in `make`.
        let mut next = self.newest.load(Ordering::Acquire);
        // SAFETY: null, or a leaf that was published and never goes.
        while let Some(leaf) = unsafe { next.as_ref() } {
            // Relaxed, here and below: published with the leaf.
            let first =
                usize::try_from(leaf.index.load(Ordering::Relaxed)).expect("a small number") * LEAF_BLOCKS;
            visit(leaf, first);
            next = leaf.older.load(Ordering::Relaxed); // Relaxed: as above.
        }
    }

    /// Notes that a mapping is one whose end will be told. What there is no memory to note is not adopted.
    pub(crate) fn adopt(&self, span: Span, system: &dyn System) {
        self.make_leaves(span, system);
        self.each_known(span, |place, pages| place.adopt(pages));
    }

    /// Makes the leaves of a span, as far as there is memory for them. Says whether all are there.
    pub(crate) fn make_leaves(&self, span: Span, system: &dyn System) -> bool {
        leaf_parts(span).fold(true, |all, part| {
            let made = self.leaf_or_make(part.address() / LEAF_BYTES, system).is_some();
            all && made
        })
    }

    /// Can anything be noted of the leaf that `part` lies in?
    pub(crate) fn reaches(part: Span) -> bool {
        part.address() / LEAF_BYTES < LEAVES
    }

    /// Is there a leaf that `part` lies in?
    pub(crate) fn has_leaf(&self, part: Span) -> bool {
        self.leaf(part.address() / LEAF_BYTES).is_some()
    }

    /// The parts of a span.
    #[inline]
    pub(crate) fn pieces(&self, span: Span) -> impl Iterator<Item = Piece<'_>> {
        leaf_parts(span).flat_map(|part| {
            let leaf = self.leaf(part.address() / LEAF_BYTES);
            let unknown = leaf.is_none().then_some(Piece::Unknown(part));
            let known = leaf.into_iter().flat_map(move |leaf| {
                pieces(part).map(move |(number, pages)| Piece::Block(Place { leaf, number }, pages))
            });
            known.chain(unknown)
        })
    }

    /// Calls `visit` with each part of a span of which something may have been noted.
    #[inline]
    pub(crate) fn each_known<'a>(&'a self, span: Span, mut visit: impl FnMut(Place<'a>, Range<usize>)) {
        self.pieces(span).for_each(|piece| {
            if let Piece::Block(place, pages) = piece {
                visit(place, pages);
            }
        });
    }
}

/// The parts of a span that lie in one leaf each, with all that lies beyond the last in one.
#[inline]
pub(crate) fn leaf_parts(span: Span) -> impl Iterator<Item = Span> {
    let mut left = span;
    std::iter::from_fn(move || {
        if left.pages() == 0 {
            return None;
        }
        let index = left.address() / LEAF_BYTES;
        let pages = match index < LEAVES {
            true => ((index + 1) * LEAF_BYTES - left.address()) / PAGE_BYTES,
            false => left.pages(),
        };
        let part = left.slice(0, pages);
        left = left.slice(pages, usize::MAX);
        Some(part)
    })
}

/// The parts of a span that lie in one block each: the block's number, and the pages in it.
#[inline]
fn pieces(span: Span) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut address = span.address();
    std::iter::from_fn(move || {
        if address >= span.end() {
            return None;
        }
        let number = address / BLOCK_BYTES;
        let end = span.end().min((number + 1) * BLOCK_BYTES);
        let start = number * BLOCK_BYTES;
        let pages = (address - start) / PAGE_BYTES..(end - start) / PAGE_BYTES;
        address = end;
        Some((number, pages))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_span_once() {
        let span = Span::new(3 * BLOCK_BYTES - PAGE_BYTES, BLOCK_PAGES + 2);
        let found: Vec<_> = pieces(span).collect();
        let last = BLOCK_PAGES - 1;
        assert_eq!(found, [(2, last..BLOCK_PAGES), (3, 0..BLOCK_PAGES), (4, 0..1)]);
        assert_eq!(pieces(Span::new(0, 0)).count(), 0);
    }

    #[test]
    fn a_span_of_any_length_has_few_parts() {
        let all: Vec<_> = leaf_parts(Span::new(PAGE_BYTES, usize::MAX / PAGE_BYTES - 1)).collect();
        assert_eq!(all.len(), LEAVES + 1);
        assert_eq!(all.iter().map(Span::pages).sum::<usize>(), usize::MAX / PAGE_BYTES - 1);
        assert_eq!(all[LEAVES].address(), LEAVES * LEAF_BYTES);
        static MAP: AddressMap = AddressMap::new();
        let first = MAP.pieces(Span::new(3 * LEAF_BYTES - PAGE_BYTES, 3)).collect::<Vec<_>>();
        assert!(
            matches!(first[..], [Piece::Unknown(one), Piece::Unknown(two)] if one.pages() == 1 && two.pages() == 2)
        );
    }

    #[test]
    fn what_is_adopted_in_part_is_not_adopted_whole() {
        static MAP: AddressMap = AddressMap::new();
        let system = vrange_os::linux::Linux::get().expect("this kernel");
        let span = Span::new(5 * BLOCK_BYTES + PAGE_BYTES, 2 * BLOCK_PAGES);
        MAP.adopt(span, system);
        let at = |number| MAP.get(number).expect("made");
        assert!(at(5).is_adopted(1..BLOCK_PAGES) && !at(5).is_adopted(0..1));
        assert!(at(6).is_adopted(0..BLOCK_PAGES));
        assert!(at(7).is_adopted(0..1) && !at(7).is_adopted(0..2));
        at(6).abandon(0..1);
        assert!(!at(6).is_adopted(0..1) && at(6).is_adopted(1..BLOCK_PAGES), "the rest stays");
        at(5).abandon(1..2);
        assert!(at(5).is_adopted(2..BLOCK_PAGES) && !at(5).has_adopted(0..2));
        assert!(MAP.get(LEAF_BLOCKS * 7).is_none(), "no leaf is made by a look");
        assert!(!MAP.make_leaves(Span::new(LEAVES * LEAF_BYTES, 1), system), "beyond what is looked after");
    }

    /// A child may be forked at any moment, and has the map as it was then.
    #[test]
    fn a_leaf_that_can_be_marked_in_is_one_that_the_reclaimer_looks_at() {
        static MAP: AddressMap = AddressMap::new();
        const MADE: usize = 8000;
        let system = vrange_os::linux::Linux::get().expect("this kernel");
        let missed = crate::sync::thread::scope(|scope| {
            scope.spawn(|| {
                (0..MADE)
                    .for_each(|index| assert!(MAP.make_leaves(Span::new(index * LEAF_BYTES, 1), system)));
            });
            // The newest come first.
            let is_looked_at = |index: usize| {
                // Acquire pairs with the Release in `make`.
                let newest = MAP.newest.load(Ordering::Acquire);
                // SAFETY: null, or a leaf that was published and never goes.
                let leaves = std::iter::successors(unsafe { newest.as_ref() }, |leaf| {
                    // Relaxed, here and below: published with the leaf.
                    let older = leaf.older.load(Ordering::Relaxed);
                    // SAFETY: as above.
                    unsafe { older.as_ref() }
                });
                leaves.into_iter().any(|leaf| leaf.index.load(Ordering::Relaxed) == index as u64)
            };
            let missed = (0..MADE).filter(|index| {
                while MAP.get(index * LEAF_BLOCKS).is_none() {
                    std::hint::spin_loop();
                }
                !is_looked_at(*index)
            });
            missed.count()
        });
        assert_eq!(missed, 0);
    }
}
