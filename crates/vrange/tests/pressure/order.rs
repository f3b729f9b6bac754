//! How much goes, and in which order.

use vrange_testing::{MemoryGroup, alone, scale, skipped};

use crate::MIB;
use crate::cache::{Process, order_of_use};
use crate::hog::Hog;

const LIMIT_BYTES: u64 = 256 * MIB;
const CACHE_BYTES: u64 = 205 * MIB;
/// What a cache here is told to keep as headroom: what it would by itself on a machine that is not too busy.
const RESERVE_BYTES: u64 = 40 * MIB;
/// No divisor in common with the number of buffers (190), and far from 1: the order of use is not that of addresses.
const STRIDE: usize = 73;

/// What a hog of this size needs beyond what is free or clean page cache.
pub(crate) fn needed_bytes(group: &MemoryGroup, hog_bytes: u64) -> u64 {
    let reading = group.read();
    let clean_bytes = reading.file.page_cache_bytes.unwrap_or(0).saturating_sub(reading.file.dirty_bytes);
    let free_bytes = LIMIT_BYTES.saturating_sub(reading.usage_bytes) + clean_bytes;
    hog_bytes.saturating_sub(free_bytes)
}

#[test]
fn no_more_is_lost_than_is_needed() {
    for hog_mib in scale().pick([90, 170].as_slice(), &[60, 90, 120, 150, 180]) {
        let group = match MemoryGroup::make("precision", LIMIT_BYTES) {
            Ok(group) => group,
            Err(why) => return skipped(&why),
        };
        let _alone = alone();
        let mut cache = Process::start_filled(&group, CACHE_BYTES, &format!("reserve={RESERVE_BYTES}"));
        let mut hog = Hog::start(group.entry());
        let needed_bytes = needed_bytes(&group, hog_mib * MIB);
        let taken = hog.take(hog_mib * MIB, 1);
        assert_eq!(group.oom_kills(), 0, "{:?}", group.read());
        taken.and_then(|_| hog.free()).expect("not killed");
        let found = cache.look().expect("not killed");
        println!("needed {} MiB, lost {}; {}", needed_bytes / MIB, found.lost_bytes / MIB, cache.totals());
        assert_eq!(found.wrong_pages, 0);
        assert!(
            found.lost_bytes <= needed_bytes / 4 * 5 + RESERVE_BYTES,
            "needed {needed_bytes}, lost {}, {}",
            found.lost_bytes,
            cache.totals()
        );
    }
}

#[test]
fn c08_the_coldest_go_first_under_real_pressure() {
    let group = match MemoryGroup::make("order", LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => return skipped(&why),
    };
    let _alone = alone();
    let mut cache = Process::start_filled(&group, 190 * MIB, &format!("reserve={RESERVE_BYTES}"));
    assert_eq!(cache.use_all(STRIDE).expect("not killed"), 0, "nothing is lost before there is need");
    let mut hog = Hog::start(group.entry());
    hog.take(140 * MIB, 2).and_then(|_| hog.free()).expect("not killed");
    let lost = cache.lost_bytes_by_buffer().expect("not killed");
    // From the one that was used first, which is the coldest.
    let kept: Vec<_> = order_of_use(lost.len(), STRIDE).map(|index| MIB - lost[index]).collect();
    let order = order_by_age(&kept).expect("some are lost, some are kept");
    println!("order by age: {order:.3}");
    assert!(order > 0.9, "{order}: kept bytes, oldest first: {kept:?}");
}

/// How well what was kept follows from age: Spearman's rank correlation, divided by the one that the same numbers have when
/// sorted. The division makes up for ties, of which there are many: most buffers are kept whole or lost whole.
fn order_by_age(kept_bytes: &[u64]) -> Option<f64> {
    let mut sorted = kept_bytes.to_vec();
    sorted.sort_unstable();
    let best = covariance_with_place(&sorted);
    (best > 0).then(|| ratio(covariance_with_place(kept_bytes), best))
}

/// Of the ranks of `values` with their places, up to a constant factor. Twice the ranks and places from the middle, so that
/// whole numbers do.
fn covariance_with_place(values: &[u64]) -> i64 {
    let count_as = |wanted: std::cmp::Ordering, value: u64| {
        i64::try_from(values.iter().filter(|other| (*other).cmp(&value) == wanted).count()).expect("few")
    };
    let rank =
        |value: u64| count_as(std::cmp::Ordering::Less, value) - count_as(std::cmp::Ordering::Greater, value);
    let last = i64::try_from(values.len()).expect("few") - 1;
    values.iter().zip(0..).map(|(value, place)| rank(*value) * (2 * place - last)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio that is compared with a round number")]
fn ratio(of: i64, to: i64) -> f64 {
    of as f64 / to as f64
}

#[test]
fn the_measure_of_order_is_one_for_sorted_and_minus_one_for_reversed() {
    assert_eq!(order_by_age(&[0, 0, 0, 7, 7]), Some(1.0));
    assert_eq!(order_by_age(&[3, 2, 1]), Some(-1.0));
    assert_eq!(order_by_age(&[0, 7, 7, 0]), Some(0.0));
    assert_eq!(order_by_age(&[5, 5]), None);
}
