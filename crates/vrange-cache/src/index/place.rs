//! Where the bytes of an item lie, in one word.

use std::fmt;

/// Bytes that an offset counts by. Values begin at multiples of it.
pub(crate) const UNIT_BYTES: usize = 16;

// The word, from bit 0: uses (2), version (25), offset in units (17), segment (20).
const USES_MAX: u8 = 0b11;
const USES: u64 = USES_MAX as u64;
const VERSION_SHIFT: u32 = 2;
const VERSION_MASK: u32 = (1 << 25) - 1;
const OFFSET_SHIFT: u32 = 27;
const OFFSET_MASK: usize = (1 << 17) - 1;
const SEGMENT_SHIFT: u32 = 44;

/// The most segments that a place can name. The number itself names none: see [`Place::GONE`].
pub(crate) const SEGMENTS_MAX: usize = (1 << 20) - 1;
/// The largest segment in which every unit can be named.
pub(crate) const SEGMENT_BYTES_MAX: usize = (OFFSET_MASK + 1) * UNIT_BYTES;

/// How many times a segment was put to a new use, modulo 2^25. Whoever has pinned a segment of another version than an item says
/// looks at somebody else's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u32);

impl Version {
    #[inline]
    pub(crate) const fn from_count(count: u32) -> Self {
        Self(count & VERSION_MASK)
    }
}

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

#[expect(
    clippy::cast_possible_truncation,
    reason = "parts of the word are masked, or all there is above them"
)]
impl Place {
    /// The item has been taken out of the index: its bytes are nobody's any more.
    pub(crate) const GONE: Self = Self((SEGMENTS_MAX as u64) << SEGMENT_SHIFT);

    #[inline]
    pub(crate) fn new(segment: usize, version: Version, offset: usize) -> Self {
        debug_assert!(
            segment < SEGMENTS_MAX && offset.is_multiple_of(UNIT_BYTES) && offset < SEGMENT_BYTES_MAX
        );
        let units = (offset / UNIT_BYTES) as u64;
        Self(
            (segment as u64) << SEGMENT_SHIFT | units << OFFSET_SHIFT | u64::from(version.0) << VERSION_SHIFT,
        )
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn is_gone(self) -> bool {
        self.segment() == SEGMENTS_MAX
    }

    #[inline]
    pub(crate) const fn segment(self) -> usize {
        (self.0 >> SEGMENT_SHIFT) as usize
    }

    #[inline]
    pub(crate) const fn version(self) -> Version {
        Version((self.0 >> VERSION_SHIFT) as u32 & VERSION_MASK)
    }

    #[inline]
    pub(crate) const fn offset(self) -> usize {
        ((self.0 >> OFFSET_SHIFT) as usize & OFFSET_MASK) * UNIT_BYTES
    }

    /// How often the item was used, up to three times, since the policy last looked at it.
    #[inline]
    pub(crate) const fn uses(self) -> u8 {
        self.0 as u8 & USES_MAX
    }

    #[inline]
    pub(crate) fn with_uses(self, uses: u8) -> Self {
        Self(self.0 & !USES | u64::from(uses.min(USES_MAX)))
    }

    /// The same bytes, however often used?
    #[inline]
    pub(crate) const fn is_same_place(self, other: Self) -> bool {
        self.0 & !USES == other.0 & !USES
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("segment", &self.segment())
            .field("version", &self.version().0)
            .field("offset", &self.offset())
            .field("uses", &self.uses())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_what_it_was_made_of() {
        for segment in [0, 1, SEGMENTS_MAX - 1] {
            for offset in [0, UNIT_BYTES, SEGMENT_BYTES_MAX - UNIT_BYTES] {
                for version in [0, 1, (1 << 25) - 1] {
                    let place = Place::new(segment, Version::from_count(version), offset).with_uses(3);
                    assert_eq!((place.segment(), place.offset(), place.uses()), (segment, offset, 3));
                    assert_eq!(place.version(), Version::from_count(version));
                    assert!(!place.is_gone() && place.is_same_place(place.with_uses(0)));
                }
            }
        }
        assert!(Place::GONE.is_gone() && Place::GONE.with_uses(2).is_gone());
    }

    #[test]
    fn versions_wrap() {
        assert_eq!(Version::from_count(1 << 25), Version::from_count(0));
        assert_ne!(Version::from_count(1), Version::from_count(2));
    }
}
