//! Programs that know nothing of the library: a C program that includes <sys/mman.h> and says 5, and CPython's `mmap` module.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;
use vrange_testing::{MemoryGroup, alone, skipped};

const MIB: u64 = 1 << 20;

/// The library, where cargo has put it for this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().expect("a folder");
    let places = [folder.join("libvrange_preload.so"), folder.join("../libvrange_preload.so")];
    places.into_iter().find(|path| path.exists()).expect("cargo builds the library for its tests")
}

/// The C program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seed");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/seed.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let warnings = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror"];
        let compiled = Command::new(compiler).args(warnings).arg("-o").arg(&path).arg(source).status();
        assert!(compiled.expect("a C compiler").success());
        (folder, path)
    });
    path
}

/// A command with the library before libc.
fn with_library(program: impl AsRef<std::ffi::OsStr>, mode: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LD_PRELOAD", library()).env("VRANGE_MODE", mode);
    command
}

/// The same command in a memory cgroup that only it fills.
fn inside(group: &MemoryGroup, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(group.entry());
    shell.env_clear();
    // The library is for the program, not for the shell.
    shell.arg("env");
    for (name, value) in command.get_envs() {
        let mut pair = name.to_owned();
        pair.push("=");
        pair.push(value.expect("nothing is taken away"));
        shell.arg(pair);
    }
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

#[track_caller]
fn run(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("a process");
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{status}: {said}{}", String::from_utf8_lossy(&stderr));
    said
}

fn seed(mode: &str, arguments: &[&str]) -> Command {
    let mut command = with_library(program(), mode);
    command.args(arguments);
    command
}

/// A group in which memory gets short, or a line that says why there is none.
fn group(purpose: &str, mib: u64) -> Option<MemoryGroup> {
    MemoryGroup::make(purpose, mib * MIB).map_err(|why| skipped(&why)).ok()
}

#[test]
fn control_a_stock_kernel_does_not_know_the_advice() {
    let mut command = Command::new(program());
    command.arg("plain");
    assert_eq!(run(command), "not known\n");
}

#[test]
fn c06_a_program_that_says_5_gets_the_seeds_semantics() {
    assert_eq!(run(seed("implicit", &["implicit"])), "as the seed says\n");
    // Nothing set is the same.
    let mut command = seed("", &["implicit"]);
    command.env_remove("VRANGE_MODE");
    assert_eq!(run(command), "as the seed says\n");
}

#[test]
fn c06_wrong_calls_are_answered_as_the_seed_says() {
    assert_eq!(run(seed("implicit", &["manners"])), "as the seed says\n");
}

#[test]
fn an_unknown_mode_is_told_and_the_default_is_used() {
    let output = seed("sometimes", &["implicit"]).output().expect("a process");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("VRANGE_MODE=sometimes is not known"), "{said}");
}

#[test]
fn c13_a_program_that_marks_what_it_has_is_not_killed() {
    let _alone = alone();
    let Some(group) = group("preload-implicit", 128) else { return };
    let said = run(inside(&group, &seed("implicit", &["squeeze", "96", "96"])));
    assert!(said.starts_with("lost "), "{said}");
    assert_eq!(group.oom_kills(), 0);
    // The control: the same program without the library.
    let mut plain = Command::new(program());
    plain.args(["paired", "96", "96"]);
    assert!(!inside(&group, &plain).output().expect("a process").status.success());
}

#[test]
fn c03_a_paired_program_is_told_what_it_lost() {
    let _alone = alone();
    let Some(group) = group("preload-paired", 256) else { return };
    let said = run(inside(&group, &seed("paired", &["paired", "180", "120"])));
    assert!(said.starts_with("lost "), "{said}");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn c11_new_data_is_never_lost_where_marked_memory_was() {
    let _alone = alone();
    let Some(group) = group("preload-reuse", 128) else { return };
    for mode in ["paired", "implicit"] {
        assert_eq!(run(inside(&group, &seed(mode, &["reuse", "32", "90"]))), "new data stays\n", "{mode}");
    }
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn c03_a_loss_is_told_whatever_is_done_to_the_mapping() {
    let _alone = alone();
    let Some(group) = group("preload-told", 128) else { return };
    assert_eq!(run(inside(&group, &seed("paired", &["told", "96", "64"]))), "every loss was told\n");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn c05_memory_that_malloc_got_again_unseen_is_marked_anew() {
    for mode in ["paired", "implicit"] {
        assert_eq!(run(seed(mode, &["twice"])), "new data stays\n", "{mode}");
    }
}

#[test]
fn c09_what_a_child_has_where_its_parent_had_marks_is_not_touched() {
    let _alone = alone();
    let Some(group) = group("preload-forked", 256) else { return };
    let said = run(inside(&group, &seed("paired", &["forked", "64", "100"])));
    assert_eq!(said, "the child's data stays\n");
    assert_eq!(group.oom_kills(), 0);
}

#[test]
fn c14_memory_that_is_not_watched_is_marked_at_once() {
    let _alone = alone();
    let Some(group) = group("preload-others", 128) else { return };
    assert_eq!(run(inside(&group, &seed("paired", &["others", "96", "64"]))), "as the seed says\n");
}

/// The system's Python, if it is there and dynamically linked (as Debian's is).
fn python() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/bin/python3");
    if path.exists() {
        return Some(path);
    }
    skipped("there is no /usr/bin/python3");
    None
}

fn python_seed(arguments: &[&str]) -> Option<Command> {
    let mut command = with_library(python()?, "implicit");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/seed.py")).args(arguments);
    Some(command)
}

#[test]
fn python_marks_memory_with_its_own_mmap_module() {
    let Some(command) = python_seed(&["16"]) else { return };
    let said = run(command);
    assert!(said.ends_with("wrong 0\n"), "{said}");
}

#[test]
fn c13_python_is_not_killed_in_a_memory_cgroup() {
    let _alone = alone();
    let Some(command) = python_seed(&["96", "96"]) else { return };
    let Some(group) = group("preload-python", 128) else { return };
    run(inside(&group, &command));
    assert_eq!(group.oom_kills(), 0);
}
