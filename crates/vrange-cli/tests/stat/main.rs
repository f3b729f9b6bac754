//! `vrange stat`, run as a user runs it, beside processes that have volatile memory, that pretend to, or that end.

#[path = "../common/mod.rs"]
mod common;
mod figures;
mod hostile;
mod jobs;
mod lifetimes;
mod users;

use std::time::{Duration, Instant};

use serde_json::Value;
use vrange_testing::{Child, Job, serve};

/// The processes that the tests look at.
#[test]
fn jobs() {
    serve(jobs::ALL);
}

/// Starts a job that says `ready` when there is something to see.
fn started(words: &str) -> Child {
    let mut child = Job::new(words).start();
    assert_eq!(child.hear().expect("it runs"), "ready");
    child
}

/// All that `vrange stat --json` shows.
fn all() -> Value {
    common::json(&common::run(&["stat", "--json"]))
}

/// What it shows of one process, in `processes` or in `closed`.
fn shown(list: &str, pid: u32) -> Option<Value> {
    let all = all();
    all[list].as_array().expect("a list").iter().find(|process| process["pid"] == pid).cloned()
}

/// Waits for figures of a process that are so.
fn figures_when(pid: u32, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let figures = shown("processes", pid);
        if let Some(figures) = figures.as_ref().filter(|figures| is_so(figures)) {
            return figures.clone();
        }
        assert!(Instant::now() < until, "waited 20 s for {what}: {figures:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Figures that a process has taken after now. (The next that it publishes may have been taken a moment before.)
fn next_figures(pid: u32) -> Value {
    let sequence = |figures: &Value| figures["sequence"].as_u64().expect("a number");
    let before = sequence(&figures_when(pid, "figures", |_| true));
    figures_when(pid, "newer figures", |figures| sequence(figures) > before + 1)
}
