//! The project's own chores, run as `cargo xtask CHORE`.
//!
//! Each chore is a module with a `run` function. What several of them need (finding the workspace, running a
//! program and saying clearly how it failed) is in [`workspace`] and [`command`].

mod command;
mod header;
mod install;
mod msrv;
mod sanitize;
mod soak;
mod summary;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Check the house rules that a program can check: layers, banned calls, lengths, comments.
    Tidy,
    /// Check that no locked dependency needs a newer Rust than the workspace promises.
    Msrv,
    /// Write the C header, or check that it is as its functions are.
    Header(header::Options),
    /// Build everything and put it where programs look: command, libraries, header, manual pages, completions.
    Install(install::Options),
    /// Run the tests of the library under AddressSanitizer or ThreadSanitizer.
    Sanitize(sanitize::Options),
    /// Run the long forms of all tests and print a summary table.
    Soak(soak::Options),
    /// Boot Debian's stock kernels under QEMU and run the library's tests in them, on cgroup v2.
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let chore = Chore::parse();
    let outcome = Workspace::find().and_then(|workspace| match chore {
        Chore::Tidy => tidy::run(&workspace),
        Chore::Msrv => msrv::run(&workspace),
        Chore::Header(options) => header::run(&workspace, &options),
        Chore::Install(options) => install::run(&workspace, &options),
        Chore::Sanitize(options) => sanitize::run(&workspace, &options),
        Chore::Soak(options) => soak::run(&workspace, &options),
        Chore::Vm(options) => vm::run(&workspace, &options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
