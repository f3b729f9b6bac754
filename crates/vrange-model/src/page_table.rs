//! Page tables: what one process sees of its pages.

use crate::frame::FrameId;
use crate::sparse::Sparse;
use crate::swap::SlotId;

/// One page-table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pte {
    /// Nothing: never touched, or taken away without a trace.
    #[default]
    None,
    /// The shared zero page, which a read of nothing brings in.
    Zero,
    /// A frame.
    Present(Mapped),
    /// The page is in a swap slot, and perhaps still in the swap cache.
    Swap(SlotId),
    /// The page is on its way from one frame to another.
    Migration(Mapped),
}

/// An entry that leads to a frame, with the bits that the processor and the kernel keep in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) frame: FrameId,
    pub(crate) writable: bool,
    /// Written since the bit was cleared.
    pub(crate) dirty: bool,
    /// Touched since the bit was cleared.
    pub(crate) young: bool,
}

impl Pte {
    /// The frame, if the entry leads to one.
    pub(crate) fn frame(self) -> Option<FrameId> {
        match self {
            Self::Present(mapped) => Some(mapped.frame),
            Self::None | Self::Zero | Self::Swap(_) | Self::Migration(_) => None,
        }
    }
}

/// The page table of one process.
pub(crate) type PageTable = Sparse<Pte>;
