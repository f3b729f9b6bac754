//! Memory for mimalloc's arenas, and what it does with it.

use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libmimalloc_sys::{mi_option_set, mi_option_set_default, mi_process_init};
use vrange::raw;
use vrange_malloc::free_memory;
use vrange_os::PAGE_BYTES;

/// `mi_commit_fun_t` (mimalloc.h, version 3).
type CommitFunction = unsafe extern "C" fn(
    commit: bool,
    start: *mut c_void,
    bytes: usize,
    is_zero: *mut bool,
    argument: *mut c_void,
) -> bool;

unsafe extern "C" {
    /// Has mimalloc use memory of ours (mimalloc.h, version 3; not among the crate's declarations).
    fn mi_manage_memory(
        start: *mut c_void,
        bytes: usize,
        is_committed: bool,
        is_pinned: bool,
        is_zero: bool,
        numa_node: c_int,
        exclusive: bool,
        commit_function: CommitFunction,
        argument: *mut c_void,
        arena: *mut *mut c_void,
    ) -> bool;
}

/// Numbers of `mi_option_t`, version 3.
const OPTION_PURGE_DELAY: c_int = 15;
const OPTION_PAGE_COMMIT_ON_DEMAND: c_int = 40;

const GIB: u64 = 1 << 30;
/// mimalloc makes arenas of 16 GiB at most, and cannot keep the books of one so large in it.
const ARENA_BYTES_MAX: u64 = 8 * GIB;
/// It makes no smaller one.
const ARENA_BYTES_MIN: u64 = 64 << 20;
/// Arenas begin where blocks of marks do.
const ALIGNMENT: usize = 4 << 20;
/// How many arenas are made at once, at most.
const ARENAS_AT_START: u64 = 8;
/// How many arenas may be made: enough for more memory than machines have.
const ARENAS_MAX: u64 = 64;

/// Bytes reserved in all, and those of them that mimalloc has committed at the moment. Relaxed: they are compared now and then.
static RESERVED_BYTES: AtomicU64 = AtomicU64::new(0);
static COMMITTED_BYTES: AtomicU64 = AtomicU64::new(0);
static ARENAS: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicBool = AtomicBool::new(false);

/// Gives mimalloc its first arena, and has the reclaimer give it more. To be called once, before there are other threads; later
/// calls do nothing. Returns whether there is one.
pub fn start() -> bool {
    // Relaxed, here and below: see the statics.
    if STARTED.swap(true, Ordering::Relaxed) {
        return ARENAS.load(Ordering::Relaxed) > 0;
    }
    // SAFETY: may be called at any time, and often.
    unsafe { mi_process_init() };
    // SAFETY: options of this version; nobody else is setting them.
    unsafe { mi_option_set(OPTION_PAGE_COMMIT_ON_DEMAND, c_long::from(false)) };
    // SAFETY: as above. What the environment says is kept.
    unsafe { mi_option_set_default(OPTION_PURGE_DELAY, 0) };
    if !vrange_malloc::kernel_overcommits() {
        return false;
    }
    // As much as the machine has memory, so that there is rarely need for more.
    let mut bytes = memory_bytes().next_multiple_of(GIB).min(ARENAS_AT_START * ARENA_BYTES_MAX);
    while bytes > 0 && add_arena(bytes.min(ARENA_BYTES_MAX)) {
        bytes = bytes.saturating_sub(ARENA_BYTES_MAX);
    }
    raw::set_housekeeping(add_arena_in_time);
    ARENAS.load(Ordering::Relaxed) > 0 // Relaxed: as above.
}

/// The machine's memory.
fn memory_bytes() -> u64 {
    // SAFETY: asks for a number.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    u64::try_from(pages).map_or(GIB, |pages| pages.saturating_mul(PAGE_BYTES as u64)).max(GIB)
}

/// Makes another arena when less than a quarter of what is reserved is free.
fn add_arena_in_time() {
    // Relaxed: see the statics.
    let (reserved, committed) =
        (RESERVED_BYTES.load(Ordering::Relaxed), COMMITTED_BYTES.load(Ordering::Relaxed));
    if committed > reserved / 4 * 3 && ARENAS.load(Ordering::Relaxed) < ARENAS_MAX {
        // Relaxed: see the statics.
        add_arena(ARENA_BYTES_MAX);
    }
}

/// Makes an arena of this size, or of as much less as the process may have. Returns whether that could be done.
fn add_arena(bytes: u64) -> bool {
    let mut bytes = bytes.min(address_space_left() / 2);
    while bytes >= ARENA_BYTES_MIN {
        let whole = usize::try_from(bytes).unwrap_or(0) / ALIGNMENT * ALIGNMENT;
        if let Some(start) = reserve(whole) {
            return manage(start, whole);
        }
        bytes /= 2;
    }
    false
}

/// What `ulimit -v` leaves.
fn address_space_left() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: has the structure filled in.
    if unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } != 0
        || limit.rlim_cur == libc::RLIM_INFINITY
    {
        return u64::MAX;
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0);
    limit.rlim_cur.saturating_sub(pages * PAGE_BYTES as u64)
}

/// Address space, readable and writable, that takes no memory until it is touched.
fn reserve(bytes: usize) -> Option<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let longer = bytes.checked_add(ALIGNMENT)?;
    // SAFETY: a new mapping wherever the kernel likes.
    let mapped = unsafe { map(longer, protection, flags) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    let mapped: *mut u8 = mapped.cast();
    let before = mapped.align_offset(ALIGNMENT);
    for (part, bytes) in [(mapped, before), (mapped.wrapping_add(before + bytes), ALIGNMENT - before)] {
        if bytes > 0 {
            // SAFETY: a part of the mapping made just above, which nobody uses.
            unsafe { libc::syscall(libc::SYS_munmap, part, bytes) };
        }
    }
    Some(mapped.wrapping_add(before))
}

/// By the system call itself: whatever stands before libc's function has no business with this.
///
/// # Safety
/// As for `mmap(2)` without an address.
unsafe fn map(bytes: usize, protection: c_int, flags: c_int) -> *mut c_void {
    // SAFETY: passed on from the caller.
    let address = unsafe { libc::syscall(libc::SYS_mmap, 0usize, bytes, protection, flags, -1, 0usize) };
    std::ptr::with_exposed_provenance_mut(address.cast_unsigned().try_into().unwrap_or(usize::MAX))
}

/// Has mimalloc use it. Returns whether it does.
fn manage(start: *mut u8, bytes: usize) -> bool {
    // SAFETY: a private anonymous mapping, readable and writable, that is never unmapped. Failing that, its memory is not marked.
    let _ = unsafe { raw::adopt(start, bytes) };
    let nobody = std::ptr::null_mut();
    // SAFETY: as above; it is not committed as far as mimalloc is concerned, so that the callback hears of all of it; it is zero.
    let managed = unsafe {
        mi_manage_memory(
            start.cast(),
            bytes,
            false,
            false,
            true,
            -1,
            false,
            commit_or_decommit,
            nobody,
            nobody.cast(),
        )
    };
    if managed {
        // Relaxed: see the statics.
        RESERVED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        ARENAS.fetch_add(1, Ordering::Relaxed); // Relaxed: as above.
    }
    managed
}

/// mimalloc wants a part of an arena, or has no use for it at the moment. What it wants may be in use in parts already.
///
/// Decommitting succeeds always: otherwise no commit would follow.
unsafe extern "C" fn commit_or_decommit(
    commit: bool,
    start: *mut c_void,
    bytes: usize,
    is_zero: *mut bool,
    _: *mut c_void,
) -> bool {
    let start: *mut u8 = start.cast();
    if commit {
        COMMITTED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed); // Relaxed: see the statics.
        // SAFETY: a part of an arena. What of it is in use was not given.
        let lost = unsafe { free_memory::take(start, bytes) };
        if !is_zero.is_null() {
            // SAFETY: mimalloc's own variable.
            unsafe { is_zero.write(lost) };
        }
        return true;
    }
    // Relaxed: see the statics.
    COMMITTED_BYTES.fetch_sub(bytes as u64, Ordering::Relaxed);
    // SAFETY: a part of an arena that is not in use, and will not be before it is committed.
    if !unsafe { free_memory::give(start, bytes) } {
        // SAFETY: as above: nobody wants the contents.
        unsafe { libc::syscall(libc::SYS_madvise, start, bytes, libc::MADV_DONTNEED) };
    }
    true
}
