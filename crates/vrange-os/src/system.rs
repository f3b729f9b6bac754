//! What the engine asks of the operating system, in terms of what it wants, not of how the kernel is called.

use crate::{OsError, Span};

/// How a reservation is to be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Ordinary pages, kept out of huge pages: advice to a part of a huge page would split it (0.4 ms).
    SmallPages,
    /// Aligned to huge pages, which the kernel is asked to use where it can.
    HugePages,
}

/// Address space that this process owns until it is handed to [`System::unmap`].
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    base: *mut u8,
    pages: usize,
}

// SAFETY: it is an address and a length; what is done with the memory is up to the unsafe code that uses it.
unsafe impl Send for Reservation {}
// SAFETY: as for Send; shared access only reads the two numbers.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Describes `pages` pages at `base`, which must be aligned to a page.
    pub fn new(base: *mut u8, pages: usize) -> Self {
        Self { base, pages }
    }

    /// The first byte, with the right to access the whole reservation.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// The whole reservation as a span.
    pub fn span(&self) -> Span {
        Span::new(self.base.expose_provenance(), self.pages)
    }
}

/// What a page holds, as far as the page table tells. Pages that were never touched, or that only show the kernel's
/// shared zero page, are *absent* and not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In memory, and nothing speaks against its being this process's own.
    Present,
    /// In memory, mapped by more than this process, or the shared zero page where the kernel does not tell it apart.
    Shared,
    /// On swap, in the swap cache, or in migration: reading it brings it back.
    Swapped,
}

/// How far an offer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Pages offered, counted from the first page of the first span on.
    pub pages: usize,
    /// Why it stopped there, if it did not reach the end.
    pub stopped_by: Option<OsError>,
}

/// The operating system, as the engine sees it.
pub trait System: Send + Sync + std::fmt::Debug {
    /// Reserves address space for `pages` pages, readable, writable, private, filled with zeros on first touch, and
    /// without a commit charge where the kernel's policy allows. `core_dump` says whether a core dump has it.
    ///
    /// # Errors
    /// The failing call: address space (`RLIMIT_AS`), the overcommit policy, or the number of mappings is exhausted.
    fn reserve(&self, pages: usize, placement: Placement, core_dump: bool) -> Result<Reservation, OsError>;

    /// Gives a reservation back.
    ///
    /// # Safety
    /// No reference into it may exist, and nobody may use the addresses again.
    unsafe fn unmap(&self, reservation: Reservation);

    /// Calls `visit` with each run of pages (as page numbers inside `span`, ascending) that are not absent.
    ///
    /// With `sharing`, pages mapped by other processes too are told apart, at about three times the price.
    ///
    /// # Errors
    /// The residency cannot be read: then the pages must not be offered.
    fn residency(
        &self,
        span: Span,
        sharing: bool,
        visit: &mut dyn FnMut(std::ops::Range<usize>, Residency),
    ) -> Result<(), OsError>;

    /// Can the calling thread offer anything at all: does the system tell what is in memory, and take offers? Tried on a page
    /// made for it. What the system refuses for one range, because it is locked, say, it may take for another.
    fn can_offer(&self) -> bool;

    /// Could a page that is in memory now be moved to swap later? One system call (`sysinfo(2)`).
    fn has_swap(&self) -> bool;

    /// Hands pages to the kernel: they keep their bytes until memory is short, and then read as zeros
    /// (`madvise(MADV_FREE)`, Linux 4.5). A store into a page takes that page back.
    ///
    /// # Safety
    /// The spans must be private anonymous memory of this process whose contents may be lost, and nobody may rely on
    /// bytes stored in them while the call runs.
    unsafe fn offer(&self, spans: &[Span]) -> Offered;

    /// Drops pages at once; they read as zeros afterwards (`madvise(MADV_DONTNEED)`).
    ///
    /// # Safety
    /// As for [`offer`](Self::offer).
    ///
    /// # Errors
    /// The kernel refused; the pages keep their bytes.
    unsafe fn release(&self, span: Span) -> Result<(), OsError>;
}
