//! Descriptors that a library keeps open inside somebody else's process.
//!
//! Their numbers are part of the program's world: it may close all that it does not know, expect the lowest number to be free, or
//! give a number to a file of its own that the library then reads or writes. So the library's thread has a table of its own.

use std::cell::Cell;
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::{OsError, process};

thread_local! {
    static SEPARATE: Cell<bool> = const { Cell::new(false) };
}

/// Has the calling thread a table of its own?
fn is_separate() -> bool {
    SEPARATE.get()
}

/// Gives the calling thread an empty table of descriptors of its own (`CLOSE_RANGE_UNSHARE`, Linux 5.9). What it opens from now
/// on is seen by no other thread and inherited by no child, and the program's descriptors are out of its reach. One thread of a
/// process may do so, before it opens anything.
///
/// # Errors
/// `close_range`: an older kernel, or a seccomp filter. The thread shares the process's table as before.
pub fn separate() -> Result<(), OsError> {
    // ThreadSanitizer takes equal numbers for the same file.
    if cfg!(thread_sanitizer) {
        return Err(OsError::new("close_range", rustix::io::Errno::NOSYS));
    }
    let flags = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: the thread leaves the process's table first, so what is closed are copies that nobody else has.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, flags) } != 0 {
        return Err(OsError::new("close_range", OsError::last_errno()));
    }
    SEPARATE.set(true);
    // Whoever writes to standard error, such as a panic, is not to hit one of the files below.
    for _ in 0..3 {
        if let Ok(nothing) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            let _ = nothing.into_raw_fd();
        }
    }
    Ok(())
}

/// A descriptor that belongs to the process that opened it, and a fact about it: a child opens its own at first use, and so does the
/// thread that has [a table of its own](separate). Lock-free, for the reason given at [`process::current`], and without an
/// allocation.
///
/// The parent's descriptor stays open in a child, one per `fork` at most: by now the child may have given its number to something
/// else.
#[derive(Debug)]
pub struct DescriptorPerProcess {
    /// In the process's table.
    shared: AtomicU64,
    /// In that of the separate thread. Both: the lower half of the owner's identity, the descriptor, and the fact; 0: there is none.
    separate: AtomicU64,
}

impl Default for DescriptorPerProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl DescriptorPerProcess {
    /// Holds nothing yet.
    pub const fn new() -> Self {
        Self { shared: AtomicU64::new(0), separate: AtomicU64::new(0) }
    }

    fn packed(&self) -> &AtomicU64 {
        if is_separate() { &self.separate } else { &self.shared }
    }

    /// The descriptor of this process, opened by `open` if there is none.
    ///
    /// # Errors
    /// What `open` returns; the next call tries again.
    pub fn get_or_try_open<E>(
        &self,
        open: impl FnOnce() -> Result<(OwnedFd, bool), E>,
    ) -> Result<(BorrowedFd<'static>, bool), E> {
        let owner = process::current().as_u64() << u32::BITS;
        let packed = self.packed();
        // Acquire pairs with the Release in the exchange below: whoever finds the number finds an open file.
        let before = packed.load(Ordering::Acquire);
        if before != 0 && before >> u32::BITS << u32::BITS == owner {
            return Ok(unpack(before));
        }
        let (descriptor, fact) = open()?;
        let number = u64::from(descriptor.as_raw_fd().unsigned_abs());
        let fresh = owner | number << 1 | u64::from(fact);
        Ok(match packed.compare_exchange(before, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // Open for good.
                let _ = descriptor.into_raw_fd();
                unpack(fresh)
            }
            // Another thread of this process was faster, and ours is closed.
            Err(faster) => unpack(faster),
        })
    }

    /// Whoever has closed the program's descriptors has closed this one, too: the next call opens another.
    pub fn forget(&self) {
        self.packed().store(0, Ordering::Relaxed); // Relaxed: nothing is published.
    }
}

fn unpack(packed: u64) -> (BorrowedFd<'static>, bool) {
    let number = i32::try_from(packed >> 1 & (u64::from(u32::MAX) >> 1)).unwrap_or(i32::MAX);
    // SAFETY: a descriptor that `get_or_try_open` has taken out of its owner, so it is never closed.
    (unsafe { BorrowedFd::borrow_raw(number) }, packed & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn open() -> Result<(OwnedFd, bool), rustix::io::Errno> {
        Ok((rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, true))
    }

    #[test]
    fn a_separate_thread_has_descriptors_that_nobody_else_sees() {
        static KEPT: DescriptorPerProcess = DescriptorPerProcess::new();
        let (shared, fact) = KEPT.get_or_try_open(open).expect("a descriptor");
        assert!(fact);
        let number = shared.as_raw_fd();
        let separated = std::thread::spawn(move || {
            if separate().is_err() {
                return None;
            }
            // The table is as good as empty, so the lowest number is given, which the process uses for something else.
            let (own, _) = KEPT.get_or_try_open(open).expect("a descriptor");
            assert_eq!(own.as_raw_fd(), 3);
            assert!(rustix::io::fcntl_getfd(own.as_fd()).is_ok());
            let (again, _) = KEPT.get_or_try_open(|| Err(())).expect("it is open");
            Some(again.as_raw_fd())
        });
        match separated.join().expect("the thread ends") {
            Some(own) => assert_eq!(own, 3),
            None => vrange_testing::skipped("close_range is refused"),
        }
        let (still, _) = KEPT.get_or_try_open(|| Err(())).expect("it is open");
        assert_eq!(still.as_raw_fd(), number);
        assert!(
            rustix::io::fcntl_getfd(still).is_ok(),
            "the separate thread has closed a descriptor of ours"
        );
    }
}
