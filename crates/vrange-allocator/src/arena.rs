//! Memory for mimalloc's arenas, and what it does with it.

use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use libmimalloc_sys::{mi_option_set, mi_option_set_default, mi_process_init};
use vrange::raw;
use vrange_malloc::free_memory;

use crate::reservation::{self, Reservation};

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
/// mimalloc makes no smaller arena.
const ARENA_BYTES_MIN: u64 = 64 << 20;
/// How many arenas are made at once, at most.
const ARENAS_AT_START: usize = 8;
/// How many arenas may be made. mimalloc has room for 160.
const ARENAS_MAX: usize = 64;
/// An allocation of this size has the reclaimer started: a program that makes none is likely to free little.
const LARGE_BYTES: usize = 128 << 10;

static ARENAS: [Reservation; ARENAS_MAX] = [const { Reservation::new() }; ARENAS_MAX];
/// Relaxed, all of them: they are set by one thread, and compared now and then.
static ARENAS_MADE: AtomicUsize = AtomicUsize::new(0);
static RESERVED_BYTES: AtomicU64 = AtomicU64::new(0);
static COMMITTED_BYTES: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicBool = AtomicBool::new(false);
/// An allocation of so many bytes has the reclaimer started, if there is none. [`usize::MAX`]: none does.
static PREPARES_FROM_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Gives mimalloc its arenas, and has the reclaimer give it more. To be called once, before there are other threads; later calls do
/// nothing.
pub fn start() {
    // Relaxed: see the statics.
    if STARTED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: may be called at any time, and often.
    unsafe { mi_process_init() };
    // SAFETY: options of this version; nobody else is setting them.
    unsafe { mi_option_set(OPTION_PAGE_COMMIT_ON_DEMAND, c_long::from(false)) };
    if !vrange_malloc::kernel_overcommits() {
        return;
    }
    // As much as the machine has memory, so that there is rarely need for more.
    let mut bytes = rustix::system::sysinfo().totalram.next_multiple_of(GIB);
    for _ in 0..ARENAS_AT_START {
        // What came out smaller was limited, and the rest is for the program.
        let made = add_arena(bytes);
        bytes = bytes.saturating_sub(reservation::BYTES_MAX);
        if bytes == 0 || made != Some(reservation::BYTES_MAX) {
            break;
        }
    }
    // Relaxed: see the statics.
    if ARENAS_MADE.load(Ordering::Relaxed) > 0 {
        // SAFETY: as above. What the environment says is kept.
        unsafe { mi_option_set_default(OPTION_PURGE_DELAY, 0) };
        raw::set_housekeeping(add_arena_in_time);
        PREPARES_FROM_BYTES.store(LARGE_BYTES, Ordering::Relaxed); // Relaxed: see the statics.
    }
}

/// To be called after each allocation, outside of mimalloc, where a thread can be started: has the reclaimer started when there is use
/// for it. A load and a comparison.
#[inline]
pub fn allocated(bytes: usize) {
    // Relaxed: see the statics.
    if bytes >= PREPARES_FROM_BYTES.load(Ordering::Relaxed) {
        prepare();
    }
}

#[cold]
fn prepare() {
    // What it allocates does not come here again. Relaxed: see the statics.
    PREPARES_FROM_BYTES.store(usize::MAX, Ordering::Relaxed);
    let _ = raw::prepare();
    if !raw::is_prepared() {
        // The system has no thread to give.
        PREPARES_FROM_BYTES.store(LARGE_BYTES, Ordering::Relaxed); // Relaxed: as above.
    }
}

/// Makes another arena when less than a quarter of what is reserved is free.
fn add_arena_in_time() {
    // Relaxed: see the statics.
    let (reserved, committed) =
        (RESERVED_BYTES.load(Ordering::Relaxed), COMMITTED_BYTES.load(Ordering::Relaxed));
    if committed > reserved / 4 * 3 {
        add_arena(reservation::BYTES_MAX);
    }
}

/// Makes an arena of this size, or of as much less as the process may have. Returns its size.
fn add_arena(bytes: u64) -> Option<u64> {
    // Relaxed: see the statics. One that failed is not tried again.
    let arena = ARENAS.get(ARENAS_MADE.fetch_add(1, Ordering::Relaxed))?;
    let (start, bytes) = arena.make(bytes, ARENA_BYTES_MIN)?;
    // Nothing of it is marked before mimalloc gives it, which it does with what it has committed, and so was opened.
    // SAFETY: a private anonymous mapping that is never unmapped, readable and writable where anything is marked.
    let _ = unsafe { raw::adopt(start, bytes) };
    let argument = std::ptr::from_ref(arena).cast_mut().cast();
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
            argument,
            std::ptr::null_mut(),
        )
    };
    if !managed {
        let _ = raw::forget(start, bytes);
        arena.give_up();
        return None;
    }
    RESERVED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed); // Relaxed: see the statics.
    Some(bytes as u64)
}

/// mimalloc wants a part of an arena, or has no use for it at the moment. What it wants may be in use in parts already.
///
/// Decommitting succeeds always: otherwise no commit would follow.
unsafe extern "C" fn commit_or_decommit(
    commit: bool,
    start: *mut c_void,
    bytes: usize,
    is_zero: *mut bool,
    arena: *mut c_void,
) -> bool {
    let start: *mut u8 = start.cast();
    if commit {
        // SAFETY: the argument is one of the static reservations.
        if !unsafe { &*arena.cast::<Reservation>() }.open(start, bytes) {
            return false;
        }
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
        if free_memory::is_on() && !raw::is_prepared() {
            // The next allocation, of whatever size, does it. (Here, inside of mimalloc, it cannot be done.) Relaxed: see the statics.
            PREPARES_FROM_BYTES.store(0, Ordering::Relaxed);
        }
        // SAFETY: as above: nobody wants the contents.
        unsafe { free_memory::give_back(start, bytes) };
    }
    true
}
