//! A memory cgroup of our own: made below the one we are in, given a limit, removed at the end.

mod scope;
mod v1;
mod v2;

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use signal_hook::consts::SIGINT;
use vrange_os::cgroup::{Controller, Hierarchies, MemoryLevel, Reading, Version};
use vrange_os::kernel_file::{BUFFER_BYTES, Root};

use crate::failure::Failure;

pub(crate) use scope::reenter as reenter_in_scope;

/// How often the removal of a group is tried: the kernel refuses it until the last process has gone through its exit.
const REMOVE_TRIES: u32 = 200;
const REMOVE_WAIT_MS: u64 = 10;

/// Where groups can be made.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    version: Version,
    directory: PathBuf,
}

impl Home {
    /// Looks for the nearest place, from our own group upwards, that lets us make a memory group and enter it.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub(crate) fn find() -> Result<Self, String> {
        let own = Hierarchies::read(&Root::real())
            .and_then(|hierarchies| hierarchies.group_of(Controller::Memory))
            .map_err(|missing| missing.to_string())?;
        let candidates = match own.version() {
            // v1 lets a group hold processes and groups, so the nearest will do, and only it keeps every limit.
            Version::V1 => &own.directories()[..1],
            Version::V2 => own.directories(),
        };
        let mut reason = String::from("no cgroup can be seen");
        for directory in candidates {
            let home = Self { version: own.version(), directory: directory.clone() };
            match home.try_out() {
                Ok(()) => return Ok(home),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// The kernel's interface that is used.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Makes a group with a limit.
    ///
    /// # Errors
    /// What the kernel said, and on which file.
    pub(crate) fn make(&self, purpose: &str, limit_bytes: u64) -> Result<MemoryGroup, Failure> {
        self.try_make(purpose, limit_bytes).map_err(Failure::run)
    }

    /// Makes a group and sends a process into it, which ends at once: permission to do the one is not permission to do
    /// the other.
    fn try_out(&self) -> Result<(), String> {
        const TRIAL_BYTES: u64 = 1 << 30;
        if self.version == Version::V2 {
            v2::hand_down_memory_controller(&self.directory)?;
        }
        let group = self.try_make("trial", TRIAL_BYTES)?;
        let entry = group.entry();
        let mut child = std::process::Command::new("/proc/self/exe")
            .args(["demo-process", "hog", "--parent", &std::process::id().to_string(), "--join"])
            .arg(&entry)
            // A process group of its own: the terminal's Ctrl-C is for the parent.
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map_err(|error| format!("starting a process: {error}"))?;
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            // It may still come before the process has its group. The parent hears of it, too, and it says nothing about the cgroup.
            Ok(status) if status.signal() == Some(SIGINT) => Ok(()),
            Ok(_) => Err(format!("{} cannot be entered", entry.display())),
            Err(error) => Err(format!("waiting for a process: {error}")),
        }
    }

    fn try_make(&self, purpose: &str, limit_bytes: u64) -> Result<MemoryGroup, String> {
        let name = format!("vrange-demo-{}-{purpose}", std::process::id());
        let directory = self.directory.join(name);
        std::fs::create_dir(&directory)
            .map_err(|error| format!("creating {}: {error}", directory.display()))?;
        // From here on, dropping it removes the directory again.
        let group = MemoryGroup { version: self.version, directory };
        match self.version {
            Version::V1 => v1::set_limit(&group.directory, limit_bytes)?,
            Version::V2 => v2::set_limit(&group.directory, limit_bytes)?,
        }
        Ok(group)
    }
}

/// A cgroup that exists as long as this value.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    version: Version,
    directory: PathBuf,
}

impl MemoryGroup {
    /// The file by which a process enters.
    pub(crate) fn entry(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// Bytes that can be had without taking anything from a process: what is below the limit, and page cache that needs
    /// no writing. Offered pages are not among them.
    ///
    /// # Errors
    /// A file of the group cannot be read.
    pub(crate) fn free_bytes(&self) -> Result<u64, Failure> {
        let reading = self.read()?;
        let limit_bytes = reading.limits.max_bytes.unwrap_or(u64::MAX);
        let unclean_bytes = reading.file.dirty_bytes.saturating_add(reading.file.writeback_bytes);
        let clean_bytes = reading.file.page_cache_bytes.unwrap_or(0).saturating_sub(unclean_bytes);
        Ok(limit_bytes.saturating_sub(reading.usage_bytes).saturating_add(clean_bytes))
    }

    /// Processes of the group that the kernel killed for want of memory.
    ///
    /// # Errors
    /// A file of the group cannot be read.
    pub(crate) fn oom_kills(&self) -> Result<u64, Failure> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let path = self.directory.join(file);
        let text =
            std::fs::read_to_string(&path).map_err(|error| Failure::io("reading", path.display(), &error))?;
        // Kernels before 4.13 do not count.
        Ok(count(&text, "oom_kill").unwrap_or(0))
    }

    fn read(&self) -> Result<Reading, Failure> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Failure::run(format!("reading the memory use of {}: {error}", self.directory.display()))
        };
        let level = MemoryLevel::open(self.version, &self.directory, false)
            .map_err(|missing| unreadable(&missing))?;
        let level = level.ok_or_else(|| unreadable(&"no memory controller"))?;
        let reading = level.read(&mut [0; BUFFER_BYTES]).map_err(|error| unreadable(&error))?;
        reading.ok_or_else(|| unreadable(&"the limit is gone"))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        for _ in 0..REMOVE_TRIES {
            match std::fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(REMOVE_WAIT_MS));
                }
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
                Err(_) => break,
            }
        }
        eprintln!("warning: {} could not be removed (try rmdir)", self.directory.display());
    }
}

/// The number behind `key` in a file of lines `key number`.
fn count(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Writes one value to one file of a group.
fn write(directory: &Path, file: &str, value: &str) -> Result<(), String> {
    let path = directory.join(file);
    std::fs::write(&path, value).map_err(|error| format!("writing {value} to {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(count(text, "oom_kill"), Some(3));
        assert_eq!(count(text, "under_oom"), Some(0));
        assert_eq!(count("oom_kill", "oom_kill"), None);
        assert_eq!(count("oom_kill many", "oom_kill"), None);
    }
}
