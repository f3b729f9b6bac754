//! What has become of free memory, counted, and told at exit.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use vrange::raw;
use vrange_os::clock;

use crate::PAGE_BYTES;

/// Relaxed everywhere: numbers that order nothing.
struct Counts {
    given_bytes: AtomicU64,
    refused_bytes: AtomicU64,
    taken_bytes: AtomicU64,
    lost_bytes: AtomicU64,
    zeroed_bytes: AtomicU64,
    calls: AtomicU64,
    /// Of [`clock`].
    ticks: AtomicU64,
}

impl Counts {
    fn all(&self) -> [&AtomicU64; 7] {
        [
            &self.given_bytes,
            &self.refused_bytes,
            &self.taken_bytes,
            &self.lost_bytes,
            &self.zeroed_bytes,
            &self.calls,
            &self.ticks,
        ]
    }
}

static COUNTS: Counts = Counts {
    given_bytes: AtomicU64::new(0),
    refused_bytes: AtomicU64::new(0),
    taken_bytes: AtomicU64::new(0),
    lost_bytes: AtomicU64::new(0),
    zeroed_bytes: AtomicU64::new(0),
    calls: AtomicU64::new(0),
    ticks: AtomicU64::new(0),
};

/// Is anything counted? Set when the process starts.
static ON: AtomicBool = AtomicBool::new(false);
/// When counting began, by both clocks.
static BEGIN: OnceLock<(Instant, u64)> = OnceLock::new();
/// Whose counts these are.
static PROCESS: AtomicU64 = AtomicU64::new(0);

/// Counts from now on.
pub(crate) fn turn_on() {
    let _ = BEGIN.set((Instant::now(), clock::ticks()));
    reset();
    ON.store(true, Ordering::Relaxed); // Relaxed: before there are other threads.
}

/// Begins at zero again: in a child made by `fork`.
pub fn reset() {
    COUNTS.all().into_iter().for_each(|count| count.store(0, Ordering::Relaxed)); // Relaxed: see `Counts`.
    PROCESS.store(std::process::id().into(), Ordering::Relaxed); // Relaxed: as above.
}

fn add(count: &AtomicU64, number: usize) {
    count.fetch_add(number as u64, Ordering::Relaxed); // Relaxed: see `Counts`.
}

/// A call of a hook, which is timed if anything is counted.
pub(crate) struct Call {
    begin: Option<u64>,
    marked_pages: usize,
}

impl Call {
    #[inline]
    pub(crate) fn begin() -> Self {
        // Relaxed: see `turn_on`.
        Self { begin: ON.load(Ordering::Relaxed).then(clock::ticks), marked_pages: 0 }
    }

    /// The same for memory that is taken back. Allocators also take what they never gave, which does not count.
    #[inline]
    pub(crate) fn begin_taking(start: *mut u8, bytes: usize) -> Self {
        // Relaxed: see `turn_on`.
        if !ON.load(Ordering::Relaxed) {
            return Self { begin: None, marked_pages: 0 };
        }
        let marked_pages = raw::count_marked(start, bytes).unwrap_or(0);
        Self { begin: Some(clock::ticks()), marked_pages }
    }

    #[inline]
    pub(crate) fn gave(self, bytes: usize, marked: bool) {
        if let Some(begin) = self.begin {
            add(if marked { &COUNTS.given_bytes } else { &COUNTS.refused_bytes }, bytes);
            end(begin);
        }
    }

    #[inline]
    pub(crate) fn took(self, lost_pages: usize, zeroed_pages: usize) {
        if let Some(begin) = self.begin {
            add(&COUNTS.taken_bytes, self.marked_pages * PAGE_BYTES);
            add(&COUNTS.lost_bytes, lost_pages * PAGE_BYTES);
            add(&COUNTS.zeroed_bytes, zeroed_pages * PAGE_BYTES);
            end(begin);
        }
    }
}

fn end(begin: u64) {
    add(&COUNTS.calls, 1);
    // Relaxed: see `Counts`.
    COUNTS.ticks.fetch_add(clock::ticks().wrapping_sub(begin), Ordering::Relaxed);
}

/// Processes that freed less are not told of: of a shell script that would be most.
const WORTH_TELLING_BYTES: u64 = 1 << 20;

/// What has become of this process's free memory, as text, if there was some. No system call.
pub fn text() -> Option<String> {
    let (started, started_ticks) = BEGIN.get()?;
    let value = |count: &AtomicU64| count.load(Ordering::Relaxed); // Relaxed: see `Counts`.
    let (given, refused) = (value(&COUNTS.given_bytes), value(&COUNTS.refused_bytes));
    if given + refused < WORTH_TELLING_BYTES || value(&PROCESS) != u64::from(std::process::id()) {
        return None;
    }
    let (taken, lost) = (value(&COUNTS.taken_bytes), value(&COUNTS.lost_bytes));
    let ticks = clock::ticks().wrapping_sub(*started_ticks).max(1);
    let seconds = |of: u64| of as f64 * started.elapsed().as_secs_f64() / ticks as f64;
    let stats = raw::stats();
    let (calls, hooks) = (value(&COUNTS.calls), seconds(value(&COUNTS.ticks)));
    let mut text = String::new();
    let mut line = |what: &str, bytes: u64, remark: &str| {
        let _ = writeln!(text, "  {what:<24}{:>12.1} MiB{remark}", bytes as f64 / 1_048_576.0);
    };
    line("marked", given, "");
    line("not marked", refused, ", given back in the allocator's own way");
    line("taken back", taken, "");
    line("offered to the kernel", stats.offered.bytes(), "");
    line("lost to the kernel", stats.lost.bytes(), "");
    line("released after the decay", stats.released.bytes(), "");
    line("set to zero", value(&COUNTS.zeroed_bytes), ", as the allocator expects");
    let faults = taken.saturating_sub(lost) / PAGE_BYTES as u64;
    let _ = writeln!(text, "  {:<24}{faults:>12}     at most", "page faults avoided");
    let _ = writeln!(text, "  {:<24}{:>12.1} ms  in {calls} calls", "time in the hooks", hooks * 1e3);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one test, since the counts are the process's.
    #[test]
    fn what_was_counted_is_told() {
        assert_eq!(text(), None);
        Call::begin().gave(1 << 20, true);
        turn_on();
        assert_eq!(text(), None, "nothing was counted before");
        Call::begin().gave(3 << 20, true);
        Call::begin().gave(1 << 20, false);
        let mut taking = Call::begin();
        taking.marked_pages = 512;
        taking.took(100, 7);
        let told = text().expect("something was given");
        let has = |what: &str, number: &str| {
            told.lines().any(|line| line.trim().starts_with(what) && line.contains(number))
        };
        assert!(has("marked", " 3.0 MiB") && has("not marked", " 1.0 MiB"), "{told}");
        assert!(has("taken back", " 2.0 MiB") && has("page faults avoided", " 412 "), "{told}");
        assert!(has("time in the hooks", "in 3 calls"), "{told}");
        reset();
        assert_eq!(text(), None);
    }
}
