//! The one store that changes nothing: an atomic "add zero" that the compiler may not turn into a load.

/// Adds zero to the word at `word` in one atomic read-modify-write and returns what it held.
///
/// The page is dirty afterwards, so the kernel can no longer take it, and the answer tells whether that came in time: a
/// discarded page shows zero. `AtomicU64::fetch_add(0)` would not do. It is idempotent, and LLVM makes such operations
/// a fence and a load ("Synchronization primitives", <https://llvm.org/docs/Atomics.html>), which leaves the page clean.
/// A load followed by a store would not do either: the page can go between the two.
///
/// # Safety
/// `word` is aligned, mapped readable and writable, and nobody accesses it non-atomically meanwhile.
#[inline]
pub(crate) unsafe fn add_zero(word: *mut u64) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut value = 0u64;
        // SAFETY: by the caller's promise the word may be read and written; XADD stores the sum back, always.
        unsafe {
            core::arch::asm!(
                "lock xadd qword ptr [{word}], {value}",
                word = in(reg) word,
                value = inout(reg) value,
                options(nostack),
            );
        }
        value
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let value: u64;
        // SAFETY: by the caller's promise the word may be read and written. The exclusive store goes through only if
        // nothing touched the word since the exclusive load (a page fault in between clears the monitor), and it
        // stores what was loaded. Present on every ARMv8 processor; LDADD would need a check for LSE.
        unsafe {
            core::arch::asm!(
                "2: ldaxr {value}, [{word}]",
                "stlxr {failed:w}, {value}, [{word}]",
                "cbnz {failed:w}, 2b",
                word = in(reg) word,
                value = out(reg) value,
                failed = out(reg) _,
                options(nostack),
            );
        }
        value
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        use crate::sync::{AtomicU64, Ordering};
        // SAFETY: by the caller's promise.
        let word = unsafe { AtomicU64::from_ptr(word) };
        // The zero is hidden from the optimizer, so the addition is not idempotent in its eyes. Relaxed: what counts is
        // the value, and that the store happens.
        word.fetch_add(std::hint::black_box(0), Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn the_word_is_returned_and_kept() {
        let mut word = 0x1234_5678_9abc_def0_u64;
        // SAFETY: a local word.
        let value = unsafe { super::add_zero(&raw mut word) };
        assert_eq!((value, word), (0x1234_5678_9abc_def0, 0x1234_5678_9abc_def0));
    }
}
