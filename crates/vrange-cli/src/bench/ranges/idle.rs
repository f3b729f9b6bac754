//! What the reclaimer costs while there is nothing to do.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vrange::{Buffer, Heap};

use super::ours::fill;
use crate::bench::table::Row;
use crate::failure::Failure;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    /// Part of one processor that was used while `volatile_bytes` were volatile and memory was plentiful.
    pub(super) processor_share: f64,
    /// How much was volatile.
    pub(super) volatile_bytes: usize,
    /// Wake-ups of the reclaimer in the time that nothing was volatile; none if there is no such thread.
    pub(super) wake_ups: Option<u64>,
}

impl Idle {
    /// As a row: processor time in a second in which nothing happens. (How often a parked reclaimer wakes up is no time.)
    pub(super) fn row(&self) -> Row {
        let share = self.processor_share;
        Row::single("idle_second", self.volatile_bytes, share * 1e9, ("processor", share))
    }
}

/// Sleeps, and looks what the process did meanwhile.
pub(super) fn measure(quick: bool) -> Result<Idle, Failure> {
    const RANGE_BYTES: usize = 1 << 20;
    let ranges = if quick { 16 } else { 1024 };
    let wait = Duration::from_millis(if quick { 100 } else { 3000 });
    let failed = |error: vrange::Error| Failure::run(format!("making a range: {error}"));
    let heap = Heap::new().map_err(failed)?;
    let mut buffers = Vec::new();
    for _ in 0..ranges {
        let mut buffer: Buffer = heap.buffer(RANGE_BYTES).map_err(failed)?;
        fill(&mut buffer);
        buffers.push(buffer);
    }
    let before = processor_time();
    std::thread::sleep(wait);
    let used = processor_time().saturating_sub(before);
    let guards: Vec<_> = buffers.iter().map(Buffer::pin).collect();
    // The reclaimer notices, and parks.
    std::thread::sleep(wait);
    let before = wake_ups();
    std::thread::sleep(wait);
    let wake_ups = before.zip(wake_ups()).map(|(before, after)| after.saturating_sub(before));
    drop(guards);
    Ok(Idle {
        processor_share: used.as_secs_f64() / wait.as_secs_f64(),
        volatile_bytes: ranges * RANGE_BYTES,
        wake_ups,
    })
}

/// Processor time of all threads of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How often threads of the reclaimer's name have gone to sleep, which is as often as they woke up, less one.
fn wake_ups() -> Option<u64> {
    let mut total = None;
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        if field(&status, "Name:") == Some("vrange-reclaim") {
            let switches: u64 = field(&status, "voluntary_ctxt_switches:")?.parse().ok()?;
            total = Some(total.unwrap_or(0) + switches);
        }
    }
    total
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let status = "Name:\tvrange-reclaim\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "Name:"), Some("vrange-reclaim"));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some("12"));
        assert_eq!(field(status, "Missing:"), None);
    }
}
