//! jemalloc 5 lets whoever asks decide what happens to the memory of an arena: its *extent hooks* (`jemalloc(3)`,
//! `arena.<i>.extent_hooks`).
//!
//! * `decommit` gives memory, and says false, which means success.
//! * `commit` takes it back. jemalloc believes that what was decommitted is zero afterwards, so what survived is set to zero.
//! * There is no `dalloc`: memory is kept for reuse, and decommitted.
//! * `destroy` forgets.
//! * `purge_lazy` stays what it is, an immediate `MADV_FREE`: no call follows when the memory is used again, so nothing may be deferred. It
//!   is not used as long as `muzzy_decay_ms` is 0.
//! * All else is jemalloc's own.
//!
//! Where the kernel does not overcommit (`vm.overcommit_memory=2`), jemalloc maps new memory without access, and `commit` is to change
//! that. Such pages were never given, so by that they are told.
//!
//! Hooks are per arena. Those of the first arenas are set at once; arenas that jemalloc makes later, for further threads, or the program
//! (`arenas.create`), are found [by the reclaimer](vrange::raw::set_housekeeping). Allocations of 8 MiB and more would
//! use one more arena, made later: `oversize_threshold:0` in `MALLOC_CONF` keeps them out of it.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vrange::raw::{self, Mark};

use crate::{PAGE_BYTES, free_memory};

/// The name of jemalloc's function to ask and to set.
pub const MALLCTL: &CStr = c"mallctl";

/// How often it is looked whether there are new arenas.
const NEW_ARENAS_EVERY: Duration = Duration::from_secs(1);

/// The type of that function.
pub type Mallctl = unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;

type Alloc = unsafe extern "C" fn(
    *mut ExtentHooks,
    *mut u8,
    usize,
    usize,
    *mut bool,
    *mut bool,
    c_uint,
) -> *mut c_void;
type Dalloc = unsafe extern "C" fn(*mut ExtentHooks, *mut u8, usize, bool, c_uint) -> bool;
type Destroy = unsafe extern "C" fn(*mut ExtentHooks, *mut u8, usize, bool, c_uint);
type Part = unsafe extern "C" fn(*mut ExtentHooks, *mut u8, usize, usize, usize, c_uint) -> bool;
type Split = unsafe extern "C" fn(*mut ExtentHooks, *mut u8, usize, usize, usize, bool, c_uint) -> bool;
type Merge = unsafe extern "C" fn(*mut ExtentHooks, *mut u8, usize, *mut u8, usize, bool, c_uint) -> bool;

/// `extent_hooks_t`, as it has been since version 5.0.
#[repr(C)]
#[derive(Clone, Copy)]
struct ExtentHooks {
    alloc: Option<Alloc>,
    dalloc: Option<Dalloc>,
    destroy: Option<Destroy>,
    commit: Option<Part>,
    decommit: Option<Part>,
    purge_lazy: Option<Part>,
    purge_forced: Option<Part>,
    split: Option<Split>,
    merge: Option<Merge>,
}

/// jemalloc does not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    name: String,
    errno: c_int,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, std::io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Refused {}

/// What is known of the jemalloc of this process.
struct Installed {
    mallctl: Mallctl,
    own: ExtentHooks,
    /// Where jemalloc keeps those, by which they are known.
    own_address: usize,
    /// jemalloc's own arenas, which it makes when it needs them and never destroys, have the numbers below this one.
    automatic_arenas: c_uint,
    ours: ExtentHooks,
}

/// So many arenas are made at once, to be hooked from the beginning: each takes 90 KiB. jemalloc can make four for each processor.
const ARENAS_MADE: c_uint = 4;

static INSTALLED: OnceLock<Installed> = OnceLock::new();
/// Does the kernel promise more memory than there is? Relaxed: read before the first hook is set.
static OVERCOMMITS: AtomicBool = AtomicBool::new(true);

/// Sets the hooks of all arenas.
///
/// # Safety
/// `mallctl` is jemalloc's, of version 5, and stays loaded. Called outside of it.
///
/// # Errors
/// Another version, or what jemalloc did not take.
pub unsafe fn install(mallctl: Mallctl) -> Result<(), Refused> {
    let mut version: *const c_char = c"".as_ptr();
    // SAFETY: as asked of the caller.
    unsafe { ask(mallctl, "version", &mut version) }?;
    // SAFETY: a string of jemalloc's that stays.
    let version = unsafe { CStr::from_ptr(version) }.to_string_lossy();
    if !version.starts_with("5.") {
        return Err(Refused { name: format!("version {version}"), errno: libc::ENOTSUP });
    }
    let mut own: *mut ExtentHooks = std::ptr::null_mut();
    // SAFETY: as asked of the caller; the value is a pointer, and has room here.
    unsafe { ask(mallctl, "arena.0.extent_hooks", &mut own) }?;
    let own_address = own.addr();
    // SAFETY: jemalloc's own structure, which lives as long as it does.
    let own = unsafe { *own };
    let mut automatic_arenas: c_uint = 0;
    // SAFETY: as asked of the caller.
    unsafe { ask(mallctl, "opt.narenas", &mut automatic_arenas) }?;
    OVERCOMMITS.store(overcommits(), Ordering::Relaxed); // Relaxed: see there.
    let ours = ExtentHooks {
        dalloc: None,
        destroy: Some(destroy),
        commit: Some(commit),
        decommit: Some(decommit),
        ..own
    };
    let _ = INSTALLED.set(Installed { mallctl, own, own_address, automatic_arenas, ours });
    hook_new_arenas();
    raw::set_housekeeping(NEW_ARENAS_EVERY, hook_new_arenas);
    Ok(())
}

/// How jemalloc maps memory depends on this (`os_overcommits_proc`): without the file it takes the kernel for one that does not.
fn overcommits() -> bool {
    let text = std::fs::read("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    matches!(text.first(), Some(b'0' | b'1'))
}

/// Sets the hooks of the first arenas, and of those that were made since the last time.
fn hook_new_arenas() {
    let Some(installed) = INSTALLED.get() else { return };
    let mut arenas: c_uint = 0;
    // SAFETY: as promised when it was installed.
    if unsafe { ask(installed.mallctl, "arenas.narenas", &mut arenas) }.is_err() {
        return;
    }
    for arena in 0..arenas {
        // Of others than its own, jemalloc says by itself that they are not there.
        if arena < ARENAS_MADE || arena >= installed.automatic_arenas || is_made(installed, arena) {
            hook_arena(installed, arena);
        }
    }
}

/// Is this arena of jemalloc's own in use? jemalloc makes one when a thread first needs it; to set its hooks makes it, too. (Of an arena
/// of the program's, which may be destroyed, jemalloc reads this value without a lock.)
fn is_made(installed: &Installed, arena: c_uint) -> bool {
    let mut decay_ms = 0isize;
    // SAFETY: as promised when it was installed.
    unsafe { ask(installed.mallctl, &format!("arena.{arena}.dirty_decay_ms"), &mut decay_ms) }.is_ok()
}

/// Sets the hooks of an arena, unless that was done, or the program has set its own.
fn hook_arena(installed: &Installed, arena: c_uint) {
    let name = format!("arena.{arena}.extent_hooks");
    let mut found: *mut ExtentHooks = std::ptr::null_mut();
    // SAFETY: as promised when it was installed.
    if unsafe { ask(installed.mallctl, &name, &mut found) }.is_err() {
        return;
    }
    if found.addr() != installed.own_address {
        return;
    }
    let Ok(name) = CString::new(name) else { return };
    let exchange = |mut new: *mut ExtentHooks| {
        let mut old: *mut ExtentHooks = std::ptr::null_mut();
        let mut bytes = size_of_val(&old);
        // SAFETY: the values are pointers to hooks that stay: ours for ever, the program's as long as it promised to jemalloc.
        unsafe {
            (installed.mallctl)(
                name.as_ptr(),
                (&raw mut old).cast(),
                &raw mut bytes,
                (&raw mut new).cast(),
                size_of_val(&new),
            )
        };
        old
    };
    let old = exchange(std::ptr::from_ref(&installed.ours).cast_mut());
    if old.addr() != installed.own_address && !old.is_null() {
        // The program was faster.
        exchange(old);
    }
}

/// Reads a value of jemalloc's.
///
/// # Safety
/// `mallctl` is jemalloc's, and the value of this name has the type `T`.
unsafe fn ask<T>(mallctl: Mallctl, name: &str, value: &mut T) -> Result<(), Refused> {
    let refused = |errno| Refused { name: name.to_owned(), errno };
    let mut bytes = size_of::<T>();
    let c_name = CString::new(name).map_err(|_| refused(libc::EINVAL))?;
    // SAFETY: as asked of the caller; jemalloc checks the size.
    let answer = unsafe {
        mallctl(c_name.as_ptr(), (&raw mut *value).cast(), &raw mut bytes, std::ptr::null_mut(), 0)
    };
    if answer == 0 { Ok(()) } else { Err(refused(answer)) }
}

/// The memory is unmapped.
unsafe extern "C" fn destroy(
    hooks: *mut ExtentHooks,
    start: *mut u8,
    bytes: usize,
    committed: bool,
    arena: c_uint,
) {
    free_memory::forget(start, bytes);
    if let Some(own) = INSTALLED.get().and_then(|installed| installed.own.destroy) {
        // SAFETY: passed on from jemalloc.
        unsafe { own(hooks, start, bytes, committed, arena) };
    }
}

/// False: it is no longer committed.
unsafe extern "C" fn decommit(
    _: *mut ExtentHooks,
    start: *mut u8,
    _: usize,
    offset: usize,
    bytes: usize,
    _: c_uint,
) -> bool {
    // SAFETY: a committed extent that is not in use: jemalloc calls `commit` before it is, and `destroy` before it is unmapped.
    !unsafe { free_memory::give(start.wrapping_add(offset), bytes) }
}

/// False: it is committed, and zero.
unsafe extern "C" fn commit(
    hooks: *mut ExtentHooks,
    start: *mut u8,
    extent_bytes: usize,
    offset: usize,
    bytes: usize,
    arena: c_uint,
) -> bool {
    let first = start.wrapping_add(offset);
    let is_whole = OVERCOMMITS.load(Ordering::Relaxed); // Relaxed: see there.
    if is_whole {
        // SAFETY: memory that was decommitted, which is readable and writable, and not in use yet.
        unsafe { free_memory::take_zeroed(first, bytes) };
        return false;
    }
    // Some of it may never have been committed: pages without a mark.
    let own = INSTALLED.get().and_then(|installed| installed.own.commit);
    let mut failed = false;
    let mut part = |pages: std::ops::Range<usize>, marked: bool| {
        let (from, bytes) = (pages.start * PAGE_BYTES, pages.len() * PAGE_BYTES);
        if marked {
            // SAFETY: as above.
            unsafe { free_memory::take_zeroed(first.wrapping_add(from), bytes) };
        } else if let Some(own) = own {
            // SAFETY: passed on from jemalloc, for a part of it.
            failed |= unsafe { own(hooks, start, extent_bytes, offset + from, bytes, arena) };
        }
    };
    each_run(first, bytes, &mut part);
    failed
}

/// Calls `visit` with each run of pages that are marked, or are not, once it is known where it ends.
fn each_run(first: *mut u8, bytes: usize, visit: &mut dyn FnMut(std::ops::Range<usize>, bool)) {
    let mut from = 0;
    while from < bytes / PAGE_BYTES {
        let rest = first.wrapping_add(from * PAGE_BYTES);
        let mut run: Option<(bool, usize)> = None;
        let mut is_over = false;
        let looked = raw::query(rest, bytes - from * PAGE_BYTES, |page, mark| {
            let marked = mark != Mark::None;
            match &mut run {
                None => run = Some((marked, page + 1)),
                Some((kind, end)) if *kind == marked && !is_over => *end = page + 1,
                Some(_) => is_over = true,
            }
        });
        let (Ok(()), Some((marked, pages))) = (looked, run) else { return };
        visit(from..from + pages, marked);
        from += pages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_the_marks() {
        const PAGES: usize = 40;
        let bytes = PAGES * PAGE_BYTES;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping.
        let first: *mut u8 =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) }.cast();
        // SAFETY: private, anonymous, readable and writable, and never unmapped.
        unsafe { raw::adopt(first, bytes) }.expect("to be adopted");
        for (page, pages) in [(3, 5), (20, 20)] {
            // SAFETY: the test uses none of it.
            unsafe { raw::mark(first.wrapping_add(page * PAGE_BYTES), pages * PAGE_BYTES) }.expect("a mark");
        }
        let mut runs = Vec::new();
        each_run(first, bytes, &mut |pages, marked| runs.push((pages, marked)));
        assert_eq!(runs, [(0..3, false), (3..8, true), (8..20, false), (20..40, true)]);
    }
}
