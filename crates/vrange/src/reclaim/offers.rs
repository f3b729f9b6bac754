//! How much of what was offered is still there to be had.
//!
//! The kernel lists offered pages among those of files, and goes on listing a page that was rescued until reclaim looks at
//! it. And it takes pages without telling. So what the lists show beyond what this process has offered, and what may not
//! have been taken yet, is no headroom: it was rescued, here or by another process, or it is another process's offer, on
//! which that process counts. To err on this side costs an offer too many; on the other side somebody is killed.

use std::sync::Arc;

use super::pool::Pool;
use crate::pressure::{Level, LevelKind};

/// Lists lag by some pages a processor.
const NOISE_BYTES: u64 = 1 << 20;

/// What is known of the offers of this process.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// What the last turn has offered.
    offered_last_bytes: u64,
    /// What the kernel's lists show, at the level nearest to this process.
    listed_bytes: u64,
    /// What the kernel may have taken of ranges that are still offered: what has vanished from the lists without our doing.
    taken_bytes: u64,
    /// Bytes in ranges that are offered.
    offered_bytes: u64,
    /// How much of that is free memory.
    offered_free_bytes: u64,
    /// What has vanished from the lists, or come to them, without our doing and is not counted yet: positive if vanished.
    drift_bytes: i64,
    /// Running totals of all heaps, as last seen.
    seen: Totals,
    /// Rescued by this process, and perhaps still listed.
    rescued_bytes: u64,
}

/// Running totals of all heaps, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    lost: u64,
    rescued: u64,
    /// By this process, whoever in it.
    dropped: u64,
}

impl Offers {
    /// The turn that ends now has offered this much.
    pub(crate) fn acted(&mut self, offered_bytes: u64) {
        self.offered_last_bytes = offered_bytes;
    }

    /// Bytes offered by the last turn.
    pub(crate) fn offered_last_bytes(&self) -> u64 {
        self.offered_last_bytes
    }

    /// What the kernel's lists show as offered, at the level nearest to this process.
    pub(crate) fn listed_bytes(&self) -> u64 {
        self.listed_bytes
    }

    /// So much is offered, all of it free memory.
    #[cfg(test)]
    pub(crate) fn of_free_memory(bytes: u64) -> Self {
        Self { offered_bytes: bytes, offered_free_bytes: bytes, ..Self::default() }
    }

    /// How much free memory is offered and may still be there: what is no headroom any more once its owner takes it back.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.offered_free_bytes.min(self.offered_bytes - self.taken_bytes)
    }

    /// Takes in a round of readings. `offered_bytes`: the length of the ranges that are offered now, and of those of free memory.
    pub(crate) fn observe(
        &mut self,
        levels: &[Level],
        pools: &[Arc<dyn Pool>],
        (offered_bytes, free_bytes): (u64, u64),
    ) {
        self.offered_free_bytes = free_bytes;
        // The machine comes first, then this process's own group.
        let listed = levels.get(1).or(levels.first()).map_or(0, |level| level.lazyfree_bytes);
        let totals = Totals {
            lost: pools.iter().map(|pool| pool.lost_bytes()).sum(),
            rescued: pools.iter().map(|pool| pool.rescued_bytes()).sum(),
            dropped: pools.iter().map(|pool| pool.dropped_bytes()).sum(),
        };
        self.update(listed, offered_bytes, totals);
    }

    fn update(&mut self, listed: u64, offered: u64, totals: Totals) {
        // (The totals of a heap that is gone go with it.)
        let dropped = totals.dropped.saturating_sub(self.seen.dropped);
        let expected = (self.listed_bytes + self.offered_last_bytes).saturating_sub(dropped);
        let vanished = signed(expected) - signed(listed);
        // The kernel may take little between two readings, so what is below the noise is kept and not forgotten.
        self.drift_bytes = (self.drift_bytes + vanished).max(-signed(NOISE_BYTES));
        if self.drift_bytes > signed(NOISE_BYTES) {
            self.taken_bytes += self.drift_bytes.unsigned_abs();
            self.drift_bytes = 0;
        }
        // What was found lost is no longer offered.
        let lost = totals.lost.saturating_sub(self.seen.lost);
        self.taken_bytes = self.taken_bytes.saturating_sub(lost).min(offered);
        let rescued = totals.rescued.saturating_sub(self.seen.rescued);
        self.rescued_bytes = (self.rescued_bytes + rescued).min(listed);
        (self.listed_bytes, self.offered_bytes) = (listed, offered);
        self.seen = totals;
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

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn totals(lost: u64, rescued: u64, dropped: u64) -> Totals {
        Totals { lost, rescued, dropped }
    }

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
        offers.acted(100 * MIB);
        offers.update(100 * MIB, 100 * MIB, totals(0, 0, 0));
        assert_eq!(stale(&offers, 100 * MIB), 0);
    }

    #[test]
    fn what_was_rescued_does_not() {
        let mut offers = Offers::default();
        offers.acted(100 * MIB);
        offers.update(100 * MIB, 100 * MIB, totals(0, 0, 0));
        offers.acted(0);
        offers.update(100 * MIB, 30 * MIB, totals(0, 70 * MIB, 0));
        assert_eq!(stale(&offers, 100 * MIB), 70 * MIB);
    }

    #[test]
    fn free_memory_that_the_kernel_has_taken_is_gone() {
        let mut offers = Offers::of_free_memory(200 * MIB);
        offers.listed_bytes = 200 * MIB;
        assert_eq!(offers.free_bytes(), 200 * MIB);
        offers.update(80 * MIB, 200 * MIB, totals(0, 0, 0));
        assert_eq!(offers.free_bytes(), 80 * MIB);
    }

    #[test]
    fn losses_that_nobody_has_seen_do_not_hide_it() {
        let mut offers = Offers::default();
        offers.acted(200 * MIB);
        offers.update(200 * MIB, 200 * MIB, totals(0, 0, 0));
        offers.acted(0);
        // The kernel has taken 100 MiB of what is offered; then the other 100 MiB are rescued.
        offers.update(100 * MIB, 200 * MIB, totals(0, 0, 0));
        offers.update(100 * MIB, 100 * MIB, totals(0, 100 * MIB, 0));
        assert_eq!(stale(&offers, 100 * MIB), 100 * MIB);
        // Found out, they are offered no longer.
        offers.update(100 * MIB, 0, totals(100 * MIB, 100 * MIB, 0));
        assert_eq!((stale(&offers, 100 * MIB), offers.taken_bytes), (100 * MIB, 0));
    }

    #[test]
    fn what_we_release_is_not_taken_by_the_kernel() {
        let mut offers = Offers::default();
        offers.acted(200 * MIB);
        offers.update(200 * MIB, 200 * MIB, totals(0, 0, 0));
        offers.acted(0);
        offers.update(150 * MIB, 150 * MIB, totals(0, 0, 50 * MIB));
        assert_eq!((stale(&offers, 150 * MIB), offers.taken_bytes), (0, 0));
    }

    #[test]
    fn what_the_kernel_takes_slowly_is_noticed_too() {
        let mut offers = Offers::default();
        offers.acted(200 * MIB);
        offers.update(200 * MIB, 200 * MIB, totals(0, 0, 0));
        offers.acted(0);
        // 100 MiB, by less at a time than the noise.
        for step in 1..=400 {
            offers.update(200 * MIB - step * MIB / 4, 200 * MIB, totals(0, 0, 0));
        }
        offers.update(100 * MIB, 100 * MIB, totals(0, 100 * MIB, 0));
        assert!(stale(&offers, 100 * MIB) >= 98 * MIB, "{offers:?}");
    }

    #[test]
    fn noise_up_and_down_adds_up_to_nothing() {
        let mut offers = Offers::default();
        offers.acted(200 * MIB);
        offers.update(200 * MIB, 200 * MIB, totals(0, 0, 0));
        offers.acted(0);
        for step in 0..1000 {
            offers.update(200 * MIB - step % 2 * MIB / 2, 200 * MIB, totals(0, 0, 0));
        }
        assert_eq!(offers.taken_bytes, 0);
    }
}
