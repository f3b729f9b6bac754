//! `vrange demo`, run as a user runs it.

mod common;

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};

use common::{
    child_processes, demo_groups, directory_of_files, has_cgroup, json, run, stderr, stdout, vrange,
    wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

const KEYS: [&str; 8] = [
    "cached_bytes",
    "lost_bytes",
    "kept_bytes",
    "corrupt_files",
    "oom_kills",
    "age_order_spearman",
    "hog_slowdown",
    "pressure",
];

fn number(result: &serde_json::Value, key: &str) -> u64 {
    result[key].as_u64().unwrap_or_else(|| panic!("{key} is no number: {result}"))
}

#[test]
fn a_hog_in_the_same_cgroup_takes_the_oldest_and_nothing_is_corrupt() {
    if !has_cgroup() {
        return;
    }
    let files = directory_of_files(130 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    let output =
        run(&["demo", directory, "--memory", "128M", "--json", "--pressure", "cgroup", "--rounds", "1"]);
    let result = json(&output);
    for key in KEYS {
        assert!(result.get(key).is_some(), "{key} is missing: {result}");
    }
    assert!(result["pressure"].as_str().is_some_and(|pressure| pressure.starts_with("cgroup-v")), "{result}");
    assert_eq!(number(&result, "corrupt_files"), 0, "{result}");
    assert_eq!(number(&result, "oom_kills"), 0, "{result}");
    assert_eq!(
        number(&result, "kept_bytes") + number(&result, "lost_bytes"),
        number(&result, "cached_bytes")
    );
    assert!(number(&result, "lost_bytes") > 0, "nothing had to go: {result}");
    assert!(number(&result, "lost_bytes") <= number(&result, "lost_goal_bytes"), "too much went: {result}");
    assert!(number(&result, "kept_bytes") > 0, "everything went: {result}");
    assert!(result["age_order_spearman"].as_f64().is_some_and(|order| order > 0.8), "{result}");
    assert!(result["hog_slowdown"].as_f64().is_some_and(|slowdown| slowdown > 0.0), "{result}");
}

#[test]
fn the_lever_needs_no_cgroup() {
    let files = directory_of_files(64 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    let folder = tempfile::tempdir().expect("a folder");
    let picture = folder.path().join("demo.svg");
    let path = picture.to_str().expect("UTF-8");
    let arguments = ["demo", directory, "--memory", "64M", "--json", "--pressure", "madvise", "--svg", path];
    let result = json(&run(&arguments));
    assert_eq!(result["pressure"], "madvise");
    assert_eq!(number(&result, "corrupt_files"), 0, "{result}");
    let (lost, needed) = (number(&result, "lost_bytes"), number(&result, "needed_bytes"));
    assert!(needed > 0 && lost >= needed / 10 * 9 && lost <= needed / 4 * 5, "{result}");
    assert!(result["age_order_spearman"].as_f64().is_some_and(|order| order > 0.9), "{result}");
    assert!(result["hog_slowdown"].is_null(), "{result}");
    let picture = std::fs::read_to_string(picture).expect("the picture");
    assert!(roxmltree::Document::parse(&picture).is_ok(), "{picture}");
    for text in ["what is left, by age", "--memory 64M"] {
        assert!(picture.contains(text), "{text}: {picture}");
    }
}

#[test]
fn the_picture_fits_80_plain_columns_where_there_is_no_terminal() {
    let files = directory_of_files(64 << 20);
    let output =
        run(&["demo", files.path().to_str().expect("UTF-8"), "--memory", "64M", "--pressure", "madvise"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("what is left, by age"), "{text}");
    assert!(text.contains("what is left, over time"), "{text}");
    assert!(text.contains("No memory cgroup can be made here"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    assert!(text.lines().filter(|line| line.contains('▏')).all(|line| line.chars().count() <= 80), "{text}");
}

/// Starts a demo that would go on for a long time.
fn start(directory: &str, pressure: &str) -> Child {
    let mut command: Command = vrange();
    command
        .args(["demo", directory, "--memory", "128M", "--rounds", "99", "--pressure", pressure])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().expect("the command starts")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

#[test]
fn signals_leave_no_process_and_no_cgroup() {
    if !has_cgroup() {
        return;
    }
    let files = directory_of_files(130 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut demo = start(directory, "cgroup");
        let pid = demo.id();
        wait_until("the group", || {
            demo_groups(pid).iter().any(|group| group.ends_with(format!("vrange-demo-{pid}-both")))
        });
        wait_until("the cache process", || !child_processes(pid).is_empty());
        signal(&demo, sent);
        let status = demo.wait().expect("it ends");
        assert_eq!(status.code(), Some(code), "after {sent:?}");
        assert_eq!(demo_groups(pid), Vec::<std::path::PathBuf>::new(), "after {sent:?}");
        assert_eq!(child_processes(pid), Vec::<u32>::new(), "after {sent:?}");
    }
}

#[test]
fn children_end_with_a_parent_that_is_killed() {
    let files = directory_of_files(64 << 20);
    let mut demo = start(files.path().to_str().expect("UTF-8"), "madvise");
    let pid = demo.id();
    wait_until("the cache process", || !child_processes(pid).is_empty());
    signal(&demo, Signal::KILL);
    demo.wait().expect("it ends");
    wait_until("the end of its children", || child_processes(pid).is_empty());
}

/// Starts a demo of one round, kills one of its processes as soon as it is seen, and waits for the end.
fn kill_one(directory: &str, marks: &[&str]) -> (u32, Output) {
    let mut command = vrange();
    command
        .args(["demo", directory, "--memory", "128M", "--rounds", "1", "--json", "--pressure", "cgroup"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let demo = command.spawn().expect("the command starts");
    let pid = demo.id();
    let is_wanted = |pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        marks.iter().all(|mark| line.contains(mark))
    };
    let mut found = None;
    wait_until("the process to kill", || {
        found = child_processes(pid).into_iter().find(is_wanted);
        found.is_some()
    });
    let victim = found.and_then(|found| Pid::from_raw(i32::try_from(found).ok()?)).expect("a process id");
    kill_process(victim, Signal::KILL).expect("the process is there");
    (pid, demo.wait_with_output().expect("it ends"))
}

#[test]
fn a_cache_that_is_killed_fails_the_run_and_leaves_no_cgroup() {
    if !has_cgroup() {
        return;
    }
    let files = directory_of_files(130 << 20);
    let (pid, output) = kill_one(files.path().to_str().expect("UTF-8"), &["\0cache\0"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("was killed"), "{}", stderr(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(result["cached_bytes"].is_null(), "{result}");
    assert_eq!(demo_groups(pid), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_hog_that_is_killed_is_not_waited_for() {
    if !has_cgroup() {
        return;
    }
    let files = directory_of_files(130 << 20);
    let (pid, output) = kill_one(files.path().to_str().expect("UTF-8"), &["\0hog\0", "-both/"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("was killed"), "{}", stderr(&output));
    assert_eq!(demo_groups(pid), Vec::<std::path::PathBuf>::new());
}
