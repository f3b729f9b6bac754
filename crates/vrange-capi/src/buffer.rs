//! Buffers and their pins.

use std::ffi::{c_int, c_void};

use vrange::{Phase, Pinned};

use crate::border::{Failure, count, place, reference, status};
use crate::heap::Heap;
use crate::status::Status;

/// A range of bytes that the kernel may discard whenever it is not pinned.
///
/// Its bytes are reached only between a pin and the unpin that belongs to it. Pins count. Any number of threads may have it pinned
/// for reading at once; who pins it for writing has it alone.
pub struct Buffer(vrange::Buffer);

/// Lost bytes: a part of a buffer that begins at a page.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LostRun {
    /// Where it begins, in bytes from the buffer's start.
    pub offset: usize,
    /// How long it is, in bytes.
    pub length: usize,
}

/// Takes a buffer of "bytes" bytes from a heap, all zeros, not pinned. It takes no memory until it is written to. Buffers begin at a
/// page; those of 2 MiB and more use huge pages where the kernel allows.
///
/// Fails with VRANGE_STATUS_NULL_POINTER, VRANGE_STATUS_INVALID_SIZE, VRANGE_STATUS_LIMIT_REACHED, VRANGE_STATUS_OUT_OF_ADDRESS_SPACE,
/// VRANGE_STATUS_TOO_MANY_RANGES.
///
/// # Safety
/// The heap is null or lives; `buffer` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_new(
    heap: *const Heap,
    bytes: usize,
    buffer: *mut *mut Buffer,
) -> c_int {
    status(|| {
        let buffer = place(buffer)?;
        // SAFETY: passed on from the caller.
        let made = unsafe { reference(heap) }?.0.buffer(bytes)?;
        // SAFETY: as above.
        unsafe { buffer.write(Box::into_raw(Box::new(Buffer(made)))) };
        Ok(Status::Ok)
    })
}

/// Gives a buffer and its memory back, pinned or not. NULL is no buffer, and fine.
///
/// # Safety
/// The buffer was made by this library, and neither it nor its bytes are used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_free(buffer: *mut Buffer) {
    status(|| {
        if !buffer.is_null() {
            // SAFETY: made by `Box::into_raw` in this file, and given back once.
            drop(unsafe { Box::from_raw(buffer) });
        }
        Ok(Status::Ok)
    });
}

/// The length in bytes, as asked for. 0 for NULL.
///
/// # Safety
/// The buffer is null or lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_size(buffer: *const Buffer) -> usize {
    // SAFETY: passed on from the caller.
    unsafe { buffer.as_ref() }.map_or(0, |buffer| buffer.0.len())
}

/// Leaves the buffer pinned until the caller unpins, and says how it was found.
fn leak<G>(pinned: Pinned<G>) -> Status {
    match pinned {
        Pinned::Intact(guard) => {
            std::mem::forget(guard);
            Status::Ok
        }
        Pinned::Purged(purged) => {
            std::mem::forget(purged);
            Status::Purged
        }
    }
}

/// A buffer that the caller says nobody else uses meanwhile.
///
/// # Safety
/// It is null or lives, and no other reference to it is used.
unsafe fn exclusive<'a>(buffer: *mut Buffer) -> Result<&'a mut Buffer, Failure> {
    // SAFETY: passed on from the caller.
    unsafe { buffer.as_mut() }.ok_or(Failure(Status::NullPointer))
}

/// Pins a buffer for reading and says where its bytes are. They stay as they are until vrange_buffer_unpin.
///
/// Returns VRANGE_STATUS_OK, or VRANGE_STATUS_PURGED if pages were lost since the last unpin, or before and nobody has acknowledged it.
///
/// One atomic operation if the buffer was not offered to the kernel; otherwise a look at each page (about 11 microseconds a MiB).
/// Waits while another thread rescues or releases it, or offers a piece of it.
///
/// Fails with VRANGE_STATUS_NULL_POINTER.
///
/// # Safety
/// The buffer is null or lives; `bytes` is null or may be written to. Nobody has it pinned for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_pin(buffer: *const Buffer, bytes: *mut *const c_void) -> c_int {
    status(|| {
        let bytes = place(bytes)?;
        // SAFETY: passed on from the caller.
        let Buffer(buffer) = unsafe { reference(buffer) }?;
        let found = leak(buffer.pin());
        // SAFETY: passed on from the caller.
        unsafe { bytes.write(buffer.as_ptr().cast()) };
        Ok(found)
    })
}

/// As vrange_buffer_pin, and never waits for another thread.
///
/// Fails with VRANGE_STATUS_WOULD_WAIT, VRANGE_STATUS_NULL_POINTER; then the buffer is not pinned.
///
/// # Safety
/// As for [`vrange_buffer_pin`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_try_pin(buffer: *const Buffer, bytes: *mut *const c_void) -> c_int {
    status(|| {
        let bytes = place(bytes)?;
        // SAFETY: passed on from the caller.
        let Buffer(buffer) = unsafe { reference(buffer) }?;
        let found = leak(buffer.try_pin().ok_or(Failure(Status::WouldWait))?);
        // SAFETY: passed on from the caller.
        unsafe { bytes.write(buffer.as_ptr().cast()) };
        Ok(found)
    })
}

/// Pins a buffer for writing and says where its bytes are. As vrange_buffer_pin; nobody else may have it pinned.
///
/// After VRANGE_STATUS_PURGED, write what was lost (vrange_buffer_lost says where), then say so with vrange_buffer_acknowledge.
///
/// # Safety
/// The buffer is null or lives; `bytes` is null or may be written to. Nobody else uses the buffer until it is unpinned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_pin_mut(buffer: *mut Buffer, bytes: *mut *mut c_void) -> c_int {
    status(|| {
        let bytes = place(bytes)?;
        // SAFETY: passed on from the caller.
        let Buffer(buffer) = unsafe { exclusive(buffer) }?;
        let found = leak(buffer.pin_mut());
        // SAFETY: passed on from the caller.
        unsafe { bytes.write(buffer.as_ptr().cast_mut().cast()) };
        Ok(found)
    })
}

/// As vrange_buffer_pin_mut, and never waits for another thread.
///
/// Fails with VRANGE_STATUS_WOULD_WAIT, VRANGE_STATUS_NULL_POINTER; then the buffer is not pinned.
///
/// # Safety
/// As for [`vrange_buffer_pin_mut`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_try_pin_mut(buffer: *mut Buffer, bytes: *mut *mut c_void) -> c_int {
    status(|| {
        let bytes = place(bytes)?;
        // SAFETY: passed on from the caller.
        let Buffer(buffer) = unsafe { exclusive(buffer) }?;
        let found = leak(buffer.try_pin_mut().ok_or(Failure(Status::WouldWait))?);
        // SAFETY: passed on from the caller.
        unsafe { bytes.write(buffer.as_ptr().cast_mut().cast()) };
        Ok(found)
    })
}

/// Ends one pin. With the last the buffer is volatile: its pages may vanish at any time, and its bytes must not be used until it is
/// pinned again. One atomic operation, whatever its size; a system call only to wake a reclaimer that sleeps.
///
/// Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_NOT_PINNED if there is no pin.
///
/// # Safety
/// The buffer is null or lives, and the bytes are not used any more through the pin that ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_unpin(buffer: *const Buffer) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller.
        let Buffer(buffer) = unsafe { reference(buffer) }?;
        if buffer.phase() != Phase::Pinned {
            return Err(Failure(Status::NotPinned));
        }
        // SAFETY: it is pinned, by a guard that `leak` leaked; the caller ends that pin and uses its bytes no more.
        unsafe { buffer.unpin_leaked() };
        Ok(Status::Ok)
    })
}

/// Says which bytes of a pinned buffer are lost: fills in up to "capacity" runs, in order, and returns how many there are. "runs" may
/// be NULL if "capacity" is 0. Lost bytes read as zeros until they are written to.
///
/// # Safety
/// The buffer is null, or lives and is pinned by the caller; `runs` may be written to `capacity` times.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_lost(
    buffer: *const Buffer,
    runs: *mut LostRun,
    capacity: usize,
) -> usize {
    let found = count(|| {
        // SAFETY: passed on from the caller.
        let Buffer(buffer) = unsafe { reference(buffer) }?;
        if capacity > 0 {
            place(runs)?;
        }
        let Pinned::Purged(purged) = buffer.pin() else { return Ok(0) };
        let mut found = 0;
        for run in purged.lost() {
            if found < capacity {
                let run = LostRun { offset: run.start, length: run.len() };
                // SAFETY: there is room for that many.
                let place = unsafe { runs.add(found) };
                // SAFETY: as above.
                unsafe { place.write(run) };
            }
            found += 1;
        }
        Ok(found as u64)
    });
    // It was counted in a `usize`.
    usize::try_from(found).unwrap_or(usize::MAX)
}

/// Takes a buffer that is pinned for writing for intact from now on: what was lost has been written again, or zeros will do.
///
/// Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_NOT_PINNED if it is not pinned.
///
/// # Safety
/// The buffer is null, or lives and is pinned for writing by the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_acknowledge(buffer: *mut Buffer) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller: who pins for writing uses the buffer alone.
        let Buffer(buffer) = unsafe { exclusive(buffer) }?;
        if buffer.phase() != Phase::Pinned {
            return Err(Failure(Status::NotPinned));
        }
        // A second pin, which ends here.
        if let Pinned::Purged(purged) = buffer.pin_mut() {
            drop(purged.acknowledge());
        }
        Ok(Status::Ok)
    })
}

/// Hands the contents to the kernel now, which keeps them until memory is short.
///
/// Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_BUSY if the buffer is pinned, empty or busy, or the kernel refuses.
///
/// # Safety
/// The buffer is null or lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_offer(buffer: *const Buffer) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller.
        done_or_busy(unsafe { reference(buffer) }?.0.offer())
    })
}

/// Drops the contents now. What had contents counts as lost for the next pin.
///
/// Fails with VRANGE_STATUS_NULL_POINTER, and with VRANGE_STATUS_BUSY if the buffer is pinned or the kernel refuses.
///
/// # Safety
/// The buffer is null or lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vrange_buffer_release(buffer: *const Buffer) -> c_int {
    status(|| {
        // SAFETY: passed on from the caller.
        done_or_busy(unsafe { reference(buffer) }?.0.release())
    })
}

fn done_or_busy(done: bool) -> Result<Status, Failure> {
    if done { Ok(Status::Ok) } else { Err(Failure(Status::Busy)) }
}
