//! The calls by which a program forks. A child has no reclaimer until it is started there, which takes an allocation: for tcmalloc and
//! jemalloc it cannot be done by the hook that first needs it, inside the allocator, nor by a handler of `pthread_atfork(3)`, which may run before the
//! allocator's own. When these calls return in the child, all handlers have run. A child on mimalloc has one when it first needs it; until then it has no
//! use for what was marked in its parent, which is dropped.
//!
//! `vfork`, `posix_spawn` and what is built on them end in another program, which begins anew. A child by a raw `clone` has no reclaimer:
//! free memory is given back there in the allocator's own way.

use libc::{c_char, c_int, pid_t};

use crate::allocators;
use crate::errno::unnoticed;
use crate::next;

/// See `fork(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fork() -> pid_t {
    // SAFETY: passed on from the caller.
    let child = unsafe { next::fork() };
    if child == 0 {
        unnoticed(allocators::enter_child);
    }
    child
}

/// See `daemon(3)`. It returns in a child.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn daemon(keep_folder: c_int, keep_streams: c_int) -> c_int {
    // SAFETY: passed on from the caller.
    let outcome = unsafe { next::daemon(keep_folder, keep_streams) };
    if outcome == 0 {
        unnoticed(allocators::enter_child);
    }
    outcome
}

/// See `forkpty(3)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn forkpty(
    leader: *mut c_int,
    name: *mut c_char,
    settings: *const libc::termios,
    size: *const libc::winsize,
) -> pid_t {
    // SAFETY: passed on from the caller.
    let child = unsafe { next::forkpty(leader, name, settings, size) };
    if child == 0 {
        unnoticed(allocators::enter_child);
    }
    child
}
