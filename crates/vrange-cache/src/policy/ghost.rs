//! Keys that were evicted lately, without their values: who comes back soon was evicted too early.

use crate::index::key::Mark;

/// Entries in a bucket.
const WAYS: usize = 4;
/// Entries of the smallest table.
const ENTRIES_MIN: usize = 1 << 10;

/// A set of marks that forgets the oldest: buckets of four entries, of which the oldest makes room. Eight bytes an entry. (As in the
/// S3-FIFO paper, section 4.2: a hash table with fingerprints and the time of insertion.)
#[derive(Debug)]
pub(crate) struct Ghost {
    entries: Vec<Entry>,
    /// Counts insertions; entries older than the table has entries are forgotten.
    now: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// 0: none.
    fingerprint: u32,
    since: u32,
}

impl Ghost {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), now: 0 }
    }

    fn bucket(&self, mark: Mark) -> std::ops::Range<usize> {
        let buckets = self.entries.len() / WAYS;
        // The fingerprint has the low bits.
        let bucket = (mark.bits() >> 16) as usize % buckets.max(1);
        bucket * WAYS..(bucket + 1) * WAYS
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn fingerprint(mark: Mark) -> u32 {
        // Never 0.
        mark.bits() as u32 | 1
    }

    /// Makes room for as many, forgetting all, if it has much less or much more.
    pub(crate) fn fit(&mut self, entries: usize) {
        let wanted = entries.max(ENTRIES_MIN).next_power_of_two();
        if wanted > self.entries.len() || wanted * 4 < self.entries.len() {
            self.entries = vec![Entry::default(); wanted];
        }
    }

    pub(crate) fn insert(&mut self, mark: Mark) {
        if self.entries.is_empty() {
            return;
        }
        self.now = self.now.wrapping_add(1);
        let now = self.now;
        let bucket = self.bucket(mark);
        let age = |entry: &Entry| {
            if entry.fingerprint == 0 { u32::MAX } else { now.wrapping_sub(entry.since) }
        };
        if let Some(oldest) = self.entries[bucket].iter_mut().max_by_key(|entry| age(entry)) {
            *oldest = Entry { fingerprint: Self::fingerprint(mark), since: now };
        }
    }

    /// Was it evicted lately? If so it is forgotten, since it is about to come back.
    pub(crate) fn take(&mut self, mark: Mark) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let (now, capacity) = (self.now, self.entries.len());
        let bucket = self.bucket(mark);
        let fingerprint = Self::fingerprint(mark);
        let found = self.entries[bucket].iter_mut().find(|entry| entry.fingerprint == fingerprint);
        found.is_some_and(|entry| {
            let is_recent = (now.wrapping_sub(entry.since) as usize) < capacity;
            *entry = Entry::default();
            is_recent
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn mark(number: u64) -> Mark {
        Mark::of_hash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn what_was_put_in_comes_out_once() {
        let mut ghost = Ghost::new();
        ghost.insert(mark(1));
        assert!(!ghost.take(mark(1)), "no room yet");
        ghost.fit(1);
        ghost.insert(mark(1));
        assert!(!ghost.take(mark(2)));
        assert!(ghost.take(mark(1)));
        assert!(!ghost.take(mark(1)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut ghost = Ghost::new();
        ghost.fit(4096);
        (0..100_000).for_each(|number| ghost.insert(mark(number)));
        let remembered = |range: std::ops::Range<u64>, ghost: &mut Ghost| {
            range.filter(|number| ghost.take(mark(*number))).count()
        };
        assert!(remembered(98_000..100_000, &mut ghost) > 1_600);
        assert_eq!(remembered(0..90_000, &mut ghost), 0);
    }
}
