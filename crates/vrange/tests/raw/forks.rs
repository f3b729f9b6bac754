//! C9 for marked memory: exact in parent and child, no deadlock, and what is shared is kept.

use std::sync::atomic::{AtomicBool, Ordering};

use vrange::raw;
use vrange_os::PAGE_BYTES;
use vrange_testing::{StopAtEnd, in_child};

use crate::support::{Mapping, in_fork, offer_all};

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

/// Nothing was marked before the `fork`, so nobody noticed it.
#[test]
fn c09_what_was_shared_before_anything_was_marked_is_not_offered() {
    in_child(|| {
        let memory = Mapping::adopted(100);
        memory.fill(0..100, 1);
        let zeros = Mapping::adopted(10);
        (0..10).for_each(|page| zeros.write(page, 0));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a connection");
        // SAFETY: the child waits for the parent's end of the connection to close, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(ours);
            let _ = std::io::Read::read(&mut &theirs, &mut [0]);
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(0) };
        }
        drop(theirs);
        memory.mark(0..100);
        zeros.mark(0..10);
        assert_eq!(raw::offer(u64::MAX).expect("an offer"), 10 * PAGE_BYTES as u64, "zeros alone");
        memory.take(0..100);
        assert_eq!(memory.unmark(0..100), []);
        memory.assert_filled(0..100, 1);
        drop(ours);
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        memory.mark(0..100);
        offer_all();
        memory.take(0..100);
        assert_eq!(memory.unmark(0..100).len(), 100, "the parent has it alone now");
    });
}

/// As an allocator has it: a lock that its `fork` handlers take, and under which marks are made.
static ALLOCATOR: AtomicBool = AtomicBool::new(false);

extern "C" fn lock() {
    // Acquire pairs with the Release in `unlock`.
    while ALLOCATOR.swap(true, Ordering::Acquire) {
        std::thread::yield_now();
    }
}

extern "C" fn unlock() {
    // Release pairs with the Acquire in `lock`.
    ALLOCATOR.store(false, Ordering::Release);
}

#[test]
fn c09_marks_under_a_lock_that_fork_handlers_take_do_not_deadlock() {
    in_child(|| {
        // SAFETY: ends this process if it hangs.
        unsafe { libc::alarm(60) };
        // Before the library's own, as an allocator's are.
        // SAFETY: functions of the program.
        let registered = unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) };
        assert_eq!(registered, 0);
        let memory = Mapping::adopted(4000);
        memory.fill(0..4000, 1);
        memory.mark(3000..4000);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&over);
            scope.spawn(|| {
                // Relaxed: it only ends the loop.
                while !over.load(Ordering::Relaxed) {
                    lock();
                    memory.mark(0..2000);
                    memory.unmark(0..2000);
                    // SAFETY: as its caller's.
                    unsafe { raw::abandon(memory.at_page(1000), 1000 * PAGE_BYTES) }.expect("abandoned");
                    // SAFETY: the same mapping still.
                    unsafe { raw::adopt(memory.at_page(1000), 1000 * PAGE_BYTES) }.expect("adopted");
                    unlock();
                    // The lock is not fair: others are to have it, too.
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
            });
            for _ in 0..200 {
                let child = in_fork(|| {
                    lock();
                    memory.mark(0..3000);
                    assert_eq!(memory.unmark(0..3000), []);
                    // Has to wait for everybody who holds the blocks, which are threads of the parent's.
                    raw::forget(memory.base(), 4000 * PAGE_BYTES).expect("to be forgotten");
                    unlock();
                });
                assert!(child, "the child found something wrong");
            }
        });
    });
}

#[test]
fn c09_a_fork_beside_busy_threads_leaves_both_sides_working() {
    in_child(|| {
        let memory = Mapping::adopted(4000);
        memory.fill(0..4000, 1);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&over);
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
                assert!(child, "the child found something wrong");
            }
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
