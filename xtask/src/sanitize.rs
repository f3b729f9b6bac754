//! `cargo xtask sanitize`: the library's tests under AddressSanitizer or ThreadSanitizer.
//!
//! The sanitizers are unstable options of the compiler. `RUSTC_BOOTSTRAP=1` makes the stable compiler take them, so
//! that what is checked is what is shipped, and no second toolchain is needed. The standard library is not rebuilt.

use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command::CommandExt;
use crate::workspace::{Workspace, host_triple};

/// How many cases a random test tries. Instrumented, each takes ten times as long.
const RANDOM_CASES: &str = "PROPTEST_CASES";

/// Which sanitizer, and which tests.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which sanitizer to build with.
    sanitizer: Sanitizer,
    /// Only these integration tests, and the unit tests; all that can run under it where none is named.
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// Passed on to the test programs, for instance a part of a test's name.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// A sanitizer of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sanitizer {
    /// Accesses to memory that is not, or no longer, ours.
    Address,
    /// Accesses that race.
    Thread,
}

impl Sanitizer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Address => "AddressSanitizer",
            Self::Thread => "ThreadSanitizer",
        }
    }

    /// rustix is told to call libc: the sanitizers intercept `mmap` and `munmap` there, and would otherwise take memory
    /// that is mapped where other memory was for that memory.
    fn rustflags(self) -> &'static str {
        match self {
            Self::Address => "-Zsanitizer=address --cfg=rustix_use_libc",
            // The precompiled standard library was built without it, which the compiler otherwise refuses to link. The
            // library is told, since a lock of the standard library that had to be waited for is not seen.
            Self::Thread => {
                "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg=rustix_use_libc --cfg=thread_sanitizer"
            }
        }
    }

    /// What the run-time half is told: the variable and its value.
    fn settings(self, workspace: &Workspace) -> (&'static str, String) {
        match self {
            Self::Address => ("ASAN_OPTIONS", "detect_stack_use_after_return=1".to_owned()),
            Self::Thread => {
                let suppressions = workspace.root().join("xtask/thread-sanitizer.suppressions");
                // Tests fork on purpose while other threads run.
                ("TSAN_OPTIONS", format!("die_after_fork=0 suppressions={}", suppressions.display()))
            }
        }
    }

    /// What the test programs are told.
    pub(crate) fn test_arguments(self) -> impl Iterator<Item = &'static str> {
        let threads: &[&str] = match self {
            Self::Address => &[],
            // One test at a time: they share locks of the standard library, and the sanitizer does not see a lock that
            // somebody had to wait for.
            Self::Thread => &["--test-threads=1"],
        };
        let skipped = UNFIT.iter().flat_map(|(test, _)| ["--skip", test]);
        threads.iter().copied().chain(skipped)
    }

    /// The integration tests that can run under it.
    pub(crate) fn suites(self) -> &'static [&'static str] {
        match self {
            // (`model` is in both packages.)
            Self::Address => &[
                "bad_input",
                "contract",
                "moved",
                "fork",
                "model",
                "pressure",
                "raw",
                "histories",
                "partial_loss",
                "promises",
                "room",
                "threads",
            ],
            // Its memory is several times that of the program, and charged to the groups in which memory is to be short;
            // and a child has only one thread's history, so that what was done before the fork seems to race.
            Self::Thread => &[
                "bad_input",
                "contract",
                "moved",
                "model",
                "raw",
                "histories",
                "promises",
                "room",
                "threads",
            ],
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Address => "address-sanitizer",
            Self::Thread => "thread-sanitizer",
        }
    }
}

/// Tests (or modules of them) that measure the process itself, which the sanitizers change: parts of their names, and
/// what is in the way.
const UNFIT: &[(&str, &str)] = &[
    ("c02_bytes_that_were_kept_are_read_without_a_fault", "the sanitizers' own memory takes faults"),
    ("c02_a_rescue_of_kept_pages_takes_no_fault", "the sanitizers' own memory takes faults"),
    ("c04_pin_and_unpin", "the sanitizers make system calls, and touch memory beside the pages"),
    ("c04_with_the_reclaimer_at_work", "the sanitizers make system calls"),
    ("c14_locked_memory", "the sanitizers turn mlock into nothing, or their own memory would be locked"),
    ("c14_mlockall", "as above"),
    ("c14_without_memory_for_notes", "the sanitizers need address space, too"),
    ("footprint::", "the sanitizers' memory grows with ours"),
    ("pressure::", "the sanitizers' memory is charged to the group, too"),
    ("c13_allocations::", "as above"),
    ("c14_last_step::", "as above"),
    ("try_pin_never_waits", "the sanitizers' own locks wait"),
    ("c11_moved_away", "rustix passes MAP_FIXED for MREMAP_FIXED where it calls libc"),
    ("c11_freed_and_allocated_again", "the sanitizers' allocator keeps what is freed"),
    ("many_forks_leave_no_mappings_behind", "the sanitizers make mappings"),
    ("without_address_space", "the sanitizers need address space, too"),
    ("takes_next_to_nothing", "instrumented code takes many times as long"),
    ("panics_of_a_keys_comparison", "the index leaks what was to be put in, and leaks are reported"),
    ("nobodys_memory_is_left_when_the_cache_is_gone", "it leaks on purpose"),
];

/// Builds and runs the tests that were asked for.
///
/// # Errors
/// The build fails, a test fails, or the sanitizer reports.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut command = test_command(workspace, options.sanitizer)?;
    let suites = options.sanitizer.suites().iter().copied();
    let wanted = options.tests.iter().map(String::as_str);
    if options.tests.is_empty() {
        command.args(suite_arguments(suites));
    } else {
        command.args(suite_arguments(wanted));
    }
    command.arg("--").args(options.sanitizer.test_arguments()).args(&options.arguments).run()
}

/// The unit tests, and these integration tests.
pub(crate) fn suite_arguments<'a>(suites: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    std::iter::once("--lib").chain(suites.flat_map(|suite| ["--test", suite]))
}

/// `cargo test` of the library for the host, instrumented; which of its tests is left to the caller.
///
/// # Errors
/// The host is none the sanitizers are shipped for.
pub(crate) fn test_command(workspace: &Workspace, sanitizer: Sanitizer) -> Result<Command> {
    let host = host_triple()?;
    if !["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"].contains(&host.as_str()) {
        bail!("the sanitizers are not shipped for {host}");
    }
    let (variable, value) = sanitizer.settings(workspace);
    let mut command = workspace.cargo();
    command
        // With a target named, build scripts and procedural macros are built without the sanitizer.
        .args(["test", "--package", "vrange", "--package", "vrange-cache", "--locked", "--target", &host])
        .arg("--target-dir")
        .arg(workspace.target_folder().join(sanitizer.folder()))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", sanitizer.rustflags())
        .env(variable, value);
    if std::env::var_os(RANDOM_CASES).is_none() {
        command.env(RANDOM_CASES, "32");
    }
    Ok(command)
}
