//! A cache in a real memory cgroup, beside a program that needs memory: it grows by itself, stops where memory ends, gives way, and
//! grows again; nobody is killed, and no byte is wrong. The control is a cache to which nobody says how much memory there is.
//!
//! Cache and hog are processes of their own, in a group that only they fill.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{quiet_heap, value};
use vrange::Heap;
use vrange_cache::Cache;
use vrange_testing::{Child, Ended, Job, MemoryGroup, Talk, alone, scale, serve, skipped};

const MIB: u64 = 1 << 20;
const LIMIT_BYTES: u64 = 256 * MIB;
/// All values together: much more than fits.
const VALUES_BYTES: u64 = 1024 * MIB;
/// A cache that is alone is larger than this. (On a quiet machine three times as large; where the reclaimer wakes up late, it keeps up
/// to seven tenths in reserve.)
const FULL_BYTES_MIN: u64 = LIMIT_BYTES / 4;
/// What the hog takes: more than there is beside such a cache.
const HOG_BYTES: u64 = LIMIT_BYTES - FULL_BYTES_MIN;
const THREADS: u64 = 3;
/// Lengths of values, by the key. The longest has a range of its own.
const LENGTHS: [usize; 8] = [100, 3_000, 900, 10_000, 1_500, 30_000, 2_000, 300_000];

/// Not a test: what the child processes of the tests run.
#[test]
fn jobs() {
    serve(&[("cache", run_cache), ("hog", run_hog)]);
}

fn length_of(key: u64) -> usize {
    // Long ones are rarer.
    let class = if key.is_multiple_of(97) { 7 } else { key % 7 };
    LENGTHS[usize::try_from(class).expect("less than eight")]
}

/// Keys whose values make up so much.
fn keys_of(bytes: u64) -> u64 {
    let mut left = bytes;
    let fits = |key: &u64| {
        let before = left;
        left = left.saturating_sub(length_of(*key) as u64);
        before > 0
    };
    (0..).take_while(fits).count() as u64
}

/// Hears `fill` (puts each value in, once), `use MS` (threads ask for values, and make those that are missing), and `stats`.
fn run_cache(talk: &mut Talk) {
    let builder = Cache::<u64>::builder();
    let heap = if talk.has("unattended") {
        let (heap, reclaimer) = quiet_heap();
        // It is kept, and never asked.
        std::mem::forget(reclaimer);
        heap
    } else {
        Heap::new().expect("a heap")
    };
    let cache = builder.heap(heap).build().expect("a cache");
    let keys = keys_of(VALUES_BYTES);
    let (looked_at, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    talk.say("ready");
    while let Some(line) = talk.hear() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["fill"] => {
                for key in 0..keys {
                    // Where there is no room, there is none.
                    let _ = cache.insert(key, &value(key, length_of(key)));
                }
                talk.say("filled");
            }
            ["use", time] => {
                let until = Instant::now() + Duration::from_millis(time.parse().expect("a number"));
                std::thread::scope(|scope| {
                    for thread in 0..THREADS {
                        let (cache, looked_at, wrong) = (&cache, &looked_at, &wrong);
                        scope.spawn(move || use_values(cache, thread, keys, until, looked_at, wrong));
                    }
                });
                let (looked_at, wrong) = (looked_at.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed));
                talk.say(&format!("{looked_at} {wrong}"));
            }
            ["stats"] => {
                let stats = cache.stats();
                talk.say(&format!(
                    "{} {} {}",
                    stats.resident_bytes + stats.offered_bytes,
                    stats.entries,
                    stats.evicted + stats.purged
                ));
            }
            _ => panic!("unknown: {line}"),
        }
    }
}

fn use_values(
    cache: &Cache<u64>,
    thread: u64,
    keys: u64,
    until: Instant,
    looked_at: &AtomicU64,
    wrong: &AtomicU64,
) {
    let mut random = u64::from(until.elapsed().subsec_nanos()) + thread + 1;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    while Instant::now() < until {
        // Half of the lookups are for a tenth of the keys.
        let key = if next() % 2 == 0 { next() % (keys / 10) } else { next() % keys };
        let fetched = cache.get_or_insert_with(key, || value(key, length_of(key)));
        let is_right = *fetched == value(key, length_of(key));
        looked_at.fetch_add(1, Ordering::Relaxed);
        wrong.fetch_add(u64::from(!is_right), Ordering::Relaxed);
    }
}

/// Memory of the hog's: a mapping, since an allocator keeps what is freed.
struct Memory {
    base: *mut libc::c_void,
    bytes: usize,
}

impl Memory {
    fn take(bytes: usize) -> Self {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        // SAFETY: as long, and known to nobody else.
        unsafe { base.cast::<u8>().write_bytes(1, bytes) };
        Self { base, bytes }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `take`, and nobody looks at it.
        assert_eq!(unsafe { libc::munmap(self.base, self.bytes) }, 0);
    }
}

/// Hears `take BYTES` and `free`.
fn run_hog(talk: &mut Talk) {
    let mut held = Vec::new();
    talk.say("ready");
    while let Some(line) = talk.hear() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["take", bytes] => held.push(Memory::take(bytes.parse().expect("a number"))),
            ["free"] => held.clear(),
            _ => panic!("unknown: {line}"),
        }
        talk.say("done");
    }
}

/// What `stats` says.
#[derive(Clone, Copy, Debug)]
struct Seen {
    held_bytes: u64,
    entries: u64,
    gone: u64,
}

fn stats_of(cache: &mut Child) -> Result<Seen, Ended> {
    let line = cache.ask("stats")?;
    let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let [held_bytes, entries, gone] = numbers[..] else { panic!("not stats: {line}") };
    Ok(Seen { held_bytes, entries, gone })
}

fn start(group: &MemoryGroup, words: &str) -> Child {
    let mut child = Job::new(words).enter(group.entry()).start();
    child.hear().expect("it starts");
    child
}

fn group() -> Option<MemoryGroup> {
    MemoryGroup::make("cache", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()
}

#[test]
fn a_cache_without_a_limit_grows_by_itself_and_stops() {
    let _alone = alone();
    let Some(group) = group() else { return };
    let mut cache = start(&group, "cache");
    for round in 0..scale().pick(2, 10) {
        let filled = cache.ask("fill");
        assert_eq!(group.oom_kills(), 0, "round {round}: {:?}", group.read());
        filled.expect("nobody was killed");
        let seen = stats_of(&mut cache).expect("nobody was killed");
        println!("round {round}: {seen:?}, usage {}", group.usage_bytes());
        assert!(seen.held_bytes < LIMIT_BYTES, "{seen:?}");
        assert!(seen.held_bytes > FULL_BYTES_MIN, "memory that nobody needs was left: {seen:?}");
        assert!(seen.entries > 0 && seen.gone > 0, "{seen:?}");
    }
}

#[test]
fn a_cache_gives_way_and_grows_again() {
    let _alone = alone();
    let Some(group) = group() else { return };
    let mut cache = start(&group, "cache");
    let mut hog = start(&group, "hog");
    cache.ask("fill").expect("nobody was killed");
    let full = stats_of(&mut cache).expect("nobody was killed");
    assert!(full.held_bytes > FULL_BYTES_MIN, "the hog would fit beside it: {full:?}");
    let (mut looked_at, mut rounds) = (0, 0);
    let until = Instant::now() + Duration::from_secs(scale().pick(5, 60));
    while Instant::now() < until {
        cache.say("use 1000");
        // In steps, and at once; it needs more than is free in any case.
        let step_bytes = if rounds % 2 == 0 { HOG_BYTES } else { HOG_BYTES / 12 };
        for _ in 0..HOG_BYTES / step_bytes {
            let taken = hog.ask(&format!("take {step_bytes}"));
            assert_eq!(group.oom_kills(), 0, "round {rounds}: {:?}", group.read());
            taken.expect("the hog was not killed");
            std::thread::sleep(Duration::from_millis(20));
        }
        hog.ask("free").expect("the hog was not killed");
        let used = cache.hear();
        assert_eq!(group.oom_kills(), 0, "round {rounds}: {:?}", group.read());
        let line = used.expect("the cache was not killed");
        let (looked, wrong) = line.split_once(' ').expect("two numbers");
        assert_eq!(wrong, "0", "values with other bytes, of {looked}");
        looked_at = looked.parse().expect("a number");
        rounds += 1;
    }
    let pressed = stats_of(&mut cache).expect("nobody was killed");
    assert!(looked_at > 1_000 && rounds > 2, "{looked_at} lookups in {rounds} rounds");
    cache.ask("fill").expect("nobody was killed");
    let again = stats_of(&mut cache).expect("nobody was killed");
    println!("{looked_at} lookups in {rounds} rounds; full {full:?}, pressed {pressed:?}, again {again:?}");
    assert!(again.held_bytes > FULL_BYTES_MIN, "it does not grow again: full {full:?}, again {again:?}");
    assert_eq!(group.oom_kills(), 0);
}

/// The control: the cache's heap has no reclaimer, so nobody says how much memory there is, and nothing is offered.
#[test]
fn control_a_cache_that_nobody_attends_to_is_killed() {
    let _alone = alone();
    let Some(group) = group() else { return };
    let mut cache = start(&group, "cache unattended");
    let filled = cache.ask("fill");
    assert!(filled.is_err_and(|ended| ended.was_killed()), "it had no way of knowing");
    assert!(group.oom_kills() > 0);
}
