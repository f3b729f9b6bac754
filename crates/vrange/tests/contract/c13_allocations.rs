//! The reclaimer does not allocate when memory is short: that it would have to wait for memory is the last thing to happen then.

use std::time::Duration;

use vrange::{Buffer, Heap, Reclaimer, Step};
use vrange_testing::{CountingAllocator, allocations_of};

use crate::support::group::{Group, in_group};
use crate::support::raw::Raw;
use crate::support::{SIZES_PAGES, filled, quiet, seccomp};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MIB: u64 = 1 << 20;
const MIB_PAGES: usize = 256;
/// How much the group grows, a MiB before each turn.
const GROWTH_MIB: usize = 24;

/// A heap of ranges of all sizes, whose reclaimer has had its first turn, in a group with little room.
fn short_of_memory(group: &Group) -> (Heap, Reclaimer, Vec<Buffer>) {
    let (heap, mut reclaimer) = quiet(Heap::builder());
    let sizes = SIZES_PAGES.into_iter().chain(1..20).cycle().take(140);
    let buffers: Vec<Buffer> = sizes.map(|pages| filled(&heap, pages, 1)).collect();
    // The control: what the first turn opens is counted.
    let opening = allocations_of(|| {
        reclaimer.step();
    });
    assert!(opening > 0);
    assert_eq!(heap.stats().offered.pages(), 0);
    group.limit(group.usage_bytes() + 8 * MIB);
    (heap, reclaimer, buffers)
}

/// Turns of the reclaimer while the group grows. Returns what they have done, and how often they have allocated.
fn turns(reclaimer: &mut Reclaimer) -> (Step, usize) {
    let mut growth = Raw::new(GROWTH_MIB * MIB_PAGES);
    let mut done = Step::default();
    let allocations = allocations_of(|| {
        for mib in growth.bytes_mut().chunks_mut(MIB_PAGES * vrange_os::PAGE_BYTES) {
            mib.fill(1);
            let step = reclaimer.step();
            done.offered_bytes += step.offered_bytes;
            done.released_bytes += step.released_bytes;
        }
        // Once in a while it looks whether anything has changed.
        std::thread::sleep(Duration::from_millis(2100));
        reclaimer.step();
    });
    (done, allocations)
}

#[test]
fn c13_the_reclaimer_does_not_allocate_after_its_first_turn() {
    in_group(|group| {
        let (_heap, mut reclaimer, _buffers) = short_of_memory(group);
        let (done, allocations) = turns(&mut reclaimer);
        assert!(done.offered_bytes > 0 && done.released_bytes > 0, "{done:?}");
        assert_eq!(allocations, 0);
    });
}

#[test]
fn c13_the_reclaimer_does_not_allocate_where_nothing_can_be_offered() {
    in_group(|group| {
        let (_heap, mut reclaimer, _buffers) = short_of_memory(group);
        seccomp::refuse_offers(libc::EPERM);
        let (done, allocations) = turns(&mut reclaimer);
        assert!(done.offered_bytes == 0 && done.released_bytes > 0, "{done:?}");
        assert_eq!(allocations, 0);
    });
}
