//! `vrange top` on a terminal, beside a process that has volatile memory.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vrange::{Buffer, Heap};
use vrange_os::PAGE_BYTES;
use vrange_testing::{Child, Console, Job, Signal, Talk, serve, skipped};

#[test]
fn jobs() {
    serve(&[("volatile", volatile)]);
}

/// A heap with 3 MiB that are offered, and a MiB that is not.
fn volatile(talk: &mut Talk) {
    // Of the process's first thread, which is not the one that runs this.
    std::fs::write("/proc/self/comm", talk.words().next().expect("a name")).expect("a name");
    let heap = Heap::builder().name("pictures").build().expect("a heap");
    let buffers: Vec<Buffer> = (0..4)
        .map(|_| {
            let mut buffer = heap.buffer(256 * PAGE_BYTES).expect("a buffer");
            buffer.pin_mut().intact().expect("new").fill(7);
            buffer
        })
        .collect();
    assert!(buffers[1..].iter().all(Buffer::offer));
    talk.say("ready");
    talk.hear();
}

/// A process with a name that begins so, and is no other's, whoever else runs these tests.
fn started(name: &str) -> (Child, String) {
    let name = format!("{name}-{}", std::process::id());
    let mut child = Job::new(format!("volatile {name}")).start();
    assert_eq!(child.hear().expect("it runs"), "ready");
    (child, name)
}

fn top(arguments: &[&str], lines: u16, columns: u16) -> Console {
    let mut command: Command = common::vrange();
    command.arg("top").args(["--interval", "0.1"]).args(arguments);
    Console::start(command, lines, columns)
}

#[test]
fn a_process_is_listed_opened_and_left() {
    let (child, name) = started("seen");
    let mut console = top(&[], 24, 80);
    // Number, name, resident, reclaimable, pinned, volatile, offered. What it publishes first is from before it was ready.
    let pid = child.pid().to_string();
    let is_listed = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(..2) == Some(&[&*pid, &*name]) && words.get(3..7) == Some(&["4M", "0B", "1M", "3M"])
    };
    console.wait_for("the process", |text| text.lines().any(is_listed));
    assert!(console.is_taken());
    // By name, so that it stays alone.
    console.press(&format!("/{name}\r"));
    console.wait_for("one process", |text| text.starts_with("vrange top: 1 process,"));
    console.press("\r");
    let text = console.wait_for("its page", |text| text.contains("UNUSED FOR"));
    assert!(text.contains("pictures") && text.contains("MEMORY OF"), "{text}");
    console.press("q");
    console.wait_for("the list", |text| text.starts_with("vrange top"));
    console.press("?");
    console.wait_for("the help", |text| text.contains("Any key goes back"));
    console.press("xq");
    assert_eq!(console.end().code(), Some(0));
    assert!(console.is_restored());
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let (_child, name) = started("sized");
    let mut console = top(&[&name], 24, 80);
    console.wait_for("the process", |text| text.contains(&name));
    console.resize(30, 130);
    console.wait_for("more columns", |text| text.contains("HEADROOM") && text.contains(&name));
    console.resize(5, 20);
    console.wait_for("the name alone", |text| text.contains(&name) && !text.contains("RECLAIM"));
    console.resize(1, 1);
    console.resize(24, 80);
    console.wait_for("all of it", |text| text.contains("VOLATILE") && text.contains(&name));
    console.press("q");
    assert_eq!(console.end().code(), Some(0));
    assert!(console.is_restored());
}

/// What the terminal reports at the same moment is all heard, without waiting for another key.
#[test]
fn keys_that_come_with_a_change_of_size_are_not_lost() {
    let mut console = top(&[], 24, 80);
    console.wait_for("the screen", |text| text.contains("vrange top"));
    for round in 0..60 {
        console.resize(24, 81 + round % 2);
        console.press("?");
        console.wait_for("the help", |text| text.contains("Any key goes back"));
        console.resize(24, 83 + round % 2);
        console.press("x");
        console.wait_for("the list", |text| text.contains("vrange top"));
    }
}

#[test]
fn a_process_that_is_killed_vanishes() {
    let (child, name) = started("brief");
    let mut console = top(&["--", &name], 24, 80);
    console.wait_for("the process", |text| text.contains(&name));
    console.press("\r");
    console.wait_for("its page", |text| text.contains("UNUSED FOR"));
    child.signal(Signal::KILL);
    console.wait_for("its end", |text| text.contains(&format!("Process {} has ended", child.pid())));
    console.press("q");
    console.wait_for("an empty list", |text| text.contains("No process that this user may look into"));
    console.press("q");
    assert_eq!(console.end().code(), Some(0));
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    for (ends, code) in [("\x03", 0), ("\x04", 0)] {
        let mut console = top(&[], 24, 80);
        console.wait_for("the screen", |text| text.contains("vrange top"));
        console.press(ends);
        assert_eq!(console.end().code(), Some(code));
        assert!(console.is_restored());
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut console = top(&[], 24, 80);
        console.wait_for("the screen", |text| text.contains("vrange top"));
        console.signal(signal);
        assert_eq!(console.end().code(), Some(128 + signal.as_raw()));
        assert!(console.is_restored());
    }
    // The control: nobody can give it back for a process that is killed.
    let mut console = top(&[], 24, 80);
    console.wait_for("the screen", |text| text.contains("vrange top"));
    console.signal(Signal::KILL);
    let _ = console.end();
    assert!(!console.is_restored());
}

/// A terminal multiplexer of its own, with a shell in it.
struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    /// `None`, said as a test that skips: it is not installed.
    fn start(lines: u16, columns: u16) -> Option<Self> {
        if which::which("tmux").is_err() {
            skipped("tmux is not installed");
            return None;
        }
        let this = Self { folder: tempfile::tempdir().expect("a folder") };
        let (lines, columns) = (lines.to_string(), columns.to_string());
        this.tell(&["new-session", "-d", "-x", &columns, "-y", &lines, "env PS1='$ ' sh"]);
        Some(this)
    }

    fn tell(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        let socket = self.folder.path().join("socket");
        command.env_remove("TMUX").arg("-S").arg(socket).args(["-f", "/dev/null"]).args(arguments);
        let output = command.output().expect("it starts");
        assert!(output.status.success(), "tmux {arguments:?}: {}", common::stderr(&output));
        common::stdout(&output)
    }

    fn type_line(&self, line: &str) {
        self.tell(&["send-keys", "-l", line]);
        self.tell(&["send-keys", "Enter"]);
    }

    /// Waits until what is on the screen is as wanted.
    #[track_caller]
    fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.tell(&["capture-pane", "-p"]);
            if is_so(&text) {
                return text;
            }
            assert!(Instant::now() < until, "waited 20 s for {what}; the screen:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What tmux says of its window, such as whether a program has taken the screen.
    fn ask(&self, format: &str) -> String {
        self.tell(&["display-message", "-p", format]).trim().to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.tell(&["kill-server"]);
    }
}

#[test]
fn it_works_in_tmux() {
    let Some(tmux) = Tmux::start(24, 80) else { return };
    let (_child, name) = started("muxed");
    tmux.wait_for("a shell", |text| text.contains('$'));
    let path = shell_quoted(env!("CARGO_BIN_EXE_vrange"));
    tmux.type_line(&format!("{path} top --interval 0.1 {name}; echo it ended with $?"));
    let text = tmux.wait_for("the process", |text| text.contains("RECLAIM") && text.contains(&name));
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.lines().count() == 24, "{text}");
    assert_eq!(tmux.ask("#{alternate_on}"), "1", "it has the screen");
    tmux.tell(&["resize-window", "-x", "130", "-y", "30"]);
    tmux.wait_for("more columns", |text| text.contains("HEADROOM") && text.contains(&name));
    tmux.tell(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.wait_for("fewer columns", |text| !text.contains("HEADROOM") && text.contains(&name));
    tmux.tell(&["send-keys", "Enter"]);
    tmux.wait_for("its page", |text| text.contains("UNUSED FOR"));
    tmux.tell(&["send-keys", "q"]);
    tmux.wait_for("the list", |text| text.contains("VOLATILE"));
    tmux.tell(&["send-keys", "q"]);
    tmux.wait_for("the shell", |text| text.contains("it ended with 0"));
    assert_eq!(
        tmux.ask("#{alternate_on} #{cursor_flag}"),
        "0 1",
        "the shell has the screen and the cursor again"
    );
}

/// As one word of a shell.
fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[test]
fn without_a_terminal_it_prints_once() {
    let (child, name) = started("piped");
    for arguments in [&["top", &*name][..], &["top", "--once", &*name]] {
        common::wait_until("the process", || {
            let output = common::vrange().args(arguments).stdin(Stdio::null()).output().expect("it starts");
            let text = common::stdout(&output);
            output.status.success() && text.contains("pictures") && text.contains(&child.pid().to_string())
        });
    }
}
