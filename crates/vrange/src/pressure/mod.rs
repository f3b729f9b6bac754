//! How short memory is, and what tells us to look.
//!
//! * [`Readers`] (`levels.rs`) reads every place where memory can run short: the machine, and each cgroup with a limit
//!   from our own to the root. Each becomes a [`Level`].
//! * `headroom.rs` is the arithmetic that makes a level of what the kernel's files say.
//! * [`Sources`] (`sources.rs`) are the descriptors that say "look now".
//!
//! This module knows nothing of ranges and nothing of the reclaimer; it only tells. Everything is opened once. After
//! that, reading and waiting allocate nothing and open nothing, because they happen when there is nothing left to
//! allocate from. What cannot be opened or read is left out, and named for whoever asks: then memory is given back
//! later or not at all, and no data is lost.

mod headroom;
mod levels;
mod sources;

pub(crate) use levels::{MAX_LEVELS, Readers};
pub(crate) use sources::{Severity, Sources, Woken};

/// What can run out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LevelKind {
    /// The machine, or the container whose `/proc/meminfo` an emulation shows us.
    Machine,
    /// A cgroup with a limit: our own (`height` 0), its parent (1), and so on up; those for which the memory controller
    /// is not switched on are not counted.
    Cgroup { height: usize },
}

impl LevelKind {
    /// A number below [`MAX_LEVELS`] that stays with the level, for tables of what was seen before. The place in the
    /// slice of [`Readers::read`] does not: levels come and go.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Machine => 0,
            Self::Cgroup { height } => height + 1,
        }
    }
}

/// One place where memory can run short: the machine, or one cgroup with a limit. All values are in bytes.
///
/// `headroom_bytes` trusts the kernel's lists, and one entry on them can mislead: a page that was offered and then
/// *rescued* stays on the list of inactive file pages until reclaim looks at it (measured on 6.18: 128 of 256 MiB
/// offered were written again, and neither the cgroup's lists nor `MemAvailable` changed). Until then it counts as
/// headroom, and it is none. Whoever knows how much was rescued subtracts it, up to `lazyfree_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// What it is that can run out.
    pub(crate) kind: LevelKind,
    /// The memory there is: the machine's, or the lowest limit of the cgroup.
    pub(crate) limit_bytes: u64,
    /// What can be allocated with no reclaim at all. 0 where a limit was lowered below what is in use.
    pub(crate) free_bytes: u64,
    /// What can be allocated without anybody losing more than page cache and offered pages: free, plus clean page
    /// cache (but for a part that reclaim finds hard to get), plus offered pages, each page counted once.
    pub(crate) headroom_bytes: u64,
    /// What is in use and neither clean page cache nor offered: the part that reclaim cannot get without swap.
    pub(crate) unreclaimable_bytes: u64,
    /// Pages on the lists of file pages that are no page cache: offered by any process here, or rescued and not yet
    /// seen by reclaim. The counters that it is computed from lag by some hundred KiB a processor, and locked page
    /// cache hides as much of it. 0 where the kernel does not tell.
    pub(crate) lazyfree_bytes: u64,
}
