//! What was put into a segment, in the order of its bytes.

use crate::index::key::Mark;
use crate::index::place::UNIT_BYTES;

const OFFSET_BITS: u32 = 17;

/// The values of a segment: whose, and where. Eight bytes each.
#[derive(Debug, Default)]
pub(crate) struct Roster(Vec<u64>);

impl Roster {
    pub(crate) fn push(&mut self, mark: Mark, offset: usize) {
        self.0.push(mark.bits() << OFFSET_BITS | (offset / UNIT_BYTES) as u64);
    }

    /// Mark and offset of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Mark, usize)> {
        self.0.iter().map(|word| {
            let units = word & ((1 << OFFSET_BITS) - 1);
            (Mark::from_bits(word >> OFFSET_BITS), units as usize * UNIT_BYTES)
        })
    }

    /// The same, without the memory that a longer one would have needed: it has grown by doubling. What a segment that is used again
    /// needs, it has by then.
    pub(crate) fn fitted(mut self) -> Self {
        self.0.shrink_to(self.0.len());
        self
    }

    /// An empty one that keeps this one's memory.
    pub(crate) fn emptied(mut self) -> Self {
        self.0.clear();
        self
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::index::place::SEGMENT_BYTES_MAX;

    #[test]
    fn marks_and_offsets_come_back() {
        let mut roster = Roster::default();
        let entries =
            [(Mark::of_hash(u64::MAX), SEGMENT_BYTES_MAX - UNIT_BYTES), (Mark::of_hash(1 << 20), 0)];
        entries.iter().for_each(|(mark, offset)| roster.push(*mark, *offset));
        assert_eq!(roster.iter().collect::<Vec<_>>(), entries);
        assert_eq!(roster.emptied().iter().count(), 0);
    }
}
