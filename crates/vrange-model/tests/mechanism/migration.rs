//! Migration moves pages and discards none.

use super::*;

/// "TTU_IGNORE_VOLATILE ... ignore volatile", which `__unmap_and_move` passes. Without it a marked page that is in the swap
/// cache is thrown out by moving it.
#[test]
fn migration_ignores_volatile() {
    for (migration_ignores_volatile, expected) in [(true, 1), (false, 0)] {
        let (mut machine, process) =
            rfc_with(Setup { migration_ignores_volatile, ..Setup::new(Semantics::RfcV3) }, 1);
        machine.reclaim(EVERYTHING);
        machine.read(process, AT).unwrap();
        mark(&mut machine, process, AT, 1).unwrap();
        assert!(machine.migrate(process, AT));
        machine.validate();
        assert_eq!(machine.read(process, AT), Ok(expected));
        assert_eq!(machine.counters().pgvolatile, 0, "migration is no reclaim");
    }
}

#[test]
fn a_page_keeps_its_contents_and_its_mark_in_another_frame() {
    let (mut machine, parent) = rfc(2);
    let child = machine.fork(parent);
    mark(&mut machine, parent, AT, 2).unwrap();
    assert!(machine.migrate(parent, AT));
    machine.validate();
    assert_eq!(contents(&mut machine, parent, AT, 2), [1, 2]);
    assert_eq!(contents(&mut machine, child, AT, 2), [1, 2]);
    mark(&mut machine, child, AT, 2).unwrap();
    machine.reclaim(EVERYTHING);
    assert_eq!(machine.counters().pgvolatile, 2);
}

#[test]
fn what_is_in_no_frame_does_not_move() {
    let (mut machine, process) = rfc(1);
    machine.reclaim(EVERYTHING);
    assert!(!machine.migrate(process, AT));
    assert_eq!(machine.read(process, AT), Ok(1));
}
