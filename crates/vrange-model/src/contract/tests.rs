use super::*;

const ALL: Pages = Pages { first: 0, count: 3 };

fn map(paired: bool) -> Op {
    Op::Map { process: 0, mapping: 0, pages: 3, paired }
}

fn write(page: u16, value: u64) -> Op {
    Op::Write { process: 0, mapping: 0, page, value }
}

fn mark(paired: bool) -> Op {
    Op::Mark { process: 0, mapping: 0, pages: ALL, paired }
}

fn unmark(paired: bool) -> Op {
    Op::Unmark { process: 0, mapping: 0, pages: ALL, paired }
}

const FORK: Op = Op::Fork { parent: 0, child: 1 };

fn after(ops: &[Op]) -> Contract {
    let mut contract = Contract::new(Rules::default());
    for op in ops {
        contract.apply(op).unwrap();
    }
    contract
}

/// What a read of page 0 by process 0 may show, of these values.
fn allowed(contract: &Contract, values: &[u64]) -> Vec<u64> {
    let allows = |value: &u64| contract.clone().allows_read(0, 0, 0, *value).is_ok();
    values.iter().copied().filter(allows).collect()
}

#[test]
fn a_page_reads_as_it_was_written() {
    assert_eq!(allowed(&after(&[map(false)]), &[0, 1, 2]), [0]);
    assert_eq!(allowed(&after(&[map(false), write(0, 1), write(0, 2)]), &[0, 1, 2]), [2]);
    let error = after(&[map(false), write(0, 1)]).allows_read(0, 0, 0, 0).unwrap_err();
    assert_eq!(error.kind, ViolationKind::Vanished { expected: 1 });
    let error = after(&[map(false), write(0, 1)]).allows_read(0, 0, 0, 7).unwrap_err();
    assert_eq!(error.kind, ViolationKind::WrongContents { expected: 1, found: 7 });
}

#[test]
fn a_marked_page_may_vanish_until_it_is_written() {
    let marked = after(&[map(false), write(0, 1), mark(false)]);
    assert_eq!(allowed(&marked, &[0, 1, 2]), [0, 1]);
    assert_eq!(allowed(&after(&[map(false), write(0, 1), mark(false), write(0, 2)]), &[0, 1, 2]), [2]);
    let zeros = after(&[map(false), write(0, 1), mark(false), write(0, 0)]);
    assert_eq!(allowed(&zeros, &[0, 1]), [0], "zeros are contents too");
}

#[test]
fn a_write_ends_the_mark_on_its_page_only() {
    let mut contract = after(&[map(false), write(0, 1), write(1, 2), mark(false), write(1, 3)]);
    assert_eq!(allowed(&contract, &[0, 1]), [0, 1]);
    contract.allows_read(0, 0, 1, 3).unwrap();
    contract.allows_read(0, 0, 1, 0).unwrap_err();
}

#[test]
fn what_was_seen_lost_stays_lost_and_what_was_seen_kept_may_still_go() {
    let mut contract = after(&[map(false), write(0, 1), mark(false)]);
    contract.allows_read(0, 0, 0, 1).unwrap();
    assert_eq!(allowed(&contract, &[0, 1]), [0, 1]);
    contract.allows_read(0, 0, 0, 0).unwrap();
    assert_eq!(allowed(&contract, &[0, 1]), [0]);
}

#[test]
fn after_the_end_of_a_mark_the_first_look_decides() {
    let contract = after(&[map(false), write(0, 1), mark(false), unmark(false)]);
    assert_eq!(allowed(&contract, &[0, 1, 2]), [0, 1]);
    for seen in [0, 1] {
        let mut contract = contract.clone();
        contract.allows_read(0, 0, 0, seen).unwrap();
        assert_eq!(allowed(&contract, &[0, 1]), [seen]);
    }
}

#[test]
fn parent_and_child_see_the_same_decision() {
    for seen in [0, 1] {
        let mut contract = after(&[map(false), write(0, 1), mark(false), unmark(false), FORK]);
        contract.allows_read(1, 0, 0, seen).unwrap();
        assert_eq!(allowed(&contract, &[0, 1]), [seen], "the mark had ended before the fork");
    }
    let mut contract = after(&[map(false), write(0, 1), mark(false), FORK, unmark(false)]);
    contract.allows_read(1, 0, 0, 0).unwrap();
    assert_eq!(allowed(&contract, &[0, 1]), [0, 1], "each has its own mark");
}

#[test]
fn what_a_process_does_changes_nothing_in_its_relatives() {
    let mark_in_child = Op::Mark { process: 1, mapping: 0, pages: ALL, paired: false };
    let write_in_child = Op::Write { process: 1, mapping: 0, page: 0, value: 9 };
    assert_eq!(allowed(&after(&[map(false), write(0, 1), FORK, mark_in_child]), &[0, 1]), [1]);
    assert_eq!(allowed(&after(&[map(false), write(0, 1), FORK, write_in_child]), &[0, 1, 9]), [1]);
}

#[test]
fn a_page_that_is_marked_again_before_anybody_looked_may_have_been_lost_either_time() {
    let again = [map(false), write(0, 1), mark(false), unmark(false), mark(false), unmark(false)];
    assert_eq!(allowed(&after(&again), &[0, 1]), [0, 1]);
    let mut contract = after(&again);
    contract.saw_purged(0, 0, ALL, false);
    assert_eq!(allowed(&contract, &[0, 1]), [0, 1], "not the second time, but perhaps the first");
    let mut contract = after(&[map(false), write(0, 1), mark(false), unmark(false)]);
    contract.saw_purged(0, 0, ALL, false);
    assert_eq!(allowed(&contract, &[0, 1]), [1]);
    let mut contract = after(&[map(false), write(0, 1), mark(false), unmark(false)]);
    contract.saw_purged(0, 0, ALL, true);
    assert_eq!(allowed(&contract, &[0, 1]), [0, 1]);
}

#[test]
fn what_a_relative_saw_lost_is_lost_under_a_new_mark_too() {
    let mut contract = after(&[map(false), write(0, 1), mark(false), unmark(false), FORK, mark(false)]);
    contract.allows_read(1, 0, 0, 0).unwrap();
    assert_eq!(allowed(&contract, &[0, 1]), [0]);
    let mut contract = after(&[map(false), write(0, 1), mark(false), unmark(false), FORK, mark(false)]);
    contract.allows_read(0, 0, 0, 1).unwrap();
    contract.allows_read(1, 0, 0, 0).unwrap_err();
}

#[test]
fn a_report_is_exact() {
    let unmarked = after(&[map(true), write(0, 1), write(1, 0), mark(true), unmark(true)]);
    for lost in [false, true] {
        let mut contract = unmarked.clone();
        contract.allows_unmark(0, 0, ALL, &[lost, false, false]).unwrap();
        assert_eq!(allowed(&contract, &[0, 1]), [u64::from(!lost)]);
    }
    for (page, report) in [(1, [false, true, false]), (2, [false, false, true])] {
        let error = unmarked.clone().allows_unmark(0, 0, ALL, &report).unwrap_err();
        assert_eq!((error.page, error.kind), (page, ViolationKind::FalselyReportedLost));
    }
    let error = unmarked.clone().allows_unmark(0, 0, ALL, &[false]).unwrap_err();
    assert_eq!(error.kind, ViolationKind::ReportLength { pages: 3, answers: 1 });
}

#[test]
fn a_page_that_was_not_marked_is_not_reported_lost() {
    let error =
        after(&[map(true), write(0, 1), unmark(true)]).allows_unmark(0, 0, ALL, &[true, false, false]);
    assert_eq!(error.unwrap_err().kind, ViolationKind::FalselyReportedLost);
}

#[test]
fn a_page_that_was_seen_lost_is_not_reported_kept() {
    let mut contract = after(&[map(true), write(0, 1), mark(true), unmark(true), FORK]);
    contract.allows_read(1, 0, 0, 0).unwrap();
    let error = contract.allows_unmark(0, 0, ALL, &[false; 3]).unwrap_err();
    assert_eq!(error.kind, ViolationKind::FalselyReportedKept);
}

#[test]
fn written_zeros_may_be_reported_lost_where_pages_are_swapped() {
    let ops = [map(true), write(1, 0), mark(true), unmark(true)];
    let report = [false, true, false];
    after(&ops).allows_unmark(0, 0, ALL, &report).unwrap_err();
    let mut contract = Contract::new(Rules { swap: true });
    ops.iter().for_each(|op| contract.apply(op).unwrap());
    contract.clone().allows_unmark(0, 0, ALL, &report).unwrap();
    contract.allows_unmark(0, 0, ALL, &[false, false, true]).unwrap_err();
}

#[test]
fn an_answer_tells_of_holes() {
    let hole = Op::Unmap { process: 0, mapping: 0, pages: Pages { first: 1, count: 1 } };
    let contract = after(&[map(false), hole, mark(false)]);
    contract.allows_answer(0, 0, ALL, Err(Errno::ENOMEM)).unwrap();
    contract.allows_answer(0, 0, ALL, Ok(())).unwrap_err();
    contract.allows_answer(0, 0, Pages { first: 2, count: 1 }, Ok(())).unwrap();
    contract.allows_answer(0, 0, Pages { first: 2, count: 1 }, Err(Errno::EINVAL)).unwrap_err();
}

#[test]
fn what_is_outside_the_contract_is_refused() {
    let mut contract = after(&[map(true), write(0, 1), mark(true)]);
    let read = Op::Read { process: 0, mapping: 0, page: 0 };
    for op in [read, write(0, 2), write(3, 1), Op::Fork { parent: 7, child: 8 }] {
        assert_eq!(contract.apply(&op), Err(Misuse(op)));
    }
    contract.apply(&unmark(true)).unwrap();
    contract.apply(&read).unwrap();
}

#[test]
fn what_was_seen_kept_in_the_end_was_kept_all_the_time() {
    let twice = [map(false), write(0, 1), mark(false), unmark(false), FORK, mark(false), unmark(false)];
    let mut contract = after(&twice);
    contract.allows_read(0, 0, 0, 1).unwrap();
    contract.clone().allows_read(1, 0, 0, 1).unwrap();
    contract.allows_read(1, 0, 0, 0).unwrap_err();
    let mut contract = after(&twice);
    contract.allows_read(0, 0, 0, 0).unwrap();
    contract.clone().allows_read(1, 0, 0, 1).unwrap();
    contract.allows_read(1, 0, 0, 0).unwrap();
}

#[test]
fn a_loss_that_was_reported_is_not_reported_again() {
    let mut contract = Contract::new(Rules { swap: true });
    let both = [mark(true), unmark(true)];
    [map(true), write(0, 1)].iter().chain(&both).for_each(|op| contract.apply(op).unwrap());
    contract.allows_unmark(0, 0, ALL, &[true, false, false]).unwrap();
    both.iter().for_each(|op| contract.apply(op).unwrap());
    contract.clone().allows_unmark(0, 0, ALL, &[false; 3]).unwrap();
    contract.allows_unmark(0, 0, ALL, &[true, false, false]).unwrap_err();
}
