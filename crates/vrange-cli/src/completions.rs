//! What a shell needs to complete a command line, from the command line's definition.

use clap::{Command, ValueEnum};
use clap_complete::Generator;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::command_line::{self, CompletionsOptions};
use crate::failure::Failure;
use crate::output;

/// The shells that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints what the shell is to read.
///
/// # Errors
/// It cannot be printed.
pub(crate) fn run(options: &CompletionsOptions) -> Result<(), Failure> {
    let script = match options.shell {
        Shell::Bash => script(Bash),
        Shell::Zsh => script(Zsh),
        Shell::Fish => script(Fish),
    };
    output::text(&script)
}

fn script(shell: impl Generator) -> String {
    let mut script = Vec::new();
    let mut definition = shown(&command_line::definition()).version(env!("CARGO_PKG_VERSION"));
    clap_complete::generate(shell, &mut definition, command_line::NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command without what is not for users, which a shell would be told of as well.
fn shown(command: &Command) -> Command {
    let options = command.get_arguments().filter(|option| !option.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set()).map(shown);
    let shown = Command::new(command.get_name().to_owned()).args(options).subcommands(commands);
    match command.get_about() {
        Some(about) => shown.about(about.clone()),
        None => shown,
    }
}
