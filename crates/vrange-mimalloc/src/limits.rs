//! The calls by which a program limits itself. A limit of address space (`RLIMIT_AS`) counts what is reserved for arenas, too, so that
//! room is made for it first.

use libc::{RLIMIT_AS, c_int, c_uint, pid_t, rlimit};

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
