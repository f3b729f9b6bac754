//! A memory cgroup for one child process.

use std::fs;
use std::path::PathBuf;

use vrange_testing::{MemoryGroup, in_child_with, is_child, skipped};

/// Tells the child which group is its own.
const DIRECTORY: &str = "VRANGE_TEST_OWN_GROUP";
/// More than any machine has.
const NO_LIMIT_BYTES: u64 = 1 << 50;

/// The group, as its only process sees it.
pub(crate) struct Group {
    directory: PathBuf,
}

impl Group {
    /// Bytes charged to the group.
    pub(crate) fn usage_bytes(&self) -> u64 {
        let files = ["memory.current", "memory.usage_in_bytes"].map(|file| self.directory.join(file));
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).expect("the group's usage");
        text.trim().parse().expect("a number")
    }

    /// Limits the group. What is charged beyond the limit is reclaimed before this returns, as far as that can be; nobody is
    /// killed for what cannot.
    pub(crate) fn limit(&self, bytes: u64) {
        let high = self.directory.join("memory.high");
        let file = if high.exists() { high } else { self.directory.join("memory.limit_in_bytes") };
        // Version 1 answers EBUSY when not all of it could be reclaimed.
        let _ = fs::write(file, bytes.to_string());
    }

    /// Has the kernel reclaim this many bytes from the group, or as many as it can, then lets it grow again.
    pub(crate) fn reclaim(&self, bytes: u64) {
        self.limit(self.usage_bytes().saturating_sub(bytes));
        self.limit(NO_LIMIT_BYTES);
    }
}

/// Runs a test's closure in a process and a memory cgroup of its own; see [`vrange_testing::in_child`]. Says that the test was
/// skipped where no group can be made.
#[track_caller]
pub(crate) fn in_group<F: FnOnce(&Group)>(test: F) {
    if is_child() {
        let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("the parent made a group"));
        fs::write(directory.join("cgroup.procs"), "0").expect("entering the group");
        return in_child_with::<F>(&[], || test(&Group { directory }));
    }
    match MemoryGroup::make("contract", NO_LIMIT_BYTES) {
        Ok(group) => in_child_with::<F>(&[(DIRECTORY, group.directory().as_os_str())], || {}),
        Err(why) => skipped(&format!("no memory cgroup can be made: {why}")),
    }
}
