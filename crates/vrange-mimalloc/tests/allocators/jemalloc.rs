//! jemalloc's settings and arenas.

use vrange_testing::scale;

use crate::support::{Allocator, configure_jemalloc, run};

/// What users set themselves. `vrange run` puts it behind its own.
const SETTINGS: [&str; 7] = [
    "narenas:2,dirty_decay_ms:1000",
    "tcache:false",
    // Unused memory is purged lazily for a second, and nobody is told when it is used again.
    "muzzy_decay_ms:1000",
    "dirty_decay_ms:100,muzzy_decay_ms:100,background_thread:true",
    "retain:false,percpu_arena:percpu",
    "thp:always,metadata_thp:always,zero:true",
    "oversize_threshold:8388608,dss:primary",
];

#[test]
fn c05_what_the_user_sets_does_not_corrupt() {
    if !Allocator::Jemalloc.is_here() {
        return;
    }
    for settings in SETTINGS {
        let seconds = scale().pick("1", "30");
        let mut command = Allocator::Jemalloc.run("churn", &[seconds, "64", "16", "16777216", "1"]);
        command.env("VRANGE_DECAY", "0.1");
        configure_jemalloc(&mut command, settings);
        let ran = run(command).said("all data stays").marked();
        assert!(!ran.told.contains("<jemalloc>"), "{ran}");
    }
}

/// Blocks of 8 MiB and more would have an arena of their own.
#[test]
fn huge_blocks_are_marked() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("give_back", &["idle", "12288", "96"]);
        command.env("VRANGE_DECAY", "0.3");
        let ran = run(command).said("given back");
        assert!(ran.mib("marked") >= 200.0 && ran.mib("released after the decay") >= 48.0, "{ran}");
    }
}

#[test]
fn huge_blocks_of_the_huge_arena_are_right() {
    if !Allocator::Jemalloc.is_here() {
        return;
    }
    let mut command = Allocator::Jemalloc.run("give_back", &["idle", "12288", "96"]);
    command.env("VRANGE_DECAY", "0.3");
    configure_jemalloc(&mut command, "oversize_threshold:8388608");
    run(command).said("given back");
}

#[test]
fn an_arena_that_the_program_makes_is_hooked() {
    if !Allocator::Jemalloc.is_here() {
        return;
    }
    let mut command = Allocator::Jemalloc.run("arenas", &["own"]);
    command.env("VRANGE_DECAY", "0.3");
    let ran = run(command).said("given back");
    assert!(ran.mib("marked") >= 400.0 && ran.mib("released after the decay") >= 32.0, "{ran}");
}

#[test]
fn arenas_are_hooked_when_threads_need_them_and_not_before() {
    if !Allocator::Jemalloc.is_here() {
        return;
    }
    let mut command = Allocator::Jemalloc.run("arenas", &["threads", "40"]);
    configure_jemalloc(&mut command, "narenas:256");
    run(command).said("hooked").marked();
    // A machine of 64 processors makes no difference to a program with one thread.
    let holds = |arenas: &str| {
        let mut command = Allocator::Jemalloc.run("give_back", &["nothing", "4096", "4"]);
        configure_jemalloc(&mut command, arenas);
        let said = run(command).said("holds ").said;
        said.trim().strip_prefix("holds ").and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let (few, many) = (holds("narenas:8"), holds("narenas:256"));
    assert!(many < few + 6000, "{few} and {many} KiB");
}
