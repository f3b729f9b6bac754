//! Threads over shared buffers, while others offer and release: who holds a pin sees what was there, or hears of its loss.
//!
//! The end of a thread is announced by a count of our own: ThreadSanitizer does not see joining in a standard library that
//! was built without it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vrange_os::PAGE_BYTES;

use super::{fake, heap_on};
use crate::buffer::Buffer;
use crate::guard::{Pinned, ReadGuard};
use crate::heap::{Heap, HeapBuilder};

const ROUNDS: usize = if cfg!(miri) { 20 } else { 2_000 };
const BUFFERS: usize = 4;

/// The number that fills each word of buffer `at`.
fn stamp(at: usize) -> u64 {
    0x0101_0101_0101_0101 * (at as u64 + 1)
}

fn filled(heap: &Heap) -> Vec<Buffer> {
    let fill = |at: usize| {
        let mut buffer = heap.buffer((at + 1) * 3 * PAGE_BYTES).expect("room");
        buffer.pin_mut().intact().expect("new").as_mut_slice_of::<u64>().fill(stamp(at));
        buffer
    };
    (0..BUFFERS).map(fill).collect()
}

/// Every page holds its stamp, or zeros if it is reported lost.
fn assert_exact(pinned: Pinned<ReadGuard<'_>>, at: usize) {
    let lost: Vec<_> = match &pinned {
        Pinned::Intact(_) => Vec::new(),
        Pinned::Purged(purged) => purged.lost().collect(),
    };
    let guard = match pinned {
        Pinned::Intact(guard) => guard,
        Pinned::Purged(purged) => purged.into_guard(),
    };
    for (page, words) in guard.as_slice_of::<u64>().chunks(PAGE_BYTES / 8).enumerate() {
        let is_lost = lost.iter().any(|run| run.contains(&(page * PAGE_BYTES)));
        let expected = if is_lost { 0 } else { stamp(at) };
        assert!(words.iter().all(|word| *word == expected), "buffer {at}, page {page}, lost: {is_lost}");
    }
}

/// Two threads pin the buffers in different orders while `disturb` runs over and over.
fn read_beside(heap: &Heap, buffers: &[Buffer], disturb: impl Fn(usize) + Sync) {
    let (start, done, ended) = (Barrier::new(3), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let readers: Vec<_> = [1, 3]
            .into_iter()
            .map(|stride| {
                let (start, ended) = (&start, &ended);
                threads.spawn(move || {
                    start.wait();
                    for round in 0..ROUNDS {
                        let at = round * stride % BUFFERS;
                        match buffers[at].try_pin() {
                            Some(pinned) if round % 2 == 0 => assert_exact(pinned, at),
                            _ => assert_exact(buffers[at].pin(), at),
                        }
                    }
                    ended.fetch_add(1, Ordering::Release);
                })
            })
            .collect();
        let disturber = threads.spawn(|| {
            start.wait();
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                disturb(round);
                round += 1;
            }
            ended.fetch_add(1, Ordering::Release);
        });
        for reader in readers {
            let ended = reader.join();
            done.store(true, Ordering::Relaxed);
            ended.expect("a reader found a mistake");
        }
        disturber.join().expect("the disturber found a mistake");
    });
    assert_eq!(ended.load(Ordering::Acquire), 3);
    let stats = heap.stats();
    assert_eq!((stats.pinned.ranges, stats.in_transit.ranges), (0, 0), "everything was let go");
}

fn heap(builder: HeapBuilder) -> Heap {
    heap_on(fake(), builder)
}

#[test]
fn pins_beside_offers() {
    let heap = heap(Heap::builder());
    let buffers = filled(&heap);
    read_beside(&heap, &buffers, |_| {
        let _ = heap.offer(u64::MAX);
    });
    assert_eq!(heap.stats().lost.pages(), 0);
}

#[test]
fn pins_beside_offers_and_releases() {
    let heap = heap(Heap::builder());
    let buffers = filled(&heap);
    read_beside(&heap, &buffers, |round| match round % 7 {
        0 => {
            let _ = buffers[round % BUFFERS].release();
        }
        1 => {
            let _ = heap.reclaim(1);
        }
        _ => {
            let _ = buffers[round % BUFFERS].offer();
        }
    });
}

#[test]
fn unpins_that_offer_by_themselves() {
    let heap = heap(Heap::builder().max_unoffered(0));
    let buffers = filled(&heap);
    read_beside(&heap, &buffers, |_| std::thread::yield_now());
    assert_eq!(heap.stats().lost.pages(), 0);
}

#[test]
fn buffers_come_and_go_beside_the_reclaimer() {
    let heap = heap(Heap::builder());
    let buffers = filled(&heap);
    read_beside(&heap, &buffers, |round| {
        let mut passing = heap.buffer((round % 3 + 1) * PAGE_BYTES).expect("room");
        assert!(passing.pin().intact().expect("new").iter().all(|byte| *byte == 0), "someone else's bytes");
        passing.pin_mut().intact().expect("kept").fill(0xff);
        let _ = heap.offer(u64::MAX);
    });
}

#[test]
fn a_panic_under_a_guard_unpins() {
    let heap = heap(Heap::builder());
    let buffers = filled(&heap);
    let panicked = std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            let _guard = buffers[0].pin();
            panic!("on purpose");
        });
        thread.join().is_err()
    });
    assert!(panicked && buffers[0].release(), "nobody holds it");
}
