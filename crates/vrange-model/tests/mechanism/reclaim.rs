//! Reclaim: aging, discarding, counting.

use vrange_model::{List, PageState};

use super::*;

fn list(machine: &Machine, process: ProcessId, page: u64) -> Option<List> {
    match machine.page_state(process, page) {
        PageState::Resident { list, .. } => Some(list),
        PageState::Absent | PageState::Zero | PageState::Swapped { .. } => None,
    }
}

/// "discard volatile pages without promotion in reclaim path": `if (vm_flags & VM_VOLATILE) return PAGEREF_RECLAIM;`
#[test]
fn a_page_touched_on_the_inactive_list_is_promoted_unless_it_is_volatile() {
    for (volatile, active, discarded) in [(true, 0, 1), (false, 1, 0)] {
        let (mut machine, process) = rfc(4);
        if volatile {
            mark(&mut machine, process, AT, 1).unwrap();
        }
        machine.age(4);
        assert_eq!(list(&machine, process, AT), Some(List::InactiveAnon));
        machine.read(process, AT).unwrap();
        machine.reclaim(1);
        let counters = machine.counters();
        assert_eq!((counters.pgactivate, counters.pgvolatile), (active, discarded));
    }
}

/// "So I want to apply same aging rule of nomal pages to them." A volatile page that is used later than others goes later.
#[test]
fn volatile_pages_age_like_others() {
    let (mut machine, process) = rfc(4);
    mark(&mut machine, process, AT, 4).unwrap();
    machine.age(1);
    assert_eq!(list(&machine, process, AT), Some(List::InactiveAnon), "the first that was touched");
    assert_eq!(list(&machine, process, AT + 1), Some(List::ActiveAnon));
    machine.reclaim(1);
    assert_eq!(contents(&mut machine, process, AT + 1, 3), [2, 3, 4], "a mark alone does not send them away");
    assert_eq!(machine.read(process, AT), Ok(0));
}

/// "I don't want to discard volatile pages by top priority when memory pressure happens": an older page that is not volatile
/// goes before a younger one that is.
#[test]
fn volatile_pages_are_not_discarded_first() {
    let (mut machine, process) = rfc(4);
    mark(&mut machine, process, AT + 2, 2).unwrap();
    machine.age(2);
    assert_eq!(machine.reclaim(2), 2);
    let counters = machine.counters();
    assert_eq!((counters.pswpout, counters.pgvolatile), (2, 0));
    assert_eq!(contents(&mut machine, process, AT, 4), [1, 2, 3, 4]);
}

/// "For it, we have to age anon lru list although we don't have swap", and "This patch doesn't include background aging in
/// case of non-swap system but it's trivial if we decide".
#[test]
fn lists_are_aged_without_swap_only_as_promised() {
    for (swapless, inactive) in [(Swapless::AsWritten, 0), (Swapless::AsPromised, 2)] {
        let (mut machine, process) = rfc_with(without_swap(swapless), 4);
        mark(&mut machine, process, AT, 4).unwrap();
        machine.age(4);
        assert_eq!(machine.list_length(List::InactiveAnon), inactive);
    }
}

/// "By discarding instead of swap, it could be used in the non-swap system."
#[test]
fn volatile_pages_go_without_swap_only_as_promised() {
    for (swapless, discarded) in [(Swapless::AsWritten, 0), (Swapless::AsPromised, 4)] {
        let (mut machine, process) = rfc_with(without_swap(swapless), 8);
        mark(&mut machine, process, AT, 4).unwrap();
        assert_eq!(machine.reclaim(EVERYTHING), discarded);
        machine.validate();
        assert_eq!(machine.counters().pgvolatile, discarded);
        assert_eq!(contents(&mut machine, process, AT + 4, 4), [5, 6, 7, 8], "others stay");
    }
}

/// "embedded which doesn't have swap device so they can't reclaim anonymous pages": a machine full of volatile memory can
/// give a process what it needs, if its lists are aged, and kills it otherwise.
#[test]
fn a_full_machine_without_swap_allocates_from_volatile_memory_only_as_promised() {
    use vrange_model::AccessError;
    for (swapless, expected) in
        [(Swapless::AsWritten, Err(AccessError::OutOfMemory)), (Swapless::AsPromised, Ok(()))]
    {
        let setup = Setup { frames: 64, ..without_swap(swapless) };
        let (mut machine, process) = rfc_with(setup, 64);
        mark(&mut machine, process, AT, 64).unwrap();
        machine.map(process, AT + 100, 1, Kind::Anonymous).unwrap();
        assert_eq!(machine.write(process, AT + 100, 1), expected);
    }
}

/// "add vmstat about the number of discarded volatile pages"
#[test]
fn discarded_volatile_pages_are_counted_and_no_others() {
    let (mut machine, process) = rfc(8);
    mark(&mut machine, process, AT, 3).unwrap();
    machine.reclaim(EVERYTHING);
    assert_eq!(machine.counters().pgvolatile, 3);
    machine.madvise(process, (AT + 3) * PAGE_SIZE, PAGE_SIZE, Advice::DontNeed).unwrap();
    machine.unmap(process, AT + 4, 1).unwrap();
    assert_eq!(machine.counters().pgvolatile, 3, "what a program gives up itself is not counted");
}

/// "if memory pressure isn't severe, user can see old data without (page fault + page allocation + memset)"
#[test]
fn as_much_is_discarded_as_is_wanted() {
    let (mut machine, process) = rfc(64);
    mark(&mut machine, process, AT, 64).unwrap();
    assert_eq!(machine.reclaim(10), 10);
    let kept = (AT..AT + 64).filter(|page| machine.page_state(process, *page) != PageState::Absent);
    assert_eq!(kept.count(), 54);
}

/// Locked pages are taken off the lists and stay.
#[test]
fn locked_pages_are_culled() {
    let (mut machine, process) = rfc(4);
    machine.mlock(process, AT, 2).unwrap();
    assert_eq!(machine.list_length(List::Unevictable), 2);
    machine.reclaim(EVERYTHING);
    let before = machine.counters();
    assert_eq!(contents(&mut machine, process, AT, 4), [1, 2, 3, 4]);
    assert_eq!(machine.counters().since(&before).pgmajfault, 2, "the other two were swapped");
    machine.munlock(process, AT, 2).unwrap();
    assert_eq!(machine.list_length(List::Unevictable), 0);
    machine.validate();
}
