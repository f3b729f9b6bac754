//! The bytes of the published figures: a header, and two copies of the figures that are written in turns.
//!
//! Everything is a number of eight bytes in the machine's order, or text. Who reads may be another version of the library, so a change
//! of anything below needs another [`VERSION`].

use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

/// The file's size.
pub(super) const FILE_BYTES: usize = 8192;
/// The first eight bytes.
pub(super) const MAGIC: [u8; 8] = *b"vrange\x00S";
/// Of the layout.
pub(super) const VERSION: u64 = 1;
/// Where there is no limit, or nothing was asked for.
pub(crate) const NONE: u64 = u64::MAX;

/// Places where memory may run short.
pub(crate) const LEVELS_MAX: usize = 8;
/// Heaps, the process's marks among them.
pub(crate) const HEAPS_MAX: usize = 15;
/// Classes of age.
pub(crate) const AGES: usize = 6;
/// A name, in UTF-8, with zeros behind it.
pub(crate) const NAME_BYTES: usize = 32;

/// Written once, before anybody can see the file.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) version: u64,
    /// The process, by the number that it knows itself.
    pub(super) process: u64,
    spare: [u64; 5],
}

impl Header {
    pub(super) fn new(process: u32) -> Self {
        Self { magic: MAGIC, version: VERSION, process: process.into(), spare: [0; 5] }
    }
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Figures {
    /// Counts up; 0: never written. The newer copy has the higher.
    pub(super) sequence: u64,
    /// Over everything else, so that a copy in the middle of being written is known.
    pub(super) checksum: u64,
    /// By the clock that goes on evenly, and by the one that people read, in nanoseconds.
    pub(crate) monotonic_ns: u64,
    pub(crate) realtime_ns: u64,
    /// 1: nothing is volatile, and the reclaimer sleeps.
    pub(crate) is_parked: u64,
    /// 1: the system takes offers.
    pub(crate) can_offer: u64,
    /// Bits: see [`Source`](super::Source).
    pub(crate) sources: u64,
    /// Turns of the reclaimer.
    pub(crate) turns: u64,
    /// Waits that a pressure source ended.
    pub(crate) pressure_wakes: u64,
    /// The last of them: 0: none, 1: reclaim, 2: near an OOM kill.
    pub(crate) last_severity: u64,
    /// Used entries below.
    pub(crate) level_count: u64,
    pub(crate) heap_count: u64,
    pub(crate) levels: [LevelRecord; LEVELS_MAX],
    pub(crate) heaps: [HeapRecord; HEAPS_MAX],
    spare: [u64; 28],
}

/// One place where memory may run short. Bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct LevelRecord {
    /// 0: the machine; 1 and up: cgroups, the process's own first.
    pub(crate) height: u64,
    pub(crate) limit_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) headroom_bytes: u64,
    /// Offering begins below this headroom …
    pub(crate) low_bytes: u64,
    /// … and ends above this.
    pub(crate) high_bytes: u64,
}

/// A heap, the marks, or what several heaps add up to.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct HeapRecord {
    pub(crate) name: [u8; NAME_BYTES],
    /// [`HEAP`], [`MARKS`] or [`REST`].
    pub(crate) kind: u64,
    /// Of [`REST`]: how many heaps.
    pub(crate) merged: u64,
    /// 1: an allocator's free memory.
    pub(crate) is_free_memory: u64,
    /// Or [`NONE`].
    pub(crate) limit_bytes: u64,
    pub(crate) empty: NowRecord,
    pub(crate) pinned: NowRecord,
    pub(crate) marked: NowRecord,
    pub(crate) offered_now: NowRecord,
    pub(crate) in_transit: NowRecord,
    pub(crate) offered_bytes: u64,
    pub(crate) rescued_bytes: u64,
    pub(crate) lost_bytes: u64,
    pub(crate) released_bytes: u64,
    /// Bytes of what is volatile or offered, by how long ago it was unpinned.
    pub(crate) age_bytes: [u64; AGES],
}

pub(crate) const HEAP: u64 = 1;
pub(crate) const MARKS: u64 = 2;
pub(crate) const REST: u64 = 3;

/// Ranges in one phase.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct NowRecord {
    pub(crate) ranges: u64,
    pub(crate) bytes: u64,
}

impl NowRecord {
    fn add(&mut self, other: Self) {
        self.ranges = self.ranges.saturating_add(other.ranges);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl HeapRecord {
    /// Sets the name, as much of it as there is room for.
    pub(crate) fn set_name(&mut self, name: &str) {
        let end = floor_char_boundary(name, NAME_BYTES);
        self.name = [0; NAME_BYTES];
        self.name[..end].copy_from_slice(&name.as_bytes()[..end]);
    }

    /// Adds another's figures to these.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.kind = REST;
        self.merged += 1;
        self.limit_bytes = NONE;
        self.empty.add(other.empty);
        self.pinned.add(other.pinned);
        self.marked.add(other.marked);
        self.offered_now.add(other.offered_now);
        self.in_transit.add(other.in_transit);
        let totals = [
            (&mut self.offered_bytes, other.offered_bytes),
            (&mut self.rescued_bytes, other.rescued_bytes),
            (&mut self.lost_bytes, other.lost_bytes),
            (&mut self.released_bytes, other.released_bytes),
        ];
        let ages = self.age_bytes.iter_mut().zip(other.age_bytes);
        for (sum, more) in totals.into_iter().chain(ages) {
            *sum = sum.saturating_add(more);
        }
    }
}

/// The last boundary of a character at or before `at`. (`str::floor_char_boundary` needs Rust 1.91.)
fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

impl Figures {
    /// Nothing yet.
    pub(crate) fn new() -> Box<Self> {
        // All zeros: nothing is counted.
        Box::new(Self::new_zeroed())
    }

    /// Over everything but the checksum itself.
    pub(super) fn sum(&self) -> u64 {
        let rest = &self.as_bytes()[2 * size_of::<u64>()..];
        let (words, _) = rest.as_chunks::<8>();
        // Each step can be undone, so that a difference in one word never vanishes. Nobody is kept from making a sum that fits: who
        // writes the file may write what he likes.
        words.iter().fold(self.sequence ^ 0x6a09_e667_f3bc_c908, |sum, word| {
            (sum ^ u64::from_ne_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }
}

/// Where a copy lies.
pub(super) fn place_of(sequence: u64) -> usize {
    size_of::<Header>() + if sequence.is_multiple_of(2) { 0 } else { size_of::<Figures>() }
}

const _: () = assert!(size_of::<Header>() + 2 * size_of::<Figures>() <= FILE_BYTES, "two copies fit");
const _: () = assert!(size_of::<Header>() == 64, "the layout has a version");
const _: () = assert!(size_of::<Figures>() == 4064, "the layout has a version");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_notices_any_change() {
        let mut figures = Figures::new();
        figures.sequence = 7;
        let sum = figures.sum();
        figures.checksum = sum;
        assert_eq!(figures.sum(), sum, "the checksum is not part of it");
        let bytes = figures.as_bytes().to_vec();
        for at in (0..8).chain(16..bytes.len()) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let changed = Figures::read_from_bytes(&changed).expect("as long as before");
            assert_ne!(changed.sum(), sum, "byte {at}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let mut record = HeapRecord::default();
        record.set_name(&"é".repeat(20));
        assert_eq!(record.name, *"é".repeat(16).as_bytes());
        record.set_name("x".repeat(31).as_str());
        assert_eq!(record.name[31], 0);
        record.set_name(&format!("{}é", "x".repeat(31)));
        assert_eq!(record.name[31], 0, "half of a character is none");
        record.set_name("");
        assert_eq!(record.name, [0; NAME_BYTES]);
    }
}
