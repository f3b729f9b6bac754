//! A value with a range of its own.

use std::ptr::NonNull;
use std::sync::Arc;

use vrange::Buffer;

use super::PAGE_BYTES;
use super::segment::PINS_MAX;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Bytes of memory that a value of this length takes in a range of its own, which there is: with pages to name, it overflows nothing.
pub(crate) fn memory_bytes(bytes: usize) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES) as u64
}

/// See the [module](self). If a page of it is lost, it is lost.
#[derive(Debug)]
pub(crate) struct Large {
    buffer: Buffer,
    /// As those of a packed item.
    uses: AtomicU8,
    /// The item has been taken out of the index.
    has_ended: AtomicBool,
    /// Its memory is counted in `total_bytes`.
    is_counted: AtomicBool,
    /// Memory of all values of this kind.
    total_bytes: Arc<AtomicU64>,
}

/// What came of a pin for reading.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadLarge {
    /// It is pinned.
    Pinned,
    /// The kernel has taken a page of it. It is not pinned.
    Lost,
    /// It is in use so often that it must not be again. It is not pinned.
    Crowded,
}

impl Large {
    /// Pinned once. Counted in `total_bytes` by the caller, and as long as it has memory.
    pub(crate) fn new(buffer: Buffer, total_bytes: Arc<AtomicU64>) -> Self {
        let _ = buffer.pin_bare();
        Self {
            buffer,
            uses: AtomicU8::new(0),
            has_ended: AtomicBool::new(false),
            is_counted: AtomicBool::new(true),
            total_bytes,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        NonNull::new(self.buffer.as_ptr().cast_mut()).expect("a mapping")
    }

    /// Pins for reading.
    pub(crate) fn pin(&self) -> ReadLarge {
        let pin = self.buffer.pin_bare();
        let read = if pin.has_losses {
            ReadLarge::Lost
        } else if pin.pins > PINS_MAX {
            ReadLarge::Crowded
        } else {
            return ReadLarge::Pinned;
        };
        // SAFETY: pinned just now.
        unsafe { self.unpin() };
        read
    }

    /// Ends a pin.
    ///
    /// # Safety
    /// The caller has one, and does not reach the bytes through it any more.
    pub(crate) unsafe fn unpin(&self) {
        // SAFETY: passed on from the caller.
        unsafe { self.buffer.unpin_leaked() };
        // SeqCst pairs with that in `end`: either this sees that it has ended, or that sees that it is not pinned.
        if self.has_ended.load(Ordering::SeqCst) {
            self.give_back();
        }
    }

    /// The item has been taken out of the index. Who uses the value goes on doing so; then its memory goes. (The index drops the item itself
    /// only when nobody can be looking at it any more, which may take long.) Of an item that is still there, the value is lost.
    pub(crate) fn end(&self) {
        // SeqCst: see `unpin`, whose exchange of the range's word is that too.
        self.has_ended.store(true, Ordering::SeqCst);
        self.give_back();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed) // Relaxed: for the policy, which is told by nobody.
    }

    fn give_back(&self) {
        if self.buffer.release() {
            self.uncount();
        }
    }

    fn uncount(&self) {
        // Relaxed, both: counts order nothing.
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.total_bytes.fetch_sub(memory_bytes(self.buffer.len()), Ordering::Relaxed);
        }
    }

    /// Counts a use, up to three.
    pub(crate) fn note_use(&self) {
        // Relaxed, both: a count that is lost to another's matters to nobody.
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < 3 {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed) // Relaxed: see `note_use`.
    }

    pub(crate) fn set_uses(&self, uses: u8) {
        self.uses.store(uses, Ordering::Relaxed); // Relaxed: see `note_use`.
    }
}

/// A value that is not in the index yet. If it does not get there its memory goes, whoever still has the value: the index drops nothing that
/// it was given when a comparison of keys panics.
#[derive(Debug)]
pub(crate) struct Unpublished(Option<Arc<Large>>);

impl Unpublished {
    pub(crate) fn new(large: Arc<Large>) -> Self {
        Self(Some(large))
    }

    /// It is in the index.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if let Some(large) = self.0.take() {
            large.end();
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.uncount();
    }
}
