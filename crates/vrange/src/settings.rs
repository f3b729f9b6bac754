//! What the owner of a heap may wish for.

use std::time::Duration;

/// Which of a heap's ranges go first.
///
/// This is the order in which ranges are offered to the kernel, and released. The kernel takes what was offered in the order in
/// which it first saw it offered, whatever happened since: a range that was offered, pinned, and offered again before the
/// kernel had a reason to look at it is taken in its old place, earlier than its age says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The one that was unpinned longest ago: what a cache wants.
    #[default]
    ColdestFirst,
    /// The one that was unpinned last: for data that is read once in a long sweep, where the latest part is the one that
    /// will not be wanted again soon.
    LatestFirst,
}

/// What a heap's ranges hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Data worth keeping. It is offered to the kernel only as memory gets short, and released only when asked for or
    /// to keep a limit.
    #[default]
    Cache,
    /// Garbage, such as an allocator's free blocks. It is offered soon after the unpin, and released when it has been left
    /// alone for `decay`, so that an idle program's resident memory falls.
    Free {
        /// How long it stays. [`Content::free`] has a good choice.
        decay: Duration,
    },
}

impl Content {
    /// Garbage that is released when it has been left alone for ten seconds.
    pub const fn free() -> Self {
        Self::Free { decay: Duration::from_secs(10) }
    }
}

/// What the owner of a heap asked for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) reserve_bytes: Option<u64>,
    pub(crate) order: Order,
    pub(crate) content: Content,
    pub(crate) max_unoffered_bytes: Option<u64>,
    pub(crate) core_dump: bool,
}

impl Settings {
    /// Is there a limit or a cap, which pins and unpins must keep?
    pub(crate) fn has_bounds(&self) -> bool {
        self.limit_bytes.is_some() || self.max_unoffered_bytes.is_some()
    }
}
