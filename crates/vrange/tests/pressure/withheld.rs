//! Kernels that take no offers, or do not tell what is in memory. The reclaimer's last step, to release by itself, needs
//! neither, so that volatile memory is never the cause of an OOM kill there either.

use vrange_testing::{Ended, MemoryGroup, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Found, Process};
use crate::hog::Hog;

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = LIMIT_BYTES / 100 * 80;
const HOG_BYTES: u64 = LIMIT_BYTES / 100 * 70;
/// Ranges in small pages, several to one system call and each for itself, and ranges in huge pages.
const BUFFER_BYTES: [u64; 3] = [MIB / 8, MIB, 16 * MIB];

fn round(cache: &mut Process, hog: &mut Hog) -> Result<Found, Ended> {
    cache.fill()?;
    hog.take(HOG_BYTES, 2)?;
    hog.free()?;
    cache.look()
}

fn group() -> Option<MemoryGroup> {
    MemoryGroup::make("withheld", LIMIT_BYTES).map_err(|why| skipped(&why)).ok()
}

#[track_caller]
fn assert_survives(withheld: &str) {
    let _alone = alone();
    for buffer_bytes in BUFFER_BYTES {
        let Some(group) = group() else { return };
        let words = format!("withheld={withheld} buffer={buffer_bytes}");
        let mut cache = Process::start_filled(&group, CACHE_BYTES, &words);
        let mut hog = Hog::start(group.entry());
        for number in 0..scale().pick(2, 20) {
            let found = round(&mut cache, &mut hog);
            assert_eq!(group.oom_kills(), 0, "{words}, round {number}: {:?}", group.read());
            let found = found.expect("nobody was killed");
            assert_eq!(found.wrong_pages, 0, "{words}, round {number}: {found:?}");
            assert!(
                found.lost_bytes > 0,
                "{words}, round {number}: the hog fitted beside it, so nothing was tested"
            );
        }
    }
}

#[test]
fn c13_holds_where_the_kernel_takes_no_offers() {
    assert_survives("offers");
}

#[test]
fn c13_holds_where_the_page_table_cannot_be_read() {
    assert_survives("page_table");
}

/// The control: the kernel withholds what it does, and nobody releases.
#[test]
fn control_without_the_reclaimer_a_kernel_that_takes_no_offers_kills() {
    let Some(group) = group() else { return };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, CACHE_BYTES, "withheld=offers care=unattended");
    let mut hog = Hog::start(group.entry());
    let killed = (0..3).any(|_| round(&mut cache, &mut hog).is_err_and(|ended| ended.was_killed()));
    assert!(killed && group.oom_kills() > 0, "nobody was killed: {:?}", group.read());
}
