//! Page faults: what a program sees of its pages, and the fault that clears the mark.

use vrange_model::{AccessError, BeginFault, PendingFault};

use super::*;

/// "The user can see zero-fill-on-demand pages as if madvise(DONTNEED)."
#[test]
fn a_discarded_page_reads_as_zeros() {
    let (mut machine, process) = rfc(4);
    mark(&mut machine, process, AT, 4).unwrap();
    machine.reclaim(EVERYTHING);
    assert_eq!(contents(&mut machine, process, AT, 4), [0; 4]);
    let (mut unmarked, process) = rfc(4);
    unmarked.reclaim(EVERYTHING);
    assert_eq!(
        contents(&mut unmarked, process, AT, 4),
        [1, 2, 3, 4],
        "without a mark it comes back from swap"
    );
}

/// "The user can see old data without page fault."
#[test]
fn a_page_that_was_not_discarded_is_read_without_a_fault() {
    let (mut machine, process) = rfc(4);
    mark(&mut machine, process, AT, 4).unwrap();
    let before = machine.counters();
    assert_eq!(contents(&mut machine, process, AT, 4), [1, 2, 3, 4]);
    assert_eq!(machine.counters().since(&before).pgfault, 0);
    machine.reclaim(EVERYTHING);
    assert_eq!(contents(&mut machine, process, AT, 4), [0; 4]);
    assert_eq!(machine.counters().since(&before).pgfault, 4, "the discarded ones take one each");
}

/// "DONTNEED makes sure user always can see zero-fill pages after he calls madvise while VOLATILE can see zero-fill pages
/// or old data."
#[test]
fn dontneed_is_sure_and_volatile_is_not() {
    let (mut machine, process) = rfc(4);
    machine.madvise(process, AT * PAGE_SIZE, 2 * PAGE_SIZE, Advice::DontNeed).unwrap();
    mark(&mut machine, process, AT + 2, 2).unwrap();
    assert_eq!(contents(&mut machine, process, AT, 4), [0, 0, 3, 4]);
}

/// "The VOLATILE mark should be removed in page fault handler when first page fault occur in marked vma so next page faults
/// will follow normal page fault path."
#[test]
fn the_first_fault_removes_the_mark_and_the_next_does_nothing_special() {
    for write in [false, true] {
        let (mut machine, process) = rfc(4);
        mark(&mut machine, process, AT, 4).unwrap();
        machine.reclaim(EVERYTHING);
        let before = machine.counters();
        let touch = |machine: &mut Machine, page: u64| match write {
            true => machine.write(process, page, 9),
            false => machine.read(process, page).map(|_| ()),
        };
        touch(&mut machine, AT + 1).unwrap();
        assert_eq!(layout(&machine, process), [(0, 4, false)]);
        touch(&mut machine, AT + 2).unwrap();
        let cost = machine.counters().since(&before);
        assert_eq!((cost.pgfault, cost.marks_cleared_by_fault, cost.mmap_sem_writes), (2, 1, 1));
    }
}

/// "Someone unmap the vma": `return VM_FAULT_SIGSEG;`
#[test]
fn a_fault_that_comes_back_to_an_unmapped_range_is_a_segmentation_fault() {
    // Above the range is another VMA, which `find_vma_prev` finds instead: hence `vma->vm_start > address`.
    for (above, unmapped, expected) in [
        (false, 0..4, Err(AccessError::Segv)),
        (true, 0..4, Err(AccessError::Segv)),
        (true, 3..4, Err(AccessError::Segv)),
        (true, 0..3, Ok(())),
    ] {
        let (mut machine, process) = rfc(4);
        if above {
            machine.map(process, AT + 100, 1, Kind::Anonymous).unwrap();
        }
        mark(&mut machine, process, AT, 4).unwrap();
        machine.reclaim(EVERYTHING);
        let fault = begin(&mut machine, process, AT + 3);
        machine.unmap(process, AT + unmapped.start, unmapped.end - unmapped.start).unwrap();
        assert_eq!(machine.finish_fault(fault), expected, "{above} {unmapped:?}");
        machine.validate();
    }
}

/// A write fault that has given up `mmap_sem` to remove the mark.
fn begin(machine: &mut Machine, process: ProcessId, page: u64) -> PendingFault {
    match machine.begin_fault(process, page, true) {
        Ok(BeginFault::Pending(fault)) => fault,
        other => panic!("the fault waits for mmap_sem: {other:?}"),
    }
}

/// "Someone else already hanlded"
#[test]
fn of_two_faults_one_removes_the_mark() {
    let (mut machine, process) = rfc(4);
    mark(&mut machine, process, AT, 4).unwrap();
    machine.reclaim(EVERYTHING);
    let [first, second, same_page] = [AT, AT + 1, AT].map(|page| begin(&mut machine, process, page));
    machine.finish_fault(first).unwrap();
    machine.write(process, AT, 7).unwrap();
    machine.finish_fault(second).unwrap();
    machine.finish_fault(same_page).unwrap();
    assert_eq!(machine.counters().marks_cleared_by_fault, 1);
    assert_eq!(machine.read(process, AT), Ok(7), "the page that came first is not replaced");
    machine.validate();
}

/// "vma_merge(mm, prev, vma->vm_start, ...)" and then "return do_anonymous_page(mm, vma, address, ...)": where the lower
/// neighbour takes the VMA over, the patch goes on with one that was freed.
#[test]
fn a_merge_with_the_lower_neighbour_frees_the_vma_that_the_patch_goes_on_with() {
    for (first, stale) in [(2, 1), (0, 0)] {
        let (mut machine, process) = rfc(8);
        mark(&mut machine, process, AT + first, 3).unwrap();
        machine.reclaim(EVERYTHING);
        machine.read(process, AT + first).unwrap();
        assert_eq!(machine.counters().stale_vma_uses, stale);
    }
}
