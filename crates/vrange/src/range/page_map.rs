//! Two bits a page: what is known of its contents since the last offer.

use std::ops::Range;
use std::ptr::NonNull;

use crate::sync::{AtomicU64, Ordering};

/// What a page held when its range was last offered, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Page {
    /// Never written, or only the kernel's shared zero page: nothing to lose, not to be touched.
    Absent = 0b00,
    /// In memory and all zeros: nothing to lose, but a pin must make it dirty.
    Blank = 0b01,
    /// Some word of it was not zero.
    Witnessed = 0b10,
    /// Its contents are gone, and nobody has acknowledged that yet.
    Lost = 0b11,
}

/// Pages that one word of the map describes.
pub(crate) const PAGES_PER_WORD: usize = 32;
const LOW_BITS: u64 = 0x5555_5555_5555_5555;

/// Some pages that share a word of the map, so that they can be noted with one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    word: usize,
    /// The first page.
    pub(crate) start: usize,
    /// Just past the last page.
    pub(crate) end: usize,
}

impl Chunk {
    pub(crate) fn pages(self) -> Range<usize> {
        self.start..self.end
    }

    /// The bits of the word that describe the chunk's pages.
    fn bits(self) -> u64 {
        let bits = (self.end - self.start) * 2;
        u64::MAX >> (u64::BITS as usize - bits) << (self.start % PAGES_PER_WORD * 2)
    }
}

/// What is known of the 32 pages of a word, as a value: read once, changed, and written back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notes(u64);

impl Notes {
    /// Nothing is known of any page.
    pub(crate) const NONE: Self = Self(0);

    /// What is known of `page` (a page of the range; its place in the word follows from it).
    pub(crate) fn get(self, page: usize) -> Page {
        match self.0 >> (page % PAGES_PER_WORD * 2) & 0b11 {
            0b00 => Page::Absent,
            0b01 => Page::Blank,
            0b10 => Page::Witnessed,
            _ => Page::Lost,
        }
    }

    /// Notes what is known of `page`.
    pub(crate) fn set(&mut self, page: usize, value: Page) {
        let shift = page % PAGES_PER_WORD * 2;
        self.0 = self.0 & !(0b11 << shift) | (value as u64) << shift;
    }

    /// Lost pages, one low bit each.
    fn lost(self) -> u64 {
        self.0 & self.0 >> 1 & LOW_BITS
    }
}

/// The map of one range. Up to 32 pages it lies in the slot itself; larger ranges have words of their own, allocated
/// with the range, so that an offer needs no memory.
///
/// All accesses are relaxed: who may change the map is decided by the range's state, whose transitions order them.
/// Only the owner of a claim, and an exclusive pinner who acknowledges losses, write.
#[derive(Debug)]
pub(crate) struct PageMap {
    /// The only word, or the address of the first of several.
    inline_or_address: AtomicU64,
}

impl PageMap {
    /// The map of no pages; in a slot, zeroed memory is one.
    #[cfg(test)]
    fn new_empty() -> Self {
        Self { inline_or_address: AtomicU64::new(0) }
    }

    /// Makes room for a range of `pages` pages, all absent. The map must have been freed, or never allocated.
    pub(crate) fn allocate(&self, pages: usize) {
        let value = if pages <= PAGES_PER_WORD {
            0
        } else {
            // Collected one by one and not zeroed by the allocator, so that the words are in memory from now on.
            let words: Box<[AtomicU64]> =
                (0..pages.div_ceil(PAGES_PER_WORD)).map(|_| AtomicU64::new(0)).collect();
            Box::into_raw(words).cast::<AtomicU64>().expose_provenance() as u64
        };
        // Relaxed: the caller publishes the slot afterwards.
        self.inline_or_address.store(value, Ordering::Relaxed);
    }

    /// Frees what [`allocate`](Self::allocate) made.
    ///
    /// # Safety
    /// `pages` is the number given to `allocate`, nobody uses the map, and it is not freed twice.
    pub(crate) unsafe fn free(&self, pages: usize) {
        if pages > PAGES_PER_WORD {
            let words = std::ptr::slice_from_raw_parts_mut(
                self.first_word().as_ptr(),
                pages.div_ceil(PAGES_PER_WORD),
            );
            // SAFETY: the pointer and length are those of the box that `allocate` took apart, by the caller's promise.
            drop(unsafe { Box::from_raw(words) });
        }
        // Relaxed: the caller owns the slot.
        self.inline_or_address.store(0, Ordering::Relaxed);
    }

    /// The map's words, for a range of `pages` pages.
    ///
    /// # Safety
    /// `pages` is the number given to `allocate`, and the map is not freed while the result is in use.
    pub(crate) unsafe fn words(&self, pages: usize) -> Words<'_> {
        if pages <= PAGES_PER_WORD {
            return Words { words: std::slice::from_ref(&self.inline_or_address), pages };
        }
        // SAFETY: `allocate` made this many words, and they live as long as the caller promises.
        let words =
            unsafe { std::slice::from_raw_parts(self.first_word().as_ptr(), pages.div_ceil(PAGES_PER_WORD)) };
        Words { words, pages }
    }

    fn first_word(&self) -> NonNull<AtomicU64> {
        // Relaxed: written before the slot was published.
        let address = self.inline_or_address.load(Ordering::Relaxed);
        let address = usize::try_from(address).expect("an address of this process");
        NonNull::new(std::ptr::with_exposed_provenance_mut(address))
            .expect("a map of many pages is allocated")
    }
}

/// The words of a map, with the number of pages that they describe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    words: &'a [AtomicU64],
    pages: usize,
}

impl<'a> Words<'a> {
    /// Words that lie elsewhere, for `pages` pages.
    pub(crate) fn new(words: &'a [AtomicU64], pages: usize) -> Self {
        debug_assert!(pages <= words.len() * PAGES_PER_WORD, "two bits a page");
        Self { words, pages }
    }
}

impl Words<'_> {
    /// `pages`, cut where the words of the map meet.
    pub(crate) fn chunks(self, pages: Range<usize>) -> impl Iterator<Item = Chunk> {
        let mut start = pages.start;
        std::iter::from_fn(move || {
            let word = start / PAGES_PER_WORD;
            let chunk = Chunk { word, start, end: pages.end.min((word + 1) * PAGES_PER_WORD) };
            start = chunk.end;
            (chunk.start < chunk.end).then_some(chunk)
        })
    }

    /// What is known of the pages around and in `chunk`.
    pub(crate) fn notes(self, chunk: Chunk) -> Notes {
        // Relaxed: see `PageMap`.
        Notes(self.words[chunk.word].load(Ordering::Relaxed))
    }

    /// Writes back what [`notes`](Self::notes) gave.
    pub(crate) fn set_notes(self, chunk: Chunk, notes: Notes) {
        // Relaxed: see `PageMap`; there is one writer.
        self.words[chunk.word].store(notes.0, Ordering::Relaxed);
    }

    /// What is known of `page`.
    pub(crate) fn get(self, page: usize) -> Page {
        // Relaxed: see `PageMap`.
        Notes(self.words[page / PAGES_PER_WORD].load(Ordering::Relaxed)).get(page)
    }

    /// Notes what is known of `page`.
    pub(crate) fn set(self, page: usize, value: Page) {
        for chunk in self.chunks(page..page + 1) {
            let mut notes = self.notes(chunk);
            notes.set(page, value);
            self.set_notes(chunk, notes);
        }
    }

    /// As [`set`](Self::set), beside others that note other pages in the same way. In one step: a child that is forked meanwhile has
    /// the old note or the new one.
    pub(crate) fn set_beside_others(self, page: usize, value: Page) {
        let changes = self.get(page) as u64 ^ value as u64;
        // Relaxed: only the caller reads or writes these two bits now.
        self.words[page / PAGES_PER_WORD]
            .fetch_xor(changes << (page % PAGES_PER_WORD * 2), Ordering::Relaxed);
    }

    /// Was each of `pages` in memory when it was last noted, and not lost since?
    pub(crate) fn all_were_resident(self, pages: Range<usize>) -> bool {
        self.chunks(pages).all(|chunk| {
            let notes = self.notes(chunk);
            chunk.pages().all(|page| matches!(notes.get(page), Page::Blank | Page::Witnessed))
        })
    }

    /// Forgets all but the losses among `pages`: the start of a fresh note.
    pub(crate) fn keep_only_losses(self, pages: Range<usize>) {
        for chunk in self.chunks(pages) {
            let notes = self.notes(chunk);
            if notes != Notes::NONE {
                let lost = notes.lost() | notes.lost() << 1;
                self.set_notes(chunk, Notes(notes.0 & !chunk.bits() | lost & chunk.bits()));
            }
        }
    }

    /// Forgets all about `pages`.
    pub(crate) fn forget(self, pages: Range<usize>) {
        for chunk in self.chunks(pages) {
            self.set_notes(chunk, Notes(self.notes(chunk).0 & !chunk.bits()));
        }
    }

    /// Forgets everything: an exclusive pinner has acknowledged the losses.
    pub(crate) fn clear(&self) {
        for word in self.words {
            // Relaxed: see `PageMap`.
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Number of lost pages.
    pub(crate) fn lost_pages(&self) -> usize {
        self.words
            .iter()
            .map(|word| {
                // Relaxed: see `PageMap`.
                Notes(word.load(Ordering::Relaxed)).lost().count_ones() as usize
            })
            .sum()
    }

    /// Is one of `pages` lost?
    pub(crate) fn has_lost(&self, mut pages: Range<usize>) -> bool {
        pages.any(|page| self.get(page) == Page::Lost)
    }

    /// The first run of lost pages at or after `from`.
    pub(crate) fn next_lost_run(&self, from: usize) -> Option<Range<usize>> {
        let start = (from..self.pages).find(|page| self.get(*page) == Page::Lost)?;
        let end = (start..self.pages).find(|page| self.get(*page) != Page::Lost).unwrap_or(self.pages);
        Some(start..end)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_what_was_noted() {
        for pages in [1, 31, 32, 33, 1000] {
            let map = PageMap::new_empty();
            map.allocate(pages);
            // SAFETY: the number just given; freed at the end.
            let words = unsafe { map.words(pages) };
            let kinds =
                [Page::Absent, Page::Lost, Page::Blank, Page::Witnessed, Page::Lost, Page::Lost, Page::Blank];
            for page in 0..pages {
                words.set(page, kinds[page % kinds.len()]);
            }
            for page in 0..pages {
                assert_eq!(words.get(page), kinds[page % kinds.len()]);
            }
            let lost: Vec<usize> =
                (0..pages).filter(|page| kinds[page % kinds.len()] == Page::Lost).collect();
            assert_eq!(words.lost_pages(), lost.len());
            let (from, to) = (pages / 3, pages - pages / 4);
            words.keep_only_losses(from..to);
            for page in 0..pages {
                let before = kinds[page % kinds.len()];
                let kept = !(from..to).contains(&page) || before == Page::Lost;
                assert_eq!(words.get(page), if kept { before } else { Page::Absent });
            }
            let mut found = Vec::new();
            let mut from = 0;
            while let Some(run) = words.next_lost_run(from) {
                from = run.end;
                found.extend(run);
            }
            assert_eq!(found, lost);
            for page in 0..pages {
                assert_eq!(words.has_lost(page..page + 1), lost.contains(&page));
            }
            assert_eq!(words.has_lost(0..pages), !lost.is_empty());
            words.clear();
            assert_eq!(words.lost_pages(), 0);
            // SAFETY: the number given to `allocate`, once.
            unsafe { map.free(pages) };
        }
    }

    /// A child may be forked at any moment, and has what was noted then.
    #[test]
    fn a_note_beside_others_is_what_it_was_or_what_it_will_be() {
        use crate::sync::thread;
        let words = [AtomicU64::new(0)];
        let notes = Words::new(&words, PAGES_PER_WORD);
        notes.set(3, Page::Lost);
        let rounds = if cfg!(miri) { 100 } else { 1_000_000 };
        let (changes, over) = (AtomicU64::new(0), AtomicU64::new(0));
        let other = thread::scope(|scope| {
            scope.spawn(|| {
                // Relaxed, here and below: counts that order nothing.
                while over.load(Ordering::Relaxed) == 0 {
                    notes.set_beside_others(3, Page::Witnessed);
                    notes.set_beside_others(3, Page::Lost);
                    notes.set_beside_others(4, Page::Blank);
                    notes.set_beside_others(4, Page::Absent);
                    changes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut other = None;
            while changes.load(Ordering::Relaxed) < rounds {
                let seen = notes.get(3);
                other = other.or((!matches!(seen, Page::Witnessed | Page::Lost)).then_some(seen));
            }
            over.store(1, Ordering::Relaxed);
            other
        });
        assert_eq!(other, None);
        assert_eq!((notes.get(3), notes.get(4)), (Page::Lost, Page::Absent));
    }
}
