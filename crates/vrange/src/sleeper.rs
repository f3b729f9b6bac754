//! Whether the reclaimer needs to be woken: one word, read by every unpin, written almost never.

use crate::sync::{AtomicU32, Ordering, sequential_point, wait_while, wake_all};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
const NEVER_STARTED: u32 = 2;

/// The word. See [`is_awake`](Sleeper::is_awake).
#[derive(Debug)]
pub(crate) struct Sleeper(AtomicU32);

/// What there is to do for the one who ended the sleep.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It is awake, or another thread is waking it.
    Nothing,
    /// It slept, and has been woken.
    Rouse,
    /// It was never started in this process: start it.
    Start,
}

impl Sleeper {
    /// There is no reclaimer yet.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(NEVER_STARTED))
    }

    /// Asleep, for models.
    #[cfg(loom)]
    pub(crate) fn new_asleep() -> Self {
        Self(AtomicU32::new(ASLEEP))
    }

    /// May an unpin go on without waking anybody?
    #[inline]
    pub(crate) fn is_awake(&self) -> bool {
        // SeqCst pairs with the SeqCst store in `fall_asleep`: after an unpin's SeqCst exchange, either this sees the sleep,
        // or the look for work that follows the store sees the unpin.
        self.0.load(Ordering::SeqCst) == AWAKE
    }

    /// Was it started, and sleeps? The opposite of [`is_awake`](Self::is_awake) in a process with a reclaimer.
    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        // SeqCst pairs with the store in `fall_asleep`, as in `is_awake`.
        self.0.load(Ordering::SeqCst) == ASLEEP
    }

    /// Is there a reclaimer, asleep or awake?
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn is_started(&self) -> bool {
        // Relaxed: whoever starts it and whoever asks is the same thread, or has been told by it.
        self.0.load(Ordering::Relaxed) != NEVER_STARTED
    }

    /// The first half of falling asleep: after it, look once more for work, and call [`stay_awake`](Self::stay_awake) if
    /// there is any.
    pub(crate) fn fall_asleep(&self) {
        // SeqCst pairs with the load in `is_awake`.
        self.0.store(ASLEEP, Ordering::SeqCst);
        sequential_point();
    }

    /// There was work after all, or the sleep is over.
    pub(crate) fn stay_awake(&self) {
        // Relaxed: whoever sees ASLEEP a little longer wakes somebody who is awake.
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Sleeps until [`rouse`](Self::rouse), if nothing has come in between since [`fall_asleep`](Self::fall_asleep).
    pub(crate) fn sleep(&self) {
        // Acquire pairs with the Release in `rouse`: what was made volatile before is seen.
        while self.0.load(Ordering::Acquire) == ASLEEP {
            wait_while(&self.0, ASLEEP);
        }
    }

    /// Ends the sleep. Of several threads one finds it asleep, and makes the system call.
    pub(crate) fn rouse(&self) -> Wake {
        // Release pairs with the Acquire in `sleep`.
        match self.0.swap(AWAKE, Ordering::Release) {
            ASLEEP => {
                wake_all(&self.0);
                Wake::Rouse
            }
            NEVER_STARTED => Wake::Start,
            _ => Wake::Nothing,
        }
    }

    /// There is no reclaimer: it could not be started, or is a thread of the parent.
    pub(crate) fn reset(&self) {
        // Relaxed: the next unpin that sees it tries to start one.
        self.0.store(NEVER_STARTED, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
