//! Processes that end, fork, and become other programs while they are watched.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;
use vrange_testing::{Job, Signal, skipped};

use crate::{common, figures_when, next_figures, shown, started};

/// `vrange stat --watch`, and what it says.
struct Watching {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn start() -> Self {
        let mut process = common::vrange()
            .args(["stat", "--json", "--watch", "0.05"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let lines = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        Self { process, lines }
    }

    /// The next look.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits until a process is shown, or not shown any more.
    fn until(&mut self, pid: u32, is_shown: bool) {
        for _ in 0..400 {
            let look = self.next();
            let mut processes = look["processes"].as_array().expect("a list").iter();
            if processes.any(|process| process["pid"] == pid) == is_shown {
                return;
            }
        }
        panic!("process {pid} is shown: {}", !is_shown);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_process_that_is_killed_vanishes_and_the_others_stay() {
    let other = started("volatile");
    let child = started("volatile");
    let mut watching = Watching::start();
    watching.until(child.pid(), true);
    watching.until(other.pid(), true);
    child.signal(Signal::KILL);
    watching.until(child.pid(), false);
    watching.until(other.pid(), true);
    // Its end, until now, has waited for nobody to look at it.
    drop(child);
    watching.until(other.pid(), true);
    // A stopped one is shown as it was.
    other.signal(Signal::STOP);
    watching.until(other.pid(), true);
    other.signal(Signal::CONT);
}

#[test]
fn the_watch_ends_with_success_when_it_is_interrupted() {
    let mut watching = Watching::start();
    let _ = watching.next();
    let pid = rustix::process::Pid::from_child(&watching.process);
    rustix::process::kill_process(pid, Signal::INT).expect("a child of ours");
    assert_eq!(watching.process.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_process_that_becomes_another_program_is_not_shown_any_more() {
    let mut child = started("executes");
    let mut watching = Watching::start();
    watching.until(child.pid(), true);
    child.say("go");
    watching.until(child.pid(), false);
    // Its threads are gone before it has its new name.
    common::wait_until("the other program", || {
        std::fs::read_to_string(format!("/proc/{}/comm", child.pid())).expect("it runs").trim() == "sleep"
    });
}

#[test]
fn a_child_has_figures_of_its_own_or_none() {
    let mut parent = started("forks");
    let line = parent.hear().expect("it runs");
    let children: Vec<u32> = line.split(' ').map(|pid| pid.parse().expect("a number")).collect();
    let of_parent = next_figures(parent.pid());
    let of_active = figures_when(children[1], "the figures of a child that unpins", |_| true);
    assert_ne!(of_parent["sequence"], Value::Null);
    assert_eq!(of_active["heaps"][0]["name"], "forked");
    for list in ["processes", "closed"] {
        assert!(shown(list, children[0]).is_none(), "a child that never unpins has nothing to show");
    }
}

#[test]
fn a_process_in_a_namespace_is_known_by_our_number_for_it() {
    let mut outside = Job::new("alone_in_namespace").start();
    if outside.hear().expect("it runs") == "refused" {
        return skipped("no namespace of process numbers can be made");
    }
    let inside = outside.hear().expect("it runs").parse().expect("a number");
    let figures = figures_when(inside, "the process inside", |_| true);
    assert_eq!(figures["heaps"][0]["name"], "inside");
}
