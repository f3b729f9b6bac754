//! `vrange run`: a program as it is, with the library before libc.

mod allocator;
pub(crate) mod environment;
pub(crate) mod library;
mod loaded;
mod preload;
mod program;
pub(crate) mod setup;
mod symbols;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::command_line::RunOptions;
use crate::failure::Failure;

/// The dynamic linker loads what stands in it before everything else.
pub(crate) const PRELOAD: &str = "LD_PRELOAD";

/// Becomes the program. Returns only if that fails.
///
/// # Errors
/// There is no such program, it cannot be run, or it would run without the library: a program that is statically linked, that
/// runs with other rights than ours, or that was made for another kind of machine or C library. Or it would run without the
/// allocator that was asked for.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    // The command line has at least one word.
    let (name, arguments) = options.command.split_first().ok_or_else(|| Failure::usage("no program"))?;
    let path = program::find(name)?;
    let program = program::check(&path)?;
    let others = preload::Preload::read(&std::env::var_os(PRELOAD).unwrap_or_default());
    let setup = setup::choose(options.malloc, &program, &others)?;
    let library = library::find(setup.library)?.into_os_string();
    let preload = match setup.brought {
        Some(brought) => others.after([library, brought.into()]),
        None => others.after([library]),
    };
    let malloc_conf = std::env::var_os(environment::MALLOC_CONF).unwrap_or_default();
    if let Some(warning) = &setup.warning {
        eprintln!("warning: {warning}");
    }
    let error = Command::new(&path)
        .arg0(name)
        .args(arguments)
        .env(PRELOAD, preload)
        .envs(environment::variables(options, &setup, &malloc_conf))
        .exec();
    Err(Failure::cannot_run(format!("cannot run {}: {error}", path.display())))
}
