//! A buffer of which somebody has locked a page (`mlock(2)`): the kernel refuses advice in the middle, after it has taken
//! the part before.

use rustix::mm::{mlock, munlock};
use vrange::{Heap, Pinned};
use vrange_os::{PAGE_BYTES, Span, linux::page_out};
use vrange_testing::skipped;

/// Ranges of one system call, of several pieces, and of huge pages.
const SIZES_PAGES: [usize; 3] = [16, 400, 1100];

/// Locks the middle page of a buffer, has `give` offer or release it, and compares what the pin says with the bytes.
fn with_a_locked_page(give: impl Fn(&vrange::Buffer)) {
    for pages in SIZES_PAGES {
        let (heap, _reclaimer) = Heap::builder().build_manual().expect("this kernel is supported");
        let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("room");
        buffer.pin_mut().intact().expect("new").fill(7);
        let span = Span::new(buffer.as_ptr().addr(), pages);
        let locked = span.slice(pages / 2, 1);
        let address = std::ptr::with_exposed_provenance_mut(locked.address());
        // SAFETY: one page of a live mapping; locking changes no contents.
        if let Err(error) = unsafe { mlock(address, locked.bytes()) } {
            return skipped(&format!("mlock of one page: {error} (RLIMIT_MEMLOCK)"));
        }
        give(&buffer);
        page_out(span.slice(0, pages / 2)).expect("the kernel takes MADV_PAGEOUT");
        let lost: Vec<_> = match &buffer.pin() {
            Pinned::Intact(_) => Vec::new(),
            Pinned::Purged(purged) => purged.lost().collect(),
        };
        let guard = match buffer.pin() {
            Pinned::Intact(guard) => guard,
            Pinned::Purged(purged) => purged.into_guard(),
        };
        for (page, bytes) in guard.chunks(PAGE_BYTES).enumerate() {
            let is_lost = lost.iter().any(|run| run.contains(&(page * PAGE_BYTES)));
            let expected = if is_lost { 0 } else { 7 };
            assert!(
                bytes.iter().all(|byte| *byte == expected),
                "page {page} of {pages}, reported lost: {is_lost}"
            );
        }
        drop(guard);
        // SAFETY: as above.
        unsafe { munlock(address, locked.bytes()) }.expect("it was locked");
    }
}

#[test]
fn an_offer_that_stops_in_the_middle_is_reported_exactly() {
    with_a_locked_page(|buffer| {
        let _ = buffer.offer();
    });
}

#[test]
fn a_release_is_reported_exactly() {
    with_a_locked_page(|buffer| {
        let _ = buffer.release();
    });
}
