//! What the tests of `vrange` need of the machine.
//!
//! * [`MemoryGroup`] is a memory cgroup in which memory can be made short without troubling the machine; [`SplitGroup`] is one
//!   in which some processes can be throttled or frozen;
//! * [`Job`], [`Child`] and [`serve`] start the test program again as another process that does a job there;
//! * [`in_child`] runs a test that changes its whole process in one of its own;
//! * [`seccomp`] takes system calls away;
//! * [`CountingAllocator`], [`allocations_of`] and [`allocations_so_far`] count what a thread allocates;
//! * [`drain_processors`] has the kernel finish what it put off;
//! * [`copy_program`] and [`write_program`] make files that can be executed at once;
//! * [`run_programs`] runs random programs, and shrinks those that fail;
//! * [`without_allocator_settings`] keeps the user's surroundings from a program;
//! * [`threads_of`] and [`reclaimers_of`] find threads by their names, and [`StopAtEnd`] ends those of a test;
//! * [`Ksm`] has the kernel merge equal pages;
//! * [`Ring`] writes to memory past its page table;
//! * [`Console`] is a terminal for a program;
//! * [`alone`] keeps tests that fill memory apart, [`scale`] says how long they run, and [`skipped`] says that one cannot
//!   run here.

use std::path::PathBuf;

mod allocations;
mod alone;
mod console;
mod group;
mod isolated;
mod job;
mod ksm;
mod processors;
mod program_file;
mod programs;
mod ring;
pub mod seccomp;
mod split;
mod stop;
mod surroundings;
mod threads;

pub use allocations::{CountingAllocator, allocations_of, allocations_so_far};
pub use alone::{Alone, alone};
pub use console::Console;
pub use group::{MemoryGroup, has_swap};
pub use isolated::{in_child, in_child_with, is_child};
pub use job::{Child, Ended, Job, Named, Talk, serve};
pub use ksm::Ksm;
pub use processors::{drain_processors, on_each_processor};
pub use program_file::{copy_program, write_program};
pub use programs::run_programs;
pub use ring::Ring;
pub use rustix::process::Signal;
pub use split::SplitGroup;
pub use stop::StopAtEnd;
pub use surroundings::without_allocator_settings;
pub use threads::{reclaimers_of, threads_of};

/// How long tests run. Set by `VRANGE_TEST_SCALE`, which is `ci` or `soak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Few rounds: for every change.
    Ci,
    /// As many as the promise names: for nights.
    Soak,
}

impl Scale {
    /// One of two values.
    pub fn pick<T>(self, ci: T, soak: T) -> T {
        match self {
            Self::Ci => ci,
            Self::Soak => soak,
        }
    }
}

/// How long tests are to run: short, unless `VRANGE_TEST_SCALE` is `soak`.
pub fn scale() -> Scale {
    match std::env::var("VRANGE_TEST_SCALE").as_deref() {
        Ok("soak") => Scale::Soak,
        _ => Scale::Ci,
    }
}

/// Is this an emulated machine (`VRANGE_TEST_EMULATED` is set), on which times mean nothing?
pub fn is_emulated() -> bool {
    std::env::var_os("VRANGE_TEST_EMULATED").is_some()
}

/// Says that the calling test cannot run here, and why, past the test harness, which swallows what a passing test prints.
/// Such a test counts as skipped, not as passed.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    job::announce(&format!("skipped: {}: {why}", thread.name().unwrap_or("a test")));
}

/// A folder for files whose pages are page cache: not one of a file system in memory, where they are the file itself.
/// `preferred` is taken where it will do.
///
/// # Errors
/// There is none, for [`skipped`].
pub fn folder_on_disk(preferred: &str) -> Result<PathBuf, String> {
    // `TMPFS_MAGIC` and `RAMFS_MAGIC` of <linux/magic.h>.
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    let is_on_disk = |folder: &PathBuf| {
        rustix::fs::statfs(folder).is_ok_and(|found| !IN_MEMORY.contains(&found.f_type.cast_unsigned()))
    };
    let mut folders = [preferred.into(), std::env::temp_dir()].into_iter();
    folders.find(is_on_disk).ok_or_else(|| "no folder for a file is on a disk".to_owned())
}
