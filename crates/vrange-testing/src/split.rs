//! Memory cgroups in which some processes are held back, and others are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use vrange_os::cgroup::{Controller, Version};

use crate::group::{MemoryGroup, describe, hand_down, make_directory, own_group, remove};

/// How long the kernel may take to freeze a process, which it does when the process next leaves the kernel.
const FREEZING_MAX: Duration = Duration::from_secs(20);
const FREEZING_WAIT: Duration = Duration::from_millis(1);
/// cgroup's default period.
const QUOTA_PERIOD_US: f64 = 100_000.0;

/// A memory cgroup with a limit, whose processes are of two kinds: those that can be held back (by a quota on processor
/// time, or by being frozen), and those beside them. Version 1 has a group of another hierarchy for the first kind; version
/// 2 has two groups below the limited one.
#[derive(Debug)]
pub struct SplitGroup {
    // Dropped in this order: version 2 does not remove a group before those below it.
    held: Directory,
    beside: Option<Directory>,
    whole: MemoryGroup,
}

/// A group, removed when dropped with all that is in it.
#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Version 1 ends no frozen process. Missing where nothing can be frozen.
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        remove(&self.0);
    }
}

impl SplitGroup {
    /// Makes one whose held processes together get `quota` processors, in periods of 100 ms.
    ///
    /// # Errors
    /// Why no group can be made here, for [`skipped`](crate::skipped).
    pub fn with_quota(purpose: &str, limit_bytes: u64, quota: f64) -> Result<Self, String> {
        let (version, directories) = own_group(Controller::Cpu)?;
        let group = Self::make(purpose, limit_bytes, version, || {
            directories.into_iter().next().ok_or_else(|| "no cgroup can be seen".to_owned())
        })?;
        let quota_us = quota * QUOTA_PERIOD_US;
        match version {
            Version::V1 => {
                group.write("cpu.cfs_period_us", &format!("{QUOTA_PERIOD_US:.0}"))?;
                group.write("cpu.cfs_quota_us", &format!("{quota_us:.0}"))?;
            }
            Version::V2 => {
                hand_down(group.whole.directory(), Controller::Cpu)?;
                group.write("cpu.max", &format!("{quota_us:.0} {QUOTA_PERIOD_US:.0}"))?;
            }
        }
        Ok(group)
    }

    /// Makes one whose held processes can be frozen.
    ///
    /// # Errors
    /// As [`with_quota`](Self::with_quota).
    pub fn with_freezer(purpose: &str, limit_bytes: u64) -> Result<Self, String> {
        // Version 2 freezes any group, and memory's is as good as another.
        let (version, _) = own_group(Controller::Memory)?;
        Self::make(purpose, limit_bytes, version, freezer_root)
    }

    /// `home`: below which group of version 1 processes are held back. That one need not have anything to do with memory's.
    fn make(
        purpose: &str,
        limit_bytes: u64,
        version: Version,
        home: impl FnOnce() -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        let whole = MemoryGroup::make(purpose, limit_bytes)?;
        match (version, whole.version()) {
            (Version::V1, _) => {
                let held = Directory(make_directory(&home()?, purpose)?);
                Ok(Self { held, beside: None, whole })
            }
            (Version::V2, Version::V2) => {
                let held = Directory(make_directory(whole.directory(), "held")?);
                let beside = Some(Directory(make_directory(whole.directory(), "beside")?));
                Ok(Self { held, beside, whole })
            }
            (Version::V2, Version::V1) => {
                Err("memory is limited by cgroup v1, and processor time by v2".to_owned())
            }
        }
    }

    /// The group with the limit on memory. It counts what is held back and what is beside it.
    pub fn whole(&self) -> &MemoryGroup {
        &self.whole
    }

    /// The files by which a process enters that is to be held back.
    pub fn held_entries(&self) -> Vec<PathBuf> {
        let held = self.held.0.join("cgroup.procs");
        // Of version 2 a process is in one group only, and that is below the one with the limit.
        if self.beside.is_some() { vec![held] } else { vec![self.whole.entry(), held] }
    }

    /// The file by which a process enters that is not.
    pub fn beside_entry(&self) -> PathBuf {
        self.beside.as_ref().map_or_else(|| self.whole.entry(), |beside| beside.0.join("cgroup.procs"))
    }

    /// Freezes the processes that are held back, and returns once they are frozen. For groups made
    /// [`with_freezer`](Self::with_freezer).
    ///
    /// # Panics
    /// The kernel does not freeze them.
    #[track_caller]
    pub fn freeze(&self) {
        let is_frozen: &dyn Fn() -> bool = if self.beside.is_some() {
            self.write("cgroup.freeze", "1").expect("a group that can be frozen");
            &|| self.read("cgroup.events").contains("frozen 1")
        } else {
            self.write("freezer.state", "FROZEN").expect("a group that can be frozen");
            &|| self.read("freezer.state").trim() == "FROZEN"
        };
        let until = Instant::now() + FREEZING_MAX;
        while !is_frozen() {
            assert!(Instant::now() < until, "not frozen after {} s", FREEZING_MAX.as_secs());
            thread::sleep(FREEZING_WAIT);
        }
    }

    /// Lets the frozen processes go on.
    ///
    /// # Panics
    /// The kernel refuses.
    #[track_caller]
    pub fn thaw(&self) {
        let thawed = match self.beside {
            Some(_) => self.write("cgroup.freeze", "0"),
            None => self.write("freezer.state", "THAWED"),
        };
        thawed.expect("a group that can be thawed");
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let file = self.held.0.join(file);
        fs::write(&file, text).map_err(|error| describe(&file, &error))
    }

    #[track_caller]
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.held.0.join(file)).expect("the group's files")
    }
}

/// Where version 1's freezer is mounted. Groups of it may lie anywhere: it limits nothing.
fn freezer_root() -> Result<PathBuf, String> {
    let mounts = Path::new("/proc/self/mounts");
    let text = fs::read_to_string(mounts).map_err(|error| describe(mounts, &error))?;
    // `cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0`: fstab(5).
    let point = text.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, point, "cgroup", options, ..] = words[..] else { return None };
        options.split(',').any(|option| option == "freezer").then(|| PathBuf::from(point))
    });
    point.ok_or_else(|| "the freezer of cgroup v1 is not mounted".to_owned())
}
