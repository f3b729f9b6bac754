//! The goals, and whether this run reached them.

use super::footprint::Footprint;
use super::idle::Idle;
use super::op::Op;
use crate::bench::table::{Table, human_ns};
use crate::bench::targets::{Target, over};
use crate::size::human;

const MIB: usize = 1 << 20;

/// Compares everything that was measured with what it ought to be. Of several sizes the worst counts.
pub(super) fn all(table: &Table<Op>, footprint: &Footprint, idle: &Idle) -> Vec<Target> {
    let mut targets = costs(table);
    targets.push(wait(table));
    targets.extend(state(footprint));
    targets.extend(idling(idle));
    targets
}

fn costs(table: &Table<Op>) -> Vec<Target> {
    let pairs = || table.all_ns(Op::UnpinPin).map(|(_, ns)| ns);
    let slowest_pair = pairs().reduce(f64::max);
    // One call of the two, on a range of the same size, measured in turns with ours.
    let flag_calls = table
        .worst(|table, bytes| table.ns(Op::UnpinPin, bytes), Op::VmaFlagPair)
        .map(|of_two_calls| 0.5 / of_two_calls);
    let free_mib = table.ns(Op::MadvFree, MIB);
    let fastest_pair = pairs().reduce(f64::min);
    let huge = table
        .all_ns(Op::Offer)
        .filter(|(bytes, _)| *bytes > MIB)
        .map(|(bytes, ns)| per_mib(ns, bytes))
        .last();
    vec![
        Target::at_least("unpin+pin, against one flag madvise", 30.0, flag_calls),
        Target::at_least("unpin+pin, against MADV_FREE of 1 MiB", 1000.0, over(free_mib, slowest_pair)),
        Target::at_most("unpin+pin, slowest size against fastest", 2.0, over(slowest_pair, fastest_pair)),
        Target::at_most(
            "offer of small pages, against bare MADV_FREE",
            1.3,
            table.worst(offer_ns, Op::MadvFree),
        ),
        Target::at_least("offer, huge pages against small ones", 10.0, over(table.ns(Op::Offer, MIB), huge)),
        Target::at_least(
            "rescue, against refaulting",
            8.0,
            table.worst(|table, bytes| table.ns(Op::Rescue, bytes), Op::Refault).map(|ratio| 1.0 / ratio),
        ),
    ]
}

/// The way the reclaimer offers ranges of small pages: together. (On huge pages the bare call is next to nothing, and
/// the look at every page, which makes loss known to the page, is what an offer costs: a goal of its own.)
fn offer_ns(table: &Table<Op>, bytes: usize) -> Option<f64> {
    if bytes <= MIB { table.ns(Op::OfferMany, bytes) } else { None }
}

fn wait(table: &Table<Op>) -> Target {
    const GOAL_NS: f64 = 1e6;
    let found = table.all_ns(Op::PinWhileOffering).next();
    Target {
        what: "a pin while others are offered, p99.9",
        goal: "at most 1 ms".to_owned(),
        found: found.map_or("not measured".to_owned(), |(bytes, ns)| {
            format!("{} while {} are offered", human_ns(ns), human(u64::try_from(bytes).unwrap_or(0)))
        }),
        reached: found.map(|(_, ns)| ns <= GOAL_NS),
    }
}

#[expect(clippy::cast_precision_loss, reason = "few pages")]
fn state(footprint: &Footprint) -> [Target; 2] {
    let goal_bytes = 64.0 + footprint.pages as f64 / 4.0;
    [
        Target {
            what: "state of a range",
            goal: format!("at most 64 B and 2 bits a page: {goal_bytes} B"),
            found: format!("{:.1} B for {} pages", footprint.state_bytes, footprint.pages),
            reached: Some(footprint.state_bytes <= goal_bytes),
        },
        Target {
            what: "pin of a range lost whole",
            goal: "no more resident memory".to_owned(),
            found: format!(
                "{} for {}",
                human(footprint.pin_lost_bytes),
                human(u64::try_from(footprint.lost_bytes).unwrap_or(0))
            ),
            // The stack and the allocator may touch a page or two; one page in a thousand would be 64 of 256 MiB.
            reached: Some(footprint.pin_lost_bytes <= 64 << 10),
        },
    ]
}

fn idling(idle: &Idle) -> [Target; 2] {
    [
        Target {
            what: "idle, nothing volatile",
            goal: "no wake-ups".to_owned(),
            found: idle.wake_ups.map_or("no thread".to_owned(), |wake_ups| format!("{wake_ups}")),
            reached: Some(idle.wake_ups.unwrap_or(0) == 0),
        },
        Target {
            what: "idle, no pressure",
            goal: "under 0.1 % of a processor".to_owned(),
            found: format!(
                "{:.3} % with {} volatile",
                idle.processor_share * 100.0,
                human(u64::try_from(idle.volatile_bytes).unwrap_or(0))
            ),
            reached: Some(idle.processor_share < 0.001),
        },
    ]
}

#[expect(clippy::cast_precision_loss, reason = "sizes of ranges")]
fn per_mib(ns: f64, bytes: usize) -> f64 {
    ns / (bytes as f64 / MIB as f64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::samples::Samples;
    use crate::bench::targets::text;

    #[test]
    fn the_worst_size_counts() {
        let mut table = Table::default();
        for (bytes, offer_us, free_us) in [(MIB / 2, 20, 20), (MIB, 60, 30), (16 * MIB, 10, 1)] {
            let mut samples = Samples::default();
            samples.add(Op::Offer, Duration::from_micros(offer_us), 1);
            samples.add(Op::OfferMany, Duration::from_micros(offer_us), 1);
            samples.add(Op::MadvFree, Duration::from_micros(free_us), 1);
            table.add(bytes, &samples);
        }
        let targets = costs(&table);
        let offer = &targets[3];
        assert_eq!(offer.reached, Some(false));
        assert_eq!(offer.found, "2.00 times");
        let huge = &targets[4];
        assert_eq!(huge.reached, Some(true), "60 µs a MiB against 0.6: {huge:?}");
        assert_eq!(targets[0].reached, None);
        assert!(text(&targets).contains("NOT reached"));
    }
}
