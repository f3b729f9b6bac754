//! What a guest says on its serial line: the output of its programs, and lines that begin with `@vm`.

use std::fmt;

use anyhow::{Result, bail};

/// Begins every line that is the guest's own.
const MARK: &str = "@vm ";

/// What a program that was killed for running too long ends with.
const TIMED_OUT_STATUSES: [i32; 2] = [124, 143];

/// How one program in the guest ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ended {
    command: String,
    status: i32,
    /// The test that was running when the program printed its last line about tests.
    last_test: String,
}

impl Ended {
    /// Was it a test program, and not the command itself?
    fn is_of_tests(&self) -> bool {
        self.command.contains("--test-threads")
    }
}

/// What is known of a guest, from the lines it has printed so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Whether the guest has set itself up.
    pub(super) is_ready: bool,
    /// Whether the guest has run all its jobs.
    pub(super) is_done: bool,
    setup_failure: Option<String>,
    running: Option<Ended>,
    ended: Vec<Ended>,
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Report {
    /// Takes in one line, without its line end.
    pub(super) fn take_line(&mut self, line: &str) {
        let line = line.trim_end();
        match line.strip_prefix(MARK).map(|said| said.split_once(' ').unwrap_or((said, ""))) {
            Some(("ready", _)) => self.is_ready = true,
            Some(("setup-failed", reason)) => self.setup_failure = Some(reason.to_owned()),
            Some(("begin", command)) => {
                self.running = Some(Ended { command: command.trim_end().to_owned(), ..Ended::default() });
            }
            Some(("end", status)) => {
                if let Some(mut ended) = self.running.take() {
                    // A status that cannot be read is no success.
                    ended.status = status.parse().unwrap_or(-1);
                    self.ended.push(ended);
                }
            }
            Some(("done", _)) => self.is_done = true,
            Some(_) => {}
            None => self.take_output(line),
        }
    }

    fn take_output(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
        } else if line.to_ascii_lowercase().contains("skipped:") {
            self.skipped += 1;
        }
        if let (Some(running), Some(test)) = (&mut self.running, line.strip_prefix("test ")) {
            running.last_test = test.split_whitespace().next().unwrap_or_default().to_owned();
        }
    }

    /// Whether the guest went well: all `jobs` ended, each with success.
    ///
    /// # Errors
    /// Says what went wrong first, and where.
    pub(super) fn verdict(&self, jobs: usize) -> Result<String> {
        if let Some(reason) = &self.setup_failure {
            bail!("the guest could not be set up: {reason}");
        }
        if !self.is_ready {
            bail!("the guest ended before it was set up");
        }
        if let Some(running) = &self.running {
            bail!("the guest ended while it ran `{}` (last test: {})", running.command, running.last_test);
        }
        let failures: Vec<String> =
            self.ended.iter().filter(|ended| ended.status != 0).map(ToString::to_string).collect();
        if !failures.is_empty() {
            bail!("{}; {self}", failures.join("; "));
        }
        if !self.is_done || self.ended.len() != jobs {
            bail!("the guest ended after {} of {jobs} programs", self.ended.len());
        }
        if self.passed == 0 && self.ended.iter().all(Ended::is_of_tests) {
            bail!("no test ran: does the filter match any?");
        }
        Ok(self.to_string())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, .. } = self;
        // A test that skips returns early, so the test harness counts it as passed.
        write!(f, "{} passed, {failed} failed, {skipped} skipped", passed.saturating_sub(*skipped))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, last_test } = self;
        if TIMED_OUT_STATUSES.contains(status) {
            write!(f, "`{command}` ran too long (last test: {last_test})")
        } else {
            write!(f, "`{command}` ended with status {status}")
        }
    }
}

/// The number before `unit` in `ok. 3 passed; 0 failed`.
fn count(counts: &str, unit: &str) -> u64 {
    counts
        .split_once(unit)
        .and_then(|(before, _)| before.rsplit(|character: char| !character.is_ascii_digit()).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        let mut report = Report::default();
        text.lines().for_each(|line| report.take_line(line));
        report
    }

    const GOOD: &str = "@vm ready 6.1\n@vm begin a --x\ntest b ... ok\ntest c ... skipped: no memory cgroup\nok\n\
                        test result: ok. 2 passed; 0 failed; 0 ignored\r\n\n@vm end 0\n@vm done\n";

    fn failure(text: &str, jobs: usize) -> String {
        report(text).verdict(jobs).unwrap_err().to_string()
    }

    #[test]
    fn a_good_guest_is_counted() {
        assert_eq!(report(GOOD).verdict(1).unwrap(), "1 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_failed_program_fails_the_guest() {
        let text = GOOD.replace("end 0", "end 101");
        assert!(failure(&text, 1).starts_with("`a --x` ended with status 101"));
    }

    #[test]
    fn a_program_that_ran_too_long_is_named_with_its_test() {
        assert!(
            failure("@vm ready\n@vm begin a\ntest b ... \n@vm end 143\n@vm done", 1)
                .contains("too long (last test: b)")
        );
    }

    #[test]
    fn a_guest_that_stops_early_fails() {
        assert!(failure("", 1).contains("before it was set up"));
        assert!(failure("@vm setup-failed no zram", 1).contains("no zram"));
        assert!(
            failure("@vm ready\n@vm begin a\ntest b ... ", 1).contains("while it ran `a` (last test: b)")
        );
        assert!(failure("@vm ready\n@vm begin a\n@vm end 0\n", 2).contains("1 of 2"));
    }

    #[test]
    fn a_guest_that_ran_no_test_fails() {
        assert!(
            failure("@vm ready\n@vm begin a --test-threads=1\n@vm end 0\n@vm done", 1)
                .contains("no test ran")
        );
        // Unless only the command was asked for.
        assert!(report("@vm ready\n@vm begin vrange demo\n@vm end 0\n@vm done").verdict(1).is_ok());
    }

    #[test]
    fn a_status_that_is_cut_short_is_no_success() {
        assert!(report("@vm ready\n@vm begin a\n@vm end \n@vm done").verdict(1).is_err());
    }
}
