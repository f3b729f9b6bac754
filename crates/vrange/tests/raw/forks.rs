//! C9 for marked memory: exact in parent and child, no deadlock, and what is shared is kept.

use std::sync::atomic::{AtomicBool, Ordering};

use vrange::raw;
use vrange_testing::in_child;

use crate::support::{Mapping, offer_all};

/// Runs `child` in a child made by `fork`, and returns whether it ended well.
fn in_fork(child: impl FnOnce()) -> bool {
    // SAFETY: the child runs `child`, which stays away from locks that other threads may hold, and exits.
    match unsafe { libc::fork() } {
        0 => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: waits for the child made above.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            status == 0
        }
    }
}

#[test]
fn c09_marks_are_exact_in_parent_and_child() {
    in_child(|| {
        let memory = Mapping::adopted(300);
        memory.fill(0..300, 1);
        memory.mark(0..100);
        offer_all();
        memory.mark(100..200);
        memory.take(0..30);
        let child = in_fork(|| {
            assert_eq!(memory.unmark(0..300), (0..30).collect::<Vec<_>>());
            memory.assert_filled(30..300, 1);
            memory.fill(0..300, 500);
            memory.mark(0..300);
            offer_all();
            memory.take(0..300);
            assert_eq!(memory.unmark(0..300).len(), 300, "what the child wrote is its own");
        });
        assert!(child, "the child found something wrong");
        assert_eq!(memory.unmark(0..300), (0..30).collect::<Vec<_>>());
        memory.assert_filled(30..300, 1);
    });
}

#[test]
fn c09_what_another_process_maps_is_not_offered() {
    in_child(|| {
        let memory = Mapping::adopted(100);
        memory.fill(0..100, 1);
        memory.mark(0..1);
        let child = in_fork(|| {
            memory.mark(0..100);
            offer_all();
            memory.take(0..100);
            assert_eq!(memory.unmark(0..100), []);
            memory.assert_filled(0..100, 1);
        });
        assert!(child, "the child lost what its parent uses");
        // The parent has it alone now.
        memory.mark(0..100);
        offer_all();
        memory.take(0..100);
        assert_eq!(memory.unmark(0..100).len(), 100);
    });
}

#[test]
fn c09_a_fork_beside_busy_threads_leaves_both_sides_working() {
    in_child(|| {
        let memory = Mapping::adopted(4000);
        memory.fill(0..4000, 1);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (memory, over) = (&memory, &over);
                scope.spawn(move || {
                    let pages = thread * 1000..(thread + 1) * 1000;
                    // Relaxed: it only ends the loop.
                    while !over.load(Ordering::Relaxed) {
                        memory.mark(pages.clone());
                        memory.unmark(pages.clone());
                    }
                });
            }
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    raw::offer(4 << 20).expect("an offer");
                }
            });
            for _ in 0..50 {
                let child = in_fork(|| {
                    memory.mark(2000..4000);
                    offer_all();
                    assert_eq!(memory.unmark(2000..4000), []);
                    memory.assert_filled(2000..4000, 1);
                });
                if !child {
                    over.store(true, Ordering::Relaxed);
                }
                assert!(child, "the child found something wrong");
            }
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn c09_a_child_by_clone_alone_goes_on() {
    in_child(|| {
        let memory = Mapping::adopted(64);
        memory.fill(0..64, 1);
        memory.mark(0..64);
        offer_all();
        // SAFETY: a raw fork-like clone of a process whose other threads hold no lock that the child takes.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_eq!(memory.unmark(0..64), []);
                memory.assert_filled(0..64, 1);
                memory.fill(0..64, 9);
                memory.mark(0..64);
            }));
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(outcome.is_err())) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(i32::try_from(child).expect("a process id"), &raw mut status, 0) };
        assert_eq!(status, 0, "the child found something wrong");
        assert_eq!(memory.unmark(0..64), []);
        memory.assert_filled(0..64, 1);
    });
}
