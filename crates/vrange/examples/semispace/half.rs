//! One half of the heap: a mapping of its own, of which a part is *open*. All unsafe code of the collector is here.
//!
//! What is open is ordinary memory, a slice. What is closed belongs to nobody, whatever it still holds, and is never looked at:
//! it has to be opened first, from the start on, and its new owner writes every word before it reads it. So it does not matter
//! what has become of closed memory, and that is where the policies differ.

use std::error::Error;

use vrange::raw;
use vrange_os::linux::{Linux, page_out};
use vrange_os::{HUGE_PAGE_BYTES, OsError, PAGE_BYTES, Placement, Reservation, Span, System as _};

/// How much is opened at a time: so little that what allocation does not reach stays closed, so much that nobody notices what the
/// opening costs; and no huge page reaches over it.
const CHUNK_BYTES: usize = HUGE_PAGE_BYTES;

/// What a half is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) half_bytes: usize,
    /// In huge pages where the kernel has them, or never in any, so that it is the same on every machine.
    pub(crate) huge_pages: bool,
}

/// What becomes of memory while it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It stays as it is: the fastest, and memory that nobody else can have.
    Nothing,
    /// The kernel gets it back at once, and is asked for every page again: small, and paid for at each collection.
    DontNeed,
    /// It is volatile: it stays, unless somebody needs it.
    Volatile,
}

impl Policy {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::DontNeed, Self::Volatile];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::DontNeed => "dontneed",
            Self::Volatile => "volatile",
        }
    }
}

/// Bytes that take up memory, or swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Of what is open.
    pub(crate) open_bytes: usize,
    /// Of what is closed.
    pub(crate) closed_bytes: usize,
}

impl Held {
    pub(crate) fn bytes(self) -> usize {
        self.open_bytes + self.closed_bytes
    }
}

impl std::ops::Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            open_bytes: self.open_bytes + other.open_bytes,
            closed_bytes: self.closed_bytes + other.closed_bytes,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Half {
    memory: Reservation,
    /// From the start on. A multiple of the page size.
    open_bytes: usize,
    policy: Policy,
}

impl Half {
    /// New memory, all of it closed.
    pub(crate) fn new(layout: Layout, policy: Policy) -> Result<Self, Box<dyn Error>> {
        let placement = if layout.huge_pages { Placement::HugePages } else { Placement::SmallPages };
        let memory = Linux::get()?.reserve(Span::pages_for(layout.half_bytes), placement, true)?;
        let (base, bytes) = (memory.base(), memory.span().bytes());
        let half = Self { memory, open_bytes: 0, policy };
        if policy == Policy::Volatile {
            // SAFETY: private, anonymous, readable and writable, and nobody else knows it. `drop` tells of its end.
            unsafe { raw::adopt(base, bytes) }?;
            // SAFETY: all of it is closed.
            unsafe { raw::mark(base, bytes) }?;
        }
        Ok(half)
    }

    /// What is open.
    pub(crate) fn words(&self) -> &[usize] {
        // SAFETY: the start of the mapping, aligned to a page. It was zeros when it was mapped, so every word has a value. What is
        // open is not marked, so nothing changes it but us, and `close` needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.base().cast(), self.open_bytes / size_of::<usize>()) }
    }

    /// What is open, to be written to.
    pub(crate) fn words_mut(&mut self) -> &mut [usize] {
        // SAFETY: as for `words`, and the mapping is known to this value alone, which is borrowed exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.base().cast(), self.open_bytes / size_of::<usize>())
        }
    }

    /// Opens memory until `words` words are open. Returns false if there are not as many.
    pub(crate) fn open(&mut self, words: usize) -> Result<bool, vrange::Error> {
        while self.words().len() < words {
            let bytes = CHUNK_BYTES.min(self.memory.span().bytes() - self.open_bytes);
            if bytes == 0 {
                return Ok(false);
            }
            if self.policy == Policy::Volatile {
                let start = self.memory.base().wrapping_add(self.open_bytes);
                // What was lost does not matter. From here on nothing is.
                // SAFETY: adopted memory that is closed: nobody stores to it.
                let _ = unsafe { raw::unmark(start, bytes) }?;
            }
            self.open_bytes += bytes;
        }
        Ok(true)
    }

    /// Closes all of it.
    pub(crate) fn close(&mut self) -> Result<(), Box<dyn Error>> {
        let was_open = self.open_span();
        self.open_bytes = 0;
        match self.policy {
            Policy::Nothing => {}
            Policy::DontNeed => {
                // SAFETY: closed just now, so no reference into it exists, and nobody wants what it holds.
                unsafe { Linux::get()?.release(was_open) }?;
            }
            Policy::Volatile => {
                // SAFETY: as above, and it is not touched again until `open` has unmarked it.
                unsafe { raw::mark(self.memory.base(), was_open.bytes()) }?;
            }
        }
        Ok(())
    }

    /// What of it takes up memory, or swap.
    pub(crate) fn held(&self) -> Result<Held, OsError> {
        let (whole, open) = (self.memory.span(), self.open_span());
        let held_bytes = |span: Span| {
            let mut pages = 0;
            Linux::get()?.residency(span, false, &mut |run, _| pages += run.len())?;
            Ok(pages * PAGE_BYTES)
        };
        Ok(Held {
            open_bytes: held_bytes(open)?,
            closed_bytes: held_bytes(whole.slice(open.pages(), whole.pages()))?,
        })
    }

    /// Has the kernel take what it may take of it, as if memory were short.
    pub(crate) fn page_out(&self) -> Result<(), OsError> {
        page_out(self.memory.span())
    }

    fn open_span(&self) -> Span {
        self.memory.span().slice(0, self.open_bytes / PAGE_BYTES)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let (base, pages) = (self.memory.base(), self.memory.span().pages());
        if self.policy == Policy::Volatile {
            raw::forget(base, pages * PAGE_BYTES).expect("whole pages are a range");
        }
        if let Ok(linux) = Linux::get() {
            // SAFETY: made by `new`, forgotten by the library; no reference into it outlives this value.
            unsafe { linux.unmap(Reservation::new(base, pages)) };
        }
    }
}
