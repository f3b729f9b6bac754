//! No function that an allocator could call from inside allocates.

use vrange::raw;
use vrange_os::PAGE_BYTES;
use vrange_testing::{CountingAllocator, allocations_of};

use crate::support::Mapping;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "all about the same memory, for the same reason")]
fn no_call_that_an_allocator_makes_allocates() {
    const PAGES: usize = 3000;
    let mapping = Mapping::adopted(PAGES);
    mapping.fill(0..PAGES, 1);
    // The first mark of a process starts the reclaimer, and the first offer opens files.
    mapping.mark(0..10);
    mapping.offer();
    mapping.take(0..10);
    mapping.unmark(0..10);
    let (base, bytes) = (mapping.base(), PAGES * PAGE_BYTES);
    let in_calls = allocations_of(|| {
        // SAFETY: memory of the test, which does not touch it meanwhile.
        unsafe {
            raw::adopt(base, bytes).expect("adopted");
            raw::mark(base, bytes).expect("marked");
            let _ = raw::unmark(base, bytes).expect("unmarked");
            raw::mark(base, bytes).expect("marked");
            raw::purge(base, bytes / 2).expect("purged");
        }
    });
    assert_eq!(in_calls, 0, "while nothing was offered");
    mapping.offer();
    mapping.take(PAGES - 500..PAGES);
    let mut lost = 0;
    let in_calls = allocations_of(|| {
        // SAFETY: as above.
        unsafe {
            raw::query(base, bytes, |_, _| ()).expect("a range");
            lost = raw::unmark(base, bytes).expect("unmarked").lost_pages();
            raw::abandon(base, bytes).expect("abandoned");
            raw::mark(base, bytes).expect("marked at once");
            let _ = raw::unmark(base, bytes).expect("unmarked");
            raw::mark_now(base, bytes).expect("marked at once");
            raw::forget(base, bytes).expect("forgotten");
        }
    });
    assert_eq!(in_calls, 0, "after an offer");
    // The first ten were lost and told before.
    assert_eq!(lost, PAGES / 2 + 500 - 10);
}

/// The first of each in a process, on memory that is not adopted.
#[test]
fn the_first_call_of_a_process_does_not_allocate_either() {
    vrange_testing::in_child(|| {
        let mapping = Mapping::new(100);
        mapping.fill(0..100, 1);
        let (base, bytes) = (mapping.base(), 100 * PAGE_BYTES);
        let in_calls = allocations_of(|| {
            // SAFETY: memory of the test, which does not touch it meanwhile.
            unsafe { raw::mark(base, bytes) }.expect("marked at once");
            // SAFETY: as above.
            let _ = unsafe { raw::unmark(base, bytes) }.expect("unmarked");
            // SAFETY: as above.
            unsafe { raw::unmark_now(base, bytes) }.expect("unmarked");
            // SAFETY: as above; its end is told.
            unsafe { raw::adopt(base, bytes) }.expect("adopted");
            raw::forget(base, bytes).expect("forgotten");
        });
        assert_eq!(in_calls, 0);
    });
}
