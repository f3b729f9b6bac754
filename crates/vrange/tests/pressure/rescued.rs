//! Pages that were offered and then rescued stay on the kernel's list of inactive file pages until reclaim looks at them.
//! They look like headroom, and are none.

use vrange_testing::{Ended, MemoryGroup, Signal, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Found, Process, wait_for_headroom};
use crate::hog::Hog;
use crate::starved::stop;

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const OFFERED_BYTES: u64 = LIMIT_BYTES / 100 * 60;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;
const RESERVE_BYTES: u64 = 40 * MIB;

fn round(cache: &mut Process, hog: &mut Hog) -> Result<Found, Ended> {
    cache.fill()?;
    cache.offer(OFFERED_BYTES)?;
    cache.use_all(1)?;
    hog.take(HOG_BYTES, 2)?;
    hog.free()?;
    cache.look()
}

#[test]
fn c13_rescued_pages_are_not_taken_for_headroom() {
    let group = match MemoryGroup::make("rescued", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    let mut hog = Hog::start(group.entry());
    for number in 0..scale().pick(3, 20) {
        let found = round(&mut cache, &mut hog);
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        assert_eq!(found.expect("nobody was killed").wrong_pages, 0, "round {number}");
    }
}

/// What was lost and not looked at since is still offered as far as the library knows; it must not be taken for what the
/// kernel's lists show, which is what was rescued.
#[test]
fn c13_losses_that_nobody_has_seen_do_not_hide_what_was_rescued() {
    let group = match MemoryGroup::make("unseen-losses", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    for number in 0..scale().pick(3, 20) {
        let mut cache = Process::start_filled(&group, CACHE_BYTES, &format!("reserve={RESERVE_BYTES}"));
        let mut hog = Hog::start(group.entry());
        let mut part = || {
            cache.offer(CACHE_BYTES)?;
            // Takes half of the cache, the coldest, which is the first. While the process is stopped the kernel has to do it,
            // and tells nobody.
            stop(&cache.child);
            hog.take(HOG_BYTES / 100 * 85, 2)?;
            cache.child.signal(Signal::CONT);
            // What is left of it is used, and so none of it is there for the taking any more.
            cache.use_last(100)?;
            wait_for_headroom(&group, &[&cache], RESERVE_BYTES / 10 * 9);
            hog.take(HOG_BYTES / 100 * 15, 2)?;
            hog.free()?;
            cache.look()
        };
        let found = part();
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        assert_eq!(found.expect("nobody was killed").wrong_pages, 0, "round {number}");
    }
}

/// The control: a loop that believes the lists.
#[test]
fn control_that_takes_rescued_pages_for_headroom_is_killed() {
    let group = match MemoryGroup::make("believing", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    let killed = (0..10).any(|_| {
        let mut cache = Process::start_filled(&group, CACHE_BYTES, "care=lists");
        let mut hog = Hog::start(group.entry());
        round(&mut cache, &mut hog).is_err_and(|ended| ended.was_killed())
    });
    assert!(killed && group.oom_kills() > 0, "nobody was killed: {:?}", group.read());
}
