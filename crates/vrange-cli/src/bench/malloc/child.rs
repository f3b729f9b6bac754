//! One process, from its start to its report.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::launch::{Launch, is_foreign};
use super::load::Load;
use super::process::Report;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// What a process may take beyond what it is told to do: to start, to finish what it is at, and to end.
const MORE: Duration = Duration::from_secs(60);

/// How long a process does what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) warm_up: Duration,
    pub(super) work: Duration,
    /// Nothing, and then a look at the memory in use.
    pub(super) rest: Option<Duration>,
}

/// Starts a process and waits for its end. The inner result says why it has no report that counts.
pub(super) fn run(
    launch: &Launch,
    load: Load,
    times: Times,
    interrupt: &Interrupt,
) -> Result<Result<Report, String>, Failure> {
    interrupt.check()?;
    let mut child = command(launch, load, times)
        .spawn()
        .map_err(|error| Failure::io("starting", "the process to measure", &error))?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let pid = interrupt.adopt(child);
    let Some((mut stdout, mut stderr)) = pipes else {
        interrupt.kill(pid);
        return Err(Failure::run("the process to measure has no pipes"));
    };
    let ended = thread::scope(|scope| {
        let told = scope.spawn(move || text(&mut stdout));
        let said = scope.spawn(move || text(&mut stderr));
        let status = wait(pid, times.warm_up + times.work + times.rest.unwrap_or_default() + MORE, interrupt);
        // If it has not ended by itself: so that its pipes are closed.
        interrupt.kill(pid);
        (status, told.join().unwrap_or_default(), said.join().unwrap_or_default())
    });
    interrupt.check()?;
    let (status, told, said) = ended;
    Ok(judge(launch, status, &told, &said))
}

fn command(launch: &Launch, load: Load, times: Times) -> Command {
    // The file that is running, even if it was replaced or removed since.
    let mut command = Command::new("/proc/self/exe");
    command.args(["malloc-work", "--workload", load.workload.name()]);
    for (flag, number) in [
        ("--threads", u128::from(load.threads)),
        ("--warm-up-ms", times.warm_up.as_millis()),
        ("--work-ms", times.work.as_millis()),
        ("--parent", u128::from(std::process::id())),
    ] {
        command.arg(flag).arg(number.to_string());
    }
    if let Some(rest) = times.rest {
        command.arg("--rest-ms").arg(rest.as_millis().to_string());
    }
    if launch.lazy {
        command.arg("--lazy");
    }
    if launch.clear {
        command.arg("--clear");
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_foreign(name)) {
        command.env_remove(name);
    }
    command.envs(launch.variables.iter().map(|(name, value)| (name, value)));
    // A process group of its own: the terminal's Ctrl-C reaches the parent, and the parent decides.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Polls: a blocking wait would hold the lock that the signal thread needs.
fn wait(pid: u32, at_most: Duration, interrupt: &Interrupt) -> Option<ExitStatus> {
    let until = Instant::now() + at_most;
    while Instant::now() < until {
        match interrupt.try_wait(pid) {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(_) => return None,
        }
    }
    None
}

/// Everything up to the end; what cannot be read is not there.
fn text(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn judge(launch: &Launch, status: Option<ExitStatus>, told: &str, said: &str) -> Result<Report, String> {
    let Some(status) = status else {
        return Err("the process did not come to an end".to_owned());
    };
    if !status.success() {
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let last = last.map(|line| format!(": {line}")).unwrap_or_default();
        return Err(format!("the process ended with {status}{last}"));
    }
    let report: Report =
        serde_json::from_str(told).map_err(|error| format!("the process told something strange: {error}"))?;
    launch.check(&report, said)?;
    Ok(report)
}
