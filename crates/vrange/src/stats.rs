//! Everything is counted. Nothing that is counted on the way of a pin or unpin is shared between threads: what is pinned or
//! volatile now is found by looking at the ranges, and only what takes a system call anyway adds to a counter.

use vrange_os::PAGE_BYTES;

use crate::range::slots::SlotTable;
use crate::range::state::Phase;
use crate::sync::{AtomicU64, Ordering};

/// Running totals of a heap, in pages.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Pages of the ranges that are not empty, now.
    held: AtomicU64,
    offered: AtomicU64,
    rescued: AtomicU64,
    lost: AtomicU64,
    released: AtomicU64,
    /// Pages of ranges that were dropped while they were offered.
    retired: AtomicU64,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            held: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            rescued: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            released: AtomicU64::new(0),
            retired: AtomicU64::new(0),
        }
    }

    /// A range of `pages` pages was empty and is pinned now.
    pub(crate) fn filled(&self, pages: usize) {
        add(&self.held, pages);
    }

    /// A range of `pages` pages has become empty, or is gone.
    pub(crate) fn emptied(&self, pages: usize) {
        // Relaxed: a count orders nothing.
        self.held.fetch_sub(pages as u64, Ordering::Relaxed);
    }

    /// Bytes of the ranges that are not empty, now.
    pub(crate) fn held_bytes(&self) -> u64 {
        // Relaxed: a count orders nothing.
        Pages(self.held.load(Ordering::Relaxed)).bytes()
    }

    /// The running totals.
    pub(crate) fn totals(&self) -> Totals {
        // Relaxed: a count orders nothing.
        let total = |counter: &AtomicU64| Pages(counter.load(Ordering::Relaxed));
        Totals {
            offered: total(&self.offered),
            rescued: total(&self.rescued),
            lost: total(&self.lost),
            released: total(&self.released),
        }
    }

    pub(crate) fn offered(&self, pages: usize) {
        add(&self.offered, pages);
    }

    pub(crate) fn rescued(&self, pages: usize) {
        add(&self.rescued, pages);
    }

    /// Running total in bytes.
    pub(crate) fn lost_bytes(&self) -> u64 {
        // Relaxed: a count orders nothing.
        Pages(self.lost.load(Ordering::Relaxed)).bytes()
    }

    /// Running total in bytes.
    pub(crate) fn rescued_bytes(&self) -> u64 {
        // Relaxed: a count orders nothing.
        Pages(self.rescued.load(Ordering::Relaxed)).bytes()
    }

    /// Running total in bytes of what was dropped, by whatever way.
    pub(crate) fn dropped_bytes(&self) -> u64 {
        // Relaxed: counts order nothing.
        let pages = self.released.load(Ordering::Relaxed) + self.retired.load(Ordering::Relaxed);
        Pages(pages).bytes()
    }

    pub(crate) fn lost(&self, pages: usize) {
        add(&self.lost, pages);
    }

    pub(crate) fn released(&self, pages: usize) {
        add(&self.released, pages);
    }

    pub(crate) fn retired(&self, offered_pages: usize) {
        add(&self.retired, offered_pages);
    }
}

/// [`Counters`] at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) offered: Pages,
    pub(crate) rescued: Pages,
    pub(crate) lost: Pages,
    pub(crate) released: Pages,
}

fn add(counter: &AtomicU64, pages: usize) {
    // Relaxed: a count orders nothing.
    counter.fetch_add(pages as u64, Ordering::Relaxed);
}

/// A number of pages, also in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages(u64);

impl Pages {
    pub(crate) const fn new(pages: usize) -> Self {
        Self(pages as u64)
    }

    /// As many whole pages as fit into `bytes`.
    pub(crate) const fn of_bytes(bytes: u64) -> Self {
        Self(bytes / PAGE_BYTES as u64)
    }

    /// The number of pages.
    pub const fn pages(self) -> u64 {
        self.0
    }

    /// The same in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * PAGE_BYTES as u64
    }
}

/// Ranges in one phase, at the moment of the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// How many ranges.
    pub ranges: u64,
    /// Their length, whether or not all of it is in memory.
    pub pages: Pages,
}

/// What a heap holds now and what has happened to it since it was made. Taken by [`Heap::stats`](crate::Heap::stats).
///
/// The kernel discards pages without telling anybody, so `lost` and `rescued` grow when a range is pinned or released, not
/// when its pages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Ranges with nothing in them: new, or released.
    pub empty: Now,
    /// Ranges in use.
    pub pinned: Now,
    /// Ranges marked volatile and not offered: the kernel cannot take them yet.
    pub marked: Now,
    /// Ranges offered to the kernel, which may have taken pages of them.
    pub offered_now: Now,
    /// Ranges that were being offered, rescued or released at this moment.
    pub in_transit: Now,
    /// Pages in memory that were handed to the kernel, each time counted anew. Those that held only zeros are neither rescued
    /// nor lost afterwards, and neither are those of a range that is dropped.
    pub offered: Pages,
    /// Offered pages that were pinned again intact.
    pub rescued: Pages,
    /// Offered pages that the kernel had discarded: the counter that the RFC of 2012 put into `/proc/vmstat`
    /// (`pgvolatile`).
    pub lost: Pages,
    /// Pages in memory that were dropped by request, by a limit, or ahead of need.
    pub released: Pages,
}

impl Stats {
    /// Looks at each range and reads the totals. O(ranges), no system call, no lock.
    pub(crate) fn take(table: &SlotTable, counters: &Counters) -> Self {
        let Totals { offered, rescued, lost, released } = counters.totals();
        let mut stats = Self { offered, rescued, lost, released, ..Self::default() };
        for (_, slot) in table.iter() {
            let now = match slot.state.glance().phase() {
                Phase::Free => continue,
                Phase::Empty => &mut stats.empty,
                Phase::Pinned => &mut stats.pinned,
                Phase::Volatile => &mut stats.marked,
                Phase::Offered => &mut stats.offered_now,
                Phase::Offering | Phase::Rescuing | Phase::Releasing => &mut stats.in_transit,
            };
            now.ranges += 1;
            now.pages.0 += slot.pages() as u64;
        }
        stats
    }
}
