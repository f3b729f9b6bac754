//! Handles, entries and listeners across threads; values that are made once, by threads and by tasks, whoever gives up.

mod support;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use support::{quiet_heap, value};
use vrange_cache::{Cache, Cause, Entry, Fetched};

const MIB: usize = 1 << 20;

/// Wakes the thread that polls.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor for one future.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Lets others go first, once.
async fn yield_once() {
    let mut is_first = true;
    poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[test]
fn the_last_handle_may_be_dropped_by_any_thread() {
    let cache: Cache<String> = Cache::new().expect("a cache");
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            let cache = cache.clone();
            std::thread::spawn(move || {
                for number in 0..500 {
                    let seed = thread << 32 | number;
                    cache.insert(format!("{thread} {number}"), &value(seed, 700)).expect("room");
                    let other = format!("{} {number}", (thread + 1) % 8);
                    if let Some(found) = cache.get(&*other) {
                        assert_eq!(*found, value(((thread + 1) % 8) << 32 | number, 700));
                    }
                }
                // Values that are still looked at outlive the other handles.
                let held = cache.get(&*format!("{thread} 0")).expect("there");
                std::thread::sleep(Duration::from_millis(thread));
                assert_eq!(*held, value(thread << 32, 700));
            })
        })
        .collect();
    drop(cache);
    threads.into_iter().for_each(|thread| thread.join().expect("no thread fails"));
}

#[test]
fn an_entry_may_be_dropped_by_another_thread() {
    let cache: Cache<u64> = Cache::builder().max_bytes(MIB as u64).build().expect("a cache");
    for round in 0..200 {
        cache.insert(1, &value(round, 5_000)).expect("room");
        cache.insert(2, &value(round, 50_000)).expect("room");
        let (packed, large): (Entry<'_, [u8]>, _) =
            (cache.get(&1).expect("there"), cache.get(&2).expect("there"));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                assert_eq!((&*packed, &*large), (&*value(round, 5_000), &*value(round, 50_000)));
                drop((packed, large));
            });
            cache.clear();
        });
    }
    assert!(cache.is_empty());
}

#[test]
fn nobodys_memory_is_left_when_the_cache_is_gone() {
    let (heap, _reclaimer) = quiet_heap();
    for _ in 0..3 {
        let cache: Cache<u64> = Cache::builder().heap(heap.clone()).build().expect("a cache");
        for key in 0..5_000 {
            cache.insert(key, &value(key, 1_000)).expect("room");
        }
        cache.insert(1, &value(1, 3 * MIB)).expect("room");
        // An entry that is never dropped costs its pin, which nobody needs any more then.
        std::mem::forget(cache.get(&2).expect("there"));
        std::mem::forget(cache.get(&1).expect("there"));
        drop(cache.clone());
    }
    let stats = heap.stats();
    // What was leaked keeps its own value's range, if it had one.
    let left = stats.pinned.pages.bytes() + stats.marked.pages.bytes() + stats.offered_now.pages.bytes();
    assert!(left <= 9 * MIB as u64 + 8192, "{stats:?}");
}

#[test]
fn a_listener_may_call_the_cache() {
    static CACHE: OnceLock<Cache<u64>> = OnceLock::new();
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static IS_TELLING: Cell<bool> = const { Cell::new(false) };
    }
    let listener = |key: &u64, cause: Cause| {
        TOLD.fetch_add(1, Ordering::Relaxed);
        let Some(cache) = CACHE.get() else { return };
        // What it puts in pushes out something else, of which it is told.
        if IS_TELLING.replace(true) {
            return;
        }
        if cause == Cause::Evicted {
            cache.insert(key | 1 << 63, &value(*key, 100)).expect("room");
        }
        let _ = cache.get(&(key ^ 1));
        cache.remove(&(key ^ 2));
        let _ = cache.get_or_insert_with(*key | 1 << 62, || value(*key, 10)).len();
        if key.is_multiple_of(5_000) {
            cache.clear();
        }
        assert!(cache.stats().entries < 1_000_000);
        IS_TELLING.set(false);
    };
    let cache = Cache::builder().max_bytes(MIB as u64).listener(listener).build().expect("a cache");
    let cache = CACHE.get_or_init(|| cache);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                for number in 0..6_000_u64 {
                    let key = number % 2_000 + thread * 1_000;
                    cache.insert(key, &value(key, 1_000)).expect("room");
                    if number % 3 == 0 {
                        cache.remove(&(key / 2));
                    }
                    assert!(cache.get(&key).is_none_or(|found| *found == value(key, 1_000)));
                }
            });
        }
    });
    assert!(TOLD.load(Ordering::Relaxed) > 10_000);
}

#[test]
fn a_listener_that_panics_harms_nothing() {
    let is_moody = Arc::new(AtomicBool::new(false));
    let panics = Arc::clone(&is_moody);
    let cache: Cache<u64> = Cache::builder()
        .max_bytes(MIB as u64)
        .listener(move |_: &u64, _| assert!(!panics.load(Ordering::Relaxed), "on purpose"))
        .build()
        .expect("a cache");
    let attempt = |work: &dyn Fn()| catch_unwind(AssertUnwindSafe(work)).is_err();
    let mut panicked = 0;
    for round in 0..20 {
        is_moody.store(true, Ordering::Relaxed);
        for key in 0..300 {
            let has_panicked = attempt(&|| cache.insert(key, &value(key + round, 4_000)).expect("room"));
            panicked += usize::from(has_panicked);
            // Told of what made room for it, the listener has kept it from being put in, or told of what it replaced, has not.
            if let Some(found) = cache.get(&key) {
                let is_new = *found == value(key + round, 4_000);
                assert!(is_new || has_panicked && *found == value(key, 4_000));
            }
        }
        panicked += usize::from(attempt(&|| assert!(cache.remove(&7))));
        panicked += usize::from(attempt(&|| cache.clear()));
        is_moody.store(false, Ordering::Relaxed);
        cache.clear();
        assert!(cache.is_empty());
        for key in 0..2_000 {
            cache.insert(key, &value(key, 4_000)).expect("no room was lost");
        }
        assert!(cache.len() > 150, "{:?}", cache.stats());
        let fetched = cache.get_or_insert_with(9_999, || value(1, 10));
        assert_eq!(*fetched, value(1, 10));
    }
    assert!(panicked > 1_000, "{panicked} calls panicked");
}

#[test]
fn tasks_that_miss_together_make_the_value_once() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let made = AtomicUsize::new(0);
    let start = Barrier::new(6);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (cache, made, start) = (&cache, &made, &start);
            scope.spawn(move || {
                for key in 0..200 {
                    start.wait();
                    let make = async || {
                        made.fetch_add(1, Ordering::Relaxed);
                        yield_once().await;
                        value(key, 100)
                    };
                    // Threads and tasks wait for each other.
                    if thread % 3 == 0 {
                        let fetched = cache.get_or_insert_with(key, || block_on(make()));
                        assert_eq!(*fetched, value(key, 100));
                    } else {
                        let fetched = block_on(cache.get_or_insert_with_async(key, make));
                        assert_eq!(*fetched, value(key, 100));
                    }
                }
            });
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 200);
}

#[test]
fn futures_can_be_sent_to_other_threads() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let future = assert_send(cache.get_or_insert_with_async(1, || async { value(1, 10) }));
    assert_eq!(*block_on(future), value(1, 10));
}

#[test]
fn where_who_makes_a_value_gives_up_another_does() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    for key in 0..100 {
        let begun = Barrier::new(2);
        std::thread::scope(|scope| {
            let (cache, begun) = (&cache, &begun);
            scope.spawn(move || {
                let never = async || -> Vec<u8> {
                    begun.wait();
                    std::future::pending().await
                };
                {
                    let mut cancelled = pin!(cache.get_or_insert_with_async(key, never));
                    let waker = Waker::noop();
                    assert!(cancelled.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
            begun.wait();
            // One waits as a task, one as a thread. They would wait for ever.
            let task = scope.spawn(move || {
                let fetched = block_on(cache.get_or_insert_with_async(key, async || value(key, 100)));
                fetched.to_vec()
            });
            let fetched = cache.get_or_insert_with(key, || value(key, 100));
            assert_eq!(*fetched, value(key, 100));
            assert_eq!(task.join().expect("no thread fails"), value(key, 100));
        });
    }
}

#[test]
fn where_making_a_value_fails_or_panics_another_tries() {
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let tries = AtomicUsize::new(0);
    let start = Barrier::new(6);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                start.wait();
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    cache
                        .try_get_or_insert_with(1, || {
                            std::thread::sleep(Duration::from_millis(2));
                            match tries.fetch_add(1, Ordering::Relaxed) {
                                0 => Err("the first"),
                                1 => panic!("on purpose"),
                                _ => Ok(value(1, 100)),
                            }
                        })
                        .map(|fetched| fetched.to_vec())
                }));
                match outcome {
                    Ok(Ok(bytes)) => assert_eq!(bytes, value(1, 100)),
                    Ok(Err(why)) => failures.lock().push(why),
                    Err(_) => failures.lock().push("panic"),
                }
            });
        }
    });
    let mut failures = failures.lock().clone();
    failures.sort_unstable();
    assert_eq!(failures, ["panic", "the first"]);
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    let error = block_on(cache.try_get_or_insert_with_async::<Vec<u8>, _, _>(2, async || Err("no")));
    assert_eq!(error.map(drop).expect_err("it failed"), "no");
    assert!(!cache.contains(&2));
}

/// Many who wait are not woken again and again: what they wait for is looked at before somebody else is waited for.
#[test]
fn many_who_wait_for_a_value_get_it_at_once() {
    const WAITERS: usize = 300;
    let cache: Cache<u64> = Cache::new().expect("a cache");
    let polls = AtomicUsize::new(0);
    let mut leader = Box::pin(cache.get_or_insert_with_async(1, async || {
        yield_once().await;
        value(1, 100)
    }));
    let waker = Waker::noop();
    let mut context = Context::from_waker(waker);
    assert!(leader.as_mut().poll(&mut context).is_pending());
    let mut waiters: Vec<_> =
        (0..WAITERS).map(|_| Box::pin(cache.get_or_insert_with_async(1, async || value(2, 100)))).collect();
    for waiter in &mut waiters {
        assert!(waiter.as_mut().poll(&mut context).is_pending());
    }
    let Poll::Ready(made) = leader.as_mut().poll(&mut context) else { panic!("it was made") };
    assert_eq!(*made, value(1, 100));
    for waiter in &mut waiters {
        polls.fetch_add(1, Ordering::Relaxed);
        let Poll::Ready(found) = waiter.as_mut().poll(&mut context) else { panic!("it was woken") };
        assert_eq!(*found, value(1, 100));
    }
}

#[test]
fn a_value_that_cannot_be_kept_is_given_to_who_made_it() {
    let cache: Cache<u64> = Cache::builder().max_bytes(MIB as u64).build().expect("a cache");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let fetched = cache.get_or_insert_with(1, || value(1, 2 * MIB));
                assert!(matches!(fetched, Fetched::Made(_)));
                assert_eq!(*fetched, value(1, 2 * MIB));
            });
        }
    });
}

#[test]
fn entries_are_over_when_their_time_is() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let cache: Cache<u64> = Cache::builder()
        .time_to_live(Duration::from_millis(300))
        .listener(move |key: &u64, cause| log.lock().push((*key, cause)))
        .build()
        .expect("a cache");
    let begin = Instant::now();
    cache.insert(1, &value(1, 10)).expect("room");
    cache.insert_with_time_to_live(2, &value(2, 10), Duration::from_millis(600)).expect("room");
    cache.insert_with_time_to_live(3, &value(3, 10), Duration::MAX).expect("room");
    cache.insert_with_time_to_live(4, &value(4, 10), Duration::ZERO).expect("room");
    assert!(!cache.contains(&4), "no time at all");
    let mut seen = [false; 2];
    while begin.elapsed() < Duration::from_millis(700) {
        for (index, time) in [(0, 300), (1, 600)] {
            let before = begin.elapsed();
            let is_there = cache.contains(&(index as u64 + 1));
            // Whole milliseconds are counted.
            if is_there {
                assert!(before <= Duration::from_millis(time + 2) || !seen[index], "{index} after its time");
                assert!(before < Duration::from_millis(time + 50), "{index} after its time");
            } else {
                assert!(begin.elapsed() + Duration::from_millis(1) >= Duration::from_millis(time));
                seen[index] = true;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(seen, [true, true]);
    assert!(cache.contains(&3));
    assert_eq!(*told.lock(), [(4, Cause::Expired), (1, Cause::Expired), (2, Cause::Expired)]);
    assert!(!cache.remove(&1));
    cache.insert_with_time_to_live(5, &value(5, 10), Duration::from_millis(1)).expect("room");
    std::thread::sleep(Duration::from_millis(3));
    assert!(!cache.remove(&5), "it was over");
    let fetched = cache.get_or_insert_with(5, || value(6, 10));
    assert_eq!(*fetched, value(6, 10));
    assert_eq!(cache.stats().expired, 4);
}

#[test]
fn a_child_has_a_cache_of_its_own() {
    vrange_testing::in_child(|| {
        let cache: Cache<u64> = Cache::new().expect("a cache");
        for key in 0..3_000 {
            cache.insert(key, &value(key, 1_000)).expect("room");
        }
        let held = cache.get(&1).expect("there");
        // SAFETY: no other thread of this process uses the cache.
        let child = unsafe { libc::fork() };
        let shift = if child == 0 { 1_000_000 } else { 0 };
        for key in 0..3_000 {
            if let Some(found) = cache.get(&key) {
                assert_eq!(*found, value(key, 1_000));
            }
        }
        for key in 0..6_000 {
            cache.insert(key, &value(key + shift, 1_000)).expect("room");
        }
        let found = (0..6_000).filter(|key| {
            cache.get(key).is_some_and(|found| {
                assert_eq!(*found, value(*key + shift, 1_000));
                true
            })
        });
        assert_eq!(found.count(), 6_000);
        assert_eq!(*held, value(1, 1_000));
        if child == 0 {
            // SAFETY: ends the child without the harness of its parent.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the number outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child failed");
    });
}
