//! Where memory may also be swapped: C13 holds, and what was offered is dropped instead of being written out.

use std::num::NonZero;

use vrange_testing::{MemoryGroup, alone, scale, skipped};

use crate::MIB;
use crate::c13::{assert_pressed, round};
use crate::cache::Process;
use crate::hog::{Hog, Way};

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;
/// Too little for what does not fit, so that the group must reclaim.
const SWAP_BYTES: u64 = 32 * MIB;
/// How many pages each processor may keep in a list of its own, out of the reach of offers.
const LISTED_PAGES_MAX: u64 = 31;

fn group(purpose: &str) -> Option<MemoryGroup> {
    MemoryGroup::make_with_swap(purpose, LIMIT_BYTES, SWAP_BYTES).map_err(|why| skipped(&why)).ok()
}

#[test]
fn c13_holds_where_memory_may_be_swapped() {
    let Some(group) = group("swap") else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "");
    let mut hog = Hog::start(group.entry());
    for number in 0..scale().pick(5, 50) {
        let found = round(&mut cache, &mut hog, Way::Touch);
        assert_eq!(group.oom_kills(), 0, "round {number}: {:?}", group.read());
        assert_pressed(found.expect("nobody was killed"), &format!("round {number}"));
    }
}

/// The control: nobody offers, and swap is soon full.
#[test]
fn control_where_memory_may_be_swapped_and_nobody_offers_somebody_is_killed() {
    let Some(group) = group("swap-unattended") else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "care=unattended");
    let mut hog = Hog::start(group.entry());
    let killed =
        (0..3).any(|_| round(&mut cache, &mut hog, Way::Touch).is_err_and(|ended| ended.was_killed()));
    assert!(killed && group.oom_kills() > 0, "nobody was killed: {:?}", group.read());
}

#[test]
fn c07_what_is_offered_is_not_swapped_when_memory_is_short() {
    let Some(group) = group("swap-offered") else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "care=unattended");
    // New pages that wait in a list of a processor's are not reached by the offer.
    cache.drain().expect("not killed");
    cache.offer(u64::MAX).expect("not killed");
    Hog::start(group.entry()).take(HOG_BYTES, 2).expect("not killed");
    let swapped_pages = cache.swapped_pages().expect("not killed");
    println!("{swapped_pages} pages swapped");
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    assert!(swapped_pages <= processors * LISTED_PAGES_MAX, "{swapped_pages} offered pages were swapped");
    assert_eq!(group.oom_kills(), 0);
    assert_pressed(cache.look().expect("not killed"), "after the hog");
}

/// The control: the same memory, and it is swapped.
#[test]
fn control_what_is_not_offered_is_swapped_when_memory_is_short() {
    let Some(group) = group("swap-not-offered") else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "care=unattended");
    // More than is free, less than is free and swap together.
    Hog::start(group.entry()).take(LIMIT_BYTES - CACHE_BYTES + SWAP_BYTES / 4, 2).expect("not killed");
    let swapped_pages = cache.swapped_pages().expect("not killed");
    let found = cache.look().expect("not killed");
    assert_eq!((found.lost_bytes, found.wrong_pages), (0, 0));
    assert!(swapped_pages > 0, "{:?}", group.read());
}
