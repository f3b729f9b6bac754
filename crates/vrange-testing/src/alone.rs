//! One test of memory at a time, whichever program it is in.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};

/// As long as this lives, no other test that asked for it runs.
#[derive(Debug)]
#[must_use = "the lock ends with this value"]
pub struct Alone {
    _lock: File,
}

/// Waits until no other test that fills memory or measures time runs, in this program or another. Tests that share
/// processors and memory with others of their kind fail for no reason of their own.
///
/// # Panics
/// The lock's file cannot be made.
pub fn alone() -> Alone {
    let path = std::env::temp_dir().join("vrange-tests.lock");
    let options = File::options().create(true).append(true).open(&path);
    // A lock left by another user is one that we may read.
    let lock = options.or_else(|_| File::open(&path)).expect("a file for a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock on a file");
    Alone { _lock: lock }
}
