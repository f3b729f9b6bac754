//! What programs have the kernel do to memory that an allocator gave them.

use std::process::Command;
use std::time::Duration;

use tempfile::tempdir;
use vrange_testing::{Ksm, alone, drain_processors, scale};

use crate::support::{
    Allocator, Preload, Ran, Squeezed, Squeezer, compiled, group, inside, preload, run, start,
};

/// `MADV_DONTNEED`, also on memory that was marked a moment ago, and may be lost.
#[test]
fn c05_a_program_drops_its_own_pages_and_finds_zeros() {
    let _alone = alone();
    for allocator in Allocator::each() {
        let Some(squeezed) = Squeezed::new("allocators-reuse", 96, 16) else { return };
        let mut command = allocator.run("reuse", &[scale().pick("6", "60")]);
        command.env("VRANGE_DECAY", "3600");
        let ran = run(inside(&squeezed.group, &command)).said("all data stays").marked();
        assert_eq!(squeezed.group.oom_kills(), 0, "{ran}");
    }
}

/// KSM merges live pages with pages that were freed after they had been merged.
#[test]
fn c10_memory_that_the_program_opens_to_ksm() {
    const MIB: u64 = 64;
    let Some(_ksm) = Ksm::run() else { return };
    for allocator in Allocator::each() {
        let Some(group) = group("allocators-merged", MIB) else { return };
        let mut command = allocator.run("merged", &[]);
        command.env("VRANGE_DECAY", "3600");
        let mut program = start(inside(&group, &command));
        if program.hear().as_deref() == Some("merged") {
            // The machine's processors have lists of pages that are yet to become offers.
            drain_processors();
            let Some(squeezer) = Squeezer::start(&group, MIB, 16) else { return };
            std::thread::sleep(Duration::from_millis(1000));
            drop(squeezer);
        }
        program.say("go on");
        let ran = program.finish();
        if ran.is_skipped() {
            return;
        }
        ran.said("all data stays").marked();
    }
}

#[test]
fn memory_that_is_freed_while_it_is_locked() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("locked", &[]);
        command.env("VRANGE_DECAY", "0.3");
        let ran = run(command);
        if ran.is_skipped() {
            return;
        }
        let ran = ran.said("given back").marked();
        assert!(ran.mib("released after the decay") > 0.0, "{ran}");
    }
}

/// The program with a file of its own. `None`: it cannot run here.
fn ring(mut command: Command) -> Option<Ran> {
    let folder = tempdir().expect("a folder");
    command.arg(folder.path().join("file")).env("VRANGE_DECAY", "3600");
    let ran = run(command);
    (!ran.is_skipped()).then_some(ran)
}

/// The device's write to a registered buffer leaves the page table as it was: clean, if nobody has seen to it.
#[test]
fn c05_a_device_writes_to_memory_that_was_free_a_moment_ago() {
    for allocator in Allocator::each() {
        let Some(ran) = ring(allocator.run("ring", &[])) else { return };
        let ran = ran.said("all data stays").marked();
        assert!(ran.mib("offered to the kernel") > 0.0, "{ran}");
    }
}

#[test]
fn control_c05_what_a_device_writes_is_lost_without_the_unmark() {
    let allocator = Allocator::Tcmalloc;
    if !allocator.is_here() {
        return;
    }
    let mut command = allocator.run("ring", &[]);
    preload(&mut command, Preload::First, &compiled("no_unmark.so"));
    let Some(ran) = ring(command) else { return };
    assert!(!ran.status.success() && ran.said.contains("corrupt: "), "{ran}");
}
