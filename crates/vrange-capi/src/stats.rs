//! Counts, as structures that may grow at their ends.

use vrange::raw::RawStats;
use vrange::{Now, Pages, Stats};

/// A number of pages, also in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PageCount {
    /// Pages of 4 KiB.
    pub pages: u64,
    /// The same in bytes.
    pub bytes: u64,
}

impl From<Pages> for PageCount {
    fn from(count: Pages) -> Self {
        Self { pages: count.pages(), bytes: count.bytes() }
    }
}

/// Ranges in one phase, at the moment of the snapshot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RangeCount {
    /// How many ranges.
    pub ranges: u64,
    /// Their length, whether or not all of it is in memory.
    pub length: PageCount,
}

impl From<Now> for RangeCount {
    fn from(now: Now) -> Self {
        Self { ranges: now.ranges, length: now.pages.into() }
    }
}

/// What a heap holds now and what has happened to it since it was made.
///
/// The kernel discards pages without telling anybody, so "lost" and "rescued" grow when a range is pinned or released, not when
/// its pages go.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeapStats {
    /// Now: ranges with nothing in them, new or released.
    pub empty: RangeCount,
    /// Now: ranges in use.
    pub pinned: RangeCount,
    /// Now: ranges that are volatile and not offered; the kernel cannot take them yet.
    pub marked: RangeCount,
    /// Now: ranges offered to the kernel, which may have taken pages of them.
    pub offered_now: RangeCount,
    /// Now: ranges that are being offered, rescued or released at this moment.
    pub in_transit: RangeCount,
    /// In all: pages in memory that were handed to the kernel, each time counted anew.
    pub offered: PageCount,
    /// In all: offered pages that were pinned again intact.
    pub rescued: PageCount,
    /// In all: offered pages that the kernel had discarded.
    pub lost: PageCount,
    /// In all: pages in memory that were dropped by request, by a limit, or ahead of need.
    pub released: PageCount,
}

impl From<Stats> for HeapStats {
    fn from(stats: Stats) -> Self {
        Self {
            empty: stats.empty.into(),
            pinned: stats.pinned.into(),
            marked: stats.marked.into(),
            offered_now: stats.offered_now.into(),
            in_transit: stats.in_transit.into(),
            offered: stats.offered.into(),
            rescued: stats.rescued.into(),
            lost: stats.lost.into(),
            released: stats.released.into(),
        }
    }
}

/// What the marks of the process add up to, and what has become of marked pages.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MarkStats {
    /// Now: marked pages that the kernel cannot take yet.
    pub marked: PageCount,
    /// Now: marked pages that the kernel may have taken.
    pub offered_now: PageCount,
    /// Now: marked pages of which nothing is left; they were never written, or were dropped.
    pub settled: PageCount,
    /// In all: pages in memory that were handed to the kernel, each time counted anew.
    pub offered: PageCount,
    /// In all: offered pages that were unmarked intact.
    pub rescued: PageCount,
    /// In all: offered pages that the kernel had discarded.
    pub lost: PageCount,
    /// In all: pages in memory that were dropped by request or ahead of need.
    pub released: PageCount,
}

impl From<RawStats> for MarkStats {
    fn from(stats: RawStats) -> Self {
        Self {
            marked: stats.marked.into(),
            offered_now: stats.offered_now.into(),
            settled: stats.settled.into(),
            offered: stats.offered.into(),
            rescued: stats.rescued.into(),
            lost: stats.lost.into(),
            released: stats.released.into(),
        }
    }
}
