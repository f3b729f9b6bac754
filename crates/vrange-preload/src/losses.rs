//! What is known to be lost of memory that is about to change its place, or to go, kept while the kernel does it.

use libc::c_void;
use vrange::raw;

use crate::PAGE_BYTES;
use crate::errno::unnoticed;
use crate::next;

/// A byte for each page of a range, 1 if the page is lost, in a mapping of its own: nothing here may allocate.
pub(crate) struct Losses {
    /// Null: nothing is lost.
    bytes: *mut u8,
    pages: usize,
}

impl Losses {
    /// Nothing is lost.
    pub(crate) const NONE: Self = Self { bytes: std::ptr::null_mut(), pages: 0 };

    /// Ends what an abandoned range has left to tell, and keeps it. Without memory to keep it in it is forgotten.
    pub(crate) fn take(start: *mut c_void, bytes: usize) -> Self {
        let mut losses = Self { pages: bytes / PAGE_BYTES, ..Self::NONE };
        // SAFETY: the range was abandoned, so nothing in it is touched.
        let _ = unsafe { raw::unmark_each(start.cast(), bytes, |page| losses.insert(page)) };
        losses
    }

    fn insert(&mut self, page: usize) {
        if self.bytes.is_null() {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping, over nothing.
            let made = unsafe { next::mmap(std::ptr::null_mut(), self.pages, protection, flags, -1, 0) };
            if made == libc::MAP_FAILED {
                return;
            }
            self.bytes = made.cast();
        }
        // SAFETY: the mapping has a byte for each page of the range.
        unsafe { self.bytes.wrapping_add(page).write(1) };
    }

    fn as_slice(&self) -> &[u8] {
        if self.bytes.is_null() {
            return &[];
        }
        // SAFETY: as many bytes as were mapped, all initialized by the kernel.
        unsafe { std::slice::from_raw_parts(self.bytes, self.pages) }
    }

    /// The next MADV_NOVOLATILE of the pages at `start` tells of the losses, as far as `bytes` reach.
    pub(crate) fn put(&self, start: *mut c_void, bytes: usize) {
        let pages = bytes.div_ceil(PAGE_BYTES);
        for (page, _) in self.as_slice().iter().take(pages).enumerate().filter(|(_, lost)| **lost == 1) {
            let _ =
                unnoticed(|| raw::set_lost(start.cast::<u8>().wrapping_add(page * PAGE_BYTES), PAGE_BYTES));
        }
    }
}

impl Drop for Losses {
    fn drop(&mut self) {
        if !self.bytes.is_null() {
            // SAFETY: mapped in `insert`, and not used any more.
            unnoticed(|| unsafe { next::munmap(self.bytes.cast(), self.pages) });
        }
    }
}
