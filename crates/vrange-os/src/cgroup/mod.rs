//! Control groups: which one we are in, and how much memory and processor time it and its ancestors may use.
//!
//! Both versions are served, and the two side by side (`Documentation/admin-guide/cgroup-v1/memory.rst` and
//! `cgroup-v2.rst` of the kernel). A limit of *any* ancestor can kill a process, so every directory from our own up to
//! the highest one that can be seen is a level of its own.
//!
//! * [`locate`] finds the directories, once.
//! * [`v1`] and [`v2`] open a directory's files and read them, over and over, without allocating.
//! * [`quota`] reads the limit on processor time.

pub mod locate;
pub mod quota;
pub mod v1;
pub mod v2;

use std::path::{Path, PathBuf};

use crate::kernel_file::{Missing, ReadError, numbers};

pub use locate::{Group, Hierarchies};

/// The most levels that are watched. Real systems have three to eight; of a deeper tree the levels nearest to us count.
pub const MAX_LEVELS: usize = 32;

/// Which of the kernel's two interfaces manages a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// What a hierarchy can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Limits on memory.
    Memory,
    /// Limits on processor time.
    Cpu,
}

impl Controller {
    /// The kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

/// The limits of one level, in bytes; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// v1 `memory.limit_in_bytes`, v2 `memory.max`: beyond it, the kernel kills.
    pub max_bytes: Option<u64>,
    /// v2 `memory.high`: beyond it, the kernel slows the process down and reclaims.
    pub high_bytes: Option<u64>,
    /// v1 `memory.memsw.limit_in_bytes`: limit of memory and swap together. Only looked at where there is swap; without
    /// it, it cannot be tighter than `max_bytes`.
    pub memory_and_swap_bytes: Option<u64>,
}

impl Limits {
    /// The limit of memory alone that is met first.
    pub fn of_memory_bytes(&self) -> Option<u64> {
        match (self.max_bytes, self.high_bytes) {
            (Some(max), Some(high)) => Some(max.min(high)),
            (max, high) => max.or(high),
        }
    }
}

/// How full one level is. All values are in bytes and cover the level with everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The limits in force.
    pub limits: Limits,
    /// Memory in use: v1 `memory.usage_in_bytes`, v2 `memory.current`.
    pub usage_bytes: u64,
    /// v1 `memory.memsw.usage_in_bytes`, where `limits.memory_and_swap_bytes` is in force.
    pub memory_and_swap_usage_bytes: u64,
    /// What `memory.stat` says about file pages.
    pub file: FileMemory,
}

/// The part of `memory.stat` that tells what can be reclaimed without swap. The kernel brings these numbers up to date
/// when they are read, except for the last few hundred KiB a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMemory {
    /// `inactive_file` and `active_file`: page cache that is not locked, and pages given to `MADV_FREE`, which the
    /// kernel puts on the inactive list.
    pub lists_bytes: u64,
    /// v1 `dirty`, v2 `file_dirty`: page cache that must be written first.
    pub dirty_bytes: u64,
    /// v1 `writeback`, v2 `file_writeback`: page cache, or swap, that is being written.
    pub writeback_bytes: u64,
    /// Page cache without shared memory and swap cache: v1 `cache`, v2 `file`, minus `shmem` and `swapcached`. `None`
    /// where the kernel does not tell (v1 before 4.11).
    pub page_cache_bytes: Option<u64>,
}

impl FileMemory {
    /// Reads from a `memory.stat` the numbers behind `keys`, which are, in this order: inactive list, active list,
    /// dirty, writeback; and those that may be absent: page cache, shared memory, swap cache.
    fn parse(text: &[u8], keys: [&str; 7]) -> Result<Self, ReadError> {
        let [inactive, active, dirty, writeback, cache, shmem, swap_cache] = numbers(text, keys);
        let inactive = inactive.ok_or(ReadError::Malformed("inactive_file"))?;
        let active = active.ok_or(ReadError::Malformed("active_file"))?;
        Ok(Self {
            lists_bytes: inactive.saturating_add(active),
            dirty_bytes: dirty.ok_or(ReadError::Malformed("dirty"))?,
            writeback_bytes: writeback.ok_or(ReadError::Malformed("writeback"))?,
            page_cache_bytes: cache
                .zip(shmem)
                .map(|(cache, shmem)| cache.saturating_sub(shmem).saturating_sub(swap_cache.unwrap_or(0))),
        })
    }
}

/// One level of the memory controller with its files open.
#[derive(Debug)]
pub struct MemoryLevel {
    directory: PathBuf,
    files: MemoryFiles,
}

#[derive(Debug)]
enum MemoryFiles {
    V1(v1::MemoryFiles),
    V2(v2::MemoryFiles),
}

impl MemoryLevel {
    /// Opens the files of `directory`. `Ok(None)`: the memory controller is not switched on in it (v2's root, and every
    /// group whose parent does not list `memory` in `cgroup.subtree_control`), so it sets no limit. `with_swap`: the
    /// machine has swap, so limits of memory and swap together matter.
    ///
    /// # Errors
    /// The first file that cannot be opened.
    pub fn open(version: Version, directory: &Path, with_swap: bool) -> Result<Option<Self>, Missing> {
        let files = match version {
            Version::V1 => Some(MemoryFiles::V1(v1::MemoryFiles::open(directory, with_swap)?)),
            Version::V2 => v2::MemoryFiles::open(directory)?.map(MemoryFiles::V2),
        };
        Ok(files.map(|files| Self { directory: directory.to_owned(), files }))
    }

    /// Where the files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The limits as they are now; they may change at any time. Allocates nothing.
    ///
    /// # Errors
    /// What `pread(2)` answers (`ENODEV`: the group is gone), or a file holds no number.
    pub fn limits(&self) -> Result<Limits, ReadError> {
        match &self.files {
            MemoryFiles::V1(files) => files.limits(),
            MemoryFiles::V2(files) => files.limits(),
        }
    }

    /// Limits and use as they are now; `None` where there is no limit at all. Allocates nothing. `buffer`:
    /// [`BUFFER_BYTES`](crate::kernel_file::BUFFER_BYTES) are enough.
    ///
    /// # Errors
    /// As [`limits`](Self::limits); also where `memory.stat` lacks one of the numbers of [`FileMemory`], since half a
    /// picture would have data released that could have stayed.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<Reading>, ReadError> {
        let limits = self.limits()?;
        if limits == Limits::default() {
            return Ok(None);
        }
        match &self.files {
            MemoryFiles::V1(files) => files.read(limits, buffer),
            MemoryFiles::V2(files) => files.read(limits, buffer),
        }
        .map(Some)
    }

    /// The smallest limit of this level and *all* above it, also those that a cgroup namespace hides: v1's
    /// `hierarchical_memory_limit`. v2 does not tell (`Ok(None)`, as for no limit).
    ///
    /// # Errors
    /// What `pread(2)` answers, or `memory.stat` does not hold the number.
    pub fn hierarchical_limit_bytes(&self, buffer: &mut [u8]) -> Result<Option<u64>, ReadError> {
        match &self.files {
            MemoryFiles::V1(files) => files.hierarchical_limit_bytes(buffer),
            MemoryFiles::V2(_) => Ok(None),
        }
    }
}

impl Group {
    /// Opens every level from our own group to the highest that can be seen, nearest first, and tells what could not be
    /// opened. [`MAX_LEVELS`] at most.
    pub fn memory_levels(&self, with_swap: bool) -> (Vec<MemoryLevel>, Vec<Missing>) {
        let mut levels = Vec::new();
        let mut missing = Vec::new();
        for directory in self.directories() {
            match MemoryLevel::open(self.version(), directory, with_swap) {
                Ok(level) => levels.extend(level),
                Err(error) => missing.push(error),
            }
            if self.version() == Version::V1 && v1::stands_alone(directory) {
                break;
            }
        }
        (levels, missing)
    }
}

#[cfg(test)]
mod tests;
