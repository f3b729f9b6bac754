//! The system call's manners: `SYSCALL_DEFINE3(madvise, ...)` and `madvise_behavior` with the patch's changes.

use super::*;

fn advise(machine: &mut Machine, process: ProcessId, start: u64, length: u64) -> Result<bool, Errno> {
    machine.madvise(process, start, length, Advice::Volatile)
}

/// `len = len_in & PAGE_MASK;` where all other advice has `(len_in + ~PAGE_MASK) & PAGE_MASK`.
#[test]
fn the_length_is_rounded_down() {
    let (mut machine, process) = rfc(4);
    advise(&mut machine, process, AT * PAGE_SIZE, 2 * PAGE_SIZE + PAGE_SIZE - 1).unwrap();
    assert_eq!(layout(&machine, process), [(0, 2, true), (2, 4, false)]);
    machine.madvise(process, AT * PAGE_SIZE, 2 * PAGE_SIZE + 1, Advice::DontNeed).unwrap();
    assert_eq!(contents(&mut machine, process, AT, 4), [0, 0, 0, 4], "other advice is rounded up");
}

/// "Check to see whether len was rounded up from small -ve to zero": a length that rounds down to zero without being zero
/// falls into the same check.
#[test]
fn no_length_is_nothing_and_less_than_a_page_is_an_error() {
    let (mut machine, process) = rfc(1);
    assert_eq!(advise(&mut machine, process, AT * PAGE_SIZE, 0), Ok(false));
    for length in [1, 100, PAGE_SIZE - 1] {
        assert_eq!(advise(&mut machine, process, AT * PAGE_SIZE, length), Err(Errno::EINVAL));
    }
    assert_eq!(layout(&machine, process), [(0, 1, false)]);
    assert_eq!(advise(&mut machine, process, AT * PAGE_SIZE, PAGE_SIZE), Ok(false));
    assert_eq!(layout(&machine, process), [(0, 1, true)]);
}

#[test]
fn an_address_that_is_not_aligned_and_a_range_that_wraps_are_errors() {
    let (mut machine, process) = rfc(2);
    assert_eq!(advise(&mut machine, process, AT * PAGE_SIZE + 1, PAGE_SIZE), Err(Errno::EINVAL));
    assert_eq!(advise(&mut machine, process, u64::MAX - PAGE_SIZE + 1, 2 * PAGE_SIZE), Err(Errno::EINVAL));
    let rounds_to_nothing = machine.madvise(process, AT * PAGE_SIZE, u64::MAX, Advice::DontNeed);
    assert_eq!(rounds_to_nothing, Err(Errno::EINVAL));
    assert_eq!(layout(&machine, process), [(0, 2, false)]);
}

/// A hole ends in `ENOMEM`, after the mapped parts were marked.
#[test]
fn the_mapped_parts_of_a_range_with_a_hole_are_marked() {
    let (mut machine, process) = rfc(6);
    machine.unmap(process, AT + 2, 2).unwrap();
    assert_eq!(mark(&mut machine, process, AT, 6), Err(Errno::ENOMEM));
    assert_eq!(layout(&machine, process), [(0, 2, true), (4, 6, true)]);
    let (mut machine, process) = rfc(2);
    assert_eq!(mark(&mut machine, process, AT, 3), Err(Errno::ENOMEM), "a hole at the end");
    assert_eq!(layout(&machine, process), [(0, 2, true)]);
    assert_eq!(mark(&mut machine, process, AT - 8, 4), Err(Errno::ENOMEM), "nothing but a hole");
}

/// `if (vma->vm_flags & VM_LOCKED) { error = -EINVAL; goto out; }`
#[test]
fn locked_memory_is_not_marked() {
    let (mut machine, process) = rfc(6);
    machine.mlock(process, AT + 2, 2).unwrap();
    assert_eq!(mark(&mut machine, process, AT, 6), Err(Errno::EINVAL));
    assert_eq!(
        layout(&machine, process),
        [(0, 2, true), (2, 4, false), (4, 6, false)],
        "what comes before is marked, what comes behind is not"
    );
    machine.munlock(process, AT + 2, 2).unwrap();
    assert_eq!(mark(&mut machine, process, AT, 6), Ok(()), "once unlocked it is");
    machine.validate();
}

/// "Special vmas that are non-mergable, non-mlock()able.": `mlock` of marked memory locks nothing and says nothing.
#[test]
fn mlock_skips_marked_memory_silently() {
    for (volatile_is_special, locked, kept) in [(true, false, 0), (false, true, 1)] {
        let (mut machine, process) =
            rfc_with(Setup { volatile_is_special, ..Setup::new(Semantics::RfcV3) }, 2);
        mark(&mut machine, process, AT, 2).unwrap();
        assert_eq!(machine.mlock(process, AT, 2), Ok(()));
        assert_eq!(machine.vmas(process)[0].flags.locked, locked);
        machine.reclaim(EVERYTHING);
        machine.validate();
        assert_eq!(machine.read(process, AT), Ok(kept), "the program believes that it cannot lose this");
    }
}

/// "Removing madvise(addr, length, MADV_NOVOLATILE)."
#[test]
fn there_is_no_novolatile() {
    let (mut machine, process) = rfc(2);
    mark(&mut machine, process, AT, 2).unwrap();
    let answer = machine.madvise(process, AT * PAGE_SIZE, 2 * PAGE_SIZE, Advice::NoVolatile);
    assert_eq!(answer, Err(Errno::EINVAL));
    assert_eq!(layout(&machine, process), [(0, 2, true)]);
    let (mut machine, process) = rfc_with(Setup::new(Semantics::V4), 2);
    mark(&mut machine, process, AT, 2).unwrap();
    machine.madvise(process, AT * PAGE_SIZE, 2 * PAGE_SIZE, Advice::NoVolatile).unwrap();
    assert_eq!(layout(&machine, process), [(0, 2, false)], "the version after it has it again");
}
