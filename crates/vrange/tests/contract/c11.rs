//! C11: dropping a range while the reclaimer works on it is safe: no access to memory that is no longer ours.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vrange::{Content, Heap, Phase, Pinned};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::{StopAtEnd, drain_processors, in_child};

use crate::support::raw::{Raw, advise};
use crate::support::{assert_filled, fill, filled, is_filled, is_zero, longer, memory, quiet_heap};

/// Offers, releases and reclaims as fast as it can until told to stop.
fn reclaim_until(done: &AtomicBool, heap: &Heap) {
    while !done.load(Ordering::Relaxed) {
        heap.offer(u64::MAX);
        heap.reclaim(1 << 20);
        thread::yield_now();
    }
}

#[test]
fn c11_buffers_come_and_go_while_they_are_offered_and_released() {
    let heap = quiet_heap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let reclaimers: Vec<_> = (0..2).map(|_| scope.spawn(|| reclaim_until(&done, &heap))).collect();
        let until = Instant::now() + Duration::from_millis(500) * longer();
        let mut seed = 0;
        while Instant::now() < until {
            let pages = [1, 10, 33, 300, 600][usize::try_from(seed).expect("small") % 5];
            let mut buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
            {
                let mut guard = buffer.pin_mut().intact().expect("a new buffer has lost nothing");
                assert!(is_zero(&guard, 0) && is_zero(&guard, pages - 1), "a new buffer is all zeros");
                fill(&mut guard, seed);
                assert_filled(&guard, seed);
            }
            match buffer.pin() {
                Pinned::Intact(guard) => assert_filled(&guard, seed),
                Pinned::Purged(purged) => {
                    let lost = crate::support::pages_of(purged.lost(), pages * PAGE_BYTES);
                    let guard = purged.into_guard();
                    let right = |page| {
                        if lost.contains(&page) {
                            is_zero(&guard, page)
                        } else {
                            is_filled(&guard, page, seed)
                        }
                    };
                    assert!((0..pages).all(right));
                }
            }
            drop(buffer);
            seed += 1;
        }
        drop(stop);
        reclaimers.into_iter().for_each(|reclaimer| reclaimer.join().expect("no panic"));
    });
    assert_eq!(heap.stats().marked.ranges + heap.stats().offered_now.ranges, 0);
}

/// A buffer with a mapping of its own is dropped in the middle of an offer; the addresses are given new, live contents at once.
#[test]
fn c11_an_address_that_was_given_away_is_never_offered() {
    const PAGES: usize = 4096;
    let heap = quiet_heap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let reclaimer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                heap.offer(u64::MAX);
            }
        });
        let until = Instant::now() + Duration::from_secs(60) * longer();
        let (mut in_the_middle, mut reused) = (0, 0);
        while in_the_middle < 5 * longer() || reused == 0 {
            assert!(
                Instant::now() < until,
                "{in_the_middle} drops in the middle of an offer, {reused} addresses used again"
            );
            let buffer = filled(&heap, PAGES, 1);
            let span = memory::span(&buffer);
            while buffer.phase() == Phase::Volatile && !reclaimer.is_finished() {
                std::hint::spin_loop();
            }
            in_the_middle += u32::from(buffer.phase() == Phase::Busy);
            drop(buffer);
            // Another thread of the test program may have been faster.
            let Some(mut live) = Raw::at(span) else { continue };
            fill(live.bytes_mut(), 2);
            page_out(span).expect("MADV_PAGEOUT");
            assert_filled(live.bytes(), 2);
            reused += 1;
        }
        drop(stop);
        reclaimer.join().expect("no panic");
    });
}

#[test]
fn c11_control_an_offer_that_is_late_destroys_what_came_after() {
    // Other tests map memory, and could get the address.
    in_child(|| {
        let old = Raw::new(1024);
        let noted: Span = old.span();
        drop(old);
        let Some(mut live) = Raw::at(noted) else { panic!("the address is free") };
        fill(live.bytes_mut(), 2);
        drain_processors();
        // The reclaimer that noted the range before it was unmapped gets round to it now.
        advise(noted, libc::MADV_FREE).expect("MADV_FREE");
        live.take(0..1024);
        assert!((0..1024).all(|page| is_zero(live.bytes(), page)));
    });
}

#[test]
fn c11_a_heap_may_end_while_its_buffers_live_and_while_it_is_served() {
    for _ in 0..50 * longer() {
        let heap = Heap::builder().content(Content::Free { decay: Duration::ZERO }).build().expect("a heap");
        // Whatever of it is not pinned when the reclaimer's thread comes by is released.
        let mut buffer = filled(&heap, 300, 1);
        drop(heap);
        match buffer.pin_mut() {
            Pinned::Intact(guard) => assert_filled(&guard, 1),
            Pinned::Purged(purged) => drop(purged.acknowledge()),
        }
        drop(buffer);
    }
}
