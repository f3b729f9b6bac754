//! The writer's side.

use std::os::fd::{AsFd as _, AsRawFd as _};

use vrange_os::OsError;
use vrange_os::sealed::SealedMemory;
use zerocopy::IntoBytes as _;

use super::layout::{self, Figures, Header};
use super::{FILE_BYTES, FILE_NAME};
use crate::sync::{AtomicU64, Ordering};

/// The thread that has the file open, and in the lower half the descriptor; 0: there is none.
static PLACE: AtomicU64 = AtomicU64::new(0);

/// Where this process's figures are, or in a child, where its parent's are.
pub(super) fn place() -> u64 {
    // Acquire pairs with the Release in `open`.
    PLACE.load(Ordering::Acquire)
}

/// Writes figures for others to see. Allocates when it is made, and not after.
#[derive(Debug)]
pub(crate) struct Publisher {
    memory: SealedMemory,
    /// What is being put together, and was published last.
    figures: Box<Figures>,
}

impl Publisher {
    /// Makes the file. It belongs to the table of descriptors of the calling thread.
    ///
    /// # Errors
    /// Those of [`SealedMemory::create`].
    pub(crate) fn open() -> Result<Self, OsError> {
        let mut contents = vec![0; FILE_BYTES];
        let header = Header::new(std::process::id());
        contents[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let memory = SealedMemory::create(FILE_NAME, &contents)?;
        let thread = u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs());
        let descriptor = u64::from(memory.as_fd().as_raw_fd().unsigned_abs());
        // Release pairs with the Acquire in `place`: whoever finds the number finds the file.
        PLACE.store(thread << u32::BITS | descriptor, Ordering::Release);
        Ok(Self { memory, figures: Figures::new() })
    }

    /// The figures to change before [`publish`](Self::publish).
    pub(crate) fn figures(&mut self) -> &mut Figures {
        &mut self.figures
    }

    /// May writing have to wait for memory, if swap is in use?
    pub(crate) fn may_be_swapped(&self) -> bool {
        !self.memory.is_locked()
    }

    /// Shows the figures to whoever looks. A copy of four kilobytes and a sum over it: about a microsecond.
    pub(crate) fn publish(&mut self) {
        self.figures.sequence += 1;
        self.figures.checksum = self.figures.sum();
        // The copy before stays whole. Who reads this one too early sees that its sum does not fit.
        self.memory.write(layout::place_of(self.figures.sequence), self.figures.as_bytes());
    }
}
