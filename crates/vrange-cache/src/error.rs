//! What can go wrong. A value that is not kept is not among it: a cache may forget everything.

use std::fmt;

/// A failed operation: what was wanted, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<vrange::Error>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The value alone is larger than the cache may be, or than a range can be.
    #[error("the value is larger than the cache may be; raise `max_bytes` or do not cache it")]
    TooLarge,
    /// The type of the value has a larger alignment than the place that values get.
    #[error("values are aligned to 16 bytes; this type wants more")]
    Alignment,
    /// A limit that leaves no room for a segment.
    #[error("`max_bytes` must be 1 MiB at least")]
    InvalidSettings,
    /// This kernel cannot run the library at all.
    #[error("this kernel cannot have volatile memory")]
    Unsupported,
    /// No memory for the value: all that could be given up is in use, or would not be enough, and then nothing was given up.
    #[error("no room for the value, whatever is given up; entries that are held cannot make any")]
    NoRoom,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn from_heap(kind: ErrorKind, source: vrange::Error) -> Self {
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
