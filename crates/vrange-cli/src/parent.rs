//! Processes that this command starts, which end with it.

use rustix::process::Signal;

use crate::failure::Failure;

/// Has this process killed when `parent`, the process that started it, ends. The first thing that such a process does.
///
/// # Errors
/// The parent is gone already, or the kernel does not know the request.
pub(crate) fn end_with(parent: u32) -> Result<(), Failure> {
    signal_at_end(parent, Signal::KILL)
}

/// The same for a process that has to clean up: it is asked to end.
///
/// # Errors
/// As [`end_with`].
pub(crate) fn end_politely_with(parent: u32) -> Result<(), Failure> {
    signal_at_end(parent, Signal::TERM)
}

fn signal_at_end(parent: u32, signal: Signal) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(signal))
        .map_err(|errno| Failure::io("prctl", "PR_SET_PDEATHSIG", &errno.into()))?;
    // The parent may have ended before the call; then no signal will come.
    let found = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if i64::from(found) != i64::from(parent) {
        return Err(Failure::run("the process that started this one is gone"));
    }
    Ok(())
}
