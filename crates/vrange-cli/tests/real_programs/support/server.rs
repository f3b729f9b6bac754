//! Processes that a test has started, which do not outlive it.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, set_parent_process_death_signal,
    waitid,
};

use super::wait_for;

const LOOK_WAIT: Duration = Duration::from_millis(20);
/// How long one that nobody asked to end may take for it.
const END_MAX: Duration = Duration::from_secs(5);

/// A server, or another process that may not end. Dropping it before it has ended ends it and all that it has
/// started, also while a test panics.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts it. `vrange run` becomes the program, so that its process is the server's.
    ///
    /// # Panics
    /// It cannot be started.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        // A test program that is killed takes its servers with it.
        let follow = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into);
        // SAFETY: between fork and exec, this makes one system call; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(follow) };
        // A group of its own: what it starts is in it, too.
        let child = command.process_group(0).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the test talks to it through, if the command has pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until there is an answer from the server.
    ///
    /// # Panics
    /// It ends before, or none comes.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
        wait_for(what, || {
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "waiting for {what}, the server ended: {ended:?}");
            answer()
        })
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub(crate) fn end(self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("the server runs");
        self.wait_for_end()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub(crate) fn wait_for_end(mut self) -> ExitStatus {
        wait_for("the end of a server", || self.child.try_wait().expect("a child of ours"))
    }

    /// How it ends by itself, if it does before a time is over.
    pub(crate) fn ends_within(mut self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            let ended = self.child.try_wait().expect("a child of ours");
            if ended.is_some() || Instant::now() > until {
                return ended;
            }
            sleep(LOOK_WAIT);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let pid = Pid::from_child(&self.child);
        // Kindly first: PostgreSQL leaves a segment of shared memory behind if it is killed.
        let _ = kill_process(pid, Signal::INT);
        let until = Instant::now() + END_MAX;
        // Looked at without being waited for: its number, which is its group's too, stays its own.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), look).is_ok_and(|ended| ended.is_none()) && Instant::now() < until {
            sleep(LOOK_WAIT);
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait();
    }
}
