//! Memory to measure with.

use std::ptr::null_mut;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use vrange_os::{HUGE_PAGE_BYTES, PAGE_BYTES};

/// Anonymous memory, a mapping by itself: inaccessible pages on both sides keep others from being merged with it.
#[derive(Debug)]
pub(crate) struct Mapping {
    whole: *mut u8,
    whole_bytes: usize,
    base: *mut u8,
    bytes: usize,
}

impl Mapping {
    /// The first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Maps memory, in huge pages or kept out of them.
    pub(crate) fn new(bytes: usize, huge: bool) -> Result<Self, Errno> {
        let align = if huge { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        let whole_bytes = bytes + 2 * align;
        // SAFETY: a new private mapping wherever the kernel likes; it cannot overlap memory in use.
        let whole =
            unsafe { mmap_anonymous(null_mut(), whole_bytes, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let whole = whole.cast::<u8>();
        let lead = (whole.addr() + PAGE_BYTES).next_multiple_of(align) - whole.addr();
        // SAFETY: `lead` is at most `align`, so at least `bytes` more lie behind it in the mapping.
        let base = unsafe { whole.add(lead) };
        let mapping = Self { whole, whole_bytes, base, bytes };
        // SAFETY: a part of the mapping just made, which nobody else knows.
        unsafe { mprotect(base.cast(), bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        match mapping.advise(0, bytes, advice) {
            // Without huge pages in the kernel there is nothing to choose from.
            Ok(()) | Err(Errno::INVAL) => Ok(mapping),
            Err(errno) => Err(errno),
        }
    }

    /// Advice to a part of it.
    pub(crate) fn advise(&self, offset: usize, bytes: usize, advice: Advice) -> Result<(), Errno> {
        debug_assert!(offset + bytes <= self.bytes, "the range is inside");
        // SAFETY: `offset` is inside the mapping.
        let start = unsafe { self.base.add(offset) };
        // SAFETY: the memory is ours, no reference into it exists, and its contents matter to nobody.
        unsafe { madvise(start.cast(), bytes, advice) }
    }

    /// Writes a word to every page.
    pub(crate) fn write_every_page(&self) {
        for offset in (0..self.bytes).step_by(PAGE_BYTES) {
            self.swap_word(offset, 1);
        }
    }

    /// Reads the word at `offset`, a multiple of the page size, and writes another. Volatile: the accesses themselves
    /// are what is measured.
    pub(crate) fn swap_word(&self, offset: usize, word: u64) -> u64 {
        debug_assert!(offset < self.bytes, "the word is inside");
        // SAFETY: inside the mapping, by the assertion's condition, which all callers keep.
        let at = unsafe { self.base.add(offset) }.cast::<u64>();
        // SAFETY: as above; readable, aligned to a page, and known to nobody else.
        let before = unsafe { at.read_volatile() };
        // SAFETY: as above; writable.
        unsafe { at.write_volatile(word) };
        before
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and no reference into it exists.
        let _ = unsafe { munmap(self.whole.cast(), self.whole_bytes) };
    }
}
