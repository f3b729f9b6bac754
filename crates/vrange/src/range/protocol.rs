//! What is done to a range, step by step: pin, offer, rescue, release, retire.
//!
//! The [state](super::state) says who may act; this file acts: it reads pages, calls the system, and ends each claim
//! that it began. Policy (which range, when) is not known here.

use std::ops::Range;

use arrayvec::ArrayVec;
use vrange_os::{OsError, PAGE_BYTES, Residency, Span, System};

use super::gate::Gate;
use super::page_map::{Page, Words};
use super::sharing;
use super::slots::Slot;
use super::state::{BeginPin, BeginRelease, Generation, Phase, Word};
use super::witness::{Memory, Part, Rescued, has_contents, note, note_by_contents, rescue};
use crate::stats::Counters;

/// Pages that are offered or released between two looks at whether a pinner waits. With 4 KiB pages a piece takes about
/// 70 µs, which is what a pin of a range that is being offered waits at most.
const PIECE_PAGES: usize = 256;
/// The same for ranges in huge pages: one huge page, which takes some 6 µs.
const PIECE_PAGES_HUGE: usize = 512;
const _: () = assert!(PIECE_PAGES <= PIECE_PAGES_HUGE, "a set holds either kind of piece");
/// After this many refusals in a row the other ranges are not tried: the reason is not the single range.
pub(crate) const REFUSALS_MAX: u32 = 4;
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
    /// Pages for which the system was asked, from the first on.
    tried: usize,
}

impl<'a> Claimed<'a> {
    fn new(slot: &'a Slot) -> Self {
        Self { slot, resident: 0, reached: 0, offered_before: slot.offered_pages(), tried: 0 }
    }
}

/// How an offer of several ranges went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfferTotal {
    /// Ranges of which more is offered now than before.
    pub(crate) ranges: usize,
    /// Pages in memory that the kernel may take now.
    pub(crate) pages: usize,
    /// The first refusal of the system, to offer or to tell what is in memory, if there was one. Refused ranges keep their
    /// contents.
    pub(crate) refused_by: Option<OsError>,
    /// The system refused again and again, so the last ranges were not tried.
    pub(crate) gave_up: bool,
}

impl OfferTotal {
    /// Adds what a further offer did.
    pub(crate) fn add(&mut self, more: &Self) {
        self.ranges += more.ranges;
        self.pages += more.pages;
        self.refused_by = self.refused_by.or(more.refused_by);
        self.gave_up |= more.gave_up;
    }
}

/// How a release went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// It is empty; this many pages were dropped.
    Pages(usize),
    /// As many pages as were wanted were dropped; the rest stays.
    Part(usize),
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
                    let _pass = if may_wait { self.gate.enter() } else { self.gate.try_enter()? };
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
        let Rescued { intact, lost, lost_before } =
            unsafe { rescue(slot.memory(), slot.offered_pages(), map) };
        self.counters.rescued(intact);
        self.counters.lost(lost);
        slot.set_none_offered(lost > 0 || lost_before);
        // An unpin that keeps the age would make it the next to be offered again.
        slot.state.make_youngest(Generation::from_ticks(vrange_os::clock::ticks()));
        let (word, end) = slot.state.end_rescue(lost > 0 || lost_before);
        slot.wake(end);
        word
    }

    /// Offers ranges, in the given order, as far as they are still as they were seen. The kernel takes pages in the
    /// order in which they were first offered.
    pub(crate) fn offer(&self, candidates: &[Candidate<'_>]) -> OfferTotal {
        let mut total = OfferTotal::default();
        let mut left = candidates;
        let mut refusals = 0;
        while let Some(first) = left.first() {
            let _pass = self.gate.enter();
            let length = batch_length(left);
            let refused = if length == 0 {
                self.offer_in_pieces(first, &mut total)
            } else {
                self.offer_batch(&left[..length], &mut total)
            };
            left = &left[length.max(1)..];
            refusals = if refused.is_some() { refusals + 1 } else { 0 };
            total.refused_by = total.refused_by.or(refused);
            total.gave_up = refusals == REFUSALS_MAX;
            if total.gave_up {
                break;
            }
        }
        total
    }

    /// Offers several small ranges with one system call. Returns the first refusal, if there was one.
    fn offer_batch(&self, batch: &[Candidate<'_>], total: &mut OfferTotal) -> Option<OsError> {
        let mut claims = ArrayVec::<Claimed<'_>, BATCH_RANGES>::new();
        let mut parts = ArrayVec::<Part<'_>, BATCH_RANGES>::new();
        for candidate in batch {
            let slot = candidate.slot;
            if slot.state.begin_offer(candidate.seen).is_none() {
                continue;
            }
            let claim = Claimed::new(slot);
            if slot.state.is_cancelled() || !self.may_offer(candidate) {
                self.end_offer(&claim, total);
                continue;
            }
            // SAFETY: the claim keeps the map.
            let map = unsafe { slot.map() };
            parts.push(Part::new(slot.memory(), claim.offered_before..slot.pages(), map));
            claims.push(claim);
        }
        // SAFETY: the ranges are claimed.
        if let Err(error) = unsafe { note(self.system, &mut parts) } {
            claims.iter().for_each(|claim| self.put_back(claim));
            return Some(error);
        }
        let mut spans = ArrayVec::<Span, BATCH_RANGES>::new();
        for (claim, part) in claims.iter_mut().zip(&parts) {
            claim.resident = part.resident;
            claim.tried = claim.slot.pages();
            // Before the call: in a child forked during it, these pages may have been offered.
            claim.slot.set_offered_pages(claim.tried);
            push_joined(&mut spans, claim.slot.memory().span());
        }
        // SAFETY: all spans are claimed ranges, noted, whose owners have agreed that their contents may go.
        let offered = unsafe { self.system.offer(&spans) };
        let mut left = offered.pages;
        for claim in &mut claims {
            claim.reached = left.min(claim.tried);
            left -= claim.reached;
            if claim.reached == claim.tried {
                self.end_offer(claim, total);
            } else {
                self.put_back(claim);
            }
        }
        offered.stopped_by
    }

    /// Offers one large range piece by piece, so that a pinner need not wait for the whole. Returns the refusal, if there
    /// was one.
    fn offer_in_pieces(&self, candidate: &Candidate<'_>, total: &mut OfferTotal) -> Option<OsError> {
        let slot = candidate.slot;
        slot.state.begin_offer(candidate.seen)?;
        let mut claim = Claimed::new(slot);
        let may_offer = self.may_offer(candidate);
        while may_offer && claim.reached < slot.pages() && !slot.state.is_cancelled() {
            let piece = piece_at(slot, claim.reached);
            // SAFETY: the range is claimed.
            let resident = match unsafe { self.note_unnoted(slot, piece.clone(), claim.offered_before) } {
                Ok(resident) => resident,
                Err(error) => {
                    self.put_back(&claim);
                    return Some(error);
                }
            };
            // Before the call: in a child forked during it, these pages may have been offered.
            slot.set_offered_pages(piece.end.max(claim.offered_before));
            claim.tried = piece.end;
            // SAFETY: a claimed range, noted, whose owner has agreed that its contents may go.
            let offered =
                unsafe { self.system.offer(&[slot.memory().span().slice(piece.start, piece.len())]) };
            if let Some(error) = offered.stopped_by {
                self.put_back(&claim);
                return Some(error);
            }
            claim.reached = piece.end;
            claim.resident += resident;
        }
        self.end_offer(&claim, total);
        None
    }

    fn end_offer(&self, claim: &Claimed<'_>, total: &mut OfferTotal) {
        let reached = claim.reached.max(claim.offered_before);
        claim.slot.set_offered_pages(reached);
        self.counters.offered(claim.resident);
        total.pages += claim.resident;
        total.ranges += usize::from(claim.reached > claim.offered_before);
        if reached > 0 {
            sharing::note_offer(claim.slot);
        }
        claim.slot.wake(claim.slot.state.end_offer(reached > 0, false));
    }

    /// Ends an offer that the system refused. A refused call may have reached a part of the pages all the same, and the
    /// kernel may have taken some of those. A range that was offered before stays so. Of any other, all pages that were
    /// tried are taken back, and it counts as just used, so that others are tried before it.
    fn put_back(&self, claim: &Claimed<'_>) {
        let slot = claim.slot;
        if claim.offered_before > 0 {
            slot.set_offered_pages(claim.tried.max(claim.offered_before));
            slot.wake(slot.state.end_offer(true, false));
            return;
        }
        // SAFETY: the claim keeps the map.
        let map = unsafe { slot.map() };
        // SAFETY: the offer's claim keeps everybody else off the range's map and memory, as a rescue's would.
        let Rescued { lost, .. } = unsafe { rescue(slot.memory(), claim.tried, map) };
        self.counters.offered(lost);
        self.counters.lost(lost);
        slot.set_none_offered(lost > 0);
        slot.state.make_youngest(Generation::from_ticks(vrange_os::clock::ticks()));
        slot.wake(slot.state.end_offer(false, lost > 0));
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
    unsafe fn note_unnoted(
        &self,
        slot: &Slot,
        pages: Range<usize>,
        noted_before: usize,
    ) -> Result<usize, OsError> {
        let fresh = pages.start.max(noted_before)..pages.end;
        if fresh.is_empty() {
            return Ok(0);
        }
        // SAFETY: the claim keeps the map.
        let mut part = Part::new(slot.memory(), fresh, unsafe { slot.map() });
        // SAFETY: passed on from the caller.
        unsafe { note(self.system, std::slice::from_mut(&mut part)) }?;
        Ok(part.resident)
    }

    /// Drops the contents of a range now, if nobody has pinned it.
    pub(crate) fn release(&self, slot: &Slot) -> Released {
        loop {
            let pass = self.gate.enter();
            match slot.state.begin_release() {
                BeginRelease::Claimed(before) => return self.release_claimed(slot, before, usize::MAX),
                BeginRelease::Pinned => return Released::Pinned,
                BeginRelease::Empty => return Released::Nothing,
                BeginRelease::Busy => {
                    drop(pass);
                    slot.wait();
                }
            }
        }
    }

    /// As [`release`](Self::release), but only of a range that is still as it was seen, never waiting, and not much more
    /// than `pages_max` pages of it: the rest stays offered.
    pub(crate) fn release_seen(&self, candidate: &Candidate<'_>, pages_max: usize) -> Released {
        let _pass = self.gate.enter();
        match candidate.slot.state.begin_release_of(candidate.seen) {
            Some(before) => self.release_claimed(candidate.slot, before, pages_max),
            None => Released::Interrupted,
        }
    }

    fn release_claimed(&self, slot: &Slot, before: Phase, pages_max: usize) -> Released {
        // SAFETY: the claim keeps the map.
        let map = unsafe { slot.map() };
        let offered_before = slot.offered_pages();
        let mut reached = 0;
        let mut gone = Gone::default();
        let mut refused = false;
        while reached < slot.pages() && gone.resident < pages_max && !slot.state.is_cancelled() {
            let piece = piece_at(slot, reached);
            // SAFETY: the range is claimed.
            if unsafe { self.note_unnoted(slot, piece.clone(), offered_before) }.is_err() {
                // SAFETY: as above.
                unsafe { note_by_contents(slot.memory(), piece.start.max(offered_before)..piece.end, map) };
            }
            slot.set_offered_pages(piece.end.max(offered_before));
            // SAFETY: the range is claimed.
            let taken =
                unsafe { self.taken(slot, piece.start..piece.end.min(offered_before).max(piece.start)) };
            // SAFETY: a claimed range, noted, whose owner has agreed that its contents may go.
            if unsafe { self.system.release(slot.memory().span().slice(piece.start, piece.len())) }.is_err() {
                refused = true;
                break;
            }
            reached = piece.end;
            gone.add(map, piece, &taken);
        }
        self.counters.released(gone.resident);
        self.counters.lost(gone.taken);
        let left = match reached {
            _ if reached == slot.pages() => Phase::Empty,
            0 if !refused => before,
            // What was refused may be gone in part all the same. As of an offered range, a rescue will tell.
            _ => Phase::Offered,
        };
        if left == Phase::Empty {
            slot.set_none_offered(gone.lost > 0);
            self.counters.emptied(slot.pages());
            sharing::leave(slot, before);
        }
        slot.wake(slot.state.end_release(left, gone.lost > 0));
        match left {
            Phase::Empty => Released::Pages(gone.resident),
            _ if gone.resident >= pages_max => Released::Part(gone.resident),
            _ => Released::Interrupted,
        }
    }

    /// Which of these pages, that were offered, are gone already? None, if that cannot be told.
    ///
    /// # Safety
    /// The range is claimed.
    unsafe fn taken(&self, slot: &Slot, pages: Range<usize>) -> PieceSet {
        let mut there = PieceSet::default();
        let memory = slot.memory();
        let span = memory.span().slice(pages.start, pages.len());
        let read = self.system.residency(span, false, &mut |found, residency| {
            for page in found {
                // The kernel's zero page, where a page was and a load came by; or a page shared since a `fork`.
                // SAFETY: passed on from the caller.
                if residency != Residency::Shared || unsafe { has_contents(memory, pages.start + page) } {
                    there.insert(page);
                }
            }
        });
        if read.is_ok() { there.others(pages.len()) } else { PieceSet::default() }
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
        if before == Phase::Offered {
            self.counters.retired(slot.offered_pages());
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

/// What went with a release, in pages.
#[derive(Clone, Copy, Debug, Default)]
struct Gone {
    /// Dropped by us.
    resident: usize,
    /// Had contents, whoever took them.
    lost: usize,
    /// Had contents, and the kernel had discarded them before.
    taken: usize,
}

impl Gone {
    /// Notes that a piece was dropped, and counts it. `taken`: the pages of it that the kernel had discarded before.
    fn add(&mut self, map: Words<'_>, piece: Range<usize>, taken: &PieceSet) {
        let start = piece.start;
        for page in piece {
            let was_taken = taken.contains(page - start);
            match map.get(page) {
                Page::Witnessed => {
                    map.set(page, Page::Lost);
                    self.lost += 1;
                    self.taken += usize::from(was_taken);
                    self.resident += usize::from(!was_taken);
                }
                Page::Blank => {
                    map.set(page, Page::Absent);
                    self.resident += usize::from(!was_taken);
                }
                Page::Absent | Page::Lost => {}
            }
        }
    }
}

/// Some pages of a piece, by their place in it.
#[derive(Clone, Copy, Debug, Default)]
struct PieceSet([u64; PIECE_PAGES_HUGE / 64]);

impl PieceSet {
    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn contains(&self, place: usize) -> bool {
        self.0[place / 64] & 1 << (place % 64) != 0
    }

    /// Those of the first `count` pages that are not among these.
    fn others(&self, count: usize) -> Self {
        let mut others = Self::default();
        (0..count).filter(|place| !self.contains(*place)).for_each(|place| others.insert(place));
        others
    }
}

/// Appends a span, as a part of the last one if it begins where that ends.
fn push_joined(spans: &mut ArrayVec<Span, BATCH_RANGES>, span: Span) {
    match spans.last_mut() {
        Some(last) if last.end() == span.address() => {
            *last = Span::new(last.address(), last.pages() + span.pages());
        }
        _ => spans.push(span),
    }
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
fn piece_at(slot: &Slot, start: usize) -> Range<usize> {
    let pages = slot.pages();
    let piece = if pages * PAGE_BYTES >= vrange_os::HUGE_PAGE_BYTES { PIECE_PAGES_HUGE } else { PIECE_PAGES };
    start..pages.min(start + piece)
}
