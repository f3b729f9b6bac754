//! A test that changes the whole process (limits, filters, mounts, threads) runs in one of its own.

use std::ffi::OsStr;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::job::announce;

/// Set in the environment of such a process.
const ISOLATED: &str = "VRANGE_TEST_ISOLATED";
/// What it prints when the test's closure is about to run, so that a misspelt name of a test cannot pass for success.
const BEGUN: &str = "begun in a process of its own";

/// Runs a test's closure in a process of its own: the test program, started again for that test alone. To be called at the top
/// of a test, as its last statement, and with a closure: the closure's type names the test.
///
/// The closure may end the process by itself, with status 0 for success.
///
/// # Panics
/// The process fails: with what it printed.
#[track_caller]
pub fn in_child<F: FnOnce()>(test: F) {
    in_child_with::<F>(&[], test);
}

/// Is this such a process?
pub fn is_child() -> bool {
    std::env::var_os(ISOLATED).is_some()
}

/// As [`in_child`], with more in the child's environment, for the test in which the closure of type `Named` stands.
///
/// # Panics
/// As there.
#[track_caller]
pub fn in_child_with<Named>(environment: &[(&str, &OsStr)], test: impl FnOnce()) {
    if is_child() {
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a death signal");
        announce(BEGUN);
        test();
        return;
    }
    let path = std::any::type_name::<Named>().trim_end_matches("::{{closure}}");
    let (_, name) = path.split_once("::").expect("a path inside the test program");
    let output = Command::new("/proc/self/exe")
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ISOLATED, "1")
        .envs(environment.iter().copied())
        .output()
        .expect("the test program starts again");
    let errors = String::from_utf8_lossy(&output.stderr);
    errors.lines().filter(|line| line.starts_with("skipped: ")).for_each(announce);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && errors.contains(BEGUN), "{}\n{text}\n{errors}", output.status);
}
