//! `vrange bench malloc`: programs that allocate and free, on allocators that keep what is freed, give it back, or mark it.
//!
//! A setting is an allocator in one of its configurations, a load is a workload in some threads. Each is measured in a process of
//! its own ([`process`]): this program again, which Rust has call whatever `malloc` is preloaded. All settings take turns, round by
//! round, every other round backwards, and medians over the rounds are compared: what disturbs the machine disturbs all of them.

mod block;
mod chart;
mod child;
mod launch;
mod lazy;
mod load;
mod process;
mod results;
mod setting;
mod targets;
pub(crate) mod version;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bench::machine::Machine;
use crate::bench::progress::Progress;
use crate::bench::targets::{goals, text};
use crate::bench::typed;
use crate::command_line::MallocBenchOptions;
use crate::failure::Failure;
use crate::form::Found;
use crate::interrupt::Interrupt;
use child::Times;
use launch::{Launch, Libraries};
use load::Load;
pub(crate) use process::run as work;
use results::Results;
use setting::Setting;
pub(crate) use workload::Workload;

/// How everything is measured.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: u32,
    /// How many of them end with a rest and a look at memory, which varies less than speed does.
    rests: u32,
    warm_up: Duration,
    work: Duration,
    rest: Duration,
    /// How long the library leaves alone what is marked before it gives it back: less than the rest, so that what is in use then is
    /// what a program holds that has nothing to do.
    decay: Duration,
}

const PLAN: Plan = Plan {
    rounds: 9,
    rests: 3,
    warm_up: Duration::from_millis(300),
    work: Duration::from_millis(1000),
    rest: Duration::from_millis(2000),
    decay: Duration::from_millis(1000),
};

const QUICK: Plan = Plan {
    rounds: 1,
    rests: 1,
    warm_up: Duration::from_millis(20),
    work: Duration::from_millis(50),
    rest: Duration::from_millis(300),
    decay: Duration::from_millis(100),
};

/// A look whether a setting can be had at all: enough work to mark something.
const PROBE: Times = Times { warm_up: Duration::ZERO, work: Duration::from_millis(20), rest: None };

impl Plan {
    fn times(&self, round: u32) -> Times {
        let rest = (round < self.rests).then_some(self.rest);
        Times { warm_up: self.warm_up, work: self.work, rest }
    }
}

/// Measures, and prints rows and whether the goals are reached.
pub(crate) fn run(options: &MallocBenchOptions) -> Result<(), Failure> {
    options.form.check()?;
    let interrupt = Interrupt::listen()?;
    let plan = if options.quick { QUICK } else { PLAN };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results = Results::new(Load::all(u32::try_from(processors).unwrap_or(u32::MAX)));
    let launches = probe(plan, &mut results, &interrupt)?;
    let is_quiet = options.form.is_for_a_program(options.json);
    measure(plan, launches, &mut results, &interrupt, is_quiet)?;
    let picture = options.form.picture(|| chart::draw(&results, &plan, &typed("malloc", options.quick)))?;
    let targets = targets::all(&results);
    let found = Found { results: &results.rows(), goals: goals(&targets), picture };
    options.form.show(options.json, found, || {
        format!("{}\n\n{}{}", Machine::look().describe(), results.text(), text(&targets))
    })
}

/// Which settings this machine has; why it has not the others goes into the results.
fn probe(
    plan: Plan,
    results: &mut Results,
    interrupt: &Interrupt,
) -> Result<BTreeMap<Setting, Launch>, Failure> {
    let libraries = Libraries::find();
    let load = Load { workload: Workload::Churn, threads: 1 };
    let mut launches = BTreeMap::new();
    for setting in Setting::all() {
        let outcome = match Launch::new(setting, &libraries, plan.decay) {
            Ok(launch) => child::run(&launch, load, PROBE, interrupt)?.map(|_| launch),
            Err(why) => Err(why),
        };
        match outcome {
            Ok(launch) => drop(launches.insert(setting, launch)),
            Err(why) => results.give_up(setting, why),
        }
    }
    Ok(launches)
}

fn measure(
    plan: Plan,
    mut launches: BTreeMap<Setting, Launch>,
    results: &mut Results,
    interrupt: &Interrupt,
    quiet: bool,
) -> Result<(), Failure> {
    let progress = Progress::new(quiet);
    let loads = results.loads().to_vec();
    for round in 0..plan.rounds {
        for (number, load) in loads.iter().enumerate() {
            let what = format!("round {} of {}: {}", round + 1, plan.rounds, load.title());
            progress.phase(&what, launches.len());
            let mut turns: Vec<_> = launches.keys().copied().collect();
            if (usize::try_from(round).unwrap_or(0) + number) % 2 == 1 {
                turns.reverse();
            }
            for setting in turns {
                let outcome = child::run(&launches[&setting], *load, plan.times(round), interrupt)?;
                progress.step();
                match outcome {
                    Ok(report) => results.add(*load, setting, report),
                    Err(why) => {
                        launches.remove(&setting);
                        results.give_up(setting, why);
                    }
                }
            }
        }
    }
    Ok(())
}
