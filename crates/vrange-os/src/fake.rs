//! A kernel made of ordinary memory, for tests (Miri among them) that want to decide themselves which page is lost when.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::{HUGE_PAGE_BYTES, Offered, OsError, PAGE_BYTES, Placement, Reservation, Residency, Span, System};

/// The largest reservation: there is as much address space as tests need, and clearing more takes long.
const LARGEST_PAGES: usize = 1024;

/// What becomes of the next calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// `reserve` fails with ENOMEM, as it always does for more than 4 MiB.
    pub reserve: bool,
    /// `offer` fails after this many pages.
    pub offer_after_pages: Option<usize>,
    /// `release` fails.
    pub release: bool,
    /// `residency` fails.
    pub residency: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Base address to (pointer, pages).
    reservations: BTreeMap<usize, (SendPointer, usize)>,
    /// Page addresses that were offered and neither taken nor released since.
    offered: Vec<usize>,
    refusals: Refusals,
}

#[derive(Clone, Copy, Debug)]
struct SendPointer(*mut u8);
// SAFETY: the pointer is only followed under the fake's lock, by the test that drives it.
unsafe impl Send for SendPointer {}

/// The fake. A page is resident when it has a byte that is not zero; offered pages stay until [`take`](Fake::take).
///
/// Unlike the kernel it cannot see stores, so it takes pages only when the test says so, and the test must not say so
/// while the range is pinned.
#[derive(Debug, Default)]
pub struct Fake {
    state: Mutex<State>,
}

impl Fake {
    /// A fake with no memory in use.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides what the next calls refuse.
    pub fn refuse(&self, refusals: Refusals) {
        self.lock().refusals = refusals;
    }

    /// Plays the kernel under pressure: discards the `count` pages that were offered first. Returns how many there were.
    pub fn take(&self, count: usize) -> usize {
        self.take_where(count, |_| true).len()
    }

    /// As [`take`](Self::take), of the pages only whose address `is_clean` accepts: the test says which it has stored to
    /// since the offer. Returns the addresses of the discarded pages.
    pub fn take_where(&self, count: usize, mut is_clean: impl FnMut(usize) -> bool) -> Vec<usize> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        state.offered.retain(|address| {
            let takes = taken.len() < count && is_clean(*address);
            if takes {
                taken.push(*address);
            }
            !takes
        });
        for address in &taken {
            clear(&state, Span::new(*address, 1));
        }
        taken
    }

    /// Page addresses now offered, oldest offer first.
    pub fn offered(&self) -> Vec<usize> {
        self.lock().offered.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pointer to the first byte of `span`, which must lie in one reservation.
fn pointer(state: &State, span: Span) -> Option<*mut u8> {
    let (base, (pointer, pages)) = state.reservations.range(..=span.address()).next_back()?;
    let offset = span.address() - base;
    (offset + span.bytes() <= pages * PAGE_BYTES).then(|| pointer.0.wrapping_add(offset))
}

fn clear(state: &State, span: Span) {
    if let Some(start) = pointer(state, span) {
        // SAFETY: `pointer` found the span inside a live reservation; that nobody uses the bytes now is what the test
        // promises by calling `take` (or the engine by calling `release`).
        unsafe { start.write_bytes(0, span.bytes()) };
    }
}

fn layout(pages: usize) -> Option<Layout> {
    Layout::from_size_align(pages.checked_mul(PAGE_BYTES)?, HUGE_PAGE_BYTES)
        .ok()
        .filter(|layout| layout.size() > 0)
}

impl System for Fake {
    fn reserve(&self, pages: usize, _placement: Placement, _core_dump: bool) -> Result<Reservation, OsError> {
        let mut state = self.lock();
        let error = OsError::new("mmap", Errno::NOMEM);
        let layout =
            layout(pages).filter(|_| !state.refusals.reserve && pages <= LARGEST_PAGES).ok_or(error)?;
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            return Err(error);
        }
        state.reservations.insert(base.expose_provenance(), (SendPointer(base), pages));
        Ok(Reservation::new(base, pages))
    }

    unsafe fn unmap(&self, reservation: Reservation) {
        let mut state = self.lock();
        let span = reservation.span();
        state.offered.retain(|page| !(span.address()..span.end()).contains(page));
        if let Some((base, pages)) = state.reservations.remove(&span.address())
            && let Some(layout) = layout(pages)
        {
            // SAFETY: allocated by `reserve` with the same layout, removed from the table just now.
            unsafe { dealloc(base.0, layout) };
        }
    }

    fn residency(
        &self,
        span: Span,
        _sharing: bool,
        visit: &mut dyn FnMut(Range<usize>, Residency),
    ) -> Result<(), OsError> {
        let state = self.lock();
        let start = pointer(&state, span)
            .filter(|_| !state.refusals.residency)
            .ok_or(OsError::new("ioctl(PAGEMAP_SCAN)", Errno::PERM))?;
        for page in 0..span.pages() {
            // SAFETY: inside a live reservation, and the engine reads residency only of ranges nobody writes to.
            let bytes =
                unsafe { std::slice::from_raw_parts(start.wrapping_add(page * PAGE_BYTES), PAGE_BYTES) };
            if bytes.iter().any(|byte| *byte != 0) {
                visit(page..page + 1, Residency::Present);
            }
        }
        Ok(())
    }

    fn can_offer(&self) -> bool {
        let refusals = self.lock().refusals;
        !refusals.residency && refusals.offer_after_pages.is_none_or(|pages| pages > 0)
    }

    fn has_swap(&self) -> bool {
        false
    }

    unsafe fn offer(&self, spans: &[Span]) -> Offered {
        let mut state = self.lock();
        let mut pages = 0;
        for span in spans {
            for page in 0..span.pages() {
                if state.refusals.offer_after_pages.is_some_and(|most| pages >= most) {
                    let error = OsError::new("madvise(MADV_FREE)", Errno::PERM);
                    return Offered { pages, stopped_by: Some(error) };
                }
                let address = span.slice(page, 1).address();
                if !state.offered.contains(&address) {
                    state.offered.push(address);
                }
                pages += 1;
            }
        }
        Offered { pages, stopped_by: None }
    }

    unsafe fn release(&self, span: Span) -> Result<(), OsError> {
        let mut state = self.lock();
        if state.refusals.release {
            return Err(OsError::new("madvise(MADV_DONTNEED)", Errno::PERM));
        }
        state.offered.retain(|page| !(span.address()..span.end()).contains(page));
        clear(&state, span);
        Ok(())
    }
}
