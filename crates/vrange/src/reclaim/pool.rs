//! What the reclaimer picks from: numbered ranges that lie somewhere, of which it knows nothing but size, age and state.

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;
use vrange_os::{PAGE_BYTES, System};

use crate::inner::Inner;
use crate::marks::{Marks, Sums};
use crate::observe::layout::{self, HeapRecord, NowRecord};
use crate::range::protocol::{Candidate, OfferTotal, REFUSALS_MAX, Released};
use crate::range::sharing;
use crate::range::state::{Generation, Phase, Word};
use crate::settings::{Content, Order};
use crate::stats::{Counters, Now, Stats};
use crate::sync::Ordering;

/// Ranges that are offered between two looks at how much has been reached.
pub(crate) const OFFERED_AT_ONCE: usize = 64;

/// A range that nobody uses, as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unused {
    /// Its number in the pool.
    pub(crate) number: usize,
    /// Its state then.
    pub(crate) seen: Word,
    /// Its length in pages, as far as it is volatile.
    pub(crate) pages: usize,
    /// Those of its pages that the kernel cannot take yet.
    pub(crate) unoffered_pages: usize,
    /// It is released after a while, where the pool's [content](Pool::content) is free memory.
    pub(crate) decays: bool,
}

impl Unused {
    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.pages * PAGE_BYTES) as u64
    }

    /// Is there anything to offer, or to release of what was offered?
    pub(crate) fn is_wanted(&self, phase: Phase) -> bool {
        match phase {
            // An offer that was stopped half-way, by a pin that then did not wait, is still to be finished.
            Phase::Volatile => self.unoffered_pages > 0,
            _ => self.pages > self.unoffered_pages,
        }
    }
}

/// A range of a pool, and how it looked when it was chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) number: usize,
    pub(crate) seen: Word,
}

/// See the [module](self).
pub(crate) trait Pool: Send + Sync + fmt::Debug {
    /// Which ranges go first.
    fn order(&self) -> Order;

    /// What the ranges hold.
    fn content(&self) -> Content;

    /// The headroom that the owner asked for.
    fn reserve_bytes(&self) -> Option<u64>;

    /// Can the calling thread offer anything at all?
    fn can_offer(&self) -> bool;

    /// Calls `visit` with each range that is volatile or offered.
    fn each_unused(&self, visit: &mut dyn FnMut(Unused));

    /// Offers ranges, in the given order, as far as they are still as they were seen.
    fn offer(&self, chosen: &[Chosen]) -> OfferTotal;

    /// Has this range, or a part of it, stayed out of the offer that was just tried?
    fn is_kept(&self, number: usize) -> bool;

    /// Drops not much more than `pages_max` pages of a range, if it is still as it was seen.
    fn release(&self, chosen: Chosen, pages_max: usize) -> Released;

    /// Offers what processes that share it have offered. Returns the pages offered.
    fn offer_what_others_have(&self) -> usize;

    /// Bytes of free memory that are volatile beyond what the owner allows, for the reclaimer to release. A heap keeps its limit by
    /// itself.
    fn excess_bytes(&self) -> u64 {
        0
    }

    /// Is told how much could be had beyond every reserve, at each reading.
    fn note_room(&self, _bytes: u64) {}

    /// Keeps very old ranges from wrapping round to young ones.
    fn cut_ages(&self, now: Generation);

    /// Is any range volatile and not offered, or in transit? Part of the handshake before the reclaimer sleeps.
    fn needs_reclaimer(&self) -> bool;

    /// Bytes taken back from the kernel intact, in all.
    fn rescued_bytes(&self) -> u64;

    /// Bytes found discarded by the kernel, in all.
    fn lost_bytes(&self) -> u64;

    /// Bytes dropped by this process, in all.
    fn dropped_bytes(&self) -> u64;

    /// Fills in what others may see of it, but for the ages. Returns whether there is anything to see.
    fn describe(&self, record: &mut HeapRecord) -> bool;
}

/// What others may see of the running totals.
fn describe_totals(counters: &Counters, record: &mut HeapRecord) {
    let totals = counters.totals();
    record.offered_bytes = totals.offered.bytes();
    record.rescued_bytes = totals.rescued.bytes();
    record.lost_bytes = totals.lost.bytes();
    record.released_bytes = totals.released.bytes();
}

impl From<Now> for NowRecord {
    fn from(now: Now) -> Self {
        Self { ranges: now.ranges, bytes: now.pages.bytes() }
    }
}

impl Inner {
    fn candidate(&self, chosen: Chosen) -> Candidate<'_> {
        Candidate { slot: self.table.get(chosen.number), seen: chosen.seen }
    }
}

impl Pool for Inner {
    fn order(&self) -> Order {
        self.settings.order
    }

    fn content(&self) -> Content {
        self.settings.content
    }

    fn note_room(&self, bytes: u64) {
        // Relaxed: a reading of the past, which orders nothing.
        self.room_bytes.store(bytes, Ordering::Relaxed);
    }

    fn reserve_bytes(&self) -> Option<u64> {
        self.settings.reserve_bytes
    }

    fn can_offer(&self) -> bool {
        self.protocol().system.can_offer()
    }

    fn each_unused(&self, visit: &mut dyn FnMut(Unused)) {
        self.for_each_unpinned(|number, slot, seen| {
            let (pages, unoffered_pages) = (slot.pages(), slot.unoffered_pages(seen));
            visit(Unused { number, seen, pages, unoffered_pages, decays: true });
        });
    }

    fn offer(&self, chosen: &[Chosen]) -> OfferTotal {
        let mut total = OfferTotal::default();
        for chosen in chosen.chunks(OFFERED_AT_ONCE) {
            let candidates: ArrayVec<Candidate<'_>, OFFERED_AT_ONCE> =
                chosen.iter().map(|chosen| self.candidate(*chosen)).collect();
            total.add(&self.protocol().offer(&candidates));
        }
        total
    }

    fn is_kept(&self, number: usize) -> bool {
        let slot = self.table.get(number);
        slot.unoffered_pages(slot.state.glance()) > 0
    }

    fn release(&self, chosen: Chosen, pages_max: usize) -> Released {
        self.protocol().release_seen(&self.candidate(chosen), pages_max)
    }

    fn offer_what_others_have(&self) -> usize {
        let mut pages = 0;
        self.for_each_unpinned(|_, slot, seen| {
            if seen.is_shared() && slot.unoffered_pages(seen) > 0 && sharing::is_offered_elsewhere(slot) {
                pages += self.protocol().offer(&[Candidate { slot, seen }]).pages;
            }
        });
        pages
    }

    fn cut_ages(&self, now: Generation) {
        self.for_each_unpinned(|_, slot, _| slot.state.cut_age(now));
    }

    fn needs_reclaimer(&self) -> bool {
        self.needs_reclaimer()
    }

    fn rescued_bytes(&self) -> u64 {
        self.counters.rescued_bytes()
    }

    fn lost_bytes(&self) -> u64 {
        self.counters.lost_bytes()
    }

    fn dropped_bytes(&self) -> u64 {
        self.counters.dropped_bytes()
    }

    fn describe(&self, record: &mut HeapRecord) -> bool {
        let stats = Stats::take(&self.table, &self.counters);
        record.kind = layout::HEAP;
        record.set_name(&self.settings.name);
        record.is_free_memory = matches!(self.settings.content, Content::Free { .. }).into();
        record.limit_bytes = self.settings.limit_bytes.unwrap_or(layout::NONE);
        record.empty = stats.empty.into();
        record.pinned = stats.pinned.into();
        record.marked = stats.marked.into();
        record.offered_now = stats.offered_now.into();
        record.in_transit = stats.in_transit.into();
        describe_totals(&self.counters, record);
        true
    }
}

/// The marks of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkedMemory {
    pub(crate) marks: &'static Marks,
    pub(crate) system: &'static dyn System,
}

impl Pool for MarkedMemory {
    fn order(&self) -> Order {
        Order::ColdestFirst
    }

    fn content(&self) -> Content {
        self.marks.policy.content()
    }

    fn reserve_bytes(&self) -> Option<u64> {
        None
    }

    fn can_offer(&self) -> bool {
        self.system.can_offer()
    }

    fn each_unused(&self, visit: &mut dyn FnMut(Unused)) {
        self.marks.each_unheld(|block| {
            let (pages, unoffered_pages) = (block.pages, block.fresh_pages);
            let (number, seen, decays) = (block.number, block.seen, block.decays);
            visit(Unused { number, seen, pages, unoffered_pages, decays });
        });
    }

    fn offer(&self, chosen: &[Chosen]) -> OfferTotal {
        let mut total = OfferTotal::default();
        let mut refusals = 0;
        for chosen in chosen {
            let mut one = OfferTotal::default();
            self.marks.offer(self.system, chosen.number, chosen.seen, &mut one);
            refusals = if one.refused_by.is_some() { refusals + 1 } else { 0 };
            total.add(&one);
            total.gave_up = refusals == REFUSALS_MAX;
            if total.gave_up {
                break;
            }
        }
        total
    }

    fn is_kept(&self, number: usize) -> bool {
        self.marks.is_kept(number)
    }

    fn release(&self, chosen: Chosen, pages_max: usize) -> Released {
        self.marks.release(self.system, chosen.number, chosen.seen, pages_max)
    }

    fn offer_what_others_have(&self) -> usize {
        // What processes share is kept until one of them has it alone.
        0
    }

    fn excess_bytes(&self) -> u64 {
        let policy = &self.marks.policy;
        let Some(limit) = policy.limit_pages() else { return 0 };
        let marked = self.marks.count_free();
        policy.counted(marked);
        // A little less than the limit, so that there is room for what is freed next, which is warmer than what goes.
        marked.saturating_sub(limit - limit / 8) * PAGE_BYTES as u64
    }

    fn cut_ages(&self, _now: Generation) {
        self.marks.cut_ages();
    }

    fn needs_reclaimer(&self) -> bool {
        let needed = self.marks.needs_reclaimer();
        if !needed {
            // Nobody counts while the reclaimer sleeps.
            self.marks.policy.counted(0);
        }
        needed
    }

    fn rescued_bytes(&self) -> u64 {
        self.marks.counters.rescued_bytes()
    }

    fn lost_bytes(&self) -> u64 {
        self.marks.counters.lost_bytes()
    }

    fn dropped_bytes(&self) -> u64 {
        self.marks.counters.dropped_bytes()
    }

    fn describe(&self, record: &mut HeapRecord) -> bool {
        let sums = self.marks.sums();
        let of = |pages: usize| NowRecord { ranges: 0, bytes: (pages * PAGE_BYTES) as u64 };
        record.kind = layout::MARKS;
        record.is_free_memory = matches!(self.content(), Content::Free { .. }).into();
        record.limit_bytes =
            self.marks.policy.limit_pages().map_or(layout::NONE, |pages| pages * PAGE_BYTES as u64);
        (record.empty, record.marked, record.offered_now) =
            (of(sums.settled), of(sums.fresh), of(sums.offered));
        describe_totals(&self.marks.counters, record);
        // Most programs never mark anything.
        sums != Sums::default() || record.offered_bytes + record.released_bytes > 0
    }
}

/// Several pools, by whatever handles the caller has.
pub(crate) trait AsPool {
    fn pool(&self) -> &dyn Pool;
}

impl AsPool for Arc<dyn Pool> {
    fn pool(&self) -> &dyn Pool {
        &**self
    }
}

impl<P: Pool> AsPool for &P {
    fn pool(&self) -> &dyn Pool {
        *self
    }
}
