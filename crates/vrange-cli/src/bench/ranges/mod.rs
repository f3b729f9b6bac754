//! `vrange bench ranges`: what each operation on a range costs, beside what one would do without the library.
//!
//! Everything is measured in one run, interleaved: a round does each operation of ours and of every peer once, the next
//! round does them the other way round, and medians over the rounds are compared. So what disturbs the machine disturbs
//! all of them, and ratios hold where times do not.

mod chart;
mod footprint;
mod idle;
mod op;
mod ours;
mod peers;
mod tail;
mod targets;

use crate::bench::samples::Samples;
use crate::bench::table::Table;
use crate::bench::targets::{goals, text};
use crate::bench::typed;
use crate::command_line::BenchOptions;
use crate::failure::Failure;
use crate::form::Found;
use crate::interrupt::Interrupt;
pub(crate) use op::Op;
use ours::Ours;
use peers::Peers;

/// How one size is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Length of a range.
    bytes: usize,
    /// How many ranges take part in a round. Small ones are offered by the hundred, as the reclaimer does.
    ranges: usize,
    rounds: u32,
}

const PLANS: [Plan; 5] = [
    Plan { bytes: 4 << 10, ranges: 256, rounds: 60 },
    Plan { bytes: 64 << 10, ranges: 16, rounds: 60 },
    Plan { bytes: 1 << 20, ranges: 4, rounds: 40 },
    Plan { bytes: 16 << 20, ranges: 1, rounds: 20 },
    Plan { bytes: 256 << 20, ranges: 1, rounds: 7 },
];

/// The largest range of a quick run.
const QUICK_BYTES_MAX: usize = 16 << 20;
const QUICK_ROUNDS: u32 = 3;

/// Measures, and prints rows and whether the goals are reached.
pub(crate) fn run(options: &BenchOptions) -> Result<(), Failure> {
    options.form.check()?;
    let interrupt = Interrupt::listen()?;
    let mut table = Table::default();
    for plan in PLANS.iter().filter(|plan| !options.quick || plan.bytes <= QUICK_BYTES_MAX) {
        let rounds = if options.quick { QUICK_ROUNDS } else { plan.rounds };
        table.add(plan.bytes, &measure(*plan, rounds, &interrupt)?);
    }
    let wait = tail::measure(options.quick)?;
    if let Some(ns) = wait.p999_ns {
        table.add_one(Op::PinWhileOffering, wait.offered_bytes, ns);
    }
    interrupt.check()?;
    let footprint = footprint::measure(options.quick)?;
    let idle = idle::measure(options.quick)?;
    // A signal that came at the very end still counts.
    interrupt.check()?;
    let mut rows = table.rows();
    rows.extend(footprint.rows());
    rows.push(idle.row());
    let picture = options.form.picture(|| chart::draw(&table, &typed("ranges", options.quick)))?;
    let targets = targets::all(&table, &footprint, &idle);
    let found = Found { results: &rows, goals: goals(&targets), picture };
    options.form.show(options.json, found, || format!("{}\n{}", table.text(), text(&targets)))
}

fn measure(plan: Plan, rounds: u32, interrupt: &Interrupt) -> Result<Samples<Op>, Failure> {
    let mut ours = Ours::new(plan.bytes, plan.ranges)?;
    let mut peers = Peers::new(plan.bytes, plan.ranges)?;
    // The first round pays for what is done once, such as starting the reclaimer.
    let mut warm_up = Samples::default();
    ours.round(&mut warm_up)?;
    peers.round(&mut warm_up)?;
    let mut samples = Samples::default();
    for round in 0..rounds {
        interrupt.check()?;
        if round % 2 == 0 {
            ours.round(&mut samples)?;
            peers.round(&mut samples)?;
        } else {
            peers.round(&mut samples)?;
            ours.round(&mut samples)?;
        }
    }
    Ok(samples)
}
