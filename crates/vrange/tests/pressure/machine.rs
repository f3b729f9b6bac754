//! The reserve of the machine: no group has a limit, and memory itself runs out. On a small emulated machine only, since
//! everything on it is in danger.

use std::fs;

use vrange_testing::{Child, Ended, Job, alone, is_emulated, scale, skipped};

use crate::MIB;
use crate::c13::assert_pressed;
use crate::cache::{Found, Process};
use crate::hog::Hog;

/// A machine with more takes too long to fill.
const MACHINE_MAX_BYTES: u64 = 3072 * MIB;

/// `None`: this is not a machine to be filled.
fn available_bytes() -> Option<u64> {
    if !is_emulated() || memory_bytes("MemTotal") > MACHINE_MAX_BYTES {
        skipped("only a small emulated machine is filled");
        return None;
    }
    Some(memory_bytes("MemAvailable"))
}

/// A line of `/proc/meminfo`.
fn memory_bytes(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("a mounted /proc");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number of KiB") * 1024
}

/// Processes killed on this machine for want of memory, since it was started.
fn oom_kills() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").expect("a mounted /proc");
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("Linux 4.13 counts it");
    count.trim().parse().expect("a number")
}

/// If somebody has to be killed, it is to be this process.
fn offer_up(child: &Child) {
    let file = format!("/proc/{}/oom_score_adj", child.pid());
    fs::write(file, "1000").expect("everybody may make a process of theirs more likely");
}

/// A cache that fills most of the machine, and a hog that takes most of it, round after round.
fn rounds(available_bytes: u64, words: &str, rounds: u32, check: impl Fn(Found)) -> Result<(), Ended> {
    let cache_bytes = available_bytes / 100 * 75 / MIB * MIB;
    let mut cache = Process::start(Job::new(format!("cache bytes={cache_bytes} {words}")));
    let mut hog = Hog::start_job(Job::new("hog"));
    offer_up(&cache.child);
    offer_up(&hog.0);
    for _ in 0..rounds {
        cache.fill()?;
        hog.take(available_bytes / 100 * 65, 2)?;
        hog.free()?;
        check(cache.look()?);
    }
    Ok(())
}

#[test]
fn c13_holds_for_the_machine_itself() {
    let _alone = alone();
    let Some(available_bytes) = available_bytes() else { return };
    let before = oom_kills();
    let ended = rounds(available_bytes, "", scale().pick(3, 20), |found| assert_pressed(found, "a round"));
    assert_eq!(oom_kills() - before, 0, "{ended:?}");
    ended.expect("nobody was killed");
}

/// The control: nobody offers.
#[test]
fn control_without_the_reclaimer_the_machine_kills_somebody() {
    let _alone = alone();
    let Some(available_bytes) = available_bytes() else { return };
    let before = oom_kills();
    let ended = rounds(available_bytes, "care=unattended", 1, |_| {});
    assert!(ended.is_err_and(|ended| ended.was_killed()) && oom_kills() > before);
}
