//! What a cache promises, one test each.

use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use vrange_cache::{Cache, Cause, ErrorKind, Fetched};

const MIB: usize = 1 << 20;

/// A value that says which key it belongs to in each of its bytes.
fn value_of(key: u64, bytes: usize) -> Vec<u8> {
    let seed = (key % 251) as u8;
    let pattern: Vec<u8> = (0..=250).map(|at: u8| (seed.wrapping_add(at)) | 1).collect();
    pattern.iter().copied().cycle().take(bytes).collect()
}

#[test]
fn what_was_put_in_comes_out() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let lengths = [0, 1, 15, 16, 17, 64, 4095, 4096, 65_536, 262_144, 262_145, 3 * MIB];
    for (key, bytes) in (0..).zip(lengths) {
        assert!(cache.get(&key).is_none());
        cache.insert(key, &value_of(key, bytes)).expect("room");
    }
    for (key, bytes) in (0..).zip(lengths) {
        assert_eq!(&*cache.get(&key).expect("there"), value_of(key, bytes).as_slice());
        assert!(cache.contains(&key));
    }
    assert_eq!(cache.len(), lengths.len());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (lengths.len() as u64, lengths.len() as u64));
}

#[test]
fn a_value_in_use_stays_whatever_happens_to_its_entry() {
    let cache: Cache<u64> = Cache::builder().max_bytes(MIB as u64).build().expect("a cache");
    cache.insert(1, &value_of(1, 100)).expect("room");
    let held = cache.get(&1).expect("there");
    cache.insert(1, &value_of(2, 200)).expect("room");
    assert_eq!(&*held, value_of(1, 100));
    assert_eq!(&*cache.get(&1).expect("there"), value_of(2, 200));
    assert!(cache.remove(&1));
    assert!(!cache.remove(&1));
    cache.clear();
    for key in 10..10_000 {
        cache.insert(key, &value_of(key, 1000)).expect("room");
    }
    assert_eq!(&*held, value_of(1, 100));
}

#[test]
fn a_limit_is_kept_and_nothing_is_mixed_up() {
    let max_bytes = 16 * MIB as u64;
    let cache: Cache<u64> = Cache::builder().max_bytes(max_bytes).build().expect("a cache");
    for round in 0..3 {
        for key in 0..60_000 {
            cache.insert(key, &value_of(key + round, 1000)).expect("room");
            if key % 7 == 0
                && let Some(found) = cache.get(&(key / 2))
            {
                assert!([0, 1, 2].iter().any(|round| *found == value_of(key / 2 + round, 1000)));
            }
        }
        let stats = cache.stats();
        assert!(stats.resident_bytes + stats.offered_bytes <= max_bytes, "{stats:?}");
        assert!(stats.entries > 12_000, "{stats:?}");
    }
}

#[test]
fn a_large_value_that_comes_back_stays_while_a_scan_passes_by() {
    let cache: Cache<u64> = Cache::builder().max_bytes(16 * MIB as u64).build().expect("a cache");
    let insert = |key: u64| cache.insert(key, &value_of(key, 200_000)).expect("nothing is held");
    let mut scanned = 1..;
    insert(0);
    while cache.len() as u64 == scanned.start {
        insert(scanned.next().expect("endless"));
    }
    assert!(!cache.contains(&0), "the oldest was evicted");
    insert(0);
    (&mut scanned).take(200).for_each(insert);
    assert!(cache.contains(&0), "it came back, the others did not");
    assert!(!cache.contains(&100));
}

#[test]
fn what_is_used_stays_and_a_scan_passes_by() {
    let cache: Cache<u64> = Cache::builder().max_bytes(16 * MIB as u64).build().expect("a cache");
    let fetch = |key| cache.get_or_insert_with(key, || value_of(key, 1000));
    let mut misses = 0;
    for scanned in 10_000..90_000u64 {
        // A scan over everything once, and 4,000 keys that are used over and over: the cache holds 16,000.
        let _ = fetch(scanned);
        let used = scanned % 4_000;
        misses += u64::from(scanned > 50_000 && !cache.contains(&used));
        let _ = fetch(used);
    }
    assert!(misses < 400, "{misses} of 40000 missed");
}

#[test]
fn the_listener_is_told_why() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let cache: Cache<u64> = Cache::builder()
        .listener(move |key: &u64, cause| log.lock().push((*key, cause)))
        .build()
        .expect("a cache");
    cache.insert(1, b"one").expect("room");
    cache.insert(1, b"another").expect("room");
    cache.remove(&1);
    cache.insert_with_time_to_live(2, b"short", Duration::from_millis(1)).expect("room");
    std::thread::sleep(Duration::from_millis(5));
    assert!(cache.get(&2).is_none());
    cache.insert(3, b"three").expect("room");
    cache.clear();
    assert_eq!(
        *told.lock(),
        [(1, Cause::Replaced), (1, Cause::Removed), (2, Cause::Expired), (3, Cause::Removed)]
    );
    assert!(cache.is_empty());
}

#[test]
fn values_of_a_type_come_without_a_copy() {
    #[derive(
        zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, Debug, PartialEq,
    )]
    #[repr(C)]
    struct Point {
        x: f64,
        y: f64,
    }
    let points: Cache<&str, Point> = Cache::new().expect("a cache");
    points.insert("origin", &Point { x: 0.0, y: 0.0 }).expect("room");
    points.insert("there", &Point { x: 1.5, y: -2.0 }).expect("room");
    assert_eq!(*points.get("there").expect("there"), Point { x: 1.5, y: -2.0 });
    let numbers: Cache<u8, [u128]> = Cache::new().expect("a cache");
    for length in 0..40u8 {
        numbers.insert(length, &vec![u128::from(length); usize::from(length)]).expect("room");
    }
    assert_eq!(*numbers.get(&33).expect("there"), [33; 33]);
}

#[test]
fn a_value_that_cannot_be_kept_is_an_error_and_harms_nothing() {
    let cache: Cache<u64> = Cache::builder().max_bytes(4 * MIB as u64).build().expect("a cache");
    cache.insert(1, b"kept").expect("room");
    let error = cache.insert(1, &vec![1; 3 * MIB]).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(&*cache.get(&1).expect("there"), b"kept");
    let made = cache.get_or_insert_with(2, || vec![2; 3 * MIB]);
    assert!(matches!(&made, Fetched::Made(_)) && made.len() == 3 * MIB);
    let error = Cache::<u64>::builder().max_bytes(1000).build().map(drop).expect_err("too small");
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
}

#[test]
fn a_limit_that_values_in_use_have_used_up_is_an_error_until_they_are_dropped() {
    let cache: Cache<u64> = Cache::builder().max_bytes(MIB as u64).build().expect("a cache");
    let mut held = Vec::new();
    let error = loop {
        let key = held.len() as u64;
        match cache.insert(key, &value_of(key, 8000)) {
            Ok(()) => held.push(cache.get(&key).expect("there")),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NoRoom);
    assert!(held.len() * 8000 > MIB / 2);
    for (key, value) in (0..).zip(&held) {
        assert_eq!(**value, value_of(key, 8000));
    }
    drop(held);
    cache.insert(1_000_000, &value_of(5, 8000)).expect("room again");
}

#[test]
fn a_panic_while_a_value_is_written_or_made_leaves_nothing_behind() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.insert_with(1, 100, |bytes| {
            bytes[0] = 1;
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err() && cache.get(&1).is_none());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get_or_insert_with(1, || -> Vec<u8> { panic!("on purpose") }).len()
    }));
    assert!(panicked.is_err() && cache.get(&1).is_none());
    assert_eq!(&*cache.get_or_insert_with(1, || b"made".to_vec()), b"made");
    cache.insert_with(2, 100, |bytes| bytes[99] = 7).expect("room");
    assert_eq!(cache.get(&2).expect("there").iter().map(|byte| u32::from(*byte)).sum::<u32>(), 7);
}

#[test]
fn those_who_miss_together_make_the_value_once() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let made = AtomicUsize::new(0);
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for key in 0..50 {
                    start.wait();
                    let value = cache.get_or_insert_with(key, || {
                        made.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_micros(200));
                        value_of(key, 50)
                    });
                    assert_eq!(&*value, value_of(key, 50));
                }
            });
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 50);
}

/// Keys that are alive.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

#[derive(PartialEq, Eq, Hash)]
struct Counted(u64);

impl Counted {
    fn new(number: u64) -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed); // Relaxed: a count of this test's one thread.
        Self(number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed); // Relaxed: as above.
    }
}

impl Borrow<u64> for Counted {
    fn borrow(&self) -> &u64 {
        &self.0
    }
}

/// The index may drop the keys and items of entries that went later, when nobody can be looking at them any more.
#[test]
fn keys_of_entries_that_went_do_not_pile_up() {
    const ENTRIES: u64 = 2_000;
    /// Measured: 68, on two processors.
    const LATE_MAX: usize = 1_000;
    let alive = || ALIVE.load(Ordering::Relaxed); // Relaxed: as above.
    let cache: Cache<Counted> = Cache::new().expect("a cache");
    let insert = |number| cache.insert(Counted::new(number), &value_of(number, 50)).expect("room");
    (0..ENTRIES).for_each(insert);
    assert_eq!(alive(), 2_000, "none has gone");
    let mut most = 0;
    for number in ENTRIES..10 * ENTRIES {
        insert(number);
        assert!(cache.remove(&(number - ENTRIES)), "{number}");
        most = most.max(alive());
    }
    println!("{most} at the most");
    assert!(most <= 2_000 + LATE_MAX, "{most} of 2000 entries");
    drop(cache);
    assert_eq!(alive(), 0);
}
