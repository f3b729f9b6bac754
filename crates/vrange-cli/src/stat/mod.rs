//! `vrange stat`: what the processes of this machine have in volatile memory, once or again and again.

mod figures;
#[cfg(test)]
pub(crate) mod samples;
mod table;

use std::time::Duration;

use serde::Serialize;

use crate::command_line::StatOptions;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;
use crate::processes::{Found, Wanted, Watch};
pub(crate) use figures::{ClosedFigures, HeapFigures, LevelFigures, ProcessFigures};

/// All that is printed as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was seen.
    pub(crate) processes: Vec<ProcessFigures>,
    /// What could not be looked into.
    pub(crate) closed: Vec<ClosedFigures>,
}

impl Report {
    pub(crate) fn of(found: &Found) -> Self {
        Self {
            processes: found.open.iter().map(ProcessFigures::of).collect(),
            closed: found.closed.iter().map(ClosedFigures::of).collect(),
        }
    }
}

/// Prints what is wanted.
///
/// # Errors
/// A process that was asked for is not there, or cannot be looked into: the others are printed all the same.
pub(crate) fn run(options: &StatOptions) -> Result<(), Failure> {
    let Some(every) = options.watch else {
        let print = |report: &Report| {
            if options.json { output::json(report) } else { output::text(&table::text(report)) }
        };
        return once(&options.processes, print);
    };
    let wanted = Wanted::of(&options.processes);
    let mut watch = Watch::default();
    let interrupt = Interrupt::listen()?;
    loop {
        let report = Report::of(&look(&mut watch, &wanted)?);
        if options.json {
            output::json_line(&report)?;
        } else {
            output::text(&format!("{}\n", table::text(&report)))?;
        }
        if interrupt.sleep(Duration::from_secs_f64(every)).is_err() {
            // As it was meant to end.
            return Ok(());
        }
    }
}

/// Prints, once, what is wanted, for people.
///
/// # Errors
/// As for [`run`].
pub(crate) fn print(processes: &[String]) -> Result<(), Failure> {
    once(processes, |report| output::text(&table::text(report)))
}

fn once(processes: &[String], print: impl Fn(&Report) -> Result<(), Failure>) -> Result<(), Failure> {
    let wanted = Wanted::of(processes);
    let found = look(&mut Watch::default(), &wanted)?;
    let report = Report::of(&found);
    print(&report)?;
    complaint(&wanted, &found, &report)
}

/// Looks at what is wanted.
pub(crate) fn look(watch: &mut Watch, wanted: &Wanted) -> Result<Found, Failure> {
    watch.look(wanted).map_err(|error| Failure::io("reading", "/proc", &error))
}

/// What was asked for by number or name and is not shown.
fn complaint(wanted: &Wanted, found: &Found, report: &Report) -> Result<(), Failure> {
    let mut complaints = wanted.missing(found);
    if wanted.is_some() {
        complaints.extend(
            report
                .closed
                .iter()
                .map(|closed| format!("{} ({}): {}", closed.pid, closed.name, closed.message)),
        );
    }
    if complaints.is_empty() { Ok(()) } else { Err(Failure::run(complaints.join("; "))) }
}
