//! Proof, from the pages alone, of what was lost.
//!
//! A page that the kernel discarded reads as zeros. So before an offer each page is noted as *witnessed* (some word of
//! it is not zero), *blank* or *absent*, and afterwards a witnessed page that still shows a word that is not zero is
//! intact. Nothing is ever planted in the user's bytes.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use vrange_os::{OsError, PAGE_BYTES, Residency, Span, System};

use super::dirty::add_zero;
use super::page_map::{Page, Words};

const WORDS_PER_PAGE: usize = PAGE_BYTES / size_of::<u64>();

/// Pages whose first words are loaded before any of them is looked at, so that the loads overlap.
const LOADS_AT_ONCE: usize = 32;

/// How often a page that seems swapped is looked at again: a page in migration looks the same for some microseconds.
const SWAP_LOOKS_MAX: u32 = 16;

/// A claimed range's memory, as a witness sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The first byte; its provenance covers the whole range.
    pub(crate) base: *mut u8,
    pub(crate) pages: usize,
}

impl Memory {
    fn word(self, page: usize, word: usize) -> *mut u64 {
        debug_assert!(page < self.pages && word < WORDS_PER_PAGE, "inside the range");
        self.base.wrapping_add(page * PAGE_BYTES).cast::<u64>().wrapping_add(word)
    }

    pub(crate) fn span(self) -> Span {
        Span::new(self.base.expose_provenance(), self.pages)
    }

    /// # Safety
    /// The memory is mapped, and no non-atomic store to it can happen meanwhile.
    unsafe fn load(self, page: usize, word: usize) -> u64 {
        // SAFETY: aligned, inside the range, and by the caller's promise mapped and not stored to. An atomic load,
        // because the kernel may replace the page by zeros at this moment. Relaxed: it orders nothing.
        unsafe { AtomicU64::from_ptr(self.word(page, word)) }.load(Ordering::Relaxed)
    }

    /// Position of a word of `page` that is not zero, the first word tried first.
    ///
    /// # Safety
    /// As for [`load`](Self::load).
    unsafe fn find_nonzero(self, page: usize) -> Option<usize> {
        (0..WORDS_PER_PAGE).find(|word| {
            // SAFETY: passed on from the caller.
            unsafe { self.load(page, *word) != 0 }
        })
    }
}

/// Is any word of `page` not zero?
///
/// # Safety
/// The caller has claimed the range, so that nobody stores to it.
pub(crate) unsafe fn has_contents(memory: Memory, page: usize) -> bool {
    // SAFETY: passed on from the caller.
    unsafe { memory.find_nonzero(page) }.is_some()
}

/// Notes what `pages` of a claimed range hold, and returns how many of them are in memory. Pages noted as lost before
/// stay so.
///
/// Cost: 12 ns a page for the page table (0.3 in huge pages) and one load a page, a page's worth of loads where the
/// first word is zero.
///
/// # Safety
/// The caller has claimed the range, so that nobody stores to it.
///
/// # Errors
/// The page table cannot be read, or an already lost page cannot be dropped: then nothing may be offered.
pub(crate) unsafe fn note(
    system: &dyn System,
    memory: Memory,
    pages: Range<usize>,
    map: Words<'_>,
) -> Result<usize, OsError> {
    let span = memory.span().slice(pages.start, pages.len());
    // Absent until the page table says otherwise; an offer that was undone may have left older notes.
    for page in pages.clone() {
        if map.get(page) != Page::Lost {
            map.set(page, Page::Absent);
        }
    }
    let mut resident = 0;
    let mut outcome = Ok(());
    system.residency(span, false, &mut |found, residency| {
        let run = pages.start + found.start..pages.start + found.end;
        match residency {
            Residency::Present | Residency::Shared => {
                // SAFETY: passed on from the caller.
                let noted = unsafe { note_resident(system, memory, run.clone(), residency, map) };
                outcome = outcome.and(noted);
                resident += run.len();
            }
            Residency::Swapped => {
                for page in run {
                    // SAFETY: passed on from the caller.
                    unsafe { note_swapped(system, memory, page, map) };
                }
            }
        }
    })?;
    outcome.map(|()| resident)
}

/// [`note`] where the page table cannot be read: by contents alone, which also tells what a release will lose, but not
/// which zeros are in memory. Pages on swap are brought back for it.
///
/// # Safety
/// As for [`note`].
pub(crate) unsafe fn note_by_contents(memory: Memory, pages: Range<usize>, map: Words<'_>) {
    for page in pages {
        if map.get(page) != Page::Lost {
            // SAFETY: passed on from the caller.
            let has_contents = unsafe { memory.find_nonzero(page) }.is_some();
            map.set(page, if has_contents { Page::Witnessed } else { Page::Absent });
        }
    }
}

/// # Safety
/// As for [`note`].
unsafe fn note_resident(
    system: &dyn System,
    memory: Memory,
    run: Range<usize>,
    residency: Residency,
    map: Words<'_>,
) -> Result<(), OsError> {
    let mut start = run.start;
    while start < run.end {
        let chunk = start..run.end.min(start + LOADS_AT_ONCE);
        start = chunk.end;
        let mut first_words = [0u64; LOADS_AT_ONCE];
        for (word, page) in first_words.iter_mut().zip(chunk.clone()) {
            // SAFETY: passed on from the caller.
            *word = unsafe { memory.load(page, 0) };
        }
        let mut without_contents = 0u32;
        for (index, page) in chunk.clone().enumerate() {
            let contents = map.get(page) != Page::Lost && {
                // SAFETY: passed on from the caller.
                first_words[index] != 0 || unsafe { memory.find_nonzero(page) }.is_some()
            };
            if contents {
                map.set(page, Page::Witnessed);
            } else {
                without_contents |= 1 << index;
            }
        }
        if without_contents != 0 && residency == Residency::Present {
            // SAFETY: passed on from the caller.
            unsafe { note_zeros(system, memory, chunk, without_contents, map) }?;
        }
    }
    Ok(())
}

/// Of the pages in `chunk` whose bit is set, none has contents, but they are in memory. Those that are this process's
/// own are noted as blank, or dropped if their contents were lost before: zeros that a rescue brought in, which nobody
/// would make dirty again if they were offered. The others are the kernel's zero page (the huge one is not told apart by
/// a scan), or zeros shared since a `fork`: a store gives the storer its own, dirty copy of those, so they stay absent.
///
/// # Safety
/// As for [`note`].
unsafe fn note_zeros(
    system: &dyn System,
    memory: Memory,
    chunk: Range<usize>,
    without_contents: u32,
    map: Words<'_>,
) -> Result<(), OsError> {
    let span = memory.span().slice(chunk.start, chunk.len());
    let mut own = 0u32;
    system.residency(span, true, &mut |found, residency| {
        if residency == Residency::Present {
            own |= found.fold(0, |bits, index| bits | 1 << index);
        }
    })?;
    for (index, page) in chunk.enumerate() {
        if own & without_contents & 1 << index == 0 {
            continue;
        }
        if map.get(page) == Page::Lost {
            // SAFETY: the page's contents are lost already, and nobody stores to it.
            unsafe { system.release(memory.span().slice(page, 1)) }?;
        } else {
            map.set(page, Page::Blank);
        }
    }
    Ok(())
}

/// A page that the page table calls swapped is really so, and the offer will destroy it, or it is being moved to another
/// place in memory, which is no loss. Migration ends soon; what stays swapped counts as having contents.
///
/// # Safety
/// As for [`note`].
unsafe fn note_swapped(system: &dyn System, memory: Memory, page: usize, map: Words<'_>) {
    if map.get(page) == Page::Lost {
        return;
    }
    for _ in 0..SWAP_LOOKS_MAX {
        let mut now = None;
        let looked = system.residency(memory.span().slice(page, 1), false, &mut |_, residency| now = Some(residency));
        if looked.is_ok() && now == Some(Residency::Present) {
            // SAFETY: passed on from the caller. The page is in memory, so the loads read no swap.
            let has_contents = unsafe { memory.find_nonzero(page) }.is_some();
            map.set(page, if has_contents { Page::Witnessed } else { Page::Blank });
            return;
        }
        std::thread::yield_now();
    }
    map.set(page, Page::Witnessed);
}

/// What a rescue found, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rescued {
    /// Contents still there, and safe now.
    pub(crate) intact: usize,
    /// Contents gone, found by this rescue.
    pub(crate) lost: usize,
}

/// Takes the first `offered` pages of a range back from the kernel, and finds out which of them it had discarded.
/// Afterwards each page that was not lost is dirty or absent: the kernel cannot take it any more.
///
/// Cost: a load and a read-modify-write for each page that is still there (about 11 µs a MiB); for each that is lost a
/// read fault, which maps the shared zero page and takes no memory.
///
/// # Safety
/// The caller has claimed the range for a rescue, so that nobody but the kernel changes it.
pub(crate) unsafe fn rescue(memory: Memory, offered: usize, map: Words<'_>) -> Rescued {
    let mut rescued = Rescued::default();
    for page in 0..offered.min(memory.pages) {
        match map.get(page) {
            Page::Absent | Page::Lost => {}
            Page::Blank => {
                // SAFETY: mapped readable and writable, claimed by the caller.
                unsafe { add_zero(memory.word(page, 0)) };
            }
            Page::Witnessed => {
                // SAFETY: passed on from the caller.
                if unsafe { rescue_page(memory, page) } {
                    rescued.intact += 1;
                } else {
                    map.set(page, Page::Lost);
                    rescued.lost += 1;
                }
            }
        }
    }
    rescued
}

/// Is the page still there? If so it is dirty now. A load first: only a page that shows contents gets the store, since
/// storing to each would fault every lost page in. But the result of the store decides, since the page can go after the
/// load.
///
/// # Safety
/// As for [`rescue`].
unsafe fn rescue_page(memory: Memory, page: usize) -> bool {
    // SAFETY: passed on from the caller.
    match unsafe { memory.find_nonzero(page) } {
        // SAFETY: mapped readable and writable, claimed by the caller.
        Some(word) => unsafe { add_zero(memory.word(page, word)) != 0 },
        None => false,
    }
}
