//! Today's kernel and the protocol on top of it: offers, rescues, reports. The other tests compare it with the patch.

use vrange_model::{
    Advice, Kind, List, Machine, OfferOrder, PAGE_SIZE, PageState, ProcessId, Semantics, Setup,
};

const AT: u64 = 0x1000;
const EVERYTHING: u64 = 1 << 20;

/// A machine with a process that has written the numbers from 1 on to some pages.
fn machine(swap_slots: u32, pages: u64) -> (Machine, ProcessId) {
    with(Setup { swap_slots, ..Setup::new(Semantics::Vrange) }, pages)
}

fn with(setup: Setup, pages: u64) -> (Machine, ProcessId) {
    let mut machine = Machine::new(setup);
    let process = machine.spawn();
    machine.map(process, AT, pages, Kind::Anonymous).unwrap();
    for page in 0..pages {
        machine.write(process, AT + page, page + 1).unwrap();
    }
    (machine, process)
}

fn mark(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) {
    machine.mark_paired(process, first * PAGE_SIZE, pages * PAGE_SIZE).unwrap();
}

fn free(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) {
    machine.madvise(process, first * PAGE_SIZE, pages * PAGE_SIZE, Advice::Free).unwrap();
}

fn unmark(machine: &mut Machine, process: ProcessId, first: u64, pages: u64) -> Vec<bool> {
    let unmarked = machine.unmark_paired(process, first * PAGE_SIZE, pages * PAGE_SIZE);
    assert_eq!(unmarked.result, Ok(()));
    unmarked.lost
}

#[test]
fn offers_are_taken_in_the_order_in_which_they_came() {
    let (mut machine, process) = machine(0, 4);
    for page in [2, 0, 3, 1] {
        free(&mut machine, process, AT + page, 1);
    }
    free(&mut machine, process, AT + 2, 1);
    assert_eq!(machine.reclaim(2), 2);
    let is_there = |page| machine.page_state(process, page) != PageState::Absent;
    assert_eq!(
        [AT, AT + 1, AT + 2, AT + 3].map(is_there),
        [false, true, false, true],
        "a second offer keeps the place"
    );
}

#[test]
fn reading_protects_an_offered_page_for_a_while_and_writing_rescues_it() {
    let (mut machine, process) = machine(0, 3);
    free(&mut machine, process, AT, 3);
    machine.read(process, AT).unwrap();
    machine.write(process, AT + 1, 9).unwrap();
    assert_eq!(machine.reclaim(1), 1);
    assert_eq!(machine.page_state(process, AT + 2), PageState::Absent, "the one that nobody touched");
    assert_eq!(machine.reclaim(EVERYTHING), 1);
    assert_eq!(machine.page_state(process, AT), PageState::Absent, "reading was for a while");
    assert_eq!(machine.read(process, AT + 1), Ok(9));
}

#[test]
fn a_rescued_page_is_dirty_and_cannot_be_taken() {
    let (mut machine, process) = machine(0, 2);
    machine.write(process, AT + 1, 0).unwrap();
    mark(&mut machine, process, AT, 2);
    // Two pages are wanted: that of another process, which was offered before, and the first of these.
    let other = machine.spawn();
    machine.map(other, AT, 1, Kind::Anonymous).unwrap();
    machine.write(other, AT, 1).unwrap();
    free(&mut machine, other, AT, 1);
    machine.reclaim(2);
    let taken = machine.counters().pglazyfreed;
    let lost = unmark(&mut machine, process, AT, 2);
    // Twice: the rescue has read the page, which spares it once.
    machine.reclaim(EVERYTHING);
    machine.reclaim(EVERYTHING);
    let kept = (AT..AT + 2).filter(|page| machine.page_state(process, *page) != PageState::Absent).count();
    assert_eq!((taken, kept), (2, 1), "the second was there and stays, though it is all zeros");
    assert_eq!(lost, [true, false], "only the first had contents to lose");
}

#[test]
fn nothing_is_offered_before_memory_is_short_and_only_as_much_as_is_wanted() {
    let (mut machine, process) = machine(0, 64);
    mark(&mut machine, process, AT, 64);
    assert_eq!(machine.list_length(List::LazyFree), 0);
    for page in 0..64 {
        unmark(&mut machine, process, AT + page, 1);
        mark(&mut machine, process, AT + page, 1);
    }
    assert_eq!(machine.reclaim(10), 10);
    assert_eq!(machine.counters().offered, 10);
}

#[test]
fn the_order_of_offers_can_be_chosen() {
    for (offer_order, lost) in
        [(OfferOrder::Oldest, [true, false, false]), (OfferOrder::Youngest, [false, false, true])]
    {
        let (mut machine, process) =
            with(Setup { swap_slots: 0, offer_order, ..Setup::new(Semantics::Vrange) }, 3);
        for page in AT..AT + 3 {
            mark(&mut machine, process, page, 1);
        }
        machine.reclaim(1);
        assert_eq!(unmark(&mut machine, process, AT, 3), lost);
    }
    let (mut machine, process) = with(
        Setup { swap_slots: 0, offer_order: OfferOrder::Random, seed: 3, ..Setup::new(Semantics::Vrange) },
        64,
    );
    (AT..AT + 64).for_each(|page| mark(&mut machine, process, page, 1));
    machine.reclaim(32);
    let lost = unmark(&mut machine, process, AT, 64);
    assert_eq!(lost.iter().filter(|lost| **lost).count(), 32);
    let older_half = lost[..32].iter().filter(|lost| **lost).count();
    assert!((4..=28).contains(&older_half), "{older_half} of 32 went from the older half");
}

#[test]
fn a_child_offers_what_its_parent_had_marked() {
    let (mut machine, parent) = machine(0, 4);
    mark(&mut machine, parent, AT, 4);
    let child = machine.fork(parent);
    machine.exit(parent);
    assert_eq!(machine.reclaim(EVERYTHING), 4);
    assert_eq!(unmark(&mut machine, child, AT, 4), [true; 4]);
}

#[test]
fn an_offer_of_a_page_on_swap_destroys_it_and_says_so() {
    let (mut machine, process) = machine(16, 2);
    machine.reclaim(EVERYTHING);
    mark(&mut machine, process, AT, 1);
    machine.reclaim(1);
    assert_eq!(unmark(&mut machine, process, AT, 2), [true, false]);
    assert_eq!((machine.read(process, AT), machine.read(process, AT + 1)), (Ok(0), Ok(2)));
}

/// A page that came back from a full swap device has no copy there any more: it is dirty, in a way that no page table shows.
#[test]
fn a_shared_page_from_a_full_swap_device_is_not_taken_from_who_did_not_offer_it() {
    for slots in [1, 4] {
        let (mut machine, parent) = machine(slots, 1);
        let child = machine.fork(parent);
        machine.reclaim(1);
        assert_eq!((machine.read(parent, AT), machine.read(child, AT)), (Ok(1), Ok(1)));
        let PageState::Resident { swap_cache, .. } = machine.page_state(child, AT) else {
            panic!("it was read")
        };
        assert_eq!(swap_cache, slots == 4, "the slot is given up where they are few");
        machine.validate();
        free(&mut machine, parent, AT, 1);
        machine.reclaim(EVERYTHING);
        machine.reclaim(EVERYTHING);
        machine.validate();
        assert_eq!(machine.read(child, AT), Ok(1));
    }
}

#[test]
fn unmapping_forgets_marks() {
    let (mut machine, process) = machine(0, 4);
    mark(&mut machine, process, AT, 4);
    machine.unmap(process, AT, 4).unwrap();
    machine.map(process, AT, 4, Kind::Anonymous).unwrap();
    machine.write(process, AT, 7).unwrap();
    assert_eq!(machine.reclaim(EVERYTHING), 0);
    assert_eq!(machine.read(process, AT), Ok(7));
}
