//! `cargo xtask soak`: what is too long for every change.
//!
//! The tests read `VRANGE_TEST_SCALE` (`ci`, the default, or `soak`) and choose their rounds by it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::command::CommandExt;
use crate::sanitize::{self, Sanitizer};
use crate::summary::Summary;
use crate::workspace::Workspace;

/// Name of the variable by which the tests choose how long they run.
const SCALE: &str = "VRANGE_TEST_SCALE";

/// How long to soak.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Begin the whole round again until this many minutes have passed; one round at least.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
}

/// Runs every test in its long form, the sanitizers and the model checker, and prints a table.
///
/// # Errors
/// Any step of any round failed; the others have run all the same.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let wanted = Duration::from_secs(options.minutes.saturating_mul(60));
    let begin = Instant::now();
    let mut summary = Summary::default();
    let mut round = 1;
    loop {
        run_round(workspace, round, &mut summary);
        if begin.elapsed() >= wanted {
            break;
        }
        round += 1;
    }
    println!("\n{summary}");
    match summary.failures() {
        0 => Ok(()),
        failures => bail!("soak: {failures} of {} steps failed", summary.len()),
    }
}

fn run_round(workspace: &Workspace, round: usize, summary: &mut Summary) {
    summary.run(format!("round {round}: all tests, release, long form"), || {
        let mut command = workspace.cargo();
        command.args(["test", "--workspace", "--release", "--locked", "--no-fail-fast"]).env(SCALE, "soak");
        run_step(&mut command)
    });
    for sanitizer in [Sanitizer::Address, Sanitizer::Thread] {
        summary.run(format!("round {round}: all tests of the library, {}", sanitizer.name()), || {
            let mut command = sanitize::test_command(workspace, sanitizer)?;
            command.args(sanitize::suite_arguments(sanitizer.suites().iter().copied()));
            run_step(command.args(["--no-fail-fast", "--"]).args(sanitizer.test_arguments()))
        });
    }
    summary.run(format!("round {round}: loom, more preemptions"), || {
        let mut command = workspace.cargo();
        command
            .args(["test", "--package", "vrange", "--package", "vrange-cache"])
            .args(["--release", "--locked", "--lib", "loom"])
            .arg("--target-dir")
            .arg(workspace.target_folder().join("loom"))
            .env("RUSTFLAGS", "--cfg loom")
            .env("LOOM_MAX_PREEMPTIONS", "4");
        run_step(&mut command)
    });
}

/// Runs a step whose success needs no remark.
fn run_step(command: &mut Command) -> Result<String> {
    command.run().map(|()| String::new())
}
