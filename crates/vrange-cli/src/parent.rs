//! Processes that this command starts, which end with it.

use crate::failure::Failure;

/// Has this process killed when `parent`, the process that started it, ends. The first thing that such a process does.
///
/// # Errors
/// The parent is gone already, or the kernel does not know the request.
pub(crate) fn end_with(parent: u32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|errno| Failure::io("prctl", "PR_SET_PDEATHSIG", &errno.into()))?;
    // The parent may have ended before the call; then no signal will come.
    let found = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if i64::from(found) != i64::from(parent) {
        return Err(Failure::run("the process that started this one is gone"));
    }
    Ok(())
}
