//! Random programs over several buffers, compared with plain ones after each step.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use vrange_os::PAGE_BYTES;
use vrange_os::fake::{Fake, Refusals};

use super::plain::{Fate, PlainBuffer, PlainPage, Totals, assert_bytes, validate};
use super::{fake, heap_on};
use crate::buffer::Phase;
use crate::guard::{LostBytes, Pinned, WriteGuard};
use crate::heap::Heap;
use crate::settings::Order;

const WORDS: usize = PAGE_BYTES / 8;

/// How the heap bounds what it holds.
#[derive(Clone, Copy, Debug)]
enum Bounds {
    None,
    /// No more pages than this together.
    Limit(u64),
    /// No more pages than this volatile and not offered.
    Unoffered(u64),
}

/// What a writer does about losses.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Refill,
    FailToRefill,
    Acknowledge,
    Leave,
}

/// One step. `at` numbers buffers, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    New {
        pages: usize,
        short_by: usize,
    },
    Drop {
        at: usize,
    },
    Read {
        at: usize,
    },
    /// Pins, and keeps the pin over the next steps.
    Hold {
        at: usize,
    },
    LetGo {
        at: usize,
    },
    Write {
        at: usize,
        page: usize,
        word: usize,
        value: u64,
        answer: Answer,
    },
    Offer {
        at: usize,
    },
    OfferColdest {
        pages: u64,
    },
    Release {
        at: usize,
    },
    ReleaseAll,
    Reclaim {
        pages: u64,
    },
    /// The kernel takes pages.
    Take {
        pages: usize,
    },
    Refuse(Refusals),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pages = prop_oneof![8 => 1..6usize, 2 => 30..70usize, 1 => 250..600usize];
    let at = 0..8usize;
    let answer = prop_oneof![
        Just(Answer::Refill),
        Just(Answer::FailToRefill),
        Just(Answer::Acknowledge),
        Just(Answer::Leave)
    ];
    let value = prop_oneof![1 => Just(0), 4 => any::<u64>()];
    let refusals = (any::<bool>(), prop::option::of(0..6usize), any::<bool>(), any::<bool>()).prop_map(
        |(reserve, offer_after_pages, release, residency)| Refusals {
            reserve,
            offer_after_pages,
            release,
            residency,
        },
    );
    let step = prop_oneof![
        3 => (pages, 0..PAGE_BYTES).prop_map(|(pages, short_by)| Step::New { pages, short_by }),
        1 => at.clone().prop_map(|at| Step::Drop { at }),
        4 => at.clone().prop_map(|at| Step::Read { at }),
        2 => at.clone().prop_map(|at| Step::Hold { at }),
        2 => at.clone().prop_map(|at| Step::LetGo { at }),
        8 => (at.clone(), 0..600usize, 0..WORDS, value, answer)
            .prop_map(|(at, page, word, value, answer)| Step::Write { at, page, word, value, answer }),
        6 => at.clone().prop_map(|at| Step::Offer { at }),
        2 => (0..40u64).prop_map(|pages| Step::OfferColdest { pages }),
        2 => at.prop_map(|at| Step::Release { at }),
        1 => Just(Step::ReleaseAll),
        1 => (0..40u64).prop_map(|pages| Step::Reclaim { pages }),
        6 => (1..20usize).prop_map(|pages| Step::Take { pages }),
        1 => refusals.prop_map(Step::Refuse),
        1 => Just(Step::Refuse(Refusals::default())),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 30 } else { 120 })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    prop_oneof![
        Just(Bounds::None),
        (1..80u64).prop_map(Bounds::Limit),
        prop_oneof![Just(0), 0..40u64].prop_map(Bounds::Unoffered)
    ]
}

/// The heap, the kernel below it and the plain buffers beside it.
struct Machine {
    fake: &'static Fake,
    heap: Heap,
    buffers: Vec<PlainBuffer>,
    totals: Totals,
    bounds: Bounds,
    refusals: Refusals,
    /// The system has refused something: bounds may be exceeded until it lets ranges go again, and an offer that was cut
    /// short counts as whole once a release was refused as well.
    has_refused: bool,
}

impl Machine {
    fn new(bounds: Bounds, order: Order) -> Self {
        let fake = fake();
        let builder = Heap::builder().order(order);
        let bytes = |pages: u64| pages * PAGE_BYTES as u64;
        let builder = match bounds {
            Bounds::None => builder,
            Bounds::Limit(pages) => builder.limit(bytes(pages)),
            Bounds::Unoffered(pages) => builder.max_unoffered(bytes(pages)),
        };
        let heap = heap_on(fake, builder);
        let refusals = Refusals::default();
        Self {
            fake,
            heap,
            buffers: Vec::new(),
            totals: Totals::default(),
            bounds,
            refusals,
            has_refused: false,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::New { pages, short_by } => self.make(pages * PAGE_BYTES - short_by),
            Step::OfferColdest { pages } => {
                let _ = self.heap.offer(pages * PAGE_BYTES as u64);
            }
            Step::ReleaseAll => {
                let _ = self.heap.release();
            }
            Step::Reclaim { pages } => {
                let _ = self.heap.reclaim(pages * PAGE_BYTES as u64);
            }
            Step::Take { pages } => self.take(pages),
            Step::Refuse(refusals) => {
                self.refusals = refusals;
                self.has_refused |= refusals != Refusals::default();
                self.fake.refuse(refusals);
            }
            Step::Drop { at }
            | Step::Read { at }
            | Step::Hold { at }
            | Step::LetGo { at }
            | Step::Write { at, .. }
            | Step::Offer { at }
            | Step::Release { at } => {
                if !self.buffers.is_empty() {
                    self.run_at(at % self.buffers.len(), step);
                }
            }
        }
        self.follow();
        validate(&self.heap, &self.buffers, self.totals);
        if !self.has_refused {
            let offered = self.heap.stats().offered.pages();
            assert!(
                offered >= self.totals.rescued + self.totals.lost,
                "only what was offered comes back or is lost"
            );
            self.assert_bounds();
        }
    }

    fn run_at(&mut self, at: usize, step: &Step) {
        match *step {
            Step::Drop { .. } => drop(self.buffers.swap_remove(at)),
            Step::Read { .. } => {
                self.pin(at);
                self.unpin(at);
            }
            Step::Hold { .. } => self.pin(at),
            Step::LetGo { .. } if self.buffers[at].pins > 0 => self.unpin(at),
            Step::Write { page, word, value, answer, .. } => self.write(at, page, (word, value), answer),
            Step::Offer { .. } => {
                let before = self.buffers[at].phase;
                let offered = self.buffers[at].buffer.offer();
                assert!(!offered || matches!(before, Phase::Volatile | Phase::Offered));
                let refuses = self.refusals != Refusals::default();
                assert!(offered || refuses || matches!(before, Phase::Pinned | Phase::Empty));
            }
            Step::Release { .. } => {
                let pinned = self.buffers[at].pins > 0;
                let released = self.buffers[at].buffer.release();
                assert!(
                    released != (pinned || self.refusals.release) || self.buffers[at].phase == Phase::Empty
                );
            }
            _ => {}
        }
    }

    fn make(&mut self, bytes: usize) {
        match self.heap.buffer(bytes) {
            Ok(buffer) => self.buffers.push(PlainBuffer::new(buffer)),
            Err(error) => {
                let too_large =
                    matches!(self.bounds, Bounds::Limit(pages) if bytes as u64 > pages * PAGE_BYTES as u64);
                assert!(too_large || self.refusals.reserve, "{error}");
            }
        }
    }

    /// Pins, looks, and keeps the pin.
    fn pin(&mut self, at: usize) {
        let plain = &mut self.buffers[at];
        let rescued = rescued_by_pin(plain);
        let lost = plain.lost();
        let guard = match plain.buffer.try_pin().expect("nobody else works on it") {
            Pinned::Intact(guard) => {
                assert_eq!(lost, BTreeSet::new(), "reported intact");
                guard
            }
            Pinned::Purged(purged) => {
                assert_lost(purged.lost(), plain.buffer.len(), &lost);
                purged.into_guard()
            }
        };
        assert_bytes(&guard, &plain.pages);
        std::mem::forget(guard);
        self.totals.rescued += rescued;
        self.totals.lost += found_out(&mut plain.pages);
        plain.pins += 1;
        plain.phase = Phase::Pinned;
    }

    /// Drops a pin that was kept.
    fn unpin(&mut self, at: usize) {
        let plain = &mut self.buffers[at];
        plain.buffer.unpin();
        plain.pins -= 1;
        if plain.pins == 0 {
            plain.phase = Phase::Volatile;
        }
    }

    fn write(&mut self, at: usize, page: usize, word: (usize, u64), answer: Answer) {
        let plain = &mut self.buffers[at];
        let page = page % plain.pages.len();
        // The last page may be cut short.
        let word = (word.0 % ((plain.buffer.len() - page * PAGE_BYTES) / 8).clamp(1, WORDS), word.1);
        let fits = page * PAGE_BYTES + word.0 * 8 + 8 <= plain.buffer.len();
        let lost = plain.lost();
        let length = plain.buffer.len();
        self.totals.rescued += rescued_by_pin(plain);
        let guard = match plain.buffer.pin_mut() {
            Pinned::Intact(guard) => {
                assert_eq!(lost, BTreeSet::new(), "reported intact");
                Some(guard)
            }
            Pinned::Purged(purged) => {
                assert_lost(purged.lost(), length, &lost);
                answer_loss(purged, answer, &lost)
            }
        };
        self.totals.lost += found_out(&mut plain.pages);
        if let Some(mut guard) = guard {
            for lost in lost {
                let refilled = matches!(answer, Answer::Refill).then_some((0, REFILLED));
                plain.pages[lost] = PlainPage { words: refilled.into_iter().collect(), fate: Fate::Kept };
            }
            if fits {
                guard[page * PAGE_BYTES + word.0 * 8..][..8].copy_from_slice(&word.1.to_le_bytes());
                plain.pages[page].words.retain(|(other, _)| *other != word.0);
                plain.pages[page].words.push(word);
            }
            assert_bytes(&guard, &plain.pages);
        }
        plain.phase = if plain.pins > 0 { Phase::Pinned } else { Phase::Volatile };
    }

    /// The kernel takes pages of ranges that are offered; those of others were stored to by the rescue.
    fn take(&mut self, pages: usize) {
        let mut offered = BTreeSet::new();
        for plain in self.buffers.iter().filter(|plain| plain.phase == Phase::Offered) {
            offered.extend((0..plain.buffer.slot().offered_pages()).map(|page| plain.address_of(page)));
        }
        let taken: BTreeSet<usize> =
            self.fake.take_where(pages, |address| offered.contains(&address)).into_iter().collect();
        for plain in &mut self.buffers {
            for page in 0..plain.pages.len() {
                let takes = taken.contains(&plain.address_of(page));
                if takes && plain.pages[page].has_contents() && plain.pages[page].fate == Fate::Kept {
                    plain.pages[page].fate = Fate::Taken;
                }
            }
        }
    }

    /// Takes over what the heap did by itself, after checking that it may: ranges that are not in use may have been
    /// offered, or released as a whole or in part. (Whether their bytes are gone as noted is seen at the next pin.)
    fn follow(&mut self) {
        for plain in &mut self.buffers {
            let now = plain.buffer.phase();
            match (plain.phase, now) {
                (Phase::Empty | Phase::Pinned, _) => assert_eq!(plain.phase, now),
                (Phase::Offered, Phase::Volatile) => panic!("an offer cannot be undone without a pin"),
                _ => {}
            }
            plain.phase = now;
            if matches!(now, Phase::Offered | Phase::Empty) {
                let released =
                    (0..plain.pages.len()).filter(|page| now == Phase::Empty || plain.is_noted_lost(*page));
                for page in released.collect::<Vec<_>>() {
                    let page = &mut plain.pages[page];
                    // What the kernel took was lost, not released, where that can be seen.
                    match page.fate {
                        Fate::Taken if !self.refusals.residency => self.totals.lost += 1,
                        Fate::Kept | Fate::Taken if page.has_contents() => self.totals.released += 1,
                        Fate::Kept if !page.words.is_empty() => {
                            self.totals.blanks += 1;
                            page.words.clear();
                            continue;
                        }
                        _ => continue,
                    }
                    page.fate = Fate::Lost;
                }
            }
        }
    }

    /// Bounds hold, unless what is over them is in use, or the system has refused.
    fn assert_bounds(&self) {
        let pages_in = |phase: Phase| -> u64 {
            self.buffers
                .iter()
                .filter(|plain| plain.phase == phase)
                .map(|plain| plain.pages.len() as u64)
                .sum()
        };
        let unused = pages_in(Phase::Volatile) + pages_in(Phase::Offered);
        match self.bounds {
            Bounds::None => {}
            Bounds::Limit(limit) => assert!(unused == 0 || unused + pages_in(Phase::Pinned) <= limit),
            Bounds::Unoffered(most) => assert!(pages_in(Phase::Volatile) <= most),
        }
    }
}

/// What tests refill lost pages with.
const REFILLED: u64 = 0x5eed;

fn answer_loss<'a>(
    purged: crate::guard::Purged<WriteGuard<'a>>,
    answer: Answer,
    expected: &BTreeSet<usize>,
) -> Option<WriteGuard<'a>> {
    match answer {
        Answer::Refill => Some(purged.refill(|bytes, lost| {
            for run in lost {
                for page in bytes[run].chunks_mut(PAGE_BYTES) {
                    let length = page.len().min(8);
                    page[..length].copy_from_slice(&REFILLED.to_le_bytes()[..length]);
                }
            }
        })),
        Answer::FailToRefill => {
            let failed = purged.try_refill(|bytes, lost| {
                assert_lost(lost, bytes.len(), expected);
                Err(())
            });
            assert!(failed.is_err());
            None
        }
        Answer::Acknowledge => Some(purged.acknowledge()),
        Answer::Leave => None,
    }
}

/// Pages that the next pin takes back intact.
fn rescued_by_pin(plain: &PlainBuffer) -> u64 {
    let offered = if plain.phase == Phase::Offered { plain.buffer.slot().offered_pages() } else { 0 };
    plain.pages[..offered].iter().filter(|page| page.has_contents() && page.fate == Fate::Kept).count() as u64
}

/// A pin finds out what the kernel had taken. Returns how many pages.
fn found_out(pages: &mut [PlainPage]) -> u64 {
    let taken = pages.iter_mut().filter(|page| page.fate == Fate::Taken);
    taken.map(|page| page.fate = Fate::Lost).count() as u64
}

fn assert_lost(lost: LostBytes<'_>, length: usize, expected: &BTreeSet<usize>) {
    let mut pages = BTreeSet::new();
    let mut end = None;
    for run in lost {
        assert!(end.is_none_or(|end| end < run.start), "runs are apart and in order");
        assert!(
            run.start.is_multiple_of(PAGE_BYTES) && (run.end.is_multiple_of(PAGE_BYTES) || run.end == length)
        );
        end = Some(run.end);
        pages.extend(run.start / PAGE_BYTES..run.end.div_ceil(PAGE_BYTES));
    }
    assert_eq!(pages, *expected);
}

#[test]
fn random_programs_do_what_plain_buffers_do() {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    config.cases = if cfg!(miri) { 8 } else { config.cases };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    }
    let seed = config.rng_seed;
    let order = prop_oneof![Just(Order::ColdestFirst), Just(Order::LatestFirst)];
    let outcome = TestRunner::new(config).run(&(bounds(), order, steps()), |(bounds, order, steps)| {
        let mut machine = Machine::new(bounds, order);
        steps.iter().for_each(|step| machine.run(step));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nagain with PROPTEST_RNG_SEED={seed}");
    }
}
