//! libc's way of saying that something failed.

use libc::c_int;
use vrange::Error;

/// Sets `errno` and returns −1.
pub(crate) fn fail(errno: c_int) -> c_int {
    // SAFETY: asks for the address of this thread's own variable.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.write(errno) };
    -1
}

/// 0, or what [`fail`] returns.
pub(crate) fn status(outcome: Result<(), Error>) -> c_int {
    outcome.map_or_else(|error| fail(error.kind().errno()), |()| 0)
}

/// Runs something that must not be noticed: a caller that sees success does not expect `errno` to change.
pub(crate) fn unnoticed<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: asks for the address of this thread's own variable.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { place.read() };
    let result = work();
    // SAFETY: as above.
    unsafe { place.write(before) };
    result
}
