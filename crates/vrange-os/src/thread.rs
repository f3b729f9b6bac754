//! A thread of a library's own inside somebody else's process, and how it is woken.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::{Builder, JoinHandle};

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
    // A failure other than EINTR comes back at once, and the caller looks for work; it cannot last.
    let _ = retry(|| rustix::event::poll(&mut poll, None));
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
