//! The ranges that go first.
//!
//! No list is kept: a pin or unpin would have to maintain it. Instead the table is scanned as an array. A histogram of ages
//! finds the age beyond which there is enough, and the ranges beyond it are sorted, so that they are offered, and so taken by
//! the kernel, in order.

use arrayvec::ArrayVec;
use vrange_os::PAGE_BYTES;

use super::pool::{AsPool, Chosen, OFFERED_AT_ONCE, Pool, Unused};
use crate::inner::Inner;
use crate::range::protocol::Released;
use crate::range::state::{Generation, Phase, Word};
use crate::settings::Order;

/// Ranges that one pass picks. More are picked by further passes.
const PICKED_MAX: usize = 4096;

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
fn rank(pool: &dyn Pool, generation: Generation, now: Generation) -> u64 {
    let age = generation.age(now);
    match pool.order() {
        Order::ColdestFirst => age,
        Order::LatestFirst => Generation::AGE_MAX.saturating_sub(age),
    }
}

/// Which ranges come into question.
#[derive(Clone, Copy, Debug)]
struct Which {
    /// Those with pages in this phase.
    phase: Phase,
    /// And of those only free memory, where a pool has data, too.
    only_free: bool,
}

impl Which {
    fn all(phase: Phase) -> Self {
        Self { phase, only_free: false }
    }

    fn free(phase: Phase) -> Self {
        Self { phase, only_free: true }
    }

    fn has(self, unused: &Unused) -> bool {
        unused.is_wanted(self.phase) && (unused.decays || !self.only_free)
    }
}

/// A picked range.
#[derive(Clone, Copy, Debug)]
struct Pick {
    rank: u64,
    /// Number of its pool among those that were looked at.
    pool: usize,
    /// Its number in the pool.
    number: usize,
    seen: Word,
    bytes: u64,
}

impl Pick {
    fn new(pool: usize, unused: &Unused, rank: u64) -> Self {
        Self { rank, pool, number: unused.number, seen: unused.seen, bytes: unused.bytes() }
    }

    fn chosen(&self) -> Chosen {
        Chosen { number: self.number, seen: self.seen }
    }
}

/// Room for the picked ranges, highest rank first. The reclaimer has one for good: it must not allocate while memory is
/// short.
#[derive(Debug)]
pub(crate) struct Picks {
    picked: Vec<Pick>,
}

impl Picks {
    /// Allocates the room, about 130 KB.
    pub(crate) fn new() -> Self {
        Self { picked: Vec::with_capacity(PICKED_MAX) }
    }

    /// Picks the ranges with the highest rank among those: as many as hold `wanted_bytes`, or fit.
    fn pick(&mut self, pools: &[impl AsPool], which: Which, wanted_bytes: u64) {
        self.picked.clear();
        let now = Inner::now();
        let mut histogram = Histogram::new();
        each(pools, which, |_, pool, unused| {
            histogram.add(rank(pool, unused.seen.generation(), now), unused.bytes());
        });
        let cut = histogram.cut(wanted_bytes);
        each(pools, which, |number, pool, unused| {
            let rank = rank(pool, unused.seen.generation(), now);
            if class(rank) >= cut {
                self.insert(Pick::new(number, unused, rank));
            }
        });
        // By number within a rank: ranges that were unpinned together tend to lie together.
        self.picked.sort_unstable_by_key(|pick| (std::cmp::Reverse(pick.rank), pick.pool, pick.number));
    }

    /// Keeps the highest ranks: a heap whose root is the lowest of them, once it is full.
    fn insert(&mut self, pick: Pick) {
        if self.picked.len() < PICKED_MAX {
            self.picked.push(pick);
            if self.picked.len() == PICKED_MAX {
                (0..PICKED_MAX / 2).rev().for_each(|root| self.sift_down(root));
            }
        } else if self.picked[0].rank < pick.rank {
            self.picked[0] = pick;
            self.sift_down(0);
        }
    }

    fn sift_down(&mut self, mut root: usize) {
        loop {
            let children = [2 * root + 1, 2 * root + 2];
            let lowest = children
                .into_iter()
                .filter(|child| *child < self.picked.len())
                .min_by_key(|child| self.picked[*child].rank)
                .filter(|child| self.picked[*child].rank < self.picked[root].rank);
            let Some(child) = lowest else { return };
            self.picked.swap(root, child);
            root = child;
        }
    }
}

/// Pages that hold `bytes`, which may be more than there are.
fn pages_for(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(PAGE_BYTES as u64)).unwrap_or(usize::MAX)
}

fn each(pools: &[impl AsPool], which: Which, mut visit: impl FnMut(usize, &dyn Pool, &Unused)) {
    for (number, pool) in pools.iter().map(AsPool::pool).enumerate() {
        pool.each_unused(&mut |unused| {
            if which.has(&unused) {
                visit(number, pool, &unused);
            }
        });
    }
}

/// How an attempt to make memory available went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Yield {
    /// Bytes of memory offered or released.
    pub(crate) bytes: u64,
    /// The system refused a range.
    pub(crate) was_refused: bool,
    /// It did so again and again: trying again at once is useless.
    pub(crate) gave_up: bool,
}

/// Offers the ranges that go first until `wanted_bytes` bytes in memory are offered, or none is left.
pub(crate) fn offer_coldest(picks: &mut Picks, pools: &[impl AsPool], wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    // Bytes picked that could not be offered now, because they were pinned meanwhile or another process uses them.
    let mut kept_bytes = 0;
    while total.bytes < wanted_bytes && !total.gave_up {
        picks.pick(
            pools,
            Which::all(Phase::Volatile),
            (wanted_bytes - total.bytes).saturating_add(kept_bytes),
        );
        let left_bytes = wanted_bytes - total.bytes;
        let round = offer_picked(picks, pools, left_bytes, &mut total);
        // What was kept is picked again, with as much besides, until nothing else is left.
        if round.ranges == 0 && round.kept_bytes <= kept_bytes {
            break;
        }
        kept_bytes = round.kept_bytes;
    }
    total
}

/// Offers again what was offered before: an offer can come undone, for example when a huge page is made of the pages. Once
/// round the coldest.
pub(crate) fn offer_again(picks: &mut Picks, pools: &[impl AsPool], wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    picks.pick(pools, Which::all(Phase::Offered), wanted_bytes);
    offer_picked(picks, pools, wanted_bytes, &mut total);
    total
}

/// One round over the picked ranges.
struct Round {
    ranges: usize,
    kept_bytes: u64,
}

fn offer_picked(picks: &Picks, pools: &[impl AsPool], wanted_bytes: u64, total: &mut Yield) -> Round {
    let mut round = Round { ranges: 0, kept_bytes: 0 };
    let mut offered_bytes = 0;
    let mut left = picks.picked.iter().peekable();
    // Consecutive ranges of one pool go together, into as few system calls as possible.
    while let Some(first) = left.next() {
        let pool = pools[first.pool].pool();
        let mut group = ArrayVec::<Pick, OFFERED_AT_ONCE>::new();
        group.push(*first);
        let mut group_bytes = first.bytes;
        while !group.is_full()
            && offered_bytes + group_bytes < wanted_bytes
            && let Some(next) = left.next_if(|next| next.pool == first.pool)
        {
            group_bytes += next.bytes;
            group.push(*next);
        }
        let chosen: ArrayVec<Chosen, OFFERED_AT_ONCE> = group.iter().map(Pick::chosen).collect();
        let offered = pool.offer(&chosen);
        offered_bytes += (offered.pages * PAGE_BYTES) as u64;
        round.ranges += offered.ranges;
        let kept = group.iter().filter(|pick| pool.is_kept(pick.number));
        round.kept_bytes += kept.map(|pick| pick.bytes).sum::<u64>();
        total.was_refused |= offered.refused_by.is_some();
        total.gave_up |= offered.gave_up;
        if offered_bytes >= wanted_bytes || total.gave_up {
            break;
        }
    }
    total.bytes += offered_bytes;
    round
}

/// Offers ranges of a heap until at most `left_bytes` are volatile and not offered. Returns how many bytes still are.
pub(crate) fn offer_down_to(heap: &Inner, left_bytes: u64) -> u64 {
    let mut picks = Picks::new();
    loop {
        let unoffered = unoffered_bytes(heap);
        if unoffered <= left_bytes {
            return unoffered;
        }
        // Ranges may be longer than what is in memory of them, so progress is counted in ranges' lengths here.
        let gave_up = offer_coldest(&mut picks, &[heap], unoffered - left_bytes).gave_up;
        if gave_up || unoffered_bytes(heap) >= unoffered {
            return unoffered_bytes(heap);
        }
    }
}

/// Length of the ranges that are volatile and not offered.
pub(crate) fn unoffered_bytes(heap: &Inner) -> u64 {
    let mut sum = 0;
    each(&[heap], Which::all(Phase::Volatile), |_, _, unused| sum += unused.bytes());
    sum
}

/// Releases the ranges that go first until `wanted_bytes` bytes of memory are free, or none is left. Offered ones first:
/// they are the coldest. Of the last range no more goes than is needed.
pub(crate) fn release_coldest(picks: &mut Picks, pools: &[impl AsPool], wanted_bytes: u64) -> Yield {
    release_in_turn(picks, pools, [Phase::Offered, Phase::Volatile].map(Which::all), wanted_bytes)
}

/// As [`release_coldest`], but only free memory: data is not what is too much.
pub(crate) fn release_coldest_free(picks: &mut Picks, pools: &[impl AsPool], wanted_bytes: u64) -> Yield {
    release_in_turn(picks, pools, [Phase::Offered, Phase::Volatile].map(Which::free), wanted_bytes)
}

fn release_in_turn(picks: &mut Picks, pools: &[impl AsPool], turns: [Which; 2], wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    for which in turns {
        release(picks, pools, which, wanted_bytes, Measure::Memory, &mut total);
    }
    total
}

/// Releases offered ranges only: the coldest go a little before the kernel would take them.
pub(crate) fn release_offered(picks: &mut Picks, pools: &[impl AsPool], wanted_bytes: u64) -> Yield {
    let mut total = Yield::default();
    release(picks, pools, Which::all(Phase::Offered), wanted_bytes, Measure::Memory, &mut total);
    total
}

/// As [`release_coldest`], but whole ranges, until they add up to `wanted_bytes` in length.
pub(crate) fn release_coldest_ranges(pools: &[impl AsPool], wanted_bytes: u64) {
    let (mut picks, mut total) = (Picks::new(), Yield::default());
    for phase in [Phase::Offered, Phase::Volatile] {
        release(&mut picks, pools, Which::all(phase), wanted_bytes, Measure::Length, &mut total);
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
    picks: &mut Picks,
    pools: &[impl AsPool],
    which: Which,
    wanted_bytes: u64,
    measure: Measure,
    total: &mut Yield,
) {
    while total.bytes < wanted_bytes {
        let mut progress = false;
        picks.pick(pools, which, wanted_bytes - total.bytes);
        for pick in &picks.picked {
            let pages_max = match measure {
                Measure::Memory => pages_for(wanted_bytes - total.bytes),
                Measure::Length => usize::MAX,
            };
            let released = pools[pick.pool].pool().release(pick.chosen(), pages_max);
            if let Released::Pages(pages) | Released::Part(pages) = released {
                progress = true;
                total.bytes += match measure {
                    Measure::Memory => (pages * PAGE_BYTES) as u64,
                    Measure::Length => pick.bytes,
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
pub(crate) fn let_decay(pool: &dyn Pool, offer_ticks: u64, release_ticks: u64) {
    let now = Inner::now();
    pool.each_unused(&mut |unused| {
        if !unused.decays {
            return;
        }
        let age = unused.seen.generation().age(now);
        let chosen = Chosen { number: unused.number, seen: unused.seen };
        if age >= release_ticks {
            let _ = pool.release(chosen, usize::MAX);
        } else if age >= offer_ticks && unused.unoffered_pages > 0 {
            let _ = pool.offer(&[chosen]);
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
