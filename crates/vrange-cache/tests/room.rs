//! Where room comes from, and that it comes back: limits, what is removed, what is overwritten, what is held.

mod support;

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{quiet_heap, value};
use vrange_cache::{Cache, Cause, ErrorKind, Stats};

const MIB: usize = 1 << 20;

fn limited(bytes: usize) -> Cache<u64> {
    Cache::builder().max_bytes(bytes as u64).build().expect("a cache")
}

fn held_bytes(stats: &Stats) -> u64 {
    stats.resident_bytes + stats.offered_bytes
}

#[test]
fn large_values_make_room_for_one_another() {
    let cache = limited(64 * MIB);
    for key in 0..300 {
        cache.insert(key, &value(key, MIB)).expect("nobody holds anything");
        let stats = cache.stats();
        assert!(held_bytes(&stats) <= 64 * MIB as u64, "{key}: {stats:?}");
        assert!(stats.entries >= key.min(50), "{key}: more went than had to: {stats:?}");
        assert_eq!(*cache.get(&key).expect("just put in"), value(key, MIB));
    }
}

#[test]
fn large_values_and_small_ones_make_room_for_one_another() {
    let cache = limited(16 * MIB);
    for round in 0..20 {
        for key in 0..4_000 {
            cache.insert(key, &value(key, 2_000)).expect("nobody holds anything");
        }
        for key in 10_000..10_010 {
            cache.insert(key, &value(key + round, MIB)).expect("nobody holds anything");
        }
        let stats = cache.stats();
        assert!(held_bytes(&stats) <= 16 * MIB as u64, "{stats:?}");
    }
}

#[test]
fn threads_that_put_large_values_in_keep_the_limit() {
    let max_bytes = 4 * MIB;
    let cache = limited(max_bytes);
    for number in 0..1_500 {
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let cache = &cache;
                scope.spawn(move || {
                    let key = thread << 32 | number;
                    cache.insert(key, &value(key, 200_000)).expect("nobody holds anything");
                });
            }
        });
        // Figures that are taken while others insert add up what was never there at the same time.
        let stats = cache.stats();
        assert!(held_bytes(&stats) <= max_bytes as u64, "{stats:?}");
    }
    assert!(cache.len() >= 15, "{:?}", cache.stats());
}

#[test]
fn the_memory_of_large_values_that_went_comes_back() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let fill = || (0..20).for_each(|key| cache.insert(key, &value(key, 4 * MIB)).expect("room"));
    fill();
    (0..20).for_each(|key| assert!(cache.remove(&key)));
    assert!(held_bytes(&cache.stats()) < 8 * MIB as u64, "removed: {:?}", cache.stats());
    fill();
    let held = cache.get(&7).expect("there");
    cache.clear();
    assert!(held_bytes(&cache.stats()) < 8 * MIB as u64, "cleared: {:?}", cache.stats());
    assert_eq!(*held, value(7, 4 * MIB));
    drop(held);
    fill();
    fill();
    assert!(held_bytes(&cache.stats()) < 90 * MIB as u64, "replaced: {:?}", cache.stats());
}

#[test]
fn clearing_gives_the_memory_of_small_values_back() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    (0..20_000).for_each(|key| cache.insert(key, &value(key, 1_000)).expect("room"));
    assert!(held_bytes(&cache.stats()) > 19 * MIB as u64);
    cache.clear();
    assert!(held_bytes(&cache.stats()) <= 2 * MIB as u64, "{:?}", cache.stats());
}

#[test]
fn a_limit_is_kept_while_values_are_held_across_a_clearing() {
    let max_bytes = 8 * MIB;
    let cache = limited(max_bytes);
    let mut held = Vec::new();
    while cache.insert(held.len() as u64, &value(1, 10_000)).is_ok() {
        held.push(cache.get(&(held.len() as u64)).expect("there"));
    }
    cache.clear();
    let larges: Vec<_> = (0..10).map(|key| cache.get_or_insert_with(key, || value(key, 3 * MIB))).collect();
    let small: Vec<_> = (10..500).map(|key| cache.get_or_insert_with(key, || value(key, 10_000))).collect();
    let stats = cache.stats();
    assert!(held_bytes(&stats) <= max_bytes as u64, "{stats:?}");
    assert!(held.iter().all(|held| **held == value(1, 10_000)));
    drop((held, larges, small));
    cache.insert(1, &value(1, 3 * MIB)).expect("nothing is held any more");
}

#[test]
fn what_was_overwritten_is_used_again_before_the_cache_grows() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    for round in 0..20_000 {
        cache.insert(round % 10, &value(round, 10_000)).expect("room");
    }
    let stats = cache.stats();
    assert!(held_bytes(&stats) < 20 * MIB as u64, "100,000 bytes of values: {stats:?}");
    assert_eq!((stats.entries, stats.evicted), (10, 0));
}

/// The C library's allocator says how much is in use.
fn allocated_bytes() -> usize {
    // SAFETY: reads the allocator's own counts.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

#[test]
fn overwriting_a_large_value_leaves_nothing_behind() {
    vrange_testing::in_child(|| {
        let cache: Cache<u64> = Cache::new().expect("a cache");
        let value = value(1, 263_000);
        let overwrite = |times: u64| (0..times).for_each(|_| cache.insert(1, &value).expect("room"));
        overwrite(2_000);
        let before = allocated_bytes();
        overwrite(20_000);
        let more = allocated_bytes().saturating_sub(before);
        assert!(more < 200_000, "{more} bytes more for 20,000 values that are not there any more");
    });
}

#[test]
fn any_number_of_entries_may_be_held_at_once() {
    let cache = limited(MIB);
    for round in 0..20 {
        cache.insert(round, &value(round, 1_000)).expect("nothing is held");
        // More than a range counts pins.
        let held: Vec<_> = (0..70_000).map_while(|_| cache.get(&round)).collect();
        assert!(held.iter().all(|held| **held == value(round, 1_000)[..]));
        drop(held);
        for key in 1_000..3_000 {
            cache.insert(key, &value(key, 1_000)).expect("nothing is held");
        }
    }
    assert!(cache.len() > 500, "{:?}", cache.stats());
}

/// A key whose comparison panics on demand.
struct Moody(u64, Arc<AtomicBool>);

impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        assert!(!self.1.load(Ordering::Relaxed), "on purpose");
        self.0 == other.0
    }
}

impl Eq for Moody {}

#[test]
fn panics_of_a_keys_comparison_cost_no_room() {
    let panics = Arc::new(AtomicBool::new(false));
    let key = |number| Moody(number, Arc::clone(&panics));
    let cache: Cache<Moody> = Cache::builder().max_bytes(MIB as u64).build().expect("a cache");
    let mut number = 0;
    let mut insert = || {
        number += 1;
        cache.insert(key(number), &value(number, 8_000))
    };
    for _ in 0..40 {
        panics.store(true, Ordering::Relaxed);
        for _ in 0..9 {
            // It may or may not compare keys.
            let _ = catch_unwind(AssertUnwindSafe(&mut insert));
        }
        panics.store(false, Ordering::Relaxed);
    }
    assert!(catch_unwind(|| assert!(key(1) == key(1))).is_ok());
    for _ in 0..1_000 {
        insert().expect("nothing is held");
    }
    assert!(cache.len() > 80, "{:?}", cache.stats());
}

#[test]
fn panics_of_a_keys_comparison_leave_no_large_value_behind() {
    let panics = Arc::new(AtomicBool::new(false));
    let cache: Cache<Moody> = Cache::builder().max_bytes(16 * MIB as u64).build().expect("a cache");
    let insert = || cache.insert(Moody(0, Arc::clone(&panics)), &value(0, MIB));
    insert().expect("nothing is held");
    panics.store(true, Ordering::Relaxed);
    for _ in 0..40 {
        assert!(catch_unwind(AssertUnwindSafe(insert)).is_err(), "the key that is there was compared");
    }
    panics.store(false, Ordering::Relaxed);
    for number in 1..40 {
        cache.insert(Moody(number, Arc::clone(&panics)), &value(number, MIB)).expect("nothing is held");
    }
    let stats = cache.stats();
    assert!(held_bytes(&stats) <= 16 * MIB as u64 && stats.entries >= 12, "{stats:?}");
}

#[test]
fn panics_of_the_listener_leave_no_large_value_behind() {
    let cache: Cache<u64> = Cache::builder()
        .max_bytes(16 * MIB as u64)
        .listener(|_, cause| assert_ne!(cause, Cause::Replaced, "on purpose"))
        .build()
        .expect("a cache");
    let insert = |key| catch_unwind(AssertUnwindSafe(|| cache.insert(key, &value(key, MIB))));
    for key in 0..40 {
        insert(key).expect("it replaces nothing").expect("nothing is held");
        assert!(insert(key).is_err(), "the listener was told");
        assert_eq!(*cache.get(&key).expect("just put in"), value(key, MIB));
    }
    let stats = cache.stats();
    assert!(held_bytes(&stats) <= 16 * MIB as u64 && stats.entries >= 12, "{stats:?}");
}

/// A key that has the hash of all others of its group.
#[derive(PartialEq, Eq)]
struct Alike(u64, u64);

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn large_values_of_keys_with_one_hash_leave_room() {
    let cache: Cache<Alike> = Cache::builder().max_bytes(16 * MIB as u64).build().expect("a cache");
    for number in 0..14 {
        cache.insert(Alike(0, number), &value(number, MIB)).expect("nothing is held");
    }
    for number in 1..100 {
        // The first of its group, which is the one that is found by the hash alone, stays.
        assert!(cache.get(&Alike(0, 0)).is_some());
        cache.insert(Alike(number, 0), &value(number, MIB)).expect("nothing is held");
        let stats = cache.stats();
        assert!(held_bytes(&stats) <= 16 * MIB as u64, "{stats:?}");
    }
    let is_there = |number: &u64| cache.get(&Alike(*number, 0)).is_some();
    assert!((1..100).filter(is_there).count() >= 12, "they have the room of those before");
    for number in 0..14 {
        let found = cache.get(&Alike(0, number));
        assert!(found.is_none_or(|found| *found == value(number, MIB)));
    }
}

#[test]
fn values_that_no_range_can_hold_are_refused_and_nothing_goes_for_them() {
    let unlimited: Cache<u64> = Cache::new().expect("a cache");
    for cache in [unlimited, limited(16 * MIB)] {
        (0..1_000).for_each(|key| cache.insert(key, &value(key, 1_000)).expect("room"));
        for bytes in [usize::MAX, usize::MAX - 4_095, isize::MAX as usize, 1 << 50] {
            let refused = cache.insert_with(1, bytes, |_| panic!("there is no such value"));
            assert_eq!(refused.expect_err("larger than memory").kind(), ErrorKind::TooLarge, "{bytes}");
        }
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.evicted, stats.replaced), (1_000, 0, 0));
    }
}

#[test]
fn memory_that_was_taken_is_used_again() {
    let (heap, _reclaimer) = quiet_heap();
    let cache: Cache<u64> =
        Cache::builder().heap(heap.clone()).max_bytes(4 * MIB as u64).build().expect("a cache");
    for round in 0..30 {
        for key in 0..3_000 {
            cache.insert(key, &value(key + round, 1_000)).expect("nothing is held");
        }
        heap.release();
        let found = (0..3_000).filter_map(|key| Some((key, cache.get(&key)?)));
        let found = found.map(|(key, found)| assert_eq!(*found, value(key + round, 1_000))).count();
        assert!(found < 3_000, "all was released but what is being filled");
        assert!(held_bytes(&cache.stats()) <= 4 * MIB as u64, "{:?}", cache.stats());
    }
}
