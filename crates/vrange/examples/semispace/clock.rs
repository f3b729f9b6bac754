//! The time that is measured.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of the whole process: of the program, of the kernel for it (page faults, `madvise`), and of the reclaimer. Unlike
/// the time on the wall it does not count what others do on the same machine.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
