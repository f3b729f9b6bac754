//! The real kernel.

mod advice;
mod huge_pages;
mod look;
mod mapping;
mod residency;

use std::ops::Range;

use rustix::io::Errno;

use crate::{Offered, OsError, PAGE_BYTES, Placement, Reservation, Residency, Span, System};

pub use advice::{AdviceSupport, close_to_merging, make_dirty, offer_unmerged, page_out, release_unlocked};
pub use huge_pages::{are_huge_pages_given, collapse};
pub use look::look_into;

/// Linux, through the system calls of the running process. Opens nothing until it is asked for something that needs a
/// descriptor, and notices by itself when it wakes up in a child.
#[derive(Debug)]
pub struct Linux {
    residency: residency::Reader,
    advice: advice::Caller,
}

impl Linux {
    /// The one instance of this process.
    ///
    /// # Errors
    /// `sysconf(_SC_PAGESIZE)`: the kernel's page size is not [`PAGE_BYTES`].
    pub fn get() -> Result<&'static Self, OsError> {
        static INSTANCE: Linux = Linux { residency: residency::Reader::new(), advice: advice::Caller::new() };
        if rustix::param::page_size() != PAGE_BYTES {
            return Err(OsError::new("sysconf(_SC_PAGESIZE)", Errno::NOTSUP));
        }
        Ok(&INSTANCE)
    }

    /// Which forms of page advice this kernel takes. Found out on a scratch page at each call.
    pub fn advice_support(&self) -> AdviceSupport {
        self.advice.support()
    }

    /// How page residency is read on this kernel, or why it cannot be.
    ///
    /// # Errors
    /// Opening or reading `/proc/self/pagemap` failed.
    pub fn residency_method(&self) -> Result<ResidencyMethod, OsError> {
        self.residency.method()
    }

    /// How many pages of `span` are in memory, and in no huge page. One system call or a few; 12 ns a page.
    ///
    /// # Errors
    /// The kernel does not tell (before Linux 6.7), or the page table cannot be read.
    pub fn count_small_pages(&self, span: Span) -> Result<usize, OsError> {
        self.residency.count_small_pages(span)
    }
}

pub use residency::Method as ResidencyMethod;

impl System for Linux {
    fn reserve(&self, pages: usize, placement: Placement, core_dump: bool) -> Result<Reservation, OsError> {
        mapping::reserve(pages, placement, core_dump)
    }

    unsafe fn unmap(&self, reservation: Reservation) {
        // SAFETY: passed on from the caller.
        unsafe { mapping::unmap(&reservation) };
    }

    fn residency(
        &self,
        span: Span,
        sharing: bool,
        visit: &mut dyn FnMut(Range<usize>, Residency),
    ) -> Result<(), OsError> {
        self.residency.read(span, sharing, visit)
    }

    fn can_offer(&self) -> bool {
        let tried = advice::on_scratch_page(|page| {
            self.residency.read(page, false, &mut |_, _| {})?;
            // SAFETY: a page mapped for this purpose; it holds nothing.
            unsafe { advice::offer_unmerged(page) }
        });
        // Where it cannot be tried, nothing speaks against it.
        tried.map_or(true, |outcome| outcome.is_ok())
    }

    fn has_swap(&self) -> bool {
        rustix::system::sysinfo().totalswap != 0
    }

    unsafe fn offer(&self, spans: &[Span]) -> Offered {
        // SAFETY: passed on from the caller.
        unsafe { self.advice.offer(spans) }
    }

    unsafe fn release(&self, span: Span) -> Result<(), OsError> {
        // SAFETY: passed on from the caller.
        unsafe { advice::release(span) }
    }
}
