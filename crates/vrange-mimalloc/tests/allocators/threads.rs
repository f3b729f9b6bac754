//! Threads: many of them, and their ends.

use crate::support::{Allocator, run};

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
