//! What the tests of programs share.

mod input;
mod resident;
mod server;
mod way;

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use vrange_testing::{Scale, scale, skipped};

pub(crate) use input::{content, input};
pub(crate) use resident::{assert_back, assert_loaded, has_reclaimer, kept_by_plain_run};
pub(crate) use server::Server;
pub(crate) use way::Way;

/// How long anything may take that a test waits for. The machine may be busy.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_millis(20);

/// The program of this name, or a line that says that it is not here.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    which::which(name).map_err(|_| skipped(&format!("there is no {name}"))).ok()
}

/// Is this the long form? Says so if it is not.
pub(crate) fn is_soak() -> bool {
    let soak = scale() == Scale::Soak;
    if !soak {
        skipped("runs in the long form only (VRANGE_TEST_SCALE=soak)");
    }
    soak
}

/// Runs a command to its end, which has to be a good one.
///
/// # Panics
/// It fails or hangs: with what it printed.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Output {
    finish_with(command, Stdio::null())
}

/// As [`finish`], with something to read.
#[track_caller]
pub(crate) fn finish_with(command: &mut Command, input: Stdio) -> Output {
    let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
    let writer = |file: &File| file.try_clone().expect("a descriptor");
    let process = Server::start(command.stdin(input).stdout(writer(&stdout)).stderr(writer(&stderr)));
    let status = process.ends_within(Duration::from_secs(scale().pick(300, 1800)));
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was printed");
        bytes
    };
    let (stdout, stderr) = (read(&mut stdout), read(&mut stderr));
    let how = status.map_or_else(|| "it hangs".to_owned(), |status| status.to_string());
    let output = Output { status: status.unwrap_or_default(), stdout, stderr };
    let said = String::from_utf8_lossy(&output.stdout);
    let good = status.is_some_and(|status| status.success());
    assert!(good, "{command:?}: {how}\n{said}\n{}", errors(&output));
    output
}

/// As [`finish`], for what it printed.
#[track_caller]
pub(crate) fn said(command: &mut Command) -> String {
    String::from_utf8(finish(command).stdout).expect("text")
}

/// Standard error as text.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + WAIT_MAX;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < until, "waited {} s for {what}", WAIT_MAX.as_secs());
        std::thread::sleep(WAIT);
    }
}
