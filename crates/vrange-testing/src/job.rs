//! The test program as a second process: it is started again, told to do a job, and spoken to in lines of text.
//!
//! A test program names its jobs in one function that is itself a test, so that the test harness finds it:
//!
//! ```no_run
//! use vrange_testing::{Talk, serve};
//!
//! // With `#[test]`.
//! fn jobs() {
//!     serve(&[("double", double)]);
//! }
//!
//! fn double(talk: &mut Talk) {
//!     while let Some(line) = talk.hear() {
//!         talk.say(&format!("{line}{line}"));
//!     }
//! }
//! ```

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::is_emulated;

/// Name of the test that calls [`serve`], at the top of its program.
const SERVING_TEST: &str = "jobs";
/// Tells a child its job and its words.
const JOB: &str = "VRANGE_TEST_JOB";
/// Tells a child the groups to enter first, with a line for each.
const GROUPS: &str = "VRANGE_TEST_GROUPS";
/// Tells a child who started it, so that it notices if that one has ended before the death signal was set.
const PARENT: &str = "VRANGE_TEST_PARENT";
/// Options of AddressSanitizer. Unset in a program that was built without it, as a rule.
const ADDRESS_SANITIZER: &str = "ASAN_OPTIONS";
/// Begins each line of the conversation: the test harness prints to the same place.
const MARK: &str = "» ";
/// No answer takes longer than this, so that a process that hangs fails its test. What takes a second elsewhere takes an emulated
/// machine half a minute, and more where the machine that emulates it is busy.
fn answer_max() -> Duration {
    Duration::from_secs(if is_emulated() { 600 } else { 120 })
}

/// A job to be done by a process of its own.
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Job {
    words: String,
    entries: Vec<PathBuf>,
}

impl Job {
    /// The job named by the first word; the others are for it to make sense of.
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), entries: Vec::new() }
    }

    /// Has the process enter a cgroup, by its `cgroup.procs`, before the job begins.
    pub fn enter(mut self, entry: impl Into<PathBuf>) -> Self {
        self.entries.push(entry.into());
        self
    }

    /// Starts the process. It ends when the calling thread does, or the child is dropped.
    ///
    /// # Panics
    /// The test program cannot be started again.
    #[track_caller]
    pub fn start(self) -> Child {
        let entries: Vec<_> = self.entries.iter().map(|entry| entry.to_string_lossy()).collect();
        let mut command = Command::new("/proc/self/exe");
        if let (Ok(options), false) = (std::env::var(ADDRESS_SANITIZER), self.entries.is_empty()) {
            // What it keeps of freed memory, up to 256 MiB, would be charged to the group.
            command.env(ADDRESS_SANITIZER, format!("{options}:quarantine_size_mb=0"));
        }
        let mut process = command
            .args(["--exact", SERVING_TEST, "--nocapture", "--test-threads=1"])
            .env(JOB, &self.words)
            .env(GROUPS, entries.join("\n"))
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test program starts again");
        let to = process.stdin.take().expect("a pipe was asked for");
        let from = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        let (heard, answers) = channel();
        // Ends when the process closes its output, at its end.
        std::thread::spawn(move || {
            let said = from.lines().map_while(Result::ok);
            let said = said.filter_map(|line| line.strip_prefix(MARK).map(str::to_owned));
            // Nobody listens any more once the child is dropped.
            let _ = said.map(|line| heard.send(line)).find(Result::is_err);
        });
        Child { words: self.words, process, to, answers }
    }
}

/// A process that does a job. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    words: String,
    process: std::process::Child,
    to: ChildStdin,
    answers: Receiver<String>,
}

/// The process ended instead of answering.
#[derive(Debug)]
pub struct Ended(pub ExitStatus);

impl Ended {
    /// By SIGKILL, which is what the kernel sends when memory is exhausted?
    pub fn was_killed(&self) -> bool {
        self.0.signal() == Some(Signal::KILL.as_raw())
    }
}

impl Child {
    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Says a line to the process, which may have ended.
    pub fn say(&mut self, line: &str) {
        // That it has ended is noticed when it does not answer.
        let _ = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
    }

    /// What the process says next, or how it ended.
    ///
    /// # Errors
    /// The process ended.
    ///
    /// # Panics
    /// It says nothing for two minutes, or ten on an emulated machine.
    #[track_caller]
    pub fn hear(&mut self) -> Result<String, Ended> {
        self.hear_within(answer_max())
            .map(|line| line.unwrap_or_else(|| panic!("no answer from {}", self.words)))
    }

    /// As [`hear`](Self::hear), but `None` where nothing is said within `time`.
    ///
    /// # Errors
    /// The process ended.
    ///
    /// # Panics
    /// The system does not tell how it ended.
    pub fn hear_within(&mut self, time: Duration) -> Result<Option<String>, Ended> {
        match self.answers.recv_timeout(time) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Ended(self.process.wait().expect("a child to wait for")))
            }
        }
    }

    /// Says a line and hears the answer.
    ///
    /// # Errors
    /// The process ended.
    ///
    /// # Panics
    /// As [`hear`](Self::hear).
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Result<String, Ended> {
        self.say(line);
        self.hear()
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// It was waited for already.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.rustix_pid(), signal).expect("a child of ours that was not waited for");
    }

    fn rustix_pid(&self) -> Pid {
        i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A job's side of the conversation.
#[derive(Debug)]
pub struct Talk {
    words: Vec<String>,
}

impl Talk {
    /// The words of [`Job::new`] behind the job's name.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }

    /// The value of a word `name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.words().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value of a word `name=number`.
    ///
    /// # Panics
    /// It is not a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.option(name).map(|value| value.parse().expect("a number"))
    }

    /// Is this word among the words?
    pub fn has(&self, name: &str) -> bool {
        self.words().any(|word| word == name)
    }

    /// What the test says next; `None` when it has nothing more to say.
    pub fn hear(&mut self) -> Option<String> {
        std::io::stdin().lines().next()?.ok()
    }

    /// Says a line to the test.
    pub fn say(&mut self, line: &str) {
        say(line);
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // The first line follows what the harness has printed without ending the line. A test that is gone needs no answer.
    let _ = writeln!(output, "\n{MARK}{line}").and_then(|()| output.flush());
}

/// A job's name, and what does it.
pub type Named = (&'static str, fn(&mut Talk));

/// Does the job that this process was started for, and ends the process. In a process that was started for none, returns
/// at once: then this is only one of a program's tests. To be called by a test named `jobs`, at the top of its program.
///
/// # Panics
/// There is no such job, or a group cannot be entered.
pub fn serve(jobs: &[Named]) {
    let Ok(words) = std::env::var(JOB) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a death signal");
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if std::env::var(PARENT).ok() != parent {
        std::process::exit(1);
    }
    let entries = std::env::var(GROUPS).unwrap_or_default();
    for entry in entries.lines().map(Path::new) {
        std::fs::write(entry, "0").unwrap_or_else(|error| panic!("entering {}: {error}", entry.display()));
    }
    let mut talk = Talk { words: words.split_whitespace().map(str::to_owned).collect() };
    let name = talk.words.first().expect("a job has a name").clone();
    let (_, job) = jobs.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no job {name}"));
    job(&mut talk);
    std::process::exit(0);
}

/// Writes a line past the test harness.
pub(crate) fn announce(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
