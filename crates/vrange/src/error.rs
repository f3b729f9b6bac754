//! What can go wrong. Losing contents is not among it: that is an outcome of a pin.

use std::fmt;

use rustix::io::Errno;
use vrange_os::OsError;

/// A failed operation: what was wanted, why it failed, and what to do.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<OsError>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A range of no bytes, or of more than a range can have.
    #[error("a range has between 1 byte and 16 TiB (2^32 - 1 pages of 4 KiB)")]
    InvalidSize,
    /// The process cannot have more address space or mappings.
    #[error(
        "no address space for the range; look at `ulimit -v` (RLIMIT_AS), vm.overcommit_memory and vm.max_map_count"
    )]
    OutOfAddressSpace,
    /// The heap's limit is reached by ranges that are pinned and so cannot make room.
    #[error("the heap's limit is reached and everything in it is pinned; unpin ranges or raise the limit")]
    LimitReached,
    /// The heap holds as many ranges as it can (2^32 - 64).
    #[error("the heap has no room for another range; use a second heap or larger ranges")]
    TooManyRanges,
    /// This kernel cannot run the library at all.
    #[error("this kernel's page size is not 4 KiB, which this build is made for")]
    Unsupported,
    /// The settings contradict each other.
    #[error("the reserve must be smaller than the heap's limit")]
    InvalidSettings,
    /// An address that is not a page's, or a length of less than a page.
    #[error("the range must start at a page (4 KiB) and be at least a page long, or empty")]
    InvalidRange,
    /// Memory of a kind that cannot be volatile.
    #[error(
        "only private anonymous memory that is not locked can be marked; look at mmap's flags, mlock and mlockall"
    )]
    NotMarkable,
    /// A hole in the range.
    #[error("a part of the range is not mapped; the rest of it is marked")]
    NotMapped,
    /// No memory for the notes that marks need.
    #[error("no memory to note marks in; try again, or look at `ulimit -v` (RLIMIT_AS) and vm.max_map_count")]
    OutOfMemory,
    /// Marked memory that cannot be taken back, because it cannot be written to.
    #[error("marked memory cannot be written to; make it writable (mprotect) and unmark it again")]
    NotWritable,
    /// The kernel refuses for another reason.
    #[error("the kernel refuses; look at seccomp filters and at `vrange doctor`")]
    Refused,
}

impl ErrorKind {
    /// The number of C programs (`errno`) that fits best.
    pub fn errno(self) -> i32 {
        let errno = match self {
            Self::InvalidSize | Self::InvalidSettings | Self::InvalidRange | Self::NotMarkable => {
                Errno::INVAL
            }
            Self::OutOfAddressSpace | Self::TooManyRanges | Self::NotMapped => Errno::NOMEM,
            Self::OutOfMemory => Errno::AGAIN,
            Self::LimitReached => Errno::NOSPC,
            Self::NotWritable => Errno::ACCESS,
            Self::Unsupported => Errno::NOTSUP,
            Self::Refused => Errno::PERM,
        };
        errno.raw_os_error()
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn from_system(kind: ErrorKind, source: OsError) -> Self {
        Self { kind, source: Some(source) }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{} ({source})", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| -> &(dyn std::error::Error + 'static) { source })
    }
}
