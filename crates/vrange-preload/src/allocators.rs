//! The allocator of the program, hooked: see [`vrange_malloc`].

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use libc::{c_char, c_void, size_t};
use vrange::raw;
use vrange_malloc::{Settings, jemalloc, report, tcmalloc};

use crate::{load, next};

/// Is there an allocator whose hooks need a reclaimer from the beginning?
static HOOKED: AtomicBool = AtomicBool::new(false);
/// Where the report goes: a copy of standard error, which programs may close before they are done. Itself, if there can be none.
static REPORT_TO: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);
/// What that stood for: the program may have closed it, and given the number to a file of its own.
static REPORT_FILE: AtomicU64 = AtomicU64::new(0);
/// Copies have a number that programs do not expect to be given.
const REPORT_DESCRIPTOR_MIN: c_int = 200;

/// Hooks the allocators that are there, if that is asked for. Runs before `main`.
pub(crate) fn load() {
    if let Some(settings) = Settings::read(false) {
        start(&settings, true);
    }
}

/// Applies the settings, and hooks the allocators that are there, if the program uses one of them. Only the first call does anything.
/// Before `main`, when libraries have been initialized.
pub fn start(settings: &Settings, hook: bool) {
    static STARTED: AtomicBool = AtomicBool::new(false);
    // Relaxed: before there are other threads.
    if STARTED.swap(true, Ordering::Relaxed) {
        return;
    }
    load::prepare();
    settings.apply();
    if settings.stats {
        report_at_exit();
    }
    if hook && (hook_jemalloc() | next::tcmalloc_release().is_some()) {
        HOOKED.store(true, Ordering::Relaxed); // Relaxed: before there are other threads.
        // Without a reclaimer the hooks leave everything to the allocator, and inside of it none can be started.
        let _ = raw::prepare();
    }
}

/// In a child made by `fork`, when all handlers have run.
pub(crate) fn enter_child() {
    report::reset();
    // Relaxed: see `start`.
    let _ = if HOOKED.load(Ordering::Relaxed) {
        raw::prepare()
    } else {
        // mimalloc's child has no reclaimer before it needs one, which may be never, and no page goes as long as a process has it.
        raw::drop_free_memory()
    };
}

fn hook_jemalloc() -> bool {
    let mallctl = next::anywhere(jemalloc::MALLCTL);
    if mallctl.is_null() {
        return false;
    }
    // SAFETY: the one library that has a function of this name is jemalloc, and it has this type there.
    let mallctl = unsafe { std::mem::transmute::<*mut c_void, jemalloc::Mallctl>(mallctl) };
    // SAFETY: as above; the program has not begun, so nobody is inside of it. The version is checked there.
    match unsafe { jemalloc::install(mallctl) } {
        Ok(()) => true,
        Err(error) => {
            crate::complain(&format!("jemalloc is not hooked: {error}"));
            false
        }
    }
}

/// gperftools' tcmalloc calls it by this name: see [`tcmalloc`].
///
/// # Safety
/// As for [`tcmalloc::release`].
#[unsafe(export_name = "_Z22TCMalloc_SystemReleasePvm")]
pub(crate) unsafe extern "C" fn tcmalloc_release(start: *mut c_void, bytes: size_t) -> bool {
    // SAFETY: passed on from tcmalloc.
    unsafe { tcmalloc::release(start.cast(), bytes, next::tcmalloc_release()) }
}

/// As above.
///
/// # Safety
/// As for [`tcmalloc::commit`].
#[unsafe(export_name = "_Z21TCMalloc_SystemCommitPvm")]
pub(crate) unsafe extern "C" fn tcmalloc_commit(start: *mut c_void, bytes: size_t) {
    // SAFETY: passed on from tcmalloc.
    unsafe { tcmalloc::commit(start.cast(), bytes) };
}

fn report_at_exit() {
    // SAFETY: makes a descriptor.
    let copy = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, REPORT_DESCRIPTOR_MIN) };
    if copy >= 0 {
        REPORT_TO.store(copy, Ordering::Relaxed); // Relaxed: before there are other threads.
    }
    // Relaxed, both: as above.
    REPORT_FILE.store(file_of(REPORT_TO.load(Ordering::Relaxed)), Ordering::Relaxed);
    // SAFETY: the function stays as long as the process: the library is never unloaded.
    unsafe { libc::atexit(write_report) };
}

/// What a descriptor stands for, as a number: its inode. 0: nothing.
fn file_of(descriptor: c_int) -> u64 {
    let mut about = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: has the kernel fill in the structure.
    unsafe { libc::fstat(descriptor, about.as_mut_ptr()) };
    // SAFETY: filled in; zeros are valid too.
    unsafe { about.assume_init() }.st_ino
}

unsafe extern "C" {
    /// glibc's (`program_invocation_name(3)`).
    static mut program_invocation_short_name: *const c_char;
}

extern "C" fn write_report() {
    let Some(text) = report::text() else { return };
    // SAFETY: set by libc before the program began; its other threads have no business with it at exit.
    let name = unsafe { program_invocation_short_name };
    // SAFETY: a string of libc's.
    let name = unsafe { std::ffi::CStr::from_ptr(name) }.to_string_lossy();
    let text = format!("vrange: free memory of {name} (process {})\n{text}", std::process::id());
    let to = REPORT_TO.load(Ordering::Relaxed); // Relaxed: as above.
    // Relaxed: as above.
    if file_of(to) != REPORT_FILE.load(Ordering::Relaxed) {
        return;
    }
    // Whoever reads it may be gone.
    // SAFETY: the process is about to end.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        // SAFETY: as many bytes as there are.
        let written = unsafe { libc::write(to, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => rest = &rest[written..],
            // Whoever reads it is gone.
            _ => return,
        }
    }
}
