//! What a program holds.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;

use crate::builder::Builder;
use crate::counters::{Count, Stats};
use crate::entry::{Entry, Fetched};
use crate::error::{Error, ErrorKind};
use crate::flight::Boarding;
use crate::inner::Inner;
use crate::value::Value;

/// A concurrent cache in volatile memory. Cloning gives another handle to the same cache.
///
/// It has no size: it grows as long as there is memory that nobody needs, and when memory is short the kernel takes what has not been
/// used, page by page; entries on those pages are gone, and every other entry is as it was. See [the crate](crate).
pub struct Cache<K, V: ?Sized = [u8]> {
    inner: Arc<Inner<K>>,
    value: PhantomData<fn(&V)>,
}

impl<K, V: ?Sized> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), value: PhantomData }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Value + ?Sized> Cache<K, V> {
    /// A cache with default settings.
    ///
    /// # Errors
    /// See [`Builder::build`].
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Settings for a cache.
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }

    pub(crate) fn of(inner: Arc<Inner<K>>) -> Self {
        Self { inner, value: PhantomData }
    }

    /// The value, if it is there: not expired, and with every byte as it was put in. Counts as a use.
    ///
    /// A lookup without a lock, and one exchange in the word of the value's segment; where the segment has been offered to the kernel,
    /// it is taken back first (some ten microseconds).
    #[inline]
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Entry<'_, V>> {
        self.inner.find(key, Count::Yes).map(Entry::new)
    }

    /// As [`get`](Self::get), not counted as a hit or miss.
    #[inline]
    fn find<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Entry<'_, V>> {
        self.inner.find(key, Count::No).map(Entry::new)
    }

    /// Is the value there? As [`get`](Self::get), not counted as a hit or miss.
    pub fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.find(key).is_some()
    }

    /// Puts a copy of the value in. An entry that was there under the key is replaced; who is using its value goes on doing so.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], [`ErrorKind::NoRoom`], [`ErrorKind::Alignment`]. What was there before stays.
    pub fn insert(&self, key: K, value: &V) -> Result<(), Error> {
        self.put(key, value, None).map(drop)
    }

    /// As [`insert`](Self::insert), for a time of its own.
    ///
    /// # Errors
    /// As there.
    pub fn insert_with_time_to_live(&self, key: K, value: &V, time_to_live: Duration) -> Result<(), Error> {
        self.put(key, value, Some(time_to_live)).map(drop)
    }

    fn put(&self, key: K, value: &V, time_to_live: Option<Duration>) -> Result<Entry<'_, V>, Error> {
        let bytes = value.as_bytes();
        let held = self.inner.put(key, bytes.len(), time_to_live, |target| {
            target.copy_from_slice(bytes);
            V::ref_from_bytes(target).map(drop).map_err(|_| Error::new(ErrorKind::Alignment))
        })?;
        Ok(Entry::new(held))
    }

    /// The value, or else the one that `make` makes, which is put in. Of those who miss a key at the same time one makes the value, and
    /// the others wait for it. If it panics, another of them does. (A `make` that asks for its own key waits for itself for ever.)
    pub fn get_or_insert_with<B: Borrow<V>>(&self, key: K, make: impl FnOnce() -> B) -> Fetched<'_, V, B> {
        match self.try_get_or_insert_with(key, || Ok::<B, std::convert::Infallible>(make())) {
            Ok(fetched) => fetched,
            Err(never) => match never {},
        }
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), where making the value can fail. Then another of those who wait tries.
    ///
    /// # Errors
    /// What `make` returned. (That there is no room is no error: see [`Fetched::Made`].)
    pub fn try_get_or_insert_with<B: Borrow<V>, E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<B, E>,
    ) -> Result<Fetched<'_, V, B>, E> {
        if let Some(entry) = self.get(&key) {
            return Ok(Fetched::Cached(entry));
        }
        loop {
            match self.inner.flights.board(self.inner.mark(&key)) {
                Boarding::Wait(landing) => {
                    event_listener::Listener::wait(landing);
                    if let Some(entry) = self.find(&key) {
                        return Ok(Fetched::Cached(entry));
                    }
                }
                Boarding::Lead(flight) => {
                    // Another may have landed since the last lookup.
                    if let Some(entry) = self.find(&key) {
                        return Ok(Fetched::Cached(entry));
                    }
                    let made = make()?;
                    let fetched = self.keep(key, made);
                    drop(flight);
                    return Ok(fetched);
                }
            }
        }
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), where making the value takes a future. Works on any runtime. If the future of
    /// who makes the value is dropped, another of those who wait makes it.
    pub async fn get_or_insert_with_async<B: Borrow<V>, F: Future<Output = B>>(
        &self,
        key: K,
        make: impl FnOnce() -> F,
    ) -> Fetched<'_, V, B> {
        let make = || async { Ok::<B, std::convert::Infallible>(make().await) };
        match self.try_get_or_insert_with_async(key, make).await {
            Ok(fetched) => fetched,
            Err(never) => match never {},
        }
    }

    /// As [`get_or_insert_with_async`](Self::get_or_insert_with_async), where making the value can fail.
    ///
    /// # Errors
    /// What the future returned.
    pub async fn try_get_or_insert_with_async<B: Borrow<V>, E, F: Future<Output = Result<B, E>>>(
        &self,
        key: K,
        make: impl FnOnce() -> F,
    ) -> Result<Fetched<'_, V, B>, E> {
        if let Some(entry) = self.get(&key) {
            return Ok(Fetched::Cached(entry));
        }
        loop {
            match self.inner.flights.board(self.inner.mark(&key)) {
                Boarding::Wait(landing) => {
                    landing.await;
                    if let Some(entry) = self.find(&key) {
                        return Ok(Fetched::Cached(entry));
                    }
                }
                Boarding::Lead(flight) => {
                    if let Some(entry) = self.find(&key) {
                        return Ok(Fetched::Cached(entry));
                    }
                    let made = make().await?;
                    let fetched = self.keep(key, made);
                    drop(flight);
                    return Ok(fetched);
                }
            }
        }
    }

    fn keep<B: Borrow<V>>(&self, key: K, made: B) -> Fetched<'_, V, B> {
        match self.put(key, made.borrow(), None) {
            Ok(entry) => Fetched::Cached(entry),
            Err(_) => Fetched::Made(made),
        }
    }

    /// Takes the entry out. Was there one? Who is using its value goes on doing so.
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.inner.remove(key)
    }

    /// Takes all entries out that were there when it began, and gives their memory back. Linear in their number.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// How many entries the index has. Some may be expired or lost, which nobody has noticed yet.
    pub fn len(&self) -> usize {
        self.inner.index.len()
    }

    /// Is there no entry?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts: see [`Stats`]. Linear in the number of threads and of segments; no lock, no system call.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Cache<K, [u8]> {
    /// Puts a value of `bytes` bytes in that `fill` writes in place, into memory that reads as zeros.
    ///
    /// # Errors
    /// As [`insert`](Self::insert). If `fill` panics, nothing was put in.
    pub fn insert_with(&self, key: K, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        let fill = |target: &mut [u8]| {
            // There may be somebody else's old bytes in it.
            target.fill(0);
            fill(target);
            Ok(())
        };
        self.inner.put(key, bytes, None, fill).map(drop)
    }
}

impl<K, V: ?Sized> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("max_bytes", &self.inner.max_bytes).finish_non_exhaustive()
    }
}
