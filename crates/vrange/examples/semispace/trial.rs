//! The same program under each policy, round by round, and what it took.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::half::{Held, Layout, Policy};
use crate::program::{Checked, Program};

/// Collections before anything is measured, after which both halves were in use.
const WARM_UP: u32 = 2;
/// Collections after memory was short.
const AFTERWARDS: u32 = 2;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) rounds: usize,
    /// In each round, of each policy.
    pub(crate) collections: u32,
}

/// What one run showed.
#[derive(Clone, Copy, Debug)]
struct Figures {
    time: Duration,
    pause: Duration,
    /// After a collection, while memory is plentiful.
    plentiful: Held,
    /// After a collection and a shortage of memory.
    short: Held,
}

/// The medians of a policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) policy: Policy,
    pub(crate) time: Duration,
    /// The median of the ratios to the policy `nothing` in the same round.
    pub(crate) ratio: f64,
    /// Of one collection.
    pub(crate) pause: Duration,
    pub(crate) plentiful: Held,
    pub(crate) short: Held,
}

/// What all runs showed.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    plan: Plan,
    /// Collections after which everything was right, of all runs.
    pub(crate) checked_collections: u32,
    pub(crate) rows: Vec<Row>,
}

/// Runs everything. What is wrong in a heap is an error.
pub(crate) fn run(plan: Plan) -> Result<Report, Box<dyn Error>> {
    if plan.rounds == 0 || plan.collections == 0 {
        return Err("there is nothing to measure".into());
    }
    let mut figures = Policy::ALL.map(|_| Vec::new());
    let mut checked_collections = 0;
    for round in 0..plan.rounds {
        let mut seen = None;
        for turn in 0..Policy::ALL.len() {
            // Another one comes first in each round.
            let number = (round + turn) % Policy::ALL.len();
            let (found, checked) = run_once(plan, Policy::ALL[number], round)?;
            if *seen.get_or_insert(checked) != checked {
                return Err(format!("{} has seen other data", Policy::ALL[number].name()).into());
            }
            checked_collections += checked.collections;
            figures[number].push(found);
        }
    }
    let rows = Policy::ALL.into_iter().zip(&figures).map(|(policy, of_policy)| {
        let ratios =
            of_policy.iter().zip(&figures[0]).map(|(one, nothing)| one.time.div_duration_f64(nothing.time));
        Row {
            policy,
            time: median(of_policy.iter().map(|one| one.time)),
            ratio: median(ratios),
            pause: median(of_policy.iter().map(|one| one.pause)) / plan.collections,
            plentiful: median_held(of_policy.iter().map(|one| one.plentiful)),
            short: median_held(of_policy.iter().map(|one| one.short)),
        }
    });
    Ok(Report { plan, checked_collections, rows: rows.collect() })
}

fn run_once(plan: Plan, policy: Policy, seed: usize) -> Result<(Figures, Checked), Box<dyn Error>> {
    let mut program = Program::new(plan.layout, policy, seed)?;
    program.run(WARM_UP)?;
    let took = program.run(plan.collections)?;
    program.collect()?;
    let plentiful = program.held()?;
    program.squeeze()?;
    let short = program.held()?;
    program.run(AFTERWARDS)?;
    Ok((Figures { time: took.time, pause: took.pause, plentiful, short }, program.checked()))
}

fn median<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("times and sizes have an order"));
    values[values.len() / 2]
}

fn median_held(values: impl Iterator<Item = Held> + Clone) -> Held {
    Held {
        open_bytes: median(values.clone().map(|held| held.open_bytes)),
        closed_bytes: median(values.map(|held| held.closed_bytes)),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { layout, rounds, collections } = self.plan;
        let pages = if layout.huge_pages { "huge" } else { "small" };
        writeln!(
            f,
            "halves of {} in {pages} pages; {rounds} rounds of {collections} collections; medians",
            mib(layout.half_bytes)
        )?;
        writeln!(
            f,
            "                processor time   a collection   in memory   of it idle   after a shortage"
        )?;
        for row in &self.rows {
            let (name, time, ratio) = (row.policy.name(), row.time.as_secs_f64() * 1e3, row.ratio);
            let pause = row.pause.as_secs_f64() * 1e3;
            let (held, idle) = (mib(row.plentiful.bytes()), mib(row.plentiful.closed_bytes));
            let short = mib(row.short.bytes());
            writeln!(
                f,
                "{name:<9} {time:>9.1} ms ({ratio:.2} ×)   {pause:>9.1} ms   {held:>9}   {idle:>10}   {short:>16}"
            )?;
        }
        write!(f, "every object was right after each of {} collections", self.checked_collections)
    }
}

fn mib(bytes: usize) -> String {
    // Exact for anything that fits into memory.
    let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    format!("{:.1} MiB", f64::from(kib) / 1024.0)
}
