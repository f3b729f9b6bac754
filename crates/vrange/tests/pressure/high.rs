//! A group that has only `memory.high`: beyond it the kernel does not kill, it makes whoever allocates wait. A hog beside a cache
//! must get its memory all the same, and soon.

use std::time::Duration;

use vrange_os::cgroup::Version;
use vrange_testing::{Ended, MemoryGroup, alone, scale, skipped};

use crate::MIB;
use crate::c13::assert_pressed;
use crate::cache::Process;
use crate::hog::{Hog, Took};

const HIGH_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = HIGH_BYTES / 100 * 80;
const HOG_BYTES: u64 = HIGH_BYTES / 100 * 70;
/// A hog that the kernel lets run needs a fraction of a second, of an emulated machine some. One that it makes wait is
/// stopped for up to two seconds at a time, once for each 256 KiB.
const HOG_TIME_MAX: Duration = Duration::from_secs(15);

/// A group with that mark, and no limit that kills.
fn group(purpose: &str) -> Option<MemoryGroup> {
    let group = MemoryGroup::make(purpose, 1 << 40).map_err(|why| skipped(&why)).ok()?;
    if group.version() == Version::V1 {
        skipped("cgroup v1 has no memory.high");
        return None;
    }
    group.set_high(HIGH_BYTES).expect("version 2 has it");
    Some(group)
}

fn take(group: &MemoryGroup) -> Result<Option<Took>, Ended> {
    Hog::start(group.entry()).take_within(HOG_BYTES, 2, HOG_TIME_MAX)
}

#[test]
fn c13_a_hog_below_memory_high_is_not_held_up() {
    let Some(group) = group("high") else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    for number in 0..scale().pick(3, 20) {
        cache.fill().expect("not killed");
        let took = take(&group).expect("nobody is killed");
        println!("round {number}: {took:?}");
        assert!(took.is_some(), "round {number}: the hog waits: {:?}; {}", group.read(), cache.totals());
        assert_pressed(cache.look().expect("not killed"), &format!("round {number}"));
        assert_eq!(group.oom_kills(), 0);
    }
}

/// The control: nobody offers.
#[test]
fn control_a_hog_below_memory_high_beside_a_cache_without_a_reclaimer_waits() {
    let Some(group) = group("high-unattended") else { return };
    let _alone = alone();
    let _cache = Process::start_filled(&group, CACHE_BYTES, "care=unattended");
    let took = take(&group).expect("nobody is killed");
    assert!(took.is_none(), "{took:?}");
}
