//! VMAs: the flag, splitting and merging.

use super::*;

/// "The madvise(VOLATILE) should mark the flag in a range(ie, VMA)."
#[test]
fn a_mark_is_a_flag_of_the_vma() {
    let (mut machine, process) = rfc(4);
    assert_eq!(layout(&machine, process), [(0, 4, false)]);
    mark(&mut machine, process, AT, 4).unwrap();
    assert_eq!(layout(&machine, process), [(0, 4, true)]);
    mark(&mut machine, process, AT, 4).unwrap();
    assert_eq!(layout(&machine, process), [(0, 4, true)], "marking twice is marking once");
    machine.validate();
}

/// `new_flags |= VM_VOLATILE;` for a part of a VMA: it is split off first.
#[test]
fn a_mark_of_a_part_splits_the_vma() {
    let (mut machine, process) = rfc(8);
    mark(&mut machine, process, AT + 2, 3).unwrap();
    assert_eq!(layout(&machine, process), [(0, 2, false), (2, 5, true), (5, 8, false)]);
    assert_eq!(machine.counters().vma_splits, 2);
    assert_eq!(contents(&mut machine, process, AT, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    machine.validate();
}

/// "We should remove the flag of vma and merge adjacent vmas so needs exclusive mmap_sem."
#[test]
fn the_fault_that_removes_the_flag_merges_the_vma_with_its_neighbours() {
    let (mut machine, process) = rfc(8);
    mark(&mut machine, process, AT + 2, 3).unwrap();
    machine.reclaim(EVERYTHING);
    let before = machine.counters();
    assert_eq!(machine.read(process, AT + 3), Ok(0));
    assert_eq!(layout(&machine, process), [(0, 8, false)]);
    let cost = machine.counters().since(&before);
    assert_eq!((cost.vma_merges, cost.mmap_sem_writes, cost.marks_cleared_by_fault), (2, 1, 1));
    machine.validate();
}

/// "Special vmas that are non-mergable, non-mlock()able." `VM_SPECIAL` names `VM_VOLATILE`, so two marked ranges that touch
/// stay two VMAs.
#[test]
fn volatile_vmas_that_touch_stay_apart() {
    for (volatile_is_special, expected) in
        [(true, vec![(0, 2, true), (2, 4, true)]), (false, vec![(0, 4, true)])]
    {
        let (mut machine, process) =
            rfc_with(Setup { volatile_is_special, ..Setup::new(Semantics::RfcV3) }, 4);
        mark(&mut machine, process, AT, 2).unwrap();
        mark(&mut machine, process, AT + 2, 2).unwrap();
        assert_eq!(layout(&machine, process), expected);
        machine.validate();
    }
}

/// A VMA merges with a neighbour only where their pages are entered in one reverse mapping.
#[test]
fn vmas_with_pages_of_their_own_stay_apart() {
    let mut machine = Machine::new(Setup::new(Semantics::RfcV3));
    let process = machine.spawn();
    machine.map(process, AT, 2, Kind::Anonymous).unwrap();
    machine.map(process, AT + 2, 2, Kind::Anonymous).unwrap();
    assert_eq!(layout(&machine, process), [(0, 4, false)], "neither has pages yet");
    machine.map(process, AT + 5, 1, Kind::Anonymous).unwrap();
    machine.write(process, AT + 5, 1).unwrap();
    machine.write(process, AT, 1).unwrap();
    machine.map(process, AT + 4, 1, Kind::Anonymous).unwrap();
    assert_eq!(layout(&machine, process), [(0, 5, false), (5, 6, false)]);
    machine.validate();
}

/// A VMA that was cloned from a parent's takes no neighbour in ("The list_is_singular() test is to avoid merging VMA cloned
/// from parents", as the kernel's `mmap.c` has it).
#[test]
fn a_childs_vma_does_not_grow() {
    for (forked, expected) in [(true, vec![(0, 2, false), (2, 4, false)]), (false, vec![(0, 4, false)])] {
        let (mut machine, mut process) = rfc(2);
        if forked {
            process = machine.fork(process);
        }
        machine.map(process, AT + 2, 2, Kind::Anonymous).unwrap();
        assert_eq!(layout(&machine, process), expected);
        machine.validate();
    }
}

/// `if (error == -ENOMEM) error = -EAGAIN;`: a mark that needs a VMA more than there may be is refused.
#[test]
fn a_mark_fails_where_there_may_be_no_more_vmas() {
    for (max_map_count, expected) in [(2, Err(Errno::EAGAIN)), (3, Ok(()))] {
        let (mut machine, process) = rfc_with(Setup { max_map_count, ..Setup::new(Semantics::RfcV3) }, 8);
        assert_eq!(mark(&mut machine, process, AT + 2, 3), expected);
        assert_eq!(contents(&mut machine, process, AT, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
        machine.validate();
    }
}
