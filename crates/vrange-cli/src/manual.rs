//! The pages of the manual, one a command, from the command line's definition.

use crate::command_line::{self, ManualOptions};
use crate::failure::Failure;

/// Writes `vrange.1`, and a page for each command that is shown to users.
///
/// # Errors
/// A page cannot be written.
pub(crate) fn run(options: &ManualOptions) -> Result<(), Failure> {
    clap_mangen::generate_to(command_line::definition(), &options.directory).map_err(|error| {
        Failure::io("writing the manual into", options.directory.display(), &error)
            .hint("give a directory that exists and that you may write to")
    })
}
