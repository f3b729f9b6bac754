//! Forks while other threads are busy: nobody waits for ever, and everybody's data is right.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vrange::{Buffer, Heap, Pinned};
use vrange_testing::{StopAtEnd, in_child};

use crate::support::{assert_intact, eager_heap, fill, filled, fork};

/// Buffers that the forking thread keeps for the children's self-checks.
struct Kept {
    heap: Heap,
    volatile: Buffer,
    offered: Buffer,
    large: Buffer,
    /// Used by other threads, too.
    common: Vec<Buffer>,
}

impl Kept {
    fn new() -> Self {
        let heap = eager_heap();
        Self {
            volatile: filled(&heap, 10, 1),
            offered: filled(&heap, 40, 2),
            large: filled(&heap, 1100, 3),
            common: (0..10).map(|_| filled(&heap, 5, 4)).collect(),
            heap,
        }
    }

    /// What a child does, from which all other threads are gone.
    fn check_in_child(&mut self, number: u32) {
        assert_intact(&self.volatile, 1);
        assert_intact(&self.offered, 2);
        if number.is_multiple_of(10) {
            assert_intact(&self.large, 3);
        }
        for buffer in &self.common {
            // A thread of the parent may hold it, for ever; then it can be pinned all the same.
            assert_intact(buffer, 4);
            buffer.offer();
            assert_intact(buffer, 4);
        }
        fill(&mut self.volatile, 9);
        self.volatile.offer();
        assert_intact(&self.volatile, 9);
        self.common.clear();
        let mine: Vec<Buffer> =
            (0..5).map(|number| filled(&self.heap, 1 + usize::from(number) * 3, number)).collect();
        self.heap.offer(u64::MAX);
        mine.iter().zip(0..).for_each(|(buffer, number)| assert_intact(buffer, number));
        assert!(mine[0].release());
        drop(mine);
        drop(filled(&eager_heap(), 3, 3));
    }
}

/// What the other threads do, over and over, each on buffers of its own and on common ones.
const WORK: [fn(&Heap, &[Buffer]); 5] =
    [pins_and_writes, offers_and_rescues, releases, comes_and_goes, looks_at_all];

fn pins_and_writes(heap: &Heap, common: &[Buffer]) {
    let mut mine = filled(heap, 8, 21);
    for seed in 22..32 {
        fill(&mut mine, seed);
        assert_intact(&mine, seed);
        common.iter().for_each(|buffer| assert_intact(buffer, 4));
    }
}

fn offers_and_rescues(heap: &Heap, common: &[Buffer]) {
    let mine = filled(heap, 700, 33);
    for _ in 0..5 {
        mine.offer();
        assert_intact(&mine, 33);
        common.iter().for_each(|buffer| {
            buffer.offer();
        });
    }
}

fn releases(heap: &Heap, _: &[Buffer]) {
    let mut mine = filled(heap, 300, 41);
    for seed in 42..46 {
        assert!(mine.release() && mine.pin().is_purged());
        fill(&mut mine, seed);
        assert_intact(&mine, seed);
    }
}

fn comes_and_goes(heap: &Heap, _: &[Buffer]) {
    let buffers: Vec<Buffer> =
        (0..8).map(|number| filled(heap, 1 + usize::from(number) * 5, number)).collect();
    buffers.iter().zip(0..).for_each(|(buffer, number)| assert_intact(buffer, number));
    let _another = eager_heap();
}

fn looks_at_all(heap: &Heap, common: &[Buffer]) {
    let stats = heap.stats();
    assert!(
        stats.pinned.ranges + stats.marked.ranges + stats.offered_now.ranges + stats.in_transit.ranges > 0
    );
    for buffer in common {
        match buffer.try_pin() {
            Some(Pinned::Intact(bytes)) => assert_eq!(bytes.len(), buffer.len()),
            Some(Pinned::Purged(_)) => panic!("nobody takes memory here"),
            None => {}
        }
    }
    heap.offer(1 << 20);
}

#[test]
fn c09_neither_side_waits_for_ever() {
    const FORKS: u32 = 200;
    in_child(|| {
        let mut kept = Kept::new();
        let common: Vec<Buffer> = std::mem::take(&mut kept.common);
        let heap = kept.heap.clone();
        let stop = AtomicBool::new(false);
        let rounds = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&stop);
            for work in WORK {
                let (heap, common, stop, rounds) = (&heap, &common, &stop, &rounds);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        work(heap, common);
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for number in 0..FORKS {
                let child = fork(|_| {
                    kept.common = (0..10).map(|_| filled(&kept.heap, 5, 4)).collect();
                    common.iter().for_each(|buffer| assert_intact(buffer, 4));
                    kept.check_in_child(number);
                });
                if number % 2 == 0 {
                    assert_intact(&kept.offered, 2);
                    kept.large.offer();
                }
                child.finish();
            }
        });
        assert!(rounds.into_inner() >= 5, "the other threads got nowhere");
        assert_intact(&kept.volatile, 1);
        assert_intact(&kept.offered, 2);
        assert_intact(&kept.large, 3);
    });
}

/// Two threads fork at once, beside one that works.
#[test]
fn c09_forks_meet_forks() {
    in_child(|| {
        let heap = eager_heap();
        let buffer = filled(&heap, 50, 1);
        std::thread::scope(|scope| {
            let forks = || {
                for _ in 0..40 {
                    let child = fork(|_| {
                        assert_intact(&buffer, 1);
                        let mine = filled(&heap, 5, 2);
                        mine.offer();
                        fork(|_| assert_intact(&mine, 2)).finish();
                    });
                    assert_intact(&buffer, 1);
                    buffer.offer();
                    child.finish();
                }
            };
            scope.spawn(forks);
            scope.spawn(forks);
            scope.spawn(|| (0..20).for_each(|_| comes_and_goes(&heap, &[])));
        });
        assert_intact(&buffer, 1);
    });
}

/// The child's copy is made between two pieces of an offer, or before it, or after: it is whole in any case.
#[test]
fn c09_a_fork_in_the_middle_of_offers_of_a_large_range() {
    const PAGES: usize = 64 << 8;
    in_child(|| {
        let heap = eager_heap();
        let buffer = filled(&heap, PAGES, 1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    buffer.offer();
                    drop(buffer.pin());
                }
            });
            for _ in 0..20 {
                let child = fork(|_| {
                    assert_intact(&buffer, 1);
                    buffer.offer();
                    assert!(!buffer.pin().is_purged());
                });
                child.finish();
            }
        });
        assert_intact(&buffer, 1);
    });
}
