//! C12: everything is counted, in pages and in bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vrange::{Heap, Phase, Pinned, Stats};
use vrange_os::PAGE_BYTES;
use vrange_os::linux::page_out;
use vrange_testing::StopAtEnd;

use crate::support::{SIZES_PAGES, fill, filled, longer, memory, quiet_heap};

/// Ranges and pages in each phase: empty, pinned, marked, offered.
fn phases(stats: &Stats) -> [(u64, u64); 4] {
    [stats.empty, stats.pinned, stats.marked, stats.offered_now].map(|now| (now.ranges, now.pages.pages()))
}

fn totals(stats: &Stats) -> [u64; 4] {
    [stats.offered, stats.rescued, stats.lost, stats.released].map(|pages| {
        assert_eq!(pages.bytes(), pages.pages() * PAGE_BYTES as u64);
        pages.pages()
    })
}

#[test]
fn c12_each_phase_and_each_event_is_counted() {
    let heap = quiet_heap();
    assert_eq!(heap.stats(), Stats::default());
    let mut buffer = heap.buffer(10 * PAGE_BYTES).expect("a buffer");
    let large = filled(&heap, 1100, 1);
    assert_eq!(phases(&heap.stats()), [(1, 10), (0, 0), (1, 1100), (0, 0)]);
    {
        let mut guard = buffer.pin_mut().intact().expect("new");
        fill(&mut guard, 1);
        assert_eq!(phases(&heap.stats()), [(0, 0), (1, 10), (1, 1100), (0, 0)]);
    }
    assert_eq!(phases(&heap.stats()), [(0, 0), (0, 0), (2, 1110), (0, 0)]);
    assert_eq!(totals(&heap.stats()), [0; 4], "marking costs nothing, and leaves no total");

    assert!(buffer.offer());
    assert_eq!(phases(&heap.stats()), [(0, 0), (0, 0), (1, 1100), (1, 10)]);
    assert_eq!(totals(&heap.stats()), [10, 0, 0, 0]);
    memory::take(&buffer, 0..3);
    assert_eq!(totals(&heap.stats()), [10, 0, 0, 0], "the kernel tells nobody");
    drop(buffer.pin());
    assert_eq!(totals(&heap.stats()), [10, 7, 3, 0]);
    drop(buffer.pin());
    assert_eq!(totals(&heap.stats()), [10, 7, 3, 0], "a loss is counted once");

    assert!(large.offer());
    drop(large.pin());
    assert_eq!(totals(&heap.stats()), [1110, 1107, 3, 0]);
    assert!(large.release());
    assert_eq!(totals(&heap.stats()), [1110, 1107, 3, 1100]);
    assert_eq!(phases(&heap.stats()), [(1, 1100), (0, 0), (1, 10), (0, 0)]);
    drop((buffer, large));
    assert_eq!(phases(&heap.stats()), [(0, 0); 4]);
}

#[test]
fn c12_every_page_with_contents_that_was_offered_is_rescued_or_lost_at_the_next_pin() {
    let heap = quiet_heap();
    let mut expected = [0; 4];
    for pages in SIZES_PAGES {
        let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
        for seed in 0..4 {
            let mut guard = match buffer.pin_mut() {
                Pinned::Intact(guard) => guard,
                Pinned::Purged(purged) => purged.acknowledge(),
            };
            fill(&mut guard, seed);
            drop(guard);
            assert!(buffer.offer());
            let taken = pages / 2;
            if taken > 0 {
                memory::take(&buffer, 0..taken);
            }
            drop(buffer.pin());
            let (pages, taken) = (pages as u64, taken as u64);
            expected = [expected[0] + pages, expected[1] + pages - taken, expected[2] + taken, 0];
            assert_eq!(totals(&heap.stats()), expected);
        }
    }
}

#[test]
fn c12_what_the_calls_return_is_what_is_counted() {
    let heap = quiet_heap();
    let buffers: Vec<_> = (0..40).map(|seed| filled(&heap, 10, seed)).collect();
    let bytes = |pages: u64| pages * PAGE_BYTES as u64;
    assert_eq!(heap.offer(bytes(95)), bytes(100), "whole ranges");
    assert_eq!((heap.stats().offered.pages(), heap.stats().offered_now.ranges), (100, 10));
    assert_eq!(heap.reclaim(bytes(50)), bytes(50));
    assert_eq!((heap.stats().released.pages(), heap.stats().empty.ranges), (50, 5));
    assert_eq!(heap.release(), bytes(350));
    assert_eq!((heap.stats().released.bytes(), heap.stats().empty.ranges), (bytes(400), 40));
    drop(buffers);
}

#[test]
fn c12_what_the_kernel_took_before_a_release_is_lost_and_not_released() {
    for pages in SIZES_PAGES {
        let heap = quiet_heap();
        let buffer = filled(&heap, pages, 1);
        assert!(buffer.offer());
        let taken = pages / 2;
        if taken > 0 {
            memory::take(&buffer, 0..taken);
        }
        let left = (pages - taken) as u64;
        assert_eq!(heap.reclaim(u64::MAX), left * PAGE_BYTES as u64, "memory that is free again");
        assert_eq!(totals(&heap.stats()), [pages as u64, 0, taken as u64, left]);
        let Pinned::Purged(purged) = buffer.pin() else { panic!("nothing is left") };
        assert_eq!(purged.lost_pages(), pages);
        assert_eq!(totals(&heap.stats()), [pages as u64, 0, taken as u64, left], "a loss is counted once");
    }
}

/// The totals add up after any number of threads have been at work, which no order of events can change.
#[test]
fn c12_the_totals_add_up_under_contention() {
    let heap: Heap = quiet_heap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let beside = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                heap.offer(u64::MAX);
                thread::yield_now();
            }
        });
        let pinners: Vec<_> = (0..2)
            .map(|seed| {
                let mut buffers: Vec<_> =
                    SIZES_PAGES.into_iter().map(|pages| filled(&heap, pages, seed)).collect();
                scope.spawn(move || {
                    let until = Instant::now() + Duration::from_millis(300) * longer();
                    while Instant::now() < until {
                        for buffer in &mut buffers {
                            // With swap, pages that are not offered yet would be swapped out.
                            if buffer.phase() == Phase::Offered {
                                page_out(memory::span(buffer).slice(0, 3)).expect("MADV_PAGEOUT");
                            }
                            match buffer.pin_mut() {
                                Pinned::Intact(guard) => drop(guard),
                                Pinned::Purged(purged) => drop(purged.refill(|bytes, _| fill(bytes, seed))),
                            }
                        }
                    }
                    // Takes back what is offered still.
                    buffers.iter().for_each(|buffer| drop(buffer.pin()));
                    buffers
                })
            })
            .collect();
        let buffers: Vec<_> = pinners.into_iter().map(|pinner| pinner.join().expect("no panic")).collect();
        drop(stop);
        beside.join().expect("the other thread found no mistake");
        drop(buffers);
    });
    let [offered, rescued, lost, released] = totals(&heap.stats());
    assert!(offered > 0 && released == 0);
    // Ranges may have been offered once more between their last pin and their end: what is in them then goes uncounted.
    let all_pages = 2 * SIZES_PAGES.iter().sum::<usize>() as u64;
    assert!(
        (rescued + lost..=rescued + lost + all_pages).contains(&offered),
        "{offered} = {rescued} + {lost}"
    );
}
