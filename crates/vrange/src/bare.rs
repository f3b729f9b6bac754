//! Pins without guards: for structures that place many things in one buffer, and for languages that have no guards.

use std::ops::Range;

use vrange_os::PAGE_BYTES;

use crate::buffer::Buffer;
use crate::guard;
use crate::prefetch::prefetch;

/// How a buffer was found by a pin without a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarePin {
    /// There are [losses](Buffer::has_lost) that nobody has acknowledged.
    pub has_losses: bool,
    /// How many pins there are, with this one. At 65,535 the count stays for ever, and so do the pins.
    pub pins: u64,
}

impl Buffer {
    /// Pins as [`pin`](Self::pin) does, without a guard. The pin stays until [`unpin_leaked`](Self::unpin_leaked) ends it. While it
    /// does, bytes may be reached through [`as_ptr`](Self::as_ptr), with care for who else does.
    #[inline]
    #[must_use = "bytes of lost pages read as zeros"]
    pub fn pin_bare(&self) -> BarePin {
        let word = self.pin_word();
        BarePin { has_losses: word.has_losses(), pins: word.pins() }
    }

    /// Ends a pin whose guard was leaked (`std::mem::forget`), or that had none.
    ///
    /// # Safety
    /// A guard of this buffer was leaked, or it was [pinned without one](Self::pin_bare); this is the first call for it, and the bytes
    /// are not reached through it any more.
    #[inline]
    pub unsafe fn unpin_leaked(&self) {
        self.unpin();
    }

    /// As [`unpin_leaked`](Self::unpin_leaked), but the use does not count for which ranges are the coldest: the buffer stays as old as it
    /// was. (One that had to be taken back from the kernel is as old as that.) Saves reading the processor's clock.
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn unpin_leaked_keeping_age(&self) {
        self.unpin_keeping_age();
    }

    /// Has the processor fetch the cache line at an offset, while the pin is still being made. A hint: reads nothing, and fails at no offset.
    #[inline]
    pub fn prefetch(&self, offset: usize) {
        prefetch(self.as_ptr().wrapping_add(offset));
    }

    /// How many pins there are at the moment. For who holds one and wants to know whether it is the only one: what was done under
    /// pins that are not counted any more has been done. Others may pin as the answer arrives.
    ///
    /// Leaked pins are counted up to 65,535, where the count stays.
    pub fn pins(&self) -> u64 {
        self.slot().state.look_at_pins()
    }

    /// Does a lost page hold one of these bytes? For who holds a pin; O(pages of `bytes`).
    ///
    /// # Panics
    /// If `bytes` ends behind the buffer's end.
    pub fn has_lost(&self, bytes: Range<usize>) -> bool {
        assert!(bytes.end <= self.len(), "the bytes lie in the buffer");
        let pages = bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES);
        !bytes.is_empty() && guard::map(self).has_lost(pages)
    }

    /// How many pages were lost, and nobody has acknowledged it. For who holds a pin; O(pages / 32).
    pub fn lost_pages(&self) -> usize {
        guard::map(self).lost_pages()
    }

    /// Takes the buffer as it is, zeros in place of what was lost, from now on for intact: as
    /// [`Purged::acknowledge`](crate::Purged::acknowledge).
    ///
    /// # Safety
    /// The caller holds a pin, and no other pin that began before this call relies on what [`has_lost`](Self::has_lost) says.
    pub unsafe fn acknowledge_leaked(&self) {
        guard::map(self).clear();
        self.slot().state.acknowledge_losses();
    }
}
