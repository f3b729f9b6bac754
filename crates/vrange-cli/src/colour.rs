//! Whether output is coloured: as `--color` says; without it, as `NO_COLOR`, `CLICOLOR_FORCE` and `CLICOLOR` say; without them, on a
//! terminal.

use std::ffi::OsString;
use std::io::Stdout;

use anstream::AutoStream;
use clap::{ColorChoice, ValueEnum as _};

const OPTION: &str = "--color";

/// Has all that is printed from now on follow the choice.
pub(crate) fn choose(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// The choice that a command line seems to make, for what is printed because it is no good, and for its help. Behind `vrange run` an
/// option may be the program's.
pub(crate) fn asked_for(arguments: impl IntoIterator<Item = OsString>) -> ColorChoice {
    let mut arguments = arguments.into_iter().skip(1).take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        let Some(rest) = argument.to_str().and_then(|argument| argument.strip_prefix(OPTION)) else {
            continue;
        };
        let value = match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if rest.is_empty() => arguments.next().and_then(|value| value.into_string().ok()),
            None => None,
        };
        if let Some(choice) = value.and_then(|value| ColorChoice::from_str(&value, false).ok()) {
            return choice;
        }
    }
    ColorChoice::Auto
}

/// Whether standard output is to be coloured.
pub(crate) fn of_stdout(stdout: &Stdout) -> bool {
    AutoStream::choice(stdout) != anstream::ColorChoice::Never
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> ColorChoice {
        asked_for(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_option_is_found_wherever_it_stands() {
        for line in
            ["vrange --color always demo", "vrange demo x --color=always", "vrange --color x --color=always"]
        {
            assert_eq!(asked(line), ColorChoice::Always, "{line}");
        }
        assert_eq!(asked("vrange --help --color never"), ColorChoice::Never);
        for line in [
            "vrange",
            "vrange --color",
            "vrange --colors=always",
            "vrange run -- ls --color=always",
            "--color=always",
        ] {
            assert_eq!(asked(line), ColorChoice::Auto, "{line}");
        }
    }
}
