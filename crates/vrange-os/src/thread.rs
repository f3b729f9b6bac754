//! A thread of a library's own inside somebody else's process, and how it is woken.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::OsError;

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

/// How long a wait lasts that cannot be woken.
const BLIND_WAIT: Duration = Duration::from_millis(50);

/// A descriptor that one thread waits on and others write to.
///
/// # Errors
/// `eventfd2`: the process or the system has no descriptor to give.
pub fn eventfd() -> Result<OwnedFd, OsError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    rustix::event::eventfd(0, flags).map_err(|errno| OsError::new("eventfd2", errno))
}

/// Wakes whoever waits.
pub fn write_eventfd(eventfd: BorrowedFd<'_>) {
    // EAGAIN: it has been written to more often than it can count, so it is readable anyway.
    let _ = retry(|| rustix::io::write(eventfd, &1u64.to_ne_bytes()));
}

/// Waits until somebody writes, and takes that back.
pub fn wait_for_eventfd(eventfd: BorrowedFd<'_>) {
    let mut poll = [rustix::event::PollFd::from_borrowed_fd(eventfd, rustix::event::PollFlags::IN)];
    let polled = retry(|| rustix::event::poll(&mut poll, None));
    if polled.is_err() || poll[0].revents().contains(rustix::event::PollFlags::NVAL) {
        // A limit of no open files (RLIMIT_NOFILE, as sandboxes set it) forbids polling; or the program has closed the
        // descriptor. The caller looks for work.
        std::thread::sleep(BLIND_WAIT);
    }
    drain_eventfd(eventfd);
}

/// Takes back what was written, if anything was.
pub fn drain_eventfd(eventfd: BorrowedFd<'_>) {
    let mut count = [0; size_of::<u64>()];
    let _ = retry(|| rustix::io::read(eventfd, &mut count));
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
