//! How the command fails: one line that says what went wrong, one that says what to do, and an exit code.

use std::process::ExitCode;

/// What the command's exit codes mean, for the help and the manual.
pub(crate) const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "Done. Also when a signal ends `stat --watch` or `exporter`."),
    ("1", "Failed; or what was found is bad, or not there."),
    ("2", "The arguments cannot be used."),
    ("126", "`run`: the program cannot be run, or not with the library."),
    ("127", "`run`: there is no such program."),
    ("128+N", "Ended by signal N, with nothing left behind: 130 by Ctrl-C."),
];

/// Why the command ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// What kind of end it is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The run failed, or found corrupt data: exit code 1.
    Run,
    /// The arguments make no sense: exit code 2, as clap's own errors.
    Usage,
    /// A program that was to be run is not one that can be: exit code 126, as shells report it.
    CannotRun,
    /// There is no such program: exit code 127, as shells report it.
    NotFound,
    /// A signal asked for the end: exit code 128 + signal, as shells report it.
    Interrupted { signal: u8 },
    /// Whoever read the output went away: nothing to report and nobody to read it.
    ReaderGone,
}

impl Failure {
    /// A run that could not be finished, or whose result is bad.
    pub(crate) fn run(message: impl Into<String>) -> Self {
        Self { kind: Kind::Run, message: message.into(), hint: None }
    }

    /// Arguments that cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), hint: None }
    }

    /// A program that cannot be run.
    pub(crate) fn cannot_run(message: impl Into<String>) -> Self {
        Self { kind: Kind::CannotRun, message: message.into(), hint: None }
    }

    /// A program that is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { kind: Kind::NotFound, message: message.into(), hint: None }
    }

    /// A signal ended the run.
    pub(crate) fn interrupted(signal: i32) -> Self {
        let signal = u8::try_from(signal).unwrap_or(2);
        Self {
            kind: Kind::Interrupted { signal },
            message: format!("interrupted by signal {signal}"),
            hint: None,
        }
    }

    /// A failed operation on `subject`, with what the system said.
    pub(crate) fn io(what: &str, subject: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::run(format!("{what} {subject}: {error}"))
    }

    /// Writing the result failed; a closed pipe is a quiet end.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => {
                Self { kind: Kind::ReaderGone, message: String::new(), hint: None }
            }
            _ => Self::run(format!("writing the result: {error}")),
        }
    }

    /// Adds what the user can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to tell people, with its line end; empty if there is nothing to say.
    pub(crate) fn report(&self) -> String {
        self.labelled("error:")
    }

    /// The same for standard error, with the label coloured as the command line's own complaints have it. To be printed with
    /// [`anstream`], which takes colours out where none are wanted.
    pub(crate) fn styled_report(&self) -> String {
        let styles = clap::builder::Styles::styled();
        let style = styles.get_error();
        self.labelled(format_args!("{style}error:{style:#}"))
    }

    fn labelled(&self, label: impl std::fmt::Display) -> String {
        match self.kind {
            Kind::ReaderGone => String::new(),
            _ => format!("{label} {}\n", self.reason()),
        }
    }

    /// What went wrong, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What went wrong, with the hint in brackets: for a text that goes on without what failed.
    pub(crate) fn reason(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message.clone(),
        }
    }

    /// The exit code that goes with it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::Run | Kind::ReaderGone => ExitCode::from(1),
            Kind::Usage => ExitCode::from(2),
            Kind::CannotRun => ExitCode::from(126),
            Kind::NotFound => ExitCode::from(127),
            Kind::Interrupted { signal } => ExitCode::from(128_u8.saturating_add(signal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_line_with_the_hint_in_brackets() {
        let failure = Failure::usage("no such directory: /nowhere").hint("give one that exists");
        assert_eq!(failure.report(), "error: no such directory: /nowhere (give one that exists)\n");
    }

    #[test]
    fn a_closed_pipe_is_silent() {
        let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::output(&closed).report(), "");
    }
}
