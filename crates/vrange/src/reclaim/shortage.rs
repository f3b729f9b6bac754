//! Whether memory is short, or was a little while ago, for who takes free memory back.
//!
//! What an allocator takes back is not volatile any more, and counts in full until it is used and freed again, though the
//! allocator may need little of it: mimalloc takes 4 MiB for a block of 100 KiB. So where memory is short it is dropped first,
//! and only what is used comes back. The answer has to be at hand in the allocator, so the reclaimer leaves it here.
//!
//! While the reclaimer sleeps nothing that is in memory is marked, so nothing is taken back that could be dropped, and an old
//! answer does no harm. The mark that comes next wakes it.

use std::time::Duration;

use vrange_os::clock;

use crate::sync::{AtomicU64, Ordering};

/// Peaks of a neighbour come again. What is taken back between them is missing at the next, and by then nothing can be done about it:
/// so a shortage is remembered for as long. To remember it in vain costs what it costs to give memory back at once.
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);

/// A time of [`clock`]. Relaxed everywhere: a hint that orders nothing.
#[derive(Debug)]
pub(crate) struct Shortage {
    until_ticks: AtomicU64,
}

/// That of this process. A child goes on with what its parent knew.
pub(crate) static SHORTAGE: Shortage = Shortage { until_ticks: AtomicU64::new(0) };

impl Shortage {
    /// Memory is short, and counts as short for so many more ticks.
    pub(super) fn note(&self, remembered_ticks: u64) {
        self.until_ticks.store(clock::ticks().saturating_add(remembered_ticks), Ordering::Relaxed); // Relaxed: see `Shortage`.
    }

    /// Is memory short, or was it a little while ago? A load and a look at the clock.
    #[inline]
    pub(crate) fn is_felt(&self) -> bool {
        // Relaxed: see `Shortage`.
        match self.until_ticks.load(Ordering::Relaxed) {
            0 => false,
            until => clock::ticks() < until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_felt_for_a_while() {
        let shortage = Shortage { until_ticks: AtomicU64::new(0) };
        assert!(!shortage.is_felt());
        shortage.note(u64::MAX);
        assert!(shortage.is_felt());
        shortage.note(0);
        assert!(!shortage.is_felt());
    }
}
