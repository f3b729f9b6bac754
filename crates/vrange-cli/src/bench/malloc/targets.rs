//! The goals of marks.

use super::load::Load;
use super::results::Results;
use super::setting::{Allocator, Config};
use crate::bench::targets::Target;

/// What marks ought to be worth with one allocator. Each has its name in the table and its number.
struct Goals {
    allocator: Allocator,
    /// Speed against that in other configurations.
    speeds: &'static [(&'static str, f64, Config)],
    resident: (&'static str, f64),
}

/// jemalloc expects zeros where it was told that memory is gone, so that what was not lost has to be cleared before it is used again:
/// that is a memset where the others do nothing. How fast that can be at best is what [`Config::Cleared`] shows.
const GOALS: [Goals; 3] = [
    Goals {
        allocator: Allocator::Tcmalloc,
        speeds: &[
            ("tcmalloc with marks, speed against keep", 0.95, Config::Keep),
            ("tcmalloc with marks, speed against dontneed", 8.0, Config::Dontneed),
        ],
        resident: ("tcmalloc with marks, memory against dontneed", 1.2),
    },
    Goals {
        allocator: Allocator::Jemalloc,
        speeds: &[
            ("jemalloc with marks, speed against keep", 0.7, Config::Keep),
            ("jemalloc with marks, speed against dontneed", 5.0, Config::Dontneed),
            ("jemalloc with marks, speed against cleared", 0.95, Config::Cleared),
            ("jemalloc with marks, speed against free", 1.0, Config::Free),
        ],
        resident: ("jemalloc with marks, memory against dontneed", 1.2),
    },
    Goals {
        allocator: Allocator::Mimalloc,
        speeds: &[
            ("mimalloc with marks, speed against keep", 0.95, Config::Keep),
            ("mimalloc with marks, speed against dontneed", 8.0, Config::Dontneed),
            ("mimalloc with marks, speed against free", 1.0, Config::Free),
        ],
        resident: ("mimalloc with marks, memory against dontneed", 1.2),
    },
];

/// Compares what was measured with what it ought to be. Of several loads the worst counts.
pub(super) fn all(results: &Results) -> Vec<Target> {
    GOALS.iter().flat_map(|goals| of(goals, results)).collect()
}

fn of(goals: &Goals, results: &Results) -> Vec<Target> {
    let marks = goals.allocator.with(Config::Marks);
    let slowest = |to| {
        let ratio = |load: &Load| Some((*load, results.speed_ratio(*load, marks, to)?));
        results.loads().iter().filter_map(ratio).min_by(|left, right| left.1.total_cmp(&right.1))
    };
    let speed = |&(what, goal, to): &(&'static str, f64, Config)| {
        let found = slowest(to);
        Target {
            what,
            goal: format!("at least {goal} times"),
            found: describe(found),
            reached: found.map(|(_, ratio)| ratio >= goal),
        }
    };
    goals.speeds.iter().map(speed).chain([resident(goals, results)]).collect()
}

/// Memory in use at the end of the rest.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn resident(goals: &Goals, results: &Results) -> Target {
    let (what, goal) = goals.resident;
    let bytes = |load, config| {
        results.medians(load, goals.allocator.with(config)).map(|medians| medians.resident_bytes as f64)
    };
    let ratio = |load: &Load| Some((*load, bytes(*load, Config::Marks)? / bytes(*load, Config::Dontneed)?));
    let found = results.loads().iter().filter_map(ratio).max_by(|left, right| left.1.total_cmp(&right.1));
    Target {
        what,
        goal: format!("at most {goal} times"),
        found: describe(found),
        reached: found.map(|(_, ratio)| ratio <= goal),
    }
}

fn describe(found: Option<(Load, f64)>) -> String {
    found.map_or("not measured".to_owned(), |(load, ratio)| format!("{ratio:.2} times ({})", load.title()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::malloc::results::tests::{CHURN, SEARCH, report};
    use crate::bench::targets::text;

    #[test]
    fn the_worst_load_counts_and_what_is_missing_is_not_reached() {
        let mut results = Results::new(vec![CHURN, SEARCH]);
        assert!(all(&results).iter().all(|target| target.reached.is_none()));
        for (load, keep, dontneed, marks) in [(CHURN, 100.0, 10.0, 96.0), (SEARCH, 100.0, 10.0, 79.0)] {
            results.add(load, Allocator::Tcmalloc.with(Config::Keep), report(keep, 80));
            results.add(load, Allocator::Tcmalloc.with(Config::Dontneed), report(dontneed, 10));
            results.add(load, Allocator::Tcmalloc.with(Config::Marks), report(marks, 12));
        }
        let targets = all(&results);
        let reached: Vec<_> = targets.iter().take(3).map(|target| target.reached).collect();
        assert_eq!(reached, [Some(false), Some(false), Some(true)]);
        assert_eq!(targets[1].found, "7.90 times (search, 1 thread)");
        assert!(text(&targets).contains("NOT reached"));
        assert!(targets.iter().skip(3).all(|target| target.reached.is_none()));
    }
}
