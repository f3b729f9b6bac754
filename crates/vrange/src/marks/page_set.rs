//! Sets of pages of one block, one bit each.

use std::ops::Range;

use crate::sync::{AtomicU64, Ordering};

const PAGES_PER_WORD: usize = u64::BITS as usize;
/// Words of a set. (Models have fewer: loom tries every order of the accesses to each.)
const WORDS: usize = if cfg!(loom) { 1 } else { 16 };

/// Pages in a block: 4 MiB. Whoever changes marks in a block waits while pages of it are being offered, so a block is small;
/// each costs some bookkeeping, so it is not too small.
pub(crate) const BLOCK_PAGES: usize = WORDS * PAGES_PER_WORD;

/// The words that `pages` touch, each with the bits that stand for them.
fn masks(pages: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    debug_assert!(pages.start <= pages.end && pages.end <= BLOCK_PAGES, "pages of the block");
    let words = pages.start / PAGES_PER_WORD..pages.end.div_ceil(PAGES_PER_WORD);
    words.map(move |word| {
        let first = pages.start.saturating_sub(word * PAGES_PER_WORD);
        let end = (pages.end - word * PAGES_PER_WORD).min(PAGES_PER_WORD);
        (word, u64::MAX << first & u64::MAX >> (PAGES_PER_WORD - end))
    })
}

/// A set that threads share.
///
/// All accesses are relaxed: the block's state decides who may change a set, and its transitions order what was changed.
#[derive(Debug)]
pub(crate) struct PageSet([AtomicU64; WORDS]);

impl PageSet {
    /// No pages; in a block, zeroed memory is that.
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(crate) fn insert(&self, pages: Range<usize>) {
        for (word, mask) in masks(pages) {
            // Where all bits change nobody else's can be lost, and a store is cheaper.
            if mask == u64::MAX {
                self.0[word].store(mask, Ordering::Relaxed); // Relaxed: see the type.
            } else {
                self.0[word].fetch_or(mask, Ordering::Relaxed); // Relaxed: as above.
            }
        }
    }

    pub(crate) fn remove(&self, pages: Range<usize>) {
        for (word, mask) in masks(pages) {
            if mask == u64::MAX {
                self.0[word].store(0, Ordering::Relaxed); // Relaxed: see the type.
            } else {
                self.0[word].fetch_and(!mask, Ordering::Relaxed); // Relaxed: as above.
            }
        }
    }

    /// Those of `pages` that are in the set.
    pub(crate) fn among(&self, pages: Range<usize>) -> Pages {
        let mut found = Pages::NONE;
        // Relaxed: see the type.
        masks(pages).for_each(|(word, mask)| found.0[word] = self.0[word].load(Ordering::Relaxed) & mask);
        found
    }

    /// All pages in the set.
    pub(crate) fn all(&self) -> Pages {
        self.among(0..BLOCK_PAGES)
    }

    /// Are all of `pages` in the set?
    pub(crate) fn has_all(&self, pages: Range<usize>) -> bool {
        // Relaxed: see the type.
        masks(pages).all(|(word, mask)| self.0[word].load(Ordering::Relaxed) & mask == mask)
    }

    /// Is any of `pages` in the set?
    pub(crate) fn has_any(&self, pages: Range<usize>) -> bool {
        // Relaxed: see the type.
        masks(pages).any(|(word, mask)| self.0[word].load(Ordering::Relaxed) & mask != 0)
    }
}

/// A set as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages([u64; WORDS]);

impl Pages {
    pub(crate) const NONE: Self = Self([0; WORDS]);
    pub(crate) const ALL: Self = Self([u64::MAX; WORDS]);

    pub(crate) fn of(pages: Range<usize>) -> Self {
        let mut set = Self::NONE;
        set.insert(pages);
        set
    }

    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
    }

    pub(crate) fn or(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn contains(&self, page: usize) -> bool {
        self.0[page / PAGES_PER_WORD] & 1 << (page % PAGES_PER_WORD) != 0
    }

    pub(crate) fn insert(&mut self, pages: Range<usize>) {
        masks(pages).for_each(|(word, mask)| self.0[word] |= mask);
    }

    /// The first page at or after `from` that is in the set, or is not, as asked.
    fn next(&self, from: usize, inside: bool) -> Option<usize> {
        let mut word = from / PAGES_PER_WORD;
        let mut skipped = from % PAGES_PER_WORD;
        while word < WORDS {
            let bits = if inside { self.0[word] } else { !self.0[word] } & u64::MAX << skipped;
            if bits != 0 {
                return Some(word * PAGES_PER_WORD + bits.trailing_zeros() as usize);
            }
            (word, skipped) = (word + 1, 0);
        }
        None
    }

    /// The pages in runs, ascending, none longer than `pages_max`.
    pub(crate) fn runs(self, pages_max: usize) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next(from, true)?;
            let end = self.next(start, false).unwrap_or(BLOCK_PAGES).min(start.saturating_add(pages_max));
            from = end;
            Some(start..end)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        for pages in [0..0, 0..1, 63..65, 5..5, 64..128, 1..1023, 0..1024, 1000..1024] {
            let set = PageSet::new();
            set.insert(pages.clone());
            let found = set.all();
            assert_eq!(found.count(), pages.len());
            assert!((0..BLOCK_PAGES).all(|page| found.contains(page) == pages.contains(&page)));
            assert!(set.has_all(pages.clone()));
            assert_eq!(set.has_any(0..BLOCK_PAGES), !pages.is_empty());
            let runs: Vec<_> = found.runs(BLOCK_PAGES).collect();
            assert_eq!(runs, if pages.is_empty() { vec![] } else { vec![pages.clone()] });
            set.remove(pages);
            assert!(set.all().is_empty());
        }
    }

    #[test]
    fn runs_are_cut_where_asked() {
        let mut pages = Pages::NONE;
        pages.insert(10..300);
        pages.insert(301..302);
        let runs: Vec<_> = pages.runs(256).collect();
        assert_eq!(runs, [10..266, 266..300, 301..302]);
        assert_eq!(Pages::ALL.runs(BLOCK_PAGES).collect::<Vec<_>>(), vec![0..BLOCK_PAGES]);
        assert_eq!(pages.without(&pages), Pages::NONE);
        assert_eq!(pages.and(&Pages::ALL).or(&Pages::NONE), pages);
    }
}
