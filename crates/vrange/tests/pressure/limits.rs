//! Limits that change, that are hidden, and that cannot be seen at all.

use std::time::{Duration, Instant};

use vrange_os::cgroup::Version;
use vrange_testing::{Ended, Job, MemoryGroup, alone, skipped};

use crate::MIB;
use crate::cache::Process;
use crate::hog::Hog;

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;

/// Version 1 refuses (EBUSY) a limit that reclaim cannot reach at once, and leaves the old one; but reclaim wakes the
/// reclaimer, so that the next try gets further. Version 2 has `memory.high` for this: `memory.max` kills.
#[test]
fn c13_a_limit_may_be_lowered_while_the_cache_is_full() {
    const LOWERED_BYTES: u64 = 96 * MIB;
    let _alone = alone();
    let group = match MemoryGroup::make("lowered", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    let until = Instant::now() + Duration::from_secs(30);
    let mut limit_bytes = LIMIT_BYTES;
    while limit_bytes > LOWERED_BYTES || group.usage_bytes() > LOWERED_BYTES {
        assert!(Instant::now() < until, "still at {limit_bytes} bytes: {:?}", group.read());
        // As an administrator does who wants it done: a step at a time.
        let step_bytes = limit_bytes.saturating_sub(8 * MIB).max(LOWERED_BYTES);
        match group.version() {
            Version::V1 if group.set_limit(step_bytes).is_ok() => limit_bytes = step_bytes,
            Version::V1 => {}
            // Reclaims what it can at once, and leaves the rest to later allocations, of which there are none here: so
            // it is written again once the reclaimer has offered.
            Version::V2 => {
                group.set_high(LOWERED_BYTES).expect("memory.high");
                limit_bytes = LOWERED_BYTES;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let found = cache.look().expect("the cache was not killed");
    assert_eq!((group.oom_kills(), found.wrong_pages), (0, 0));
    assert!(found.kept_bytes > 0, "it was not necessary to lose everything: {found:?}");
}

/// A hog in the group of a cache that sees its cgroups as the words say.
fn beside_a_hog(purpose: &str, words: &str) -> Option<(MemoryGroup, Result<(), Ended>)> {
    let group = MemoryGroup::make(purpose, LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let mut cache = Process::start_filled(&group, CACHE_BYTES, words);
    let mut hog = Hog::start(group.entry());
    let ended = hog.take(HOG_BYTES, 2).and_then(|_| hog.free()).and_then(|()| cache.look());
    Some((group, ended.map(|found| assert_eq!(found.wrong_pages, 0))))
}

#[test]
fn c13_holds_where_the_cgroup_files_can_only_be_read() {
    let _alone = alone();
    let Some((group, ended)) = beside_a_hog("read-only", "cgroups=read_only") else { return };
    assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
    ended.expect("nobody was killed");
}

#[test]
fn c13_a_process_that_sees_no_cgroup_and_exposes_nothing_survives() {
    let _alone = alone();
    let Some((group, ended)) = beside_a_hog("unseen", "cgroups=hidden max_unoffered=0") else { return };
    assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
    ended.expect("nobody was killed");
}

/// The limit of the promise: a limit that cannot be seen cannot be kept. Data is kept instead (C14).
#[test]
fn control_a_process_that_sees_no_cgroup_gets_somebody_killed() {
    let _alone = alone();
    let Some((group, ended)) = beside_a_hog("unseen", "cgroups=hidden") else { return };
    assert!(ended.is_err_and(|ended| ended.was_killed()) && group.oom_kills() > 0, "{:?}", group.read());
}

/// As [`beside_a_hog`], with the cache in a group without a limit of its own, below the limited one, which it cannot see.
fn below_a_hidden_limit(words: &str) -> Option<(u64, Result<(), Ended>)> {
    let parent = MemoryGroup::make("hidden-parent", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let home = parent.make_below("child", 1 << 40).map_err(|why| skipped(&why)).ok()?;
    let beside = parent.make_below("hog", 1 << 40).map_err(|why| skipped(&why)).ok()?;
    let job = Job::new(format!("cache bytes={CACHE_BYTES} {words}")).enter(home.entry());
    let mut cache = Process::start_job(job);
    let mut hog = Hog::start(beside.entry());
    let ended = hog.take(HOG_BYTES, 2).and_then(|_| hog.free()).and_then(|()| cache.look());
    let ended = ended.map(|found| assert_eq!(found.wrong_pages, 0));
    Some((home.oom_kills() + beside.oom_kills(), ended))
}

#[test]
fn c13_a_limit_of_the_parent_is_kept() {
    let _alone = alone();
    let Some((oom_kills, ended)) = below_a_hidden_limit("") else { return };
    assert_eq!(oom_kills, 0);
    ended.expect("nobody was killed");
}

#[test]
fn c13_a_process_below_a_hidden_limit_that_exposes_nothing_survives() {
    let _alone = alone();
    let Some((oom_kills, ended)) = below_a_hidden_limit("cgroups=own_only max_unoffered=0") else { return };
    assert_eq!(oom_kills, 0);
    ended.expect("nobody was killed");
}

/// The limit of the promise, once more.
#[test]
fn control_a_process_below_a_hidden_limit_gets_somebody_killed() {
    let _alone = alone();
    let Some((oom_kills, ended)) = below_a_hidden_limit("cgroups=own_only") else { return };
    assert!(ended.is_err_and(|ended| ended.was_killed()) && oom_kills > 0);
}
