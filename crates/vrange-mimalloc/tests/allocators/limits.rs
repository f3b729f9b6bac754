//! Less of something than programs are used to: address space, and promises of the kernel.

use std::io::Write as _;
use std::process::Command;

use tempfile::NamedTempFile;
use vrange_testing::skipped;

use crate::support::{Allocator, after, plain, run};

/// Runs the program where there are so many MiB of address space.
fn limited(allocator: Allocator, mib: u64, hooks: &str) -> crate::support::Ran {
    let mut command = allocator.run("limited", &[&mib.to_string()]);
    command.env("VRANGE_MALLOC", hooks);
    run(after(&format!("ulimit -v {}", mib << 10), &[], &command))
}

/// How many MiB the program had.
fn had(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.strip_prefix("had ")?.strip_suffix(" MiB")?.parse().ok())
}

#[test]
fn little_address_space_is_left_to_the_program() {
    for allocator in Allocator::each() {
        let (with, without) = (limited(allocator, 320, "on").succeeded(), limited(allocator, 320, "off"));
        let without = without.succeeded();
        let (Some(with_mib), Some(without_mib)) = (had(&with.said), had(&without.said)) else {
            panic!("{with}{without}")
        };
        assert!(with_mib >= without_mib / 8 * 7, "{with}{without}");
        // Besides what it allocates it maps memory itself.
        assert!(without.said.contains("itself: ok") && with.said.contains("itself: ok"), "{with}{without}");
        with.marked();
    }
}

/// There may be no room for a thread, or for books.
#[test]
fn hardly_any_address_space_is_no_reason_to_fail() {
    for allocator in Allocator::each() {
        for mib in [48, 64] {
            let without = limited(allocator, mib, "off").succeeded();
            let with = limited(allocator, mib, "on").succeeded();
            assert!(had(&with.said).is_some_and(|mib| mib > 0), "{with}{without}");
        }
    }
}

/// What is reserved for arenas counts for such a limit.
#[test]
fn a_program_limits_its_address_space_itself() {
    for allocator in Allocator::each() {
        for call in ["setrlimit", "prlimit"] {
            let mut command = allocator.run("self_limited", &["1500", call]);
            command.env("VRANGE_DECAY", "0.3");
            run(command).said("given back").marked();
        }
    }
}

/// What is reserved for arenas counts for what may be locked.
#[test]
fn a_program_locks_all_its_memory() {
    for allocator in Allocator::each() {
        let ran = run(allocator.run("locked_all", &[]));
        if !ran.is_skipped() {
            ran.said("locked").marked();
        }
    }
}

/// What the library itself allocates for the reclaimer's thread is no reason to end the program. (In a thread that is there, glibc ends the
/// process if it cannot note the thread's local data, in memory that jemalloc has not got for a new thread.)
#[test]
fn no_address_space_is_no_reason_to_fail() {
    for allocator in Allocator::each().filter(|allocator| *allocator != Allocator::Jemalloc) {
        run(allocator.run("cramped", &[])).said("all data stays");
    }
}

/// The same command where the file says how the kernel promises memory (`vm.overcommit_memory`). The kernel goes on as before. `None`, and
/// a line that says why, where mounts of one's own are not allowed.
fn where_overcommit_is(file: &NamedTempFile, command: &Command) -> Option<Command> {
    const PLACE: &str = "/proc/sys/vm/overcommit_memory";
    let mut private = Command::new("unshare");
    private.arg("-m");
    let mount = format!("mount --bind \"$1\" {PLACE} || exit; echo overcommit is $(cat {PLACE})");
    let mounted = after(&mount, &[file.path()], command);
    let mut probe = Command::new("unshare");
    let may = probe.args(["-m", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skipped("no mounts of its own for a process (unshare -m)");
        return None;
    }
    private.env_clear().envs(mounted.get_envs().filter_map(|(name, value)| Some((name, value?))));
    private.arg(mounted.get_program()).args(mounted.get_args());
    Some(private)
}

/// jemalloc maps memory without access then, and asks for access when it wants to use some.
#[test]
fn a_kernel_that_does_not_overcommit() {
    let mut file = NamedTempFile::new().expect("a file");
    writeln!(file, "2").expect("written");
    for allocator in Allocator::each() {
        let mut command = allocator.run("churn", &["1", "64", "16", "16777216", "1"]);
        command.env("VRANGE_DECAY", "0.1");
        let Some(command) = where_overcommit_is(&file, &command) else { return };
        let ran = run(command).said("overcommit is 2").said("all data stays");
        // Reservations are counted as used there, so mimalloc is left alone.
        assert_eq!(ran.mib("marked") > 0.0, allocator != Allocator::Mimalloc, "{ran}");
    }
}

/// mimalloc's own way is slow where it gives back at once, and is not made to.
#[test]
fn mimalloc_without_arenas_of_ours_is_left_as_it_is() {
    let mut file = NamedTempFile::new().expect("a file");
    writeln!(file, "2").expect("written");
    let faults = |command: &Command| {
        let command = where_overcommit_is(&file, command)?;
        let said = run(command).said("faults ").said;
        said.lines().find_map(|line| line.strip_prefix("faults ")?.parse::<u64>().ok())
    };
    let command = Allocator::Mimalloc.run("give_back", &["faults", "1024", "16"]);
    let Some(with) = faults(&command) else { return };
    let mut command = plain("give_back", &["faults", "1024", "16"]);
    Allocator::Mimalloc.prepare(&mut command);
    let without = faults(command.env("VRANGE_MALLOC", "off")).expect("as above");
    assert!(with <= 2 * without + 1000, "{with} page faults instead of {without}");
}
