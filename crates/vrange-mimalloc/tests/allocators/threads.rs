//! Threads: many of them, and their ends.

use crate::support::{Allocator, plain, run};

#[test]
fn what_threads_had_in_their_caches_goes_when_they_end() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("threads", &["8", "12288", "2"]);
        command.env("VRANGE_DECAY", "0.3");
        run(command).said("given back").marked();
    }
}

#[test]
fn a_thousand_threads() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("threads", &["1000", "128", "2"]);
        command.env("VRANGE_DECAY", "0.3");
        let ran = run(command);
        if ran.is_skipped() {
            return;
        }
        ran.said("given back").marked();
    }
}

/// Of 16 KiB, of which libc and jemalloc leave five.
#[test]
fn a_thread_with_the_smallest_stack() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("stack", &["24"]);
        command.env("VRANGE_DECAY", "0.3");
        run(command).said("all data stays").marked();
    }
}

/// The reclaimer's thread has it, too.
#[test]
fn much_thread_local_data() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("local_data", &[]);
        command.env("VRANGE_DECAY", "0.3");
        run(command).said("given back").marked();
    }
}

/// The reclaimer is no thread of the program's, so nobody waits for its end.
#[test]
fn a_process_ends_with_its_programs_last_thread() {
    for way in ["main", "forked"] {
        run(plain("last_thread", &[way])).said("ended");
        for allocator in Allocator::each() {
            run(allocator.run("last_thread", &[way])).said("ended");
        }
    }
}
