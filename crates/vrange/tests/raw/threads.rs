//! Many threads mark neighbouring pages at once, beside somebody who offers and a kernel that takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use vrange::raw;
use vrange_os::PAGE_BYTES;
use vrange_testing::{StopAtEnd, in_child, scale};

use crate::support::{BLOCK, Mapping};

const THREADS: usize = 4;
const PAGES: usize = 2200;

#[test]
fn c05_neighbours_lose_nothing_to_each_other() {
    let memory = Mapping::adopted(PAGES);
    let time = scale().pick(Duration::from_secs(2), Duration::from_secs(60));
    let (over, has_lost) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&over);
        scope.spawn(|| {
            // Relaxed: it only ends the loop.
            while !over.load(Ordering::Relaxed) {
                raw::offer(1 << 20).expect("an offer");
                memory.take(0..PAGES);
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (memory, has_lost) = (&memory, &has_lost);
                scope.spawn(move || work(memory, thread, time, has_lost))
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
        // Relaxed: the threads have ended.
        assert!(has_lost.load(Ordering::Relaxed), "nothing was ever taken, so nothing was shown");
    });
}

/// A program stops its threads wherever they are, to collect garbage or in a handler of a signal, and maps and unmaps memory meanwhile.
#[test]
fn memory_beside_that_of_a_thread_that_is_stopped() {
    let memory = Mapping::new(2 * BLOCK);
    let memory = &memory;
    let page = move |number: usize| memory.base().wrapping_add(number * PAGE_BYTES);
    let first = (BLOCK - memory.base().addr() / PAGE_BYTES % BLOCK) % BLOCK;
    // SAFETY: private, anonymous, readable and writable; told of its end when dropped.
    unsafe { raw::adopt(page(first), PAGE_BYTES) }.expect("to be adopted");
    memory.write(first, 1);
    // SAFETY: this test's own page, which nobody uses until it is unmarked.
    unsafe { raw::mark(page(first), PAGE_BYTES) }.expect("a mark");
    // SAFETY: as above.
    assert_eq!(unsafe { raw::purge(page(first), PAGE_BYTES) }.expect("a purge"), PAGE_BYTES);
    let (stopped, is_stopped) = channel();
    let (go_on, goes_on) = channel();
    let (done, is_done) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // SAFETY: as above.
            let unmarked = unsafe {
                raw::unmark_each(page(first), PAGE_BYTES, |_| {
                    stopped.send(()).expect("the test listens");
                    goes_on.recv().expect("the test goes on");
                })
            };
            unmarked.expect("an unmark");
        });
        is_stopped.recv().expect("the page is lost");
        scope.spawn(move || {
            raw::forget(page(first + 8), 8 * PAGE_BYTES).expect("a range");
            // SAFETY: nobody uses these pages.
            unsafe { raw::abandon(page(first + 8), 8 * PAGE_BYTES) }.expect("a range");
            done.send(()).expect("the test listens");
        });
        let is_done = is_done.recv_timeout(Duration::from_secs(20));
        go_on.send(()).expect("it waits");
        assert!(is_done.is_ok(), "it waits for a thread that has nothing to do with these pages");
    });
}

/// Each thread has every fourth run of seven pages, so that words and blocks are shared by all.
/// Goes on for this long, and on a slow machine until something `has_lost`, or ten times as long.
fn work(memory: &Mapping, thread: usize, time: Duration, has_lost: &AtomicBool) {
    const RUN: usize = 7;
    let runs = PAGES / RUN / THREADS;
    let begin = Instant::now();
    let mut round = 1;
    let mut expected = vec![0u64; PAGES];
    // Relaxed: it only ends the loop.
    while begin.elapsed() < time || !has_lost.load(Ordering::Relaxed) && begin.elapsed() < time * 10 {
        for run in 0..runs {
            let start = (run * THREADS + thread) * RUN;
            let pages = start..start + 1 + (round + run) % RUN;
            if round > 1 {
                let lost = memory.unmark(start..start + RUN);
                if !lost.is_empty() {
                    has_lost.store(true, Ordering::Relaxed); // Relaxed: as above.
                }
                for (page, expected) in expected.iter_mut().enumerate().skip(start).take(RUN) {
                    if lost.contains(&page) {
                        *expected = 0;
                    }
                    assert_eq!(memory.read(page), *expected, "page {page}; told to be lost: {lost:?}");
                }
            }
            for page in pages.clone() {
                expected[page] = (round * 1_000_000 + page) as u64;
                memory.write(page, expected[page]);
            }
            // Held for a while, and looked at again.
            std::thread::yield_now();
            pages.clone().for_each(|page| assert_eq!(memory.read(page), expected[page], "page {page}"));
            memory.mark(pages);
        }
        round += 1;
    }
}

/// Marks of memory that is not adopted take long, so that on a busy machine somebody is in the middle of one at any time.
#[test]
fn c11_a_range_is_forgotten_beside_threads_that_never_rest() {
    in_child(|| {
        // SAFETY: ends this process if it hangs.
        unsafe { libc::alarm(60) };
        let memory = Mapping::new(3 * BLOCK);
        let first = memory.first_block();
        memory.fill(first..first + BLOCK, 1);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&over);
            for thread in 0..2 * THREADS {
                let (memory, over) = (&memory, &over);
                scope.spawn(move || {
                    let pages = first + thread * 100..first + (thread + 1) * 100;
                    // Relaxed: it only ends the loop.
                    while !over.load(Ordering::Relaxed) {
                        memory.mark(pages.clone());
                        assert_eq!(memory.unmark(pages.clone()), []);
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            for page in first + 900..first + 950 {
                raw::forget(memory.at_page(page), PAGE_BYTES).expect("to be forgotten");
            }
        });
        memory.assert_filled(first..first + BLOCK, 1);
    });
}
