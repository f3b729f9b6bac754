//! A volatile buffer.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::guard::{Pinned, ReadGuard, WriteGuard};
use crate::inner::Inner;
use crate::range::protocol::{Candidate, Released};
use crate::range::slots::Slot;
use crate::range::state::{self, BeginPin, Unpin, Word};
use crate::reclaim::{bounds, runtime};
use crate::sleeper::Sleeper;

/// A range of bytes that the kernel may discard whenever it is not pinned.
///
/// The bytes are reached only through a pin, and the guard's lifetime keeps the buffer pinned as long as they are in use.
/// Any number of threads may hold read pins at once; a write pin needs the buffer to itself, by `&mut`. Dropping the
/// buffer gives its memory back.
///
/// A guard that is leaked (`std::mem::forget`) keeps the buffer pinned until [`unpin_leaked`](Self::unpin_leaked), or until
/// the buffer is dropped.
pub struct Buffer {
    heap: Arc<Inner>,
    /// Number of the slot, for giving it back.
    index: usize,
    slot: NonNull<Slot>,
    /// The first byte, copied from the slot.
    base: NonNull<u8>,
    bytes: usize,
    /// Copied from the heap: see [`Inner::quiet`].
    quiet: &'static Sleeper,
}

// SAFETY: the slot lies in the heap's table, which `heap` keeps alive and which is made for many threads; the bytes are
// reached only through guards, which follow the rules of references to `[u8]`.
unsafe impl Send for Buffer {}
// SAFETY: as above. `&Buffer` gives out `&[u8]` at most.
unsafe impl Sync for Buffer {}

/// What a buffer is doing at the moment of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// There is nothing in it: it is new, or was released.
    Empty,
    /// In use.
    Pinned,
    /// Not in use, and not offered to the kernel yet: it cannot be lost in this phase.
    Volatile,
    /// Offered to the kernel, which may have taken pages of it.
    Offered,
    /// Being offered, rescued or released by another thread.
    Busy,
}

impl Buffer {
    pub(crate) fn new(heap: Arc<Inner>, index: usize, bytes: usize) -> Self {
        let slot = NonNull::from(heap.table.get(index));
        // SAFETY: just taken from a reference.
        let base = unsafe { slot.as_ref() }.memory().base;
        let quiet = heap.quiet();
        Self {
            heap,
            index,
            slot,
            base: NonNull::new(base).expect("memory is never at address 0"),
            bytes,
            quiet,
        }
    }

    #[inline]
    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: slots do not move, and the table lives as long as `heap`.
        unsafe { self.slot.as_ref() }
    }

    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes, as asked for.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Never: a buffer has one byte at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Pins for reading. The bytes stay as they are until the guard is dropped; the outcome says whether pages were lost
    /// before.
    ///
    /// One exchange if the buffer was not offered to the kernel; otherwise a rescue, linear in its pages (about 11 µs a
    /// MiB). Waits while another thread rescues or releases it, or offers a piece of it (about 70 µs).
    #[inline]
    pub fn pin(&self) -> Pinned<ReadGuard<'_>> {
        let word = self.pin_word();
        Pinned::new(ReadGuard::new(self), word.has_losses())
    }

    /// As [`pin`](Self::pin), but never waits for another thread: `None` if it would have to.
    #[inline]
    pub fn try_pin(&self) -> Option<Pinned<ReadGuard<'_>>> {
        let word = self.try_pin_word()?;
        Some(Pinned::new(ReadGuard::new(self), word.has_losses()))
    }

    /// Pins for writing. As [`pin`](Self::pin), and what was lost can be refilled.
    #[inline]
    pub fn pin_mut(&mut self) -> Pinned<WriteGuard<'_>> {
        let word = self.pin_word();
        Pinned::new(WriteGuard::new(self), word.has_losses())
    }

    /// As [`pin_mut`](Self::pin_mut), but never waits for another thread: `None` if it would have to.
    #[inline]
    pub fn try_pin_mut(&mut self) -> Option<Pinned<WriteGuard<'_>>> {
        let word = self.try_pin_word()?;
        Some(Pinned::new(WriteGuard::new(self), word.has_losses()))
    }

    #[inline]
    pub(crate) fn pin_word(&self) -> Word {
        match self.slot().state.pin_if_plain() {
            Some(word) => word,
            None => self.pin_word_anyhow(),
        }
    }

    #[inline]
    fn try_pin_word(&self) -> Option<Word> {
        self.slot().state.pin_if_plain().or_else(|| self.pin_anyhow(false))
    }

    #[cold]
    fn pin_word_anyhow(&self) -> Word {
        self.pin_anyhow(true).expect("a pin that may wait succeeds")
    }

    #[cold]
    fn pin_anyhow(&self, may_wait: bool) -> Option<Word> {
        let begun = match self.slot().state.begin_pin() {
            BeginPin::Pinned(word) if !word.is_shared() => return Some(word),
            begun => begun,
        };
        let pinned = match begun {
            BeginPin::Offered | BeginPin::Claimed => {
                runtime::enter(&self.heap);
                self.heap.protocol().pin_slowly(self.slot(), may_wait)?
            }
            pinned => pinned,
        };
        let (word, was_empty) = match pinned {
            BeginPin::PinnedEmpty(word) => (word, true),
            BeginPin::Pinned(word) => (word, false),
            BeginPin::Offered | BeginPin::Claimed => unreachable!("the slow pin ends pinned"),
        };
        bounds::after_pin(&self.heap, self.slot(), word, was_empty);
        Some(word)
    }

    #[inline]
    pub(crate) fn unpin(&self) {
        self.after_unpin(self.slot().state.unpin(Inner::now()));
    }

    #[inline]
    pub(crate) fn unpin_keeping_age(&self) {
        self.after_unpin(self.slot().state.unpin_keeping_age());
    }

    #[inline]
    fn after_unpin(&self, unpin: Unpin) {
        if let Unpin::Volatile(word) = unpin {
            bounds::after_unpin(self.quiet, &self.heap, self.slot(), word);
        }
    }

    /// Drops the contents now. False: it is pinned, or was pinned meanwhile, or the system refused, and at least a part
    /// stays. What had contents counts as lost for the next pin.
    pub fn release(&self) -> bool {
        runtime::enter(&self.heap);
        match self.heap.protocol().release(self.slot()) {
            Released::Pages(_) | Released::Nothing => true,
            Released::Part(_) | Released::Pinned | Released::Interrupted => false,
        }
    }

    /// Hands the contents to the kernel now, which keeps them until memory is short. False: it is pinned, empty, or busy,
    /// or the system refused. A pin on another thread can stop it half-way, which is no failure.
    pub fn offer(&self) -> bool {
        runtime::enter(&self.heap);
        let slot = self.slot();
        let seen = slot.state.glance();
        let total = self.heap.protocol().offer(&[Candidate { slot, seen }]);
        total.refused_by.is_none() && slot.state.glance().phase() == state::Phase::Offered
    }

    /// What it is doing now. Other threads, and the kernel, may have moved on when the answer arrives.
    pub fn phase(&self) -> Phase {
        match self.slot().state.glance().phase() {
            state::Phase::Free | state::Phase::Empty => Phase::Empty,
            state::Phase::Pinned => Phase::Pinned,
            state::Phase::Volatile => Phase::Volatile,
            state::Phase::Offered => Phase::Offered,
            state::Phase::Offering | state::Phase::Rescuing | state::Phase::Releasing => Phase::Busy,
        }
    }

    /// Address of the first byte, for tools that look at the page table. Using it to reach the bytes without a pin is a
    /// mistake: they may vanish at any moment.
    #[inline]
    pub fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        runtime::enter(&self.heap);
        self.heap.remove_range(self.index);
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.bytes).field("phase", &self.phase()).finish()
    }
}
