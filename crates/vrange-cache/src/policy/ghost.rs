//! Keys that were evicted lately, without their values: who comes back soon was evicted too early.

use crate::index::key::Mark;

/// Entries in a bucket.
const WAYS: usize = 4;
/// One entry for so many of the cache. The paper has as many as the main queue; with fewer, what is popular for long stays better, and what
/// has become popular lately comes in later. (Measured with Zipf's law and skews of 0.7 to 1.1, steady and shifting, with scans and without.)
const SHARE: usize = 4;
/// Entries of the smallest table.
const ENTRIES_MIN: usize = 1 << 10;

/// Parts that the age of an entry is counted in, of as many insertions as the table has entries.
const TICKS: usize = 1024;
const _: () =
    assert!(ENTRIES_MIN >= TICKS && TICKS.is_power_of_two(), "a tick is a whole number of insertions");

/// A set of marks that forgets the oldest: buckets of four entries, of which the oldest makes room. Four bytes an entry. (As in the
/// S3-FIFO paper, section 4.2: a hash table with fingerprints and the time of insertion.)
///
/// Of 10,000 marks that were never put in, less than one is taken for another.
#[derive(Debug)]
pub(crate) struct Ghost {
    entries: Vec<Entry>,
    /// Counts insertions.
    now: usize,
    /// Entries older than so many insertions are forgotten.
    age_max: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// 0: none.
    fingerprint: u16,
    /// In ticks. They begin again after 64 times as many insertions as there are entries; by then others have taken the place.
    since: u16,
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
impl Ghost {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), now: 0, age_max: 0 }
    }

    fn bucket(&self, mark: Mark) -> std::ops::Range<usize> {
        let buckets = self.entries.len() / WAYS;
        // The fingerprint has the low bits.
        let bucket = (mark.bits() >> u16::BITS) as usize % buckets.max(1);
        bucket * WAYS..(bucket + 1) * WAYS
    }

    fn fingerprint(mark: Mark) -> u16 {
        (mark.bits() as u16).max(1)
    }

    /// Insertions in a tick. The table has at least as many entries as there are ticks.
    fn tick(&self) -> usize {
        self.entries.len() / TICKS
    }

    /// Of a cache with so many entries, it remembers about a quarter as many that were evicted last. That makes room for them, forgetting
    /// all, if it has less or much more.
    pub(crate) fn fit(&mut self, entries: usize) {
        self.age_max = entries / SHARE;
        // In buckets that are half full, little is forgotten before its time.
        let wanted = (self.age_max * 2).next_power_of_two().max(ENTRIES_MIN);
        if wanted > self.entries.len() || wanted * 4 < self.entries.len() {
            self.entries = vec![Entry::default(); wanted];
        }
    }

    pub(crate) fn insert(&mut self, mark: Mark) {
        if self.entries.is_empty() {
            return;
        }
        self.now = self.now.wrapping_add(1);
        let since = (self.now / self.tick()) as u16;
        let bucket = self.bucket(mark);
        let age = |entry: &Entry| {
            if entry.fingerprint == 0 { u16::MAX } else { since.wrapping_sub(entry.since) }
        };
        if let Some(oldest) = self.entries[bucket].iter_mut().max_by_key(|entry| age(entry)) {
            *oldest = Entry { fingerprint: Self::fingerprint(mark), since };
        }
    }

    /// Was it evicted lately? If so it is forgotten, since it is about to come back.
    pub(crate) fn take(&mut self, mark: Mark) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let (tick, age_max) = (self.tick(), self.age_max);
        let now = (self.now / tick) as u16;
        let bucket = self.bucket(mark);
        let fingerprint = Self::fingerprint(mark);
        let found = self.entries[bucket].iter_mut().find(|entry| entry.fingerprint == fingerprint);
        found.is_some_and(|entry| {
            let is_recent = usize::from(now.wrapping_sub(entry.since)) * tick < age_max;
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
        ghost.fit(100 * SHARE);
        ghost.insert(mark(1));
        assert!(!ghost.take(mark(2)));
        assert!(ghost.take(mark(1)));
        assert!(!ghost.take(mark(1)));
    }

    #[test]
    fn it_remembers_as_many_as_it_has_to() {
        let mut ghost = Ghost::new();
        for (wanted, first) in [(4096, 0), (5000, 100_000), (2500, 200_000), (100, 300_000)] {
            ghost.fit(wanted * SHARE);
            (first..first + 100_000).for_each(|number| ghost.insert(mark(number)));
            let remembered = |range: std::ops::Range<u64>, ghost: &mut Ghost| {
                range.filter(|number| ghost.take(mark(first + *number))).count()
            };
            let lately = remembered(100_000 - wanted as u64 / 2..100_000, &mut ghost);
            assert!(lately * 100 > wanted * 48, "{lately} of {}", wanted / 2);
            let all = lately + remembered(90_000..100_000, &mut ghost);
            assert!(all * 100 > wanted * 90 && all * 100 < wanted * 102 + 12_800, "{all} of {wanted}");
            // What is older is taken for what is not, now and then.
            assert!(remembered(0..90_000, &mut ghost) < 20);
        }
    }
}
