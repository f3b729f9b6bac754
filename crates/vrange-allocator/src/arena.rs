//! Memory for mimalloc's arenas, and what it does with it.

use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use libmimalloc_sys::{mi_option_get, mi_option_set, mi_process_init};
use vrange::raw;
use vrange_malloc::free_memory;
use vrange_os::HUGE_PAGE_BYTES;

use crate::huge_pages;
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
const OPTION_ALLOW_THP: c_int = 43;

const GIB: u64 = 1 << 30;
/// mimalloc makes no smaller arena.
const ARENA_BYTES_MIN: u64 = 64 << 20;
/// A block of so many bytes is in huge pages.
const HUGE_BYTES: usize = 2 * HUGE_PAGE_BYTES;
/// How many arenas are made at once, at most.
const ARENAS_AT_START: usize = 8;
/// How many arenas may be made. mimalloc has room for 160.
const ARENAS_MAX: usize = 64;
/// mimalloc's own delay before it gives memory back, in milliseconds.
const PURGE_DELAY_DEFAULT: c_long = 1000;
/// How often the reclaimer looks after the arenas.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(200);
/// After so many calls, which are ten seconds at least, what was gathered may be gathered again, and who had nothing to give is asked again.
const ANEW_AFTER: usize = 50;
/// An allocation of this size is [large](before_large_allocation). A program that makes none frees little at a time, and is left as it is.
pub const LARGE_BYTES: usize = 128 << 10;

static ARENAS: [Reservation; ARENAS_MAX] = [const { Reservation::new() }; ARENAS_MAX];
/// Relaxed, all of them: they are set by one thread, and compared now and then.
static ARENAS_MADE: AtomicUsize = AtomicUsize::new(0);
static RESERVED_BYTES: AtomicU64 = AtomicU64::new(0);
static COMMITTED_BYTES: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicBool = AtomicBool::new(false);
/// Does mimalloc allow huge pages?
static HUGE_PAGES: AtomicBool = AtomicBool::new(false);
/// Is there an arena, whose free memory can be marked?
static MARKS: AtomicBool = AtomicBool::new(false);
/// How often the reclaimer has gathered huge pages, or would have, and how often it will have when it may again.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static RESTS_UNTIL: AtomicUsize = AtomicUsize::new(0);
static USER_HAS_SET_DELAY: AtomicBool = AtomicBool::new(false);

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
    if !kernel_overcommits() {
        return;
    }
    // SAFETY: as above.
    HUGE_PAGES.store(unsafe { mi_option_get(OPTION_ALLOW_THP) } != 0, Ordering::Relaxed); // Relaxed: see the statics.
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
    if RESERVED_BYTES.load(Ordering::Relaxed) > 0 {
        let has_set_delay = std::env::var_os("MIMALLOC_PURGE_DELAY").is_some();
        USER_HAS_SET_DELAY.store(has_set_delay, Ordering::Relaxed); // Relaxed: see the statics.
        raw::set_housekeeping(HOUSEKEEPING_EVERY, keep_house);
        MARKS.store(true, Ordering::Relaxed); // Relaxed: see the statics.
    }
}

/// Does the kernel promise more memory than there is (`vm.overcommit_memory`)? Where it does not, mapped memory counts as used
/// although nothing was written to it.
fn kernel_overcommits() -> bool {
    let text = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    text.map_or(true, |text| text.trim() != "2")
}

/// Has the reclaimer started before a large allocation, if there is use for it and none. To be called outside of mimalloc, where a thread
/// can be started.
#[cold]
pub fn before_large_allocation() {
    // Relaxed: see the statics.
    if MARKS.load(Ordering::Relaxed) && !raw::is_prepared() {
        // What this allocates is small. If the system has no thread to give, a later allocation tries again.
        let _ = raw::prepare();
        set_purge_delay(0);
    }
}

/// What is free is marked at once when that costs nothing, and given back after a while, as mimalloc does it, when it does.
fn set_purge_delay(milliseconds: c_long) {
    // Relaxed: see the statics.
    if !USER_HAS_SET_DELAY.load(Ordering::Relaxed) {
        // SAFETY: an option of this version. It is a number that is stored.
        unsafe { mi_option_set(OPTION_PURGE_DELAY, milliseconds) };
    }
}

/// Gives address space back that no arena has needed so far, if a process that may have `limit_bytes` of it (`RLIMIT_AS`) would have too
/// little left: as at the start, arenas are to take no more than a quarter of what is not in use. For who is about to set such a limit, or is
/// under one that counts address space (`RLIMIT_MEMLOCK`, at `mlockall(2)`). Arenas that are full then are followed by others.
pub fn make_room(limit_bytes: u64) {
    let unopened: u64 = ARENAS.iter().map(Reservation::unopened_bytes).sum();
    if unopened > reservation::address_space_left_under(limit_bytes.saturating_add(unopened)) / 4 {
        // What is adopted is told of before it ends.
        let forget = |start, bytes| drop(raw::forget(start, bytes));
        let given_up = ARENAS.iter().map(|arena| arena.give_up_unopened(forget)).sum();
        RESERVED_BYTES.fetch_sub(given_up, Ordering::Relaxed); // Relaxed: see the statics.
    }
}

/// What the reclaimer does from time to time.
fn keep_house() {
    add_arena_in_time();
    // Relaxed: see the statics. While memory is short, nothing is moved: that takes memory first.
    if HUGE_PAGES.load(Ordering::Relaxed) && !raw::is_short() {
        gather_huge_pages();
    }
}

fn gather_huge_pages() {
    // Relaxed, all: one thread has these numbers.
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    // The books of others were never touched, and take no memory.
    let arenas = &ARENAS[..ARENAS_MADE.load(Ordering::Relaxed)];
    if calls.is_multiple_of(ANEW_AFTER) {
        arenas.iter().for_each(Reservation::begin_gathering_anew);
    }
    if calls < RESTS_UNTIL.load(Ordering::Relaxed) {
        return;
    }
    let mut turn = huge_pages::Turn::new();
    arenas.iter().for_each(|arena| arena.gather_huge_pages(&mut turn));
    if turn.is_in_vain() {
        RESTS_UNTIL.store(calls + ANEW_AFTER, Ordering::Relaxed);
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
    // Relaxed: see the statics. Another call takes one that failed again.
    let arena = ARENAS.get(ARENAS_MADE.load(Ordering::Relaxed))?;
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
    // Relaxed, both: see the statics.
    ARENAS_MADE.fetch_add(1, Ordering::Relaxed);
    RESERVED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
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
    // SAFETY: the argument is one of the static reservations.
    let arena = unsafe { &*arena.cast::<Reservation>() };
    if commit {
        if !arena.open(start, bytes) {
            return false;
        }
        // Relaxed: see the statics.
        if HUGE_PAGES.load(Ordering::Relaxed) {
            // While memory is short, what is touched is to take no more than it needs.
            if bytes >= HUGE_BYTES && !raw::is_short() {
                arena.use_huge_pages(start, bytes);
            } else {
                arena.use_small_pages(start, bytes);
            }
        }
        let committed = arena.note_committed(start, bytes, true);
        COMMITTED_BYTES.fetch_add(committed, Ordering::Relaxed); // Relaxed: see the statics.
        // SAFETY: a part of an arena. What of it is in use was not given.
        let lost = unsafe { free_memory::take(start, bytes) };
        if !is_zero.is_null() {
            // SAFETY: mimalloc's own variable.
            unsafe { is_zero.write(lost) };
        }
        return true;
    }
    let decommitted = arena.note_committed(start, bytes, false);
    COMMITTED_BYTES.fetch_sub(decommitted, Ordering::Relaxed); // Relaxed: see the statics.
    // SAFETY: a part of an arena that is not in use, and will not be before it is committed.
    if !unsafe { free_memory::give(start, bytes) } {
        if !raw::is_prepared() {
            // A child, which has no reclaimer yet.
            set_purge_delay(PURGE_DELAY_DEFAULT);
        }
        // SAFETY: as above: nobody wants the contents.
        unsafe { free_memory::give_back(start, bytes) };
    }
    true
}
