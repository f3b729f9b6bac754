//! Processes that cannot offer: throttled, or stopped. `max_unoffered` bounds what they expose.

use std::time::Duration;

use vrange_testing::{Child, Ended, Job, MemoryGroup, Signal, ThrottledGroup, alone, scale, skipped};

use crate::MIB;
use crate::cache::Process;
use crate::hog::{Hog, Took};

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;
const QUOTA: f64 = 0.1;

/// Rounds of a hog beside a cache with a quota on processor time, until somebody is killed. `None`: cannot be tried here.
fn throttled_rounds(words: &str, rounds: u32) -> Option<Result<(), Ended>> {
    let group = MemoryGroup::make("throttled", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let quota = ThrottledGroup::make("throttled", QUOTA).map_err(|why| skipped(&why)).ok()?;
    let job = Job::new(format!("cache bytes={CACHE_BYTES} {words}"));
    let mut cache = Process::start_job(job.enter(group.entry()).enter(quota.entry()));
    let mut hog = Hog::start(group.entry());
    let mut round = || {
        cache.fill()?;
        hog.take(HOG_BYTES, 2)?;
        hog.free()?;
        assert_eq!(cache.look()?.wrong_pages, 0);
        Ok(())
    };
    let ended = (0..rounds).try_for_each(|_| round());
    assert_eq!(group.oom_kills() > 0, ended.is_err(), "{ended:?}");
    Some(ended)
}

#[test]
fn c13_a_throttled_process_that_exposes_nothing_survives() {
    let _alone = alone();
    let Some(ended) = throttled_rounds("max_unoffered=0", scale().pick(2, 10)) else { return };
    ended.expect("nobody was killed");
}

/// The control: with a reserve of the ordinary size, and nothing that bounds what is not offered.
#[test]
fn control_a_throttled_process_that_exposes_all_is_killed() {
    let _alone = alone();
    let Some(ended) = throttled_rounds(&format!("reserve={}", 40 * MIB), 10) else { return };
    assert!(ended.expect_err("somebody was killed").was_killed());
}

/// A cache, and a hog that takes memory while the cache is stopped.
fn while_stopped(words: &str) -> Option<(MemoryGroup, Process, Result<Took, Ended>)> {
    let group = MemoryGroup::make("stopped", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let cache = Process::start_filled(&group, CACHE_BYTES, words);
    let mut hog = Hog::start(group.entry());
    stop(&cache.child);
    let taken = hog.take(HOG_BYTES, 2);
    cache.child.signal(Signal::CONT);
    Some((group, cache, taken))
}

/// Returns once the process has stopped.
pub(crate) fn stop(child: &Child) {
    child.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", child.pid());
    // `pid (name) state …`: proc_pid_stat(5).
    while !std::fs::read_to_string(&stat).expect("it lives").contains(") T ") {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn c13_a_stopped_process_that_exposes_nothing_survives() {
    let _alone = alone();
    let Some((group, mut cache, taken)) = while_stopped("max_unoffered=0") else { return };
    assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
    taken.expect("the hog was not killed");
    let found = cache.look().expect("the cache was not killed");
    assert_eq!(found.wrong_pages, 0);
    assert!(found.lost_bytes > 0, "the hog fitted beside it, so nothing was tested");
}

/// The control, and the limit of the promise: a process that is stopped cannot offer.
#[test]
fn control_a_stopped_process_that_exposes_all_gets_somebody_killed() {
    let _alone = alone();
    let Some((group, _cache, taken)) = while_stopped("") else { return };
    assert!(taken.is_err_and(|ended| ended.was_killed()) || group.oom_kills() > 0, "{:?}", group.read());
}

#[test]
fn c13_holds_again_once_a_process_goes_on() {
    let _alone = alone();
    let group = match MemoryGroup::make("stopped", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    let mut hog = Hog::start(group.entry());
    for _ in 0..scale().pick(3, 20) {
        cache.fill().expect("not killed");
        stop(&cache.child);
        cache.child.signal(Signal::CONT);
        let taken = hog.take(HOG_BYTES, 2);
        assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
        taken.and_then(|_| hog.free()).expect("the hog was not killed");
        assert_eq!(cache.look().expect("not killed").wrong_pages, 0);
    }
}
