//! A thread of a library's own inside somebody else's process.

use std::io;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

/// Starts a thread that takes no signals: those of the process go to the program's own threads.
///
/// # Errors
/// The system has no thread to give (`RLIMIT_NPROC`, a pids cgroup, memory).
pub fn spawn_without_signals(
    builder: Builder,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // A new thread inherits the mask of the one that makes it, so that there is no moment at which it takes one.
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are written before they are read: `all` by sigfillset, `before` by pthread_sigmask.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: as above; the pointers outlive the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let spawned = builder.spawn(run);
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    spawned
}

/// How large a stack has to be of which a thread has `bytes` for itself: libc puts the thread-local data of the program and its libraries
/// there, which may be any amount.
///
/// Asks the dynamic linker, the first time; see [`prepare`].
pub fn stack_bytes(bytes: usize) -> usize {
    bytes.saturating_add(taken_of_stacks())
}

/// Asks the dynamic linker now, once for all later calls of [`stack_bytes`] and [`Background::begin`]: for who runs before a program can load
/// anything.
pub fn prepare() {
    let _ = find_count();
    let _ = taken_of_stacks();
}

/// What libc takes of each stack. Like [`find_count`] it keeps the answer without a lock: data that comes with a library that is loaded
/// later has its place in it already, or is elsewhere.
fn taken_of_stacks() -> usize {
    /// One more than the answer; 0: it is not known.
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    // Relaxed, both: a number that publishes nothing but itself.
    let known = TAKEN.load(Ordering::Relaxed);
    if known > 0 {
        return known - 1;
    }
    let taken = ask_for_taken();
    TAKEN.store(taken + 1, Ordering::Relaxed); // Relaxed: as above.
    taken
}

/// By the function that the standard library asks, too. With the smallest stack on top, which does no harm.
#[cfg(target_env = "gnu")]
fn ask_for_taken() -> usize {
    let found = private_of_glibc(c"__pthread_get_minstack");
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: has libc fill in the structure.
    if found.is_null() || unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
        return 0;
    }
    // SAFETY: glibc's function of this name has had this type since it was made for the like of us (2.15).
    let ask: unsafe extern "C" fn(*const libc::pthread_attr_t) -> usize =
        unsafe { std::mem::transmute(found) };
    // SAFETY: initialized above.
    let taken = unsafe { ask(attributes.as_ptr()) };
    // SAFETY: as above, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    taken
}

/// musl adds it by itself.
#[cfg(not(target_env = "gnu"))]
fn ask_for_taken() -> usize {
    0
}

/// The calling thread is none of those whose end the process waits for, for as long as this is held.
///
/// A process ends when the last thread has returned of those that libc has counted ([`pthread_exit(3)`]), so a thread that never
/// returns would keep it alive for ever. glibc has no call for such a thread, but shows its count to debuggers
/// (`__nptl_nthreads`), from which this takes the thread out. Where there is no such count (musl, a static program), a
/// process whose main thread leaves by `pthread_exit` does not end.
///
/// [`pthread_exit(3)`]: https://man7.org/linux/man-pages/man3/pthread_exit.3.html
#[derive(Debug)]
pub struct Background {
    count: Option<&'static AtomicU32>,
    /// It is about the thread that made it.
    of_this_thread: PhantomData<*const ()>,
}

impl Background {
    /// Takes the calling thread out of the count. Should it be the last of those that were counted, the process ends here, as it
    /// would have when the one before it returned.
    ///
    /// Asks the dynamic linker, the first time, which may wait for a `dlopen(3)` in progress; see [`prepare`].
    #[must_use]
    pub fn begin() -> Self {
        let count = find_count();
        // Relaxed, here and in `drop`: glibc's own accesses order what threads did before their end.
        if count.is_some_and(|count| count.fetch_sub(1, Ordering::Relaxed) == 1) {
            std::process::exit(0);
        }
        Self { count, of_this_thread: PhantomData }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // libc counts the thread out once more when it returns.
        if let Some(count) = self.count {
            count.fetch_add(1, Ordering::Relaxed); // Relaxed: see `begin`.
        }
    }
}

/// glibc's count of threads. The answer is kept without a lock: a child of a process that forks while another thread is here would
/// wait for that thread, which it does not have. Who comes meanwhile asks, too, and is told the same. (The dynamic linker's own lock
/// is new in a child of glibc's `fork`.)
fn find_count() -> Option<&'static AtomicU32> {
    static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());
    static IS_KNOWN: AtomicBool = AtomicBool::new(false);
    // Acquire pairs with the Release below: the answer is there.
    if !IS_KNOWN.load(Ordering::Acquire) {
        COUNT.store(ask_for_count(), Ordering::Relaxed); // Relaxed: published by the store below.
        IS_KNOWN.store(true, Ordering::Release);
    }
    // SAFETY: null, or glibc's `unsigned int`, which it changes with atomic instructions, and which is there as long as glibc is.
    unsafe { COUNT.load(Ordering::Relaxed).as_ref() } // Relaxed: as above.
}

/// The address of what glibc has for itself and its like by this name, or null.
#[cfg(target_env = "gnu")]
fn private_of_glibc(name: &std::ffi::CStr) -> *mut libc::c_void {
    // SAFETY: both names end with a zero; the call has no other conditions.
    unsafe { libc::dlvsym(libc::RTLD_DEFAULT, name.as_ptr(), c"GLIBC_PRIVATE".as_ptr()) }
}

#[cfg(target_env = "gnu")]
fn ask_for_count() -> *mut AtomicU32 {
    private_of_glibc(c"__nptl_nthreads").cast()
}

#[cfg(not(target_env = "gnu"))]
fn ask_for_count() -> *mut AtomicU32 {
    null_mut()
}

/// `struct sched_attr` of `linux/sched/types.h`, first version.
#[repr(C)]
#[derive(Default)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// For ordinary threads, since Linux 6.12: the slice that the thread asks for, in nanoseconds.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The shortest slice that the scheduler grants.
const SLICE_NS: u64 = 100_000;
/// As audio servers ask for: ahead of what computes, behind what is real-time.
const NICE: i32 = -11;

/// Asks the scheduler to let the calling thread, which runs rarely and shortly, run soon after it wakes up: by a short
/// slice, which any thread may ask for, and by a nice value below zero where the process may have one (`RLIMIT_NICE`,
/// `CAP_SYS_NICE`). Changes no other thread, keeps the scheduling policy, and does nothing to a thread that is not of the
/// ordinary policy.
pub fn run_soon() {
    let mut attributes = SchedulingAttributes::default();
    let size = u32::try_from(size_of::<SchedulingAttributes>()).unwrap_or(0);
    // SAFETY: the structure has the layout of the first version, whose size is given, and outlives the call.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if got != 0 || attributes.policy != libc::SCHED_OTHER.unsigned_abs() {
        return;
    }
    attributes.size = size;
    attributes.flags = 0;
    attributes.runtime = SLICE_NS;
    for nice in [NICE.min(attributes.nice), attributes.nice] {
        attributes.nice = nice;
        // SAFETY: as above; the kernel only reads it.
        if unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } == 0 {
            return;
        }
    }
}
