//! foyer 0.22, its cache in memory.

use ahash::RandomState;
use foyer_memory::{Cache, CacheProperties, EvictionConfig};

use crate::bench::cache::peer::{self, Look, Peer, Tally, compiled_for_itself};
use crate::failure::Failure;

/// A hit holds the entry, which has a count of its own: the value needs none.
#[derive(Debug)]
pub(crate) struct Foyer {
    cache: Cache<u64, Box<[u8]>, RandomState, CacheProperties>,
}

impl Foyer {
    #[expect(clippy::borrowed_box, reason = "what weighs is given the value as it is kept")]
    pub(crate) fn new(capacity_bytes: u64, policy: EvictionConfig) -> Self {
        let capacity = usize::try_from(capacity_bytes).unwrap_or(usize::MAX);
        let cache = Cache::builder(capacity)
            .with_weighter(|_: &u64, value: &Box<[u8]>| value.len())
            .with_eviction_config(policy)
            .with_hash_builder(RandomState::new())
            .build();
        Self { cache }
    }
}

impl Peer for Foyer {
    fn get<T>(&self, key: u64, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.cache.get(&key).map(|entry| read(entry.value()))
    }

    fn insert(&self, key: u64, value: &[u8]) -> Result<(), Failure> {
        drop(self.cache.insert(key, value.into()));
        Ok(())
    }

    fn entries(&self) -> u64 {
        u64::try_from(self.cache.entries()).unwrap_or(u64::MAX)
    }

    compiled_for_itself!();
}
