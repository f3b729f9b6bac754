//! Every difference between the patch as written and the contract, by name. What the tests quote is from RFC v3, "Support
//! volatile range for anon vma" (Minchan Kim, December 2012).

use vrange_model::{
    AccessError, Advice, Contract, Errno, Kind, Machine, Op, PAGE_SIZE, PageState, Pages, ProcessId, Rules,
    Semantics, Setup, Swapless, ViolationKind,
};

const AT: u64 = 0x1000;
const EVERYTHING: u64 = 1 << 20;

/// A machine with a process that has written the numbers from 1 on to some pages.
fn machine(setup: Setup, pages: u64) -> (Machine, ProcessId) {
    let mut machine = Machine::new(setup);
    let process = machine.spawn();
    machine.map(process, AT, pages, Kind::Anonymous).unwrap();
    for page in 0..pages {
        machine.write(process, AT + page, page + 1).unwrap();
    }
    (machine, process)
}

fn of(semantics: Semantics, pages: u64) -> (Machine, ProcessId) {
    machine(Setup::new(semantics), pages)
}

fn mark(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) -> Result<bool, Errno> {
    machine.madvise(process, first * PAGE_SIZE, pages * PAGE_SIZE, Advice::Volatile)
}

/// The values that the contract lets page 0 show after `ops` of process 0 on mapping 0.
fn allowed(ops: &[Op]) -> Vec<u64> {
    let mut contract = Contract::new(Rules { swap: true });
    ops.iter().for_each(|op| contract.apply(op).unwrap());
    (0..4).filter(|value| contract.clone().allows_read(0, 0, 0, *value).is_ok()).collect()
}

const MAP: Op = Op::Map { process: 0, mapping: 0, pages: 4, paired: false };
const MARK: Op = Op::Mark { process: 0, mapping: 0, pages: Pages { first: 0, count: 4 }, paired: false };

fn write(value: u64) -> Op {
    Op::Write { process: 0, mapping: 0, page: 0, value }
}

/// Marks a page, lets something happen to it, writes 2 to it, and lets memory get short: what it reads as then.
fn rewritten(setup: Setup, happens: impl Fn(&mut Machine, ProcessId)) -> u64 {
    let (mut machine, process) = machine(setup, 1);
    mark(&mut machine, process, AT, 1).unwrap();
    happens(&mut machine, process);
    machine.write(process, AT, 2).unwrap();
    machine.reclaim(EVERYTHING);
    machine.reclaim(EVERYTHING);
    machine.validate();
    machine.read(process, AT).unwrap()
}

/// "The user can see old data without page fault", and without a fault nothing removes the mark: what is written then may be
/// discarded. This is the hole. "That's why user don't need madvise(MADV_NOVOLATILE) interface" does not hold.
#[test]
fn memory_that_is_used_again_without_a_fault_stays_volatile() {
    assert_eq!(allowed(&[MAP, write(1), MARK, write(2)]), [2]);
    let reused = |semantics| rewritten(Setup::new(semantics), |_, _| {});
    assert_eq!(reused(Semantics::RfcV3), 0);
    assert_eq!(reused(Semantics::Vrange), 2);
}

/// With NOVOLATILE before the memory is used again, as in the version after it, the hole is not there.
#[test]
fn novolatile_before_the_memory_is_used_again_closes_the_hole() {
    let end_mark = |machine: &mut Machine, process| {
        machine.madvise(process, AT * PAGE_SIZE, PAGE_SIZE, Advice::NoVolatile).unwrap();
    };
    assert_eq!(rewritten(Setup::new(Semantics::V4), end_mark), 2);
    assert_eq!(rewritten(Setup::new(Semantics::V4), |_, _| {}), 0, "without it, it is there");
}

/// "The VOLATILE mark should be removed in page fault handler when first page fault occur in marked vma": the code does it
/// behind `pte_none(entry)`. The fault that copies a page after a fork is another.
#[test]
fn the_fault_that_copies_a_page_keeps_the_mark() {
    let fork = |machine: &mut Machine, process| {
        let child = machine.fork(process);
        machine.exit(child);
    };
    let rfc = Setup::new(Semantics::RfcV3);
    assert_eq!(rewritten(rfc.clone(), fork), 0);
    assert_eq!(rewritten(Setup { every_fault_clears: true, ..rfc }, fork), 2, "as the text has it");
    assert_eq!(rewritten(Setup::new(Semantics::Vrange), fork), 2);
}

/// The same sentence; the fault that brings a page back from swap is another too.
#[test]
fn the_fault_that_reads_swap_keeps_the_mark() {
    for (every_fault_clears, expected) in [(false, 0), (true, 2)] {
        let setup = Setup { every_fault_clears, ..Setup::new(Semantics::RfcV3) };
        let (mut machine, process) = machine(setup, 1);
        machine.reclaim(EVERYTHING);
        mark(&mut machine, process, AT, 1).unwrap();
        machine.write(process, AT, 2).unwrap();
        machine.reclaim(EVERYTHING);
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.read(process, AT), Ok(expected));
    }
}

/// The same sentence; so is the fault that replaces the zero page.
#[test]
fn the_fault_that_replaces_the_zero_page_keeps_the_mark() {
    for (every_fault_clears, expected) in [(false, 0), (true, 2)] {
        let mut machine = Machine::new(Setup { every_fault_clears, ..Setup::new(Semantics::RfcV3) });
        let process = machine.spawn();
        machine.map(process, AT, 1, Kind::Anonymous).unwrap();
        assert_eq!(machine.read(process, AT), Ok(0));
        mark(&mut machine, process, AT, 1).unwrap();
        machine.write(process, AT, 2).unwrap();
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.read(process, AT), Ok(expected));
    }
}

/// "vma->vm_flags &= ~VM_VOLATILE;": one fault ends the mark on the whole VMA. In the contract a write ends it on its page.
#[test]
fn a_fault_ends_the_mark_on_the_whole_vma_and_a_write_on_its_page() {
    for (semantics, expected) in [(Semantics::RfcV3, [9, 2, 3, 4]), (Semantics::Vrange, [9, 0, 0, 0])] {
        let (mut machine, process) = of(semantics, 4);
        machine.madvise(process, AT * PAGE_SIZE, PAGE_SIZE, Advice::DontNeed).unwrap();
        mark(&mut machine, process, AT, 4).unwrap();
        machine.write(process, AT, 9).unwrap();
        machine.reclaim(EVERYTHING);
        let contents: Vec<_> = (AT..AT + 4).map(|page| machine.read(process, page).unwrap()).collect();
        assert_eq!(contents, expected, "{semantics:?}");
    }
}

/// The same line runs for a read too. In the contract a read ends nothing.
#[test]
fn a_fault_for_reading_ends_the_mark_and_a_read_does_not() {
    for (semantics, expected) in [(Semantics::RfcV3, 2), (Semantics::Vrange, 0)] {
        let (mut machine, process) = of(semantics, 2);
        machine.madvise(process, AT * PAGE_SIZE, PAGE_SIZE, Advice::DontNeed).unwrap();
        mark(&mut machine, process, AT, 2).unwrap();
        assert_eq!(machine.read(process, AT), Ok(0));
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.read(process, AT + 1), Ok(expected), "{semantics:?}");
    }
}

/// "By discarding instead of swap, it could be used in the non-swap system": not as it was written, since a page that gets no
/// slot (`add_to_swap`) goes back to the active list.
#[test]
fn without_swap_the_patch_discards_nothing() {
    let swapless = |semantics, swapless| {
        let (mut machine, process) = machine(Setup { swap_slots: 0, swapless, ..Setup::new(semantics) }, 4);
        mark(&mut machine, process, AT, 4).unwrap();
        machine.reclaim(EVERYTHING)
    };
    assert_eq!(swapless(Semantics::RfcV3, Swapless::AsWritten), 0);
    assert_eq!(swapless(Semantics::RfcV3, Swapless::AsPromised), 4);
    assert_eq!(swapless(Semantics::Vrange, Swapless::AsWritten), 4);
}

/// A full swap device is as none, for the patch.
#[test]
fn a_full_swap_device_stops_the_patch() {
    for (semantics, discarded) in [(Semantics::RfcV3, 0), (Semantics::Vrange, 4)] {
        let (mut machine, process) = machine(Setup { swap_slots: 4, ..Setup::new(semantics) }, 4);
        machine.reclaim(EVERYTHING);
        machine.map(process, AT + 100, 4, Kind::Anonymous).unwrap();
        (0..4).for_each(|page| machine.write(process, AT + 100 + page, 1).unwrap());
        mark(&mut machine, process, AT + 100, 4).unwrap();
        assert_eq!(machine.reclaim(EVERYTHING), discarded, "{semantics:?}");
    }
}

/// "we have to put the page into swapcache": volatile pages pass through swap slots. An offered page never has one.
#[test]
fn the_patch_takes_a_slot_for_every_page_that_it_discards() {
    for (semantics, slots) in [(Semantics::RfcV3, 4), (Semantics::Vrange, 0)] {
        let (mut machine, process) = of(semantics, 4);
        mark(&mut machine, process, AT, 4).unwrap();
        assert_eq!(machine.reclaim(4), 4);
        let counters = machine.counters();
        assert_eq!((counters.swap_cache_add, counters.pswpout), (slots, 0), "{semantics:?}");
    }
}

/// "Special vmas that are non-mergable, non-mlock()able.": a program that locks marked memory is told that it is locked. In
/// the contract a lock is a lock.
#[test]
fn marked_memory_can_be_locked() {
    for (semantics, expected) in [(Semantics::RfcV3, 0), (Semantics::Vrange, 1)] {
        let (mut machine, process) = of(semantics, 1);
        mark(&mut machine, process, AT, 1).unwrap();
        machine.mlock(process, AT, 1).unwrap();
        machine.reclaim(EVERYTHING);
        machine.validate();
        assert_eq!(machine.read(process, AT), Ok(expected), "{semantics:?}");
    }
}

/// `madvise_behavior` looks at `VM_LOCKED` and at nothing else, so files and shared memory are marked, to no effect. In the
/// contract that is an error.
#[test]
fn files_and_shared_memory_are_refused() {
    for (semantics, expected) in [(Semantics::RfcV3, Ok(false)), (Semantics::Vrange, Err(Errno::EINVAL))] {
        let mut machine = Machine::new(Setup::new(semantics));
        let process = machine.spawn();
        machine.map(process, AT, 4, Kind::FileOrShared).unwrap();
        assert_eq!(mark(&mut machine, process, AT, 4), expected, "{semantics:?}");
    }
}

/// `if (error == -ENOMEM) error = -EAGAIN;`: a mark of the patch takes VMAs, of which there may be too many. Ours takes none.
#[test]
fn a_mark_cannot_fail_for_want_of_vmas() {
    for (semantics, expected, vmas) in
        [(Semantics::RfcV3, Err(Errno::EAGAIN), 1), (Semantics::Vrange, Ok(false), 1)]
    {
        let (mut machine, process) = machine(Setup { max_map_count: 1, ..Setup::new(semantics) }, 4);
        assert_eq!(mark(&mut machine, process, AT + 1, 2), expected, "{semantics:?}");
        assert_eq!(machine.vmas(process).len(), vmas);
    }
}

/// "It doesn't touch pages any more so overhead of the system call should be very small." An implicit mark of ours has to
/// touch them; a paired one does not, nor does it ask the kernel anything.
#[test]
fn an_implicit_mark_costs_as_much_as_there_are_pages() {
    let cost = |semantics| {
        let (mut machine, process) = of(semantics, 64);
        let before = machine.counters();
        mark(&mut machine, process, AT, 64).unwrap();
        machine.counters().since(&before).ptes_touched
    };
    assert_eq!((cost(Semantics::RfcV3), cost(Semantics::Vrange)), (0, 64));
    let (mut machine, process) = of(Semantics::Vrange, 64);
    let before = machine.counters();
    machine.mark_paired(process, AT * PAGE_SIZE, 64 * PAGE_SIZE).unwrap();
    assert_eq!(machine.counters(), before);
}

/// "VOLATILE can see zero-fill pages or old data": which of the two a program has to find out from the bytes. A paired mark
/// ends with a report, page by page.
#[test]
fn what_was_lost_is_reported_page_by_page() {
    let (mut machine, process) = machine(Setup { swap_slots: 0, ..Setup::new(Semantics::Vrange) }, 4);
    machine.write(process, AT + 1, 0).unwrap();
    machine.mark_paired(process, AT * PAGE_SIZE, 4 * PAGE_SIZE).unwrap();
    machine.purge(process, AT, 3);
    let unmarked = machine.unmark_paired(process, AT * PAGE_SIZE, 4 * PAGE_SIZE);
    assert_eq!(unmarked.result, Ok(()));
    assert_eq!(unmarked.lost, [true, false, true, false], "page 1 held zeros, page 3 stayed");
    assert_eq!(machine.page_state(process, AT), PageState::Absent, "telling of a loss brings no memory in");
    assert_eq!(machine.read(process, AT + 3), Ok(4));
}

/// "A volatile page will only be purged if ALL vmas pointing to it are VM_VOLATILE." `try_to_unmap_anon` asks the VMAs until
/// nobody maps the page any more, and then `try_to_zap_one` takes it from all, also from those behind, who have it on swap.
/// A child that never marked anything loses its page.
#[test]
fn a_process_that_marked_nothing_loses_a_page_that_it_has_on_swap() {
    let lost = |setup: Setup| {
        let (mut machine, parent) = machine(setup, 1);
        let child = machine.fork(parent);
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.read(parent, AT), Ok(1), "back from swap, for the parent alone");
        mark(&mut machine, parent, AT, 1).unwrap();
        machine.reclaim(EVERYTHING);
        machine.validate();
        machine.read(child, AT).unwrap()
    };
    assert_eq!(lost(Setup::new(Semantics::RfcV3)), 0);
    assert_eq!(lost(Setup::new(Semantics::V4)), 0, "the version after it reclaims in the same way");
    assert_eq!(lost(Setup { discard_asks_all_sharers: true, ..Setup::new(Semantics::RfcV3) }), 1);
    assert_eq!(lost(Setup::new(Semantics::Vrange)), 1);
    let mut contract = Contract::new(Rules { swap: true });
    for op in [MAP, write(1), Op::Fork { parent: 0, child: 1 }, MARK] {
        contract.apply(&op).unwrap();
    }
    assert_eq!(contract.allows_read(1, 0, 0, 0).unwrap_err().kind, ViolationKind::Vanished { expected: 1 });
}

/// The same rule; with an implicit mark of ours the one who marked may lose a page that another keeps.
#[test]
fn one_sharers_mark_is_enough_for_it_to_lose_the_page_itself() {
    for (semantics, parent_reads) in [(Semantics::RfcV3, 1), (Semantics::Vrange, 0)] {
        let (mut machine, parent) = of(semantics, 1);
        let child = machine.fork(parent);
        mark(&mut machine, parent, AT, 1).unwrap();
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.read(parent, AT), Ok(parent_reads), "{semantics:?}");
        assert_eq!(machine.read(child, AT), Ok(1));
    }
}

/// With paired marks the patch's rule is kept: nothing is offered that another process still uses, and all goes when all have
/// marked it.
#[test]
fn paired_marks_keep_the_rule_of_all_vmas() {
    for (child_marks, freed, expected) in [(false, 0, 1), (true, 1, 0)] {
        let (mut machine, parent) = machine(Setup { swap_slots: 0, ..Setup::new(Semantics::Vrange) }, 1);
        let child = machine.fork(parent);
        machine.mark_paired(parent, AT * PAGE_SIZE, PAGE_SIZE).unwrap();
        if child_marks {
            machine.mark_paired(child, AT * PAGE_SIZE, PAGE_SIZE).unwrap();
        }
        assert_eq!(machine.reclaim(EVERYTHING), freed);
        assert_eq!(machine.unmark_paired(parent, AT * PAGE_SIZE, PAGE_SIZE).lost, [child_marks]);
        assert_eq!(machine.read(parent, AT), Ok(expected));
    }
}

/// "So I want to apply same aging rule of nomal pages to them." The patch discards by age of use, whatever is marked; ours
/// offers by age of mark, and leaves what is not marked alone as long as something is.
#[test]
fn the_patch_goes_by_age_of_use_and_ours_by_age_of_mark() {
    let (mut rfc, process) = of(Semantics::RfcV3, 4);
    mark(&mut rfc, process, AT + 2, 2).unwrap();
    rfc.age(2);
    rfc.reclaim(2);
    assert_eq!((rfc.counters().pgvolatile, rfc.counters().pswpout), (0, 2));
    let (mut ours, process) = of(Semantics::Vrange, 4);
    for page in [AT + 3, AT + 2, AT + 1] {
        ours.mark_paired(process, page * PAGE_SIZE, PAGE_SIZE).unwrap();
    }
    ours.reclaim(2);
    assert_eq!((ours.counters().pglazyfreed, ours.counters().pswpout), (2, 0));
    let lost = ours.unmark_paired(process, AT * PAGE_SIZE, 4 * PAGE_SIZE).lost;
    assert_eq!(lost, [false, false, true, true]);
}

/// A machine full of marked memory gives a process what it needs. The patch needs swap for that.
#[test]
fn volatile_memory_never_causes_a_kill_without_swap() {
    for (semantics, expected) in
        [(Semantics::RfcV3, Err(AccessError::OutOfMemory)), (Semantics::Vrange, Ok(()))]
    {
        let (mut machine, process) =
            machine(Setup { frames: 64, swap_slots: 0, ..Setup::new(semantics) }, 64);
        mark(&mut machine, process, AT, 64).unwrap();
        machine.map(process, AT + 100, 48, Kind::Anonymous).unwrap();
        let answer = (0..48).try_for_each(|page| machine.write(process, AT + 100 + page, 1));
        assert_eq!(answer, expected, "{semantics:?}");
    }
}
