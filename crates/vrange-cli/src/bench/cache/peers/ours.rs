//! This project's cache.

use vrange::Heap;
use vrange_cache::{Cache, ErrorKind};

use crate::bench::cache::peer::{self, Look, Peer, Tally, compiled_for_itself};
use crate::failure::Failure;

/// A hit pins the value where it lies.
#[derive(Debug)]
pub(crate) struct Vrange {
    cache: Cache<u64>,
}

impl Vrange {
    /// With the most memory that it may take for values, or as large as it likes.
    pub(crate) fn new(max_bytes: Option<u64>) -> Result<Self, Failure> {
        let builder = Cache::builder();
        let builder = match max_bytes {
            Some(bytes) => builder.max_bytes(bytes),
            None => builder,
        };
        builder.build().map(|cache| Self { cache }).map_err(|error| failed("making a cache", &error))
    }

    /// As large as it likes, in memory of this heap.
    pub(crate) fn on(heap: Heap) -> Result<Self, Failure> {
        let cache = Cache::builder().heap(heap).build();
        cache.map(|cache| Self { cache }).map_err(|error| failed("making a cache", &error))
    }
}

impl Peer for Vrange {
    fn get<T>(&self, key: u64, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.cache.get(&key).map(|value| read(&value))
    }

    /// That there is no room is no failure: what is not in a cache is a miss.
    fn insert(&self, key: u64, value: &[u8]) -> Result<(), Failure> {
        match self.cache.insert(key, value) {
            Err(error) if error.kind() != ErrorKind::NoRoom => Err(failed("putting a value in", &error)),
            _ => Ok(()),
        }
    }

    fn entries(&self) -> u64 {
        self.cache.stats().entries
    }

    compiled_for_itself!();
}

fn failed(what: &str, error: &vrange_cache::Error) -> Failure {
    Failure::run(format!("{what}: {error}"))
}
