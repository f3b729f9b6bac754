//! What is done to a range, step by step: pin, offer, rescue, release, retire.
//!
//! The [state](super::state) says who may act; this file acts: it reads pages, calls the system, and ends each claim
//! that it began. Policy (which range, when) is not known here.

use vrange_os::{OsError, PAGE_BYTES, Span, System};

use super::gate::Gate;
use super::page_map::{Page, Words};
use super::sharing;
use super::slots::Slot;
use super::state::{BeginPin, BeginRelease, Generation, Phase, Word};
use super::witness::{Memory, Rescued, note, note_by_contents, rescue};
use crate::stats::Counters;

/// Pages that are offered or released between two looks at whether a pinner waits. With 4 KiB pages a piece takes about
/// 70 µs, which is what a pin of a range that is being offered waits at most.
const PIECE_PAGES: usize = 256;
/// The same for ranges in huge pages: one huge page, which takes some 6 µs.
const PIECE_PAGES_HUGE: usize = 512;
/// Ranges that are offered with one system call.
const BATCH_RANGES: usize = 64;

/// A range to be offered, and how it looked when it was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) slot: &'a Slot,
    pub(crate) seen: Word,
}

/// A range claimed for an offer, and how far that has come.
#[derive(Clone, Copy, Debug)]
struct Claimed<'a> {
    slot: &'a Slot,
    /// Pages in memory among those offered now.
    resident: usize,
    /// Pages offered now, from the first on.
    reached: usize,
    /// Pages that an earlier offer had reached.
    offered_before: usize,
}

impl<'a> Claimed<'a> {
    fn new(slot: &'a Slot, resident: usize) -> Self {
        Self { slot, resident, reached: 0, offered_before: slot.offered_pages() }
    }
}

/// How an offer of several ranges went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfferTotal {
    /// Ranges that are offered now, at least in part.
    pub(crate) ranges: usize,
    /// Pages in memory that the kernel may take now.
    pub(crate) pages: usize,
    /// The first refusal of the system, if there was one.
    pub(crate) refused_by: Option<OsError>,
}

/// How a release went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// This many pages were dropped.
    Pages(usize),
    /// There was nothing in it.
    Nothing,
    /// It is pinned, and stays.
    Pinned,
    /// A pinner, or the system's refusal, stopped it; `Pages` may have gone before.
    Interrupted,
}

/// The protocol over one heap's ranges: which system, whose counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol<'a> {
    pub(crate) system: &'a dyn System,
    pub(crate) counters: &'a Counters,
    pub(crate) gate: &'a Gate,
}

impl Protocol<'_> {
    /// The slow half of a pin, when the range was offered or is claimed. `None`: it would have to wait and may not.
    #[cold]
    pub(crate) fn pin_slowly(&self, slot: &Slot, may_wait: bool) -> Option<BeginPin> {
        loop {
            match slot.state.begin_pin() {
                BeginPin::Offered => {
                    let _pass = self.gate.enter();
                    if slot.state.begin_rescue() {
                        return Some(BeginPin::Pinned(self.rescue_claimed(slot)));
                    }
                }
                BeginPin::Claimed if may_wait => slot.wait(),
                BeginPin::Claimed => return None,
                pinned @ (BeginPin::Pinned(_) | BeginPin::PinnedEmpty(_)) => return Some(pinned),
            }
        }
    }

    /// Takes a claimed range back from the kernel, and leaves it pinned.
    fn rescue_claimed(&self, slot: &Slot) -> Word {
        // SAFETY: the rescue's claim keeps the range.
        let map = unsafe { slot.map() };
        // SAFETY: the claim keeps everybody else off the range's map and memory.
        let Rescued { intact, lost } = unsafe { rescue(slot.memory(), slot.offered_pages(), map) };
        self.counters.rescued(intact);
        self.counters.lost(lost);
        slot.set_offered_pages(0);
        let (word, end) = slot.state.end_rescue(lost > 0);
        slot.wake(end);
        word
    }

    /// Offers ranges, in the given order, as far as they are still as they were seen. The kernel takes pages in the
    /// order in which they were first offered.
    pub(crate) fn offer(&self, candidates: &[Candidate<'_>]) -> OfferTotal {
        let mut total = OfferTotal::default();
        let mut left = candidates;
        while let Some(first) = left.first() {
            let _pass = self.gate.enter();
            let length = batch_length(left);
            if length == 0 {
                self.offer_in_pieces(first, &mut total);
                left = &left[1..];
            } else {
                self.offer_batch(&left[..length], &mut total);
                left = &left[length..];
            }
            if total.refused_by.is_some() {
                break;
            }
        }
        total
    }

    /// Offers several small ranges with one system call.
    fn offer_batch(&self, batch: &[Candidate<'_>], total: &mut OfferTotal) {
        let mut spans = [const { Span::new(0, 0) }; BATCH_RANGES];
        let mut claimed: [Option<Claimed<'_>>; BATCH_RANGES] = [None; BATCH_RANGES];
        let mut count = 0;
        for candidate in batch {
            let Some(before) = candidate.slot.state.begin_offer(candidate.seen) else { continue };
            let noted = if candidate.slot.state.is_cancelled() || !self.may_offer(candidate) {
                Ok(None)
            } else {
                // SAFETY: the range is claimed.
                unsafe { self.note_unnoted(candidate.slot, 0..candidate.slot.pages()) }.map(Some)
            };
            match noted {
                Ok(Some(resident)) => {
                    spans[count] = candidate.slot.memory().span();
                    claimed[count] = Some(Claimed::new(candidate.slot, resident));
                    // Before the call: in a child forked during it, these pages may have been offered.
                    candidate.slot.set_offered_pages(candidate.slot.pages());
                    count += 1;
                }
                Ok(None) => candidate.slot.wake(candidate.slot.state.end_offer(before == Phase::Offered)),
                Err(error) => {
                    total.refused_by = total.refused_by.or(Some(error));
                    candidate.slot.wake(candidate.slot.state.end_offer(before == Phase::Offered));
                }
            }
        }
        // SAFETY: all spans are claimed ranges, noted, whose owners have agreed that their contents may go.
        let offered = unsafe { self.system.offer(&spans[..count]) };
        let mut left = offered.pages;
        for mut claim in claimed.into_iter().flatten() {
            claim.reached = left.min(claim.slot.pages());
            left -= claim.reached;
            if claim.reached < claim.slot.pages() {
                claim.resident = 0;
            }
            self.end_offer(&claim, total);
        }
        total.refused_by = total.refused_by.or(offered.stopped_by);
    }

    /// Offers one large range piece by piece, so that a pinner need not wait for the whole.
    fn offer_in_pieces(&self, candidate: &Candidate<'_>, total: &mut OfferTotal) {
        let slot = candidate.slot;
        if slot.state.begin_offer(candidate.seen).is_none() {
            return;
        }
        let mut claim = Claimed::new(slot, 0);
        let may_offer = self.may_offer(candidate);
        while may_offer && claim.reached < slot.pages() && !slot.state.is_cancelled() {
            let piece = piece_at(slot, claim.reached);
            // SAFETY: the range is claimed.
            let resident = match unsafe { self.note_unnoted(slot, piece.clone()) } {
                Ok(resident) => resident,
                Err(error) => {
                    total.refused_by = Some(error);
                    break;
                }
            };
            // Before the call: in a child forked during it, these pages may have been offered.
            slot.set_offered_pages(piece.end.max(claim.offered_before));
            // SAFETY: a claimed range, noted, whose owner has agreed that its contents may go.
            let offered = unsafe { self.system.offer(&[slot.memory().span().slice(piece.start, piece.len())]) };
            claim.reached = piece.start + offered.pages;
            if let Some(error) = offered.stopped_by {
                total.refused_by = Some(error);
                break;
            }
            claim.resident += resident;
        }
        self.end_offer(&claim, total);
    }

    fn end_offer(&self, claim: &Claimed<'_>, total: &mut OfferTotal) {
        let reached = claim.reached.max(claim.offered_before);
        claim.slot.set_offered_pages(reached);
        self.counters.offered(claim.resident);
        total.pages += claim.resident;
        total.ranges += usize::from(reached > 0);
        claim.slot.wake(claim.slot.state.end_offer(reached > 0));
    }

    /// May the claimed range be offered, as far as other processes are concerned? If not, it counts as just used, so that
    /// others are tried before it is looked at again.
    fn may_offer(&self, candidate: &Candidate<'_>) -> bool {
        let slot = candidate.slot;
        if !candidate.seen.is_shared() || sharing::may_offer(self.system, slot) {
            return true;
        }
        slot.state.make_youngest(Generation::from_ticks(vrange_os::clock::ticks()));
        false
    }

    /// Notes what the pages hold, unless an earlier offer has and they may be gone since. Returns the pages in memory.
    ///
    /// # Safety
    /// The range is claimed.
    unsafe fn note_unnoted(&self, slot: &Slot, pages: std::ops::Range<usize>) -> Result<usize, OsError> {
        let fresh = pages.start.max(slot.offered_pages())..pages.end;
        if fresh.is_empty() {
            return Ok(0);
        }
        // SAFETY: the claim keeps the map.
        let map = unsafe { slot.map() };
        // SAFETY: passed on from the caller.
        unsafe { note(self.system, slot.memory(), fresh, map) }
    }

    /// Drops the contents of a range now, if nobody has pinned it.
    pub(crate) fn release(&self, slot: &Slot) -> Released {
        loop {
            let pass = self.gate.enter();
            match slot.state.begin_release() {
                BeginRelease::Claimed(before) => return self.release_claimed(slot, before),
                BeginRelease::Pinned => return Released::Pinned,
                BeginRelease::Empty => return Released::Nothing,
                BeginRelease::Busy => {
                    drop(pass);
                    slot.wait();
                }
            }
        }
    }

    /// As [`release`](Self::release), but only of a range that is still as it was seen, and never waiting.
    pub(crate) fn release_seen(&self, candidate: &Candidate<'_>) -> Released {
        let _pass = self.gate.enter();
        match candidate.slot.state.begin_release_of(candidate.seen) {
            Some(before) => self.release_claimed(candidate.slot, before),
            None => Released::Interrupted,
        }
    }

    fn release_claimed(&self, slot: &Slot, before: Phase) -> Released {
        // SAFETY: the claim keeps the map.
        let map = unsafe { slot.map() };
        let mut reached = 0;
        let mut dropped = 0;
        let mut lost = 0;
        while reached < slot.pages() && !slot.state.is_cancelled() {
            let piece = piece_at(slot, reached);
            let fresh = piece.start.max(slot.offered_pages())..piece.end;
            if !fresh.is_empty() {
                // SAFETY: the range is claimed.
                unsafe { note_somehow(self.system, slot.memory(), fresh, map) };
            }
            slot.set_offered_pages(piece.end.max(slot.offered_pages()));
            // SAFETY: a claimed range, noted, whose owner has agreed that its contents may go.
            if unsafe { self.system.release(slot.memory().span().slice(piece.start, piece.len())) }.is_err() {
                break;
            }
            reached = piece.end;
            let gone = forget(map, piece);
            dropped += gone.resident;
            lost += gone.lost;
        }
        self.counters.released(dropped);
        let left = match reached {
            _ if reached == slot.pages() => Phase::Empty,
            0 if before == Phase::Volatile => Phase::Volatile,
            _ => Phase::Offered,
        };
        if left != Phase::Offered {
            slot.set_offered_pages(0);
        }
        if left == Phase::Empty {
            self.counters.emptied(slot.pages());
            sharing::leave(slot, before);
        }
        slot.wake(slot.state.end_release(left, lost > 0));
        if left == Phase::Empty { Released::Pages(dropped) } else { Released::Interrupted }
    }

    /// Ends a range: waits until nobody works on it, and has its memory given back by `give_back`, during which nobody
    /// else can touch it. Its owner calls this, so nobody can be using it.
    pub(crate) fn retire(&self, slot: &Slot, give_back: impl FnOnce(Memory)) {
        let mut pass = self.gate.enter();
        let before = loop {
            if let BeginRelease::Claimed(before) = slot.state.begin_retire() {
                break before;
            }
            drop(pass);
            slot.wait();
            pass = self.gate.enter();
        };
        if before != Phase::Empty {
            self.counters.emptied(slot.pages());
        }
        sharing::leave(slot, before);
        give_back(slot.memory());
        // SAFETY: claimed by `begin_retire`, and the memory was given back.
        unsafe { slot.vacate() };
    }

    /// Makes a piece of memory zeros again, for the next range that gets it.
    ///
    /// # Safety
    /// The memory belongs to a retired range.
    pub(crate) unsafe fn wipe(&self, memory: Memory) {
        // SAFETY: passed on from the caller.
        if unsafe { self.system.release(memory.span()) }.is_err() {
            // SAFETY: as above. A new range must read as zeros, also where the kernel refuses to drop pages.
            unsafe { memory.base.write_bytes(0, memory.pages * PAGE_BYTES) };
        }
    }
}

/// Notes what pages hold, by contents alone where the page table cannot be read.
///
/// # Safety
/// The range is claimed.
unsafe fn note_somehow(system: &dyn System, memory: Memory, pages: std::ops::Range<usize>, map: Words<'_>) {
    // SAFETY: passed on from the caller.
    if unsafe { note(system, memory, pages.clone(), map) }.is_err() {
        // SAFETY: passed on from the caller.
        unsafe { note_by_contents(memory, pages, map) };
    }
}

/// What went with a released piece, in pages.
struct Gone {
    resident: usize,
    lost: usize,
}

/// Notes that a piece was dropped.
fn forget(map: Words<'_>, piece: std::ops::Range<usize>) -> Gone {
    let mut gone = Gone { resident: 0, lost: 0 };
    for page in piece {
        match map.get(page) {
            Page::Witnessed => {
                map.set(page, Page::Lost);
                gone.resident += 1;
                gone.lost += 1;
            }
            Page::Blank => {
                map.set(page, Page::Absent);
                gone.resident += 1;
            }
            Page::Absent | Page::Lost => {}
        }
    }
    gone
}

/// How many ranges from the first on go into one system call: as many as make a piece. 0: the first is larger.
fn batch_length(candidates: &[Candidate<'_>]) -> usize {
    let mut pages = 0;
    candidates
        .iter()
        .take(BATCH_RANGES)
        .take_while(|candidate| {
            pages += candidate.slot.pages();
            pages <= PIECE_PAGES
        })
        .count()
}

/// The piece of a range that starts at page `start`.
fn piece_at(slot: &Slot, start: usize) -> std::ops::Range<usize> {
    let pages = slot.pages();
    let piece = if pages * PAGE_BYTES >= vrange_os::HUGE_PAGE_BYTES { PIECE_PAGES_HUGE } else { PIECE_PAGES };
    start..pages.min(start + piece)
}
