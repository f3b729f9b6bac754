//! Many processes see the same headroom: each does its part, and no more is lost than must be.

use vrange_testing::{MemoryGroup, Signal, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Process, wait_for_headroom};
use crate::hog::Hog;
use crate::order::needed_bytes;
use crate::starved::stop;

const LIMIT_BYTES: u64 = 256 * MIB;
const PROCESSES: u64 = 8;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 78 / PROCESSES;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 60;
/// What each is told to keep as headroom: what it would by itself on a machine that is not too busy.
const RESERVE_BYTES: u64 = 40 * MIB;

fn start(group: &MemoryGroup, words: &str) -> Vec<Process> {
    let words = format!("buffer=262144 {words}");
    (0..PROCESSES).map(|_| Process::start_filled(group, CACHE_BYTES, &words)).collect()
}

#[test]
fn c13_eight_processes_lose_together_what_is_needed() {
    let group = match MemoryGroup::make("many", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    let mut caches = start(&group, &format!("reserve={RESERVE_BYTES}"));
    let mut hog = Hog::start(group.entry());
    let needed_bytes = needed_bytes(&group, HOG_BYTES);
    let taken = hog.take(HOG_BYTES, 1);
    assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
    taken.and_then(|_| hog.free()).expect("nobody was killed");

    let found: Vec<_> = caches.iter_mut().map(|cache| cache.look().expect("not killed")).collect();
    assert_eq!(group.oom_kills(), 0);
    assert!(found.iter().all(|found| found.wrong_pages == 0), "{found:?}");
    let lost_bytes: u64 = found.iter().map(|found| found.lost_bytes).sum();
    println!("needed {} MiB, lost {} MiB", needed_bytes / MIB, lost_bytes / MIB);
    assert!(
        lost_bytes <= needed_bytes / 2 * 3 + RESERVE_BYTES,
        "needed {needed_bytes}, lost {lost_bytes}: {found:?}"
    );
}

/// What one process has rescued looks like headroom to all the others too.
#[test]
fn c13_what_eight_processes_have_rescued_is_not_taken_for_headroom() {
    const FIRST_HOG_BYTES: u64 = 64 * MIB;
    let group = match MemoryGroup::make("many-rescued", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    for number in 0..scale().pick(2, 20) {
        let mut caches = start(&group, &format!("reserve={RESERVE_BYTES}"));
        let mut hog = Hog::start(group.entry());
        // What is free is filled while nobody looks. Then all that is offered is used, so that none of it is there for the
        // taking any more, though the kernel's lists still show it.
        for cache in &mut caches {
            cache.offer(CACHE_BYTES).expect("not killed");
            stop(&cache.child);
        }
        hog.take(FIRST_HOG_BYTES, 1).expect("not killed");
        for cache in &mut caches {
            cache.child.signal(Signal::CONT);
            cache.use_all(1).expect("not killed");
        }
        wait_for_headroom(&group, &caches.iter().collect::<Vec<_>>(), RESERVE_BYTES / 10 * 9);
        let taken = hog.take(HOG_BYTES - FIRST_HOG_BYTES, 2);
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        taken.expect("the hog was not killed");
        for cache in &mut caches {
            assert_eq!(cache.look().expect("not killed").wrong_pages, 0);
        }
    }
}
