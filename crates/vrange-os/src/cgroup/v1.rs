//! The memory controller of cgroup v1 (the kernel's `Documentation/admin-guide/cgroup-v1/memory.rst`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};

use super::{FileMemory, Limits, Reading};
use crate::OsError;
use crate::kernel_file::{KernelFile, Missing, ReadError, numbers};

/// "No limit" is written as the largest number of whole pages that a signed 64-bit number of bytes can hold
/// (`PAGE_COUNTER_MAX`), which depends on the page size; 64 KiB is the largest. Kernels before 3.19 wrote more.
const UNLIMITED_FROM_BYTES: u64 = (i64::MAX.cast_unsigned()) >> 16 << 16;

/// Inactive list, active list, dirty, writeback, page cache, shared memory, swap cache. The `total_` fields cover the
/// groups below as well, as usage and limit do.
const STAT_KEYS: [&str; 7] = [
    "total_inactive_file",
    "total_active_file",
    "total_dirty",
    "total_writeback",
    "total_cache",
    "total_shmem",
    "total_swapcached",
];

/// The files of one group.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    limit: KernelFile,
    usage: KernelFile,
    stat: KernelFile,
    with_swap: Option<MemoryAndSwap>,
}

/// `memory.memsw.*`; absent where the kernel does not account swap (`swapaccount=0`).
#[derive(Debug)]
struct MemoryAndSwap {
    limit: KernelFile,
    usage: KernelFile,
}

impl MemoryFiles {
    pub(super) fn open(directory: &Path, with_swap: bool) -> Result<Self, Missing> {
        let open = |name: &str| KernelFile::open(directory.join(name));
        Ok(Self {
            limit: open("memory.limit_in_bytes")?,
            usage: open("memory.usage_in_bytes")?,
            stat: open("memory.stat")?,
            with_swap: if with_swap { MemoryAndSwap::open(directory)? } else { None },
        })
    }

    pub(super) fn limits(&self) -> Result<Limits, ReadError> {
        let memory_and_swap_bytes = match &self.with_swap {
            Some(files) => limited(files.limit.read_number()?),
            None => None,
        };
        Ok(Limits { max_bytes: limited(self.limit.read_number()?), high_bytes: None, memory_and_swap_bytes })
    }

    pub(super) fn read(&self, limits: Limits, buffer: &mut [u8]) -> Result<Reading, ReadError> {
        let memory_and_swap_usage_bytes = match &self.with_swap {
            Some(files) if limits.memory_and_swap_bytes.is_some() => files.usage.read_number()?,
            _ => 0,
        };
        Ok(Reading {
            limits,
            usage_bytes: self.usage.read_number()?,
            memory_and_swap_usage_bytes,
            file: FileMemory::parse(self.stat.read(buffer)?, STAT_KEYS)?,
        })
    }

    pub(super) fn hierarchical_limit_bytes(&self, buffer: &mut [u8]) -> Result<Option<u64>, ReadError> {
        let [limit] = numbers(self.stat.read(buffer)?, ["hierarchical_memory_limit"]);
        limit.map(limited).ok_or(ReadError::Malformed("hierarchical_memory_limit"))
    }
}

impl MemoryAndSwap {
    fn open(directory: &Path) -> Result<Option<Self>, Missing> {
        let limit = match KernelFile::open(directory.join("memory.memsw.limit_in_bytes")) {
            Err(missing) if missing.error.is_absent() => return Ok(None),
            limit => limit?,
        };
        Ok(Some(Self { limit, usage: KernelFile::open(directory.join("memory.memsw.usage_in_bytes"))? }))
    }
}

fn limited(bytes: u64) -> Option<u64> {
    (bytes < UNLIMITED_FROM_BYTES).then_some(bytes)
}

/// The groups above have no say over this one: `memory.use_hierarchy` is 0, which kernels before 5.11 allowed.
pub(super) fn stands_alone(directory: &Path) -> bool {
    KernelFile::open(directory.join("memory.use_hierarchy"))
        .and_then(|file| file.read_number().map_err(|error| Missing { path: directory.to_owned(), error }))
        == Ok(0)
}

/// How hard the kernel finds it to reclaim memory of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressureLevel {
    /// It reclaims at all.
    Low,
    /// Less than half of what it looks at can go.
    Medium,
    /// Next to nothing can go; seen about 1 ms before the kernel kills.
    Critical,
}

impl PressureLevel {
    const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::Critical => "critical",
        }
    }
}

/// Says that some group is under pressure: one eventfd for any number of groups, which costs one descriptor.
///
/// A group that has a listener keeps its events from listeners further up that did not ask for all (`hierarchy` mode):
/// whoever watches a group above ours through this interface hears less while we listen.
#[derive(Debug)]
pub struct PressureEvents {
    descriptor: OwnedFd,
}

impl PressureEvents {
    /// Makes one that listens to no group yet.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, OsError> {
        match rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
            Ok(descriptor) => Ok(Self { descriptor }),
            Err(errno) => Err(OsError::new("eventfd", errno)),
        }
    }

    /// Listens to pressure of `level` and above in the group of `directory` and those below it. The kernel also signals
    /// once when the group is removed, and then never again.
    ///
    /// # Errors
    /// `ENOENT`: no group of cgroup v1. `EACCES`, `EROFS`: `cgroup.event_control` belongs to root, or cannot be
    /// written in this container.
    pub fn listen(&self, directory: &Path, level: PressureLevel) -> Result<(), Missing> {
        let pressure = KernelFile::open(directory.join("memory.pressure_level"))?;
        let path = directory.join("cgroup.event_control");
        let control = match rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(control) => control,
            Err(errno) => return Err(Missing::os(path, "open", errno)),
        };
        let (event, pressure) = (self.descriptor.as_raw_fd(), pressure.as_fd().as_raw_fd());
        let request = format!("{event} {pressure} {}", level.name());
        match rustix::io::write(&control, request.as_bytes()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Missing::os(path, "write", errno)),
        }
    }

    /// Takes the events back, so that the next poll waits for new ones. Whether there were any.
    pub fn take(&self) -> bool {
        rustix::io::read(&self.descriptor, &mut [0; 8]) == Ok(8)
    }
}

impl AsFd for PressureEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
