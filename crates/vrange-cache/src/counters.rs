//! What has happened, counted by each thread for itself.

use thread_local::ThreadLocal;

use crate::sync::{AtomicU64, Ordering};
use crate::told::Cause;

/// The counts of one thread, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    replaced: AtomicU64,
    removed: AtomicU64,
    purged: AtomicU64,
}

/// Hits of one thread, on a cache line of its own, and another that the processor may fetch with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hits(AtomicU64);

/// Threads whose hits need no look at thread-local memory.
const FEW: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Usual hits of the first threads, by the number that the guards of the index have for them. No other thread has a thread's number as
    /// long as that lives. (Of those that have ended it is given anew, smallest first, under a lock: who has it next sees the count.)
    few: [Hits; FEW],
    counts: ThreadLocal<Counts>,
}

/// Whether a lookup counts as a hit or miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Yes,
    No,
}

/// Only one thread at a time has the counter, so this needs no exchange.
#[inline]
fn count(counter: &AtomicU64) {
    // Relaxed, both: a count orders nothing.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Counters {
    /// A hit by the thread to which a guard of the index gives this number, and which is the caller.
    #[inline]
    pub(crate) fn hit_by(&self, thread: usize) {
        match self.few.get(thread) {
            Some(hits) => count(&hits.0),
            None => self.hit(),
        }
    }

    #[inline(never)]
    pub(crate) fn hit(&self) {
        count(&self.counts.get_or_default().hits);
    }

    pub(crate) fn miss(&self) {
        count(&self.counts.get_or_default().misses);
    }

    pub(crate) fn ended(&self, cause: Cause) {
        let counts = self.counts.get_or_default();
        count(match cause {
            Cause::Evicted => &counts.evicted,
            Cause::Expired => &counts.expired,
            Cause::Replaced => &counts.replaced,
            Cause::Removed => &counts.removed,
            Cause::Purged => &counts.purged,
        });
    }

    fn hits(&self) -> u64 {
        // Relaxed: see `count`.
        let few: u64 = self.few.iter().map(|hits| hits.0.load(Ordering::Relaxed)).sum();
        few + self.sum(|counts| &counts.hits)
    }

    fn sum(&self, counter: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.counts.iter().map(|counts| counter(counts).load(Ordering::Relaxed)).sum() // Relaxed: see `count`.
    }
}

/// What a cache holds now, and what has happened since it was made. Taken by [`Cache::stats`](crate::Cache::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none, for whatever reason.
    pub misses: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Entries whose time was over, as far as somebody has noticed.
    pub expired: u64,
    /// Entries that another value has taken the place of.
    pub replaced: u64,
    /// Entries that were removed or cleared.
    pub removed: u64,
    /// Entries of which the kernel has taken a page, as far as somebody has noticed.
    pub purged: u64,
    /// Entries in the index. Some of them may be expired or lost, which nobody has noticed yet.
    pub entries: u64,
    /// Bytes of values' memory that the kernel cannot take: in use, or volatile and not offered yet.
    pub resident_bytes: u64,
    /// Bytes of values' memory that were offered to the kernel, which may have taken some.
    pub offered_bytes: u64,
}

impl Stats {
    pub(crate) fn take(counters: &Counters, entries: usize, heap: &vrange::Stats) -> Self {
        Self {
            hits: counters.hits(),
            misses: counters.sum(|counts| &counts.misses),
            evicted: counters.sum(|counts| &counts.evicted),
            expired: counters.sum(|counts| &counts.expired),
            replaced: counters.sum(|counts| &counts.replaced),
            removed: counters.sum(|counts| &counts.removed),
            purged: counters.sum(|counts| &counts.purged),
            entries: entries as u64,
            resident_bytes: heap.pinned.pages.bytes() + heap.marked.pages.bytes(),
            offered_bytes: heap.offered_now.pages.bytes() + heap.in_transit.pages.bytes(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn hits_are_counted_whatever_the_number_of_the_thread() {
        let counters = Counters::default();
        for thread in [0, 1, FEW - 1, FEW, usize::MAX, 0] {
            counters.hit_by(thread);
        }
        counters.hit();
        assert_eq!(counters.hits(), 7);
    }
}
