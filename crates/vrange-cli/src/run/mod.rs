//! `vrange run`: a program as it is, with the library before libc.

pub(crate) mod library;
mod program;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::command_line::RunOptions;
use crate::failure::Failure;

/// The dynamic linker loads what stands in it before everything else.
pub(crate) const PRELOAD: &str = "LD_PRELOAD";
const MODE: &str = "VRANGE_MODE";

/// Becomes the program. Returns only if that fails.
///
/// # Errors
/// There is no such program, it cannot be run, or it would run without the library: a program that is statically linked, that
/// runs with other rights than ours, or that was made for another kind of machine.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    let library = library::find()?;
    let path = program::find(&options.command)?;
    program::check(&path)?;
    let mut preload = library.into_os_string();
    // What the user has preloaded himself comes after.
    if let Some(others) = std::env::var_os(PRELOAD).filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let mode = if options.paired { "paired" } else { "implicit" };
    let error = Command::new(&path)
        .arg0(&options.command)
        .args(&options.arguments)
        .env(PRELOAD, preload)
        .env(MODE, mode)
        .exec();
    Err(Failure::cannot_run(format!("cannot run {}: {error}", path.display())))
}
