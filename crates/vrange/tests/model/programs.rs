//! Random programs over several buffers. What the bytes say under a pin is the truth: a page with contents that reads as
//! zeros is lost, and must have been reported; every other page must be as it was written.

use proptest::prelude::*;
use vrange::{Buffer, Heap, LostBytes, Phase, Pinned};
use vrange_os::linux::{Linux, page_out};
use vrange_os::{PAGE_BYTES, Span, System};
use vrange_testing::run_programs;

/// What a writer does about losses.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Refill,
    Acknowledge,
    Leave,
}

/// A part of a buffer, in shares of its length: 0 is its begin, [`WHOLE`] its end.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: usize,
    length: usize,
}

const WHOLE: usize = 1000;

impl Part {
    fn of(self, length: usize) -> std::ops::Range<usize> {
        let start = self.start * length / WHOLE;
        start..(start + (self.length * length / WHOLE).max(1)).min(length)
    }
}

/// One step. `at` numbers buffers, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    New {
        bytes: usize,
    },
    Drop {
        at: usize,
    },
    Read {
        at: usize,
    },
    Write {
        at: usize,
        part: Part,
        byte: u8,
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
    Reclaim {
        pages: u64,
    },
    /// The kernel takes what it may of these pages.
    Take {
        at: usize,
        part: Part,
    },
    /// The same while the buffer is pinned.
    TakePinned {
        at: usize,
        part: Part,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        4 => 1..8 * PAGE_BYTES,
        3 => 8 * PAGE_BYTES..200 * PAGE_BYTES,
        1 => 200 * PAGE_BYTES..700 * PAGE_BYTES,
        // Huge pages: one, and one and a bit.
        1 => Just(512 * PAGE_BYTES),
        1 => 512 * PAGE_BYTES..700 * PAGE_BYTES,
    ];
    let at = 0..6usize;
    let part = prop_oneof![
        Just(Part { start: 0, length: WHOLE }),
        (0..WHOLE, 1..WHOLE).prop_map(|(start, length)| Part { start, length }),
        (0..WHOLE).prop_map(|start| Part { start, length: 0 }),
    ];
    let answer = prop_oneof![Just(Answer::Refill), Just(Answer::Acknowledge), Just(Answer::Leave)];
    let step = prop_oneof![
        2 => bytes.prop_map(|bytes| Step::New { bytes }),
        1 => at.clone().prop_map(|at| Step::Drop { at }),
        4 => at.clone().prop_map(|at| Step::Read { at }),
        8 => (at.clone(), part.clone(), prop_oneof![1 => Just(0), 3 => 1..=u8::MAX], answer)
            .prop_map(|(at, part, byte, answer)| Step::Write { at, part, byte, answer }),
        6 => at.clone().prop_map(|at| Step::Offer { at }),
        2 => (0..900u64).prop_map(|pages| Step::OfferColdest { pages }),
        1 => at.clone().prop_map(|at| Step::Release { at }),
        1 => (0..90u64).prop_map(|pages| Step::Reclaim { pages }),
        6 => (at.clone(), part.clone()).prop_map(|(at, part)| Step::Take { at, part }),
        2 => (at, part).prop_map(|(at, part)| Step::TakePinned { at, part }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A buffer, and what it ought to hold.
struct PlainBuffer {
    buffer: Buffer,
    expected: Expected,
}

/// What a buffer ought to hold.
struct Expected {
    bytes: Vec<u8>,
    /// Pages that were reported lost and not acknowledged.
    reported: Vec<bool>,
    /// Pages that may be on swap. Offered there they are lost, also those that held nothing: what they hold is not known
    /// without reading them in.
    swapped: Vec<bool>,
}

impl Expected {
    /// Takes over what a pin reports lost. Returns how many pages are new among it.
    fn take_over(&mut self, lost: &[bool]) -> usize {
        let mut newly_lost = 0;
        for (page, bytes) in self.bytes.chunks_mut(PAGE_BYTES).enumerate() {
            assert!(
                lost[page] || !self.reported[page],
                "page {page} was reported lost, and nobody has acknowledged that"
            );
            if lost[page] && !self.reported[page] {
                let held_something = bytes.iter().any(|byte| *byte != 0);
                assert!(
                    held_something || self.swapped[page],
                    "page {page} held nothing, and is reported lost"
                );
                self.reported[page] = true;
                bytes.fill(0);
                newly_lost += 1;
            }
        }
        newly_lost
    }
}

impl PlainBuffer {
    fn new(heap: &Heap, bytes: usize) -> Self {
        let buffer = heap.buffer(bytes).expect("room");
        assert_eq!((buffer.len(), buffer.phase()), (bytes, Phase::Empty));
        let pages = bytes.div_ceil(PAGE_BYTES);
        let expected =
            Expected { bytes: vec![0; bytes], reported: vec![false; pages], swapped: vec![false; pages] };
        Self { buffer, expected }
    }

    fn span(&self) -> Span {
        Span::new(self.buffer.as_ptr().addr(), self.expected.reported.len())
    }

    fn take(&mut self, part: Part) {
        let pages = part.of(self.expected.reported.len());
        self.expected.swapped[pages.clone()].fill(has_swap());
        page_out(self.span().slice(pages.start, pages.len())).expect("the kernel takes MADV_PAGEOUT");
    }

    /// Pins, compares, and compares again after the kernel has tried to take pages under the pin.
    fn read(&mut self, taken: Option<Part>) -> usize {
        let may_lose = matches!(self.buffer.phase(), Phase::Offered | Phase::Empty);
        let span = self.span();
        let pinned = self.buffer.pin();
        let lost = lost_pages(&pinned, self.expected.reported.len());
        let guard = match pinned {
            Pinned::Intact(guard) => guard,
            Pinned::Purged(purged) => purged.into_guard(),
        };
        let newly_lost = self.expected.take_over(&lost);
        assert_bytes(&guard, &self.expected.bytes);
        self.expected.swapped.fill(false);
        assert!(may_lose || newly_lost == 0, "nothing is lost that was not offered");
        if let Some(part) = taken {
            let pages = part.of(self.expected.reported.len());
            page_out(span.slice(pages.start, pages.len())).expect("the kernel takes MADV_PAGEOUT");
            assert!(*guard == self.expected.bytes[..], "lost under a pin");
        }
        newly_lost
    }

    fn write(&mut self, part: Part, byte: u8, answer: Answer) -> usize {
        let part = part.of(self.expected.bytes.len());
        let pinned = self.buffer.pin_mut();
        let lost = lost_pages(&pinned, self.expected.reported.len());
        let newly_lost = self.expected.take_over(&lost);
        let mut guard = match (pinned, answer) {
            (Pinned::Intact(guard), _) => guard,
            (Pinned::Purged(purged), Answer::Refill) => purged.refill(|bytes, runs| {
                assert_bytes(bytes, &self.expected.bytes);
                for run in runs {
                    bytes[run.clone()].fill(0xee);
                    self.expected.bytes[run].fill(0xee);
                }
            }),
            (Pinned::Purged(purged), Answer::Acknowledge) => purged.acknowledge(),
            (Pinned::Purged(_), Answer::Leave) => return newly_lost,
        };
        self.expected.reported.fill(false);
        assert_bytes(&guard, &self.expected.bytes);
        self.expected.swapped.fill(false);
        guard[part.clone()].fill(byte);
        self.expected.bytes[part].fill(byte);
        assert_bytes(&guard, &self.expected.bytes);
        newly_lost
    }
}

fn has_swap() -> bool {
    Linux::get().expect("this kernel is supported").has_swap()
}

fn lost_pages<G>(pinned: &Pinned<G>, pages: usize) -> Vec<bool>
where
    Pinned<G>: Lost,
{
    let mut lost = vec![false; pages];
    if let Some(runs) = pinned.lost() {
        for run in runs {
            lost[run.start / PAGE_BYTES..run.end.div_ceil(PAGE_BYTES)].fill(true);
        }
        assert!(lost.contains(&true), "purged, but of nothing");
    }
    lost
}

/// Both kinds of pins tell what was lost.
trait Lost {
    fn lost(&self) -> Option<LostBytes<'_>>;
}

impl Lost for Pinned<vrange::ReadGuard<'_>> {
    fn lost(&self) -> Option<LostBytes<'_>> {
        if let Self::Purged(purged) = self { Some(purged.lost()) } else { None }
    }
}

impl Lost for Pinned<vrange::WriteGuard<'_>> {
    fn lost(&self) -> Option<LostBytes<'_>> {
        if let Self::Purged(purged) = self { Some(purged.lost()) } else { None }
    }
}

fn assert_bytes(found: &[u8], expected: &[u8]) {
    if found != expected {
        let differs = |(found, expected): (&[u8], &[u8])| found != expected;
        let page = found.chunks(PAGE_BYTES).zip(expected.chunks(PAGE_BYTES)).position(differs);
        panic!("page {page:?} is not as it was written, or not zeros though reported lost");
    }
}

/// Runs a program; returns how many pages it lost.
fn run(steps: &[Step]) -> usize {
    // Driven by hand: what is offered is up to the program.
    let (heap, _reclaimer) = Heap::builder().build_manual().expect("this kernel is supported");
    let mut buffers: Vec<PlainBuffer> = Vec::new();
    let mut lost = 0;
    for step in steps {
        let count = buffers.len();
        match *step {
            Step::New { bytes } => buffers.push(PlainBuffer::new(&heap, bytes)),
            Step::OfferColdest { pages } => {
                let _ = heap.offer(pages * PAGE_BYTES as u64);
            }
            Step::Reclaim { pages } => {
                let _ = heap.reclaim(pages * PAGE_BYTES as u64);
            }
            _ if count == 0 => {}
            Step::Drop { at } => drop(buffers.swap_remove(at % count)),
            Step::Read { at } => lost += buffers[at % count].read(None),
            Step::TakePinned { at, part } => lost += buffers[at % count].read(Some(part)),
            Step::Write { at, part, byte, answer } => lost += buffers[at % count].write(part, byte, answer),
            Step::Offer { at } => {
                let buffer = &buffers[at % count].buffer;
                assert_eq!(buffer.offer(), buffer.phase() == Phase::Offered);
            }
            Step::Release { at } => assert!(buffers[at % count].buffer.release()),
            Step::Take { at, part } => buffers[at % count].take(part),
        }
    }
    for plain in &mut buffers {
        lost += plain.read(None);
    }
    let stats = heap.stats();
    assert_eq!(stats.in_transit.ranges, 0);
    assert_eq!(stats.empty.ranges + stats.pinned.ranges + stats.offered_now.ranges, 0, "all were just read");
    lost
}

#[test]
fn random_programs_lose_exactly_what_is_reported() {
    let lost = std::cell::Cell::new(0);
    let seed = run_programs(40 * super::scale(), &steps(), |steps| lost.set(lost.get() + run(&steps)));
    assert!(lost.get() > 0, "no program lost anything: PROPTEST_RNG_SEED={seed}");
}
