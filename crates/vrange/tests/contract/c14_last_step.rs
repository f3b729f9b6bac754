//! C14 and C13 together: where nothing can be offered, the reclaimer releases, in small steps and the coldest first; what only
//! this process has locked, it keeps.

use std::time::Duration;

use vrange::{Buffer, Content, Heap, Phase, Reclaimer};
use vrange_os::PAGE_BYTES;

use crate::support::group::{Group, in_group};
use crate::support::{assert_filled, filled, memory, quiet, seccomp};

const MIB: u64 = 1 << 20;
/// Each of 1 MiB.
const BUFFERS: usize = 40;
const BUFFER_PAGES: usize = 256;
/// What is missing to the high mark of so small a group, and more.
const MISSING_BYTES: u64 = 32 * MIB;

/// Buffers in the order of their last unpin, in a group that has no more room than 2 MiB.
fn short_of_memory(group: &Group) -> (Heap, Reclaimer, Vec<Buffer>) {
    let (heap, reclaimer) = quiet(Heap::builder());
    let buffers = (0..BUFFERS).map(|seed| filled(&heap, BUFFER_PAGES, seed as u64)).collect();
    group.limit(group.usage_bytes() + 2 * MIB);
    (heap, reclaimer, buffers)
}

/// Takes turns until there is nothing more to do. Returns what each has released.
fn released_by_turn(reclaimer: &mut Reclaimer) -> Vec<u64> {
    let mut released = Vec::new();
    loop {
        let step = reclaimer.step();
        assert_eq!(step.offered_bytes, 0);
        if step.released_bytes == 0 {
            return released;
        }
        released.push(step.released_bytes);
    }
}

#[track_caller]
fn assert_gives_up_the_coldest(heap: &Heap, released: &[u64], buffers: &[Buffer]) {
    let total: u64 = released.iter().sum();
    assert!((4 * MIB..MISSING_BYTES).contains(&total), "{released:?}");
    let is_small = |bytes: &u64| *bytes <= MISSING_BYTES / 8;
    assert!(released.len() > 4 && released.iter().all(is_small), "{released:?}");
    assert_eq!(heap.stats().released.bytes(), total);
    let gone = buffers.iter().filter(|buffer| buffer.phase() == Phase::Empty).count();
    assert!(
        buffers[..gone].iter().all(|buffer| buffer.phase() == Phase::Empty),
        "not the coldest: {buffers:?}"
    );
    // The one after those may have gone in part.
    for (number, buffer) in buffers.iter().enumerate().skip(gone + 1) {
        assert_filled(&buffer.pin().intact().expect("not among the coldest"), number as u64);
    }
}

#[test]
fn c14_where_no_offers_are_taken_the_coldest_is_released_in_small_steps() {
    in_group(|group| {
        seccomp::refuse_offers(libc::ENOSYS);
        let (heap, mut reclaimer, buffers) = short_of_memory(group);
        assert_gives_up_the_coldest(&heap, &released_by_turn(&mut reclaimer), &buffers);
    });
}

/// What is refused first counts as just used, since the reason might have been its own.
#[test]
fn c14_a_filter_that_comes_later_is_noticed_at_the_first_refusal() {
    in_group(|group| {
        let (heap, mut reclaimer) = quiet(Heap::builder());
        drop(filled(&heap, 1, 1));
        reclaimer.step();
        seccomp::refuse_offers(libc::EINVAL);
        let buffers: Vec<_> = (0..BUFFERS).map(|seed| filled(&heap, BUFFER_PAGES, seed as u64)).collect();
        group.limit(group.usage_bytes() + 2 * MIB);
        let released = released_by_turn(&mut reclaimer);
        assert!((4 * MIB..MISSING_BYTES).contains(&released.iter().sum()), "{released:?}");
        assert_eq!(buffers.iter().filter(|buffer| buffer.phase() == Phase::Offered).count(), 0);
    });
}

#[test]
fn c14_garbage_decays_where_no_offers_are_taken() {
    in_group(|_| {
        seccomp::refuse_offers(libc::EPERM);
        let decay = Duration::from_millis(50);
        let (heap, mut reclaimer) = quiet(Heap::builder().content(Content::Free { decay }));
        let buffer = filled(&heap, 10, 1);
        for _ in 0..20 {
            reclaimer.step();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((buffer.phase(), memory::own_pages(memory::span(&buffer))), (Phase::Empty, 0));
    });
}

#[test]
fn c14_the_reclaimer_keeps_what_is_locked_though_memory_is_short() {
    in_group(|group| {
        // From now on all memory is locked when it is mapped, that on which the reclaimer tries things among it.
        // SAFETY: no memory is accessed.
        let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
        assert_eq!(locked, 0, "the superuser may lock all it has");
        let (heap, mut reclaimer, buffers) = short_of_memory(group);
        for _ in 0..20 {
            assert_eq!(reclaimer.step().offered_bytes, 0);
        }
        assert_eq!(heap.stats().released.pages(), 0);
        assert_eq!(heap.stats().marked.pages.bytes(), (BUFFERS * BUFFER_PAGES * PAGE_BYTES) as u64);
        for (number, buffer) in buffers.iter().enumerate() {
            assert_filled(&buffer.pin().intact().expect("locked"), number as u64);
        }
    });
}
