//! A value with a range of its own.

use std::ptr::NonNull;
use std::sync::Arc;

use vrange::Buffer;

use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// See the [module](self). If a page of it is lost, it is lost.
#[derive(Debug)]
pub(crate) struct Large {
    buffer: Buffer,
    /// As those of a packed item.
    uses: AtomicU8,
    /// Bytes of all values of this kind.
    total_bytes: Arc<AtomicU64>,
}

impl Large {
    /// Pinned once, and counted in `total_bytes` as long as it lives.
    pub(crate) fn new(buffer: Buffer, total_bytes: Arc<AtomicU64>) -> Self {
        let _ = buffer.pin_bare();
        // Relaxed: a count orders nothing.
        total_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Self { buffer, uses: AtomicU8::new(0), total_bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn address(&self) -> NonNull<u8> {
        NonNull::new(self.buffer.as_ptr().cast_mut()).expect("a mapping")
    }

    /// Pins for reading. False: it is lost, and not pinned.
    #[must_use]
    pub(crate) fn pin(&self) -> bool {
        let has_losses = self.buffer.pin_bare();
        if has_losses {
            // SAFETY: pinned just now.
            unsafe { self.unpin() };
        }
        !has_losses
    }

    /// Ends a pin.
    ///
    /// # Safety
    /// The caller has one, and does not reach the bytes through it any more.
    pub(crate) unsafe fn unpin(&self) {
        // SAFETY: passed on from the caller.
        unsafe { self.buffer.unpin_leaked() };
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

impl Drop for Large {
    fn drop(&mut self) {
        self.total_bytes.fetch_sub(self.buffer.len() as u64, Ordering::Relaxed); // Relaxed: see `new`.
    }
}
