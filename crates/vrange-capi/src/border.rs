//! The border to C: no panic passes it, failures set `errno`, pointers are checked.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use vrange::Error;

use crate::status::Status;

/// Why a function fails.
pub(crate) struct Failure(pub(crate) Status);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.kind().into())
    }
}

pub(crate) type Outcome = Result<Status, Failure>;

/// Does what a C function is for, and returns its number. Leaves `errno` alone unless it fails.
#[inline]
pub(crate) fn status(work: impl FnOnce() -> Outcome) -> c_int {
    // What a panic leaves half done is seen by nobody: the engine's state words are moved on by guards, and what is handed out
    // is written last.
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure(Status::Internal)));
    match outcome {
        Ok(status) => status.code(),
        Err(Failure(status)) => fail(status),
    }
}

/// The same for a function that returns a count, and 0 where there is nothing to count.
pub(crate) fn count(work: impl FnOnce() -> Result<u64, Failure>) -> u64 {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure(Status::Internal))).unwrap_or_else(
        |Failure(status)| {
            fail(status);
            0
        },
    )
}

#[cold]
fn fail(status: Status) -> c_int {
    // SAFETY: asks for the address of this thread's own variable.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.write(status.errno()) };
    status.code()
}

/// A pointer of the caller's as a reference.
///
/// # Safety
/// Unless it is null, it points to a value that lives, and is not changed, as long as the reference is used.
#[inline]
pub(crate) unsafe fn reference<'a, T>(pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: passed on from the caller.
    unsafe { pointer.as_ref() }.ok_or(Failure(Status::NullPointer))
}

/// A place of the caller's to write to.
#[inline]
pub(crate) fn place<T>(pointer: *mut T) -> Result<NonNull<T>, Failure> {
    NonNull::new(pointer).ok_or(Failure(Status::NullPointer))
}

/// Gives a structure to a caller that knows `bytes` bytes of it: one of another version may know more or fewer. What it knows
/// and this version does not becomes zeros.
///
/// # Safety
/// `to` may be written to for `bytes` bytes.
pub(crate) unsafe fn give<T: Copy>(value: &T, to: *mut T, bytes: usize) -> Outcome {
    let to = place(to)?.cast::<u8>();
    let known = bytes.min(size_of::<T>());
    // SAFETY: as much as the caller has room for, and as there is. They are different structures.
    unsafe { to.copy_from_nonoverlapping(NonNull::from(value).cast(), known) };
    // SAFETY: within the caller's room, or at its end.
    let rest = unsafe { to.add(known) };
    // SAFETY: the rest of that room.
    unsafe { rest.write_bytes(0, bytes - known) };
    Ok(Status::Ok)
}

/// Takes a structure of a caller that knows `bytes` bytes of it, in the manner of openat2(2): `bytes` is 0 or that of the first
/// version at least, what the caller does not know is zero, and what this version does not know must be.
///
/// # Safety
/// `from` may be read for `bytes` bytes, or is null and `bytes` is 0. Every pattern of bits is a `T`, zeros too.
pub(crate) unsafe fn take<T: Copy>(from: *const T, bytes: usize) -> Result<T, Failure> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    if bytes > 0 {
        // So far there is one version.
        if bytes < size_of::<T>() {
            return Err(Failure(Status::InvalidSettings));
        }
        let from = NonNull::new(from.cast_mut()).ok_or(Failure(Status::NullPointer))?.cast::<u8>();
        let known = bytes.min(size_of::<T>());
        // SAFETY: as much as there is, and as there is room for.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut value).cast(), known) };
        // SAFETY: within what may be read, or at its end.
        let rest = unsafe { from.add(known) };
        // SAFETY: the rest of what may be read.
        let rest = unsafe { std::slice::from_raw_parts(rest.as_ptr(), bytes - known) };
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Failure(Status::InvalidSettings));
        }
    }
    // SAFETY: zeroed, then partly overwritten; the caller vouches that every pattern is valid.
    Ok(unsafe { value.assume_init() })
}
