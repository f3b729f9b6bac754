//! Forks that nobody announces: before the first unpin, and by the system call alone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use vrange::{Heap, Phase, Pinned};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::{
    assert_intact, eager_heap, eventually, fill, filled, fork, lost_pages, own_pages, quiet_heap, raw_clone,
    reclaimers, take,
};

/// Is there memory that forked processes share? The handlers that announce a fork make some, if there are ranges.
fn has_shared_memory() -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the list of mappings");
    maps.lines().any(|line| line.contains(" rw-s "))
}

#[test]
fn nothing_is_registered_before_the_first_unpin() {
    in_child(|| {
        for builder in
            [Heap::builder().build(), Heap::builder().build_manual().map(|(heap, _reclaimer)| heap)]
        {
            let heap = builder.expect("a heap");
            let mut buffer = heap.buffer(PAGE_BYTES).expect("a buffer");
            let guard = buffer.pin_mut();
            fork(|_| assert!(!has_shared_memory())).finish();
            assert!(!has_shared_memory() && reclaimers() == 0);
            std::mem::forget(guard);
        }
        for manual in [true, false] {
            fork(|_| {
                let (heap, _reclaimer) = match manual {
                    true => Heap::builder().build_manual().map(|(heap, reclaimer)| (heap, Some(reclaimer))),
                    false => Heap::new().map(|heap| (heap, None)),
                }
                .expect("a heap");
                let buffer = filled(&heap, 1, 1);
                fork(|_| assert!(has_shared_memory(), "this fork was announced")).finish();
                assert_intact(&buffer, 1);
            })
            .finish();
        }
    });
}

#[test]
fn c09_a_fork_before_the_first_unpin() {
    in_child(|| {
        let heap = eager_heap();
        let mut buffer = heap.buffer(20 * PAGE_BYTES).expect("a buffer");
        let mut bytes = buffer.pin_mut().intact().expect("new");
        bytes.fill(5);
        let child = fork(|line| {
            let unpin = || {
                // SAFETY: the child's own copy of the guard, which it uses and drops in the parent's place.
                drop(unsafe { std::ptr::read(&raw const bytes) });
            };
            unpin();
            eventually("a reclaimer", || reclaimers() == 1);
            // Nobody knows whether the parent still uses the pages.
            std::thread::sleep(std::time::Duration::from_millis(20));
            line.signal();
            line.wait();
        });
        child.line.wait();
        drop(bytes);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(buffer.phase(), Phase::Volatile, "the child maps the pages");
        assert!(buffer.pin().intact().is_some_and(|bytes| bytes.iter().all(|byte| *byte == 5)));
        child.line.signal();
        child.finish();
        eventually("it is offered", || buffer.phase() == Phase::Offered);
        assert!(buffer.pin().intact().is_some_and(|bytes| bytes.iter().all(|byte| *byte == 5)));
    });
}

#[test]
fn c09_a_child_by_clone_alone_pins_and_offers() {
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        for pages in [1, 20, 300, 1100] {
            let mut volatile = filled(&heap, pages, 1);
            let offered = filled(&heap, pages, 2);
            let taken = filled(&heap, pages, 3);
            assert!(offered.offer() && taken.offer());
            take(&taken, 0..1);
            let child = raw_clone(|_| {
                assert!(!volatile.offer(), "the parent maps it, and knows nothing of this process");
                for _ in 0..2 {
                    assert_intact(&volatile, 1);
                    assert_intact(&offered, 2);
                    assert_eq!(lost_pages(&taken, 3), BTreeSet::from([0]));
                }
                fill(&mut volatile, 9);
                assert_eq!(own_pages(&volatile), pages);
                assert!(volatile.offer());
                take(&volatile, 0..1);
                assert_eq!(lost_pages(&volatile, 9), BTreeSet::from([0]));
                let mine = filled(&heap, pages, 7);
                assert!(mine.offer());
                assert_intact(&mine, 7);
                drop(taken);
                // It forks like any other process.
                fork(|_| assert_intact(&mine, 7)).finish();
            });
            child.finish();
            assert_intact(&volatile, 1);
            assert_intact(&offered, 2);
            assert!(volatile.offer());
        }
    });
}

/// A child by `clone` alone must not change the counts of those that announced their forks.
#[test]
fn c09_a_child_by_clone_alone_does_not_speak_for_others() {
    in_child(|| {
        let (heap, mut reclaimer) = quiet_heap();
        let buffer = filled(&heap, 20, 1);
        let guard = buffer.pin().intact().expect("never offered");
        let sharer = fork(|line| {
            reclaimer.step();
            // SAFETY: the child's own copy of the guard, which it drops in the parent's place.
            drop(unsafe { std::ptr::read(&raw const guard) });
            line.signal();
            line.wait();
            line.say(&[u8::from(buffer.offer())]);
        });
        sharer.line.wait();
        // The parent has it pinned, the child volatile. A third process unpins its copy.
        let stranger = raw_clone(|_| {
            // SAFETY: as above.
            drop(unsafe { std::ptr::read(&raw const guard) });
            assert_intact(&buffer, 1);
        });
        stranger.finish();
        sharer.line.signal();
        assert_eq!(sharer.line.hear(), [0], "the parent still has it pinned");
        sharer.finish();
        drop(guard);
        assert!(buffer.offer());
    });
}

/// What a thread of the parent was doing to a range when the child was cloned is put right in the child.
#[test]
fn c09_a_clone_in_the_middle_of_a_rescue_or_release() {
    const PAGES: usize = 480;
    in_child(|| {
        let (heap, _reclaimer) = quiet_heap();
        let mut buffer = filled(&heap, PAGES, 1);
        for round in 0..120u32 {
            fill(&mut buffer, 1);
            assert!(buffer.offer());
            take(&buffer, 0..1);
            let releases = round % 2 == 1;
            let begun = AtomicU32::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    begun.store(1, Ordering::Release);
                    if releases {
                        assert!(buffer.release());
                    } else {
                        assert!(buffer.pin().is_purged());
                    }
                });
                while begun.load(Ordering::Acquire) == 0 {
                    std::hint::spin_loop();
                }
                for _ in 0..round * 40 {
                    std::hint::spin_loop();
                }
                let child = raw_clone(|_| {
                    if round % 4 < 2 {
                        // Announced, by a process that has yet to find out that it is one.
                        fork(|_| assert!(buffer.pin().is_purged())).finish();
                    }
                    let lost = lost_pages(&buffer, 1);
                    assert!(lost.contains(&0), "the first page was lost before all this");
                    assert!(releases || lost.len() == 1, "{lost:?}");
                    assert!(
                        matches!(buffer.pin(), Pinned::Purged(purged) if purged.lost_pages() == lost.len())
                    );
                });
                child.finish();
            });
            assert_eq!(lost_pages(&buffer, 1).len(), if releases { PAGES } else { 1 });
        }
    });
}
