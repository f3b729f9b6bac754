//! moka 0.12, its cache for threads.

use std::sync::Arc;

use ahash::RandomState;
use moka::sync::Cache;

use crate::bench::cache::peer::{self, Look, Peer, Tally, compiled_for_itself};
use crate::failure::Failure;

/// A hit clones the value, which is one count.
#[derive(Debug)]
pub(crate) struct Moka {
    cache: Cache<u64, Arc<[u8]>, RandomState>,
}

impl Moka {
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        let weigh = |_: &u64, value: &Arc<[u8]>| u32::try_from(value.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(weigh)
            .build_with_hasher(RandomState::new());
        Self { cache }
    }
}

impl Peer for Moka {
    fn get<T>(&self, key: u64, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.cache.get(&key).map(|value| read(&value))
    }

    fn insert(&self, key: u64, value: &[u8]) -> Result<(), Failure> {
        self.cache.insert(key, Arc::from(value));
        Ok(())
    }

    fn settle(&self) {
        self.cache.run_pending_tasks();
    }

    fn entries(&self) -> u64 {
        self.cache.entry_count()
    }

    compiled_for_itself!();
}
