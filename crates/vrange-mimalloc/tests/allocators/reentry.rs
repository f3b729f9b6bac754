//! Who calls an allocator, and from where.

use vrange_testing::scale;

use crate::support::{Allocator, Preload, compiled, preload, run};

/// Those that end thread-local data, and handlers of `fork` within and around those of the libraries.
#[test]
fn handlers_and_destructors_allocate_and_free_large_blocks() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("reentry", &[scale().pick("6", "100")]);
        command.env("VRANGE_DECAY", "0.05");
        preload(&mut command, Preload::AfterHooks, &compiled("early.so"));
        run(command).said("all data stays").marked();
    }
}

#[test]
fn the_reclaimer_does_not_call_the_programs_allocator() {
    /// libc notes the destructors of a new thread's local data (`__cxa_thread_atexit_impl`), once, before the thread does anything.
    const OF_LIBC_MAX: u64 = 1;
    for allocator in Allocator::each() {
        // It offers and releases all that it is given.
        let mut command = allocator.run("give_back", &["idle", "1024", "64"]);
        command.env("VRANGE_DECAY", "0.3");
        preload(&mut command, Preload::First, &compiled("watch.so"));
        let ran = run(command).said("given back").marked();
        assert!(ran.mib("released after the decay") > 0.0, "{ran}");
        // The program has one thread.
        let (calls, of_others) = watched(&ran.told).expect("the library tells");
        assert!(calls > 100 && of_others <= OF_LIBC_MAX, "{ran}");
    }
}

/// How many calls of the allocator the library has seen, and how many of them in other threads than the first.
pub(crate) fn watched(told: &str) -> Option<(u64, u64)> {
    let line = told.lines().find_map(|line| line.strip_prefix("watch: "))?;
    let (calls, others) = line.split_once(" calls, ")?;
    Some((calls.parse().ok()?, others.split_once(' ')?.0.parse().ok()?))
}

#[test]
fn a_signal_handler_frees_and_allocates() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("signals", &[scale().pick("100", "5000")]);
        command.env("VRANGE_DECAY", "0.05");
        run(command).said("all data stays").marked();
    }
}
