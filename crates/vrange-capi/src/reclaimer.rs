//! A reclaimer that the program drives.

use std::ffi::c_int;

use crate::border::{Failure, give, status};
use crate::status::Status;

/// A reclaimer without a thread, for one heap. Used by one thread at a time.
pub struct Reclaimer(pub(crate) vrange::Reclaimer);

/// What a step did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Bytes of memory handed to the kernel.
    pub offered_bytes: u64,
    /// Bytes of memory dropped.
    pub released_bytes: u64,
    /// Call again after this many nanoseconds at the latest; sooner does no harm. UINT64_MAX: the heap has ended.
    pub wait_ns: u64,
}

/// One turn: reads how short memory is, on the machine and in every memory cgroup from this process's to the root, and offers and
/// releases what that asks for. Some ten microseconds when there is nothing to do.
///
/// "step" may be NULL, with a size of 0; else "step_size" is sizeof(vrange_step). Fails with VRANGE_STATUS_NULL_POINTER.
///
/// # Safety
/// The reclaimer is null, or lives and is used by this thread alone; `step` may be written to for `step_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_reclaimer_step(
    reclaimer: *mut Reclaimer,
    step: *mut Step,
    step_size: usize,
) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller.
        let reclaimer = unsafe { reclaimer.as_mut() }.ok_or(Failure(Status::NullPointer))?;
        let taken = reclaimer.0.step();
        if step_size == 0 {
            return Ok(Status::Ok);
        }
        let taken = Step {
            offered_bytes: taken.offered_bytes,
            released_bytes: taken.released_bytes,
            wait_ns: u64::try_from(taken.wait.as_nanos()).unwrap_or(u64::MAX),
        };
        // SAFETY: passed on from the caller.
        unsafe { give(&taken, step, step_size) }
    })
}

/// Lets go of a reclaimer: nothing is offered or released for its heap any more, but by request. NULL is no reclaimer, and fine.
///
/// # Safety
/// The reclaimer was made by this library and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_reclaimer_free(reclaimer: *mut Reclaimer) {
    status(|| {
        if !reclaimer.is_null() {
            // SAFETY: made by `Box::into_raw` with its heap, and given back once.
            drop(unsafe { Box::from_raw(reclaimer) });
        }
        Ok(Status::Ok)
    });
}
