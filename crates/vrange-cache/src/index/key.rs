//! How items are found: by key, or by what of the hash a segment's roster keeps.

use std::hash::{BuildHasher, Hash, Hasher};

use equivalent::Equivalent;

/// Bits of a hash that are kept.
const MARK_BITS: u32 = 47;
/// Highest bits of a hash that the index compares before it looks at a key.
const TAG_BITS: u32 = 7;

/// As much of a key's hash as fits beside an offset in a roster's word. The index knows no more of it either, so that an item can be
/// found by its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) const fn of_hash(hash: u64) -> Self {
        Self(hash >> (u64::BITS - MARK_BITS))
    }

    /// Of as many low bits.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << MARK_BITS) - 1))
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// True of one mark in 64.
    #[inline]
    pub(crate) const fn is_sample(self) -> bool {
        self.0.is_multiple_of(64)
    }
}

/// A key in the index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key<K> {
    pub(crate) mark: Mark,
    pub(crate) key: K,
}

impl<K> Hash for Key<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.mark.0);
    }
}

/// Finds the item with this key.
pub(crate) struct ByKey<'a, Q: ?Sized> {
    pub(crate) mark: Mark,
    pub(crate) key: &'a Q,
}

impl<Q: ?Sized> Hash for ByKey<'_, Q> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.mark.0);
    }
}

impl<K, Q: Equivalent<K> + ?Sized> Equivalent<Key<K>> for ByKey<'_, Q> {
    fn equivalent(&self, key: &Key<K>) -> bool {
        self.mark == key.mark && self.key.equivalent(&key.key)
    }
}

/// Finds one item with this mark. Where two keys have the same mark, which with 10 million keys happens to one cache in three, the
/// other is not found this way.
pub(crate) struct ByMark(pub(crate) Mark);

impl Hash for ByMark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

impl<K> Equivalent<Key<K>> for ByMark {
    fn equivalent(&self, key: &Key<K>) -> bool {
        self.0 == key.mark
    }
}

/// Passes on what is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MarkState;

impl BuildHasher for MarkState {
    type Hasher = MarkHasher;

    fn build_hasher(&self) -> MarkHasher {
        MarkHasher(0)
    }
}

/// See [`MarkState`].
#[derive(Debug)]
pub(crate) struct MarkHasher(u64);

impl Hasher for MarkHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("marks are hashed, which are whole words")
    }

    fn write_u64(&mut self, mark: u64) {
        // The index takes the position from the low bits and a tag from the seven highest: neighbours must not have the same.
        self.0 = mark >> (MARK_BITS - TAG_BITS) << (u64::BITS - TAG_BITS) | mark;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
