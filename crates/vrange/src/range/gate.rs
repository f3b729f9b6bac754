//! A gate that a fork closes: while it is closed no range is offered, rescued, released or retired, so the child's copy of
//! a heap is whole.

use crate::sync::{AtomicU32, Ordering, wait_while, wake_all};

/// The gate is closed, or about to be.
const CLOSED: u32 = 1 << 31;

/// Counts those inside; see the [module](self).
#[derive(Debug)]
pub(crate) struct Gate {
    /// Passes in use, and [`CLOSED`].
    word: AtomicU32,
}

/// The right to be inside, until dropped. A thread holds one at most, and does not wait for a range while it holds one.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
}

impl Gate {
    /// An open gate.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// An open gate, for models.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Goes in; waits while the gate is closed.
    pub(crate) fn enter(&self) -> Pass<'_> {
        loop {
            if let Some(pass) = self.try_enter() {
                return pass;
            }
            self.wait_while(|word| word & CLOSED != 0);
        }
    }

    /// Goes in, unless the gate is closed.
    pub(crate) fn try_enter(&self) -> Option<Pass<'_>> {
        // Acquire pairs with the Release in `open`: what was done while the gate was closed is seen inside.
        let before = self.word.fetch_add(1, Ordering::Acquire);
        let pass = Pass { gate: self };
        (before & CLOSED == 0).then_some(pass)
    }

    /// Closes the gate and waits until everybody is out. A second closer waits until the first has opened it again.
    pub(crate) fn close(&self) {
        // Acquire pairs with the Release in `open`, for the second of two closers.
        while self.word.fetch_or(CLOSED, Ordering::Acquire) & CLOSED != 0 {
            self.wait_while(|word| word & CLOSED != 0);
        }
        self.wait_while(|word| word != CLOSED);
    }

    /// Opens the gate.
    pub(crate) fn open(&self) {
        // Release pairs with the Acquire in `enter`.
        self.word.fetch_and(!CLOSED, Ordering::Release);
        wake_all(&self.word);
    }

    /// In a child made by `fork`: those inside are threads of the parent.
    pub(crate) fn reset_in_child(&self) {
        // Relaxed: the child has one thread so far.
        self.word.store(0, Ordering::Relaxed);
    }

    fn wait_while(&self, closed_to_me: impl Fn(u32) -> bool) {
        loop {
            // Acquire pairs with the Releases in `open` and in the passes' drops.
            let word = self.word.load(Ordering::Acquire);
            if !closed_to_me(word) {
                return;
            }
            wait_while(&self.word, word);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `close` and in its wait.
        if self.gate.word.fetch_sub(1, Ordering::Release) & CLOSED != 0 {
            wake_all(&self.gate.word);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
