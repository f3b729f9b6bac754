//! What operations cost, counted in page-table entries and not in time.

use super::*;

/// "It doesn't touch pages any more so overhead of the system call should be very small."
#[test]
fn a_mark_costs_the_same_for_any_number_of_pages() {
    let costs = [1, 64, 4096].map(|pages| {
        let (mut machine, process) =
            rfc_with(Setup { frames: 1 << 13, ..Setup::new(Semantics::RfcV3) }, pages);
        let before = machine.counters();
        mark(&mut machine, process, AT, pages).unwrap();
        machine.counters().since(&before)
    });
    assert_eq!(costs[0].ptes_touched, 0);
    assert_eq!([costs[0], costs[0]], [costs[1], costs[2]]);
}

/// "The madvise(DONTNEED) should zap all mapped pages in range so overhead is increased linearly with the number of mapped
/// pages."
#[test]
fn dontneed_costs_as_much_as_there_are_mapped_pages() {
    for pages in [1, 64, 4096] {
        let (mut machine, process) =
            rfc_with(Setup { frames: 1 << 13, ..Setup::new(Semantics::RfcV3) }, pages);
        let before = machine.counters();
        machine.madvise(process, AT * PAGE_SIZE, pages * PAGE_SIZE, Advice::DontNeed).unwrap();
        assert_eq!(machine.counters().since(&before).ptes_touched, pages);
    }
}

/// "It has a chance to eliminate overheads (ex, page fault + page allocation + memset(PAGE_SIZE))."
#[test]
fn using_marked_pages_again_takes_no_fault_where_dontneed_takes_one_each() {
    let faults = [Advice::Volatile, Advice::DontNeed].map(|advice| {
        let (mut machine, process) = rfc(64);
        machine.madvise(process, AT * PAGE_SIZE, 64 * PAGE_SIZE, advice).unwrap();
        let before = machine.counters();
        fill(&mut machine, process, AT, 64);
        machine.counters().since(&before).pgfault
    });
    assert_eq!(faults, [0, 64]);
}

/// "DONTNEED doesn't need exclusive mmap_sem locking so concurrent page fault of other threads could be allowed. But
/// VOLATILE needs exclusive mmap_sem".
#[test]
fn a_mark_excludes_page_faults_and_dontneed_does_not() {
    let locks = [Advice::Volatile, Advice::DontNeed].map(|advice| {
        let (mut machine, process) = rfc(64);
        let before = machine.counters();
        machine.madvise(process, AT * PAGE_SIZE, 64 * PAGE_SIZE, advice).unwrap();
        machine.counters().since(&before).mmap_sem_writes
    });
    assert_eq!(locks, [1, 0]);
}

/// Every part that was split off stays in the reverse mapping of all pages of the mapping: the more ranges are marked, the
/// longer the way of reclaim to each page.
#[test]
fn marked_parts_of_one_mapping_lengthen_the_way_to_its_pages() {
    let steps = [1_u64, 8, 32].map(|ranges| {
        let (mut machine, process) = rfc(64);
        for range in 0..ranges {
            mark(&mut machine, process, AT + range * 2, 1).unwrap();
        }
        let before = machine.counters();
        machine.reclaim(1);
        machine.counters().since(&before).rmap_steps
    });
    assert!(steps[0] * 4 < steps[1] && steps[1] * 3 < steps[2], "{steps:?}");
}
