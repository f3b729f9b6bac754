//! A cache, as all its handles share it, without the type of its values: lookups, insertions, and what ends an entry.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;
use foldhash::fast::RandomState;
use papaya::{Guard, LocalGuard};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::counters::{Count, Counters, Stats};
use crate::entry::Held;
use crate::error::{Error, ErrorKind};
use crate::flight::Flights;
use crate::index::item::{Item, Location, Packed};
use crate::index::key::{ByKey, Key, Mark};
use crate::index::place::Place;
use crate::index::{self, Index, take_out};
use crate::log::large::{self, Large, ReadLarge, Unpublished};
use crate::log::segment::Read;
use crate::log::{Queue, Reservation, Store};
use crate::policy::{Evictor, Ghost, Member, Policy};
use crate::told::{Cause, Listener, Told};

/// See the [module](self).
pub(crate) struct Inner<K> {
    pub(crate) index: Index<K>,
    pub(crate) store: Store,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) flights: Flights,
    /// Locked before a log's lock, never after.
    policy: Mutex<Policy>,
    /// Locked last of all.
    pub(crate) ghost: Mutex<Ghost>,
    listener: Option<Listener<K>>,
    hasher: RandomState,
}

impl<K> Inner<K> {
    pub(crate) fn new(
        store: Store,
        max_bytes: Option<u64>,
        time_to_live: Option<Duration>,
        listener: Option<Listener<K>>,
    ) -> Self {
        Self {
            index: index::empty(),
            store,
            max_bytes,
            time_to_live,
            clock: Clock::start(),
            counters: Counters::default(),
            flights: Flights::default(),
            policy: Mutex::new(Policy::new()),
            ghost: Mutex::new(Ghost::new()),
            listener,
            hasher: RandomState::default(),
        }
    }

    /// Memory that values have, or may have: that of pages that the kernel took is counted until somebody notices.
    pub(crate) fn held_bytes(&self, policy: &Policy) -> u64 {
        let with_memory = self.store.segments() - policy.cold.len();
        (with_memory * self.store.segment_bytes) as u64 + self.store.large_bytes()
    }
}

impl<K: Hash + Eq> Inner<K> {
    #[inline]
    pub(crate) fn mark<Q: Hash + ?Sized>(&self, key: &Q) -> Mark {
        Mark::of_hash(self.hasher.hash_one(key))
    }

    /// Looks for a value, and pins it. No lock: what others see of it is the pin (an exchange in a word of the segment that the value is
    /// in, and another when it is dropped), and the first three uses since the policy looked at the item.
    ///
    /// What is almost always so is here, in a straight line; each other way is a call that is given the guard, and a place for its result:
    /// where ways join to drop the guard or to return, a hit takes longer.
    #[inline]
    pub(crate) fn find<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q, count: Count) -> Option<Held<'_>> {
        let name = ByKey { mark: self.mark(key), key };
        let guard = self.index.guard();
        let Some(item) = self.index.get(&name, &guard) else {
            self.note_miss(guard, count);
            return None;
        };
        let mut found = None;
        match &item.location {
            Location::Packed(packed) if !self.clock.is_past(item.deadline) => {
                let (place, bytes) = (packed.place(), packed.bytes());
                if !place.is_gone() {
                    // SAFETY: the item's, and not gone.
                    let segment = unsafe { self.store.segment_of(place) };
                    segment.prefetch(place.offset(), bytes);
                    if let Read::Pinned = segment.pin_for(place, bytes) {
                        packed.note_use(place);
                        let thread = guard.thread_id();
                        drop(guard);
                        if count == Count::Yes {
                            self.counters.hit_by(thread);
                        }
                        // SAFETY: pinned in the version that the item names, which was published by who wrote it.
                        return Some(unsafe { Held::of_segment(segment, place.offset(), bytes) });
                    }
                }
                self.find_anyhow(&name, guard, &mut found);
            }
            Location::Own(large) if !self.clock.is_past(item.deadline) => {
                let large = Arc::clone(large);
                self.find_own(large, &name, guard, &mut found);
            }
            _ => self.find_anyhow(&name, guard, &mut found),
        }
        self.note_found(found.is_some(), count);
        found
    }

    #[inline(never)]
    fn note_miss(&self, guard: LocalGuard<'_>, count: Count) {
        drop(guard);
        self.note_found(false, count);
    }

    #[inline(never)]
    fn note_found(&self, is_found: bool, count: Count) {
        match (count, is_found) {
            (Count::Yes, true) => self.counters.hit(),
            (Count::Yes, false) => self.counters.miss(),
            (Count::No, _) => {}
        }
    }

    /// The rest of [`find`](Self::find) for a value with a range of its own.
    #[inline(never)]
    fn find_own<'a, Q: Hash + Equivalent<K> + ?Sized>(
        &'a self,
        large: Arc<Large>,
        name: &ByKey<'_, Q>,
        guard: LocalGuard<'_>,
        found: &mut Option<Held<'a>>,
    ) {
        match large.pin() {
            ReadLarge::Pinned => {
                large.note_use();
                // SAFETY: pinned just now, and published by who wrote it.
                *found = Some(unsafe { Held::of_large(large) });
            }
            ReadLarge::Lost | ReadLarge::Crowded => self.find_anyhow(name, guard, found),
        }
    }

    /// As [`find`](Self::find), from the beginning, whatever is the matter with the item.
    #[cold]
    #[inline(never)]
    fn find_anyhow<'a, Q: Hash + Equivalent<K> + ?Sized>(
        &'a self,
        name: &ByKey<'_, Q>,
        guard: LocalGuard<'_>,
        found: &mut Option<Held<'a>>,
    ) {
        *found = self.find_again(name, &guard);
    }

    fn find_again<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        name: &ByKey<'_, Q>,
        guard: &impl Guard,
    ) -> Option<Held<'_>> {
        let mut elsewhere: Option<(*const Item, Place)> = None;
        let was_elsewhere = |seen: Option<(*const Item, Place)>, item: *const Item, place: Place| {
            seen.is_some_and(|(seen, at)| std::ptr::eq(seen, item) && at.is_same_place(place))
        };
        loop {
            let (found, item) = self.index.get_key_value(name, guard)?;
            let cause = if self.clock.is_past(item.deadline) {
                Cause::Expired
            } else {
                match &item.location {
                    Location::Own(large) => match large.pin() {
                        ReadLarge::Pinned => {
                            large.note_use();
                            // SAFETY: pinned just now, and published by who wrote it.
                            return Some(unsafe { Held::of_large(Arc::clone(large)) });
                        }
                        ReadLarge::Lost => Cause::Purged,
                        ReadLarge::Crowded => return None,
                    },
                    Location::Packed(packed) => {
                        let place = packed.place();
                        if place.is_gone() {
                            // It was taken out of the index after we had found it.
                            continue;
                        }
                        // SAFETY: as in `find`.
                        let segment = unsafe { self.store.segment_of(place) };
                        match segment.pin_for(place, packed.bytes()) {
                            Read::Pinned => {
                                packed.note_use(place);
                                // SAFETY: pinned in the version that the item names, which was published by who wrote it.
                                return Some(unsafe {
                                    Held::of_segment(segment, place.offset(), packed.bytes())
                                });
                            }
                            Read::Crowded => return None,
                            Read::Lost if packed.place().is_same_place(place) => Cause::Purged,
                            // A segment is put to a new use when all its items are out of the index or elsewhere. One that could not
                            // be found, since another key has its mark, stays behind.
                            Read::Elsewhere if was_elsewhere(elsewhere, item, place) => Cause::Evicted,
                            Read::Lost | Read::Elsewhere => {
                                elsewhere = Some((item, place));
                                continue;
                            }
                        }
                    }
                }
            };
            if take_out(&self.index, name, item, guard) {
                self.end_alone(&found.key, item, cause);
                return None;
            }
        }
    }

    /// Does what has to be done for an item that the caller has taken out of the index. The listener is told later.
    pub(crate) fn end<'g>(&self, key: &'g K, item: &Item, cause: Cause, told: &mut Told<'g, K>) {
        self.end_untold(item, cause);
        told.push(key, cause);
    }

    /// The same, and tells the listener. No lock is held.
    fn end_alone(&self, key: &K, item: &Item, cause: Cause) {
        self.end_untold(item, cause);
        if let Some(listener) = &self.listener {
            (listener.tell)(key, cause);
        }
    }

    fn end_untold(&self, item: &Item, cause: Cause) {
        match &item.location {
            Location::Packed(packed) => self.store.note_dead(packed.end(), packed.bytes()),
            Location::Own(large) => large.end(),
        }
        self.counters.ended(cause);
    }

    /// Puts a value in that `fill` writes, over whatever was there before, and holds it.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], [`ErrorKind::NoRoom`], or what `fill` says.
    pub(crate) fn put(
        &self,
        key: K,
        bytes: usize,
        time_to_live: Option<Duration>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<Held<'_>, Error> {
        let mark = self.mark(&key);
        if bytes <= self.store.packed_bytes_max() {
            let reservation = self.reserve(mark, bytes)?;
            let address = reservation.segment.address(reservation.place.offset());
            // SAFETY: reserved for this value, of which nobody knows yet, in a segment that the log keeps pinned.
            let target = unsafe { std::slice::from_raw_parts_mut(address.as_ptr(), bytes) };
            fill(target)?;
            reservation.segment.pin_again();
            // SAFETY: pinned just now; written, and published below.
            let held = unsafe { Held::of_segment(reservation.segment, reservation.place.offset(), bytes) };
            let packed_bytes = u32::try_from(bytes).expect("less than a segment");
            let location = Location::Packed(Packed::new(reservation.place, packed_bytes));
            self.publish(key, mark, location, time_to_live, || reservation.keep());
            return Ok(held);
        }
        if self.max_bytes.is_some_and(|max| bytes as u64 > max / 2) {
            return Err(Error::new(ErrorKind::TooLarge));
        }
        // Address space first, which says what a range cannot be: nothing is given up for such a value.
        let buffer = self.store.heap.buffer(bytes).map_err(of_range)?;
        let memory_bytes = large::memory_bytes(bytes);
        let mut claim = self.store.claim();
        self.with_evictor(|evictor| evictor.make_room(memory_bytes, &mut claim))?;
        let large = self.store.add_large(buffer, claim);
        // SAFETY: pinned, and nobody else knows of it.
        let target = unsafe { std::slice::from_raw_parts_mut(large.address().as_ptr(), bytes) };
        // SAFETY: pinned; dropped at the latest when it is not written to any more.
        let held = unsafe { Held::of_large(Arc::clone(&large)) };
        fill(target)?;
        let member = Member::Own(mark, Arc::downgrade(&large), memory_bytes);
        let unpublished = Unpublished::new(Arc::clone(&large));
        self.publish(key, mark, Location::Own(large), time_to_live, || {
            unpublished.keep();
            let queue = self.queue_for(mark);
            self.policy.lock().push(queue, member, self.store.segment_bytes);
        });
        Ok(held)
    }

    /// Where a new value belongs: what was evicted a short time ago has proved useful by coming back.
    fn queue_for(&self, mark: Mark) -> Queue {
        if self.ghost.lock().take(mark) { Queue::Main } else { Queue::Small }
    }

    /// Room for a value in the log that it belongs in.
    fn reserve(&self, mark: Mark, bytes: usize) -> Result<Reservation<'_>, Error> {
        let queue = self.queue_for(mark);
        loop {
            if let Some(reservation) = self.store.reserve(queue, mark, bytes) {
                return Ok(reservation);
            }
            self.with_evictor(|evictor| evictor.roll(queue, bytes))?;
        }
    }

    /// Puts an item into the index, has `keep` note that it is there, and only then tells of the one that it replaces: the listener may
    /// panic. (If a comparison of keys does, the item is not there, and `keep` is dropped.)
    fn publish(
        &self,
        key: K,
        mark: Mark,
        location: Location,
        time_to_live: Option<Duration>,
        keep: impl FnOnce(),
    ) {
        let deadline = self.clock.deadline(time_to_live.or(self.time_to_live));
        // The index hands out the old item, without its key.
        let for_listener = self.listener.as_ref().map(|listener| (listener.clone_key)(&key));
        let guard = self.index.guard();
        // (`compute` would hand out both, but builds tables in which lookups are ten times as long.)
        let replaced = self.index.insert(Key { mark, key }, Item { deadline, location }, &guard);
        keep();
        index::grow_early(&self.index, mark, &guard);
        let Some(item) = replaced else { return };
        let cause = self.cause_unless_expired(item, Cause::Replaced);
        match &for_listener {
            Some(key) => self.end_alone(key, item, cause),
            None => self.end_untold(item, cause),
        }
    }

    /// Why an item goes that somebody has thrown out: that may be no news.
    fn cause_unless_expired(&self, item: &Item, cause: Cause) -> Cause {
        if self.clock.is_past(item.deadline) { Cause::Expired } else { cause }
    }

    pub(crate) fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let guard = self.index.guard();
        let Some((key, item)) = self.index.remove_entry(&ByKey { mark: self.mark(key), key }, &guard) else {
            return false;
        };
        let cause = self.cause_unless_expired(item, Cause::Removed);
        self.end_alone(&key.key, item, cause);
        cause == Cause::Removed
    }

    pub(crate) fn clear(&self) {
        let guard = self.index.guard();
        let mut told = Told::new(self.listener.as_ref());
        for (key, item) in self.index.iter(&guard) {
            if take_out(&self.index, key, item, &guard) {
                let cause = self.cause_unless_expired(item, Cause::Removed);
                self.end(&key.key, item, cause, &mut told);
            }
        }
        told.tell(self.listener.as_ref());
        self.with_evictor(|evictor| evictor.give_up_all());
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::take(&self.counters, self.index.len(), &self.store.heap.stats())
    }

    fn with_evictor<R>(&self, work: impl FnOnce(&mut Evictor<'_, '_, K, LocalGuard<'_>>) -> R) -> R {
        let guard = self.index.guard();
        let mut told = Told::new(self.listener.as_ref());
        let result = {
            let mut policy = self.policy.lock();
            work(&mut Evictor { inner: self, policy: &mut policy, guard: &guard, told: &mut told })
        };
        told.tell(self.listener.as_ref());
        result
    }
}

fn of_range(error: vrange::Error) -> Error {
    match error.kind() {
        vrange::ErrorKind::InvalidSize | vrange::ErrorKind::LimitReached => {
            Error::from_heap(ErrorKind::TooLarge, error)
        }
        _ => Error::from_heap(ErrorKind::NoRoom, error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A value that would be larger than all memory is refused before anything goes for it. `fill` would be the first to touch its memory.
    #[test]
    fn what_can_never_fit_is_refused_and_nothing_goes_for_it() {
        let heap = vrange::Heap::new().expect("a heap");
        let inner = Inner::<u64>::new(Store::new(heap.clone(), 2 << 20), None, None, None);
        let put = |key, bytes: usize, fill: fn(&mut [u8]) -> Result<(), Error>| {
            inner.put(key, bytes, None, fill).map(drop)
        };
        let fill = |target: &mut [u8]| {
            target.fill(1);
            Ok(())
        };
        for key in 0..10 {
            put(key, 1 << 20, fill).expect("ten MiB");
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while heap.room().is_none() {
            assert!(Instant::now() < deadline, "nobody reads how much room there is");
            std::thread::sleep(Duration::from_millis(1));
        }
        for bytes in [1 << 42, 1 << 43] {
            let refused = put(10, bytes, |_| panic!("there is no such memory"));
            assert_eq!(refused.expect_err("terabytes").kind(), ErrorKind::NoRoom);
        }
        assert_eq!(inner.index.len(), 10, "all are there");
        assert_eq!(inner.store.large_bytes(), 10 << 20);
    }
}
