//! The reclaimer after a fork: the parent's goes on, the child has none until its first unpin starts one.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use vrange::{Heap, Phase};
use vrange_testing::{in_child, is_child, scale};

use crate::support::{assert_intact, eager_heap, eventually, fill, filled, fork, reclaimers};

#[test]
fn c09_the_child_starts_a_reclaimer_of_its_own() {
    in_child(|| {
        let heap = eager_heap();
        let mut buffer = filled(&heap, 20, 1);
        eventually("the parent's reclaimer offers", || buffer.phase() == Phase::Offered);
        assert_eq!(reclaimers(), 1);
        let child = fork(|line| {
            assert_eq!((reclaimers(), buffer.phase()), (0, Phase::Offered));
            assert_intact(&buffer, 1);
            eventually("the child's reclaimer runs", || reclaimers() == 1);
            fill(&mut buffer, 2);
            eventually("and offers what is the child's own", || buffer.phase() == Phase::Offered);
            assert_intact(&buffer, 2);
            line.signal();
            line.wait();
        });
        child.line.wait();
        assert_eq!(reclaimers(), 1);
        for seed in 10..15 {
            fill(&mut buffer, seed);
            eventually("the parent's reclaimer still offers", || buffer.phase() == Phase::Offered);
            assert_intact(&buffer, seed);
        }
        child.line.signal();
        child.finish();
    });
}

#[test]
fn c09_both_reclaimers_offer_what_is_volatile_in_both() {
    in_child(|| {
        let heap = eager_heap();
        let buffer = filled(&heap, 20, 1);
        let guard = buffer.pin().intact().expect("never taken");
        let other = filled(&heap, 1, 1);
        let child = fork(|line| {
            drop(other.pin());
            line.wait();
            assert_eq!(
                buffer.phase(),
                Phase::Pinned,
                "by the guard of the parent's main thread, which is this one"
            );
            line.wait();
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(guard);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(buffer.phase(), Phase::Volatile, "the child has it pinned");
        child.line.signal();
        child.kill(libc::SIGKILL);
        eventually("it is offered when the child is gone", || buffer.phase() == Phase::Offered);
        assert_intact(&buffer, 1);
    });
}

/// A reclaimer that sleeps because nothing is volatile is a thread of the parent all the same.
#[test]
fn c09_a_fork_while_the_reclaimer_sleeps() {
    in_child(|| {
        let heap = eager_heap();
        let buffer = filled(&heap, 20, 1);
        let guard = buffer.pin().intact().expect("nothing takes memory here");
        std::thread::sleep(std::time::Duration::from_millis(50));
        let child = fork(|_| {
            assert_eq!(reclaimers(), 0);
            let mine = filled(&heap, 3, 2);
            eventually("the child's reclaimer offers", || mine.phase() == Phase::Offered);
            assert_eq!(reclaimers(), 1);
            assert_intact(&mine, 2);
        });
        child.finish();
        drop(guard);
        eventually("the parent's reclaimer wakes up", || buffer.phase() == Phase::Offered);
    });
}

#[test]
fn c09_the_child_of_a_child_starts_one_too() {
    in_child(|| {
        let heap = eager_heap();
        let buffer = filled(&heap, 4, 1);
        let child = fork(|_| {
            assert_intact(&buffer, 1);
            eventually("a reclaimer in the child", || reclaimers() == 1);
            let grandchild = fork(|_| {
                assert_eq!(reclaimers(), 0);
                let mine = filled(&heap, 4, 3);
                eventually("a reclaimer in the grandchild", || mine.phase() == Phase::Offered);
                assert_intact(&mine, 3);
                assert_intact(&buffer, 1);
            });
            grandchild.finish();
            assert_eq!(reclaimers(), 1);
        });
        child.finish();
    });
}

/// The first thread of a process does what later ones need not, and what it has begun is not to be waited for in a child.
#[test]
fn c09_a_fork_while_the_first_reclaimer_starts() {
    let processes = if is_child() { 1 } else { scale().pick(20, 500) };
    for _ in 0..processes {
        in_child(|| {
            let heap = eager_heap();
            let buffer = filled(&heap, 4, 1);
            let wait = Duration::from_nanos(RandomState::new().hash_one(0) % 400_000);
            let start = Instant::now();
            while start.elapsed() < wait {
                std::hint::spin_loop();
            }
            let child = fork(|_| {
                assert_intact(&buffer, 1);
                let mine = filled(&heap, 4, 3);
                eventually("a reclaimer in the child", || mine.phase() == Phase::Offered);
                assert_intact(&mine, 3);
            });
            child.finish();
        });
    }
}

/// A child with threads of its own uses what it inherited like any other process.
#[test]
fn c09_a_child_may_have_many_threads() {
    in_child(|| {
        let heap = eager_heap();
        let shared = filled(&heap, 30, 1);
        let child = fork(|_| {
            std::thread::scope(|scope| {
                for number in 0..4 {
                    let (heap, shared) = (&heap, &shared);
                    scope.spawn(move || work(heap, shared, number));
                }
            });
            assert_eq!(reclaimers(), 1);
        });
        work(&heap, &shared, 20);
        child.finish();
    });

    fn work(heap: &Heap, shared: &vrange::Buffer, number: u8) {
        let mut mine = filled(heap, 20, number);
        for round in 0..100 {
            assert_intact(shared, 1);
            mine.offer();
            assert_intact(&mine, number);
            if round % 10 == 0 {
                mine = filled(heap, 20, number);
            }
            shared.offer();
        }
    }
}
