//! The swap cache, into which every page goes before it is taken out of the page tables.

use vrange_model::PageState;

use super::*;

/// "wee need swap entry for unmapping to store it in PTEs since we can't expect it's volatile or not. In addition, we have
/// to put the page into swapcache before puting it to pte".
#[test]
fn a_discarded_page_has_been_in_the_swap_cache() {
    let (mut machine, process) = rfc(4);
    mark(&mut machine, process, AT, 4).unwrap();
    machine.reclaim(EVERYTHING);
    let counters = machine.counters();
    assert_eq!((counters.swap_cache_add, counters.swap_cache_del), (4, 4));
    assert_eq!(machine.used_swap_slots(), 0, "`swap_free(entry);` in `try_to_zap_one`");
    machine.validate();
}

/// "We're throwing this page out, so mark it clean": it is not written.
#[test]
fn a_discarded_page_is_not_written_to_swap() {
    for (volatile, written) in [(true, 0), (false, 4)] {
        let (mut machine, process) = rfc(4);
        if volatile {
            mark(&mut machine, process, AT, 4).unwrap();
        }
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.counters().pswpout, written);
        assert_eq!(machine.used_swap_slots() as u64, written);
    }
}

/// A discard needs a free slot for a moment, so on a full swap device nothing volatile can go.
#[test]
fn without_a_free_slot_nothing_is_discarded() {
    for (swap_slots, discarded) in [(4, 0), (5, 4)] {
        let setup = Setup { swap_slots, ..Setup::new(Semantics::RfcV3) };
        let (mut machine, process) = rfc_with(setup, 4);
        machine.reclaim(EVERYTHING);
        machine.map(process, AT + 100, 4, Kind::Anonymous).unwrap();
        fill(&mut machine, process, AT + 100, 4);
        mark(&mut machine, process, AT + 100, 4).unwrap();
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.counters().pgvolatile, discarded);
        machine.validate();
    }
}

/// A page that was read back from swap keeps its slot until it is written, and is then dirty.
#[test]
fn a_page_from_swap_is_in_the_swap_cache_until_it_is_written() {
    let (mut machine, process) = rfc(1);
    machine.reclaim(EVERYTHING);
    assert_eq!(machine.page_state(process, AT), PageState::Swapped { cached: false });
    assert_eq!(machine.read(process, AT), Ok(1));
    assert!(matches!(machine.page_state(process, AT), PageState::Resident { swap_cache: true, .. }));
    machine.write(process, AT, 2).unwrap();
    assert!(matches!(machine.page_state(process, AT), PageState::Resident { swap_cache: false, .. }));
    machine.validate();
    machine.reclaim(EVERYTHING);
    assert_eq!(machine.read(process, AT), Ok(2));
}

/// A page that was read back and not changed goes again without being written again.
#[test]
fn a_clean_page_is_not_written_twice() {
    let (mut machine, process) = rfc(1);
    for _ in 0..2 {
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.read(process, AT), Ok(1));
    }
    let counters = machine.counters();
    assert_eq!((counters.pswpout, counters.pswpin), (1, 2));
}

/// Slots are given back when their pages are unmapped.
#[test]
fn unmapping_gives_slots_back() {
    let (mut machine, process) = rfc(4);
    machine.reclaim(EVERYTHING);
    machine.read(process, AT).unwrap();
    assert_eq!(machine.used_swap_slots(), 4);
    machine.unmap(process, AT, 4).unwrap();
    assert_eq!((machine.used_swap_slots(), machine.free_frames()), (0, 1024));
    machine.validate();
}
