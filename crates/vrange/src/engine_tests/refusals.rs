//! What the system refuses costs nobody a byte (C14).

use vrange_os::PAGE_BYTES;
use vrange_os::fake::{Fake, Refusals};

use super::{fake, heap_on};
use crate::buffer::{Buffer, Phase};
use crate::guard::Pinned;
use crate::heap::{Heap, HeapBuilder};

/// Ranges of one page, of several pages, of a page map with several words, of several pieces, of a huge page.
const SIZES: [usize; 6] = [1, 7, 40, 300, 700, 1024];

fn filled(heap: &Heap, pages: usize) -> Buffer {
    let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("room");
    buffer.pin_mut().intact().expect("new").fill(0xa5);
    buffer
}

fn each_size(builder: fn() -> HeapBuilder, mut test: impl FnMut(&'static Fake, &Heap, Buffer)) {
    for pages in SIZES {
        let fake = fake();
        let heap = heap_on(fake, builder());
        let buffer = filled(&heap, pages);
        test(fake, &heap, buffer);
    }
}

#[track_caller]
fn assert_intact(buffer: &Buffer) {
    let guard = buffer.pin().intact().expect("nothing is lost");
    assert!(guard.iter().all(|byte| *byte == 0xa5));
}

#[test]
fn where_the_page_table_cannot_be_read_nothing_is_offered() {
    each_size(Heap::builder, |fake, heap, buffer| {
        fake.refuse(Refusals { residency: true, ..Refusals::default() });
        assert!(!buffer.offer());
        assert_eq!((heap.offer(u64::MAX), buffer.phase()), (0, Phase::Volatile));
        assert_eq!(fake.offered(), [0usize; 0]);
        assert_intact(&buffer);
    });
}

#[test]
fn an_offer_that_is_refused_on_the_way_is_taken_back() {
    for reached in [0, 1, 6, 39, 300] {
        each_size(Heap::builder, |fake, heap, buffer| {
            fake.refuse(Refusals { offer_after_pages: Some(reached), ..Refusals::default() });
            let pages = buffer.len() / PAGE_BYTES;
            // The fake counts anew in each system call, which takes one piece at most.
            let piece = if pages < 512 { 256 } else { 512 };
            assert_eq!(buffer.offer(), reached >= pages.min(piece));
            if buffer.phase() == Phase::Volatile {
                // What the refused call reached was stored to, so the kernel could not take it any more.
                assert_eq!(heap.stats().offered.pages(), 0);
                assert_intact(&buffer);
                return;
            }
            assert_eq!(heap.stats().offered.pages(), fake.offered().len() as u64);
            let taken = fake.take(usize::MAX);
            match buffer.pin() {
                Pinned::Intact(_) => assert_eq!(taken, 0),
                Pinned::Purged(purged) => assert_eq!(purged.lost_pages(), taken),
            };
            assert_eq!(heap.stats().lost.pages(), taken as u64);
        });
    }
}

#[test]
fn a_release_that_is_refused_keeps_the_contents() {
    each_size(Heap::builder, |fake, heap, buffer| {
        fake.refuse(Refusals { release: true, ..Refusals::default() });
        assert!(!buffer.release());
        assert_eq!((heap.release(), heap.reclaim(u64::MAX)), (0, 0));
        assert_intact(&buffer);
        assert_eq!(heap.stats().released.pages(), 0);
    });
}

#[test]
fn a_dropped_range_leaves_zeros_even_where_pages_cannot_be_dropped() {
    let fake = fake();
    let heap = heap_on(fake, Heap::builder());
    let address = |buffer: &Buffer| buffer.as_ptr().addr();
    let first = filled(&heap, 7);
    let place = address(&first);
    fake.refuse(Refusals { release: true, ..Refusals::default() });
    drop(first);
    let second = heap.buffer(7 * PAGE_BYTES).expect("room");
    assert_eq!(address(&second), place, "the place is used again");
    assert!(second.pin().intact().expect("new").iter().all(|byte| *byte == 0));
}

#[test]
fn bounds_that_the_system_does_not_let_the_heap_keep_cost_no_contents() {
    each_size(
        || Heap::builder().max_unoffered(0),
        |fake, _, buffer| {
            fake.refuse(Refusals {
                residency: true,
                offer_after_pages: Some(0),
                release: true,
                reserve: true,
            });
            assert_intact(&buffer);
            assert_intact(&buffer);
        },
    );
}

#[test]
fn a_release_without_the_page_table_tells_what_was_lost_by_contents() {
    each_size(Heap::builder, |fake, _, mut buffer| {
        // The first page is zeros, which are no loss.
        buffer.pin_mut().intact().expect("kept")[..PAGE_BYTES].fill(0);
        fake.refuse(Refusals { residency: true, ..Refusals::default() });
        assert!(buffer.release());
        let pages = buffer.len() / PAGE_BYTES;
        match buffer.pin() {
            Pinned::Intact(_) => assert_eq!(pages, 1),
            Pinned::Purged(purged) => {
                assert_eq!(
                    (purged.lost().next(), purged.lost().count()),
                    (Some(PAGE_BYTES..buffer.len()), 1)
                );
            }
        };
    });
}
