//! Whole pages of this process's address space.

use crate::PAGE_BYTES;

/// A run of whole pages: where it starts and how many pages it has. Plain numbers; holding one gives no right to
/// touch the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    address: usize,
    pages: usize,
}

impl Span {
    /// A span of `pages` pages at `address`.
    ///
    /// # Panics
    /// If `address` is not a multiple of the page size, which is a mistake of the caller and would make the kernel
    /// act on other memory.
    pub const fn new(address: usize, pages: usize) -> Self {
        assert!(address.is_multiple_of(PAGE_BYTES), "a span starts at a page");
        Self { address, pages }
    }

    /// Address of the first byte.
    pub const fn address(&self) -> usize {
        self.address
    }

    /// Length in pages.
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// Length in bytes.
    pub const fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
    }

    /// Address just past the last byte.
    pub const fn end(&self) -> usize {
        self.address + self.bytes()
    }

    /// The part that starts `skip` pages in and has `pages` pages at most.
    pub const fn slice(&self, skip: usize, pages: usize) -> Self {
        let skip = if skip < self.pages { skip } else { self.pages };
        let left = self.pages - skip;
        Self { address: self.address + skip * PAGE_BYTES, pages: if pages < left { pages } else { left } }
    }

    /// Pages needed for `bytes` bytes, rounded up.
    pub const fn pages_for(bytes: usize) -> usize {
        bytes.div_ceil(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_stays_inside() {
        let span = Span::new(0x10000, 10);
        assert_eq!(span.slice(2, 3), Span::new(0x12000, 3));
        assert_eq!(span.slice(8, 5), Span::new(0x18000, 2));
        assert_eq!(span.slice(99, 5).pages(), 0);
        assert_eq!(span.end(), 0x1a000);
        assert_eq!(Span::pages_for(1), 1);
        assert_eq!(Span::pages_for(0), 0);
    }

    #[test]
    #[should_panic(expected = "starts at a page")]
    fn an_unaligned_span_is_refused() {
        let _ = Span::new(1, 1);
    }
}
