//! Ctrl-C and its relatives.
//!
//! A thread waits for the signals. When one comes it kills the children that are registered here; whoever waits for
//! them reads an end of file and returns an error, and every guard on the way out (cgroups, children) is dropped as
//! after any other error. So there is one way to clean up, not two.

use std::process::Child;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// The children that must not outlive the command, and whether a signal came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The signal that came first, or 0.
    signal: AtomicI32,
    /// Children that were started and not waited for. Waiting happens under this lock, so that no process id in the
    /// list can have been given to another process.
    children: Mutex<Vec<Child>>,
}

impl Interrupt {
    /// Starts to listen.
    ///
    /// # Errors
    /// The signals cannot be caught, or no thread can be started.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::run(format!("catching signals: {error}")))?;
        let heard = interrupt.clone();
        std::thread::Builder::new()
            .name("vrange-signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    heard.hear(signal);
                }
            })
            .map_err(|error| Failure::run(format!("starting the thread that waits for signals: {error}")))?;
        Ok(interrupt)
    }

    /// Fails if a signal came.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        // SeqCst: signals are rare; whoever registers a child checks after, whoever hears a signal kills after.
        match self.shared.signal.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Failure::interrupted(signal)),
        }
    }

    /// Waits, and fails as soon as a signal comes.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        let until = Instant::now() + duration;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Hands a child over. If a signal came in the meantime the child is killed at once.
    pub(crate) fn adopt(&self, child: Child) -> u32 {
        let pid = child.id();
        let mut children = self.children();
        children.push(child);
        if self.check().is_err() {
            kill_all(&mut children);
        }
        pid
    }

    /// Whether the child has ended, and how. A child that is not known any more has no status.
    pub(crate) fn try_wait(&self, pid: u32) -> std::io::Result<Option<std::process::ExitStatus>> {
        let mut children = self.children();
        let Some(index) = children.iter().position(|child| child.id() == pid) else { return Ok(None) };
        let status = children[index].try_wait()?;
        if status.is_some() {
            drop(children.swap_remove(index));
        }
        Ok(status)
    }

    /// Kills the child and waits for its end. Does nothing for a child that is not known any more.
    pub(crate) fn kill(&self, pid: u32) {
        let mut children = self.children();
        if let Some(index) = children.iter().position(|child| child.id() == pid) {
            let mut child = children.swap_remove(index);
            // Both fail only if the child is gone, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn hear(&self, signal: i32) {
        // SeqCst: see `check`. The first signal decides the exit code.
        let _ = self.shared.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        kill_all(&mut self.children());
    }

    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        self.shared.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kill_all(children: &mut [Child]) {
    for child in children {
        // Fails only if the child has ended by itself.
        let _ = child.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_kills_the_children_and_fails_the_next_check() {
        let interrupt = Interrupt::default();
        let sleeper = std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let pid = interrupt.adopt(sleeper);
        assert!(interrupt.check().is_ok());
        assert!(interrupt.try_wait(pid).expect("wait works").is_none());
        interrupt.hear(SIGINT);
        assert!(interrupt.check().is_err());
        while interrupt.try_wait(pid).expect("wait works").is_none() {
            std::thread::yield_now();
        }
        assert!(interrupt.children().is_empty());
    }

    #[test]
    fn a_child_adopted_after_the_signal_is_killed_too() {
        let interrupt = Interrupt::default();
        interrupt.hear(SIGTERM);
        let sleeper = std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let pid = interrupt.adopt(sleeper);
        while interrupt.try_wait(pid).expect("wait works").is_none() {
            std::thread::yield_now();
        }
    }
}
