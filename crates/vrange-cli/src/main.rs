//! The command `vrange`: a demonstration on real files, a report on this machine and on its processes, programs run with
//! volatile memory, and measurements.

mod bench;
mod bundle;
mod colour;
mod command_line;
mod completions;
mod demo;
mod doctor;
mod exporter;
mod failure;
mod form;
mod interrupt;
mod manual;
mod output;
mod parent;
mod processes;
mod report;
mod run;
mod seconds;
mod shuffle;
mod size;
mod stat;
mod top;

use std::process::ExitCode;

use command_line::{Invocation, Job};
use failure::Failure;

fn main() -> ExitCode {
    match command_line::parse().and_then(begin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprint!("{}", failure.styled_report());
            failure.exit_code()
        }
    }
}

fn begin(invocation: Invocation) -> Result<(), Failure> {
    if let Some(parent) = invocation.started_by {
        parent::end_politely_with(parent)?;
    }
    start(invocation.job)
}

fn start(job: Job) -> Result<(), Failure> {
    match job {
        Job::Demo(options) => demo::run(&options),
        Job::DemoProcess(role) => demo::run_process(role),
        Job::Doctor(options) => doctor::run(&options),
        Job::Stat(options) => stat::run(&options),
        Job::Top(options) => top::run(&options),
        Job::Exporter(options) => exporter::run(&options),
        Job::Run(options) => run::run(&options),
        Job::BenchRanges(options) => bench::ranges::run(&options),
        Job::BenchRaw(options) => bench::raw::run(&options),
        Job::BenchMalloc(options) => bench::malloc::run(&options),
        Job::MallocWork(options) => bench::malloc::work(&options),
        Job::BenchCache(options) => bench::cache::run(&options),
        Job::CacheProcess(role) => bench::cache::work(&role),
        Job::Completions(options) => completions::run(&options),
        Job::Report(options) => report::run(&options),
        Job::Manual(options) => manual::run(&options),
    }
}
