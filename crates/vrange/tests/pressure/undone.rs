//! Offers that came undone behind the library's back: the kernel has copied the pages into huge pages, which are dirty, as
//! khugepaged does whenever it likes. The library's table says offered, and the kernel will not take them.

use vrange_testing::{Ended, MemoryGroup, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Found, Process};
use crate::hog::{Hog, Way};

const LIMIT_BYTES: u64 = 256 * MIB;
/// In 12 buffers of 16 MiB.
const CACHE_BYTES: u64 = 192 * MIB;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;

/// A cache of which all is offered. `None`: no group can be made.
fn offered(words: &str) -> Option<(MemoryGroup, Process)> {
    let group = MemoryGroup::make("undone", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()?;
    let words = format!("buffer={} small_pages {words}", 16 * MIB);
    let mut cache = Process::start_filled(&group, CACHE_BYTES, &words);
    cache.offer(CACHE_BYTES).expect("not killed");
    assert!(cache.takable_bytes() > CACHE_BYTES / 10 * 9, "{} bytes", cache.takable_bytes());
    Some((group, cache))
}

/// The same, made undone: the kernel can take none of it, until it is offered again. `None`: cannot be tried here.
fn undone(words: &str) -> Option<(MemoryGroup, Process)> {
    let (group, mut cache) = offered(words)?;
    if let Err(answer) = cache.collapse().expect("not killed") {
        skipped(&format!("no huge page can be made of small ones: {answer}"));
        return None;
    }
    Some((group, cache))
}

fn beside_a_hog(group: &MemoryGroup, cache: &mut Process, way: Way) -> Result<Found, Ended> {
    let mut hog = Hog::start(group.entry());
    hog.take_by(HOG_BYTES, 1, way)?;
    hog.free()?;
    cache.look()
}

#[test]
fn c13_offers_that_came_undone_are_made_again() {
    let _alone = alone();
    for number in 0..scale().pick(3, 20) {
        for way in [Way::Slow, Way::Touch] {
            let Some((group, mut cache)) = undone("") else { return };
            let found = beside_a_hog(&group, &mut cache, way);
            assert_eq!(group.oom_kills(), 0, "round {number}, {way:?}: {:?}", group.read());
            let found = found.expect("nobody was killed");
            println!("round {number}, {way:?}: {found:?}, {}", cache.totals());
            assert_eq!(found.wrong_pages, 0, "round {number}, {way:?}: {found:?}");
        }
    }
}

/// The control: a loop that offers what is not offered yet, and trusts that what is stays so.
#[test]
fn control_that_trusts_offers_is_killed_when_they_come_undone() {
    let _alone = alone();
    let Some((group, mut cache)) = undone("care=lists") else { return };
    // Nobody offers it again here. (A reclaimer may have done so before one looks.)
    assert!(cache.takable_bytes() < CACHE_BYTES / 10, "{} bytes", cache.takable_bytes());
    let ended = beside_a_hog(&group, &mut cache, Way::Slow);
    assert!(ended.is_err_and(|ended| ended.was_killed()) && group.oom_kills() > 0, "{:?}", group.read());
}

/// The same loop where they do not: it is their coming undone that kills.
#[test]
fn control_that_trusts_offers_survives_while_they_hold() {
    let _alone = alone();
    let Some((group, mut cache)) = offered("care=lists") else { return };
    let ended = beside_a_hog(&group, &mut cache, Way::Slow);
    assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
    assert_eq!(ended.expect("nobody was killed").wrong_pages, 0);
}
