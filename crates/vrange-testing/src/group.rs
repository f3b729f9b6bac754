//! Control groups of a test's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vrange_os::cgroup::{Controller, Hierarchies, MemoryLevel, Reading, Version};
use vrange_os::kernel_file::{BUFFER_BYTES, Root};

/// How long the kernel may take to notice that a group's last process is gone.
const REMOVAL_MAX: Duration = Duration::from_secs(5);
const REMOVAL_WAIT: Duration = Duration::from_millis(5);

/// A memory cgroup with a limit, below our own where that is possible. Dropping it kills what is still in it and removes
/// it, also while a test panics.
#[derive(Debug)]
pub struct MemoryGroup {
    version: Version,
    directory: PathBuf,
}

impl MemoryGroup {
    /// Makes a group for `purpose`, a word for the group's name, with a limit on memory. What is in it is not
    /// swapped, so that the outcome does not depend on how much swap there is.
    ///
    /// # Errors
    /// Why no group can be made here, for [`skipped`](crate::skipped).
    pub fn make(purpose: &str, limit_bytes: u64) -> Result<Self, String> {
        let group = Self::make_at_home(purpose, limit_bytes)?;
        group.keep_off_swap();
        Ok(group)
    }

    /// As [`make`](Self::make), but up to `swap_bytes` of what is in it may be swapped, so that the outcome does not depend on
    /// how much more swap there is.
    ///
    /// # Errors
    /// As there; the machine has no swap.
    pub fn make_with_swap(purpose: &str, limit_bytes: u64, swap_bytes: u64) -> Result<Self, String> {
        if !has_swap() {
            return Err("this machine has no swap".to_owned());
        }
        let group = Self::make_at_home(purpose, limit_bytes)?;
        let (file, bytes) = match group.version {
            Version::V1 => ("memory.memsw.limit_in_bytes", limit_bytes + swap_bytes),
            Version::V2 => ("memory.swap.max", swap_bytes),
        };
        let file = group.directory.join(file);
        fs::write(&file, bytes.to_string()).map_err(|error| describe(&file, &error))?;
        Ok(group)
    }

    /// In our own group, or the nearest above it in which that is possible.
    fn make_at_home(purpose: &str, limit_bytes: u64) -> Result<Self, String> {
        let own = own_group(Controller::Memory)?;
        let mut reason = String::from("no cgroup can be seen");
        for home in own.1 {
            match Self::make_in(own.0, &home, purpose, limit_bytes) {
                Ok(group) => return Ok(group),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// Makes a group below this one. On cgroup v2, this one must not hold processes then.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn make_below(&self, purpose: &str, limit_bytes: u64) -> Result<Self, String> {
        let group = Self::make_in(self.version, &self.directory, purpose, limit_bytes)?;
        group.keep_off_swap();
        Ok(group)
    }

    fn make_in(version: Version, home: &Path, purpose: &str, limit_bytes: u64) -> Result<Self, String> {
        if version == Version::V2 {
            hand_down(home, Controller::Memory)?;
        }
        let directory = make_directory(home, purpose)?;
        // From here on, dropping it removes the directory again.
        let group = Self { version, directory };
        group.set_limit(limit_bytes).map_err(|error| describe(&group.limit_file(), &error))?;
        Ok(group)
    }

    fn keep_off_swap(&self) {
        let no_swap = match self.version {
            Version::V1 => "memory.swappiness",
            Version::V2 => "memory.swap.max",
        };
        // Missing where the kernel knows no swap: then there is nothing to keep off.
        let _ = fs::write(self.directory.join(no_swap), "0");
    }

    fn limit_file(&self) -> PathBuf {
        self.directory.join(match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        })
    }

    /// Changes the limit. Version 1 reclaims first and answers `EBUSY` (and leaves the limit) where that is not enough;
    /// version 2 kills processes until it is met.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_limit(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.limit_file(), bytes.to_string())
    }

    /// Version 2 only: sets the mark above which the kernel slows processes down and reclaims.
    ///
    /// # Errors
    /// What the kernel answers; version 1 has no such mark.
    pub fn set_high(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.directory.join("memory.high"), bytes.to_string())
    }

    /// Which of the kernel's interfaces the group belongs to.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file by which a process enters.
    pub fn entry(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// Puts a process into the group. What it holds already stays charged to where it was.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.entry(), pid.to_string())
    }

    /// What the group's files say now.
    ///
    /// # Panics
    /// They cannot be read, or the limit is gone.
    #[track_caller]
    pub fn read(&self) -> Reading {
        let level = MemoryLevel::open(self.version, &self.directory, false).expect("the group's files");
        let reading = level.expect("a memory controller").read(&mut [0; BUFFER_BYTES]);
        reading.expect("readable files").expect("a limit")
    }

    /// Memory in use by the group: processes and page cache, in bytes.
    #[track_caller]
    pub fn usage_bytes(&self) -> u64 {
        self.read().usage_bytes
    }

    /// Processes that were in this group when the kernel killed them for want of memory. (Version 2 counts those in groups
    /// below too.)
    ///
    /// # Panics
    /// The file cannot be read.
    #[track_caller]
    pub fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.directory.join(file)).expect("the group's events");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).expect("a count of kills (Linux 4.13)")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Does this machine have swap?
pub fn has_swap() -> bool {
    // The first line is a heading: proc_swaps(5).
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Version and directories, our own first, of the groups that limit what `controller` limits.
pub(crate) fn own_group(controller: Controller) -> Result<(Version, Vec<PathBuf>), String> {
    let own = Hierarchies::read(&Root::real()).and_then(|hierarchies| hierarchies.group_of(controller));
    let own = own.map_err(|missing| missing.to_string())?;
    Ok((own.version(), own.directories().to_vec()))
}

/// Version 2: has the groups below `home` limit what `controller` limits. (They do not all, unless told.)
pub(crate) fn hand_down(home: &Path, controller: Controller) -> Result<(), String> {
    let file = home.join("cgroup.subtree_control");
    let handed_down = fs::read_to_string(&file).map_err(|error| describe(&file, &error))?;
    if handed_down.split_whitespace().any(|name| name == controller.name()) {
        return Ok(());
    }
    fs::write(&file, format!("+{}", controller.name())).map_err(|error| describe(&file, &error))
}

pub(crate) fn make_directory(home: &Path, purpose: &str) -> Result<PathBuf, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only that the numbers differ counts.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = home.join(format!("vrange-test-{}-{number}-{purpose}", std::process::id()));
    fs::create_dir(&directory).map_err(|error| describe(&directory, &error))?;
    Ok(directory)
}

/// Kills what is still in a group, all of which a test put there, and removes it.
pub(crate) fn remove(directory: &Path) {
    let until = Instant::now() + REMOVAL_MAX;
    while let Err(error) = fs::remove_dir(directory) {
        if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() >= until {
            crate::job::announce(&format!("warning: not removed: {}", describe(directory, &error)));
            return;
        }
        let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(REMOVAL_WAIT);
    }
}

pub(crate) fn describe(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
