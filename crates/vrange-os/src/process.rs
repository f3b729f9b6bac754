//! Which process is this? `fork` copies everything in memory, also what must not be shared: descriptors that speak of
//! the parent, threads that are not there any more.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::{OsError, PAGE_BYTES};

/// Tells a process from those it was forked from. Unique along the line of ancestors, which is all that a copied
/// value can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId(u64);

impl ProcessId {
    /// As a number, never 0 and never [`u64::MAX`].
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// The next identity to hand out. It is copied by `fork`, so a child counts on from where its parent stood.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Address of a page that the kernel clears in every child (`MADV_WIPEONFORK`, Linux 4.14), however the child was made:
/// libc's `fork` runs handlers, a raw `clone` system call runs none. 0: not mapped yet; 1: there is no such page.
static WIPED_PAGE: AtomicUsize = AtomicUsize::new(UNMAPPED);
const UNMAPPED: usize = 0;
const UNSUPPORTED: usize = 1;

/// The identity of the running process. Two loads once it is known; no system call, no lock (a lock held by another
/// thread at the moment of a `fork` stays held in the child for ever).
///
/// Where the kernel has no `MADV_WIPEONFORK` the answer falls back to `getpid(2)`, one system call.
pub fn current() -> ProcessId {
    // Acquire pairs with the AcqRel exchange in `map_wiped_page`.
    let page = match WIPED_PAGE.load(Ordering::Acquire) {
        UNMAPPED => map_wiped_page(),
        known => known,
    };
    if page == UNSUPPORTED {
        return ProcessId(u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).unwrap_or(0));
    }
    // SAFETY: the page was mapped readable and writable by `map_wiped_page`, is never unmapped, and is only accessed
    // as this atomic.
    let identity = unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(page)) };
    // Relaxed: the number publishes nothing but itself.
    match identity.load(Ordering::Relaxed) {
        0 => {
            let fresh = NEXT.fetch_add(1, Ordering::Relaxed) + 1;
            match identity.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => ProcessId(fresh),
                Err(other_thread) => ProcessId(other_thread),
            }
        }
        known => ProcessId(known),
    }
}

/// Maps the page, or finds that another thread was faster. Returns what [`WIPED_PAGE`] now holds.
fn map_wiped_page() -> usize {
    if cfg!(miri) {
        // Miri knows neither this advice nor processes that fork.
        return UNSUPPORTED;
    }
    let flags = MapFlags::PRIVATE;
    // SAFETY: a new private mapping wherever the kernel likes; it cannot overlap memory in use.
    let mapped = unsafe { mmap_anonymous(null_mut(), PAGE_BYTES, ProtFlags::READ | ProtFlags::WRITE, flags) };
    let Ok(page) = mapped else { return UNSUPPORTED };
    // SAFETY: the page was mapped just above and nobody else knows it.
    let wiped = unsafe { madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) }.is_ok();
    let found = if wiped { page.expose_provenance() } else { UNSUPPORTED };
    // AcqRel pairs with the Acquire load in `current`, and with itself in a racing thread.
    let winner = match WIPED_PAGE.compare_exchange(UNMAPPED, found, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => found,
        Err(faster) => faster,
    };
    if winner != page.expose_provenance() {
        // SAFETY: the page was not published, so nothing refers to it.
        let _ = unsafe { munmap(page, PAGE_BYTES) };
    }
    winner
}

/// With the identity of a process: one of its threads is putting the copy right. (A child that is forked meanwhile has another
/// identity, so it does not wait for that thread, which it does not have.)
const ENTERING: u64 = 1 << 63;

/// Which process something in this memory belongs to: the one that made it, until a child takes its copy over.
#[derive(Debug)]
pub struct Owner {
    process: AtomicU64,
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl Owner {
    /// This process.
    pub fn new() -> Self {
        Self { process: AtomicU64::new(current().as_u64()) }
    }

    /// No process yet: the first to enter takes over.
    pub const fn new_unowned() -> Self {
        Self { process: AtomicU64::new(0) }
    }

    /// Has `recover` run once in each child, before any of its threads gets past this point.
    #[inline]
    pub fn enter(&self, recover: impl FnOnce()) {
        // Acquire pairs with the Release in `take_over`.
        if self.process.load(Ordering::Acquire) != current().as_u64() {
            self.take_over(recover);
        }
    }

    #[cold]
    fn take_over(&self, recover: impl FnOnce()) {
        let current = current().as_u64();
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
                std::thread::yield_now();
            }
        }
    }
}

/// Has the three functions run at each `fork` of libc's (`pthread_atfork(3)`): before it in the parent, and after it in the
/// parent and in the child. For good: there is no way to take them back. A raw `clone` runs none of them.
///
/// # Errors
/// No memory for libc's list of handlers (`ENOMEM`).
pub fn at_fork(
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
) -> Result<(), OsError> {
    // SAFETY: functions of the program, which stay where they are as long as it runs; an `extern "C"` function does not
    // unwind. (A library that is unloaded takes its handlers with it: glibc removes them then.)
    match unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) } {
        0 => Ok(()),
        error => Err(OsError::new("pthread_atfork", rustix::io::Errno::from_raw_os_error(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_another_process_even_by_raw_clone() {
        let parent = current();
        assert_eq!(parent, current());
        // SAFETY: a raw fork-like clone; the child only loads memory, makes no allocation, and exits.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let differs = current() != parent;
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(!differs)) };
        }
        let mut status = 0;
        let child = i32::try_from(child).expect("a process id");
        // SAFETY: waits for the child made above; `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child took itself for its parent");
        assert_eq!(parent, current());
    }
}
