//! The error of a system call: which call, and what the kernel said.

use std::fmt;

use rustix::io::Errno;

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsError {
    call: &'static str,
    errno: Errno,
}

impl OsError {
    /// Records that `call` failed with `errno`.
    pub const fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }

    /// What the kernel answered the last call of the C library's that failed in this thread.
    pub(crate) fn last_errno() -> Errno {
        Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
    }

    /// The call that failed, as a manual page would name it, for example `madvise(MADV_FREE)`.
    pub const fn call(&self) -> &'static str {
        self.call
    }

    /// What the kernel answered.
    pub const fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, std::io::Error::from(self.errno))
    }
}

impl std::error::Error for OsError {}
