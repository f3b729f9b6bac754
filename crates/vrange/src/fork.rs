//! `fork`: parent and child each get a heap that works, and neither waits for a thread that only the other has.
//!
//! Handlers (`pthread_atfork(3)`), registered at the first unpin of the process, do it for libc's `fork`:
//!
//! * *before*: the list of heaps and every heap are closed, which waits for offers, rescues and releases in progress, and
//!   ranges with pages are marked as [shared](crate::range::sharing);
//! * *after, in the parent*: everything is opened again;
//! * *after, in the child*: the same, and the reclaimer counts as never started, so that the child's next unpin starts one.
//!
//! A child that came by a raw `clone` system call ran no handlers. It finds out from a page that the kernel cleared for it
//! ([`vrange_os::process`]), before it does anything slow to a range. Its parent does not find out.
//!
//! Between the handlers that run before and after a `fork`, the forking thread waits for ever if it does anything slow to a
//! range: handlers that a program has registered itself must not use buffers.

use vrange_os::process;

use crate::heap::Inner;
use crate::reclaim::runtime;
use crate::sync::{AtomicU8, AtomicU64, Ordering, thread};

/// With the identity of a process: one of its threads is putting the copy right. (A child that is forked meanwhile has another
/// identity, so it does not wait for that thread, which it does not have.)
const ENTERING: u64 = 1 << 63;

/// Which process a heap in this memory belongs to: the one that made it, until a child takes its copy over.
#[derive(Debug)]
pub(crate) struct Owner {
    process: AtomicU64,
}

impl Owner {
    /// This process.
    pub(crate) fn new() -> Self {
        Self { process: AtomicU64::new(process::current().as_u64()) }
    }

    /// No process yet: the first to enter takes over.
    pub(crate) const fn new_unowned() -> Self {
        Self { process: AtomicU64::new(0) }
    }

    /// Has `recover` run once in each child, before any of its threads gets past this point.
    #[inline]
    pub(crate) fn enter(&self, recover: impl FnOnce()) {
        // Acquire pairs with the Release in `take_over`.
        if self.process.load(Ordering::Acquire) != process::current().as_u64() {
            self.take_over(recover);
        }
    }

    #[cold]
    fn take_over(&self, recover: impl FnOnce()) {
        let current = process::current().as_u64();
        // Acquire pairs with the Release below.
        let seen = self.process.load(Ordering::Acquire);
        if seen == current {
            return;
        }
        let entering = current | ENTERING;
        // Acquire pairs with the Release below, for a thread that comes second.
        let claim = self.process.compare_exchange(seen, entering, Ordering::Acquire, Ordering::Acquire);
        if seen != entering && claim.is_ok() {
            recover();
            // Release pairs with the Acquire in `enter`.
            self.process.store(current, Ordering::Release);
        } else {
            // Acquire pairs with the Release above, in another thread.
            while self.process.load(Ordering::Acquire) != current {
                thread::yield_now();
            }
        }
    }
}

/// Registers the handlers, once in the life of the process and of its children.
pub(crate) fn watch() {
    static WATCHED: AtomicU8 = AtomicU8::new(0);
    // Relaxed: only who is first counts.
    if WATCHED.swap(1, Ordering::Relaxed) == 0 {
        // SAFETY: the three functions stay where they are as long as the program runs, and do not unwind. A failure means
        // that no memory was left for the list of handlers; forks are then noticed as after a raw `clone`.
        let _ = unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    }
}

extern "C" fn before() {
    runtime::close_for_fork();
}

extern "C" fn after_in_parent() {
    runtime::open_after_fork(Inner::open);
}

extern "C" fn after_in_child() {
    runtime::enter_process();
    runtime::open_after_fork(Inner::enter_forked_child);
}
