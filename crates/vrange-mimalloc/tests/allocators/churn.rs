//! Blocks of all sizes, in all ways, under pressure.

use std::process::Command;

use vrange_testing::{alone, scale};

use crate::support::{Allocator, Preload, Squeezed, compiled, inside, preload, run};

const SMALL: &str = "16";
const MEDIUM: &str = "65536";
const LARGE: &str = "524288";
const LARGEST: &str = "16777216";

/// The program with blocks of these sizes, and a seed of its own, which is told with a failure.
fn churn(allocator: Allocator, seconds: u64, bytes_min: &str, bytes_max: &str) -> Command {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970");
    let (seconds, seed) = (seconds.to_string(), since.subsec_nanos().to_string());
    allocator.run("churn", &[&seconds, "80", bytes_min, bytes_max, &seed])
}

/// Another process takes pages away all the time. (The group has room for what mimalloc has committed, which is three times what the
/// program has.)
#[test]
fn c05_no_block_is_corrupted_while_pages_are_lost() {
    let _alone = alone();
    for allocator in Allocator::each() {
        let Some(squeezed) = Squeezed::new("allocators-churn", 400, 64) else { return };
        let group = &squeezed.group;
        let mut command = churn(allocator, scale().pick(3, 120), SMALL, LARGEST);
        command.env("VRANGE_DECAY", "3600");
        let ran = run(inside(group, &command)).said("all data stays");
        assert_eq!(group.oom_kills(), 0, "{ran}");
        assert!(ran.mib("marked") > 0.0 && ran.mib("taken back") > 0.0, "{ran}");
        assert!(ran.mib("lost to the kernel") > 0.0, "{ran}");
    }
}

/// What the program needs, and the neighbour at times: 180 MiB at the most, with mimalloc giving back at once
/// (`MIMALLOC_PURGE_DELAY=0`), and 52 MiB. A fifth of that is added.
const DEMAND_MIB: u64 = 180 + 52;
const GROUP_MIB: u64 = DEMAND_MIB + DEMAND_MIB / 5;

/// All the time a neighbour takes memory and page cache, and gives it back.
#[test]
fn c13_a_program_that_allocates_and_frees_all_the_time_lives_beside_others() {
    let _alone = alone();
    let Some(squeezed) = Squeezed::new("allocators-beside", GROUP_MIB, 52) else { return };
    let command = churn(Allocator::Mimalloc, scale().pick(5, 120), SMALL, LARGEST);
    let ran = run(inside(&squeezed.group, &command)).said("all data stays").marked();
    assert_eq!(squeezed.group.oom_kills(), 0, "{ran}");
}

#[test]
fn control_c13_a_program_that_never_gives_back_is_killed_beside_others() {
    let _alone = alone();
    let Some(squeezed) = Squeezed::new("allocators-beside", GROUP_MIB, 52) else { return };
    let command = Allocator::Mimalloc.run_and_keep("churn", &["20", "80", SMALL, LARGEST, "1"]);
    let ran = run(inside(&squeezed.group, &command));
    assert!(ran.was_killed() && squeezed.group.oom_kills() > 0, "{ran}");
}

#[test]
fn c05_no_block_is_corrupted_while_free_memory_is_released() {
    for allocator in Allocator::each() {
        let mut command = churn(allocator, scale().pick(1, 60), SMALL, LARGEST);
        command.env("VRANGE_DECAY", "0.05").env("VRANGE_LIMIT", (64 << 20).to_string());
        let ran = run(command).said("all data stays");
        assert!(ran.mib("released after the decay") > 0.0, "{ran}");
    }
}

/// `vrange run --paired`: the library watches mappings, and the allocator's own are among them.
#[test]
fn c05_no_block_is_corrupted_beside_the_paired_mode() {
    for allocator in Allocator::each() {
        let mut command = churn(allocator, scale().pick(1, 60), SMALL, LARGEST);
        command.env("VRANGE_DECAY", "0.1").env("VRANGE_MODE", "paired");
        run(command).said("all data stays").marked();
    }
}

#[test]
fn control_data_is_lost_without_the_unmark() {
    let allocator = Allocator::Tcmalloc;
    if !allocator.is_here() {
        return;
    }
    // Of large blocks, so that what is lost is the program's and not tcmalloc's own.
    let mut command = churn(allocator, 20, LARGE, LARGEST);
    preload(&mut command, Preload::First, &compiled("no_unmark.so"));
    command.env("VRANGE_DECAY", "0.2");
    let ran = run(command);
    assert!(!ran.status.success() && ran.said.contains("corrupt: "), "{ran}");
}

#[test]
fn c05_small_blocks_beside_free_memory_stay() {
    let _alone = alone();
    for allocator in Allocator::each() {
        let Some(squeezed) = Squeezed::new("allocators-small", 160, 24) else { return };
        let mut command = allocator.run("small", &[scale().pick("2", "100")]);
        command.env("VRANGE_DECAY", "0.1");
        run(inside(&squeezed.group, &command)).said("all data stays").marked();
    }
}

/// With this option of its own, mimalloc would commit pages past the callback, and live blocks would lie on pages that are still
/// marked. The library takes no notice of it. (There is no control: by the time the program runs the option is off, and none of
/// mimalloc's own functions is exported by which a program could set it again.)
#[test]
fn c05_mimalloc_does_not_commit_on_demand() {
    let mut command = churn(Allocator::Mimalloc, scale().pick(2, 60), SMALL, MEDIUM);
    command.env("VRANGE_DECAY", "0.1").env("MIMALLOC_PAGE_COMMIT_ON_DEMAND", "1");
    run(command).said("all data stays").marked();
}
