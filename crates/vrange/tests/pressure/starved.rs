//! Processes that cannot offer: throttled, stopped, frozen, or last in line for a processor. `max_unoffered` bounds what they expose.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vrange_testing::{Child, Ended, Job, MemoryGroup, Signal, SplitGroup, StopAtEnd, alone, scale, skipped};

use crate::MIB;
use crate::cache::Process;
use crate::hog::{Hog, Took};

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;
const QUOTA: f64 = 0.1;

/// Rounds of a hog beside a cache with a quota on processor time, until somebody is killed. `None`: cannot be tried here.
fn throttled_rounds(words: &str, rounds: u32) -> Option<Result<(), Ended>> {
    let group = SplitGroup::with_quota("throttled", LIMIT_BYTES, QUOTA).map_err(|why| skipped(&why)).ok()?;
    let mut cache = start_held(&group, words);
    let mut hog = Hog::start(group.beside_entry());
    let mut round = || {
        cache.fill()?;
        hog.take(HOG_BYTES, 2)?;
        hog.free()?;
        assert_eq!(cache.look()?.wrong_pages, 0);
        Ok(())
    };
    let ended = (0..rounds).try_for_each(|_| round());
    assert_eq!(group.whole().oom_kills() > 0, ended.is_err(), "{ended:?}");
    Some(ended)
}

/// A cache among the processes that are held back.
fn start_held(group: &SplitGroup, words: &str) -> Process {
    let job = Job::new(format!("cache bytes={CACHE_BYTES} {words}"));
    Process::start_job(group.held_entries().into_iter().fold(job, Job::enter))
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
    // The first rounds nearly always do it; on a busy machine the hog is slow, too.
    let Some(ended) = throttled_rounds(&format!("reserve={}", 40 * MIB), 60) else { return };
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

/// A cache, and a hog that takes memory while the cache is frozen.
fn while_frozen(words: &str) -> Option<(SplitGroup, Process, Result<Took, Ended>)> {
    let group = SplitGroup::with_freezer("frozen", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let cache = start_held(&group, words);
    let mut hog = Hog::start(group.beside_entry());
    group.freeze();
    let taken = hog.take(HOG_BYTES, 2);
    group.thaw();
    Some((group, cache, taken))
}

#[test]
fn c13_a_frozen_process_that_exposes_nothing_survives() {
    let _alone = alone();
    let Some((group, mut cache, taken)) = while_frozen("max_unoffered=0") else { return };
    assert_eq!(group.whole().oom_kills(), 0, "{:?}", group.whole().read());
    taken.expect("the hog was not killed");
    let found = cache.look().expect("the cache was not killed");
    assert_eq!(found.wrong_pages, 0);
    assert!(found.lost_bytes > 0, "the hog fitted beside it, so nothing was tested");
}

/// The control, and the limit of the promise: a process that is frozen cannot offer.
#[test]
fn control_a_frozen_process_that_exposes_all_gets_somebody_killed() {
    let _alone = alone();
    let Some((group, _cache, taken)) = while_frozen("") else { return };
    let kills = group.whole().oom_kills();
    assert!(taken.is_err_and(|ended| ended.was_killed()) || kills > 0, "{:?}", group.whole().read());
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

/// Rounds of a hog beside a cache that runs only when nobody else wants to, until somebody is killed. Others always want to:
/// threads of this process keep every processor busy.
fn idle_rounds(words: &str, rounds: u32) -> Option<Result<(), Ended>> {
    let group = MemoryGroup::make("idle", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let mut cache = Process::start_filled(&group, CACHE_BYTES, &format!("idle {words}"));
    let mut hog = Hog::start(group.entry());
    let mut round = || {
        cache.fill()?;
        beside_busy_threads(|| hog.take(HOG_BYTES, 2))?;
        hog.free()?;
        assert_eq!(cache.look()?.wrong_pages, 0);
        Ok(())
    };
    let ended = (0..rounds).try_for_each(|_| round());
    assert_eq!(group.oom_kills() > 0, ended.is_err(), "{ended:?}");
    Some(ended)
}

/// Does `work` while every processor has something to do all the time.
fn beside_busy_threads<T>(work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&done);
        for _ in 0..processors {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        work()
    })
}

#[test]
fn c13_a_process_that_runs_only_when_idle_and_exposes_nothing_survives() {
    let _alone = alone();
    let Some(ended) = idle_rounds("max_unoffered=0", scale().pick(3, 20)) else { return };
    ended.expect("nobody was killed");
}

/// The control, and the limit of the promise: a reclaimer that does not get to run cannot offer. A new process each time, with
/// a reserve that does not grow with what it sees.
#[test]
fn control_a_process_that_runs_only_when_idle_and_exposes_all_is_killed() {
    let _alone = alone();
    for attempt in 0..10 {
        let Some(ended) = idle_rounds(&format!("reserve={}", 40 * MIB), 1) else { return };
        if let Err(ended) = ended {
            println!("killed at attempt {attempt}");
            return assert!(ended.was_killed());
        }
    }
    panic!("nobody was killed");
}
