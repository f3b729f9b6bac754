//! Each exit code, as help and manual tell of it.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use common::{are_built, directory_of_files, run, stderr, stdout, vrange};
use rustix::process::{Pid, Signal, kill_process};
use vrange_testing::{Console, skipped};

/// The exit code of a command that prints little and waits for nobody.
#[track_caller]
fn code(arguments: &[&str]) -> i32 {
    let output = run(arguments);
    output.status.code().unwrap_or_else(|| panic!("{arguments:?}: {}: {}", output.status, stderr(&output)))
}

/// Starts a command, waits for its first line, and sends it a signal.
#[track_caller]
fn code_after(arguments: &[&str], signal: Signal) -> Option<i32> {
    use std::io::{BufRead as _, BufReader};
    let mut process = vrange().args(arguments).stdout(Stdio::piped()).spawn().expect("the command starts");
    let mut output = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
    output.read_line(&mut String::new()).expect("its first line");
    kill_process(Pid::from_child(&process), signal).expect("a child of ours");
    // It is let finish what it writes.
    std::io::copy(&mut output, &mut std::io::sink()).expect("its output");
    process.wait().expect("it ends").code()
}

#[test]
fn code_0_is_done() {
    for arguments in [&["doctor"][..], &["stat"], &["top"], &["--help"], &["--version"]] {
        assert_eq!(code(arguments), 0, "{arguments:?}");
    }
}

#[test]
fn code_0_is_the_end_of_what_has_no_end_of_its_own() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        assert_eq!(code_after(&["stat", "--watch", "0.1"], signal), Some(0));
        assert_eq!(code_after(&["exporter", "--listen", "127.0.0.1:0"], signal), Some(0));
    }
}

#[test]
fn code_1_is_a_failure() {
    assert_eq!(code(&["demo", "--memory", "1000000G", "--pressure", "madvise"]), 1);
    // No process has the number of this test's thread group and that name.
    assert_eq!(code(&["stat", "no-process-has-this-name"]), 1);
    assert_eq!(code(&["manual", "/no/such/folder"]), 1);
    let mut command = vrange();
    let output =
        command.args(["run", "sh", "-c", "echo ran"]).env("VRANGE_LIBDIR", "/no/such/folder").output();
    assert_eq!(output.expect("it starts").status.code(), Some(1));
}

#[test]
fn code_1_is_a_reader_that_has_gone() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output =
        vrange().arg("doctor").stdout(writer).stderr(Stdio::piped()).output().expect("the command starts");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), ""));
}

#[test]
fn code_2_is_a_command_line_that_cannot_be() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["demo", "--frobnicate"],
        &["demo", "/no/such/directory"],
        &["completions", "tcsh"],
        &["exporter", "--listen", "0.0.0.0:0"],
        &["bench", "cache", "--svg", "/no/such/folder/a.svg"],
        &["run"],
    ] {
        assert_eq!(code(arguments), 2, "{arguments:?}");
    }
}

#[test]
fn code_126_is_a_program_that_cannot_be_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "no program\n").expect("a file");
    // Neither as a file that may not be executed, nor as one that may.
    assert_eq!(code(&["run", file.to_str().expect("UTF-8")]), 126);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("to be made executable");
    assert_eq!(code(&["run", file.to_str().expect("UTF-8")]), 126);
}

#[test]
fn code_127_is_a_program_that_is_not_there() {
    assert_eq!(code(&["run", "no-such-program-anywhere"]), 127);
}

#[test]
fn any_code_of_a_program_is_that_of_run() {
    if !are_built(&["libvrange_preload.so"]) {
        return;
    }
    for wanted in [0, 1, 2, 77, 126, 255] {
        assert_eq!(code(&["run", "--malloc", "none", "sh", "-c", &format!("exit {wanted}")]), wanted);
    }
    let killed = run(&["run", "--malloc", "none", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(Signal::TERM.as_raw()), "{}", stderr(&killed));
}

#[test]
fn codes_from_128_on_are_signals() {
    let files = directory_of_files(64 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let arguments = [
            "demo",
            directory,
            "--memory",
            "64M",
            "--rounds",
            "99",
            "--pressure",
            "madvise",
            "--color",
            "never",
        ];
        assert_eq!(code_after(&arguments, signal), Some(128 + signal.as_raw()));
        let mut command: Command = vrange();
        command.arg("top");
        let mut console = Console::start(command, 24, 80);
        console.wait_for("the screen", |text| text.contains("vrange top"));
        console.signal(signal);
        assert_eq!(console.end().code(), Some(128 + signal.as_raw()));
    }
}

#[test]
fn help_and_manual_tell_of_each() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&["manual", folder.path().to_str().expect("UTF-8")]), 0);
    let page = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a page");
    for (arguments, name) in [
        (&["--help"][..], "vrange.1"),
        (&["run", "--help"], "vrange-run.1"),
        (&["demo", "--help"], "vrange-demo.1"),
        (&["bench", "cache", "--help"], "vrange-bench-cache.1"),
    ] {
        let help = stdout(&run(arguments));
        let (_, told) = help.split_once("\nExit codes:\n").unwrap_or_else(|| panic!("{help}"));
        let page = page(name);
        let (_, written) = page.split_once(".SH \"EXIT STATUS\"\n").unwrap_or_else(|| panic!("{page}"));
        for code in ["0", "1", "2", "126", "127", "128+N"] {
            assert!(told.lines().any(|line| line.starts_with(&format!("  {code} "))), "{code}: {told}");
            assert!(written.contains(&format!(".TP\n.B {code}\n")), "{code}: {written}");
        }
    }
}

/// What the pages look like is groff's to judge.
#[test]
fn groff_has_nothing_to_say_about_the_manual() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&["manual", folder.path().to_str().expect("UTF-8")]), 0);
    let mut pages = 0;
    for page in fs::read_dir(folder.path()).expect("the folder").flatten() {
        let checked = Command::new("groff").args(["-man", "-ww", "-Tutf8"]).arg(page.path()).output();
        let Ok(checked) = checked else { return skipped("groff is not installed") };
        assert_eq!(stderr(&checked), "", "{}", page.path().display());
        assert!(stdout(&checked).contains("Ended by signal N"), "{}", page.path().display());
        pages += 1;
    }
    assert!(pages >= 10, "{pages} pages");
}
