//! Colours and progress bars: on a terminal, or when asked for, and nowhere else.

mod common;

use std::process::{Command, Output};

use common::{directory_of_files, stderr, stdout, wait_until};
use vrange_testing::Console;

const ESCAPE: char = '\x1b';
/// The variables that decide.
const VARIABLES: [&str; 4] = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"];

/// The command with nothing of the surroundings that decides about colours.
fn vrange() -> Command {
    let mut command = common::vrange();
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

fn output(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    vrange().args(arguments).envs(variables.iter().copied()).output().expect("the command starts")
}

/// What is printed of each kind: help, a complaint about the command line, one of ours.
const PRINTED: [&[&str]; 3] = [&["--help"], &["demo", "--frobnicate"], &["demo", "/no/such/directory"]];

fn is_coloured(arguments: &[&str], variables: &[(&str, &str)]) -> bool {
    let output = output(arguments, variables);
    let text = stdout(&output) + &stderr(&output);
    assert!(text.contains("vrange") || text.contains("error:"), "{text}");
    text.contains(ESCAPE)
}

#[test]
fn nothing_that_is_piped_is_coloured_unless_asked_for() {
    for printed in PRINTED {
        let with = |option: &'static str| [printed, &["--color", option]].concat();
        assert!(!is_coloured(printed, &[]), "{printed:?}");
        assert!(!is_coloured(printed, &[("TERM", "xterm-256color")]), "{printed:?}");
        assert!(!is_coloured(&with("auto"), &[]) && !is_coloured(&with("never"), &[]), "{printed:?}");
        assert!(is_coloured(&with("always"), &[]), "{printed:?}");
        assert!(is_coloured(printed, &[("CLICOLOR_FORCE", "1")]), "{printed:?}");
        assert!(!is_coloured(printed, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "{printed:?}");
        assert!(!is_coloured(&with("never"), &[("CLICOLOR_FORCE", "1")]), "{printed:?}");
        assert!(is_coloured(&with("always"), &[("NO_COLOR", "1")]), "{printed:?}");
    }
    let refused = output(&["--color", "sometimes", "doctor"], &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("auto, always, never"), "{}", stderr(&refused));
}

/// Has the command print one of its complaints on a terminal. Are there colours?
fn is_coloured_on_a_terminal(option: &[&str], variables: &[(&str, &str)]) -> bool {
    let mut command = vrange();
    command.args(["demo", "/no/such/directory"]).args(option).envs(variables.iter().copied());
    let mut console = Console::start(command, 24, 80);
    console.end();
    assert!(console.text().contains("error: cannot read /no/such/directory"), "{}", console.text());
    console.is_coloured()
}

#[test]
fn a_terminal_has_colours_unless_told_otherwise() {
    assert!(is_coloured_on_a_terminal(&[], &[]));
    for (option, variables) in [
        (&["--color=never"][..], &[][..]),
        (&[], &[("NO_COLOR", "1")]),
        (&[], &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]),
        (&[], &[("CLICOLOR", "0")]),
        (&["--color=never"], &[("CLICOLOR_FORCE", "1")]),
    ] {
        assert!(!is_coloured_on_a_terminal(option, variables), "{option:?} {variables:?}");
    }
    // An empty variable says nothing; the option has the last word.
    assert!(is_coloured_on_a_terminal(&[], &[("NO_COLOR", "")]));
    assert!(is_coloured_on_a_terminal(&["--color=always"], &[("NO_COLOR", "1")]));
}

/// A demo of some seconds, without a cgroup.
fn demo(directory: &str) -> [&str; 6] {
    ["demo", directory, "--memory", "64M", "--pressure", "madvise"]
}

#[test]
fn the_picture_is_coloured_where_it_is_asked_for() {
    let files = directory_of_files(64 << 20);
    let demo = demo(files.path().to_str().expect("UTF-8"));
    let text = |option: &[&str]| {
        let output = output(&[&demo, option].concat(), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        // Nobody watches: no bar.
        assert_eq!(stderr(&output), "");
        stdout(&output)
    };
    assert!(!text(&[]).contains(ESCAPE));
    assert!(text(&["--color", "always"]).contains(ESCAPE));
    assert!(!text(&["--color", "always", "--json"]).contains(ESCAPE), "JSON has no colours");
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let files = directory_of_files(64 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    for (arguments, shown) in [
        (&demo(directory)[..], "preparing"),
        (&["bench", "malloc", "--quick"], "round 1 of 1"),
        (&["bench", "cache", "--quick", "--part", "get"], "filling caches"),
    ] {
        let piped = output(arguments, &[("TERM", "xterm-256color")]);
        assert!(piped.status.success(), "{}", stderr(&piped));
        for text in [stdout(&piped), stderr(&piped)] {
            assert!(!text.contains([ESCAPE, '\r']) && !text.contains(shown), "{arguments:?}: {text}");
        }
        // The control: it would have been seen.
        let mut command = vrange();
        command.args(arguments);
        let console = Console::start(command, 24, 80);
        wait_until("the bar", || console.has_written(shown));
    }
}
