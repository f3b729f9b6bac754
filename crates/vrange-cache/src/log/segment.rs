//! A segment: one volatile range with many values in it.

use std::ptr::NonNull;

use parking_lot::Mutex;
use vrange::{BarePin, Buffer};

use super::turn::{Leave, Turn};
use super::{PAGE_BYTES, Queue, roster::Roster};
use crate::index::place::{Place, Version};
use crate::sync::{AtomicBool, AtomicU32, Ordering};

/// See the [module](self).
///
/// Bytes are written once in a use of the segment, by the writer to whom the log has given them, before an item says where they are.
/// They are read under a pin of the buffer, by who has found the segment in the version that the item names. The log keeps its active
/// segments pinned.
///
/// What a reader looks at comes first, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Segment {
    buffer: Buffer,
    turn: Turn,
    /// Of the queue [`Queue::Main`].
    is_main: AtomicBool,
    /// Bytes of values that the index may still find: for compaction, which needs to know about.
    live_bytes: AtomicU32,
    /// What was put into it, from the moment that it is sealed.
    roster: Mutex<Roster>,
}

/// What came of a pin for reading.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    /// The value is here, and the segment is pinned.
    Pinned,
    /// It is not here any more. The segment is not pinned.
    Elsewhere,
    /// The kernel has taken a page of it. The segment is not pinned.
    Lost,
    /// So many values of the segment are in use that there must not be another. It is not pinned.
    Crowded,
}

/// More pins of one range than this are not asked for. The range can count 65,535, and where it cannot count them they stay for ever;
/// some more may come from threads that are just finding out.
pub(crate) const PINS_MAX: u64 = 60_000;
/// Fewer than this cannot be too many, which one bit says.
const PINS_MANY: u64 = 1 << 15;
const _: () = assert!(PINS_MANY <= PINS_MAX);

impl Segment {
    pub(crate) fn new(buffer: Buffer) -> Self {
        Self {
            buffer,
            turn: Turn::new(),
            is_main: AtomicBool::new(false),
            live_bytes: AtomicU32::new(0),
            roster: Mutex::new(Roster::default()),
        }
    }

    /// Pins for reading `bytes` bytes at `place`.
    #[inline]
    pub(crate) fn pin_for(&self, place: Place, bytes: usize) -> Read {
        let pin = self.buffer.pin_bare();
        let is_here = self.turn.version() == place.version();
        // The last two are one test, without a branch between them.
        if is_here && (pin.pins < PINS_MANY) & !pin.has_losses {
            return Read::Pinned;
        }
        self.judge(pin, place, bytes)
    }

    /// The rest of [`pin_for`](Self::pin_for): what came of the pin.
    #[cold]
    fn judge(&self, pin: BarePin, place: Place, bytes: usize) -> Read {
        let read = if pin.pins > PINS_MAX {
            Read::Crowded
        } else if self.turn.version() != place.version() {
            Read::Elsewhere
        } else if pin.has_losses && self.buffer.has_lost(place.offset()..place.offset() + bytes) {
            Read::Lost
        } else {
            return Read::Pinned;
        };
        // SAFETY: the caller has pinned, and gets nothing to reach the bytes by.
        unsafe { self.unpin() };
        read
    }

    /// Ends a pin. Use of what was written last does not make it the youngest, since most of that is not used again: it is to go before
    /// what has proved useful.
    ///
    /// # Safety
    /// The caller has a pin, and does not reach the bytes through it any more.
    // A call: as a part of them, it would keep its callers' `Held` from being in registers.
    #[inline(never)]
    pub(crate) unsafe fn unpin(&self) {
        // Relaxed: a wrong answer makes the segment a little older or younger.
        if self.is_main.load(Ordering::Relaxed) {
            // SAFETY: passed on from the caller.
            unsafe { self.buffer.unpin_leaked() };
        } else {
            // SAFETY: passed on from the caller.
            unsafe { self.buffer.unpin_leaked_keeping_age() };
        }
    }

    /// Has the processor fetch the first and the last bytes of a value, which takes about as long as the pin does. Nothing is read: whose they
    /// are is not known yet.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize, bytes: usize) {
        self.buffer.prefetch(offset);
        self.buffer.prefetch(offset + bytes.saturating_sub(1));
    }

    /// Another pin, for who knows that it is pinned and stays the same.
    pub(crate) fn pin_again(&self) {
        let _ = self.buffer.pin_bare();
    }

    #[inline]
    pub(crate) fn address(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.buffer.len());
        NonNull::new(self.buffer.as_ptr().wrapping_add(offset).cast_mut()).expect("inside of a mapping")
    }

    pub(crate) fn version(&self) -> Version {
        self.turn.version()
    }

    pub(crate) fn roster(&self) -> &Mutex<Roster> {
        &self.roster
    }

    /// Puts a segment without items to a new use, and leaves it pinned for the log. False: somebody still looks at what was there.
    #[must_use]
    pub(crate) fn try_begin_use(&self, queue: Queue) -> bool {
        self.turn.before_pin();
        let _ = self.buffer.pin_bare();
        if self.buffer.pins() != 1 {
            // SAFETY: pinned just now.
            unsafe { self.buffer.unpin_leaked() };
            return false;
        }
        // SAFETY: pinned just now. Readers of the version before are gone, others do not look at the bytes.
        unsafe { self.buffer.acknowledge_leaked() };
        self.set_queue(queue);
        // Relaxed: the lock of the log publishes it.
        self.live_bytes.store(0, Ordering::Relaxed);
        self.turn.begin_use();
        true
    }

    /// Of which queue its values are, once it is put to use.
    pub(crate) fn set_queue(&self, queue: Queue) {
        self.is_main.store(queue == Queue::Main, Ordering::Relaxed); // Relaxed: see `unpin`.
    }

    /// A writer begins, under the lock of the log.
    pub(crate) fn begin_write(&self, bytes: u32) {
        self.turn.begin_write();
        self.live_bytes.fetch_add(bytes, Ordering::Relaxed); // Relaxed: see the field.
    }

    /// A writer is done: what it wrote is in the index, or never will be.
    pub(crate) fn end_write(&self) {
        self.leave(self.turn.end_write());
    }

    /// No more writers will come. `roster`: all that was put into it.
    pub(crate) fn seal(&self, roster: Roster) {
        *self.roster.lock() = roster.fitted();
        self.leave(self.turn.seal());
    }

    fn leave(&self, leave: Leave) {
        if leave == Leave::Unpin {
            // SAFETY: the pin is that of `try_begin_use`; the last of those who write under it ends it.
            unsafe { self.buffer.unpin_leaked() };
        }
    }

    /// Is it sealed, and everything that was written in the index?
    pub(crate) fn is_quiet(&self) -> bool {
        self.turn.is_quiet()
    }

    /// A value of this many bytes, in whole units, is of no use any more.
    pub(crate) fn note_dead(&self, bytes: u32) {
        // Relaxed: see the field. What was counted for another use of the segment must not make the count wrap.
        let _ = self
            .live_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| Some(live.saturating_sub(bytes)));
    }

    pub(crate) fn live_bytes(&self) -> u32 {
        self.live_bytes.load(Ordering::Relaxed) // Relaxed: see the field.
    }

    /// Pins a quiet segment to look through it. What was lost is in what [`has_lost`](Self::has_lost) says if this is true.
    pub(crate) fn pin_whole(&self) -> bool {
        self.buffer.pin_bare().has_losses
    }

    pub(crate) fn pages(&self) -> usize {
        self.buffer.len() / PAGE_BYTES
    }

    /// How many pages were lost. For who has pinned it.
    pub(crate) fn lost_pages(&self) -> usize {
        self.buffer.lost_pages()
    }

    pub(crate) fn has_lost(&self, offset: usize, bytes: usize) -> bool {
        self.buffer.has_lost(offset..offset + bytes)
    }

    /// Ends the pin of [`pin_whole`](Self::pin_whole), and the use of the segment: no item is left in it.
    ///
    /// # Safety
    /// The caller has that pin, and does not reach the bytes through it any more.
    pub(crate) unsafe fn end_use(&self) {
        self.turn.end_use();
        // SAFETY: passed on from the caller.
        unsafe { self.buffer.unpin_leaked() };
    }

    /// Gives the memory of a segment without items back. False: somebody looks at it.
    pub(crate) fn release(&self) -> bool {
        self.buffer.release()
    }
}
