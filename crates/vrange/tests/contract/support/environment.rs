//! A process with less than usual: files hidden, limits lowered. For children only.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vrange::Content;
use vrange_testing::{reclaimers_of, threads_of};

/// Is this the superuser? Tests that are not for everybody ask, and say that they were skipped.
pub(crate) fn is_root() -> bool {
    // SAFETY: has no effect and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Puts an empty file system over a directory, for this thread and those that it starts. Needs the superuser.
pub(crate) fn hide(directory: &str) -> io::Result<()> {
    // SAFETY: gives this thread a mount table of its own.
    answer(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // Mounts made here must not be seen outside.
    mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    mount("none", directory, Some("tmpfs"), libc::MS_RDONLY)
}

fn mount(source: &str, target: &str, kind: Option<&str>, flags: libc::c_ulong) -> io::Result<()> {
    let text = |text: &str| CString::new(text).expect("no zero byte");
    let (source, target, kind) = (text(source), text(target), kind.map(text));
    let kind = kind.as_ref().map_or(std::ptr::null(), |kind| kind.as_ptr());
    // SAFETY: the texts outlive the call.
    answer(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, std::ptr::null()) })
}

/// Names of this process's threads.
pub(crate) fn threads() -> Vec<String> {
    threads_of("self").into_iter().map(|(_, name)| name).collect()
}

/// The directory of the reclaimer's thread under `/proc/self/task`. Waits a little: a thread names itself once it runs.
pub(crate) fn reclaimer_task() -> PathBuf {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match reclaimers_of("self").pop() {
            Some(task) => return task,
            None => assert!(Instant::now() < until, "no thread of the reclaimer's"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Contents that the reclaimer offers soon, however much memory there is, and releases much later.
pub(crate) const OFFERED_SOON: Content = Content::Free { decay: Duration::from_secs(3600) };

fn answer(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
