//! The calls that make, change and end mappings. In paired mode, or where an allocator is hooked, they tell the library what it has to know: marks in a
//! mapping are deferred only if it was seen to be made, and are over before it ends.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use libc::{c_int, c_ulong, c_void, off_t, size_t};
use vrange::raw;
use vrange_malloc::free_memory;

use crate::PAGE_BYTES;
use crate::errno::unnoticed;
use crate::losses::Losses;
use crate::mode::is_paired;
use crate::next;

/// Opens all memory of the process to KSM, or closes it (Linux 6.4).
const PR_SET_MEMORY_MERGE: c_int = 67;
const PR_GET_MEMORY_MERGE: c_int = 68;
const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// 1: `mlockall(MCL_FUTURE)` was called, so new mappings are locked.
static LOCKED_FROM_NOW_ON: AtomicU8 = AtomicU8::new(0);
/// What somebody else has to do before all memory is locked.
static BEFORE_ALL_IS_LOCKED: OnceLock<fn()> = OnceLock::new();
/// 1: the program has opened memory to KSM.
static MERGED: AtomicU8 = AtomicU8::new(0);

/// May there be memory that the library has adopted? The program's own in paired mode, or that of an allocator that is hooked.
fn adopts() -> bool {
    is_paired() || free_memory::is_on()
}

/// The kernel's idea of a length: whole pages.
fn rounded_up(bytes: size_t) -> size_t {
    bytes.checked_next_multiple_of(PAGE_BYTES).unwrap_or(0)
}

/// Marks in this memory are over when it returns, with what was offered taken back, and are not deferred from then on. What was
/// lost is still told by the next MADV_NOVOLATILE. What the kernel will refuse anyway is passed over.
pub(crate) fn abandon(start: *mut c_void, bytes: size_t) {
    if adopts() {
        // SAFETY: only pages that are marked are touched, of memory that is readable and writable as long as it is adopted; the
        // program has promised not to use those.
        let _ = unnoticed(|| unsafe { raw::abandon(start.cast(), rounded_up(bytes)) });
    }
}

/// The same for memory that is about to go, or to move: what was lost is taken along.
fn take_losses(start: *mut c_void, bytes: size_t) -> Losses {
    abandon(start, bytes);
    if adopts() { unnoticed(|| Losses::take(start, rounded_up(bytes))) } else { Losses::NONE }
}

/// Can marks in a mapping made like this be deferred?
fn is_plain(protection: c_int, flags: c_int) -> bool {
    const NOT: c_int = libc::MAP_LOCKED | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | libc::MAP_STACK;
    // Of others (memory tags, protection keys) it is not known who may touch the memory.
    const MAY: c_int = READ_WRITE | libc::PROT_EXEC;
    let is_private_and_anonymous =
        flags & libc::MAP_TYPE == libc::MAP_PRIVATE && flags & libc::MAP_ANONYMOUS != 0;
    is_private_and_anonymous
        && flags & NOT == 0
        && protection & READ_WRITE == READ_WRITE
        && protection & !MAY == 0
        // Relaxed: whoever maps memory that is to be locked has called `mlockall` before.
        && LOCKED_FROM_NOW_ON.load(Ordering::Relaxed) == 0
}

/// A mapping was made; whatever was known of the addresses is over.
fn was_made(start: *mut c_void, bytes: size_t, adopted: bool) {
    unnoticed(|| {
        let (start, bytes) = (start.cast(), rounded_up(bytes));
        if adopted {
            // SAFETY: the mapping is private, anonymous, readable and writable, and the functions here tell of whatever is done
            // to it; a program that goes past them is told that it must not.
            let _ = unsafe { raw::adopt(start, bytes) };
        } else {
            let _ = raw::forget(start, bytes);
        }
    });
}

/// Memory was opened to KSM: an offered page that KSM shares would take others along.
pub(crate) fn are_merged(start: *mut c_void, bytes: size_t) {
    // Relaxed: whoever marks merged memory has had it merged before.
    MERGED.store(1, Ordering::Relaxed);
    abandon(start, bytes);
}

/// See [`are_merged`].
pub(crate) fn may_be_merged() -> bool {
    MERGED.load(Ordering::Relaxed) == 1 // Relaxed: as above.
}

/// Notes whether all memory of this process is open to KSM, as a service manager may have had it.
pub(crate) fn look_for_merging() {
    // SAFETY: only reads a flag of the process.
    if unsafe { next::prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) } == 1 {
        MERGED.store(1, Ordering::Relaxed); // Relaxed: see `are_merged`.
    }
}

/// See `prctl(2)`. The arguments that an option does not have are read all the same, which does no harm.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn prctl(
    option: c_int,
    second: c_ulong,
    third: c_ulong,
    fourth: c_ulong,
    fifth: c_ulong,
) -> c_int {
    if option == PR_SET_MEMORY_MERGE && second == 1 {
        MERGED.store(1, Ordering::Relaxed); // Relaxed: see `are_merged`.
    }
    // SAFETY: passed on from the caller.
    unsafe { next::prctl(option, second, third, fourth, fifth) }
}

/// See `mmap(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap(
    start: *mut c_void,
    bytes: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: off_t,
) -> *mut c_void {
    let replaces = flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) == libc::MAP_FIXED;
    let bytes_mapped = in_pages_of(flags, bytes);
    let losses = if replaces { take_losses(start, bytes_mapped) } else { Losses::NONE };
    // SAFETY: passed on from the caller.
    let made = unsafe { next::mmap(start, bytes, protection, flags, file, offset) };
    if made == libc::MAP_FAILED {
        losses.put(start, bytes_mapped);
    } else if adopts() {
        was_made(made, bytes_mapped, is_paired() && is_plain(protection, flags));
    }
    made
}

/// The length of a mapping, which is rounded up to huge pages where those are asked for.
fn in_pages_of(flags: c_int, bytes: size_t) -> size_t {
    const SHIFT_DEFAULT: c_int = 21;
    if flags & libc::MAP_HUGETLB == 0 {
        return bytes;
    }
    let shift = match flags >> libc::MAP_HUGE_SHIFT & libc::MAP_HUGE_MASK {
        0 => SHIFT_DEFAULT,
        shift => shift,
    };
    bytes.checked_next_multiple_of(1 << shift).unwrap_or(bytes)
}

/// See `mmap(2)`. The same where offsets have 64 bits.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap64(
    start: *mut c_void,
    bytes: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: passed on from the caller.
    unsafe { mmap(start, bytes, protection, flags, file, offset) }
}

/// See `munmap(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn munmap(start: *mut c_void, bytes: size_t) -> c_int {
    let losses = take_losses(start, bytes);
    // SAFETY: passed on from the caller.
    let outcome = unsafe { next::munmap(start, bytes) };
    if outcome != 0 {
        losses.put(start, bytes);
    }
    outcome
}

/// See `mremap(2)`. The last argument is there only if the flags say so; reading it otherwise does no harm.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mremap(
    start: *mut c_void,
    bytes: size_t,
    new_bytes: size_t,
    flags: c_int,
    new_start: *mut c_void,
) -> *mut c_void {
    let was_adopted = is_paired() && raw::is_adopted(start.cast(), rounded_up(bytes));
    let losses = take_losses(start, bytes);
    let replaced = match flags & libc::MREMAP_FIXED {
        0 => Losses::NONE,
        _ => take_losses(new_start, new_bytes),
    };
    // SAFETY: passed on from the caller.
    let moved = unsafe { next::mremap(start, bytes, new_bytes, flags, new_start) };
    if moved == libc::MAP_FAILED {
        // A part may have gone all the same, so it stays as it is now: not adopted.
        losses.put(start, bytes);
        replaced.put(new_start, new_bytes);
    } else if adopts() {
        was_made(moved, new_bytes, was_adopted);
        losses.put(moved, bytes.min(new_bytes));
    }
    moved
}

/// See `shmat(2)`. With `SHM_REMAP` it takes the place of what was mapped there.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn shmat(segment: c_int, start: *const c_void, flags: c_int) -> *mut c_void {
    let mut losses = Losses::NONE;
    let mut bytes = 0;
    if adopts() && flags & libc::SHM_REMAP != 0 {
        let mut about = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
        // SAFETY: has the kernel fill in the structure.
        if unnoticed(|| unsafe { libc::shmctl(segment, libc::IPC_STAT, about.as_mut_ptr()) }) == 0 {
            // SAFETY: filled in; zeros are valid too.
            bytes = unsafe { about.assume_init() }.shm_segsz;
            losses = take_losses(page_of(start), bytes);
        }
    }
    // SAFETY: passed on from the caller.
    let attached = unsafe { next::shmat(segment, start, flags) };
    if attached == libc::MAP_FAILED {
        losses.put(page_of(start), bytes);
    }
    attached
}

/// See `mprotect(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mprotect(start: *mut c_void, bytes: size_t, protection: c_int) -> c_int {
    if protection & !libc::PROT_EXEC != READ_WRITE {
        abandon(start, bytes);
    }
    // SAFETY: passed on from the caller.
    unsafe { next::mprotect(start, bytes, protection) }
}

/// See `pkey_mprotect(2)`. The reclaimer's thread may not have the key.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pkey_mprotect(
    start: *mut c_void,
    bytes: size_t,
    protection: c_int,
    key: c_int,
) -> c_int {
    abandon(start, bytes);
    // SAFETY: passed on from the caller.
    unsafe { next::pkey_mprotect(start, bytes, protection, key) }
}

/// See `mlock(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mlock(start: *const c_void, bytes: size_t) -> c_int {
    abandon_around(start, bytes);
    // SAFETY: passed on from the caller.
    unsafe { next::mlock(start, bytes) }
}

/// See `mlock(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mlock2(start: *const c_void, bytes: size_t, flags: c_int) -> c_int {
    abandon_around(start, bytes);
    // SAFETY: passed on from the caller.
    unsafe { next::mlock2(start, bytes, flags) }
}

/// The page that an address lies in.
fn page_of(start: *const c_void) -> *mut c_void {
    start.wrapping_byte_sub(start.addr() % PAGE_BYTES).cast_mut()
}

/// Locking begins at the page that the address lies in.
fn abandon_around(start: *const c_void, bytes: size_t) {
    abandon(page_of(start), bytes.saturating_add(start.addr() % PAGE_BYTES));
}

/// Has `work` called before the program locks all of its memory. The first that is given stays.
pub fn before_all_is_locked(work: fn()) {
    let _ = BEFORE_ALL_IS_LOCKED.set(work);
}

/// See `mlockall(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mlockall(flags: c_int) -> c_int {
    // Before the mode is known, too: other libraries' initializers may come first.
    if flags & libc::MCL_FUTURE != 0 {
        LOCKED_FROM_NOW_ON.store(1, Ordering::Relaxed); // Relaxed: see `is_plain`.
    }
    if adopts() {
        // SAFETY: as in `abandon`.
        unnoticed(|| unsafe { raw::abandon_all() });
    }
    if let Some(work) = BEFORE_ALL_IS_LOCKED.get().filter(|_| flags & libc::MCL_CURRENT != 0) {
        unnoticed(work);
    }
    // SAFETY: passed on from the caller.
    unsafe { next::mlockall(flags) }
}

/// See `mlockall(2)`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn munlockall() -> c_int {
    LOCKED_FROM_NOW_ON.store(0, Ordering::Relaxed); // Relaxed: see `is_plain`.
    // SAFETY: passed on from the caller.
    unsafe { next::munlockall() }
}
