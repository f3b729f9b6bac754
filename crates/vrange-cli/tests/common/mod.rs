//! What the tests of the command share.
#![allow(dead_code, reason = "not every test file needs all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The command as the user would start it, with nothing of the surroundings that changes its output.
pub(crate) fn vrange() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vrange"));
    command.env("NO_COLOR", "1");
    command
}

/// Runs the command with these arguments and waits for its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    vrange().args(arguments).output().expect("the command starts")
}

/// Are the libraries where `vrange run` looks for them? Cargo builds them with the whole workspace. Says so if they are not.
pub(crate) fn are_built(libraries: &[&str]) -> bool {
    let folder = Path::new(env!("CARGO_BIN_EXE_vrange")).parent().expect("a folder");
    let is_there =
        |library: &str| folder.join(library).exists() || folder.join("deps").join(library).exists();
    let missing = libraries.iter().find(|library| !is_there(library));
    if let Some(library) = missing {
        vrange_testing::skipped(&format!("{library} is not built; run `cargo test --workspace`"));
    }
    missing.is_none()
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output as JSON, of a run that succeeded.
pub(crate) fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}: {}", output.status, stderr(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// A directory of files that are all different and hold no run of zeros, `total_bytes` together.
pub(crate) fn directory_of_files(total_bytes: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mut state = 1_u64;
    let mut written = 0;
    let mut number = 0_u64;
    while written < total_bytes {
        let len = 10_000 + (number * 7919) % 900_000;
        let mut contents = Vec::new();
        while (contents.len() as u64) < len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            contents.extend_from_slice(&(state | 1).to_le_bytes());
        }
        fs::write(directory.path().join(format!("file-{number}")), &contents).expect("a file");
        written += len;
        number += 1;
    }
    directory
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes that the demo, or the benchmark, of process `parent` has started and that still run.
pub(crate) fn child_processes(parent: u32) -> Vec<u32> {
    let wanted = format!("--parent\0{parent}\0");
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&wanted))
    })
    .collect()
}

/// Cgroups that the demo of process `parent` has made and that still exist.
pub(crate) fn demo_groups(parent: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), &format!("vrange-demo-{parent}-"), 8, &mut found);
    found
}

fn search(directory: &Path, prefix: &str, depth: u32, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        } else if depth > 0 {
            search(&entry.path(), prefix, depth - 1, found);
        }
    }
}

/// Whether the demo can make a memory cgroup here; says so if it cannot.
pub(crate) fn has_cgroup() -> bool {
    let output = run(&["demo", "/proc/self/fdinfo", "--pressure", "cgroup"]);
    let refused = stderr(&output).contains("no memory cgroup can be made");
    if refused {
        vrange_testing::skipped(stderr(&output).trim());
    }
    !refused
}
