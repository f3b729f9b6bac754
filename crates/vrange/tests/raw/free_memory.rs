//! Marks as an allocator makes them: from inside, on memory whose contents nobody wants.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vrange::Content;
use vrange::raw::{self, Mark};
use vrange_os::linux::Linux;
use vrange_os::{PAGE_BYTES, Residency, System as _};
use vrange_testing::{in_child, reclaimers_of};

use crate::support::{BLOCK, Mapping, offer_all};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

fn try_mark(memory: &Mapping, pages: std::ops::Range<usize>) -> bool {
    // SAFETY: the test does not touch the pages until they are unmarked.
    unsafe { raw::try_mark(memory.at_page(pages.start), pages.len() * PAGE_BYTES) }.expect("a range")
}

/// How many of these pages are in memory. (Nobody else maps them, so one that is shared is the shared zero page.)
fn resident(memory: &Mapping, pages: std::ops::Range<usize>) -> usize {
    let mut count = 0;
    let linux = Linux::get().expect("Linux");
    let count_own = &mut |found: std::ops::Range<usize>, residency| {
        count += if residency == Residency::Shared { 0 } else { found.len() };
    };
    linux.residency(memory.span(pages), false, count_own).expect("a page table");
    count
}

#[track_caller]
fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "not within 20 s: {what}; {:?}", raw::stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How often the reclaimer was put to sleep.
fn naps() -> u64 {
    let task = reclaimers_of("self").pop().expect("the reclaimer");
    let status = std::fs::read_to_string(task.join("status")).expect("its status");
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.expect("a count").trim().parse().expect("a number")
}

#[test]
fn free_memory_that_is_left_alone_goes_and_then_nobody_wakes_up() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(3000);
        memory.fill(0..3000, 1);
        assert!(try_mark(&memory, 0..2500));
        assert_eq!(resident(&memory, 0..2500), 2500, "nothing goes at once");
        // Only now, since on a busy machine this thread may look very late.
        raw::set_content(Content::Free { decay: Duration::from_millis(300) });
        await_that("marked memory goes", || resident(&memory, 0..2500) == 0);
        memory.assert_filled(2500..3000, 1);
        // It is counted when it is gone.
        await_that("it is counted", || raw::stats().released.pages() == 2500);
        // There is nothing left to look after.
        await_that("the reclaimer sleeps", || {
            let before = naps();
            std::thread::sleep(Duration::from_millis(700));
            naps() == before
        });
        // A mark of other memory in the same blocks wakes it.
        assert!(try_mark(&memory, 2500..3000));
        await_that("the rest goes", || resident(&memory, 0..3000) == 0);
        assert_eq!(memory.unmark(0..3000).len(), 3000);
    });
}

#[test]
fn all_free_memory_can_be_dropped_and_nothing_else_is() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(4 * BLOCK);
        let data = Mapping::adopted(2 * BLOCK);
        memory.fill(0..4 * BLOCK, 1);
        // In blocks of its own.
        let first = data.first_block();
        data.fill(first..first + BLOCK, 2);
        assert!(try_mark(&memory, 10..3 * BLOCK));
        data.mark(first..first + BLOCK);
        assert!(raw::drop_free_memory().is_ok() && raw::drop_free_memory().is_ok());
        assert_eq!(resident(&memory, 10..3 * BLOCK), 0);
        memory.assert_filled(0..10, 1);
        memory.assert_filled(3 * BLOCK..4 * BLOCK, 1);
        // Nobody is told of what nobody wants.
        assert_eq!(memory.unmark(0..4 * BLOCK).len(), 0);
        assert_eq!(data.unmark(first..first + BLOCK).len(), 0);
        data.assert_filled(first..first + BLOCK, 2);
    });
}

#[test]
fn control_data_that_is_kept_does_not_go() {
    in_child(|| {
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(300);
        memory.fill(0..300, 1);
        assert!(try_mark(&memory, 0..300));
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(resident(&memory, 0..300), 300);
        assert!(memory.unmark(0..300).is_empty());
    });
}

/// An unmark in a block whose other pages are marked is not forgotten by a reclaimer that falls asleep meanwhile.
#[test]
fn what_stays_marked_beside_an_unmark_goes() {
    in_child(|| {
        raw::set_content(Content::Free { decay: Duration::from_millis(1) });
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(512);
        for round in 0..60 {
            memory.fill(0..512, round);
            assert!(try_mark(&memory, 0..512));
            let _ = memory.unmark(0..100);
            memory.assert_filled(0..0, round);
            await_that("the others go", || resident(&memory, 100..512) == 0);
            let _ = memory.unmark(100..512);
        }
    });
}

#[test]
fn without_a_reclaimer_nothing_is_marked_and_no_thread_appears() {
    in_child(|| {
        let threads = || std::fs::read_dir("/proc/self/task").expect("the list of threads").count();
        let before = threads();
        let memory = Mapping::adopted(100);
        memory.fill(0..100, 1);
        assert!(!try_mark(&memory, 0..100));
        assert_eq!(threads(), before);
        raw::prepare().expect("a reclaimer");
        assert!(try_mark(&memory, 0..100));
        assert!(memory.unmark(0..100).is_empty());
        let unknown = Mapping::new(100);
        unknown.fill(0..100, 1);
        assert!(!try_mark(&unknown, 0..100), "memory that may be unmapped unseen");
        raw::query(unknown.base(), 100 * PAGE_BYTES, |_, mark| assert_eq!(mark, Mark::None))
            .expect("a range");

        // SAFETY: the child calls nothing that another thread of its parent could hold a lock of.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = !try_mark(&memory, 0..100);
            let prepared = raw::prepare().is_ok() && try_mark(&memory, 0..100);
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(!(refused && prepared))) }
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child's reclaimer is its own");
    });
}

#[test]
fn no_more_is_marked_than_the_limit_allows() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::set_limit(Some(1000 * PAGE_BYTES as u64));
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(3000);
        memory.fill(0..3000, 1);
        assert!(try_mark(&memory, 0..800));
        assert!(!try_mark(&memory, 1000..1300), "300 are more than 200");
        assert!(try_mark(&memory, 0..100), "marked already");
        let _ = memory.unmark(0..500);
        assert!(try_mark(&memory, 1000..1300));
        assert!(try_mark(&memory, 1300..1600));
        // The coldest make room for what is freed next.
        await_that("an eighth is free", || {
            resident(&memory, 500..800) + resident(&memory, 1000..1600) <= 875
        });
        assert!(resident(&memory, 1300..1600) == 300, "the coldest go first");
        await_that("there is room", || try_mark(&memory, 2000..2100));
        raw::set_limit(None);
        assert!(try_mark(&memory, 0..3000));
    });
}

#[test]
fn what_is_unmarked_as_zeros_is_zero_and_takes_no_more_memory() {
    let memory = Mapping::adopted(400);
    memory.fill(0..300, 1);
    memory.mark(0..200);
    memory.offer();
    memory.take(0..100);
    memory.mark(0..400);
    // 100 lost, 100 offered, 100 only marked, 100 never touched.
    // SAFETY: nobody uses the memory meanwhile.
    let zeroed = unsafe { raw::unmark_zeroed(memory.base(), 400 * PAGE_BYTES) }.expect("a range");
    assert_eq!(zeroed, 200);
    assert_eq!(resident(&memory, 0..400), 200);
    // SAFETY: a readable mapping of the test's own.
    let bytes = unsafe { std::slice::from_raw_parts(memory.base(), 400 * PAGE_BYTES) };
    assert!(bytes.iter().all(|byte| *byte == 0));
    // Nothing goes afterwards, whoever writes.
    memory.fill(0..400, 7);
    offer_all();
    memory.take(0..400);
    memory.assert_filled(0..400, 7);
}

/// What was set to zero before is known to be in memory, as long as nothing can have taken it.
#[test]
fn what_is_unmarked_as_zeros_again_is_zero_and_takes_no_more_memory() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(3000);
        let zeroed = |pages: std::ops::Range<usize>| {
            let (start, bytes) = (memory.at_page(pages.start), pages.len() * PAGE_BYTES);
            // SAFETY: nobody uses the memory meanwhile.
            let zeroed = unsafe { raw::unmark_zeroed(start, bytes) }.expect("a range");
            assert!(pages.clone().all(|page| memory.read(page) == 0), "{pages:?}");
            zeroed
        };
        // Over the border of blocks, with pages that were never touched at both ends and in the middle.
        memory.fill(100..1300, 1);
        memory.fill(1400..2900, 1);
        assert!(try_mark(&memory, 0..3000));
        assert_eq!(zeroed(0..3000), 2700);
        memory.fill(200..300, 2);
        assert!(try_mark(&memory, 0..3000));
        assert_eq!(zeroed(50..2950), 2700);
        assert_eq!(zeroed(0..3000), 2700, "whether marked or not");
        // Offered, and a part of it taken.
        memory.fill(500..600, 3);
        assert!(try_mark(&memory, 0..2000));
        memory.offer();
        memory.take(500..600);
        assert_eq!(zeroed(0..3000), 2600);
        // Released by hand, in a block of which the rest stays marked.
        assert!(try_mark(&memory, 700..1200));
        // SAFETY: only marked pages go.
        unsafe { raw::purge(memory.at_page(700), 100 * PAGE_BYTES) }.expect("a purge");
        assert_eq!(zeroed(0..3000), 2500);
        // Dropped.
        assert!(try_mark(&memory, 1500..2500));
        // SAFETY: nobody uses it.
        unsafe { raw::unmark_dropped(memory.at_page(1500), 100 * PAGE_BYTES) }.expect("a range");
        assert_eq!(zeroed(0..3000), 2400);
        assert_eq!(resident(&memory, 0..3000), 2400);
        // As a child does it that has no reclaimer.
        assert!(try_mark(&memory, 2000..2200));
        raw::drop_free_memory().expect("this kernel");
        assert_eq!(zeroed(0..3000), 2200);
        // Other memory at the same address.
        raw::forget(memory.base(), 3000 * PAGE_BYTES).expect("to be forgotten");
        // SAFETY: the test's own.
        let dropped = unsafe {
            rustix::mm::madvise(memory.base().cast(), 3000 * PAGE_BYTES, rustix::mm::Advice::LinuxDontNeed)
        };
        dropped.expect("to be dropped");
        memory.adopt();
        assert_eq!(zeroed(0..3000), 0);
        assert_eq!(resident(&memory, 0..3000), 0);
    });
}

/// As an allocator takes memory back while it is short.
#[test]
fn what_is_unmarked_and_dropped_takes_no_memory_and_the_rest_stays() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::set_limit(Some(1000 * PAGE_BYTES as u64));
        raw::prepare().expect("a reclaimer");
        // Two blocks of marks.
        let memory = Mapping::adopted(1100);
        memory.fill(0..1000, 1);
        assert!(try_mark(&memory, 0..300));
        memory.offer();
        memory.take(0..100);
        assert!(try_mark(&memory, 300..400) && try_mark(&memory, 500..600) && try_mark(&memory, 1000..1100));
        let before = raw::stats();
        // 100 lost, 200 offered, 100 only marked, 100 in use, 100 only marked, 400 in use, 100 never touched.
        // SAFETY: nobody uses the marked pages, or wants their contents.
        let empty = unsafe { raw::unmark_dropped(memory.base(), 1100 * PAGE_BYTES) }.expect("a range");
        assert_eq!(empty, 600);
        assert_eq!(resident(&memory, 0..1100), 500);
        memory.assert_filled(400..500, 1);
        memory.assert_filled(600..1000, 1);
        let after = raw::stats();
        assert_eq!(after.released.pages() - before.released.pages(), 400);
        assert_eq!(after.lost.pages() - before.lost.pages(), 100);
        assert_eq!((after.marked.pages(), after.offered_now.pages(), after.settled.pages()), (0, 0, 0));
        // There is room for as much again, and nothing goes that is in use.
        memory.fill(0..1100, 7);
        offer_all();
        memory.take(0..1100);
        memory.assert_filled(0..1100, 7);
        assert!(try_mark(&memory, 0..1000));
    });
}

#[test]
fn what_is_unmarked_and_dropped_leaves_data_and_locked_memory() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::prepare().expect("a reclaimer");
        // A block with data keeps all that is free in it, so neither lies over the border of blocks.
        let memory = Mapping::adopted(3 * BLOCK);
        let first = memory.first_block();
        let (data, locked) = (first..first + 100, first + BLOCK..first + BLOCK + 100);
        for pages in [&data, &locked] {
            memory.fill(pages.clone(), 1);
        }
        memory.mark(data.start..data.start + 50);
        assert!(try_mark(&memory, data.start + 50..data.end) && try_mark(&memory, locked.clone()));
        memory.lock(locked.clone());
        for pages in [&data, &locked] {
            // SAFETY: nobody uses the memory.
            let empty = unsafe { raw::unmark_dropped(memory.at_page(pages.start), 100 * PAGE_BYTES) };
            assert_eq!(empty.expect("a range"), 0);
            memory.assert_filled(pages.clone(), 1);
        }
    });
}

/// Data and free memory in one process: what `mark` marked does not decay.
#[test]
fn data_beside_free_memory_stays() {
    in_child(|| {
        raw::set_content(Content::Free { decay: Duration::from_millis(200) });
        raw::set_limit(Some(300 * PAGE_BYTES as u64));
        raw::prepare().expect("a reclaimer");
        let (data, free) = (Mapping::adopted(2048), Mapping::adopted(2048));
        data.fill(0..2048, 1);
        free.fill(0..2048, 1);
        data.mark(0..2048);
        assert!(try_mark(&free, 0..200), "data does not count");
        await_that("free memory goes", || resident(&free, 0..200) == 0);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(resident(&data, 0..2048), 2048);
        // In a block with both, all stays.
        assert!(try_mark(&data, 0..10));
        std::thread::sleep(Duration::from_millis(500));
        assert!(data.unmark(0..2048).is_empty());
        data.assert_filled(0..2048, 1);
    });
}

/// Only free memory counts against the limit, so only free memory makes room, also where data has been left alone for longer.
#[test]
fn data_does_not_go_because_free_memory_comes_near_its_limit() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::set_limit(Some(800 * PAGE_BYTES as u64));
        raw::prepare().expect("a reclaimer");
        let (data, free) = (Mapping::adopted(2 * BLOCK), Mapping::adopted(4 * BLOCK));
        let (first_data, first_free) = (data.first_block(), free.first_block() + BLOCK);
        let (of_data, of_free) = (first_data..first_data + BLOCK, first_free..first_free + 790);
        data.fill(of_data.clone(), 1);
        free.fill(of_free.clone(), 1);
        data.mark(of_data.clone());
        // As when memory was short a while ago.
        data.offer();
        assert!(try_mark(&free, of_free.clone()));
        await_that("an eighth of the limit is free", || resident(&free, of_free.clone()) <= 700);
        assert_eq!(resident(&data, of_data.clone()), BLOCK);
        assert_eq!(data.unmark(of_data.clone()), []);
        data.assert_filled(of_data, 1);
    });
}

/// Memory that an allocator gets where data was before, of which the reclaimer has not seen the end.
#[test]
fn free_memory_where_data_was_before_goes() {
    in_child(|| {
        raw::set_content(Content::Free { decay: Duration::from_millis(100) });
        raw::prepare().expect("a reclaimer");
        for _ in 0..3 {
            let data = Mapping::adopted(100);
            data.fill(0..100, 1);
            data.mark(0..100);
            assert_eq!(data.unmark(0..100), []);
            raw::forget(data.base(), 100 * PAGE_BYTES).expect("to be forgotten");
            // The allocator has it from now on.
            data.adopt();
            assert!(try_mark(&data, 0..100));
            await_that("it goes", || resident(&data, 0..100) == 0);
        }
    });
}

/// What counts against the limit is what `try_mark` has marked.
#[test]
fn marks_of_data_do_not_change_what_the_limit_leaves() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        raw::set_limit(Some(1000 * PAGE_BYTES as u64));
        raw::prepare().expect("a reclaimer");
        let memory = Mapping::adopted(4 * BLOCK);
        let first = memory.first_block();
        // In a block with data all is data.
        memory.mark(first..first + 1);
        for _ in 0..10 {
            assert!(try_mark(&memory, first + 100..first + 900), "the reclaimer counts again now and then");
            let _ = memory.unmark(first + 100..first + 900);
        }
        let _ = memory.unmark(first..first + 1);
        // Memory that is not adopted is never free memory.
        let other = Mapping::new(6000);
        other.fill(0..6000, 1);
        other.mark(0..6000);
        let _ = other.unmark(0..6000);
        let free = first + BLOCK..first + BLOCK + 600;
        assert!(try_mark(&memory, free.clone()));
        assert!(!try_mark(&memory, free.end..free.end + 500), "500 are more than 400");
    });
}

/// A pre-forking server frees memory that it has from its parent.
#[test]
fn free_memory_that_a_child_shares_goes_here_and_stays_there() {
    in_child(|| {
        raw::set_content(Content::Free { decay: NEVER });
        let memory = Mapping::adopted(300);
        memory.fill(0..300, 1);
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        // SAFETY: the child calls nothing that another thread of its parent could hold a lock of.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let heard = theirs.read_exact(&mut [0]).is_ok();
            let kept = (0..300).all(|page| memory.read(page) == 1 + page as u64);
            // SAFETY: ends the child without the test harness's exit handlers.
            unsafe { libc::_exit(i32::from(!(heard && kept))) }
        }
        raw::prepare().expect("a reclaimer");
        assert!(try_mark(&memory, 0..300));
        await_that("our share goes", || resident(&memory, 0..300) == 0);
        ours.write_all(b"x").expect("the child listens");
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child has lost something");
    });
}
