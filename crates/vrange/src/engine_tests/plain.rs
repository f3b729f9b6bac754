//! What a heap's buffers ought to be, in plain vectors, and the comparison with what they are.

use std::collections::BTreeSet;

use vrange_os::PAGE_BYTES;

use crate::buffer::{Buffer, Phase};
use crate::heap::Heap;
use crate::range::page_map::Page;
use crate::range::state::Word;

/// One page of a buffer.
#[derive(Clone, Debug)]
pub(super) struct PlainPage {
    /// What was last written, in the words that tests write. Empty: never written, or zeros.
    pub(super) words: Vec<(usize, u64)>,
    pub(super) fate: Fate,
}

/// What has become of a page's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There (also if there are none).
    Kept,
    /// The kernel has discarded it, and no pin has found out yet.
    Taken,
    /// A pin or a release has noted it as lost, and nobody has acknowledged that.
    Lost,
}

impl PlainPage {
    fn new() -> Self {
        Self { words: Vec::new(), fate: Fate::Kept }
    }

    pub(super) fn has_contents(&self) -> bool {
        self.words.iter().any(|(_, value)| *value != 0)
    }

    /// The page as bytes.
    fn expected(&self) -> [u8; PAGE_BYTES] {
        let mut bytes = [0; PAGE_BYTES];
        if self.fate == Fate::Kept {
            for (word, value) in &self.words {
                bytes[word * 8..][..8].copy_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }
}

/// The bytes of a pinned buffer are those of its plain pages.
pub(super) fn assert_bytes(bytes: &[u8], pages: &[PlainPage]) {
    for (page, found) in bytes.chunks(PAGE_BYTES).enumerate() {
        let expected = pages[page].expected();
        assert!(found == &expected[..found.len()], "page {page}: {:?}", pages[page]);
    }
}

/// One buffer, and what it ought to be.
#[derive(Debug)]
pub(super) struct PlainBuffer {
    pub(super) buffer: Buffer,
    pub(super) pages: Vec<PlainPage>,
    /// Pins held over several steps.
    pub(super) pins: u64,
    pub(super) phase: Phase,
}

impl PlainBuffer {
    pub(super) fn new(buffer: Buffer) -> Self {
        let pages = vec![PlainPage::new(); buffer.len().div_ceil(PAGE_BYTES)];
        Self { buffer, pages, pins: 0, phase: Phase::Empty }
    }

    /// Pages that a pin has to report.
    pub(super) fn lost(&self) -> BTreeSet<usize> {
        (0..self.pages.len()).filter(|page| self.pages[*page].fate != Fate::Kept).collect()
    }

    pub(super) fn address_of(&self, page: usize) -> usize {
        self.buffer.as_ptr().addr() + page * PAGE_BYTES
    }

    pub(super) fn is_noted_lost(&self, page: usize) -> bool {
        // SAFETY: the buffer is borrowed, so its range exists.
        unsafe { self.buffer.slot().map() }.get(page) == Page::Lost
    }

    fn word(&self) -> Word {
        self.buffer.slot().state.glance()
    }

    /// The page map agrees with the plain pages.
    fn validate_map(&self) {
        let slot = self.buffer.slot();
        // SAFETY: the buffer is borrowed, so its range exists.
        let map = unsafe { slot.map() };
        for (page, plain) in self.pages.iter().enumerate() {
            let noted = map.get(page);
            let described = self.phase == Phase::Offered && page < slot.offered_pages();
            match plain.fate {
                Fate::Kept => assert_ne!(noted, Page::Lost, "page {page} is there"),
                Fate::Taken => {
                    assert_eq!((noted, described), (Page::Witnessed, true), "page {page} was taken");
                }
                Fate::Lost => assert_eq!(noted, Page::Lost, "page {page} is lost"),
            }
            if described && plain.fate == Fate::Kept {
                assert_eq!(
                    noted == Page::Witnessed,
                    plain.has_contents(),
                    "page {page} is described as {noted:?}"
                );
            }
        }
    }

    pub(super) fn validate(&self) {
        let (word, slot) = (self.word(), self.buffer.slot());
        assert_eq!(self.buffer.phase(), self.phase, "{word:?}");
        assert_eq!(word.pins(), self.pins, "{word:?}");
        assert_eq!(self.pins > 0, self.phase == Phase::Pinned);
        assert_eq!(word.has_losses(), self.pages.iter().any(|page| page.fate == Fate::Lost), "{word:?}");
        assert_eq!(slot.pages(), self.pages.len());
        assert_eq!(slot.offered_pages() > 0, self.phase == Phase::Offered, "{word:?}");
        assert!(slot.offered_pages() <= slot.pages());
        self.validate_map();
    }
}

/// A heap's totals, as they ought to be, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) rescued: u64,
    pub(super) lost: u64,
    pub(super) released: u64,
    /// Released pages in which zeros had been written. The fake takes them for absent, and the engine, too, unless it knows that they are
    /// there: since a rescue, say. Then they count as released.
    pub(super) blanks: u64,
}

/// Recounts everything.
pub(super) fn validate(heap: &Heap, buffers: &[PlainBuffer], totals: Totals) {
    buffers.iter().for_each(PlainBuffer::validate);
    let stats = heap.stats();
    let (rescued, lost, released) = (stats.rescued.pages(), stats.lost.pages(), stats.released.pages());
    let blanks = totals.blanks;
    assert_eq!((rescued, lost), (totals.rescued, totals.lost));
    let possible = totals.released..=totals.released + blanks;
    assert!(possible.contains(&released), "{released} released, which may be {possible:?}");
    for (phase, now) in [
        (Phase::Empty, stats.empty),
        (Phase::Pinned, stats.pinned),
        (Phase::Volatile, stats.marked),
        (Phase::Offered, stats.offered_now),
        (Phase::Busy, stats.in_transit),
    ] {
        let lengths: Vec<u64> = buffers
            .iter()
            .filter(|plain| plain.phase == phase)
            .map(|plain| plain.pages.len() as u64)
            .collect();
        assert_eq!(
            (now.ranges, now.pages.pages()),
            (lengths.len() as u64, lengths.iter().sum()),
            "{phase:?}"
        );
    }
    let mut places: Vec<(usize, usize)> =
        buffers.iter().map(|plain| (plain.address_of(0), plain.address_of(plain.pages.len()))).collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "buffers overlap");
}
