//! `madvise`, with the two kinds of advice that the kernel does not have.

use libc::{c_int, c_void, size_t};
use vrange::raw;

use crate::errno::{fail, status, unnoticed};
use crate::mode::{Mode, mode};
use crate::{mappings, next};

/// Pages may disappear suddenly (the RFC's number).
const MADV_VOLATILE: c_int = 5;
/// They may no longer (the number that the RFC's earlier versions had).
const MADV_NOVOLATILE: c_int = 6;

/// Pages become ones that nobody may touch (Linux 6.13).
const MADV_GUARD_INSTALL: c_int = 102;

/// See `madvise(2)`, and the [crate] for advice 5 and 6.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn madvise(start: *mut c_void, bytes: size_t, advice: c_int) -> c_int {
    match advice {
        // SAFETY: the program's own wish, as for the two below.
        MADV_VOLATILE => unsafe { mark(start.cast(), bytes) },
        // SAFETY: as above.
        MADV_NOVOLATILE => unsafe { unmark(start.cast(), bytes) },
        _ => {
            match advice {
                libc::MADV_MERGEABLE => unnoticed(|| mappings::are_merged(start, bytes)),
                // A child would have the marks and something else in their place; pages that fault whoever reads them.
                libc::MADV_DONTFORK | MADV_GUARD_INSTALL => mappings::abandon(start, bytes),
                _ => {}
            }
            // SAFETY: passed on from the caller.
            unsafe { next::madvise(start, bytes, advice) }
        }
    }
}

/// # Safety
/// The program agrees that the contents may go.
unsafe fn mark(start: *mut u8, bytes: size_t) -> c_int {
    match mode() {
        Mode::Implicit => {
            if mappings::may_be_merged() {
                // SAFETY: changes no contents.
                unnoticed(|| unsafe { next::madvise(start.cast(), bytes, libc::MADV_UNMERGEABLE) });
            }
            // SAFETY: passed on from the caller.
            status(unnoticed(|| unsafe { raw::mark_now(start, bytes) }))
        }
        // SAFETY: passed on from the caller.
        Mode::Paired => status(unnoticed(|| unsafe { raw::mark(start, bytes) })),
    }
}

/// # Safety
/// Nobody stores to the memory meanwhile.
unsafe fn unmark(start: *mut u8, bytes: size_t) -> c_int {
    match mode() {
        // SAFETY: passed on from the caller.
        Mode::Implicit => status(unnoticed(|| unsafe { raw::unmark_now(start, bytes) })),
        // SAFETY: passed on from the caller.
        Mode::Paired => match unnoticed(|| unsafe { raw::unmark(start, bytes) }) {
            Ok(unmarked) if unmarked.is_purged() => {
                // For callers that take everything but 0 for an error, and ask what it was.
                fail(libc::ENODATA);
                1
            }
            Ok(_) => 0,
            Err(error) => fail(error.kind().errno()),
        },
    }
}
