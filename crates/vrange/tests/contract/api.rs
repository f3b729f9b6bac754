//! What the interface promises beyond the contract: nested and typed pins, limits, requests by hand, kinds of content.

use std::thread;
use std::time::{Duration, Instant};

use vrange::{
    Buffer, Content, ErrorKind, Heap, Phase, Pinned, Purged, ReadGuard, Reclaimer, Stats, WriteGuard,
};
use vrange_os::PAGE_BYTES;
use vrange_testing::in_child;

use crate::support::group::in_group;
use crate::support::{assert_filled, fill, filled, memory, page_of, quiet, quiet_heap, seccomp};

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Heap>();
    shared::<Buffer>();
    shared::<ReadGuard<'static>>();
    shared::<WriteGuard<'static>>();
    shared::<Pinned<ReadGuard<'static>>>();
    shared::<Purged<WriteGuard<'static>>>();
    shared::<Reclaimer>();
    shared::<vrange::Error>();
    shared::<Stats>();
};

#[test]
fn pins_nest_and_the_last_unpin_counts() {
    let heap = quiet_heap();
    let buffer = filled(&heap, 10, 1);
    let first = buffer.pin();
    let second = buffer.pin();
    drop(first);
    assert_eq!(buffer.phase(), Phase::Pinned);
    assert!(!buffer.offer() && !buffer.release());
    drop(second);
    assert_eq!(buffer.phase(), Phase::Volatile);
    assert!(buffer.offer());
    assert_eq!(buffer.phase(), Phase::Offered);
    assert!(buffer.release());
    assert_eq!(buffer.phase(), Phase::Empty);
}

#[test]
fn bytes_are_seen_as_plain_values() {
    let heap = quiet_heap();
    // Not a whole number of values: the rest is left out.
    let mut buffer = heap.buffer(8 * 100 + 3).expect("a buffer");
    assert_eq!((buffer.len(), buffer.is_empty()), (803, false));
    {
        let mut guard = buffer.pin_mut().intact().expect("new");
        assert_eq!(guard.len(), 803);
        let values: &mut [f64] = guard.as_mut_slice_of();
        assert_eq!(values.len(), 100);
        values.iter_mut().zip(0u8..).for_each(|(value, number)| *value = f64::from(number));
        assert_eq!(guard.as_slice_of::<f64>()[7], 7.0);
    }
    assert!(buffer.offer());
    let guard = buffer.pin().intact().expect("not taken");
    assert_eq!(guard.as_slice_of::<f64>().iter().sum::<f64>(), 4950.0);
    assert_eq!(guard.as_slice_of::<[u64; 100]>().len(), 1);
}

#[test]
fn lost_values_are_zeros() {
    let heap = quiet_heap();
    let mut buffer = heap.buffer(2 * PAGE_BYTES).expect("a buffer");
    buffer.pin_mut().intact().expect("new").as_mut_slice_of::<u32>().fill(5);
    assert!(buffer.offer());
    memory::take(&buffer, 0..1);
    let Pinned::Purged(purged) = buffer.pin() else { panic!("a page was taken") };
    assert!(purged.lost().eq(std::iter::once(0..PAGE_BYTES)));
    let guard = purged.into_guard();
    let values = guard.as_slice_of::<u32>();
    assert_eq!((values[0], values[1023], values[1024]), (0, 0, 5));
}

/// While another thread offers it, a range is claimed for moments. A `try_pin` that waited would call `futex`, which kills the
/// process here.
#[test]
fn try_pin_never_waits() {
    in_child(|| {
        let heap = quiet_heap();
        let buffer = filled(&heap, 16384, 1);
        let mut expected = vec![0; 6 * PAGE_BYTES];
        fill(&mut expected, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    buffer.offer();
                    // Offers without a pause would leave no moment for a pin that does not wait.
                    thread::sleep(Duration::from_micros(50));
                }
            });
            seccomp::forbid(&[libc::SYS_futex]);
            // Threads that share a processor rarely meet in the middle of an offer.
            let until = Instant::now() + Duration::from_secs(20);
            let (mut pinned, mut refused) = (0, 0);
            while (pinned < 1000 || refused < 10) && Instant::now() < until {
                match buffer.try_pin() {
                    Some(Pinned::Intact(guard)) => {
                        assert_eq!(page_of(&guard, 5), page_of(&expected, 5));
                        pinned += 1;
                    }
                    Some(Pinned::Purged(_)) => panic!("nothing was taken"),
                    None => refused += 1,
                }
            }
            assert!(pinned > 0 && refused > 0, "{pinned} pins, {refused} refusals");
            // SAFETY: ends the process with both threads; the end of a thread would call `futex`.
            unsafe { libc::_exit(0) };
        });
    });
}

#[test]
fn a_limit_is_kept_by_releasing_the_coldest() {
    let (heap, _reclaimer) = quiet(Heap::builder().limit(100 * PAGE_BYTES as u64).reserve(0));
    let buffers: Vec<Buffer> = (0..5).map(|seed| filled(&heap, 30, seed)).collect();
    let phases: Vec<Phase> = buffers.iter().map(Buffer::phase).collect();
    assert_eq!(phases[..2], [Phase::Empty; 2], "room for three of them: {phases:?}");
    for (buffer, seed) in buffers.iter().zip(0..).skip(2) {
        assert_filled(&buffer.pin().intact().expect("within the limit"), seed);
    }
    assert!(buffers[0].pin().is_purged());
    // What is pinned cannot make room, and is not refused either: the heap is larger until it is unpinned.
    let guards: Vec<_> = buffers.iter().map(Buffer::pin).collect();
    assert_eq!(heap.stats().pinned.ranges, 5);
    drop(guards);
    let stats = heap.stats();
    let held = stats.marked.pages.pages() + stats.offered_now.pages.pages();
    assert!(held <= 100, "{held} pages");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let heap = Heap::builder().limit(100 * PAGE_BYTES as u64).reserve(0).build().expect("a heap");
    let error = heap.buffer(101 * PAGE_BYTES).expect_err("larger than the limit");
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    let error = Heap::builder().limit(10).reserve(10).build().expect_err("no room beside the reserve");
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
}

#[test]
fn with_max_unoffered_0_an_unpin_offers() {
    let (heap, _reclaimer) = quiet(Heap::builder().max_unoffered(0));
    for pages in [1, 33, 1100] {
        let mut buffer = filled(&heap, pages, 1);
        assert_eq!(buffer.phase(), Phase::Offered);
        fill(&mut buffer.pin_mut().intact().expect("not taken"), 2);
        assert_eq!(buffer.phase(), Phase::Offered);
        drop(buffer.pin());
        assert_eq!(buffer.phase(), Phase::Offered);
        memory::take(&buffer, 0..pages);
        assert!(buffer.pin().is_purged());
    }
}

#[test]
fn max_unoffered_bounds_what_is_volatile_and_not_offered() {
    let cap_pages = 50;
    let (heap, _reclaimer) = quiet(Heap::builder().max_unoffered(cap_pages * PAGE_BYTES as u64));
    let mut buffers: Vec<Buffer> = Vec::new();
    for round in 0..3 {
        for seed in 0..40 {
            if round == 0 {
                buffers.push(filled(&heap, 7, seed));
            } else {
                let number = usize::try_from(seed * 7 % 40).expect("small");
                assert_filled(&buffers[number].pin().intact().expect("not taken"), number as u64);
            }
            assert!(heap.stats().marked.pages.pages() <= cap_pages);
        }
    }
    assert!(heap.stats().offered_now.ranges > 0);
}

#[test]
fn a_reclaimer_driven_by_hand_offers_what_the_reserve_needs() {
    in_group(|group| {
        let (heap, mut reclaimer) = quiet(Heap::builder().reserve(32 << 20));
        let buffers: Vec<Buffer> = (0..1024).map(|seed| filled(&heap, 16, seed)).collect();
        group.reclaim(u64::MAX);
        // 20 MiB are left to grow by, so 12 are missing.
        group.limit(group.usage_bytes() + (20 << 20));
        assert_eq!(heap.stats().offered.pages(), 0, "nothing by itself");
        let mut offered_bytes = 0;
        for _ in 0..20 {
            offered_bytes += reclaimer.step().offered_bytes;
        }
        assert!(((8 << 20)..(40 << 20)).contains(&offered_bytes), "{offered_bytes} bytes");
        assert!(heap.stats().marked.ranges > 0, "not more than was needed");
        drop((buffers, heap));
        let step = reclaimer.step();
        assert_eq!((step.offered_bytes, step.released_bytes), (0, 0), "after the heap's end it does nothing");
    });
}

#[test]
fn with_memory_plentiful_a_step_offers_nothing() {
    let (heap, mut reclaimer) = quiet(Heap::builder().reserve(1));
    let buffer = filled(&heap, 300, 1);
    for _ in 0..10 {
        assert_eq!(reclaimer.step().offered_bytes, 0);
    }
    assert_eq!(buffer.phase(), Phase::Volatile);
}

#[test]
fn free_content_is_offered_soon_and_released_after_its_decay() {
    let decay = Duration::from_millis(600);
    let (heap, mut reclaimer) = quiet(Heap::builder().content(Content::Free { decay }));
    let buffer = filled(&heap, 300, 1);
    let begin = Instant::now();
    let mut offered_after = None;
    while buffer.phase() != Phase::Empty {
        let step = reclaimer.step();
        thread::sleep(step.wait.min(Duration::from_millis(10)));
        if buffer.phase() == Phase::Offered {
            offered_after = offered_after.or(Some(begin.elapsed()));
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "still {:?}", buffer.phase());
    }
    assert!(
        offered_after.is_some_and(|after| after < decay),
        "offered before it was released: {offered_after:?}"
    );
    assert_eq!(memory::own_pages(memory::span(&buffer)), 0);
    assert!(buffer.pin().is_purged());
}

#[test]
fn a_heap_names_itself_and_its_buffers_show_their_phase() {
    let (heap, _reclaimer) = quiet(Heap::builder().name("thumbnails"));
    let buffer = filled(&heap, 1, 1);
    assert_eq!(heap.name(), "thumbnails");
    assert!(format!("{heap:?}").contains("thumbnails"));
    assert!(format!("{buffer:?}").contains("Volatile"));
}
