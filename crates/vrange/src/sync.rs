//! The one door through which atomics and threads come in, so that loom can take their place (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::thread;
#[cfg(not(loom))]
pub(crate) use std::thread;

/// Orders a store before a later load of another location, on both sides of a handshake of the form "I publish, then look
/// whether you sleep" and "I say that I sleep, then look whether there is work".
///
/// Both accesses must be `SeqCst` themselves, which is all that the memory model asks for, so this costs nothing. Loom
/// weakens `SeqCst` accesses to acquire and release and only knows fences; for it, this is one.
#[inline(always)]
pub(crate) fn sequential_point() {
    // SeqCst pairs with the same fence on the other side of the handshake.
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Sleeps while `word` is `seen`; may return for no reason, as futexes do.
#[cfg(not(any(loom, miri)))]
pub(crate) fn wait_while(word: &AtomicU32, seen: u32) {
    use rustix::thread::futex::{Flags, wait};
    // Every failure (EAGAIN: the word has changed; EINTR: a signal) means "look again", which the caller does.
    let _ = wait(word, Flags::PRIVATE, seen, None);
}

/// Wakes everybody who sleeps in [`wait_while`] on `word`.
#[cfg(not(any(loom, miri)))]
pub(crate) fn wake_all(word: &AtomicU32) {
    use rustix::thread::futex::{Flags, wake};
    let _ = wake(word, Flags::PRIVATE, i32::MAX.unsigned_abs());
}

/// Miri has no futexes: look again after somebody else has run.
#[cfg(miri)]
pub(crate) fn wait_while(_word: &AtomicU32, _seen: u32) {
    thread::yield_now();
}

#[cfg(miri)]
pub(crate) fn wake_all(_word: &AtomicU32) {}

#[cfg(loom)]
pub(crate) use model_futex::{wait_while, wake_all};

/// What a futex does, in loom's terms, so that loom finds a lost wake-up: it then reports a deadlock.
#[cfg(loom)]
mod model_futex {
    use loom::sync::{Condvar, Mutex};

    use super::{AtomicU32, Ordering};

    loom::lazy_static! {
        /// All words share one queue: that only adds wake-ups for no reason, which futexes have too.
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub(crate) fn wait_while(word: &AtomicU32, seen: u32) {
        let locked = QUEUE.0.lock().expect("models do not panic here");
        // Relaxed: the lock orders it after a store whose wake-up has come already, as the kernel's does.
        if word.load(Ordering::Relaxed) == seen {
            drop(QUEUE.1.wait(locked));
        }
    }

    pub(crate) fn wake_all(_word: &AtomicU32) {
        let _locked = QUEUE.0.lock();
        QUEUE.1.notify_all();
    }
}

/// Locks. What is under the library's locks is whole between statements, so a panic under one is no reason to stop.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // ThreadSanitizer sees an attempt that succeeds, but not the waiting for one, which is inside the standard library.
    #[cfg(thread_sanitizer)]
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    #[cfg(not(thread_sanitizer))]
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
