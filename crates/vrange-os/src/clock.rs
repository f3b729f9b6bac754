//! The cheapest clock of the machine, for telling which of two ranges was left alone longer.

/// Bits dropped from the processor's counter, so that one tick is about a microsecond or less.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const SHIFT: u32 = 10;
#[cfg(all(target_arch = "aarch64", not(miri)))]
const SHIFT: u32 = 5;

/// Reads the clock. A tick is 0.03 to 1.4 µs, by machine; ticks are comparable between threads of a process as far
/// as the machine keeps the processors' counters together (Linux checks and says so in `dmesg`). No system call.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: RDTSC exists on every x86-64 processor and has no operands in memory. A process that forbids it to
        // itself with prctl(PR_SET_TSC) could not use its own vDSO clock either.
        let counter = unsafe { core::arch::x86_64::_rdtsc() };
        counter >> SHIFT
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let counter: u64;
        // SAFETY: Linux makes the virtual counter readable from user space (arm64's vDSO reads it the same way).
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) counter, options(nomem, nostack, preserves_flags))
        };
        counter >> SHIFT
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        seconds.wrapping_mul(1_000_000).wrapping_add(nanoseconds / 1000)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_goes_on() {
        let before = super::ticks();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let ticks = super::ticks().wrapping_sub(before);
        assert!(ticks > 1000, "5 ms took only {ticks} ticks");
    }
}
