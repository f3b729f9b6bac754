//! Resident memory of a process, before and after what it freed has gone back.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vrange_testing::reclaimers_of;

use super::Way;
use crate::MIB;

/// For how long the plain run is watched. Its allocator gives memory back at once, or within the second that tests set for it.
const PLAIN_WATCH: Duration = Duration::from_secs(2);
/// How long it may take through `vrange run`. Memory goes back after a second, but the machine may be busy.
const BACK_MAX: Duration = Duration::from_secs(20);
const LOOK_WAIT: Duration = Duration::from_millis(50);

/// What of a process is in memory now.
///
/// # Panics
/// There is no such process.
#[track_caller]
fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process runs");
    let pages: u64 = text.split(' ').nth(1).expect("a second number").parse().expect("a number");
    pages * rustix::param::page_size() as u64
}

/// The most that was ever in memory of a process.
///
/// # Panics
/// There is no such process.
#[track_caller]
fn peak_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// Does the process have a thread that offers and releases what was marked?
pub(crate) fn has_reclaimer(pid: u32) -> bool {
    !reclaimers_of(&pid.to_string()).is_empty()
}

/// The least that is resident of a process of the plain run while it is watched, after it has freed what the load needed.
pub(crate) fn kept_by_plain_run(pid: u32) -> u64 {
    let until = Instant::now() + PLAIN_WATCH;
    let mut least = u64::MAX;
    while Instant::now() < until {
        least = least.min(resident_bytes(pid));
        sleep(LOOK_WAIT);
    }
    least
}

/// Did the load need so much memory that [`assert_back`] means something?
///
/// # Panics
/// It did not.
#[track_caller]
pub(crate) fn assert_loaded(what: &str, pid: u32, plain_bytes: u64) {
    let peak = peak_bytes(pid);
    assert!(peak > 2 * plain_bytes, "{what}: a peak of {} is no load beside {}", mib(peak), mib(plain_bytes));
}

/// Waits until what is resident of a process is back to at most 1.2 times what the plain run keeps after the same load.
///
/// # Panics
/// It does not come back.
#[track_caller]
pub(crate) fn assert_back(what: &str, way: Way, pid: u32, plain_bytes: u64) {
    let allowed = plain_bytes + plain_bytes / 5;
    let begin = Instant::now();
    loop {
        let now = resident_bytes(pid);
        if now <= allowed {
            return;
        }
        assert!(
            begin.elapsed() < BACK_MAX,
            "{what}, {way}: {} are resident {} s after memory was freed, of {} at most before; \
             the plain run keeps {}, so {} are allowed",
            mib(now),
            begin.elapsed().as_secs(),
            mib(peak_bytes(pid)),
            mib(plain_bytes),
            mib(allowed)
        );
        sleep(LOOK_WAIT);
    }
}

fn mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB)
}
