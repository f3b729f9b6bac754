//! Makes room: empties segments, keeps what has proved useful, and grows where there is memory that nobody needs.

use std::hash::Hash;
use std::sync::Arc;

use papaya::Guard;

use super::queues::{Member, Policy};
use crate::error::{Error, ErrorKind};
use crate::index::item::{Item, Location, Packed};
use crate::index::key::{ByMark, Key, Mark};
use crate::index::place::Place;
use crate::index::take_out;
use crate::inner::Inner;
use crate::log::large::Large;
use crate::log::{Claim, Queue};
use crate::told::{Cause, Told};

/// Members of the queues that are looked at for one segment, while nothing has to be given up against the policy's will.
const KEEPING_TRIES: usize = 16;
/// How much more room there has to be than is asked for: other threads take some as well.
const ROOM_FACTOR: u64 = 2;

/// Holds the policy's lock, and a guard of the index.
pub(crate) struct Evictor<'a, 'g, K, G> {
    pub(crate) inner: &'a Inner<K>,
    pub(crate) policy: &'a mut Policy,
    pub(crate) guard: &'g G,
    pub(crate) told: &'a mut Told<'g, K>,
}

/// What is done with the items of a segment that is emptied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Emptying {
    /// Those that were used are kept.
    ByPolicy,
    /// All are kept, if there is room for them: much of the segment is of no use.
    Compaction,
    /// None is kept.
    Everything,
}

impl<'g, K: Hash + Eq, G: Guard> Evictor<'_, 'g, K, G> {
    /// Gives a log another segment, unless another thread has.
    ///
    /// # Errors
    /// There is neither room for another segment nor one that can be emptied.
    pub(crate) fn roll(&mut self, queue: Queue, bytes: usize) -> Result<(), Error> {
        if self.inner.store.has_room(queue, bytes) {
            return Ok(());
        }
        self.inner.ghost.lock().fit(self.inner.index.len());
        let segment = self.fresh_segment(queue)?;
        if self.inner.store.has_room(queue, bytes) {
            // What was kept of the segment before has got this log another one.
            self.set_aside(segment);
        } else {
            self.install(queue, segment);
        }
        Ok(())
    }

    fn install(&mut self, queue: Queue, segment: usize) {
        if let Some(before) = self.inner.store.install(queue, segment) {
            self.policy.push(queue, Member::Segment(before), self.inner.store.segment_bytes);
        }
    }

    /// A segment was put to use and is not needed.
    fn set_aside(&mut self, segment: usize) {
        self.inner.store.segment(segment).seal(Default::default());
        self.policy.warm.push(segment);
    }

    /// A segment that is put to use.
    fn fresh_segment(&mut self, queue: Queue) -> Result<usize, Error> {
        let segment_bytes = self.inner.store.segment_bytes as u64;
        let tries_max = KEEPING_TRIES + 2 * self.policy.len();
        // By large values: to the system, from which it is to be had again, though it does not say so at once.
        let mut given_up = 0;
        for tries in 0..tries_max {
            if let Some(segment) = self.take_warm(queue) {
                if self.policy.spare.is_some() || tries >= KEEPING_TRIES {
                    return Ok(segment);
                }
                self.policy.spare = Some(segment);
            }
            if self.empty_useless() {
                continue;
            }
            if self.may_grow(segment_bytes, given_up)
                && let Some(segment) = self.grow(queue)?
            {
                return Ok(segment);
            }
            let emptying = if tries < KEEPING_TRIES { Emptying::ByPolicy } else { Emptying::Everything };
            match self.give_up_one(emptying) {
                Some(freed) => given_up += freed,
                None => break,
            }
        }
        // Memory is short, and there is nothing to give up: a cache that has a limit keeps it.
        let segment = self.take_warm(queue).or_else(|| self.take_spare(queue));
        match segment {
            Some(segment) => Ok(segment),
            None if self.inner.max_bytes.is_none() => {
                self.grow(queue)?.ok_or_else(|| Error::new(ErrorKind::NoRoom))
            }
            None => Err(Error::new(ErrorKind::NoRoom)),
        }
    }

    /// A segment that has memory and no items. Those that somebody still looks at stay for later.
    fn take_warm(&mut self, queue: Queue) -> Option<usize> {
        let position = (0..self.policy.warm.len())
            .rev()
            .find(|position| self.inner.store.segment(self.policy.warm[*position]).try_begin_use(queue))?;
        Some(self.policy.warm.swap_remove(position))
    }

    fn take_spare(&mut self, queue: Queue) -> Option<usize> {
        let segment = self.policy.spare.take()?;
        self.inner.store.segment(segment).set_queue(queue);
        Some(segment)
    }

    /// May the cache take this much more memory, having given up so much? (That is there, though it is not read yet.)
    fn may_grow(&self, bytes: u64, given_up: u64) -> bool {
        let is_allowed =
            self.inner.max_bytes.is_none_or(|max| self.inner.held_bytes(self.policy) + bytes <= max);
        let is_there =
            given_up >= bytes || self.inner.store.heap.room().is_none_or(|room| room / ROOM_FACTOR >= bytes);
        is_allowed && is_there
    }

    /// Memory that a value could have at the most: what nobody needs, and all that can be given up. `None`: nobody knows.
    fn could_have_bytes(&self) -> Option<u64> {
        let room = self.inner.store.heap.room()?;
        let warm = (self.policy.warm.len() * self.inner.store.segment_bytes) as u64;
        Some(room + warm + self.policy.bytes())
    }

    /// A segment that had no memory.
    fn grow(&mut self, queue: Queue) -> Result<Option<usize>, Error> {
        while let Some(segment) = self.policy.cold.pop() {
            if self.inner.store.segment(segment).try_begin_use(queue) {
                return Ok(Some(segment));
            }
            // Somebody looks at it. It has no memory, but will have it soon enough.
            self.policy.warm.push(segment);
        }
        let added =
            self.inner.store.add_segment().map_err(|error| Error::from_heap(ErrorKind::NoRoom, error))?;
        Ok(added.filter(|segment| self.inner.store.segment(*segment).try_begin_use(queue)))
    }

    /// Makes room for a large value, and claims it. Where there is no limit, as much as it takes is given up at most: how much room there is, is read
    /// from time to time only.
    ///
    /// # Errors
    /// There is none, and nothing that can be given up; or all of it would not be enough, and nothing was given up.
    pub(crate) fn make_room(&mut self, bytes: u64, claim: &mut Claim<'_>) -> Result<(), Error> {
        if self.could_have_bytes().is_some_and(|could_have| bytes > could_have) {
            return Err(Error::new(ErrorKind::NoRoom));
        }
        self.inner.ghost.lock().fit(self.inner.index.len());
        let mut given_up = 0;
        let mut has_room = false;
        let mut in_use = Vec::new();
        for tries in 0..KEEPING_TRIES + 2 * self.policy.len() + self.policy.warm.len() {
            has_room = self.may_grow(bytes, given_up);
            if has_room {
                break;
            }
            if let Some(segment) = self.policy.warm.pop() {
                match self.give_back(segment) {
                    0 => in_use.push(segment),
                    freed => given_up += freed,
                }
                continue;
            }
            if self.empty_useless() {
                continue;
            }
            let emptying = if tries < KEEPING_TRIES { Emptying::ByPolicy } else { Emptying::Everything };
            match self.give_up_one(emptying) {
                Some(freed) => given_up += freed,
                None => break,
            }
        }
        self.policy.warm.append(&mut in_use);
        if !has_room && !self.may_grow(bytes, given_up) {
            return Err(Error::new(ErrorKind::NoRoom));
        }
        // Under the policy's lock: of two threads that want the last room, one gets it.
        claim.set(bytes);
        Ok(())
    }

    /// Gives the memory of a segment without items to the system, unless somebody looks at it. Returns the bytes.
    fn give_back(&mut self, segment: usize) -> u64 {
        if !self.inner.store.segment(segment).release() {
            return 0;
        }
        self.policy.cold.push(segment);
        self.inner.store.segment_bytes as u64
    }

    /// Empties everything, and gives the memory back.
    pub(crate) fn give_up_all(&mut self) {
        for queue in [Queue::Small, Queue::Main] {
            if let Some(segment) = self.inner.store.close(queue) {
                self.policy.push(queue, Member::Segment(segment), self.inner.store.segment_bytes);
            }
        }
        for _ in 0..self.policy.len() {
            let _ = self.give_up_one(Emptying::Everything);
        }
        if let Some(segment) = self.take_spare(Queue::Small) {
            self.set_aside(segment);
        }
        for segment in std::mem::take(&mut self.policy.warm) {
            if self.give_back(segment) == 0 {
                self.policy.warm.push(segment);
            }
        }
    }

    /// Empties a segment of which nothing is of use any more. False: there is none.
    fn empty_useless(&mut self) -> bool {
        let found = self.take_least(1);
        if let Some((queue, segment)) = found {
            self.empty(segment, queue, Emptying::Compaction);
        }
        found.is_some()
    }

    /// Empties one segment, or drops one large value. Returns the bytes that the system has back; `None`: there was nothing.
    fn give_up_one(&mut self, emptying: Emptying) -> Option<u64> {
        let segment_bytes = self.inner.store.segment_bytes;
        if emptying == Emptying::ByPolicy
            && let Some((queue, segment)) = self.take_least(segment_bytes / 2)
        {
            self.empty(segment, queue, Emptying::Compaction);
            return Some(0);
        }
        let queue = self.policy.next_queue();
        match self.policy.pop(queue, segment_bytes) {
            Some(Member::Segment(segment)) => {
                self.empty(segment, queue, emptying);
                Some(0)
            }
            Some(Member::Own(mark, large, bytes)) => Some(
                large.upgrade().map_or(0, |large| self.give_up_large(queue, mark, &large, bytes, emptying)),
            ),
            None => None,
        }
    }

    /// The segment with the least that is still of use, if that is less than `bytes_max`.
    fn take_least(&mut self, bytes_max: usize) -> Option<(Queue, usize)> {
        let store = &self.inner.store;
        let worth_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        self.policy.take_least(store.segment_bytes, worth_max, |segment| {
            let segment = store.segment(segment);
            if segment.is_quiet() { segment.live_bytes() } else { u32::MAX }
        })
    }

    /// Takes all items out of a segment: some are moved elsewhere, the others end.
    fn empty(&mut self, number: usize, queue: Queue, emptying: Emptying) {
        let segment = self.inner.store.segment(number);
        if !segment.is_quiet() {
            // Somebody is about to put something into it.
            self.policy.push(queue, Member::Segment(number), self.inner.store.segment_bytes);
            return;
        }
        let has_losses = segment.pin_whole();
        let roster = std::mem::take(&mut *segment.roster().lock());
        for (mark, offset) in roster.iter() {
            let found = self.inner.index.get_key_value(&ByMark(mark), self.guard);
            let Some((key, item)) = found else { continue };
            let Location::Packed(packed) = &item.location else { continue };
            let place = packed.place();
            if !place.is_same_place(Place::new(number, segment.version(), offset)) {
                continue;
            }
            let cause = if self.inner.clock.is_past(item.deadline) {
                Cause::Expired
            } else if has_losses && segment.has_lost(offset, packed.bytes()) {
                Cause::Purged
            } else if self.keep(mark, packed, place, queue, emptying) {
                continue;
            } else {
                Cause::Evicted
            };
            self.take_out(key, item, cause);
            if cause == Cause::Evicted && queue == Queue::Small && emptying == Emptying::ByPolicy {
                self.inner.ghost.lock().insert(mark);
            }
        }
        *segment.roster().lock() = roster.emptied();
        // Of the pages that were never written, such as those at the end, none is lost.
        let is_mostly_lost = has_losses && segment.lost_pages() * 2 > segment.pages();
        // SAFETY: the pin from above; bytes were reached through it in `keep` only.
        unsafe { segment.end_use() };
        // To use it again would take memory anew: whether that is to be had is another question.
        if !(is_mostly_lost && self.give_back(number) > 0) {
            self.policy.warm.push(number);
        }
    }

    /// Moves a value elsewhere if it is worth it and there is room.
    fn keep(&mut self, mark: Mark, packed: &Packed, place: Place, queue: Queue, emptying: Emptying) -> bool {
        let (is_kept, target, uses) = match (emptying, queue) {
            (Emptying::Everything, _) => return false,
            (Emptying::Compaction, _) => (true, queue, place.uses()),
            // Used again since it was put in.
            (Emptying::ByPolicy, Queue::Small) => (place.uses() > 0, Queue::Main, 0),
            (Emptying::ByPolicy, Queue::Main) => {
                (place.uses() > 0, Queue::Main, place.uses().saturating_sub(1))
            }
        };
        is_kept && self.relocate(mark, packed, place, target, uses)
    }

    /// Moves a value into a log. False: there is no room.
    fn relocate(&mut self, mark: Mark, packed: &Packed, from: Place, target: Queue, uses: u8) -> bool {
        let store = &self.inner.store;
        let reservation = match store.reserve(target, mark, packed.bytes()) {
            Some(reservation) => reservation,
            None => {
                let Some(spare) = self.take_spare(target) else { return false };
                self.install(target, spare);
                let Some(reservation) = store.reserve(target, mark, packed.bytes()) else { return false };
                reservation
            }
        };
        let source = store.segment(from.segment()).address(from.offset());
        let target = reservation.segment.address(reservation.place.offset());
        // SAFETY: the source is pinned by `empty`, in the version of the item, and is not written to; the target was reserved for this
        // value, and nobody knows of it yet. They are different segments.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target.as_ptr(), packed.bytes()) };
        if packed.relocate(from, reservation.place.with_uses(uses)) {
            reservation.keep();
        }
        true
    }

    /// Drops a large value, or puts one that was used into the main queue. Returns the bytes that the system has back.
    fn give_up_large(
        &mut self,
        queue: Queue,
        mark: Mark,
        large: &Arc<Large>,
        bytes: u64,
        emptying: Emptying,
    ) -> u64 {
        let found = self.inner.index.get_key_value(&ByMark(mark), self.guard);
        let of_large = found.filter(|(_, item)| match &item.location {
            Location::Own(of_item) => Arc::ptr_eq(of_item, large),
            Location::Packed(_) => false,
        });
        let Some((key, item)) = of_large else {
            // Its item is out of the index; or it cannot be found, since another key has its mark. Then whoever asks for it finds
            // it lost, and takes it out.
            large.end();
            return 0;
        };
        let uses = large.uses();
        if self.inner.clock.is_past(item.deadline) {
            self.take_out(key, item, Cause::Expired);
        } else if emptying != Emptying::Everything && uses > 0 {
            large.set_uses(if queue == Queue::Small { 0 } else { uses - 1 });
            let member = Member::Own(mark, Arc::downgrade(large), bytes);
            self.policy.push(Queue::Main, member, self.inner.store.segment_bytes);
            return 0;
        } else {
            self.take_out(key, item, Cause::Evicted);
            if queue == Queue::Small {
                self.inner.ghost.lock().insert(mark);
            }
        }
        bytes
    }

    fn take_out(&mut self, key: &'g Key<K>, item: &'g Item, cause: Cause) {
        if take_out(&self.inner.index, &ByMark(key.mark), item, self.guard) {
            self.inner.end(&key.key, item, cause, self.told);
        }
    }
}
