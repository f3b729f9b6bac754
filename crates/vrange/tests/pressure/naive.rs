//! The protocol by hand, on memory of its own, with parts left out. It goes through the rounds of [`crate::stress`], and loses what it
//! has called intact.
//!
//! A thread offers what is volatile, at once. The word `way=` says what a pin does:
//!
//! | | |
//! |---|---|
//! | `right` | waits for an offer in progress; decides by the result of a read-modify-write |
//! | `load` | decides by a load |
//! | `fenced_load` | decides by what `fetch_or(0)` is compiled to; see `tests/model/controls.rs` |
//! | `no_wait` | takes what is being offered for volatile; otherwise right |

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::time::Duration;

use vrange_os::linux::Linux;
use vrange_os::{PAGE_BYTES, Placement, Reservation, System};
use vrange_testing::{Talk, alone, scale};

use crate::hog::{Memory, Way as TakingWay};
use crate::stress::{HELD_ONE_IN, KEPT_BYTES, Random, Seen, THREADS, rounds, start};
use crate::{MIB, pages};

const PAGES: usize = 64;
const RANGE_BYTES: usize = PAGES * PAGE_BYTES;
/// The kernel's count of what it may take lags by up to 31 pages a processor, so this much may be none.
const NOTHING_BYTES: u64 = 3 * MIB / 2;

const NOTING: Duration = Duration::from_micros(50);

const PINNED: u8 = 0;
const VOLATILE: u8 = 1;
const OFFERING: u8 = 2;
const OFFERED: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Right,
    Load,
    FencedLoad,
    NoWait,
}

impl Way {
    fn named(name: &str) -> Self {
        match name {
            "right" => Self::Right,
            "load" => Self::Load,
            "fenced_load" => Self::FencedLoad,
            "no_wait" => Self::NoWait,
            other => panic!("unknown: {other}"),
        }
    }

    /// Is the page still there? Right ways make sure that it stays.
    fn rescue(self, first: &AtomicU64) -> bool {
        match self {
            Self::Load => first.load(Ordering::SeqCst) != 0,
            Self::FencedLoad => {
                fence(Ordering::SeqCst);
                first.load(Ordering::SeqCst) != 0
            }
            // Two that change the word, one of which takes the other's change back: the compiler makes no load of them.
            Self::Right | Self::NoWait => {
                first.load(Ordering::SeqCst) != 0 && {
                    let was_there = first.fetch_add(1, Ordering::SeqCst) != 0;
                    first.fetch_sub(1, Ordering::SeqCst);
                    was_there
                }
            }
        }
    }
}

/// Memory with a state, for one thread that pins and one that offers.
struct Range {
    memory: Reservation,
    state: AtomicU8,
}

impl Range {
    fn new() -> Self {
        let memory = linux().reserve(PAGES, Placement::SmallPages, false).expect("room");
        Self { memory, state: AtomicU8::new(PINNED) }
    }

    /// For its thread, while it is pinned.
    #[expect(clippy::mut_from_ref, reason = "a pin by one thread alone stands for the exclusive reference")]
    fn bytes(&self) -> &mut [u8] {
        assert_eq!(self.state.load(Ordering::SeqCst), PINNED);
        // SAFETY: mapped until the process ends, and only the one thread that pins this range asks for its bytes. Where the
        // kernel takes them all the same, each look is through a reference that was made after that.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base(), RANGE_BYTES) }
    }

    fn first_word(&self, page: usize) -> &AtomicU64 {
        let word = self.memory.base().wrapping_add(page * PAGE_BYTES).cast::<u64>();
        // SAFETY: inside the mapping, aligned, and asked for by the one thread that pins this range, before it asks for bytes.
        unsafe { AtomicU64::from_ptr(word) }
    }

    fn becomes(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The thread that offers: tries once.
    fn offer(&self) -> bool {
        if !self.becomes(VOLATILE, OFFERING) {
            return false;
        }
        // Stands for the time in which it is noted what is there, on a busy machine.
        std::thread::sleep(NOTING);
        // SAFETY: our own memory, whose contents may be lost.
        let _ = unsafe { linux().offer(&[self.memory.span()]) };
        // Fails where somebody has pinned it meanwhile, which only a naive pin does.
        self.becomes(OFFERING, OFFERED);
        true
    }

    fn is_being_offered(&self) -> bool {
        matches!(self.state.load(Ordering::SeqCst), VOLATILE | OFFERING)
    }

    /// The worst moment for the next pin: an offer is in progress, or has just been made. There are more threads here than
    /// processors, so who waits lets the others run: the one that offers is among them.
    fn wait_for_offer(&self) {
        while self.state.load(Ordering::SeqCst) == VOLATILE {
            std::thread::yield_now();
        }
    }

    /// Pins, and says which pages are there.
    fn pin(&self, way: Way) -> [bool; PAGES] {
        loop {
            if self.becomes(VOLATILE, PINNED) || way == Way::NoWait && self.becomes(OFFERING, PINNED) {
                return [true; PAGES];
            }
            if self.state.load(Ordering::SeqCst) == OFFERED {
                let is_there = std::array::from_fn(|page| way.rescue(self.first_word(page)));
                self.state.store(PINNED, Ordering::SeqCst);
                return is_there;
            }
            std::thread::yield_now();
        }
    }

    fn unpin(&self) {
        self.state.store(VOLATILE, Ordering::SeqCst);
    }

    /// Pins, checks what is there, writes everything, and lets go. A new range is pinned, and holds nothing.
    fn fill(&self, way: Way, contents: &mut usize) -> Seen {
        let seen = match *contents {
            0 => Seen::default(),
            contents => self.compare(contents, &self.pin(way)),
        };
        self.write(contents);
        self.unpin();
        seen
    }

    /// Writes new contents.
    fn write(&self, contents: &mut usize) {
        *contents += 1 << 16;
        let written = self.bytes().chunks_mut(PAGE_BYTES).enumerate();
        written.for_each(|(page, bytes)| pages::write(bytes, *contents, page));
    }

    fn compare(&self, contents: usize, is_there: &[bool; PAGES]) -> Seen {
        let mut seen = Seen::default();
        for ((page, bytes), is_there) in self.bytes().chunks(PAGE_BYTES).enumerate().zip(is_there) {
            let is_right =
                if *is_there { pages::is_written(bytes, contents, page) } else { pages::is_zero(bytes) };
            seen.wrong_pages += u64::from(!is_right);
            *(if *is_there { &mut seen.kept_pages } else { &mut seen.lost_pages }) += 1;
        }
        seen
    }
}

fn linux() -> &'static Linux {
    Linux::get().expect("this kernel is supported")
}

/// One thread's ranges.
struct Share<'a> {
    ranges: &'a [Range],
    /// What each was given last.
    contents: Vec<usize>,
    random: Random,
}

impl Share<'_> {
    fn round(&mut self, way: Way, filled: &Barrier, held: &Barrier, over: &Barrier) -> Seen {
        let mut seen = Seen::default();
        for (range, contents) in self.ranges.iter().zip(&mut self.contents) {
            seen.add(range.fill(way, contents));
        }
        filled.wait();
        let mut holds = Vec::new();
        for at in 0..self.ranges.len() {
            if self.random.below(HELD_ONE_IN) > 0 {
                continue;
            }
            let range = &self.ranges[at];
            let mut is_there = range.pin(way);
            seen.add(range.compare(self.contents[at], &is_there));
            // Written, let go, and wanted again.
            if is_there == [true; PAGES] && self.random.below(2) == 0 {
                range.write(&mut self.contents[at]);
                range.unpin();
                range.wait_for_offer();
                is_there = range.pin(way);
                seen.add(range.compare(self.contents[at], &is_there));
            }
            holds.push((at, is_there));
        }
        held.wait();
        over.wait();
        for (at, is_there) in holds {
            let wrong = self.ranges[at].compare(self.contents[at], &is_there).wrong_pages;
            seen.wrong_pages += wrong;
            seen.wrong_after_hold += wrong;
            // So that none is counted twice.
            self.ranges[at].write(&mut self.contents[at]);
            self.ranges[at].unpin();
        }
        seen
    }
}

/// Bytes that the kernel may take of this process: offered, still there, and not written since.
fn takable_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 has it");
    let line = text.lines().find_map(|line| line.strip_prefix("LazyFree:")).expect("Linux 4.12 counts it");
    let kibibytes = line.trim().strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok());
    kibibytes.expect("a number of KiB") * 1024
}

/// Takes memory until the kernel has taken all that it may.
fn take_all_that_may_be_taken() {
    let mut taken = Vec::new();
    loop {
        let takable_bytes = takable_bytes();
        if takable_bytes <= NOTHING_BYTES {
            return;
        }
        let bytes = (takable_bytes / 4).next_multiple_of(MIB).min(takable_bytes / MIB * MIB);
        taken.push(Memory::take(bytes, 1, TakingWay::Touch));
    }
}

fn round(ranges: &[Range], shares: &mut [Share<'_>], way: Way) -> Seen {
    let filled = Barrier::new(shares.len());
    let [held, over] = [0, 1].map(|_| Barrier::new(shares.len() + 1));
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            shares.iter_mut().map(|share| scope.spawn(|| share.round(way, &filled, &held, &over))).collect();
        held.wait();
        while ranges.iter().any(Range::is_being_offered) {
            std::thread::yield_now();
        }
        take_all_that_may_be_taken();
        over.wait();
        let mut seen = Seen::default();
        threads.into_iter().for_each(|thread| seen.add(thread.join().expect("nothing here fails")));
        seen
    })
}

pub(crate) fn run(talk: &mut Talk) {
    let way = Way::named(talk.option("way").expect("a way"));
    let count = usize::try_from(KEPT_BYTES).expect("fits") / RANGE_BYTES;
    let ranges: Vec<Range> = (0..count).map(|_| Range::new()).collect();
    let mut shares: Vec<_> = ranges
        .chunks(count.div_ceil(THREADS))
        .zip(0..)
        .map(|(ranges, seed)| Share { ranges, contents: vec![0; ranges.len()], random: Random(seed) })
        .collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if ranges.iter().filter(|range| range.offer()).count() == 0 {
                    std::thread::yield_now();
                }
            }
        });
        talk.say("ready");
        while talk.hear().is_some() {
            talk.say(&format!("{} 0", round(&ranges, &mut shares, way).to_line()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// What was seen in some rounds. `None`: they cannot be gone through here.
#[track_caller]
fn seen(way: &str) -> Option<Seen> {
    let _alone = alone();
    let (group, mut child) = start(&format!("naive way={way}"))?;
    Some(rounds(&group, &mut child, scale().pick(2, 20)).0)
}

/// That it is the part left out which loses data, and not the rest.
#[test]
fn the_protocol_by_hand_loses_nothing_that_is_pinned() {
    let Some(seen) = seen("right") else { return };
    assert_eq!(seen.wrong_pages, 0, "{seen:?}");
    assert!(seen.lost_pages > 0 && seen.kept_pages > 0, "nothing was tested: {seen:?}");
}

#[test]
fn control_a_rescue_that_only_loads_loses_what_is_pinned() {
    let Some(seen) = seen("load") else { return };
    assert!(seen.wrong_after_hold > 0, "{seen:?}");
}

#[test]
fn control_a_rescue_by_a_fence_and_a_load_loses_what_is_pinned() {
    let Some(seen) = seen("fenced_load") else { return };
    assert!(seen.wrong_after_hold > 0, "{seen:?}");
}

#[test]
fn control_a_pin_that_does_not_wait_for_an_offer_loses_what_is_pinned() {
    let Some(seen) = seen("no_wait") else { return };
    assert!(seen.wrong_after_hold > 0, "{seen:?}");
}
