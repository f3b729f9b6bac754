//! A cache, as the measurements use it, and the values that are put into it.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// How much of a value a hit reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Look {
    /// The first word and the last.
    Ends,
    /// A byte of each cache line.
    Lines,
}

/// What came of reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) hits: u64,
    /// Hits that returned another value than the one put in.
    pub(super) wrong: u64,
}

/// A cache from keys to values of bytes.
pub(super) trait Peer: Sync {
    /// Reads a value where it lies. None: it is not there.
    fn get<T>(&self, key: u64, read: impl FnOnce(&[u8]) -> T) -> Option<T>
    where
        Self: Sized;

    /// Puts a value in. The cache's copy is its own.
    fn insert(&self, key: u64, value: &[u8]) -> Result<(), Failure>;

    /// Does what the cache has put off.
    fn settle(&self) {}

    /// How many there are.
    fn entries(&self) -> u64;

    /// Reads one key after the other: a loop that is compiled for this cache.
    fn read_all(&self, keys: &[u64], look: Look) -> Tally;

    /// Reads a value and checks it. None: it is not there; false: it is wrong.
    fn check(&self, key: u64, look: Look) -> Option<bool>;
}

/// [`Peer::read_all`] of every cache.
pub(super) fn read_all<P: Peer>(peer: &P, keys: &[u64], look: Look) -> Tally {
    let mut tally = Tally::default();
    for &key in keys {
        match check(peer, key, look) {
            Some(true) => tally.hits += 1,
            Some(false) => tally.wrong += 1,
            None => {}
        }
    }
    tally
}

/// [`Peer::check`] of every cache.
pub(super) fn check<P: Peer>(peer: &P, key: u64, look: Look) -> Option<bool> {
    match look {
        Look::Ends => peer.get(key, |value| ends_are_right(key, value)),
        Look::Lines => peer.get(key, |value| {
            black_box(value.iter().step_by(64).fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
            ends_are_right(key, value)
        }),
    }
}

/// The methods that are the same for all, but compiled for each.
macro_rules! compiled_for_itself {
    () => {
        fn read_all(&self, keys: &[u64], look: Look) -> Tally {
            peer::read_all(self, keys, look)
        }

        fn check(&self, key: u64, look: Look) -> Option<bool> {
            peer::check(self, key, look)
        }
    };
}
pub(super) use compiled_for_itself;

/// Makes values: the key in front, its complement at the end, and no zero in between.
#[derive(Debug)]
pub(super) struct Values {
    value: Vec<u8>,
}

const WORD: usize = size_of::<u64>();

impl Values {
    /// Values of at least two words.
    pub(super) fn of(bytes: usize) -> Self {
        Self { value: vec![0xa5; bytes.max(2 * WORD)] }
    }

    /// The value that belongs to the key.
    pub(super) fn value(&mut self, key: u64) -> &[u8] {
        if let Some(first) = self.value.first_chunk_mut() {
            *first = key.to_le_bytes();
        }
        if let Some(last) = self.value.last_chunk_mut() {
            *last = (!key).to_le_bytes();
        }
        &self.value
    }
}

fn ends_are_right(key: u64, value: &[u8]) -> bool {
    let first = value.first_chunk::<WORD>().map(|word| u64::from_le_bytes(*word));
    let last = value.last_chunk::<WORD>().map(|word| u64::from_le_bytes(*word));
    first == Some(key) && last == Some(!key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_right_for_its_key_only() {
        let mut values = Values::of(64);
        assert_eq!(values.value(7).len(), 64);
        assert!(ends_are_right(7, values.value(7)));
        assert!(!ends_are_right(8, values.value(7)));
        assert!(!ends_are_right(0, &[0; 64]));
        assert!(!ends_are_right(0, &[]));
    }
}
