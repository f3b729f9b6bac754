//! `vrange bench cache`: this project's cache beside others, which need to be told how large they may get.
//!
//! Four parts, each in a file of its own: [`gets`] (how fast a hit is), [`hits`] (how often there is one, with as much memory as
//! the others take), [`tenant`] (hits served beside a tenant that grows and shrinks) and [`handback`] (how fast memory is given up).
//! The first runs here, with all caches in turns; of the others each run is in a process of its own ([`process`]).

mod chart;
mod gets;
mod handback;
mod hits;
mod kind;
mod peer;
mod peers;
mod process;
mod row;
mod serve;
mod targets;
mod tenant;
mod text;
mod trace;
mod zipf;

use std::time::Duration;

use clap::ValueEnum;

use crate::bench::machine::{Machine, load_average};
use crate::bench::progress::Progress;
use crate::bench::targets as goals;
use crate::command_line::CacheBenchOptions;
use crate::demo::group::Home;
use crate::failure::Failure;
use crate::form::Found as Shown;
use crate::interrupt::Interrupt;
pub(crate) use process::{Role, run as work};
use row::Row;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Why a part was not measured.
const NOT_WANTED: &str = "not asked for";

/// How everything is measured.
#[derive(Clone, Debug)]
struct Plan {
    gets: gets::Plan,
    hits: hits::Plan,
    tenant: tenant::Plan,
    handback: handback::Plan,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// How fast a hit is.
    Get,
    /// How often there is one, at equal memory.
    HitRate,
    /// Hits served beside a tenant that grows and shrinks.
    Tenant,
    /// How fast memory is handed back.
    Handback,
}

/// All that was found.
#[derive(Debug)]
struct Found {
    gets: gets::Gets,
    hits: Vec<hits::Row>,
    /// Or why that could not be measured.
    tenants: Result<tenant::Tenants, String>,
    handbacks: Result<Vec<handback::Row>, String>,
}

impl Plan {
    fn full(rounds: u32) -> Self {
        Self {
            gets: gets::Plan { rounds, work: Duration::from_millis(200), data_bytes: 128 * MIB },
            hits: hits::Plan {
                budget_bytes: 128 * MIB,
                values_bytes: vec![64, KIB, 64 * KIB],
                keys_times: 10,
                warm_up_times: 2,
                reads_times: 1,
                reads_min: 500_000,
            },
            tenant: tenant::Plan {
                limit_bytes: 512 * MIB,
                low_bytes: 50 * MIB,
                high_bytes: 400 * MIB,
                value_bytes: 64 * KIB,
                data_bytes: 1024 * MIB,
                miss: Duration::from_micros(100),
                growths: 3,
                stay: Duration::from_millis(2500),
                rounds: 4,
                trial_growths: 3,
                trial_stay: Duration::from_millis(300),
                step_bytes: 4 * MIB,
            },
            handback: handback::Plan {
                limit_bytes: 512 * MIB,
                cached_bytes: 320 * MIB,
                handed_bytes: 256 * MIB,
                left_bytes: 16 * MIB,
                values_bytes: vec![KIB, 64 * KIB],
                rounds: 9,
            },
        }
    }

    /// Shows that everything runs, not how fast.
    fn quick() -> Self {
        let full = Self::full(1);
        Self {
            gets: gets::Plan { rounds: 1, work: Duration::from_millis(5), data_bytes: 4 * MIB },
            hits: hits::Plan {
                budget_bytes: 16 * MIB,
                values_bytes: vec![KIB],
                warm_up_times: 3,
                reads_times: 1,
                reads_min: 1000,
                ..full.hits
            },
            tenant: tenant::Plan {
                limit_bytes: 128 * MIB,
                low_bytes: 12 * MIB,
                high_bytes: 80 * MIB,
                data_bytes: 256 * MIB,
                growths: 2,
                stay: Duration::from_millis(200),
                rounds: 1,
                trial_growths: 1,
                trial_stay: Duration::from_millis(20),
                step_bytes: 8 * MIB,
                ..full.tenant
            },
            handback: handback::Plan {
                limit_bytes: 128 * MIB,
                cached_bytes: 72 * MIB,
                handed_bytes: 48 * MIB,
                rounds: 1,
                ..full.handback
            },
        }
    }
}

/// Measures, and prints rows and whether the goals are reached.
pub(crate) fn run(options: &CacheBenchOptions) -> Result<(), Failure> {
    options.form.check()?;
    let interrupt = Interrupt::listen()?;
    let plan = if options.quick { Plan::quick() } else { Plan::full(options.rounds) };
    let progress = Progress::new(options.form.is_for_a_program(options.json));
    let is_wanted = |part| options.part.is_empty() || options.part.contains(&part);
    let load_before = load_average();
    let found = measure(&plan, is_wanted, &interrupt, &progress)?;
    drop(progress);
    // A signal that came at the very end still counts, and so does one that had a part given up.
    interrupt.check()?;
    let picture = match &found.tenants {
        Ok(tenants) => options.form.picture(|| chart::draw(tenants, &plan.tenant, &command(options)))?,
        Err(_) => None,
    };
    let targets = targets::all(&found);
    let shown = Shown { results: &found.rows(), goals: goals::goals(&targets), picture };
    options.form.show(options.json, shown, || {
        let machine = Machine::look().describe();
        let load = format!("load average {load_before} before, {} after", load_average());
        format!("{machine}; {load}\n\n{}{}", text::all(&found, &plan), goals::text(&targets))
    })
}

/// What has to be typed for the same.
fn command(options: &CacheBenchOptions) -> String {
    let mut command = "vrange bench cache".to_owned();
    let parts = options.part.iter().filter_map(Part::to_possible_value);
    command.extend(parts.map(|part| format!(" --part {}", part.get_name())));
    if options.quick {
        command += " --quick";
    } else {
        command += &format!(" --rounds {}", options.rounds);
    }
    command
}

fn measure(
    plan: &Plan,
    is_wanted: impl Fn(Part) -> bool,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Found, Failure> {
    let mut found = Found {
        gets: gets::Gets::default(),
        hits: Vec::new(),
        tenants: Err(NOT_WANTED.to_owned()),
        handbacks: Err(NOT_WANTED.to_owned()),
    };
    if is_wanted(Part::Get) {
        found.gets = gets::measure(plan.gets, interrupt, progress)?;
    }
    if is_wanted(Part::HitRate) {
        found.hits = hits::measure(&plan.hits, interrupt, progress)?;
    }
    if !is_wanted(Part::Tenant) && !is_wanted(Part::Handback) {
        return Ok(found);
    }
    let home = Home::find().map_err(|reason| format!("no memory cgroup can be made: {reason}"));
    if is_wanted(Part::Tenant) {
        found.tenants = match &home {
            Ok(home) => Ok(tenant::measure(&plan.tenant, home, interrupt, progress)?),
            Err(reason) => Err(reason.clone()),
        };
    }
    if is_wanted(Part::Handback) {
        found.handbacks = match &home {
            Ok(home) => Ok(handback::measure(&plan.handback, home, interrupt, progress)?),
            Err(reason) => Err(reason.clone()),
        };
    }
    Ok(found)
}

impl Found {
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<_> = self.gets.rows().into_iter().map(Row::Get).collect();
        rows.extend(self.hits.iter().cloned().map(Row::HitRate));
        match &self.tenants {
            Ok(tenants) => rows.extend(tenants.rows().into_iter().map(Row::Tenant)),
            Err(reason) => rows.push(Row::NotMeasured { part: "tenant", reason: reason.clone() }),
        }
        match &self.handbacks {
            Ok(handbacks) => rows.extend(handbacks.iter().cloned().map(Row::Handback)),
            Err(reason) => rows.push(Row::NotMeasured { part: "handback", reason: reason.clone() }),
        }
        rows
    }
}
