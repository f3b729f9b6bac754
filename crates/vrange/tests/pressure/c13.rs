//! C13: volatile memory never causes an OOM kill.

use std::time::Duration;

use vrange_testing::{Ended, MemoryGroup, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Found, Process};
use crate::hog::{Hog, Way};

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;
const HOG_THREADS: usize = 2;

/// The cache is made full again, the hog takes and frees, the cache is checked.
pub(crate) fn round(cache: &mut Process, hog: &mut Hog, way: Way) -> Result<Found, Ended> {
    cache.fill()?;
    hog.take_by(HOG_BYTES, HOG_THREADS, way)?;
    hog.free()?;
    cache.look()
}

/// The contents are right, and some had to go.
#[track_caller]
pub(crate) fn assert_pressed(found: Found, when: &str) {
    assert_eq!(found.wrong_pages, 0, "{when}: {found:?}");
    assert!(found.lost_bytes > 0, "{when}: what was taken fitted beside the cache, so nothing was tested");
}

fn group() -> Option<MemoryGroup> {
    MemoryGroup::make("c13", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()
}

#[test]
fn c13_volatile_memory_never_causes_an_oom_kill() {
    let Some(group) = group() else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    let mut hog = Hog::start(group.entry());
    for number in 0..scale().pick(10, 50) {
        let found = round(&mut cache, &mut hog, Way::Touch);
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        assert_pressed(found.expect("nobody was killed"), &format!("round {number}"));
    }
}

#[test]
fn c13_holds_however_memory_is_taken() {
    let _alone = alone();
    for way in Way::ALL {
        let Some(group) = group() else { return };
        let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
        let mut hog = Hog::start(group.entry());
        for number in 0..scale().pick(3, 20) {
            let found = round(&mut cache, &mut hog, way);
            assert_eq!(group.oom_kills(), 0, "{way:?}, round {number}: {:?}", group.read());
            assert_pressed(found.expect("nobody was killed"), &format!("{way:?}, round {number}"));
        }
    }
}

#[test]
fn c13_holds_for_threads_of_the_process_itself() {
    let Some(group) = group() else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    for number in 0..scale().pick(10, 50) {
        let found =
            cache.fill().and_then(|_| cache.swing(HOG_BYTES, HOG_THREADS)).and_then(|()| cache.look());
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        assert_pressed(found.expect("nobody was killed"), &format!("round {number}"));
    }
}

#[test]
fn c13_holds_while_the_cache_is_refilled() {
    let Some(group) = group() else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    let mut hog = Hog::start(group.entry());
    let time = Duration::from_secs(scale().pick(2, 20));
    cache.begin_churning(time);
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        let taken = hog.take(HOG_BYTES, HOG_THREADS).and_then(|_| hog.free());
        assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
        taken.expect("the hog was not killed");
    }
    let found = cache.end_churning().expect("the cache was not killed");
    assert_eq!(group.oom_kills(), 0);
    assert_eq!(found.wrong_pages, 0);
}

/// The control: nobody offers.
#[test]
fn control_without_the_reclaimer_somebody_is_killed() {
    let Some(group) = group() else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "care=unattended");
    let mut hog = Hog::start(group.entry());
    let killed =
        (0..3).any(|_| round(&mut cache, &mut hog, Way::Touch).is_err_and(|ended| ended.was_killed()));
    assert!(killed && group.oom_kills() > 0, "nobody was killed: {:?}", group.read());
}
