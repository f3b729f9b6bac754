//! A bench as a process of its own: this program again.

use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// How long a bench may take to clean up (processes, cgroups) after it was asked to end.
const END_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a bench ended, and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why it counts as failed, if it does.
    pub(super) failed: Option<String>,
    /// Standard output.
    pub(super) told: String,
    /// Standard error, without the last line if that is why it failed.
    pub(super) said: String,
    pub(super) took: Duration,
}

/// Runs a bench to its end.
///
/// # Errors
/// It cannot be started, or a signal came; then it was ended.
pub(super) fn run(arguments: &[String], interrupt: &Interrupt) -> Result<Ended, Failure> {
    interrupt.check()?;
    let begun = Instant::now();
    // The file that is running, even if it was replaced or removed since.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--started-by", &std::process::id().to_string()]).args(arguments).arg("--bundle");
    // A process group of its own: the terminal's Ctrl-C reaches this process, which asks the bench to end.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| Failure::io("starting", "a bench", &error))?;
    let mut running = Running { child };
    let pipes = running.child.stdout.take().zip(running.child.stderr.take());
    let Some((mut stdout, mut stderr)) = pipes else {
        return Err(Failure::run("the bench has no pipes"));
    };
    let (status, told, said) = thread::scope(|scope| {
        let told = scope.spawn(move || text(&mut stdout));
        let said = scope.spawn(move || text(&mut stderr));
        let status = running.wait(interrupt);
        // After an error, so that its pipes are closed.
        drop(running);
        (status, told.join().unwrap_or_default(), said.join().unwrap_or_default())
    });
    Ok(judge(status?, told, &said, begun.elapsed()))
}

/// A bench that runs. Dropping it ends it, in a way that lets it clean up.
struct Running {
    child: Child,
}

impl Running {
    fn wait(&mut self, interrupt: &Interrupt) -> Result<ExitStatus, Failure> {
        loop {
            interrupt.check()?;
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => thread::sleep(LOOK_EVERY),
                Err(error) => return Err(Failure::io("waiting for", "a bench", &error)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let until = Instant::now() + END_WITHIN;
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && matches!(self.child.try_wait(), Ok(None))
        {
            // Not waited for yet, so the number is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                // Fails only if it has just ended.
                let _ = self.child.kill();
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Everything up to the end; what cannot be read is not there.
fn text(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn judge(status: ExitStatus, told: String, said: &str, took: Duration) -> Ended {
    if status.success() {
        return Ended { failed: None, told, said: said.to_owned(), took };
    }
    let said = said.trim_end();
    let (before, last) = said.rsplit_once('\n').unwrap_or(("", said));
    // As `main` reports it.
    let (said, reason) = match last.strip_prefix("error: ") {
        Some(reason) => (before, reason.to_owned()),
        None => (said, how(status)),
    };
    Ended { failed: Some(reason), told, said: said.to_owned(), took }
}

fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("the process was ended by signal {signal}"),
        None => format!("the process ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32, said: &str) -> Ended {
        judge(ExitStatus::from_raw(status), String::new(), said, Duration::ZERO)
    }

    #[test]
    fn the_reason_is_what_was_reported_or_else_how_it_ended() {
        let reported = ended(1 << 8, "a remark\nerror: no memory (buy some)\n");
        assert_eq!(reported.failed.as_deref(), Some("no memory (buy some)"));
        assert_eq!(reported.said, "a remark");
        let killed = ended(9, "a remark\n");
        assert_eq!(killed.failed.as_deref(), Some("the process was ended by signal 9"));
        assert_eq!(killed.said, "a remark");
        assert_eq!(ended(0, "a remark\n").failed, None);
    }
}
