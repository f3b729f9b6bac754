//! The pages of the manual, one a command, from the command line's definition.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::command_line::{self, ManualOptions};
use crate::failure::{EXIT_CODES, Failure};

/// Writes `vrange.1`, and a page for each command that is shown to users.
///
/// # Errors
/// A page cannot be written.
pub(crate) fn run(options: &ManualOptions) -> Result<(), Failure> {
    let mut definition = command_line::definition().disable_help_subcommand(true);
    // Gives each command its whole name, and the options that all have.
    definition.build();
    write(&definition, &options.directory).map_err(|error| {
        Failure::io("writing the manual into", options.directory.display(), &error)
            .hint("give a directory that exists and that you may write to")
    })
}

fn write(command: &Command, directory: &Path) -> io::Result<()> {
    let shown = || command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in shown() {
        write(command, directory)?;
    }
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if shown().next().is_some() {
        page.render_subcommands_section(&mut text)?;
    }
    text.extend_from_slice(exit_status().as_bytes());
    if command.get_version().is_some() {
        page.render_version_section(&mut text)?;
    }
    fs::write(directory.join(page.get_filename()), text)
}

/// The section on exit codes, as man(7) has it.
fn exit_status() -> String {
    let entries =
        EXIT_CODES.iter().map(|(code, meaning)| format!(".TP\n.B {code}\n{}\n", meaning.replace('-', "\\-")));
    format!(".SH \"EXIT STATUS\"\n{}", entries.collect::<String>())
}
