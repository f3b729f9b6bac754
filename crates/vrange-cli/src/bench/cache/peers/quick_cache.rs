//! `quick_cache` 0.7, its cache for threads.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::bench::cache::peer::{self, Look, Peer, Tally, compiled_for_itself};
use crate::failure::Failure;

/// A hit clones the value, which is one count.
#[derive(Debug)]
pub(crate) struct QuickCache {
    cache: Cache<u64, Arc<[u8]>, Bytes>,
}

#[derive(Clone, Copy, Debug)]
struct Bytes;

impl Weighter<u64, Arc<[u8]>> for Bytes {
    fn weight(&self, _: &u64, value: &Arc<[u8]>) -> u64 {
        u64::try_from(value.len()).unwrap_or(u64::MAX)
    }
}

impl QuickCache {
    /// It asks for the expected number of entries.
    pub(crate) fn new(capacity_bytes: u64, value_bytes: u64) -> Self {
        let entries = usize::try_from(capacity_bytes / value_bytes.max(1)).unwrap_or(usize::MAX);
        Self { cache: Cache::with_weighter(entries, capacity_bytes, Bytes) }
    }
}

impl Peer for QuickCache {
    fn get<T>(&self, key: u64, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.cache.get(&key).map(|value| read(&value))
    }

    fn insert(&self, key: u64, value: &[u8]) -> Result<(), Failure> {
        self.cache.insert(key, Arc::from(value));
        Ok(())
    }

    fn entries(&self) -> u64 {
        u64::try_from(self.cache.len()).unwrap_or(u64::MAX)
    }

    compiled_for_itself!();
}
