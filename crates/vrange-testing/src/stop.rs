//! The end of what other threads do for a test.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when it is dropped, also by a panic: threads of a scope that go on until the flag is set end then, and with them a
/// test that fails. Otherwise the scope would wait for them for ever, and the failure would never be told.
#[derive(Debug)]
#[must_use = "the flag is set when this is dropped"]
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        // Relaxed: it only ends loops.
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_the_other_threads() {
        let stop = AtomicBool::new(false);
        let failed = std::panic::catch_unwind(|| {
            std::thread::scope(|scope| {
                let _stop = StopAtEnd(&stop);
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
                // No message of a panic hook in the middle of other tests' output.
                std::panic::resume_unwind(Box::new("a failure"));
            });
        });
        assert!(failed.is_err());
    }
}
