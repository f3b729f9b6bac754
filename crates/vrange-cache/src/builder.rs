//! Settings of a cache to be made.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use vrange::Heap;

use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use crate::inner::Inner;
use crate::log::Store;
use crate::told::{Cause, Listener};
use crate::value::Value;

/// A segment fills one huge page.
const SEGMENT_BYTES_MAX: u64 = 2 << 20;
/// Smaller ones would be mostly administration.
const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// The least that a cache can do with: 64 of those.
const MAX_BYTES_MIN: u64 = 1 << 20;
/// As many segments a cache with a limit has at least, if it is not very small, for a policy to work with; those that are being filled, and the one that
/// is spare, are that part of the memory that holds little. (Twice as many would hold a hundredth more, and make ranges of their own of values that are
/// half as long, which is slower.)
const SEGMENTS_MIN: u64 = 128;
const _: () =
    assert!(SEGMENT_BYTES_MAX <= crate::index::place::SEGMENT_BYTES_MAX as u64, "each unit has a place");

/// Settings of a cache to be made. See [`Cache::builder`].
#[must_use = "a builder makes nothing until `build` is called"]
pub struct Builder<K, V: ?Sized> {
    heap: Option<Heap>,
    name: String,
    max_bytes: Option<u64>,
    time_to_live: Option<Duration>,
    listener: Option<Listener<K>>,
    value: PhantomData<fn(&V)>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Value + ?Sized> Builder<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            heap: None,
            name: "cache".to_owned(),
            max_bytes: None,
            time_to_live: None,
            listener: None,
            value: PhantomData,
        }
    }

    /// A name for people, which tools show. Default: `cache`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The most memory that values may take, in bytes; 1 MiB at least. What finds and evicts them comes on top. Default: none, the
    /// cache takes what nobody needs.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How long an entry is good for, unless it is put in with another time. Default: for ever.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = Some(time_to_live);
        self
    }

    /// Is told of each entry that went, and why, by the thread that noticed, with no lock held: it may use the cache. (One that puts an
    /// entry in for each that was evicted may not come to an end.) Keys are cloned at each insertion. Default: nobody.
    pub fn listener(mut self, listener: impl Fn(&K, Cause) + Send + Sync + 'static) -> Self
    where
        K: Clone,
    {
        self.listener = Some(Listener { tell: Box::new(listener), clone_key: K::clone });
        self
    }

    /// The heap from which the cache takes its memory: for a reserve of one's own, or a reclaimer that the program drives. Default:
    /// one of its own.
    pub fn heap(mut self, heap: Heap) -> Self {
        self.heap = Some(heap);
        self
    }

    /// Makes the cache. Takes no memory for values yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSettings`]: the most memory is less than 1 MiB. [`ErrorKind::Unsupported`]: the kernel's page size.
    pub fn build(self) -> Result<Cache<K, V>, Error> {
        if self.max_bytes.is_some_and(|max| max < MAX_BYTES_MIN) {
            return Err(Error::new(ErrorKind::InvalidSettings));
        }
        let segment_bytes = self.max_bytes.map_or(SEGMENT_BYTES_MAX, |max| {
            let share = (max / SEGMENTS_MIN).max(1);
            (1 << share.ilog2()).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
        });
        let heap = match self.heap {
            Some(heap) => heap,
            None => Heap::builder()
                .name(self.name)
                .build()
                .map_err(|error| Error::from_heap(ErrorKind::Unsupported, error))?,
        };
        let segment_bytes = usize::try_from(segment_bytes).expect("2 MiB at most");
        let store = Store::new(heap, segment_bytes);
        Ok(Cache::of(Arc::new(Inner::new(store, self.max_bytes, self.time_to_live, self.listener))))
    }
}
