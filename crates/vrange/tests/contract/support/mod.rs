//! What the tests of the contract share: buffers with known contents, the lever that makes the kernel take offered pages, and
//! memory without the library for the controls.

pub(crate) mod environment;
pub(crate) mod group;
pub(crate) mod memory;
pub(crate) mod raw;

use std::collections::BTreeSet;

use vrange::{Buffer, Heap, HeapBuilder, LostBytes, Pinned, Reclaimer};
use vrange_os::PAGE_BYTES;
pub(crate) use vrange_testing::seccomp;

/// Sizes in pages at which the engine takes different ways: the page map in the slot (up to 32), several words of it, more
/// than one piece of an offer (256), and huge pages (512 and more).
pub(crate) const SIZES_PAGES: [usize; 5] = [1, 10, 33, 300, 1100];

/// A heap that nobody but the test works on: what is offered or released was asked for by the test.
pub(crate) fn quiet_heap() -> Heap {
    quiet(Heap::builder()).0
}

/// As [`quiet_heap`], with settings.
pub(crate) fn quiet(builder: HeapBuilder) -> (Heap, Reclaimer) {
    builder.build_manual().expect("a heap")
}

/// A buffer of whole pages, filled and unpinned.
pub(crate) fn filled(heap: &Heap, pages: usize, seed: u64) -> Buffer {
    let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
    fill_through(&mut buffer, seed);
    buffer
}

/// Fills a buffer under a pin of its own, whatever was lost of it.
pub(crate) fn fill_through(buffer: &mut Buffer, seed: u64) {
    let mut guard = match buffer.pin_mut() {
        Pinned::Intact(guard) => guard,
        Pinned::Purged(purged) => purged.acknowledge(),
    };
    fill(&mut guard, seed);
}

/// Writes each page full of a byte of its own, which is never zero.
pub(crate) fn fill(bytes: &mut [u8], seed: u64) {
    for (page, chunk) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
        chunk.fill(byte_of(page, seed));
    }
}

fn byte_of(page: usize, seed: u64) -> u8 {
    let mixed = (page as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(seed)
        .wrapping_mul(0x2545_f491_4f6c_dd1d);
    u8::try_from(mixed >> 56).expect("eight bits") | 1
}

/// Does this page hold what [`fill`] wrote?
pub(crate) fn is_filled(bytes: &[u8], page: usize, seed: u64) -> bool {
    let page_bytes = page_of(bytes, page);
    page_bytes == &[byte_of(page, seed); PAGE_BYTES][..page_bytes.len()]
}

/// Is this page all zeros?
pub(crate) fn is_zero(bytes: &[u8], page: usize) -> bool {
    let page_bytes = page_of(bytes, page);
    page_bytes == &[0; PAGE_BYTES][..page_bytes.len()]
}

pub(crate) fn page_of(bytes: &[u8], page: usize) -> &[u8] {
    &bytes[page * PAGE_BYTES..bytes.len().min((page + 1) * PAGE_BYTES)]
}

/// Every page holds what [`fill`] wrote.
#[track_caller]
pub(crate) fn assert_filled(bytes: &[u8], seed: u64) {
    let wrong: Vec<usize> =
        (0..bytes.len().div_ceil(PAGE_BYTES)).filter(|page| !is_filled(bytes, *page, seed)).collect();
    assert!(wrong.is_empty(), "pages without their bytes: {wrong:?}");
}

/// The pages of the lost runs, which must begin at a page and end at one or at the buffer's end.
pub(crate) fn pages_of(lost: LostBytes<'_>, bytes: usize) -> BTreeSet<usize> {
    let mut pages = BTreeSet::new();
    for run in lost {
        assert!(
            run.start.is_multiple_of(PAGE_BYTES) && (run.end.is_multiple_of(PAGE_BYTES) || run.end == bytes)
        );
        pages.extend(run.start / PAGE_BYTES..run.end.div_ceil(PAGE_BYTES));
    }
    pages
}

/// The pages that a read pin reports as lost.
pub(crate) fn lost_pages(buffer: &Buffer) -> BTreeSet<usize> {
    match buffer.pin() {
        Pinned::Intact(_) => BTreeSet::new(),
        Pinned::Purged(purged) => pages_of(purged.lost(), buffer.len()),
    }
}

/// Random numbers that a failing test can be run again with: `VRANGE_TEST_SEED` sets the seed, which is printed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let given = std::env::var("VRANGE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(vrange_os::clock::ticks);
        println!("VRANGE_TEST_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// How many times longer than in its quick form a test runs.
pub(crate) fn longer() -> u32 {
    vrange_testing::scale().pick(1, 20)
}
