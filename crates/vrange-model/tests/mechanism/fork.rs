//! `fork`, and the rule that asks all VMAs.

use vrange_model::PageState;

use super::*;

/// "A volatile page will only be purged if ALL vmas pointing to it are VM_VOLATILE."
#[test]
fn a_shared_page_is_discarded_only_if_all_have_marked_it() {
    for (parent_marks, child_marks, discarded) in
        [(false, false, 0), (true, false, 0), (false, true, 0), (true, true, 4)]
    {
        let (mut machine, parent) = rfc(4);
        let child = machine.fork(parent);
        for (marks, process) in [(parent_marks, parent), (child_marks, child)] {
            if marks {
                mark(&mut machine, process, AT, 4).unwrap();
            }
        }
        machine.reclaim(EVERYTHING);
        machine.validate();
        assert_eq!(machine.counters().pgvolatile, discarded, "{parent_marks} {child_marks}");
        let expected = if discarded > 0 { [0; 4] } else { [1, 2, 3, 4] };
        assert_eq!(contents(&mut machine, parent, AT, 4), expected);
        assert_eq!(contents(&mut machine, child, AT, 4), expected);
    }
}

/// A child's VMAs are copies of its parent's, flags included.
#[test]
fn a_child_inherits_the_mark() {
    let (mut machine, parent) = rfc(4);
    mark(&mut machine, parent, AT + 1, 2).unwrap();
    let child = machine.fork(parent);
    assert_eq!(layout(&machine, child), layout(&machine, parent));
    machine.reclaim(EVERYTHING);
    assert_eq!(machine.counters().pgvolatile, 2);
    assert_eq!(contents(&mut machine, child, AT, 4), [1, 0, 0, 4]);
    assert_eq!(contents(&mut machine, parent, AT, 4), [1, 0, 0, 4]);
    machine.validate();
}

#[test]
fn pages_are_copied_when_they_are_written() {
    let (mut machine, parent) = rfc(2);
    let child = machine.fork(parent);
    machine.write(child, AT, 7).unwrap();
    machine.write(parent, AT + 1, 8).unwrap();
    assert_eq!(contents(&mut machine, parent, AT, 2), [1, 8]);
    assert_eq!(contents(&mut machine, child, AT, 2), [7, 2]);
    assert_eq!(machine.free_frames(), 1024 - 4);
    machine.exit(child);
    assert_eq!(machine.free_frames(), 1024 - 2);
    machine.validate();
}

/// `if (!(vma->vm_flags & VM_VOLATILE)) is_volatile = false;` comes before it is known whether the VMA maps the page: a
/// parent that has copied its page keeps its child's from being discarded.
#[test]
fn a_vma_that_does_not_map_the_page_any_more_is_asked_too() {
    for (parent_marks, discarded) in [(false, 0), (true, 2)] {
        let (mut machine, parent) = rfc(1);
        let child = machine.fork(parent);
        machine.write(parent, AT, 9).unwrap();
        mark(&mut machine, child, AT, 1).unwrap();
        if parent_marks {
            mark(&mut machine, parent, AT, 1).unwrap();
        }
        machine.reclaim(EVERYTHING);
        assert_eq!(machine.counters().pgvolatile, discarded);
        machine.validate();
    }
}

/// `if (vm_flags & VM_VOLATILE) return PAGEREF_RECLAIM;` where `vm_flags` collects those of all VMAs through which the page
/// was touched: one volatile mapping takes the promotion from a page that another still wants.
#[test]
fn one_volatile_mapping_takes_the_promotion_from_all() {
    for (child_marks, state_is_swapped) in [(true, true), (false, false)] {
        let (mut machine, parent) = rfc(2);
        let child = machine.fork(parent);
        if child_marks {
            mark(&mut machine, child, AT, 2).unwrap();
        }
        machine.age(2);
        machine.read(parent, AT).unwrap();
        machine.read(child, AT).unwrap();
        machine.reclaim(1);
        let state = machine.page_state(parent, AT);
        assert_eq!(matches!(state, PageState::Swapped { .. }), state_is_swapped, "{state:?}");
        assert_eq!(machine.counters().pgvolatile, 0);
    }
}

/// A migration of VMAs' pages, an exit, a fork of a fork: nobody's pages are mixed up.
#[test]
fn generations_keep_their_own_pages() {
    let (mut machine, first) = rfc(2);
    let second = machine.fork(first);
    machine.write(second, AT, 20).unwrap();
    let third = machine.fork(second);
    machine.write(third, AT + 1, 31).unwrap();
    machine.reclaim(EVERYTHING);
    machine.validate();
    machine.exit(second);
    assert_eq!(contents(&mut machine, first, AT, 2), [1, 2]);
    assert_eq!(contents(&mut machine, third, AT, 2), [20, 31]);
    machine.validate();
}
