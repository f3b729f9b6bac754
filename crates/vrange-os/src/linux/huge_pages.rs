//! Huge pages for memory that is in small ones.

use crate::probe::huge_page_mode;
use crate::{OsError, Span};

/// `MADV_COLLAPSE` of `linux/mman.h` (Linux 6.1).
const MADV_COLLAPSE: i32 = 25;

/// Moves the contents of a span, which begins and ends at huge pages, into such, at once (`madvise(MADV_COLLAPSE)`, Linux 6.1). What is not
/// in memory is brought in as zeros; what is shared with forked processes is copied. Costs the copy, about half a millisecond each,
/// during which other threads that touch these pages wait, and nothing where they are huge. Done whatever the administrator has
/// chosen: see [`are_huge_pages_given`].
///
/// # Errors
/// `EINVAL`: the kernel has no such advice, or the memory is not to be in huge pages (`MADV_NOHUGEPAGE`). `EAGAIN`, `ENOMEM`, `EBUSY`: a
/// page is in use by the kernel, or there is no huge page to be had. Some may have been moved.
pub fn collapse(span: Span) -> Result<(), OsError> {
    // SAFETY: changes no contents. The system call itself, so that a preloaded `madvise` is not asked.
    let answer = unsafe { libc::syscall(libc::SYS_madvise, span.address(), span.bytes(), MADV_COLLAPSE) };
    if answer == 0 { Ok(()) } else { Err(OsError::new("madvise(MADV_COLLAPSE)", OsError::last_errno())) }
}

/// Does the kernel give huge pages to who asks for them, as the administrator has chosen? Reads two small files.
pub fn are_huge_pages_given() -> bool {
    // Of this size, Linux 6.8.
    match huge_page_mode("hugepages-2048kB/").as_deref() {
        None | Some("inherit") => huge_page_mode("").is_some_and(|mode| mode != "never"),
        Some(mode) => mode != "never",
    }
}
