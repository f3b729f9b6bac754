//! Reserving and returning address space.

use std::ptr::null_mut;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::{HUGE_PAGE_BYTES, OsError, PAGE_BYTES, Placement, Reservation};

const MMAP: &str = "mmap";

/// See [`System::reserve`](crate::System::reserve).
pub(super) fn reserve(pages: usize, placement: Placement, core_dump: bool) -> Result<Reservation, OsError> {
    let too_large = OsError::new(MMAP, Errno::NOMEM);
    let bytes = pages.checked_mul(PAGE_BYTES).ok_or(too_large)?;
    let slack = match placement {
        Placement::SmallPages => 0,
        Placement::HugePages => HUGE_PAGE_BYTES - PAGE_BYTES,
    };
    let mapped_bytes = bytes.checked_add(slack).ok_or(too_large)?;
    // SAFETY: a new private mapping wherever the kernel likes; it cannot overlap memory in use.
    let mapped = unsafe {
        mmap_anonymous(
            null_mut(),
            mapped_bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(|errno| OsError::new(MMAP, errno))?
    .cast::<u8>();
    let head = if slack == 0 { 0 } else { mapped.addr().next_multiple_of(HUGE_PAGE_BYTES) - mapped.addr() };
    let base = mapped.wrapping_add(head);
    // SAFETY: `head` is at most `slack`, so it lies inside the mapping just made, which nobody else knows.
    unsafe { trim(mapped, head) };
    // SAFETY: as above: the rest of the slack ends where the mapping does.
    unsafe { trim(base.wrapping_add(bytes), slack - head) };
    let reservation = Reservation::new(base, pages);
    advise_new(&reservation, placement, core_dump);
    Ok(reservation)
}

/// Unmaps `bytes` bytes at `start` of a mapping that was made larger than needed.
///
/// # Safety
/// The bytes belong to a mapping of ours that nobody uses.
unsafe fn trim(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: passed on from the caller. A failure leaves unused address space behind, nothing worse.
        let _ = unsafe { munmap(start.cast(), bytes) };
    }
}

/// Tells the kernel how the new memory will be used. A kernel that was built without one of these facilities answers
/// EINVAL, and then there is nothing to turn on or off.
fn advise_new(reservation: &Reservation, placement: Placement, core_dump: bool) {
    let huge = match placement {
        Placement::SmallPages => Advice::LinuxNoHugepage,
        Placement::HugePages => Advice::LinuxHugepage,
    };
    // An offered page that KSM shares drags live pages that were merged onto it along when the kernel takes it.
    let advice = [Some(huge), Some(Advice::LinuxUnmergeable), (!core_dump).then_some(Advice::LinuxDontDump)];
    for advice in advice.into_iter().flatten() {
        // SAFETY: none of the three changes the contents of memory.
        let _ = unsafe { madvise(reservation.base().cast(), reservation.span().bytes(), advice) };
    }
}

/// See [`System::unmap`](crate::System::unmap).
///
/// # Safety
/// As there.
pub(super) unsafe fn unmap(reservation: &Reservation) {
    let bytes = reservation.span().bytes();
    // SAFETY: passed on from the caller.
    if unsafe { munmap(reservation.base().cast(), bytes) }.is_err() {
        // The kernel's limit on the number of mappings can refuse to split one. The address space then stays ours,
        // and the memory goes all the same.
        // SAFETY: as above.
        let _ = unsafe { madvise(reservation.base().cast(), bytes, Advice::LinuxDontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_reservations_are_aligned_and_writable() {
        for pages in [1, 512, 513, 3 * 512] {
            let reservation = reserve(pages, Placement::HugePages, false).expect("address space");
            assert_eq!(reservation.base().addr() % HUGE_PAGE_BYTES, 0);
            let last = pages * PAGE_BYTES - 1;
            // SAFETY: the last byte of a reservation that only this test knows.
            unsafe { reservation.base().wrapping_add(last).write(1) };
            // SAFETY: as above; it is not used again.
            unsafe { unmap(&reservation) };
        }
    }

    #[test]
    fn sizes_past_the_address_space_are_an_error() {
        for pages in [usize::MAX, usize::MAX / PAGE_BYTES, 1 << 40] {
            let error = reserve(pages, Placement::HugePages, true).expect_err("no machine has this");
            assert_eq!(error.errno(), Errno::NOMEM);
            assert_eq!(error.call(), "mmap");
        }
    }
}
