//! Many processes see the same headroom: each does its part, and no more is lost than must be.

use vrange_testing::{Ended, MemoryGroup, Signal, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Process, wait_for_headroom};
use crate::hog::Hog;
use crate::order::needed_bytes;
use crate::starved::stop;

const LIMIT_BYTES: u64 = 256 * MIB;
const PROCESSES: u64 = 8;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80 / PROCESSES;
/// What hogs take, of the limit. The largest needs nearly all; of the smaller ones it can be seen that no more goes than must.
const HOG_PER_CENT: [u64; 4] = [70, 40, 60, 50];
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 60;
/// What each is told to keep as headroom: what it would by itself on a machine that is not too busy.
const RESERVE_BYTES: u64 = 40 * MIB;

fn start(group: &MemoryGroup, words: &str) -> Vec<Process> {
    let words = format!("buffer=262144 {words}");
    (0..PROCESSES).map(|_| Process::start_filled(group, CACHE_BYTES, &words)).collect()
}

/// All at once: each makes its cache full again.
fn fill(caches: &mut [Process]) -> Result<(), Ended> {
    caches.iter_mut().for_each(|cache| cache.begin_filling());
    caches.iter_mut().try_for_each(|cache| cache.end_filling().map(drop))
}

/// All are full, and a hog takes so many per cent of the limit. What was needed and what was lost, in bytes.
fn round(
    group: &MemoryGroup,
    caches: &mut [Process],
    hog: &mut Hog,
    per_cent: u64,
) -> Result<(u64, u64), Ended> {
    let hog_bytes = LIMIT_BYTES / 100 * per_cent;
    fill(caches)?;
    let needed_bytes = needed_bytes(group, hog_bytes);
    hog.take(hog_bytes, 2)?;
    hog.free()?;
    let found: Vec<_> = caches.iter_mut().map(Process::look).collect::<Result<_, _>>()?;
    assert!(found.iter().all(|found| found.wrong_pages == 0), "{found:?}");
    Ok((needed_bytes, found.iter().map(|found| found.lost_bytes).sum()))
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
    let sizes = HOG_PER_CENT.into_iter().cycle();
    for (number, per_cent) in sizes.take(scale().pick(HOG_PER_CENT.len(), 50)).enumerate() {
        let outcome = round(&group, &mut caches, &mut hog, per_cent);
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        let (needed_bytes, lost_bytes) = outcome.expect("nobody was killed");
        println!("{per_cent} %: needed {} MiB, lost {} MiB", needed_bytes / MIB, lost_bytes / MIB);
        assert!(lost_bytes > 0, "round {number}: the hog fitted beside the caches, so nothing was tested");
        assert!(
            lost_bytes <= needed_bytes / 2 * 3 + RESERVE_BYTES,
            "round {number}, {per_cent} %: needed {needed_bytes}, lost {lost_bytes}"
        );
    }
}

/// The control: nobody offers.
#[test]
fn control_beside_eight_processes_without_reclaimers_somebody_is_killed() {
    let group = match MemoryGroup::make("many-unattended", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    let mut caches = start(&group, "care=unattended");
    let mut hog = Hog::start(group.entry());
    let outcome = round(&group, &mut caches, &mut hog, HOG_PER_CENT[0]);
    assert!(outcome.is_err_and(|ended| ended.was_killed()), "{:?}", group.read());
    assert!(group.oom_kills() > 0);
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
