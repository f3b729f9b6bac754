//! Tests that change the whole process run in one of their own: the test program, started again for that test alone.

use std::io::Write;
use std::process::Command;

/// Set in the environment of such a process.
const MARK: &str = "VRANGE_TEST_CHILD";
/// What it prints when the job is about to run, so that a misspelt name of a test cannot pass for success.
const BEGUN: &str = "job begun in its own process";
/// A job that hangs is ended by the kernel after this many seconds.
const TIMEOUT_S: u32 = 120;

/// Runs `job` in a process of its own. To be called at the top level of a test, as its last statement, with a closure: the
/// closure's name contains that of the test.
pub(crate) fn in_child<F: FnOnce()>(job: F) {
    if std::env::var_os(MARK).is_some() {
        // SAFETY: the default action of SIGALRM ends the process, which is what is wanted.
        unsafe { libc::alarm(TIMEOUT_S) };
        announce(BEGUN);
        job();
        return;
    }
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let test = path.split_once("::").expect("a path inside the test program").1;
    let output = Command::new(std::env::current_exe().expect("the test program"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("the test program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    for line in errors.lines().filter(|line| line.starts_with("skipped: ")) {
        announce(line);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && errors.contains(BEGUN), "{}\n{text}\n{errors}", output.status);
}

/// Says that the test cannot run here, and why. Such a test counts as skipped, not as passed.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    announce(&format!("skipped: {test}: {why}"));
}

/// Writes past the test harness, which would swallow what a passing test prints.
fn announce(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
