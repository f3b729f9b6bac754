//! Bad input: a clear sentence, an exit code, and nothing on standard output.

mod common;

use std::fs;
use std::process::Stdio;

use common::{run, stderr, stdout, vrange};

fn fails(arguments: &[&str], code: i32, says: &str) {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    assert!(stderr(&output).contains("error: "), "{arguments:?}: {}", stderr(&output));
    assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "{arguments:?}");
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    fails(&["demo", "/no/such/directory"], 2, "/no/such/directory");
    fails(&["demo", "/proc/self/status"], 2, "is not a directory");
    fails(&["demo", "--memory", "lots"], 2, "512M");
    fails(&["demo", "--memory", "12Q"], 2, "unknown unit");
    fails(&["demo", "--memory", "1M"], 2, "the least is 64 MiB");
    fails(&["demo", "--memory", "99999999999T"], 2, "larger than any memory");
    fails(&["bench", "nothing"], 2, "nothing");
    fails(&["report"], 2, "--output");
    fails(&["report", "--bench", "everything", "-o", "report"], 2, "demo, ranges, raw, malloc, cache");
    fails(&["demo", "--frobnicate"], 2, "--frobnicate");
    fails(&["stat", "--watch", "0"], 2, "the least is 0.05");
    fails(&["exporter", "--listen", "9500"], 2, "9500");
    fails(&["exporter", "--listen", "0.0.0.0:0"], 2, "--allow-remote");
    fails(&["top", "--interval", "0"], 2, "the least is 0.05");
    fails(&["stat", "--watch", "often"], 2, "expected a number of seconds");
    fails(&["run", "--malloc", "hoard", "sh"], 2, "auto, tcmalloc, jemalloc, mimalloc, none");
    fails(&["run", "--decay", "soon", "sh"], 2, "expected a number of seconds such as 10 or 0.5");
    fails(&["run", "--decay", "NaN", "sh"], 2, "expected a number of seconds");
    fails(&["run", "--decay", "-1", "sh"], 2, "cannot be negative");
    fails(&["run", "--limit", "12Q", "sh"], 2, "unknown unit");
}

#[test]
fn a_directory_without_files_is_said_to_have_none() {
    let empty = tempfile::tempdir().expect("a directory");
    fs::create_dir(empty.path().join("also-empty")).expect("a directory");
    fs::write(empty.path().join("nothing-in-it"), b"").expect("a file");
    fails(&["demo", empty.path().to_str().expect("UTF-8"), "--pressure", "madvise"], 2, "holds no file");
}

#[test]
fn more_memory_than_there_is_fails_with_a_size_that_works() {
    fails(&["demo", "--memory", "1000000G", "--pressure", "madvise"], 1, "try --memory");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = vrange()
        .arg("doctor")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn help_names_every_command() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    for command in ["demo", "doctor", "stat", "top", "exporter", "run", "bench", "report"] {
        assert!(stdout(&output).contains(command), "{}", stdout(&output));
    }
    for hidden in ["demo-process", "malloc-work"] {
        assert!(!stdout(&output).contains(hidden), "{}", stdout(&output));
    }
}
