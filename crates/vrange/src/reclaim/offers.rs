//! How much of what was offered is still there to be had.
//!
//! The kernel lists offered pages among those of files, and goes on listing a page that was rescued until reclaim looks at
//! it. And it takes pages without telling. So what the lists show beyond what this process has offered, and what may not
//! have been taken yet, is no headroom: it was rescued, here or by another process, or it is another process's offer, on
//! which that process counts. To err on this side costs an offer too many; on the other side somebody is killed.

use std::sync::Arc;

use crate::inner::Inner;
use crate::pressure::{Level, LevelKind};

/// Lists lag by some pages a processor.
const NOISE_BYTES: u64 = 1 << 20;

/// What is known of the offers of this process.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// What the last turn has done.
    offered_last_bytes: u64,
    released_last_bytes: u64,
    /// What the kernel's lists show, at the level nearest to this process.
    listed_bytes: u64,
    /// What the kernel may have taken of ranges that are still offered: what has vanished from the lists without our doing.
    taken_bytes: u64,
    /// Bytes in ranges that are offered.
    offered_bytes: u64,
    /// Running totals of all heaps, as last seen.
    lost_seen_bytes: u64,
    rescued_seen_bytes: u64,
    /// Rescued by this process, and perhaps still listed.
    rescued_bytes: u64,
}

impl Offers {
    /// The turn that ends now has offered and released this much.
    pub(crate) fn acted(&mut self, offered_bytes: u64, released_bytes: u64) {
        self.offered_last_bytes = offered_bytes;
        self.released_last_bytes = released_bytes;
    }

    /// Bytes offered by the last turn.
    pub(crate) fn offered_last_bytes(&self) -> u64 {
        self.offered_last_bytes
    }

    /// What the kernel's lists show as offered, at the level nearest to this process.
    pub(crate) fn listed_bytes(&self) -> u64 {
        self.listed_bytes
    }

    /// Takes in a round of readings. `offered_bytes`: the length of the ranges that are offered now.
    pub(crate) fn observe(&mut self, levels: &[Level], heaps: &[Arc<Inner>], offered_bytes: u64) {
        // The machine comes first, then this process's own group.
        let listed = levels.get(1).or(levels.first()).map_or(0, |level| level.lazyfree_bytes);
        let lost = heaps.iter().map(|heap| heap.lost_bytes()).sum();
        let rescued = heaps.iter().map(|heap| heap.rescued_bytes()).sum();
        self.update(listed, offered_bytes, lost, rescued);
    }

    fn update(&mut self, listed: u64, offered: u64, lost: u64, rescued: u64) {
        let expected = (self.listed_bytes + self.offered_last_bytes).saturating_sub(self.released_last_bytes);
        let vanished = expected.saturating_sub(listed);
        if vanished > NOISE_BYTES {
            self.taken_bytes += vanished;
        }
        // What was found lost is no longer offered. (The totals of a heap that is gone go with it.)
        self.taken_bytes =
            self.taken_bytes.saturating_sub(lost.saturating_sub(self.lost_seen_bytes)).min(offered);
        let newly_rescued = rescued.saturating_sub(self.rescued_seen_bytes);
        self.rescued_bytes = (self.rescued_bytes + newly_rescued).min(listed);
        (self.listed_bytes, self.offered_bytes) = (listed, offered);
        (self.lost_seen_bytes, self.rescued_seen_bytes) = (lost, rescued);
    }

    /// How much of what a level's lists show as offered must not be counted on.
    pub(crate) fn stale_bytes(&self, level: &Level) -> u64 {
        let ours = self.offered_bytes - self.taken_bytes;
        let beyond_ours = level.lazyfree_bytes.saturating_sub(ours);
        match level.kind {
            LevelKind::Cgroup { .. } => beyond_ours,
            // On the machine, much may be offered by programs that know nothing of this library.
            LevelKind::Machine => beyond_ours.min(self.rescued_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn stale(offers: &Offers, listed: u64) -> u64 {
        let kind = LevelKind::Cgroup { height: 0 };
        let level = Level {
            kind,
            limit_bytes: 512 * MIB,
            free_bytes: 0,
            headroom_bytes: listed,
            unreclaimable_bytes: 0,
            lazyfree_bytes: listed,
        };
        offers.stale_bytes(&level)
    }

    #[test]
    fn what_was_offered_and_stays_listed_counts() {
        let mut offers = Offers::default();
        offers.acted(100 * MIB, 0);
        offers.update(100 * MIB, 100 * MIB, 0, 0);
        assert_eq!(stale(&offers, 100 * MIB), 0);
    }

    #[test]
    fn what_was_rescued_does_not() {
        let mut offers = Offers::default();
        offers.acted(100 * MIB, 0);
        offers.update(100 * MIB, 100 * MIB, 0, 0);
        offers.acted(0, 0);
        offers.update(100 * MIB, 30 * MIB, 0, 70 * MIB);
        assert_eq!(stale(&offers, 100 * MIB), 70 * MIB);
    }

    #[test]
    fn losses_that_nobody_has_seen_do_not_hide_it() {
        let mut offers = Offers::default();
        offers.acted(200 * MIB, 0);
        offers.update(200 * MIB, 200 * MIB, 0, 0);
        offers.acted(0, 0);
        // The kernel has taken 100 MiB of what is offered; then the other 100 MiB are rescued.
        offers.update(100 * MIB, 200 * MIB, 0, 0);
        offers.update(100 * MIB, 100 * MIB, 0, 100 * MIB);
        assert_eq!(stale(&offers, 100 * MIB), 100 * MIB);
        // Found out, they are offered no longer.
        offers.update(100 * MIB, 0, 100 * MIB, 100 * MIB);
        assert_eq!((stale(&offers, 100 * MIB), offers.taken_bytes), (100 * MIB, 0));
    }

    #[test]
    fn what_we_release_is_not_taken_by_the_kernel() {
        let mut offers = Offers::default();
        offers.acted(200 * MIB, 0);
        offers.update(200 * MIB, 200 * MIB, 0, 0);
        offers.acted(0, 50 * MIB);
        offers.update(150 * MIB, 150 * MIB, 0, 0);
        assert_eq!((stale(&offers, 150 * MIB), offers.taken_bytes), (0, 0));
    }
}
