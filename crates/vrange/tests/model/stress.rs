//! Threads that read, hold and refill shared buffers, while another offers, pages out and releases them.
//!
//! Locks are taken by trying, and the end of a thread is announced by a count of our own: ThreadSanitizer sees neither
//! waiting nor joining in a standard library that was built without it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap, HeapBuilder, Pinned, Stats};
use vrange_os::{PAGE_BYTES, Span, linux::page_out};

const WORDS: usize = PAGE_BYTES / 8;
/// Small ones, one with a page map of its own, and one in huge pages.
const SIZES_PAGES: [usize; 6] = [1, 3, 17, 40, 130, 600];

/// A buffer whose pages hold stamps: which buffer, which page, and how often it was rewritten.
struct Stamped {
    buffer: Buffer,
    at: usize,
    version: u64,
}

impl Stamped {
    fn new(heap: &Heap, at: usize) -> Self {
        let buffer = heap.buffer(SIZES_PAGES[at] * PAGE_BYTES).expect("room");
        let mut stamped = Self { buffer, at, version: 0 };
        stamped.rewrite();
        stamped
    }

    fn stamp(at: usize, version: u64, page: usize) -> u64 {
        // Never zero, and different for every page and version.
        (version + 1) << 24 | (at as u64) << 16 | page as u64
    }

    /// Pins for writing, refills what was lost, writes the next version. Returns how many pages were lost.
    fn rewrite(&mut self) -> u64 {
        let (at, version) = (self.at, self.version);
        let mut lost_pages = 0;
        let mut guard = match self.buffer.pin_mut() {
            Pinned::Intact(guard) => guard,
            Pinned::Purged(purged) => purged.refill(|bytes, lost| {
                for page in lost.flat_map(|run| run.step_by(PAGE_BYTES)) {
                    assert!(
                        bytes[page..][..PAGE_BYTES].iter().all(|byte| *byte == 0),
                        "a lost page reads as zeros"
                    );
                    let stamp = Self::stamp(at, version, page / PAGE_BYTES).to_ne_bytes();
                    bytes[page..][..PAGE_BYTES].chunks_mut(8).for_each(|word| word.copy_from_slice(&stamp));
                    lost_pages += 1;
                }
            }),
        };
        for (page, words) in guard.as_mut_slice_of::<u64>().chunks_mut(WORDS).enumerate() {
            let stamp = Self::stamp(at, version, page);
            assert!(version == 0 || *words == [stamp; WORDS], "kept or refilled");
            words.fill(Self::stamp(at, version + 1, page));
        }
        drop(guard);
        self.version += 1;
        lost_pages
    }

    /// Pins for reading, compares, holds, compares again. Returns how many pages were lost; none if it would have waited.
    fn read(&self, may_wait: bool, hold: impl FnOnce()) -> u64 {
        let pinned = if may_wait { Some(self.buffer.pin()) } else { self.buffer.try_pin() };
        let Some(pinned) = pinned else { return 0 };
        let mut lost = vec![false; SIZES_PAGES[self.at]];
        if let Pinned::Purged(purged) = &pinned {
            purged
                .lost()
                .flat_map(|run| run.step_by(PAGE_BYTES))
                .for_each(|byte| lost[byte / PAGE_BYTES] = true);
        }
        let guard = match pinned {
            Pinned::Intact(guard) => guard,
            Pinned::Purged(purged) => purged.into_guard(),
        };
        let compare = || {
            for (page, words) in guard.as_slice_of::<u64>().chunks(WORDS).enumerate() {
                let expected = if lost[page] { 0 } else { Self::stamp(self.at, self.version, page) };
                assert!(
                    *words == [expected; WORDS],
                    "page {page}, lost: {}, found {:x}",
                    lost[page],
                    words[0]
                );
            }
        };
        compare();
        hold();
        compare();
        lost.into_iter().filter(|lost| *lost).count() as u64
    }

    fn span(&self) -> Span {
        Span::new(self.buffer.as_ptr().addr(), SIZES_PAGES[self.at])
    }
}

/// Pseudo-random numbers from a seed (SplitMix64, Steele et al., 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }
}

/// Tries until it succeeds.
fn patiently<G>(lock: impl Fn() -> Result<G, TryLockError<G>>) -> G {
    loop {
        match lock() {
            Ok(guard) => return guard,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Poisoned(_)) => panic!("another thread has failed"),
        }
    }
}

fn to_read(place: &RwLock<Stamped>) -> RwLockReadGuard<'_, Stamped> {
    patiently(|| place.try_read())
}

fn to_write(place: &RwLock<Stamped>) -> RwLockWriteGuard<'_, Stamped> {
    patiently(|| place.try_write())
}

/// One thread's rounds: mostly reads, some of them without waiting, now and then a rewrite. Returns how often a loss was
/// seen.
fn use_buffers(buffers: &[RwLock<Stamped>], mut random: Random, until: Instant) -> u64 {
    let mut lost = 0;
    while Instant::now() < until {
        let place = &buffers[random.below(buffers.len())];
        if random.below(4) == 0 {
            lost += to_write(place).rewrite();
        } else {
            let stamped = to_read(place);
            let hold = random.below(3);
            let found = stamped.read(random.below(2) == 0, || match hold {
                0 => {}
                1 => std::thread::yield_now(),
                _ => page_out(stamped.span()).expect("the kernel takes MADV_PAGEOUT"),
            });
            lost += u64::from(found > 0);
        }
    }
    lost
}

/// Plays the reclaimer and the kernel. Nothing here takes the buffers' locks: it works as the reclaimer does, beside them.
fn disturb(heap: &Heap, spans: &[Span], mut random: Random, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let span = spans[random.below(spans.len())];
        match random.below(256) {
            // Seldom, for it takes a whole buffer.
            0 => {
                let _ = heap.reclaim(1 << 12);
            }
            1..100 => {
                let _ = heap.offer(1 << random.below(22));
            }
            _ => {
                let start = random.below(span.pages());
                let part = span.slice(start, 1 + random.below(span.pages()));
                page_out(part).expect("the kernel takes MADV_PAGEOUT");
            }
        }
    }
}

/// Runs three users and the disturber. Returns how many losses the users saw.
fn run_threads(heap: &Heap, buffers: &[RwLock<Stamped>], seed: u64) -> u64 {
    let spans: Vec<Span> = buffers.iter().map(|place| to_read(place).span()).collect();
    let until = Instant::now() + Duration::from_secs(2) * super::scale();
    let (lost, done, ended) = (AtomicU64::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let spawn_user = |thread: u64| {
            let (lost, ended) = (&lost, &ended);
            threads.spawn(move || {
                lost.fetch_add(use_buffers(buffers, Random(seed ^ thread), until), Ordering::Relaxed);
                ended.fetch_add(1, Ordering::Release);
            })
        };
        let users: Vec<_> = (0..3).map(spawn_user).collect();
        let disturber = threads.spawn(|| {
            disturb(heap, &spans, Random(!seed), &done);
            ended.fetch_add(1, Ordering::Release);
        });
        let outcomes: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        done.store(true, Ordering::Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.expect("a user found a mistake"));
        disturber.join().expect("nothing here fails");
    });
    assert_eq!(ended.load(Ordering::Acquire), 4);
    lost.into_inner()
}

/// Runs the threads on a heap; returns what happened in it.
fn stress(builder: HeapBuilder) -> Stats {
    let seed = match std::env::var("VRANGE_TEST_SEED") {
        Ok(seed) => seed.parse().expect("VRANGE_TEST_SEED is a number"),
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
    };
    println!("VRANGE_TEST_SEED={seed}");
    let (heap, _reclaimer) = builder.build_manual().expect("this kernel is supported");
    let new = |at| RwLock::new(Stamped::new(&heap, at));
    let buffers: Vec<RwLock<Stamped>> = (0..SIZES_PAGES.len()).map(new).collect();
    // On an emulated processor it can take long until the kernel has taken a page that somebody asks for.
    let until = Instant::now() + Duration::from_secs(120);
    while run_threads(&heap, &buffers, seed) == 0 {
        assert!(Instant::now() < until, "losses were seen");
    }
    let stats = heap.stats();
    assert_eq!((stats.pinned.ranges, stats.in_transit.ranges), (0, 0), "everything was let go");
    stats
}

#[test]
fn threads_see_what_was_written_or_hear_of_its_loss() {
    let stats = stress(Heap::builder());
    assert!(stats.lost.pages() > 0 && stats.rescued.pages() > 0, "both happened: {stats:?}");
}

#[test]
fn also_when_every_unpin_offers() {
    let stats = stress(Heap::builder().max_unoffered(0));
    assert!(stats.lost.pages() > 0 && stats.rescued.pages() > 0, "both happened: {stats:?}");
}

#[test]
fn also_when_a_limit_releases() {
    // A byte less than all buffers together.
    let all_bytes: usize = SIZES_PAGES.iter().map(|pages| pages * PAGE_BYTES).sum();
    let stats = stress(Heap::builder().limit(all_bytes as u64 - 1));
    assert!(stats.released.pages() > 0, "the limit was reached: {stats:?}");
}
