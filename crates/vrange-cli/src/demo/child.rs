//! A process that the demo started: how to talk to it, how to tell that it was killed, how to end it.

use std::io::{BufReader, BufWriter};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Serialize, de::DeserializeOwned};

use super::wire;
use crate::command_line::ProcessOptions;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::parent;

/// How long a process may take to end after it closed its output.
const END_MS_MAX: u64 = 10_000;

/// A child that answers lines of JSON. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child<'i> {
    role: &'static str,
    interrupt: &'i Interrupt,
    pid: u32,
    to: Option<BufWriter<ChildStdin>>,
    from: BufReader<ChildStdout>,
    /// How it ended, once that is known: the system tells it only once.
    ended: Option<ExitStatus>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The process was killed by somebody else: with SIGKILL, most likely for want of memory.
    Killed,
    /// Anything else.
    Failed(Failure),
}

impl From<NoAnswer> for Failure {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Killed => Self::run("a process that was started was killed"),
            NoAnswer::Failed(failure) => failure,
        }
    }
}

impl<'i> Child<'i> {
    /// Starts this program again in the given role. With `join`, the child enters that cgroup before anything else.
    ///
    /// # Errors
    /// The process cannot be started, or a signal came.
    pub(crate) fn start(
        role: &'static str,
        join: Option<&Path>,
        interrupt: &'i Interrupt,
    ) -> Result<Self, Failure> {
        Self::start_as(&["demo-process", role], role, join, interrupt)
    }

    /// The same with any arguments, behind which `--parent`, and perhaps `--join`, are put.
    ///
    /// # Errors
    /// The process cannot be started, or a signal came.
    pub(crate) fn start_as(
        arguments: &[&str],
        role: &'static str,
        join: Option<&Path>,
        interrupt: &'i Interrupt,
    ) -> Result<Self, Failure> {
        interrupt.check()?;
        // The file that is running, even if it was replaced or removed since.
        let mut command = Command::new("/proc/self/exe");
        command.args(arguments).args(["--parent", &std::process::id().to_string()]);
        if let Some(join) = join {
            command.arg("--join").arg(join);
        }
        // A process group of its own: the terminal's Ctrl-C reaches the parent, and the parent decides.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Failure::io("starting the", role, &error))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let pid = interrupt.adopt(child);
        let Some((to, from)) = pipes else {
            interrupt.kill(pid);
            return Err(Failure::run(format!("the {role} process has no pipes")));
        };
        Ok(Self {
            role,
            interrupt,
            pid,
            to: Some(BufWriter::new(to)),
            from: BufReader::new(from),
            ended: None,
        })
    }

    /// Sends one line.
    pub(crate) fn send(&mut self, value: &impl Serialize) -> Result<(), NoAnswer> {
        let Some(to) = &mut self.to else { return Err(self.explain_end()) };
        match wire::send(to, value) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.explain_end()),
        }
    }

    /// Waits for one line.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Result<T, NoAnswer> {
        match wire::receive(&mut self.from) {
            Ok(Some(value)) => Ok(value),
            Ok(None) | Err(_) => Err(self.explain_end()),
        }
    }

    /// Lets the process end by itself.
    pub(crate) fn finish(mut self) -> Result<(), NoAnswer> {
        drop(self.to.take());
        match self.wait() {
            Some(status) if status.success() => Ok(()),
            status => Err(self.explain(status)),
        }
    }

    /// Why the pipe was closed.
    fn explain_end(&mut self) -> NoAnswer {
        drop(self.to.take());
        let status = self.wait();
        self.explain(status)
    }

    fn explain(&self, status: Option<ExitStatus>) -> NoAnswer {
        if let Err(failure) = self.interrupt.check() {
            return NoAnswer::Failed(failure);
        }
        match status {
            Some(status) if status.signal() == Some(9) => NoAnswer::Killed,
            Some(status) => {
                NoAnswer::Failed(Failure::run(format!("the {} process ended early: {status}", self.role)))
            }
            None => NoAnswer::Failed(Failure::run(format!("the {} process does not answer", self.role))),
        }
    }

    /// Waits for the process to end. Polls: a blocking wait would hold the lock that the signal thread needs.
    fn wait(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + Duration::from_millis(END_MS_MAX);
        while self.ended.is_none() && Instant::now() < until {
            match self.interrupt.try_wait(self.pid) {
                Ok(Some(status)) => self.ended = Some(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => break,
            }
        }
        self.ended
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        self.interrupt.kill(self.pid);
    }
}

/// The first thing a child does: to end with its parent, and to enter its cgroup while it is still small.
///
/// # Errors
/// The parent is gone already, or the cgroup cannot be entered.
pub(crate) fn settle(options: &ProcessOptions) -> Result<(), Failure> {
    parent::end_with(options.parent)?;
    if let Some(join) = &options.join {
        std::fs::write(join, "0")
            .map_err(|error| Failure::io("entering the cgroup by", join.display(), &error))?;
    }
    Ok(())
}
