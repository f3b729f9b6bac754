//! The engine over a kernel of ordinary memory, which does what a test tells it. Nothing here makes a system call, so
//! Miri can run it.

use std::sync::{Mutex, PoisonError};

use vrange_os::fake::Fake;

use crate::heap::{Heap, HeapBuilder};
use crate::sleeper::Sleeper;

mod plain;
mod programs;
mod refusals;
mod threads;

/// A kernel of a test's own. Kept for ever, as a heap wants it, and reused by nobody.
fn fake() -> &'static Fake {
    // Reachable, so that a leak checker is content.
    static ALL: Mutex<Vec<&'static Fake>> = Mutex::new(Vec::new());
    let fake: &'static Fake = Box::leak(Box::new(Fake::new()));
    ALL.lock().unwrap_or_else(PoisonError::into_inner).push(fake);
    fake
}

/// A heap without a reclaimer.
fn heap_on(fake: &'static Fake, builder: HeapBuilder) -> Heap {
    static AWAKE: Sleeper = Sleeper::new();
    AWAKE.stay_awake();
    builder.build_on(fake, &AWAKE).expect("valid settings")
}
