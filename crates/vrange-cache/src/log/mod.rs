//! Where values lie: in segments that are filled from the front, or, large ones, in ranges of their own.

pub(crate) mod large;
pub(crate) mod roster;
pub(crate) mod segment;
pub(crate) mod turn;

use std::sync::Arc;

use parking_lot::Mutex;
use vrange::{Buffer, Heap};

use self::large::Large;
use self::roster::Roster;
use self::segment::Segment;
use crate::index::key::Mark;
use crate::index::place::{Place, SEGMENTS_MAX, UNIT_BYTES};
use crate::sync::{AtomicU64, Ordering};

/// Pages are what ranges take, and lose.
const PAGE_BYTES: usize = 4096;

/// Which of the two queues of the policy a value is in: each has a log of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// What was put in lately.
    Small,
    /// What has proved useful.
    Main,
}

/// All segments, and the two that are being filled.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) heap: Heap,
    pub(crate) segment_bytes: usize,
    segments: boxcar::Vec<Segment>,
    small: Mutex<Log>,
    main: Mutex<Log>,
    large_bytes: Arc<AtomicU64>,
}

/// The segment that is being filled, if there is one.
#[derive(Debug, Default)]
struct Log {
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    segment: usize,
    /// Offset of the first free byte.
    end: usize,
    roster: Roster,
}

/// Room for one value in a segment, which stays as it is until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) place: Place,
    /// In whole units.
    unit_bytes: u32,
    is_kept: bool,
}

/// Memory that counts for a large value to come. If none comes, it does not count any more.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    total_bytes: &'a AtomicU64,
    bytes: u64,
}

impl Claim<'_> {
    /// So much from now on.
    pub(crate) fn set(&mut self, memory_bytes: u64) {
        // Relaxed, both: a count orders nothing.
        self.total_bytes.fetch_add(memory_bytes, Ordering::Relaxed);
        self.total_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = memory_bytes;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A value's length in whole units.
fn in_units(bytes: usize) -> u32 {
    // Values in segments are shorter than those; one without bytes has a place all the same.
    u32::try_from(bytes.max(1).next_multiple_of(UNIT_BYTES)).expect("shorter than a segment")
}

impl Store {
    pub(crate) fn new(heap: Heap, segment_bytes: usize) -> Self {
        Self {
            heap,
            segment_bytes,
            segments: boxcar::Vec::new(),
            small: Mutex::default(),
            main: Mutex::default(),
            large_bytes: Arc::default(),
        }
    }

    fn log(&self, queue: Queue) -> &Mutex<Log> {
        match queue {
            Queue::Small => &self.small,
            Queue::Main => &self.main,
        }
    }

    #[inline]
    pub(crate) fn segment(&self, number: usize) -> &Segment {
        &self.segments[number]
    }

    /// The segment that an item is in, or was.
    ///
    /// # Safety
    /// The place was read from an item of the index that this is the store of, and is not gone.
    #[inline]
    pub(crate) unsafe fn segment_of(&self, place: Place) -> &Segment {
        debug_assert!(!place.is_gone() && self.segments.get(place.segment()).is_some());
        // SAFETY: places of items are made by `reserve`, of segments that are there, and segments stay as long as the store. The
        // place came with the Acquire of the index or of `Packed::place`, so what was pushed before is seen.
        unsafe { self.segments.get_unchecked(place.segment()) }
    }

    pub(crate) fn segments(&self) -> usize {
        self.segments.count()
    }

    /// Values up to this length are packed into segments: of larger ones, the rest of a segment would be too much to lose at its end.
    pub(crate) fn packed_bytes_max(&self) -> usize {
        self.segment_bytes / 8
    }

    /// Another segment, which nobody has used yet. `None`: as many as can be named exist.
    ///
    /// # Errors
    /// No address space.
    pub(crate) fn add_segment(&self) -> Result<Option<usize>, vrange::Error> {
        if self.segments() >= SEGMENTS_MAX {
            return Ok(None);
        }
        let buffer: Buffer = self.heap.buffer(self.segment_bytes)?;
        Ok(Some(self.segments.push(Segment::new(buffer))))
    }

    /// A claim to memory for a large value, of none so far.
    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim { total_bytes: &self.large_bytes, bytes: 0 }
    }

    /// A value with this range of the heap's, for whose memory there is a claim; pinned.
    pub(crate) fn add_large(&self, buffer: Buffer, claim: Claim<'_>) -> Arc<Large> {
        debug_assert_eq!(claim.bytes, large::memory_bytes(buffer.len()));
        // From here on the value counts.
        std::mem::forget(claim);
        Arc::new(Large::new(buffer, Arc::clone(&self.large_bytes)))
    }

    pub(crate) fn large_bytes(&self) -> u64 {
        self.large_bytes.load(Ordering::Relaxed) // Relaxed: a count orders nothing.
    }

    /// Room for a value in the active segment. `None`: another segment is needed.
    pub(crate) fn reserve(&self, queue: Queue, mark: Mark, bytes: usize) -> Option<Reservation<'_>> {
        let unit_bytes = in_units(bytes);
        let mut log = self.log(queue).lock();
        let active = log.active.as_mut()?;
        let offset = active.end;
        if offset + unit_bytes as usize > self.segment_bytes {
            return None;
        }
        let segment = self.segment(active.segment);
        active.end += unit_bytes as usize;
        active.roster.push(mark, offset);
        segment.begin_write(unit_bytes);
        let place = Place::new(active.segment, segment.version(), offset);
        Some(Reservation { segment, place, unit_bytes, is_kept: false })
    }

    pub(crate) fn has_room(&self, queue: Queue, bytes: usize) -> bool {
        let log = self.log(queue).lock();
        log.active.as_ref().is_some_and(|active| active.end + in_units(bytes) as usize <= self.segment_bytes)
    }

    /// From now on values go into this segment, which was put to use. Returns the one before, sealed.
    pub(crate) fn install(&self, queue: Queue, segment: usize) -> Option<usize> {
        let roster = std::mem::take(&mut *self.segment(segment).roster().lock());
        let before =
            self.log(queue).lock().active.replace(Active { segment, end: 0, roster: roster.emptied() })?;
        self.segment(before.segment).seal(before.roster);
        Some(before.segment)
    }

    /// Seals the active segment, so that it can be emptied like any other.
    pub(crate) fn close(&self, queue: Queue) -> Option<usize> {
        let before = self.log(queue).lock().active.take()?;
        self.segment(before.segment).seal(before.roster);
        Some(before.segment)
    }

    /// The item that was at this place, with this length, is of no use any more.
    pub(crate) fn note_dead(&self, place: Place, bytes: usize) {
        if place.is_gone() {
            return;
        }
        let segment = self.segment(place.segment());
        if segment.version() == place.version() {
            segment.note_dead(in_units(bytes));
        }
    }
}

impl Reservation<'_> {
    /// An item in the index says that the value is here.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.segment.note_dead(self.unit_bytes);
        }
        self.segment.end_write();
    }
}
