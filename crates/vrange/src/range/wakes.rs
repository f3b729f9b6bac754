//! The wait for the end of a claim.

use super::state::{EndClaim, State};
use crate::sync::{AtomicU32, Ordering, wait_while, wake_all};

/// Goes up whenever those who wait for the range are woken.
#[derive(Debug)]
pub(crate) struct Wakes(AtomicU32);

impl Wakes {
    /// Nobody waits, for models; a slot's count begins as the zeros of its memory.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Waits until the range is no longer claimed; may return early, so the caller looks again.
    pub(crate) fn wait(&self, state: &State) {
        // Read before asking: a claim that ends after the question changes the number, and the sleep ends or never begins.
        // Acquire pairs with the Release in `wake`: if the number is already the new one, so is the state.
        let seen = self.0.load(Ordering::Acquire);
        if state.ask_to_be_woken() {
            wait_while(&self.0, seen);
        }
    }

    /// Wakes those who wait, if there are any.
    pub(crate) fn wake(&self, end: EndClaim) {
        if end == EndClaim::WakeWaiters {
            // Release pairs with the Acquire in `wait`.
            self.0.fetch_add(1, Ordering::Release);
            wake_all(&self.0);
        }
    }
}
