//! The ranges that go first.
//!
//! No list is kept: a pin or unpin would have to maintain it. Instead the table is scanned as an array. A histogram of ages
//! finds the age beyond which there is enough, and the ranges beyond it are sorted, so that they are offered, and so taken by
//! the kernel, in order.

use vrange_os::PAGE_BYTES;

use crate::heap::{Inner, Order};
use crate::range::protocol::{Candidate, Released};
use crate::range::sharing;
use crate::range::state::{Generation, Phase};

/// Ranges that one pass picks. More are picked by further passes.
const PICKED_MAX: usize = 512;

/// Each power of two of the age is divided into this many classes.
const CLASSES_PER_OCTAVE: usize = 8;
const OCTAVES: usize = 64;

/// The class of a rank; higher ranks go first.
fn class(rank: u64) -> usize {
    if rank < CLASSES_PER_OCTAVE as u64 {
        return usize::try_from(rank).unwrap_or(0);
    }
    let octave = rank.ilog2() as usize;
    let below = rank >> (octave - CLASSES_PER_OCTAVE.ilog2() as usize);
    octave * CLASSES_PER_OCTAVE + usize::try_from(below).unwrap_or(0) % CLASSES_PER_OCTAVE
}

/// Bytes by age, in classes of about an eighth of the age.
#[derive(Debug)]
struct Histogram {
    bytes: [u64; OCTAVES * CLASSES_PER_OCTAVE],
}

impl Histogram {
    fn new() -> Self {
        Self { bytes: [0; OCTAVES * CLASSES_PER_OCTAVE] }
    }

    fn add(&mut self, rank: u64, bytes: u64) {
        self.bytes[class(rank)] += bytes;
    }

    /// The youngest class that is needed to have `wanted_bytes` together with all older ones.
    fn cut(&self, wanted_bytes: u64) -> usize {
        let mut sum = 0u64;
        let enough = self.bytes.iter().enumerate().rev().find(|(_, bytes)| {
            sum = sum.saturating_add(**bytes);
            sum >= wanted_bytes
        });
        enough.map_or(0, |(class, _)| class)
    }
}

/// How soon a range goes: the higher the sooner.
fn rank(heap: &Inner, generation: Generation, now: Generation) -> u64 {
    let age = generation.age(now);
    match heap.settings.order {
        Order::ColdestFirst => age,
        Order::LatestFirst => Generation::AGE_MAX.saturating_sub(age),
    }
}

/// A picked range, with its rank and its heap.
#[derive(Clone, Copy)]
struct Picked<'a> {
    rank: u64,
    heap: &'a Inner,
    candidate: Candidate<'a>,
}

/// The ranges of the highest rank, sorted, in a fixed place: the reclaimer must not allocate while memory is short.
struct Picks<'a> {
    picked: [Option<Picked<'a>>; PICKED_MAX],
    len: usize,
}

impl<'a> Picks<'a> {
    /// The ranges in one of `phases`, highest rank first: as many as hold `wanted_bytes`, or fit.
    fn of(heaps: &'a [impl AsRef<Inner>], phase: Phase, wanted_bytes: u64) -> Self {
        let now = Inner::now();
        let mut histogram = Histogram::new();
        each(heaps, phase, |heap, candidate| {
            histogram.add(rank(heap, candidate.seen.generation(), now), bytes(&candidate));
        });
        let cut = histogram.cut(wanted_bytes);
        let mut picks = Self { picked: [None; PICKED_MAX], len: 0 };
        each(heaps, phase, |heap, candidate| {
            let rank = rank(heap, candidate.seen.generation(), now);
            if class(rank) >= cut {
                picks.insert(Picked { rank, heap, candidate });
            }
        });
        picks.sort();
        picks
    }

    /// Keeps the highest ranks: a heap whose root is the lowest of them, once it is full.
    fn insert(&mut self, pick: Picked<'a>) {
        if self.len < PICKED_MAX {
            self.picked[self.len] = Some(pick);
            self.len += 1;
            if self.len == PICKED_MAX {
                (0..PICKED_MAX / 2).rev().for_each(|root| self.sift_down(root));
            }
        } else if self.rank_at(0) < pick.rank {
            self.picked[0] = Some(pick);
            self.sift_down(0);
        }
    }

    fn rank_at(&self, index: usize) -> u64 {
        self.picked[index].map_or(u64::MAX, |pick| pick.rank)
    }

    fn sift_down(&mut self, mut root: usize) {
        loop {
            let children = [2 * root + 1, 2 * root + 2];
            let lowest = children
                .into_iter()
                .filter(|child| *child < self.len)
                .min_by_key(|child| self.rank_at(*child))
                .filter(|child| self.rank_at(*child) < self.rank_at(root));
            let Some(child) = lowest else { return };
            self.picked.swap(root, child);
            root = child;
        }
    }

    fn sort(&mut self) {
        self.picked[..self.len].sort_unstable_by_key(|pick| std::cmp::Reverse(pick.map(|pick| pick.rank)));
    }

    fn iter(&self) -> impl Iterator<Item = Picked<'a>> + '_ {
        self.picked[..self.len].iter().copied().flatten()
    }
}

/// Pages that hold `bytes`, which may be more than there are.
fn pages_for(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(PAGE_BYTES as u64)).unwrap_or(usize::MAX)
}

fn bytes(candidate: &Candidate<'_>) -> u64 {
    (candidate.slot.pages() * PAGE_BYTES) as u64
}

fn each<'a>(heaps: &'a [impl AsRef<Inner>], phase: Phase, mut visit: impl FnMut(&'a Inner, Candidate<'a>)) {
    for heap in heaps {
        let heap = heap.as_ref();
        heap.for_each_unpinned(|slot, seen| {
            // An offer that was stopped half-way, by a pin that then did not wait, is still to be finished.
            let unfinished = phase == Phase::Volatile && slot.unoffered_pages(seen) > 0;
            if seen.phase() == phase || unfinished {
                visit(heap, Candidate { slot, seen });
            }
        });
    }
}

/// How an attempt to make memory available went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Yield {
    /// Bytes of memory offered or released.
    pub(crate) bytes: u64,
    /// The page table cannot be read, so nothing can be offered, only released.
    pub(crate) unreadable: bool,
    /// The system refuses: trying again at once is useless.
    pub(crate) refused: bool,
}

/// Ranges that are offered between two looks at how much has been reached.
const OFFERED_AT_ONCE: usize = 64;

/// Offers the ranges that go first until `wanted_bytes` bytes in memory are offered, or none is left.
pub(crate) fn offer_coldest(heaps: &[impl AsRef<Inner>], wanted_bytes: u64) -> Yield {
    offer(heaps, Phase::Volatile, wanted_bytes)
}

/// Offers what processes that share it have offered: see [`sharing`]. Nothing is freed until all have.
pub(crate) fn offer_what_others_have(heaps: &[impl AsRef<Inner>]) -> u64 {
    let mut pages = 0;
    each(heaps, Phase::Volatile, |heap, candidate| {
        if candidate.seen.is_shared() && sharing::is_offered_elsewhere(candidate.slot) {
            pages += heap.protocol().offer(&[candidate]).pages;
        }
    });
    (pages * PAGE_BYTES) as u64
}

/// Offers again what was offered before: an offer can come undone, for example when a huge page is made of the pages.
pub(crate) fn offer_again(heaps: &[impl AsRef<Inner>], wanted_bytes: u64) -> Yield {
    offer(heaps, Phase::Offered, wanted_bytes)
}

fn offer(heaps: &[impl AsRef<Inner>], phase: Phase, wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    // Bytes picked that could not be offered now, because they were pinned meanwhile or another process uses them.
    let mut kept_bytes = 0;
    while total.bytes < wanted_bytes && !total.refused {
        let picks = Picks::of(heaps, phase, (wanted_bytes - total.bytes).saturating_add(kept_bytes));
        let mut picks = picks.iter().peekable();
        let kept_before = std::mem::take(&mut kept_bytes);
        let mut progress = false;
        // Consecutive ranges of one heap go together, into as few system calls as possible.
        while let Some(first) = picks.next() {
            let mut group = [first.candidate; OFFERED_AT_ONCE];
            let mut len = 1;
            let mut group_bytes = bytes(&first.candidate);
            while len < OFFERED_AT_ONCE
                && total.bytes + group_bytes < wanted_bytes
                && let Some(next) = picks.next_if(|next| std::ptr::eq(next.heap, first.heap))
            {
                group[len] = next.candidate;
                group_bytes += bytes(&next.candidate);
                len += 1;
            }
            let offered = first.heap.protocol().offer(&group[..len]);
            total.bytes += (offered.pages * PAGE_BYTES) as u64;
            progress |= offered.ranges > 0;
            let is_kept =
                |candidate: &&Candidate<'_>| candidate.slot.state.glance().phase() == Phase::Volatile;
            kept_bytes += group[..len].iter().filter(is_kept).map(bytes).sum::<u64>();
            total.refused |= offered.gave_up;
            total.unreadable |= offered.unreadable;
            if total.bytes >= wanted_bytes || total.refused {
                return total;
            }
        }
        // Offered again, they stay in this phase: once round is enough. Otherwise what was kept is picked again, with as
        // much besides, until nothing else is left.
        if phase == Phase::Offered || !progress && kept_bytes <= kept_before {
            break;
        }
    }
    total
}

/// Offers ranges of a heap until at most `left_bytes` are volatile and not offered. Returns how many bytes still are.
pub(crate) fn offer_down_to(heap: &Inner, left_bytes: u64) -> u64 {
    loop {
        let unoffered = unoffered_bytes(heap);
        if unoffered <= left_bytes {
            return unoffered;
        }
        // Ranges may be longer than what is in memory of them, so progress is counted in ranges' lengths here.
        if offer_coldest(&[heap], unoffered - left_bytes).refused || unoffered_bytes(heap) >= unoffered {
            return unoffered_bytes(heap);
        }
    }
}

/// Length of the ranges that are volatile and not offered.
pub(crate) fn unoffered_bytes(heap: &Inner) -> u64 {
    let mut sum = 0;
    each(&[heap], Phase::Volatile, |_, candidate| sum += bytes(&candidate));
    sum
}

/// Releases the ranges that go first until `wanted_bytes` bytes of memory are free, or none is left. Offered ones first:
/// they are the coldest. Of the last range no more goes than is needed.
pub(crate) fn release_coldest(heaps: &[impl AsRef<Inner>], wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    for phase in [Phase::Offered, Phase::Volatile] {
        release(heaps, phase, wanted_bytes, Measure::Memory, &mut total);
    }
    total
}

/// Releases offered ranges only: the coldest go a little before the kernel would take them.
pub(crate) fn release_offered(heaps: &[impl AsRef<Inner>], wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    release(heaps, Phase::Offered, wanted_bytes, Measure::Memory, &mut total);
    total
}

/// As [`release_coldest`], but whole ranges, until they add up to `wanted_bytes` in length.
pub(crate) fn release_coldest_ranges(heaps: &[impl AsRef<Inner>], wanted_bytes: u64) {
    let mut total = Yield::default();
    for phase in [Phase::Offered, Phase::Volatile] {
        release(heaps, phase, wanted_bytes, Measure::Length, &mut total);
    }
}

/// What is counted as released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// What was in memory.
    Memory,
    /// The length of ranges that are empty now.
    Length,
}

fn release(
    heaps: &[impl AsRef<Inner>],
    phase: Phase,
    wanted_bytes: u64,
    measure: Measure,
    total: &mut Yield,
) {
    while total.bytes < wanted_bytes {
        let mut progress = false;
        for pick in Picks::of(heaps, phase, wanted_bytes - total.bytes).iter() {
            let pages_max = match measure {
                Measure::Memory => pages_for(wanted_bytes - total.bytes),
                Measure::Length => usize::MAX,
            };
            let released = pick.heap.protocol().release_seen(&pick.candidate, pages_max);
            if let Released::Pages(pages) | Released::Part(pages) = released {
                progress = true;
                total.bytes += match measure {
                    Measure::Memory => (pages * PAGE_BYTES) as u64,
                    Measure::Length => bytes(&pick.candidate),
                };
                if total.bytes >= wanted_bytes {
                    return;
                }
            }
        }
        if !progress {
            return;
        }
    }
}

/// Offers what is older than `offer_ticks` and releases what is older than `release_ticks`: what becomes of free memory
/// when nobody needs it.
pub(crate) fn let_decay(heap: &Inner, offer_ticks: u64, release_ticks: u64) {
    let now = Inner::now();
    heap.for_each_unpinned(|slot, seen| {
        let age = seen.generation().age(now);
        let candidate = Candidate { slot, seen };
        if age >= release_ticks {
            let _ = heap.protocol().release_seen(&candidate, usize::MAX);
        } else if age >= offer_ticks && seen.phase() == Phase::Volatile {
            let _ = heap.protocol().offer(&[candidate]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_grow_with_the_rank() {
        let ranks = (0..5000).chain((13..63).map(|bit| 1 << bit)).chain([u64::MAX]);
        let classes: Vec<usize> = ranks.map(class).collect();
        assert!(classes.is_sorted());
        assert!(*classes.last().expect("some") < OCTAVES * CLASSES_PER_OCTAVE);
    }

    #[test]
    fn the_cut_takes_no_more_classes_than_needed() {
        let mut histogram = Histogram::new();
        for (rank, bytes) in [(10, 100), (1000, 100), (100_000, 100)] {
            histogram.add(rank, bytes);
        }
        assert_eq!(histogram.cut(1), class(100_000));
        assert_eq!(histogram.cut(100), class(100_000));
        assert_eq!(histogram.cut(101), class(1000));
        assert_eq!(histogram.cut(300), class(10));
        assert_eq!(histogram.cut(301), 0);
    }
}
