//! Threads that pin, look, hold while memory runs short, and look again: what a pin has called intact stays, and what it has
//! called lost stays zero.
//!
//! The job in rounds, each thread with buffers of its own:
//!
//! 1. all are filled, and let go;
//! 2. some are pinned, after some pins and unpins that meet offers in progress, looked at and held;
//! 3. a hog takes most of the group's memory, while the threads use what they do not hold;
//! 4. what is held is looked at again.
//!
//! The controls do the same by hand with less care: see [`crate::naive`].

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use vrange::{Buffer, Heap, Pinned, ReadGuard};
use vrange_os::PAGE_BYTES;
use vrange_testing::{Child, Job, MemoryGroup, Talk, alone, scale, skipped};

use crate::hog::{Memory, Way};
use crate::{MIB, pages};

pub(crate) const LIMIT_BYTES: u64 = 128 * MIB;
/// What all threads' buffers hold together.
pub(crate) const KEPT_BYTES: u64 = 96 * MIB;
/// What the hog takes: more than is free; less than that with what is volatile while threads hold and look at as much as they may.
const HOG_BYTES: u64 = 72 * MIB;
/// What a thread may hold at once.
const HELD_BYTES_MAX: usize = 6 << 20;
pub(crate) const THREADS: usize = 3;
/// Of the buffers, one in so many is held, at most.
pub(crate) const HELD_ONE_IN: usize = 4;
/// Among small ranges and large ones, whose page maps and pages are different.
const SIZES_PAGES: [usize; 4] = [16, 256, 64, 1024];

/// What the threads saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) kept_pages: u64,
    pub(crate) lost_pages: u64,
    /// Pages that hold neither what was written nor, if called lost, zeros.
    pub(crate) wrong_pages: u64,
    /// The same, seen at the second look only: they were right when they were pinned.
    pub(crate) wrong_after_hold: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.kept_pages += other.kept_pages;
        self.lost_pages += other.lost_pages;
        self.wrong_pages += other.wrong_pages;
        self.wrong_after_hold += other.wrong_after_hold;
    }

    pub(crate) fn to_line(self) -> String {
        let Self { kept_pages, lost_pages, wrong_pages, wrong_after_hold } = self;
        format!("{kept_pages} {lost_pages} {wrong_pages} {wrong_after_hold}")
    }

    fn of_line(line: &str) -> Self {
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [kept_pages, lost_pages, wrong_pages, wrong_after_hold] = numbers[..] else {
            panic!("not what was seen: {line}")
        };
        Self { kept_pages, lost_pages, wrong_pages, wrong_after_hold }
    }
}

/// Numbers that look random, the same in every run (Knuth's linear congruence).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// A buffer, and which contents it was given last.
struct Slot {
    buffer: Buffer,
    contents: usize,
}

impl Slot {
    /// Checks what is there, writes what is not, and sometimes something new over all of it.
    fn fill(&mut self, is_new: bool) -> Seen {
        let mut seen = Seen::default();
        let contents = self.contents;
        let write = |bytes: &mut [u8], contents: usize, page: usize| {
            let page_bytes = &mut bytes[page * PAGE_BYTES..][..PAGE_BYTES];
            pages::write(page_bytes, contents, page);
        };
        let mut guard = match self.buffer.pin_mut() {
            Pinned::Intact(guard) => guard,
            Pinned::Purged(purged) => purged.refill(|bytes, lost| {
                for page in lost.flat_map(|run| run.step_by(PAGE_BYTES)).map(|byte| byte / PAGE_BYTES) {
                    seen.wrong_pages += u64::from(!pages::is_zero(&bytes[page * PAGE_BYTES..][..PAGE_BYTES]));
                    seen.lost_pages += 1;
                    write(bytes, contents, page);
                }
            }),
        };
        if contents != 0 {
            seen.wrong_pages += wrong_pages(&guard, contents, &BTreeSet::new());
        }
        if is_new || contents == 0 {
            self.contents += 1 << 16;
            (0..guard.len() / PAGE_BYTES).for_each(|page| write(&mut guard, self.contents, page));
        }
        seen
    }

    /// Pins, and compares each page with what the pin says about it.
    fn look(&self) -> (ReadGuard<'_>, BTreeSet<usize>, Seen) {
        let (guard, lost) = match self.buffer.pin() {
            Pinned::Intact(guard) => (guard, BTreeSet::new()),
            Pinned::Purged(purged) => {
                let lost = purged.lost().flat_map(|run| run.step_by(PAGE_BYTES));
                let lost = lost.map(|byte| byte / PAGE_BYTES).collect();
                (purged.into_guard(), lost)
            }
        };
        let seen = Seen {
            kept_pages: (guard.len() / PAGE_BYTES - lost.len()) as u64,
            lost_pages: lost.len() as u64,
            wrong_pages: wrong_pages(&guard, self.contents, &lost),
            wrong_after_hold: 0,
        };
        (guard, lost, seen)
    }
}

fn wrong_pages(bytes: &[u8], contents: usize, lost: &BTreeSet<usize>) -> u64 {
    let is_right = |(page, bytes): (usize, &[u8])| {
        if lost.contains(&page) { pages::is_zero(bytes) } else { pages::is_written(bytes, contents, page) }
    };
    bytes.chunks(PAGE_BYTES).enumerate().filter(|page| !is_right(*page)).count() as u64
}

/// Steps 2 to 4, of one thread.
fn pin_and_hold(slots: &[Slot], random: &mut Random, step: &Barrier, is_over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut held_bytes = 0;
    let (held, others): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| {
        let bytes = slot.buffer.len();
        let is_held = random.below(HELD_ONE_IN) == 0 && held_bytes + bytes <= HELD_BYTES_MAX;
        held_bytes += if is_held { bytes } else { 0 };
        is_held
    });
    let mut holds = Vec::with_capacity(held.len());
    for slot in held {
        for _ in 0..random.below(4) {
            drop(slot.buffer.pin());
            (0..random.below(1 << 12)).for_each(|_| std::hint::spin_loop());
        }
        let (guard, lost, found) = slot.look();
        seen.add(found);
        holds.push((guard, slot.contents, lost));
    }
    step.wait();
    while !is_over.load(Ordering::Relaxed) {
        seen.add(others[random.below(others.len())].look().2);
    }
    for (guard, contents, lost) in holds {
        let wrong = wrong_pages(&guard, contents, &lost);
        seen.wrong_pages += wrong;
        seen.wrong_after_hold += wrong;
    }
    seen
}

fn round(shares: &mut [(Vec<Slot>, Random)]) -> Seen {
    let (filled, held, is_over) =
        (Barrier::new(shares.len()), Barrier::new(shares.len() + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (filled, held, is_over) = (&filled, &held, &is_over);
        let use_share = move |(slots, random): &mut (Vec<Slot>, Random)| {
            let mut seen = Seen::default();
            slots.iter_mut().for_each(|slot| seen.add(slot.fill(random.below(8) == 0)));
            filled.wait();
            seen.add(pin_and_hold(slots, random, held, is_over));
            seen
        };
        let threads: Vec<_> = shares.iter_mut().map(|share| scope.spawn(move || use_share(share))).collect();
        held.wait();
        drop(Memory::take(HOG_BYTES, 2, Way::Touch));
        is_over.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        threads.into_iter().for_each(|thread| seen.add(thread.join().expect("nothing here fails")));
        seen
    })
}

pub(crate) fn run(talk: &mut Talk) {
    let mut builder = Heap::builder();
    if let Some(bytes) = talk.number("max_unoffered") {
        builder = builder.max_unoffered(bytes);
    }
    let heap = builder.build().expect("a heap");
    let mut shares: Vec<_> = (0..THREADS as u64).map(|seed| (Vec::new(), Random(seed))).collect();
    let mut bytes = 0;
    for (number, pages) in SIZES_PAGES.into_iter().cycle().enumerate() {
        if bytes >= KEPT_BYTES {
            break;
        }
        let buffer = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
        bytes += buffer.len() as u64;
        shares[number % THREADS].0.push(Slot { buffer, contents: 0 });
    }
    talk.say("ready");
    while talk.hear().is_some() {
        let seen = round(&mut shares);
        talk.say(&format!("{} {}", seen.to_line(), heap.stats().rescued.pages()));
    }
}

/// Starts a job in a group of its own. `None`: that cannot be done here.
pub(crate) fn start(words: &str) -> Option<(MemoryGroup, Child)> {
    let group = MemoryGroup::make("stress", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let mut child = Job::new(words).enter(group.entry()).start();
    child.hear().expect("it starts");
    Some((group, child))
}

/// Has it go through so many rounds; returns what was seen in all, and the number that each job adds to it last.
#[track_caller]
pub(crate) fn rounds(group: &MemoryGroup, child: &mut Child, count: u32) -> (Seen, u64) {
    let (mut seen, mut last) = (Seen::default(), 0);
    for number in 0..count {
        let line = child.ask("again");
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        let line = line.expect("nobody was killed");
        let (numbers, number) = line.rsplit_once(' ').expect("five numbers");
        seen.add(Seen::of_line(numbers));
        last = number.parse().expect("a number");
    }
    println!("{seen:?}, {last}");
    (seen, last)
}

#[track_caller]
fn nothing_is_wrong(words: &str) {
    let _alone = alone();
    let Some((group, mut child)) = start(words) else { return };
    let (seen, rescued_pages) = rounds(&group, &mut child, scale().pick(6, 200));
    assert_eq!(seen.wrong_pages, 0, "{seen:?}");
    assert!(
        seen.lost_pages > 0 && rescued_pages > 0,
        "nothing was tested: {seen:?}, {rescued_pages} rescued"
    );
}

#[test]
fn c03_what_is_pinned_stays_while_memory_runs_short() {
    nothing_is_wrong("stress");
}

#[test]
fn c03_what_is_pinned_stays_where_every_unpin_offers() {
    nothing_is_wrong("stress max_unoffered=0");
}
