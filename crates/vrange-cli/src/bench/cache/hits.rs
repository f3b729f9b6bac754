//! Hit rates at the same resident memory: how large a cache may count itself is searched until it takes as much memory as the
//! others do.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Size};
use super::peer::{Look, Values};
use super::process::{self, Link};
use super::trace::Trace;
use crate::bench::memory;
use crate::bench::progress::Progress;
use crate::bench::table::significant;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// How far from the budget the memory may be.
const TOLERANCE: f64 = 0.02;
/// How often a size is tried. The memory grows with the size nearly evenly, so two or three do.
const TRIES: u32 = 9;

/// How it is measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Of resident memory.
    pub(super) budget_bytes: u64,
    pub(super) values_bytes: Vec<u64>,
    /// So many keys for each value that the budget could hold if there were no overhead.
    pub(super) keys_times: u64,
    /// So many reads for each of those, before counting, and counted.
    pub(super) warm_up_times: u64,
    pub(super) reads_times: u64,
    /// The least that is read, however few values fit.
    pub(super) reads_min: u64,
}

/// What a process is to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Work {
    kind: Kind,
    size: Size,
    trace: Trace,
    keys: u64,
    warm_up: u64,
    reads: u64,
}

/// What it found.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Report {
    hits: u64,
    reads: u64,
    wrong: u64,
    entries: u64,
    /// Anonymous memory that came with the cache.
    grown_bytes: u64,
}

/// One cache on one trace.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) cache: Kind,
    pub(super) trace: Trace,
    pub(super) value_bytes: u64,
    pub(super) budget_bytes: u64,
    /// The memory that came with the cache, at the size that was found.
    pub(super) resident_bytes: u64,
    /// Whether that is the budget, within 2 %.
    pub(super) is_at_budget: bool,
    /// What the cache was told about its size.
    pub(super) capacity_bytes: u64,
    /// How many sizes were tried.
    pub(super) tries: u32,
    pub(super) entries: u64,
    /// Of 1.
    pub(super) hit_rate: f64,
    /// Memory beyond the values, for each entry.
    pub(super) overhead_bytes: f64,
}

/// Measures every cache on every trace with values of every size.
pub(super) fn measure(plan: &Plan, interrupt: &Interrupt, progress: &Progress) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for value_bytes in &plan.values_bytes {
        for trace in Trace::ALL {
            let what = format!("hit rate, {} of {value_bytes} bytes", trace.name());
            progress.phase(&what, Kind::ALL.len());
            for kind in Kind::ALL {
                rows.push(search(plan, kind, trace, *value_bytes, interrupt)?);
                progress.step();
            }
        }
    }
    Ok(rows)
}

/// Tries sizes until the memory is right. If that does not come about, the nearest is what there is.
fn search(
    plan: &Plan,
    kind: Kind,
    trace: Trace,
    value_bytes: u64,
    interrupt: &Interrupt,
) -> Result<Row, Failure> {
    let fitting = plan.budget_bytes / value_bytes;
    let mut capacity_bytes = plan.budget_bytes;
    let mut nearest: Option<Row> = None;
    let (mut below, mut above) = (None, None);
    for tries in 1..=TRIES {
        let size = Size { capacity_bytes: Some(capacity_bytes), value_bytes };
        let work = Work {
            kind,
            size,
            trace,
            keys: fitting * plan.keys_times,
            warm_up: (fitting * plan.warm_up_times).max(plan.reads_min),
            reads: (fitting * plan.reads_times).max(plan.reads_min),
        };
        let report = ask(work, interrupt)?;
        let row = row(plan, work, capacity_bytes, report);
        if report.grown_bytes > plan.budget_bytes {
            above = Some((capacity_bytes, report.grown_bytes));
        } else {
            below = Some((capacity_bytes, report.grown_bytes));
        }
        let is_nearer = nearest.as_ref().is_none_or(|nearest| off(&row) < off(nearest));
        let is_at_budget = row.is_at_budget;
        nearest = if is_nearer { Some(row) } else { nearest };
        nearest.iter_mut().for_each(|nearest| nearest.tries = tries);
        if is_at_budget {
            break;
        }
        capacity_bytes = next(capacity_bytes, report.grown_bytes, plan.budget_bytes, below, above);
    }
    nearest.ok_or_else(|| Failure::run("no size was tried"))
}

/// The next size: on the line through what is known on both sides of the budget, or, while one side is unknown, in proportion.
fn next(
    capacity_bytes: u64,
    grown_bytes: u64,
    budget_bytes: u64,
    below: Option<(u64, u64)>,
    above: Option<(u64, u64)>,
) -> u64 {
    let scaled = |bytes: u64, over: u64, under: u64| {
        let scaled = u128::from(bytes) * u128::from(over) / u128::from(under.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    match (below, above) {
        (Some((low, low_grown)), Some((high, high_grown))) if low < high && low_grown < high_grown => {
            low + scaled(high - low, budget_bytes - low_grown, high_grown - low_grown)
        }
        _ => scaled(capacity_bytes, budget_bytes, grown_bytes),
    }
}

fn off(row: &Row) -> u64 {
    row.resident_bytes.abs_diff(row.budget_bytes)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn row(plan: &Plan, work: Work, capacity_bytes: u64, report: Report) -> Row {
    let value_bytes = work.size.value_bytes;
    let values_bytes = report.entries * value_bytes;
    let overhead_bytes = report.grown_bytes as f64 - values_bytes as f64;
    let difference = report.grown_bytes.abs_diff(plan.budget_bytes) as f64;
    Row {
        cache: work.kind,
        trace: work.trace,
        value_bytes,
        budget_bytes: plan.budget_bytes,
        resident_bytes: report.grown_bytes,
        is_at_budget: difference <= TOLERANCE * plan.budget_bytes as f64,
        capacity_bytes,
        tries: 1,
        entries: report.entries,
        hit_rate: report.hits as f64 / report.reads.max(1) as f64,
        overhead_bytes: significant(overhead_bytes / report.entries.max(1) as f64),
    }
}

fn ask(work: Work, interrupt: &Interrupt) -> Result<Report, Failure> {
    let mut child = process::start("hits", None, interrupt)?;
    child.send(&work)?;
    let report: Report = child.receive()?;
    child.finish()?;
    if report.wrong > 0 {
        return Err(Failure::run(format!("{} returned {} wrong values", work.kind.name(), report.wrong)));
    }
    Ok(report)
}

/// The process's side.
pub(super) fn work(link: &mut Link) -> Result<(), Failure> {
    let work: Work = link.request()?;
    let value_bytes = usize::try_from(work.size.value_bytes).unwrap_or(usize::MAX);
    let mut values = Values::of(value_bytes);
    let before_bytes = memory::anonymous_bytes()?;
    let cache = work.kind.make(work.size)?;
    let mut report = Report { reads: work.reads, ..Report::default() };
    let mut reads = work.trace.reads(work.keys);
    for number in 0..work.warm_up + work.reads {
        let Some(key) = reads.next() else { break };
        let found = cache.check(key, Look::Ends);
        report.wrong += u64::from(found == Some(false));
        if number >= work.warm_up {
            report.hits += u64::from(found == Some(true));
        }
        if found.is_none() {
            cache.insert(key, values.value(key))?;
        }
    }
    cache.settle();
    report.entries = cache.entries();
    report.grown_bytes = memory::anonymous_bytes()?.saturating_sub(before_bytes);
    link.answer(&report)?;
    // The process ends: to take millions of entries apart before would be time for nothing.
    std::mem::forget(cache);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_size_is_in_proportion_until_both_sides_are_known() {
        assert_eq!(next(100, 200, 100, None, Some((100, 200))), 50);
        assert_eq!(next(50, 80, 100, Some((50, 80)), None), 62);
        // From 80 at 50 to 200 at 100: 100 is a sixth of the way.
        assert_eq!(next(50, 80, 100, Some((50, 80)), Some((100, 200))), 58);
        // What makes no sense is no line.
        assert_eq!(next(50, 80, 100, Some((50, 80)), Some((40, 200))), 62);
    }

    #[test]
    fn overhead_is_what_is_no_value() {
        let plan = Plan {
            budget_bytes: 1000,
            values_bytes: vec![100],
            keys_times: 10,
            warm_up_times: 1,
            reads_times: 1,
            reads_min: 1,
        };
        let work = Work {
            kind: Kind::Moka,
            size: Size { capacity_bytes: Some(900), value_bytes: 100 },
            trace: Trace::Zipf,
            keys: 100,
            warm_up: 1,
            reads: 10,
        };
        let report = Report { hits: 4, reads: 10, wrong: 0, entries: 8, grown_bytes: 1015 };
        let row = row(&plan, work, 900, report);
        assert!(row.is_at_budget);
        assert_eq!((row.hit_rate, row.overhead_bytes), (0.4, 26.9));
    }
}
