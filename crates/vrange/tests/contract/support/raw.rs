//! Memory without the library, for the controls: what a program loses that calls the kernel by itself.

use std::io;
use std::ops::Range;

use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::drain_processors;

use super::memory;

/// A private anonymous mapping.
pub(crate) struct Raw {
    base: *mut u8,
    pages: usize,
}

// SAFETY: an address and a length; the bytes are reached through `&self` and `&mut self` only.
unsafe impl Send for Raw {}

impl Raw {
    pub(crate) fn new(pages: usize) -> Self {
        Self::map(std::ptr::null_mut(), pages, 0).expect("address space for the test")
    }

    /// A mapping at this very address, if nothing is there.
    pub(crate) fn at(span: Span) -> Option<Self> {
        let address = std::ptr::with_exposed_provenance_mut(span.address());
        Self::map(address, span.pages(), libc::MAP_FIXED_NOREPLACE)
    }

    fn map(address: *mut libc::c_void, pages: usize, flags: i32) -> Option<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        // SAFETY: a new mapping that replaces none: either the kernel chooses the place, or it must be free.
        let base = unsafe { libc::mmap(address, pages * PAGE_BYTES, protection, flags, -1, 0) };
        (base != libc::MAP_FAILED).then(|| Self { base: base.cast(), pages })
    }

    pub(crate) fn span(&self) -> Span {
        Span::new(self.base.expose_provenance(), self.pages)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as `self`; no call that changes the bytes runs while the slice is in use.
        unsafe { std::slice::from_raw_parts(self.base, self.pages * PAGE_BYTES) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.pages * PAGE_BYTES) }
    }

    pub(crate) fn advise(&self, advice: i32) -> io::Result<()> {
        advise(self.span(), advice)
    }

    /// Offers all of it, with effect on each page: one that waits in a list of another processor's, where the thread wrote it before it
    /// moved, would not be offered by that, and go to swap where there is some.
    #[track_caller]
    pub(crate) fn offer(&self) {
        drain_processors();
        self.advise(libc::MADV_FREE).expect("MADV_FREE");
    }

    /// What a rescue would do that only looks: loads a byte of each page.
    pub(crate) fn load_each_page(&self) -> usize {
        (0..self.pages)
            .filter(|page| {
                let byte = self.base.wrapping_add(page * PAGE_BYTES);
                // SAFETY: inside the mapping. Volatile, so that the load happens.
                unsafe { byte.read_volatile() != 0 }
            })
            .count()
    }

    /// Has the kernel take these pages, which were offered; see [`memory::take`].
    #[track_caller]
    pub(crate) fn take(&self, pages: Range<usize>) {
        memory::take_span(self.span().slice(pages.start, pages.len()));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it is left.
        unsafe { libc::munmap(self.base.cast(), self.pages * PAGE_BYTES) };
    }
}

/// `madvise(2)` on memory of this process.
pub(crate) fn advise(span: Span, advice: i32) -> io::Result<()> {
    let address = std::ptr::without_provenance_mut(span.address());
    // SAFETY: the tests give advice to mappings of their own, or to ranges whose contents may vanish, and look at the bytes
    // through fresh references afterwards.
    match unsafe { libc::madvise(address, span.bytes(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
