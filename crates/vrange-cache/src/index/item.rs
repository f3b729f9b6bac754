//! What the index knows of an item.

use std::num::NonZero;
#[cfg(not(loom))]
use std::sync::Arc;

use super::place::Place;
#[cfg(not(loom))]
use crate::clock::Moment;
#[cfg(not(loom))]
use crate::log::large::Large;
use crate::sync::{AtomicU64, Ordering};

/// An item in the index. Everything but its place stays as long as it lives.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Item {
    /// When it is over.
    pub(crate) deadline: Moment,
    pub(crate) location: Location,
}

/// Where the value is.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) enum Location {
    /// Among others in a segment.
    Packed(Packed),
    /// In a range of its own.
    Own(Arc<Large>),
}

// There is one for each entry, in memory that the kernel cannot take.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Item>() == 24, "an item takes three words");

/// The place of a value in a segment. Compaction moves it.
#[derive(Debug)]
pub(crate) struct Packed {
    place: AtomicU64,
    /// One more than the length in bytes, which is less than a segment's: that it is never 0 saves a [`Location`] a word.
    bytes_and_one: NonZero<u32>,
}

impl Packed {
    pub(crate) fn new(place: Place, bytes: u32) -> Self {
        Self { place: AtomicU64::new(place.bits()), bytes_and_one: NonZero::<u32>::MIN.saturating_add(bytes) }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes_and_one.get() as usize - 1
    }

    #[inline]
    pub(crate) fn place(&self) -> Place {
        // Acquire pairs with the Release in `relocate`: whoever reads the new place sees the bytes there. (Those at the first place
        // came with the item.)
        Place::from_bits(self.place.load(Ordering::Acquire))
    }

    /// Counts a use, up to three: an item that is used all the time is not written to.
    #[inline]
    pub(crate) fn note_use(&self, seen: Place) {
        if seen.uses() < 3 {
            let used = seen.with_uses(seen.uses() + 1);
            // Relaxed: only the uses change, and a count that is lost to another's matters to nobody.
            let _ = self.place.compare_exchange_weak(
                seen.bits(),
                used.bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// The bytes have been copied to another place. False: the item was taken out of the index, or is elsewhere by now.
    pub(crate) fn relocate(&self, from: Place, to: Place) -> bool {
        let mut seen = self.place();
        while seen.is_same_place(from) {
            // Release pairs with the Acquire in `place`. Acquire on failure as there.
            match self.place.compare_exchange_weak(
                seen.bits(),
                to.bits(),
                Ordering::Release,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => seen = Place::from_bits(now),
            }
        }
        false
    }

    /// The item has been taken out of the index, by the caller alone. Returns where it was.
    pub(crate) fn end(&self) -> Place {
        // Acquire pairs with the Release in `relocate`, whose place this is.
        Place::from_bits(self.place.swap(Place::GONE.bits(), Ordering::Acquire))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::index::place::Version;

    fn place(segment: usize) -> Place {
        Place::new(segment, Version::from_count(1), 64)
    }

    #[test]
    fn uses_are_counted_up_to_three() {
        let packed = Packed::new(place(1), 10);
        for expected in [1, 2, 3, 3] {
            packed.note_use(packed.place());
            // The exchange may fail for no reason on some processors.
            while packed.place().uses() < expected {
                packed.note_use(packed.place());
            }
            assert_eq!(packed.place().uses(), expected);
        }
    }

    #[test]
    fn an_item_moves_with_uses_counted_meanwhile_and_never_after_its_end() {
        let packed = Packed::new(place(1), 10);
        packed.note_use(packed.place());
        assert!(packed.relocate(place(1), place(2)));
        assert!(!packed.relocate(place(1), place(3)), "it is elsewhere");
        assert!(packed.end().is_same_place(place(2)));
        assert!(packed.end().is_gone());
        assert!(!packed.relocate(place(2), place(3)));
        packed.note_use(packed.place());
        assert!(packed.place().is_gone());
    }
}
