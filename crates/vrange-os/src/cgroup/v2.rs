//! The memory controller of cgroup v2 (the kernel's `Documentation/admin-guide/cgroup-v2.rst`).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::{FileMemory, Limits, Reading};
use crate::kernel_file::{KernelFile, Missing, ReadError, numbers};

/// Inactive list, active list, dirty, writeback, page cache, shared memory, swap cache.
const STAT_KEYS: [&str; 7] =
    ["inactive_file", "active_file", "file_dirty", "file_writeback", "file", "shmem", "swapcached"];

/// The files of one group.
#[derive(Debug)]
pub(super) struct MemoryFiles {
    max: KernelFile,
    high: KernelFile,
    current: KernelFile,
    stat: KernelFile,
}

impl MemoryFiles {
    /// `Ok(None)`: there is no `memory.max`, so the controller is not switched on for this group.
    pub(super) fn open(directory: &Path) -> Result<Option<Self>, Missing> {
        let open = |name: &str| KernelFile::open(directory.join(name));
        let max = match open("memory.max") {
            Err(missing) if missing.error.is_absent() => return Ok(None),
            max => max?,
        };
        Ok(Some(Self {
            max,
            high: open("memory.high")?,
            current: open("memory.current")?,
            stat: open("memory.stat")?,
        }))
    }

    pub(super) fn limits(&self) -> Result<Limits, ReadError> {
        Ok(Limits {
            max_bytes: self.max.read_number_or_max()?,
            high_bytes: self.high.read_number_or_max()?,
            memory_and_swap_bytes: None,
        })
    }

    pub(super) fn read(&self, limits: Limits, buffer: &mut [u8]) -> Result<Reading, ReadError> {
        Ok(Reading {
            limits,
            usage_bytes: self.current.read_number()?,
            memory_and_swap_usage_bytes: 0,
            file: FileMemory::parse(self.stat.read(buffer)?, STAT_KEYS)?,
        })
    }
}

/// How often things have happened to a group and those below it since it was made: `memory.events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Slowed down and sent to reclaim, because it was above `memory.high`.
    pub high: u64,
    /// About to go beyond `memory.max`. Page cache alone does this all the time.
    pub max: u64,
    /// Out of memory: the limit was reached and nothing could be reclaimed.
    pub oom: u64,
    /// Processes killed for it.
    pub oom_kill: u64,
}

/// What has happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing of interest.
    None,
    /// A limit was met, and reclaim found something.
    Limit,
    /// Reclaim found nothing.
    OutOfMemory,
}

/// `memory.events`, kept open. Its descriptor reports `POLLPRI` *and* `POLLERR` whenever the file has changed, until it
/// is read again; the kernel limits that to once in 10 ms. A group that is gone reports the same for ever, and reading
/// it fails: `POLLERR` alone does not tell the two apart.
#[derive(Debug)]
pub struct EventsFile {
    file: KernelFile,
    last: EventCounts,
}

impl EventsFile {
    /// Opens the file in `directory` and notes where its counts stand.
    ///
    /// # Errors
    /// What `open(2)` or `pread(2)` answers.
    pub fn open(directory: &Path) -> Result<Self, Missing> {
        let path = directory.join("memory.events");
        let mut events = Self { file: KernelFile::open(&path)?, last: EventCounts::default() };
        match events.look() {
            Ok(_) => Ok(events),
            Err(error) => Err(Missing { path, error }),
        }
    }

    /// The counts at the last look.
    pub fn counts(&self) -> EventCounts {
        self.last
    }

    /// Reads the file, which also takes the poll event back, and compares it with the last look. Allocates nothing.
    /// Counts that are not in the file (kernels differ) stay as they were.
    ///
    /// # Errors
    /// What `pread(2)` answers. `ENODEV`: the group is gone, and there will be no more events.
    pub fn look(&mut self) -> Result<Change, ReadError> {
        let mut buffer = [0; 1024];
        let [high, max, oom, oom_kill] =
            numbers(self.file.read(&mut buffer)?, ["high", "max", "oom", "oom_kill"]);
        let last = self.last;
        let now = EventCounts {
            high: high.unwrap_or(last.high),
            max: max.unwrap_or(last.max),
            oom: oom.unwrap_or(last.oom),
            oom_kill: oom_kill.unwrap_or(last.oom_kill),
        };
        self.last = now;
        Ok(if (now.oom, now.oom_kill) != (last.oom, last.oom_kill) {
            Change::OutOfMemory
        } else if (now.high, now.max) != (last.high, last.max) {
            Change::Limit
        } else {
            Change::None
        })
    }
}

impl AsFd for EventsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
