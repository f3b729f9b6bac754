//! Proof, from the pages alone, of what was lost.
//!
//! A page that the kernel discarded reads as zeros. So before an offer each page is noted as *witnessed* (some word of
//! it is not zero), *blank* or *absent*, and afterwards a witnessed page that still shows a word that is not zero is
//! intact. Nothing is ever planted in the user's bytes.

use std::ops::Range;

use vrange_os::{OsError, PAGE_BYTES, Residency, Span, System};

use super::dirty::add_zero;
use super::page_map::{Chunk, Notes, PAGES_PER_WORD, Page, Words};
use crate::prefetch::prefetch;
use crate::sync::{AtomicU64, Ordering, thread};

const WORDS_PER_PAGE: usize = PAGE_BYTES / size_of::<u64>();

/// How many pages ahead of the one that is looked at the processor is told to fetch. Pages lie far apart for it, so without
/// this each would cost a full trip to memory.
const PREFETCH_PAGES: usize = PAGES_PER_WORD;

/// How often pages that seem swapped are looked at again: a page in migration looks the same for some microseconds.
const SWAP_LOOKS_MAX: u32 = 16;

/// The word of a page that is looked at first: another cache line in each page, so that the first words of neighbouring
/// pages do not compete for the same place in the cache.
const fn first_look(page: usize) -> usize {
    const WORDS_PER_LINE: usize = 8;
    page % (WORDS_PER_PAGE / WORDS_PER_LINE) * WORDS_PER_LINE
}

/// A claimed range's memory, as a witness sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The first byte; its provenance covers the whole range.
    pub(crate) base: *mut u8,
    pub(crate) pages: usize,
}

impl Memory {
    fn word(self, page: usize, word: usize) -> *mut u64 {
        debug_assert!(word < WORDS_PER_PAGE, "inside the page");
        self.base.wrapping_add(page * PAGE_BYTES).cast::<u64>().wrapping_add(word)
    }

    pub(crate) fn span(self) -> Span {
        Span::new(self.base.expose_provenance(), self.pages)
    }

    /// Has the processor fetch the first word of `page`, if there is such a page. Never faults.
    fn prefetch(self, page: usize) {
        prefetch(self.word(page, first_look(page)).cast::<u8>());
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
        let first = first_look(page);
        (first..WORDS_PER_PAGE).chain(0..first).find(|word| {
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

/// Pages of a claimed range that are to be noted.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) memory: Memory,
    pub(crate) pages: Range<usize>,
    pub(crate) map: Words<'a>,
    /// Found: how many of the pages are in memory.
    pub(crate) resident: usize,
}

impl<'a> Part<'a> {
    pub(crate) fn new(memory: Memory, pages: Range<usize>, map: Words<'a>) -> Self {
        Self { memory, pages, map, resident: 0 }
    }

    fn span(&self) -> Span {
        self.memory.span().slice(self.pages.start, self.pages.len())
    }

    /// Have the pages stayed in memory since they were last noted? A rescue made them dirty, and without swap dirty pages
    /// stay. They may have other contents now.
    fn has_stayed(&self, has_swap: bool) -> bool {
        !has_swap && self.map.all_were_resident(self.pages.clone())
    }
}

/// Notes what the pages of claimed ranges hold, and how many of them are in memory. Pages noted as lost before stay so.
///
/// Cost: one system call for parts that lie side by side, 12 to 25 ns a page for the page table (0.3 in huge pages), and
/// one load a page; a page's worth of loads where the word that is looked at first is zero.
///
/// # Safety
/// The caller has claimed the ranges, so that nobody stores to them.
///
/// # Errors
/// The page table cannot be read, or an already lost page cannot be dropped: then nothing may be offered.
pub(crate) unsafe fn note(system: &dyn System, parts: &mut [Part<'_>]) -> Result<(), OsError> {
    let has_swap = system.has_swap();
    let mut left = parts;
    while let [first, ..] = left {
        if first.has_stayed(has_swap) {
            // SAFETY: passed on from the caller.
            unsafe { note_stayed(first) }?;
            left = &mut left[1..];
            continue;
        }
        let mut end = first.span().end();
        let adjacent = left.iter().skip(1).take_while(|next| {
            let joins = next.span().address() == end && !next.has_stayed(has_swap);
            end = next.span().end();
            joins
        });
        let count = 1 + adjacent.count();
        let (group, rest) = left.split_at_mut(count);
        // SAFETY: passed on from the caller.
        unsafe { note_adjacent(system, group) }?;
        left = rest;
    }
    Ok(())
}

/// Notes pages that are in memory for certain.
///
/// # Safety
/// As for [`note`].
unsafe fn note_stayed(part: &mut Part<'_>) -> Result<(), OsError> {
    part.resident = part.pages.len();
    let zeros = |chunk: Chunk, bits: u32, notes: &mut Notes| {
        set_bits(bits).for_each(|index| notes.set(chunk.start + index, Page::Blank));
        Ok(())
    };
    // SAFETY: passed on from the caller.
    unsafe { note_contents(part.memory, part.pages.clone(), part.map, zeros) }
}

/// Notes parts that lie side by side, in ascending order.
///
/// # Safety
/// As for [`note`].
unsafe fn note_adjacent(system: &dyn System, parts: &mut [Part<'_>]) -> Result<(), OsError> {
    // Absent until the page table says otherwise; an offer that was undone may have left older notes.
    parts.iter().for_each(|part| part.map.keep_only_losses(part.pages.clone()));
    let pages = parts.iter().map(|part| part.pages.len()).sum();
    let span = Span::new(parts.first().map_or(0, |first| first.span().address()), pages);
    let mut outcome = Ok(());
    // Runs come in ascending order, so the part that holds the next one is never before this one.
    let (mut index, mut start) = (0, 0);
    system.residency(span, false, &mut |found, residency| {
        let mut from = found.start;
        while from < found.end {
            while from >= start + parts[index].pages.len() {
                start += parts[index].pages.len();
                index += 1;
            }
            let part = &mut parts[index];
            let to = found.end.min(start + part.pages.len());
            let run = part.pages.start + from - start..part.pages.start + to - start;
            // SAFETY: passed on from the caller.
            outcome = outcome.and(unsafe { note_run(system, part, run, residency) });
            from = to;
        }
    })?;
    outcome
}

/// # Safety
/// As for [`note`].
unsafe fn note_run(
    system: &dyn System,
    part: &mut Part<'_>,
    run: Range<usize>,
    residency: Residency,
) -> Result<(), OsError> {
    let (memory, map) = (part.memory, part.map);
    match residency {
        Residency::Present => {
            part.resident += run.len();
            let zeros = |chunk: Chunk, bits: u32, notes: &mut Notes| {
                // SAFETY: passed on from the caller.
                unsafe { note_zeros(system, memory, chunk, bits, notes) }
            };
            // SAFETY: passed on from the caller.
            unsafe { note_contents(memory, run, map, zeros) }
        }
        Residency::Shared => {
            part.resident += run.len();
            // SAFETY: passed on from the caller.
            unsafe { note_contents(memory, run, map, |_, _, _| Ok(())) }
        }
        Residency::Swapped => {
            // SAFETY: passed on from the caller.
            unsafe { note_swapped(system, memory, run, map) };
            Ok(())
        }
    }
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

/// Notes those of `run`, which are in memory, that have contents as witnessed, and has `zeros` note the others of each
/// chunk: those whose bit is set, counted from the chunk's start.
///
/// # Safety
/// As for [`note`].
unsafe fn note_contents(
    memory: Memory,
    run: Range<usize>,
    map: Words<'_>,
    mut zeros: impl FnMut(Chunk, u32, &mut Notes) -> Result<(), OsError>,
) -> Result<(), OsError> {
    run.clone().take(PREFETCH_PAGES).for_each(|page| memory.prefetch(page));
    for chunk in map.chunks(run) {
        let mut first_words = [0u64; PAGES_PER_WORD];
        for (word, page) in first_words.iter_mut().zip(chunk.pages()) {
            memory.prefetch(page + PREFETCH_PAGES);
            // SAFETY: passed on from the caller.
            *word = unsafe { memory.load(page, first_look(page)) };
        }
        let mut notes = map.notes(chunk);
        let mut without_contents = 0u32;
        for (index, page) in chunk.pages().enumerate() {
            let contents = notes.get(page) != Page::Lost && {
                // SAFETY: passed on from the caller.
                first_words[index] != 0 || unsafe { has_contents(memory, page) }
            };
            if contents {
                notes.set(page, Page::Witnessed);
            } else {
                without_contents |= 1 << index;
            }
        }
        let noted = if without_contents == 0 { Ok(()) } else { zeros(chunk, without_contents, &mut notes) };
        map.set_notes(chunk, notes);
        noted?;
    }
    Ok(())
}

/// Notes pages of a chunk that are in memory without contents. Those that are this process's own are noted as blank, or
/// dropped if their contents were lost before: zeros that a rescue brought in, which nobody would make dirty again if they
/// were offered. The others are the kernel's zero page (the huge one is not told apart by a scan), or zeros shared since a
/// `fork`: a store gives the storer its own, dirty copy of those, so they stay absent.
///
/// # Safety
/// As for [`note`].
unsafe fn note_zeros(
    system: &dyn System,
    memory: Memory,
    chunk: Chunk,
    without_contents: u32,
    notes: &mut Notes,
) -> Result<(), OsError> {
    let span = memory.span().slice(chunk.start, chunk.pages().len());
    let mut own = 0u32;
    system.residency(span, true, &mut |found, residency| {
        if residency == Residency::Present {
            own |= found.fold(0, |bits, index| bits | 1 << index);
        }
    })?;
    for index in set_bits(own & without_contents) {
        let page = chunk.start + index;
        if notes.get(page) == Page::Lost {
            // SAFETY: the page's contents are lost already, and nobody stores to it.
            unsafe { system.release(memory.span().slice(page, 1)) }?;
        } else {
            notes.set(page, Page::Blank);
        }
    }
    Ok(())
}

/// Positions of the bits that are set.
fn set_bits(bits: u32) -> impl Iterator<Item = usize> {
    (0..u32::BITS as usize).filter(move |index| bits & 1 << index != 0)
}

/// Waits until no page seems swapped that is only being moved in memory, or it is plain that some are on swap.
pub(crate) fn wait_for_migration(system: &dyn System, span: Span) {
    for _ in 0..SWAP_LOOKS_MAX {
        let mut swapped = 0;
        let looked = system.residency(span, false, &mut |found, residency| {
            swapped += if residency == Residency::Swapped { found.len() } else { 0 };
        });
        if looked.is_err() || swapped == 0 {
            break;
        }
        thread::yield_now();
    }
}

/// Pages that the page table calls swapped are really so, and the offer will destroy them, or they are being moved to
/// another place in memory, which is no loss. Migration ends soon; what stays swapped counts as having contents.
///
/// # Safety
/// As for [`note`].
unsafe fn note_swapped(system: &dyn System, memory: Memory, run: Range<usize>, map: Words<'_>) {
    let span = memory.span().slice(run.start, run.len());
    wait_for_migration(system, span);
    for page in run.clone().filter(|page| map.get(*page) != Page::Lost) {
        map.set(page, Page::Witnessed);
    }
    // What is in memory after all is looked at; if the page table cannot be read now, all count as having contents.
    let _ = system.residency(span, false, &mut |found, residency| {
        if residency == Residency::Present {
            for page in run.start + found.start..run.start + found.end {
                // SAFETY: passed on from the caller. The page is in memory, so the loads read no swap.
                if map.get(page) != Page::Lost && !unsafe { has_contents(memory, page) } {
                    map.set(page, Page::Blank);
                }
            }
        }
    });
}

/// What a rescue found, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rescued {
    /// Contents still there, and safe now.
    pub(crate) intact: usize,
    /// Contents gone, found by this rescue.
    pub(crate) lost: usize,
    /// Pages were noted as lost before. The state says so too, unless the one who found out is a thread of the parent, in
    /// the middle of whose work this process was made.
    pub(crate) lost_before: bool,
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
    let offered = offered.min(memory.pages);
    (0..offered.min(PREFETCH_PAGES)).for_each(|page| memory.prefetch(page));
    for chunk in map.chunks(0..offered) {
        let mut notes = map.notes(chunk);
        if notes == Notes::NONE {
            continue;
        }
        for page in chunk.pages() {
            memory.prefetch(page + PREFETCH_PAGES);
            let note = notes.get(page);
            rescued.lost_before |= note == Page::Lost;
            // SAFETY: passed on from the caller; mapped readable and writable.
            match unsafe { take_back(memory, page, note) } {
                Fate::Intact => rescued.intact += 1,
                Fate::Lost if note == Page::Witnessed => {
                    notes.set(page, Page::Lost);
                    rescued.lost += 1;
                }
                Fate::Lost | Fate::NothingToLose => {}
            }
        }
        map.set_notes(chunk, notes);
    }
    rescued
}

/// What became of a page that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its contents are there, and safe now.
    Intact,
    /// Its contents are gone.
    Lost,
    /// It had none.
    NothingToLose,
}

/// Takes one page back, of which `note` was taken before the offer.
///
/// # Safety
/// The page is readable and writable, and nobody stores to it meanwhile.
pub(crate) unsafe fn take_back(memory: Memory, page: usize, note: Page) -> Fate {
    match note {
        Page::Absent => Fate::NothingToLose,
        Page::Lost => Fate::Lost,
        Page::Blank => {
            // SAFETY: passed on from the caller.
            unsafe { add_zero(memory.word(page, 0)) };
            Fate::NothingToLose
        }
        // SAFETY: passed on from the caller.
        Page::Witnessed if unsafe { rescue_page(memory, page) } => Fate::Intact,
        Page::Witnessed => Fate::Lost,
    }
}

/// `pages`, with the processor told to fetch those ahead.
pub(crate) fn prefetched(memory: Memory, pages: Range<usize>) -> impl Iterator<Item = usize> {
    pages.clone().take(PREFETCH_PAGES).for_each(|page| memory.prefetch(page));
    pages.inspect(move |page| memory.prefetch(page + PREFETCH_PAGES))
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
