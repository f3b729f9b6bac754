//! gperftools' tcmalloc calls two exported functions of its own, by their names, whenever its page heap returns a span of pages and
//! whenever it uses one again (`src/page_heap.cc`, `DecommitSpan` and `CommitSpan`). A library that comes before it defines them
//! instead.
//!
//! They are called under the page heap's lock. Read in version 2.10: every way from returned to in use goes through the second, merges
//! join returned spans only with returned ones, and spans are never unmapped. A build with hidden visibility, or with
//! `-Bsymbolic`, calls its own.

use crate::free_memory;

/// The name of [`release`] in the library: `TCMalloc_SystemRelease(void*, unsigned long)`.
pub const RELEASE: &std::ffi::CStr = c"_Z22TCMalloc_SystemReleasePvm";

/// The type of tcmalloc's own function for a release: true if the memory has been given back.
pub type Release = unsafe extern "C" fn(*mut u8, usize) -> bool;

/// A span of pages is returned.
///
/// # Safety
/// As for [`give`](free_memory::give); called by tcmalloc, whose own function `own` is.
#[inline]
pub unsafe fn release(start: *mut u8, bytes: usize, own: Option<Release>) -> bool {
    // SAFETY: passed on from the caller.
    if unsafe { free_memory::give(start, bytes) } {
        return true;
    }
    match own {
        // SAFETY: passed on from the caller.
        Some(own) => unsafe { own(start, bytes) },
        // It was loaded after the program began.
        // SAFETY: as above: tcmalloc does not want the contents.
        None => unsafe { free_memory::give_back(start, bytes) },
    }
}

/// A span is used again. tcmalloc's own function does nothing on Linux.
///
/// # Safety
/// As for [`take`](free_memory::take).
#[inline]
pub unsafe fn commit(start: *mut u8, bytes: usize) {
    // SAFETY: passed on from the caller.
    unsafe { free_memory::take(start, bytes) };
}
