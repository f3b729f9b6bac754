//! Ctrl-C, as it is pressed on a terminal, leaves nothing behind: no process, no cgroup, no file, and the terminal as it was.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use common::{are_built, child_processes, demo_groups, directory_of_files, has_cgroup, wait_until};
use tempfile::TempDir;
use vrange_testing::{Console, Signal, threads_of};

const CTRL_C: &str = "\x03";

/// A command on a terminal, in a folder of its own, which is also that for temporary files.
struct Run {
    console: Console,
    folder: TempDir,
}

impl Run {
    /// Starts one, and waits until it is in the middle of what it does.
    #[track_caller]
    fn start(arguments: &[&str], is_in_the_middle: impl Fn(&Console) -> bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = common::vrange();
        command.args(arguments).current_dir(folder.path()).env("TMPDIR", folder.path());
        let console = Console::start(command, 24, 80);
        wait_until(&format!("the middle of {arguments:?}: {}", console.text()), || {
            is_in_the_middle(&console)
        });
        Self { console, folder }
    }

    fn interrupt(&mut self) -> ExitStatus {
        self.console.press(CTRL_C);
        self.console.end()
    }

    /// Everything that is left of it.
    fn left(&self) -> Vec<String> {
        let pid = self.console.pid();
        let processes = members_of_session(pid).into_iter().map(|pid| format!("process {pid}"));
        let groups = demo_groups(pid).into_iter().map(|group| format!("cgroup {}", group.display()));
        let files = fs::read_dir(self.folder.path()).expect("the folder").flatten();
        let files = files.map(|file| format!("file {}", file.path().display()));
        processes.chain(groups).chain(files).collect()
    }
}

/// The terminal's session has the process as its leader, and whatever it starts is a member.
fn members_of_session(leader: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent group session …`: proc_pid_stat(5). The name may have brackets in it.
        let session =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3)?.parse().ok());
        session == Some(leader)
    })
    .collect()
}

/// Presses Ctrl-C, and expects this exit code and nothing else.
#[track_caller]
fn ends(arguments: &[&str], code: i32, is_in_the_middle: impl Fn(&Console) -> bool) {
    let mut run = Run::start(arguments, is_in_the_middle);
    let status = run.interrupt();
    assert_eq!(status.code(), Some(code), "{arguments:?}: {status}: {}", run.console.text());
    assert_eq!(run.left(), Vec::<String>::new(), "{arguments:?}");
    assert!(run.console.is_restored(), "{arguments:?}: {}", run.console.text());
}

/// The process waits for signals, and has started others.
fn has_children(console: &Console) -> bool {
    !child_processes(console.pid()).is_empty()
}

fn has_children_and_groups(console: &Console) -> bool {
    has_children(console) && !demo_groups(console.pid()).is_empty()
}

fn waits_for_signals(console: &Console) -> bool {
    threads_of(&console.pid().to_string()).iter().any(|(_, name)| name == "vrange-signals")
}

fn demo<'a>(directory: &'a str, pressure: &'a str) -> [&'a str; 8] {
    ["demo", directory, "--memory", "64M", "--rounds", "99", "--pressure", pressure]
}

#[test]
fn a_demo_leaves_nothing() {
    let files = directory_of_files(64 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    ends(&demo(directory, "madvise"), 130, has_children);
    if has_cgroup() {
        ends(&demo(directory, "cgroup"), 130, has_children_and_groups);
    }
}

#[test]
fn benches_leave_nothing() {
    ends(&["bench", "ranges"], 130, waits_for_signals);
    ends(&["bench", "raw"], 130, waits_for_signals);
    ends(&["bench", "malloc", "--svg", "chart.svg"], 130, has_children);
    ends(&["bench", "cache", "--part", "get"], 130, waits_for_signals);
    ends(&["bench", "cache", "--part", "hit-rate", "--svg", "chart.svg"], 130, has_children);
    if has_cgroup() {
        ends(&["bench", "cache", "--part", "tenant", "--svg", "chart.svg"], 130, has_children_and_groups);
        ends(&["bench", "cache", "--part", "handback"], 130, |console| {
            let is_it = |group: &std::path::PathBuf| group.to_string_lossy().ends_with("-handback");
            has_children(console) && demo_groups(console.pid()).iter().any(is_it)
        });
    }
}

/// While it is still being tried out whether a group can be made: an interruption is no sign that none can.
#[test]
fn an_early_interrupt_is_one() {
    if !has_cgroup() {
        return;
    }
    let files = directory_of_files(64 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    for _ in 0..5 {
        for arguments in [&demo(directory, "cgroup")[..], &["bench", "cache", "--part", "handback"]] {
            ends(arguments, 130, |console| !demo_groups(console.pid()).is_empty());
        }
    }
}

/// These are meant to be ended so.
#[test]
fn what_goes_on_for_ever_leaves_nothing() {
    ends(&["stat", "--watch", "0.1"], 0, waits_for_signals);
    ends(&["exporter", "--listen", "127.0.0.1:0"], 0, |console| console.text().contains("/metrics"));
    ends(&["top"], 0, |console| console.text().contains("vrange top"));
}

/// The program has the terminal, and its signals, to itself.
#[test]
fn a_program_under_run_leaves_nothing_of_ours() {
    if !are_built(&["libvrange_preload.so", "libvrange_mimalloc.so"]) {
        return;
    }
    for malloc in ["none", "mimalloc"] {
        let is_program = |console: &Console| {
            fs::read_to_string(format!("/proc/{}/comm", console.pid()))
                .is_ok_and(|name| name.trim() == "sleep")
        };
        let mut run = Run::start(&["run", "--malloc", malloc, "sleep", "600"], is_program);
        assert_eq!(run.interrupt().signal(), Some(Signal::INT.as_raw()));
        assert_eq!(run.left(), Vec::<String>::new());
    }
}

/// The control: what is left is found. Nobody can clean up behind a process that is killed.
#[test]
fn control_what_a_killed_demo_leaves_is_seen() {
    if !has_cgroup() {
        return;
    }
    let files = directory_of_files(64 << 20);
    let directory = files.path().to_str().expect("UTF-8");
    let mut run = Run::start(&demo(directory, "cgroup"), has_children_and_groups);
    fs::write(run.folder.path().join("left"), "").expect("a file");
    run.console.signal(Signal::KILL);
    run.console.end();
    let left = run.left();
    assert!(left.iter().any(|left| left.starts_with("cgroup ")), "{left:?}");
    assert!(left.iter().any(|left| left.starts_with("file ")), "{left:?}");
    for group in demo_groups(run.console.pid()) {
        wait_until("an empty cgroup", || fs::remove_dir(&group).is_ok());
    }
}
