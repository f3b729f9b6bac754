//! Running other programs, with errors that say which program failed and how.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// What the chores ask of a [`Command`] beyond the standard library.
pub(crate) trait CommandExt {
    /// Runs the command with our own terminal; a failure is an error that repeats the command line.
    fn run(&mut self) -> Result<()>;

    /// Runs the command, captures its standard output as text and lets its standard error through.
    fn output_text(&mut self) -> Result<String>;
}

impl CommandExt for Command {
    fn run(&mut self) -> Result<()> {
        let line = command_line(self);
        let status = self.status().with_context(|| format!("cannot start `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed: {status}");
        }
        Ok(())
    }

    fn output_text(&mut self) -> Result<String> {
        let line = command_line(self);
        let Output { status, stdout, .. } = self
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed: {status}");
        }
        String::from_utf8(stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))
    }
}

/// The command as a person would type it, without the environment.
fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Fails with the name of every package that is missing on this machine.
///
/// # Errors
/// Lists each program of `needs` that is not on the PATH with the Debian package that has it.
pub(crate) fn require_programs(needs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|(program, _)| !is_on_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> =
        missing.iter().map(|(program, package)| format!("`{program}` (package {package})")).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    bail!("missing: {}; try `apt-get install {}`", programs.join(", "), packages.join(" "));
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let error = Command::new("sh").args(["-c", "exit 3"]).run().unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` failed: exit status: 3");
    }

    #[test]
    fn a_command_that_cannot_start_is_named_in_the_error() {
        let error = Command::new("no-such-program").arg("x").output_text().unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program x`");
    }

    #[test]
    fn missing_programs_are_listed_with_their_packages() {
        let error = require_programs(&[("sh", "dash"), ("no-such-program", "no-such-package")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing: `no-such-program` (package no-such-package); try `apt-get install no-such-package`"
        );
    }
}
