//! `fork`: a child has free memory of its own, and nobody else's locks.

use vrange_testing::scale;

use crate::support::{Allocator, Preload, compiled, preload, run};

#[test]
fn c09_a_fork_while_other_threads_are_in_hooks() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("forks", &["many", scale().pick("8", "300")]);
        command.env("VRANGE_DECAY", "0.05");
        run(command).said("all data stays").marked();
    }
}

/// The reclaimer allocates, too, from the library's own allocator, and may be in the middle of it.
#[test]
fn c09_a_fork_while_the_reclaimer_allocates() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("forks", &["soon", scale().pick("50", "1000")]);
        command.env("VRANGE_DECAY", "0.05");
        preload(&mut command, Preload::First, &compiled("slow_locks.so"));
        run(command).said("all data stays").marked();
    }
}

/// By a raw `clone`. The child has no reclaimer, and gives back in its allocator's own way.
#[test]
fn c09_a_fork_that_nobody_is_told_of() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("forks", &["raw", scale().pick("8", "300")]);
        command.env("VRANGE_DECAY", "0.05");
        run(command).said("all data stays").marked();
    }
}

/// It never allocates, as a worker may that has all it needs.
#[test]
fn a_child_gives_back_what_its_parent_had_freed() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("forks", &["idle", "-"]);
        command.env("VRANGE_DECAY", "0.5");
        run(command).said("given back").marked();
    }
}

/// A child made by `vfork` has its parent's memory, and a reclaimer of its own would end with it.
#[test]
fn a_parent_gives_back_where_such_a_child_was_the_first_to_allocate() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("forks", &["vfork", "-"]);
        command.env("VRANGE_DECAY", "0.5");
        run(command).said("given back").marked();
    }
}

#[test]
fn a_daemon_gives_back_what_is_free() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("forks", &["daemon", "vrange-reclaim"]);
        command.env("VRANGE_DECAY", "0.2");
        // The first process ends at once, the other one says so.
        let ran = run(command).said("given back").marked();
        assert!(ran.mib("released after the decay") > 0.0, "{ran}");
    }
}
