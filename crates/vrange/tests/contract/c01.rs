//! C1: marking is a hint. After `unpin` pages may vanish at any time; before it, never.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vrange::{Phase, Pinned};
use vrange_os::linux::page_out;
use vrange_testing::StopAtEnd;

use crate::support::raw::Raw;
use crate::support::{SIZES_PAGES, assert_filled, fill, filled, longer, memory, quiet_heap};

#[test]
fn c01_pinned_bytes_stay_whatever_the_kernel_reclaims() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let mut buffer = filled(&heap, pages, 1);
        let span = memory::span(&buffer);
        {
            let guard = buffer.pin().intact().expect("never offered");
            page_out(span).expect("MADV_PAGEOUT");
            assert_filled(&guard, 1);
        }
        // The same after a rescue, when the pages have been the kernel's for a while.
        assert!(buffer.offer());
        {
            let guard = buffer.pin_mut().intact().expect("not taken");
            memory::page_out_everywhere(span);
            assert_filled(&guard, 1);
        }
    }
}

#[test]
fn c01_control_offered_bytes_that_are_not_pinned_go() {
    for pages in SIZES_PAGES {
        let mut raw = Raw::new(pages);
        fill(raw.bytes_mut(), 1);
        raw.offer();
        raw.take(0..pages);
        assert!(raw.bytes().iter().step_by(64).all(|byte| *byte == 0));
    }
}

#[test]
fn c01_until_somebody_offers_it_an_unpinned_buffer_stays_too() {
    let heap = quiet_heap();
    for pages in SIZES_PAGES {
        let buffer = filled(&heap, pages, 2);
        assert_eq!(buffer.phase(), Phase::Volatile);
        memory::page_out_everywhere(memory::span(&buffer));
        assert_filled(&buffer.pin().intact().expect("never offered"), 2);
    }
}

#[test]
fn c01_nobody_can_offer_or_release_what_is_pinned() {
    let heap = quiet_heap();
    let buffers: Vec<_> = SIZES_PAGES.into_iter().map(|pages| filled(&heap, pages, 3)).collect();
    let guards: Vec<_> = buffers.iter().map(|buffer| buffer.pin().intact().expect("never offered")).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let beside = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!((heap.offer(u64::MAX), heap.reclaim(u64::MAX), heap.release()), (0, 0, 0));
                for buffer in &buffers {
                    assert!(!buffer.offer() && !buffer.release());
                    page_out(memory::span(buffer)).expect("MADV_PAGEOUT");
                }
            }
        });
        let until = Instant::now() + Duration::from_millis(200) * longer();
        while Instant::now() < until {
            guards.iter().for_each(|guard| assert_filled(guard, 3));
        }
        drop(stop);
        beside.join().expect("the other thread found no mistake");
    });
}

#[test]
fn c01_pins_and_offers_from_many_threads_lose_nothing_that_is_pinned() {
    let heap = quiet_heap();
    let buffer = filled(&heap, 300, 4);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopAtEnd(&done);
        let beside = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                buffer.offer();
                thread::yield_now();
            }
        });
        // What the kernel takes while the buffer is not pinned is a loss; but it takes nothing here unless asked to, so what was
        // intact at a pin is looked at again after the kernel was asked under that pin.
        let until = Instant::now() + Duration::from_millis(300) * longer();
        while Instant::now() < until {
            match buffer.pin() {
                Pinned::Intact(guard) => {
                    page_out(memory::span(&buffer)).expect("MADV_PAGEOUT");
                    assert_filled(&guard, 4);
                }
                Pinned::Purged(_) => panic!("lost without a reason"),
            }
        }
        drop(stop);
        beside.join().expect("the other thread found no mistake");
    });
}
