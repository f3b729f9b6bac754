//! The limits that count what is reserved for arenas, so that room is made for them first: that of address space (`RLIMIT_AS`), when the
//! program sets it itself, and that of locked memory (`RLIMIT_MEMLOCK`), when it locks all it has.

use libc::{RLIMIT_AS, RLIMIT_MEMLOCK, c_int, c_uint, pid_t, rlimit};

/// libc's functions for this all come down to this call.
///
/// # Safety
/// As for `prlimit(2)`.
unsafe fn set(process: pid_t, resource: c_uint, new: *const rlimit, old: *mut rlimit) -> c_int {
    // SAFETY: passed on from the caller.
    let limit = unsafe { new.as_ref() }.map_or(libc::RLIM_INFINITY, |new| new.rlim_cur);
    if resource == RLIMIT_AS && limit != libc::RLIM_INFINITY {
        // SAFETY: asks for the number of this process.
        if process == 0 || process == unsafe { libc::getpid() } {
            vrange_allocator::make_room(limit);
        }
    }
    // SAFETY: passed on from the caller; each argument is as wide as a register.
    let answer = unsafe { libc::syscall(libc::SYS_prlimit64, process, resource, new, old) };
    if answer == 0 { 0 } else { -1 }
}

/// Before `mlockall(MCL_CURRENT)`, which an unprivileged process may not call where its address space is larger than this limit.
pub(crate) fn make_room_to_lock() {
    let mut limit = rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel writes to the structure alone.
    let known = unsafe { libc::getrlimit(RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    if known && limit.rlim_cur != libc::RLIM_INFINITY {
        vrange_allocator::make_room(limit.rlim_cur);
    }
}

/// See `setrlimit(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn setrlimit(resource: c_uint, new: *const rlimit) -> c_int {
    // SAFETY: passed on from the program.
    unsafe { set(0, resource, new, std::ptr::null_mut()) }
}

/// The same where limits have 64 bits.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn setrlimit64(resource: c_uint, new: *const rlimit) -> c_int {
    // SAFETY: passed on from the program.
    unsafe { set(0, resource, new, std::ptr::null_mut()) }
}

/// See `prlimit(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn prlimit(
    process: pid_t,
    resource: c_uint,
    new: *const rlimit,
    old: *mut rlimit,
) -> c_int {
    // SAFETY: passed on from the program.
    unsafe { set(process, resource, new, old) }
}

/// The same where limits have 64 bits.
///
/// # Safety
/// As above.
#[unsafe(no_mangle)]
unsafe extern "C" fn prlimit64(
    process: pid_t,
    resource: c_uint,
    new: *const rlimit,
    old: *mut rlimit,
) -> c_int {
    // SAFETY: passed on from the program.
    unsafe { set(process, resource, new, old) }
}
