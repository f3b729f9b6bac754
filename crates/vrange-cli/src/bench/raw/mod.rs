//! `vrange bench raw`: what marks on a program's own memory cost, beside what one would do without the library.
//!
//! One run, interleaved, as for [ranges](super::ranges). The calls of the preloaded library are measured as programs make them:
//! the command starts itself again with the library before libc.

mod at_once;
mod chart;
mod op;
mod ours;
mod peers;
mod targets;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use vrange_os::PAGE_BYTES;

use crate::bench::samples::Samples;
use crate::bench::table::Table;
use crate::bench::targets::{goals, text};
use crate::bench::typed;
use crate::command_line::RawBenchOptions;
use crate::failure::Failure;
use crate::form::Found;
use crate::interrupt::Interrupt;
use crate::run::PRELOAD;
use crate::run::library::{self, Library};
use at_once::AtOnce;
use op::Op;
use ours::Ours;
use peers::Peers;

/// How one size is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Length of a mark.
    bytes: usize,
    /// Length of the mapping that it lies in.
    mapping_bytes: usize,
    rounds: u32,
}

impl Plan {
    /// How many pieces of memory are marked at once in a round, one by one: a single small one would mostly measure how cold the
    /// code is.
    fn pieces(&self) -> usize {
        ((1 << 20) / self.bytes).max(1)
    }

    /// Where in the mapping the mark begins: with pages on both sides, if there is room.
    fn offset_bytes(&self) -> usize {
        (self.mapping_bytes - self.bytes) / 2 / PAGE_BYTES * PAGE_BYTES
    }
}

const PLANS: [Plan; 4] = [
    Plan { bytes: 4 << 10, mapping_bytes: 64 << 20, rounds: 200 },
    Plan { bytes: 64 << 10, mapping_bytes: 64 << 20, rounds: 200 },
    Plan { bytes: 1 << 20, mapping_bytes: 64 << 20, rounds: 60 },
    Plan { bytes: 1 << 30, mapping_bytes: 1 << 30, rounds: 15 },
];

/// The largest mapping of a quick run.
const QUICK_BYTES_MAX: usize = 64 << 20;
const QUICK_ROUNDS: u32 = 5;

/// Measures, and prints rows and whether the goals are reached.
pub(crate) fn run(options: &RawBenchOptions) -> Result<(), Failure> {
    options.form.check()?;
    let preloaded = options.preloaded || preload(options)?;
    let interrupt = Interrupt::listen()?;
    let mut table = Table::default();
    for plan in PLANS.iter().filter(|plan| !options.quick || plan.mapping_bytes <= QUICK_BYTES_MAX) {
        let rounds = if options.quick { QUICK_ROUNDS } else { plan.rounds };
        table.add(plan.bytes, &measure(*plan, rounds, preloaded, &interrupt)?);
    }
    // A signal that came at the very end still counts.
    interrupt.check()?;
    let picture = options.form.picture(|| chart::draw(&table, &typed("raw", options.quick)))?;
    let targets = targets::all(&table);
    let found = Found { results: &table.rows(), goals: goals(&targets), picture };
    options.form.show(options.json, found, || format!("{}\n{}", table.text(), text(&targets)))
}

/// Starts this command again with the library. Returns only if there is no library, which is told, or that fails.
fn preload(options: &RawBenchOptions) -> Result<bool, Failure> {
    let library = match library::find(Library::Preload) {
        Ok(library) => library,
        Err(failure) => {
            eprint!("the calls of the preloaded library are not measured: {}", failure.report());
            return Ok(false);
        }
    };
    let command = std::env::current_exe()
        .map_err(|error| Failure::io("finding", "the path of this command", &error))?;
    let flags = [("--json", options.json), ("--quick", options.quick), ("--bundle", options.form.bundle)];
    let picture = options.form.svg.iter().flat_map(|file| [OsStr::new("--svg"), file.as_os_str()]);
    let error = Command::new(command)
        .args(["bench", "raw", "--preloaded"])
        .args(flags.iter().filter(|(_, wanted)| *wanted).map(|(flag, _)| flag))
        .args(picture)
        .env(PRELOAD, library)
        .exec();
    Err(Failure::io("starting", "this command again", &error))
}

fn measure(plan: Plan, rounds: u32, preloaded: bool, interrupt: &Interrupt) -> Result<Samples<Op>, Failure> {
    let mut ours = Ours::new(plan, preloaded)?;
    let mut peers = Peers::new(plan, preloaded)?;
    let at_once = AtOnce::new(plan, preloaded)?;
    // The first round pays for what is done once, such as starting the reclaimer.
    let mut samples = Samples::default();
    for round in 0..=rounds {
        interrupt.check()?;
        if round == 1 {
            samples = Samples::default();
        }
        if round % 2 == 0 {
            ours.round(&mut samples)?;
            peers.round(&mut samples)?;
            at_once.round(&mut samples, round / 2)?;
        } else {
            at_once.round(&mut samples, round / 2)?;
            peers.round(&mut samples)?;
            ours.round(&mut samples)?;
        }
    }
    Ok(samples)
}
