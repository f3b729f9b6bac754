//! The state of one range, in one word.
//!
//! This file makes no system call, allocates nothing and touches no page, so loom can try every order of its steps.
//! Everything that may happen to a range is a method here; nothing else changes the word.

use std::fmt;

use crate::sync::{AtomicU64, Ordering, sequential_point};

/// What a range is doing. Who may touch its pages in each phase is the rule that everything else relies on.
///
/// | phase | pages may be touched by | left by |
/// |---|---|---|
/// | `Free` | nobody: the slot has no range | allocation |
/// | `Empty` | nobody; there is nothing to lose | pin |
/// | `Pinned` | the pinners | the last unpin |
/// | `Volatile` | nobody | pin, offer, release |
/// | `Offering` | the thread that offers (reads; then the kernel takes over) | that thread alone |
/// | `Offered` | the kernel, which may discard pages | pin (by way of a rescue), release, another offer |
/// | `Rescuing` | the one pinner that rescues, and the kernel until it is done with a page | that pinner alone |
/// | `Releasing` | the thread that releases | that thread alone |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Free = 0,
    Empty = 1,
    Pinned = 2,
    Volatile = 3,
    Offering = 4,
    Offered = 5,
    Rescuing = 6,
    Releasing = 7,
}

impl Phase {
    /// One thread owns the range now and will move it on; everybody else waits.
    pub(crate) const fn is_claimed(self) -> bool {
        matches!(self, Self::Offering | Self::Rescuing | Self::Releasing)
    }
}

// The word, from bit 0: phase (3), cancel, waiters, losses, shared (1 each), pins (16), generation (41).
const PHASE: u64 = 0b111;
/// A pinner wants the range that is being offered or released: stop after the piece at hand.
const CANCEL: u64 = 1 << 3;
/// Somebody sleeps until the claim ends.
const WAITERS: u64 = 1 << 4;
/// Some pages were lost and nobody has acknowledged that yet. The page map says which.
const LOSSES: u64 = 1 << 5;
/// A process forked while the range had pages: see the fork module.
const SHARED: u64 = 1 << 6;
const PINS_SHIFT: u32 = 7;
const PIN: u64 = 1 << PINS_SHIFT;
/// A count that has reached this stays here: leaked guards keep their range pinned for ever instead of wrapping round
/// to "not pinned", as the kernel's `refcount_t` does.
const PINS_MAX: u64 = (1 << 16) - 1;
const PINS: u64 = PINS_MAX << PINS_SHIFT;
const GENERATION_SHIFT: u32 = 23;
const GENERATION: u64 = u64::MAX << GENERATION_SHIFT;

/// When a range was last unpinned, in ticks of [`vrange_os::clock`], modulo 2^41.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    const MASK: u64 = GENERATION >> GENERATION_SHIFT;

    #[inline]
    pub(crate) const fn from_ticks(ticks: u64) -> Self {
        Self(ticks & Self::MASK)
    }

    /// Ticks from this generation to `now`. A generation that seems to lie in the future (another processor's clock
    /// may run a little ahead) has age 0.
    pub(crate) const fn age(self, now: Self) -> u64 {
        let age = now.0.wrapping_sub(self.0) & Self::MASK;
        if age > Self::MASK / 2 { 0 } else { age }
    }

    /// Ages beyond this are cut down to it from time to time, long before they could wrap.
    pub(crate) const AGE_MAX: u64 = Self::MASK / 4;
}

/// A value that the state had at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    #[inline]
    pub(crate) const fn phase(self) -> Phase {
        match self.0 & PHASE {
            0 => Phase::Free,
            1 => Phase::Empty,
            2 => Phase::Pinned,
            3 => Phase::Volatile,
            4 => Phase::Offering,
            5 => Phase::Offered,
            6 => Phase::Rescuing,
            _ => Phase::Releasing,
        }
    }

    /// Pinned or volatile (which has no pins), not shared, and far from the most pins that can be counted.
    #[inline]
    const fn is_plain(self) -> bool {
        const PLAIN: u64 = Phase::Pinned as u64 & Phase::Volatile as u64;
        const _: () = assert!(PLAIN | 1 == Phase::Pinned as u64 | Phase::Volatile as u64);
        // One test for all.
        self.0 & (PHASE & !1 | SHARED | PINS & !(PINS >> 1)) == PLAIN
    }

    #[inline]
    pub(crate) const fn pins(self) -> u64 {
        (self.0 & PINS) >> PINS_SHIFT
    }

    #[inline]
    pub(crate) const fn generation(self) -> Generation {
        Generation((self.0 & GENERATION) >> GENERATION_SHIFT)
    }

    #[inline]
    pub(crate) const fn has_losses(self) -> bool {
        self.0 & LOSSES != 0
    }

    #[inline]
    pub(crate) const fn is_shared(self) -> bool {
        self.0 & SHARED != 0
    }

    const fn is_cancelled(self) -> bool {
        self.0 & CANCEL != 0
    }

    const fn with_phase(self, phase: Phase) -> Self {
        Self(self.0 & !PHASE | phase as u64)
    }

    const fn with_pins(self, pins: u64) -> Self {
        Self(self.0 & !PINS | pins << PINS_SHIFT)
    }

    const fn with_generation(self, generation: Generation) -> Self {
        Self(self.0 & !GENERATION | generation.0 << GENERATION_SHIFT)
    }

    const fn with_losses(self, losses: bool) -> Self {
        Self(if losses { self.0 | LOSSES } else { self.0 & !LOSSES })
    }

    /// The word after a claim has ended: nobody waits and nobody wants it to stop any more.
    const fn unclaimed(self, phase: Phase) -> Self {
        Self(self.0 & !(CANCEL | WAITERS)).with_phase(phase)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word")
            .field("phase", &self.phase())
            .field("pins", &self.pins())
            .field("generation", &self.generation().0)
            .field("cancel", &self.is_cancelled())
            .field("waiters", &(self.0 & WAITERS != 0))
            .field("losses", &self.has_losses())
            .field("shared", &self.is_shared())
            .finish()
    }
}

/// What [`State::begin_pin`] found.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeginPin {
    /// The range is pinned, once more than before. Its bytes stay.
    Pinned(Word),
    /// The range is pinned, and it was empty before: it may take memory now.
    PinnedEmpty(Word),
    /// The kernel may be discarding pages: [`State::begin_rescue`] is next.
    Offered,
    /// Another thread owns the range for a moment. It has been asked to hurry.
    Claimed,
}

/// What [`State::unpin`] did.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpin {
    /// Other pins remain.
    StillPinned,
    /// That was the last pin: pages may vanish from now on.
    Volatile(Word),
}

/// What the owner of a claim must do after ending it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndClaim {
    /// Nobody waits.
    Quiet,
    /// Wake those who wait for the range.
    WakeWaiters,
}

/// What [`State::begin_release`] found.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeginRelease {
    /// The caller owns the range, which was in this phase (`Volatile` or `Offered`; `Pinned` or `Empty` too if it was
    /// to be retired).
    Claimed(Phase),
    /// It is pinned, and stays.
    Pinned,
    /// There is nothing in it.
    Empty,
    /// Another thread owns it for a moment.
    Busy,
}

/// The word, and all that may be done to it.
pub(crate) struct State(AtomicU64);

impl State {
    /// A slot without a range; in a slot, zeroed memory is one.
    #[cfg(any(test, loom))]
    pub(crate) fn new_free() -> Self {
        Self(AtomicU64::new(Phase::Free as u64))
    }

    /// A look that orders nothing: for scans, which act only through exchanges that check again.
    #[inline]
    pub(crate) fn glance(&self) -> Word {
        // Relaxed: see above.
        Word(self.0.load(Ordering::Relaxed))
    }

    /// A look by a pinner at who else is: pins that are gone are over.
    pub(crate) fn look_at_pins(&self) -> u64 {
        // Acquire pairs with the Release (in SeqCst) in `unpin`: what was done under a pin that is not counted any more has been done.
        Word(self.0.load(Ordering::Acquire)).pins()
    }

    /// A look at what was published, in the handshake with a reclaimer that is about to sleep.
    pub(crate) fn look(&self) -> Word {
        // SeqCst pairs with the SeqCst exchange in `unpin`.
        Word(self.0.load(Ordering::SeqCst))
    }

    /// Gives the slot to a new range. The caller owns the slot and has written its other fields.
    pub(crate) fn publish(&self) {
        // Release pairs with the Acquire of every claim: whoever claims the range sees the slot's fields.
        self.0.store(Phase::Empty as u64, Ordering::Release);
    }

    /// Holds a block of marked pages: a pin of a state that stands for many pages, each of which has a record of its own of
    /// whether it is offered. So nothing has to be rescued, and only a claim is in the way, whose owner is asked to hurry.
    #[inline]
    #[must_use]
    pub(crate) fn begin_hold(&self) -> bool {
        let mut word = self.glance();
        loop {
            let next = match word.phase() {
                Phase::Pinned if word.pins() == PINS_MAX => word,
                Phase::Pinned => Word(word.0 + PIN),
                phase if phase.is_claimed() && word.is_cancelled() => return false,
                phase if phase.is_claimed() => Word(word.0 | CANCEL),
                _ => word.with_phase(Phase::Pinned).with_pins(1),
            };
            // Acquire pairs with the Release in `unpin` and in the ends of claims: a holder sees what those before it wrote.
            match self.exchange(word, next, Ordering::Acquire) {
                Ok(()) => return !next.phase().is_claimed(),
                Err(now) => word = now,
            }
        }
    }

    /// Lets go of a block, which is as old as its last mark: now, if `marked` says so. In a child that was forked while the caller
    /// held it (from a signal handler, that is) it is not held any more.
    #[inline]
    pub(crate) fn end_hold(&self, marked: Option<Generation>) {
        let mut word = self.glance();
        while word.phase() == Phase::Pinned {
            let aged = word.with_generation(marked.unwrap_or(word.generation()));
            let next = match word.pins() {
                PINS_MAX => aged,
                1 => aged.with_pins(0).with_phase(Phase::Volatile),
                _ => Word(aged.0 - PIN),
            };
            // Release (in SeqCst) pairs with the Acquire of the next hold or claim; SeqCst pairs with `look`, as in `unpin`.
            match self.exchange(word, next, Ordering::SeqCst) {
                Ok(()) => {
                    sequential_point();
                    return;
                }
                Err(now) => word = now,
            }
        }
    }

    /// Claims a block for one thread, whatever is in it, unless somebody holds it.
    pub(crate) fn begin_change(&self) -> BeginRelease {
        match self.claim(Phase::Releasing, |word| !word.phase().is_claimed() && word.phase() != Phase::Pinned)
        {
            Ok(word) => BeginRelease::Claimed(word.phase()),
            Err(word) if word.phase() == Phase::Pinned => BeginRelease::Pinned,
            Err(_) => {
                // Hurries a long offer or release; Relaxed: the claim itself comes later.
                self.0.fetch_or(CANCEL, Ordering::Relaxed);
                BeginRelease::Busy
            }
        }
    }

    /// In a child: whoever held or had claimed a block is a thread of the parent.
    pub(crate) fn free_block_in_child(&self) {
        let word = self.glance();
        if word.phase() == Phase::Pinned || word.phase().is_claimed() {
            // Relaxed: the child has one thread so far.
            self.0.store(word.unclaimed(Phase::Volatile).with_pins(0).0, Ordering::Relaxed);
        }
    }

    /// The usual pin, without a branch that depends on the phase: of a range that is pinned or volatile, and that no other process
    /// shares. `None`: it is not, or others exchange the word at the same time; [`begin_pin`](Self::begin_pin) is next.
    #[inline]
    pub(crate) fn pin_if_plain(&self) -> Option<Word> {
        let word = self.glance();
        let next = Word(word.with_phase(Phase::Pinned).0 + PIN);
        // Acquire pairs with the Release in `unpin`, `end_rescue` and `end_release`, as in `begin_pin`.
        (word.is_plain() && self.exchange(word, next, Ordering::Acquire).is_ok()).then_some(next)
    }

    /// The fast half of a pin: one exchange, unless the range was offered or is claimed.
    pub(crate) fn begin_pin(&self) -> BeginPin {
        if let Some(word) = self.pin_if_plain() {
            return BeginPin::Pinned(word);
        }
        let mut word = self.glance();
        loop {
            let next = match word.phase() {
                Phase::Pinned if word.pins() == PINS_MAX => word,
                Phase::Pinned => Word(word.0 + PIN),
                Phase::Empty | Phase::Volatile => word.with_phase(Phase::Pinned).with_pins(1),
                Phase::Offered => return BeginPin::Offered,
                Phase::Offering | Phase::Releasing if !word.is_cancelled() => Word(word.0 | CANCEL),
                Phase::Offering | Phase::Releasing | Phase::Rescuing => return BeginPin::Claimed,
                Phase::Free => panic!("pinned a range that was dropped"),
            };
            // Acquire pairs with the Release in `unpin`, `end_rescue` and `end_release`: a pinner sees the bytes of
            // those before it, and what a rescue or release wrote into the page map.
            match self.exchange(word, next, Ordering::Acquire) {
                Ok(()) if word.phase() == Phase::Empty => return BeginPin::PinnedEmpty(next),
                Ok(()) if next.phase() == Phase::Pinned => return BeginPin::Pinned(next),
                Ok(()) => return BeginPin::Claimed,
                Err(now) => word = now,
            }
        }
    }

    /// Drops one pin; the last one makes the range volatile, as of `now`.
    #[inline]
    pub(crate) fn unpin(&self, now: Generation) -> Unpin {
        self.drop_pin(Some(now))
    }

    /// The same, as of when it was volatile last, or was taken back from the kernel.
    #[inline]
    pub(crate) fn unpin_keeping_age(&self) -> Unpin {
        self.drop_pin(None)
    }

    #[inline]
    fn drop_pin(&self, now: Option<Generation>) -> Unpin {
        // Usually nobody else exchanges the word at the same time.
        self.try_drop_pin(self.glance(), now).unwrap_or_else(|word| self.drop_pin_anyhow(word, now))
    }

    #[cold]
    fn drop_pin_anyhow(&self, mut word: Word, now: Option<Generation>) -> Unpin {
        loop {
            match self.try_drop_pin(word, now) {
                Ok(unpin) => return unpin,
                Err(found) => word = found,
            }
        }
    }

    #[inline]
    fn try_drop_pin(&self, word: Word, now: Option<Generation>) -> Result<Unpin, Word> {
        debug_assert_eq!(word.phase(), Phase::Pinned, "unpinned a range that was not pinned");
        let next = match word.pins() {
            PINS_MAX => return Ok(Unpin::StillPinned),
            1 => word
                .with_pins(0)
                .with_phase(Phase::Volatile)
                .with_generation(now.unwrap_or(word.generation())),
            _ => Word(word.0 - PIN),
        };
        // Release (in SeqCst) pairs with the Acquire of the next pin, offer or release: the bytes written under
        // this pin are seen there. SeqCst pairs with `look`: either the reclaimer that is about to sleep sees this
        // range, or the unpinning thread sees that it sleeps.
        self.exchange(word, next, Ordering::SeqCst)?;
        if next.phase() != Phase::Volatile {
            return Ok(Unpin::StillPinned);
        }
        sequential_point();
        Ok(Unpin::Volatile(next))
    }

    /// Claims an offered range for a rescue. False: it is not offered any more, begin again.
    #[must_use]
    pub(crate) fn begin_rescue(&self) -> bool {
        self.claim(Phase::Rescuing, |word| word.phase() == Phase::Offered).is_ok()
    }

    /// Ends a rescue: the rescuer holds the first pin. `lost` says whether pages were found lost.
    pub(crate) fn end_rescue(&self, lost: bool) -> (Word, EndClaim) {
        self.end_claim(Phase::Rescuing, |word| {
            word.unclaimed(Phase::Pinned).with_pins(1).with_losses(word.has_losses() || lost)
        })
    }

    /// Claims the range for an offer, provided that it is still as it was `seen`: volatile, or offered before. A range
    /// that was pinned in between has another generation, and is not old any more.
    #[must_use]
    pub(crate) fn begin_offer(&self, seen: Word) -> Option<Phase> {
        let offerable = |word: Word| word == seen && matches!(word.phase(), Phase::Volatile | Phase::Offered);
        self.claim(Phase::Offering, offerable).ok().map(Word::phase)
    }

    /// Does a pinner want the range that the caller has claimed?
    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed (in `glance`): a hint, looked at again before each piece.
        self.glance().is_cancelled()
    }

    /// Ends an offer. `reached_pages`: whether any page is offered, now or since before. `lost`: whether pages were found
    /// lost, in taking back what had been offered.
    pub(crate) fn end_offer(&self, reached_pages: bool, lost: bool) -> EndClaim {
        let phase = if reached_pages { Phase::Offered } else { Phase::Volatile };
        self.end_claim(Phase::Offering, |word| word.unclaimed(phase).with_losses(word.has_losses() || lost)).1
    }

    /// Claims the range for a release.
    pub(crate) fn begin_release(&self) -> BeginRelease {
        match self.claim(Phase::Releasing, |word| matches!(word.phase(), Phase::Volatile | Phase::Offered)) {
            Ok(word) => BeginRelease::Claimed(word.phase()),
            Err(word) if word.phase() == Phase::Pinned => BeginRelease::Pinned,
            Err(word) if word.phase().is_claimed() => BeginRelease::Busy,
            Err(_) => BeginRelease::Empty,
        }
    }

    /// Claims the range for a release, provided that it is still as it was `seen`.
    #[must_use]
    pub(crate) fn begin_release_of(&self, seen: Word) -> Option<Phase> {
        let releasable =
            |word: Word| word == seen && matches!(word.phase(), Phase::Volatile | Phase::Offered);
        self.claim(Phase::Releasing, releasable).ok().map(Word::phase)
    }

    /// Ends a release. `left` is the phase that is left behind: `Empty`, or what it was if nothing (`Volatile`) or
    /// only a part (`Offered`) was released. `lost`: whether pages with contents went.
    pub(crate) fn end_release(&self, left: Phase, lost: bool) -> EndClaim {
        self.end_claim(Phase::Releasing, |word| word.unclaimed(left).with_losses(word.has_losses() || lost)).1
    }

    /// Claims the range for good: its owner drops it, so no guard can be alive, and pins that remain were leaked.
    pub(crate) fn begin_retire(&self) -> BeginRelease {
        match self.claim(Phase::Releasing, |word| !word.phase().is_claimed()) {
            Ok(word) => BeginRelease::Claimed(word.phase()),
            Err(_) => {
                // Hurries a long offer or release; Relaxed: the claim itself comes later.
                self.0.fetch_or(CANCEL, Ordering::Relaxed);
                BeginRelease::Busy
            }
        }
    }

    /// Ends the claim of [`begin_retire`](Self::begin_retire); the slot may serve another range.
    pub(crate) fn end_retire(&self) -> EndClaim {
        // Release pairs with the Acquire in `claim` and with the lock under which free slots are handed out.
        let before = self.0.swap(Phase::Free as u64, Ordering::Release);
        if before & WAITERS == 0 { EndClaim::Quiet } else { EndClaim::WakeWaiters }
    }

    /// The owner of a claim has noted losses in the page map. The end of the claim says so too, but comes too late for a child that
    /// is cloned once the slot has no offered pages any more: the child's rescue looks at none, and would find no loss.
    pub(crate) fn note_losses(&self) {
        // Relaxed: the end of the claim publishes it; for a child, see `Slot::set_offered_pages`.
        self.0.fetch_or(LOSSES, Ordering::Relaxed);
    }

    /// The pinner, who is alone, has refilled or given up what was lost.
    pub(crate) fn acknowledge_losses(&self) {
        // Relaxed: the unpin that follows publishes it.
        self.0.fetch_and(!LOSSES, Ordering::Relaxed);
    }

    /// Asks to be woken when the claim ends. False: it has ended already.
    #[must_use]
    pub(crate) fn ask_to_be_woken(&self) -> bool {
        let mut word = self.glance();
        while word.phase().is_claimed() {
            // Relaxed: the sleeper looks again, with Acquire, when it is woken.
            match self.exchange(word, Word(word.0 | WAITERS), Ordering::Relaxed) {
                Ok(()) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Marks the range as one whose pages another process may map too, or takes the mark away. Returns the word before.
    pub(crate) fn set_shared(&self, shared: bool) -> Word {
        Word(if shared {
            // Release pairs with the Acquire in `begin_pin` and (in SeqCst) in `unpin`: whoever sees the mark sees where
            // the processes keep count.
            self.0.fetch_or(SHARED, Ordering::Release)
        } else {
            // Relaxed: the end of the caller's claim publishes it.
            self.0.fetch_and(!SHARED, Ordering::Relaxed)
        })
    }

    /// The owner of a claim puts the range back among those used last.
    pub(crate) fn make_youngest(&self, now: Generation) {
        let mut word = self.glance();
        // Relaxed: the end of the claim publishes it.
        while let Err(other) = self.exchange(word, word.with_generation(now), Ordering::Relaxed) {
            word = other;
        }
    }

    /// In a child made by `fork`: the thread that had claimed the range exists only in the parent. Whatever it was at,
    /// the pages that it reached are in the page map, so "offered" describes them and a rescue finds out the rest. Where it had come
    /// to the end, and no page is offered any more, the losses have been [noted](Self::note_losses).
    pub(crate) fn recover_in_child(&self) {
        let word = self.glance();
        if word.phase().is_claimed() {
            // Relaxed: the child has one thread so far.
            self.0.store(word.unclaimed(Phase::Offered).0, Ordering::Relaxed);
        }
    }

    /// Keeps a very old range from wrapping round to a young one.
    pub(crate) fn cut_age(&self, now: Generation) {
        let word = self.glance();
        if matches!(word.phase(), Phase::Volatile | Phase::Offered)
            && word.generation().age(now) > Generation::AGE_MAX
        {
            let cut = Generation::from_ticks(now.0.wrapping_sub(Generation::AGE_MAX));
            // Relaxed: only the age changes. If somebody else was faster, the range is not old any more.
            let _ = self.exchange(word, word.with_generation(cut), Ordering::Relaxed);
        }
    }

    /// Moves the range into a claimed phase if `may` says so of its present word; returns the word before, or the one
    /// that was refused.
    fn claim(&self, phase: Phase, may: impl Fn(Word) -> bool) -> Result<Word, Word> {
        let mut word = self.glance();
        while may(word) {
            // Acquire pairs with the Release in `unpin`, `publish` and the ends of other claims: the owner of a claim
            // sees the bytes, the slot's fields and the page map. (Pins are zero but for a retired range's leaked ones.)
            match self.exchange(word, word.with_pins(0).with_phase(phase), Ordering::Acquire) {
                Ok(()) => return Ok(word),
                Err(now) => word = now,
            }
        }
        Err(word)
    }

    /// Leaves a claimed phase. Others can only have set flags meanwhile.
    fn end_claim(&self, claimed: Phase, next: impl Fn(Word) -> Word) -> (Word, EndClaim) {
        let mut word = self.glance();
        loop {
            debug_assert_eq!(word.phase(), claimed, "only the owner of a claim ends it");
            let after = next(word);
            // Release pairs with the Acquire in `begin_pin` and `claim`: the next to touch the range sees the page map.
            match self.exchange(word, after, Ordering::Release) {
                Ok(()) if word.0 & WAITERS != 0 => return (after, EndClaim::WakeWaiters),
                Ok(()) => return (after, EndClaim::Quiet),
                Err(now) => word = now,
            }
        }
    }

    #[inline]
    fn exchange(&self, from: Word, to: Word, success: Ordering) -> Result<(), Word> {
        // Relaxed on failure: every caller looks at the word anew and tries again with its own ordering.
        match self.0.compare_exchange_weak(from.0, to.0, success, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(now) => Err(Word(now)),
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.glance().fmt(f)
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
