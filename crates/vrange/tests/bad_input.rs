//! Bad input and exhausted resources: a clear error, or data that stays where it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use vrange::{Buffer, Content, ErrorKind, Heap, Phase, Pinned};
use vrange_os::linux::page_out;
use vrange_os::{PAGE_BYTES, Span};
use vrange_testing::{in_child, reclaimers_of, skipped};

/// A heap that nobody but the test works on.
fn quiet_heap() -> Heap {
    Heap::builder().build_manual().expect("a heap").0
}

fn filled(heap: &Heap, bytes: usize, value: u8) -> Buffer {
    let mut buffer = heap.buffer(bytes).expect("a buffer");
    buffer.pin_mut().intact().expect("new").fill(value);
    buffer
}

fn assert_holds(buffer: &Buffer, value: u8) {
    let guard = buffer.pin().intact().expect("nothing was taken");
    assert!(guard.iter().all(|byte| *byte == value));
}

/// Waits for the reclaimer's thread to do something.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn has_reclaimer() -> bool {
    !reclaimers_of("self").is_empty()
}

/// Sets the soft limit of a resource; the hard one stays, so that it can be raised again.
fn set_soft_limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

#[test]
fn sizes_that_no_range_can_have_are_refused() {
    let heap = quiet_heap();
    for bytes in [0, usize::MAX, usize::MAX - PAGE_BYTES, usize::MAX / 2, 1 << 44, (1 << 44) + 1] {
        let error = heap.buffer(bytes).expect_err("no range has this many bytes");
        assert_eq!(error.kind(), ErrorKind::InvalidSize, "{bytes}");
        assert!(error.to_string().contains("16 TiB"), "says what a range can have: {error}");
    }
    // The refusals leave nothing behind.
    assert_eq!(heap.stats().empty.ranges, 0);
    assert_holds(&filled(&heap, 1, 7), 7);
}

#[test]
fn isize_max_is_refused_too() {
    let error = quiet_heap().buffer(isize::MAX.unsigned_abs()).expect_err("no range has this many bytes");
    assert_eq!(error.kind(), ErrorKind::InvalidSize);
}

#[test]
fn the_largest_range_is_had_or_refused_for_want_of_address_space() {
    let heap = quiet_heap();
    match heap.buffer((u32::MAX as usize) * PAGE_BYTES) {
        Ok(buffer) => assert_eq!(buffer.phase(), Phase::Empty),
        Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfAddressSpace, "{error}"),
    }
}

#[test]
fn without_address_space_the_error_says_so_and_what_exists_goes_on() {
    in_child(|| {
        let heap = quiet_heap();
        let small = filled(&heap, PAGE_BYTES, 1);
        let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
        let pages: u64 =
            text.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
        // Enough for a few allocations of the program, not for another mapping of 64 MiB.
        set_soft_limit(libc::RLIMIT_AS, pages * PAGE_BYTES as u64 + (16 << 20));
        let error = heap.buffer(64 << 20).expect_err("beyond the limit");
        assert_eq!(error.kind(), ErrorKind::OutOfAddressSpace);
        let text = error.to_string();
        assert!(
            text.contains("mmap") && text.contains("RLIMIT_AS"),
            "names the call and what to look at: {text}"
        );
        assert!(std::error::Error::source(&error).is_some());
        assert_holds(&small, 1);
        // A heap without a mapping of its own yet makes do with a smaller one.
        let frugal = quiet_heap();
        assert_holds(&filled(&frugal, 10 * PAGE_BYTES, 2), 2);
        set_soft_limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        assert_holds(&filled(&heap, 64 << 20, 3), 3);
    });
}

/// What tells about the pages takes a descriptor: until one can be had nothing is offered, and nothing is lost.
#[test]
fn without_descriptors_data_is_kept_and_later_offered() {
    in_child(|| {
        set_soft_limit(libc::RLIMIT_NOFILE, 0);
        let heap = quiet_heap();
        let buffer = filled(&heap, 33 * PAGE_BYTES, 1);
        assert!(!buffer.offer(), "the page table cannot be read");
        assert_holds(&buffer, 1);
        assert!(buffer.release(), "by their contents the pages can be told all the same");
        assert!(buffer.pin().is_purged());

        let served = Heap::new().expect("a heap");
        let buffer = filled(&served, 33 * PAGE_BYTES, 2);
        std::thread::sleep(Duration::from_millis(100));
        assert_holds(&buffer, 2);
        set_soft_limit(libc::RLIMIT_NOFILE, 1024);
        assert!(has_reclaimer(), "without a descriptor to be woken by it looks by itself");
        drop(buffer.pin());
        assert!(buffer.offer() || buffer.phase() == Phase::Offered);
        assert_holds(&buffer, 2);
    });
}

/// Tries again at later unpins; until then nothing can be offered, and nothing is lost.
#[test]
fn a_thread_that_cannot_be_started_is_started_later() {
    in_child(|| {
        // The superuser is not subject to the limit. A user id that nobody else has makes the count exact.
        // SAFETY: takes rights away.
        if unsafe { libc::geteuid() } == 0 && unsafe { libc::setuid(61_234) } != 0 {
            return skipped("another user id cannot be had");
        }
        // A change of user makes /proc/self the superuser's, and with it the page table unreadable.
        // SAFETY: what this opens is the process's own.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
        set_soft_limit(libc::RLIMIT_NPROC, 0);
        // Offered soon, however much memory there is, once there is somebody to do it.
        let content = Content::Free { decay: Duration::from_secs(3600) };
        let heap = Heap::builder().content(content).build().expect("a heap");
        let buffer = filled(&heap, 33 * PAGE_BYTES, 1);
        if has_reclaimer() {
            return skipped("the number of threads cannot be limited");
        }
        for _ in 0..1000 {
            assert_holds(&buffer, 1);
        }
        assert_eq!(buffer.phase(), Phase::Volatile);
        set_soft_limit(libc::RLIMIT_NPROC, libc::RLIM_INFINITY);
        wait_until("the thread is started after all", || {
            drop(buffer.pin());
            has_reclaimer()
        });
        wait_until("it offers", || heap.stats().offered.pages() > 0);
    });
}

#[test]
fn a_panic_unpins() {
    let heap = quiet_heap();
    let mut buffer = filled(&heap, 10 * PAGE_BYTES, 1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _read = buffer.pin();
        panic!("while reading");
    }));
    assert!(panicked.is_err());
    assert_eq!(buffer.phase(), Phase::Volatile);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = buffer.pin_mut().intact().expect("nothing was taken");
        guard[..PAGE_BYTES].fill(2);
        panic!("while writing");
    }));
    assert!(panicked.is_err());
    assert_eq!(buffer.phase(), Phase::Volatile);
    // Half written is what it is then, as with any memory.
    let guard = buffer.pin().intact().expect("nothing was taken");
    assert_eq!((guard[0], guard[PAGE_BYTES]), (2, 1));
}

#[test]
fn a_thread_that_panics_while_holding_a_guard_unpins() {
    let heap = quiet_heap();
    let buffer = filled(&heap, 10 * PAGE_BYTES, 1);
    let buffer = std::sync::Arc::new(buffer);
    let theirs = std::sync::Arc::clone(&buffer);
    let joined = std::thread::spawn(move || {
        let _guard = theirs.pin();
        panic!("in another thread");
    })
    .join();
    assert!(joined.is_err());
    assert!(buffer.offer());
    assert_holds(&buffer, 1);
}

#[test]
fn buffers_dropped_in_any_phase_leave_clean_memory() {
    let heap = quiet_heap();
    for pages in [1, 33, 600] {
        let bytes = pages * PAGE_BYTES;
        let in_phase = |phase: Phase| {
            let buffer = filled(&heap, bytes, 5);
            match phase {
                Phase::Offered => assert!(buffer.offer()),
                Phase::Empty => assert!(buffer.release()),
                _ => {}
            }
            assert_eq!(buffer.phase(), phase);
            buffer
        };
        for phase in [Phase::Volatile, Phase::Offered, Phase::Empty] {
            drop(in_phase(phase));
            let mut taken = in_phase(Phase::Offered);
            page_out(Span::new(taken.as_ptr().expose_provenance(), pages)).expect("MADV_PAGEOUT");
            let _ = taken.pin_mut();
            drop(taken);
            let next = heap.buffer(bytes).expect("a buffer");
            assert!(
                next.pin().intact().expect("a new buffer has lost nothing").iter().all(|byte| *byte == 0)
            );
        }
    }
    assert_eq!(heap.stats().empty.ranges + heap.stats().offered_now.ranges, 0);
}

#[test]
fn a_leaked_guard_keeps_its_buffer_pinned_and_does_not_outlive_it() {
    let heap = quiet_heap();
    for pages in [10, 600] {
        let mut buffer = filled(&heap, pages * PAGE_BYTES, 1);
        std::mem::forget(buffer.pin());
        assert_eq!(buffer.phase(), Phase::Pinned);
        assert!(!buffer.offer() && !buffer.release());
        assert_eq!((heap.offer(u64::MAX), heap.release()), (0, 0));
        // The borrow is over, so an exclusive pin can be had, and its bytes are right.
        buffer.pin_mut().intact().expect("never offered").fill(2);
        std::mem::forget(buffer.pin_mut());
        assert_holds(&buffer, 2);
        drop(buffer);
        assert_eq!(heap.stats().pinned.ranges, 0);
        let next = heap.buffer(pages * PAGE_BYTES).expect("a buffer");
        assert!(next.pin().intact().expect("new").iter().all(|byte| *byte == 0));
    }
}

/// More guards than a count has room for, all leaked: the buffer stays pinned instead of becoming volatile under them.
#[test]
fn leaked_guards_do_not_overflow() {
    let heap = quiet_heap();
    let buffer = filled(&heap, PAGE_BYTES, 1);
    let held = buffer.pin();
    (0..70_000).for_each(|_| std::mem::forget(buffer.pin()));
    drop(held);
    (0..70_000).for_each(|_| drop(buffer.pin()));
    assert_eq!(buffer.phase(), Phase::Pinned);
    assert!(!buffer.offer());
}

#[test]
fn limits_of_absurd_size_do_no_harm() {
    let builder = Heap::builder().limit(u64::MAX).reserve(u64::MAX - 1).max_unoffered(u64::MAX);
    let (heap, mut reclaimer) = builder.build_manual().expect("a heap");
    let buffer = filled(&heap, 33 * PAGE_BYTES, 1);
    for _ in 0..3 {
        let _ = reclaimer.step();
    }
    assert!(matches!(buffer.pin(), Pinned::Intact(_)));
    let (heap, mut reclaimer) = Heap::builder().limit(1).reserve(0).build_manual().expect("a heap");
    let buffer = filled(&heap, 1, 1);
    let _ = reclaimer.step();
    drop(buffer.pin());
    assert_eq!((heap.offer(0), heap.reclaim(0)), (0, 0));
}
