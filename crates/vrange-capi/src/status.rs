//! What functions return.

use std::ffi::{CStr, c_char, c_int};

use vrange::ErrorKind;

/// What a function that can fail returns, as an int.
///
/// Less than 0 is a failure, and errno says the same in its own terms. Numbers are never used again for something else: -13
/// to -15 are kept for kinds to come.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done. Of a pin: every byte is as it was at the last unpin.
    Ok = 0,
    /// Pinned, and some pages were lost: they read as zeros.
    Purged = 1,
    /// A pointer that must not be null is. (EINVAL)
    NullPointer = -1,
    /// A range has between 1 byte and 16 TiB. (EINVAL)
    InvalidSize = -2,
    /// No address space for the range; look at ulimit -v, vm.overcommit_memory and vm.max_map_count. (ENOMEM)
    OutOfAddressSpace = -3,
    /// The heap's limit is smaller than the range. (ENOSPC)
    LimitReached = -4,
    /// The heap has no room for another range. (ENOMEM)
    TooManyRanges = -5,
    /// This kernel's page size is not 4 KiB. (ENOTSUP)
    Unsupported = -6,
    /// The settings contradict each other, or one of them is not known to this version. (EINVAL)
    InvalidSettings = -7,
    /// The address is not that of a page, or the length is less than a page and not 0. (EINVAL)
    InvalidRange = -8,
    /// The memory is shared, backed by a file, or locked. (EINVAL)
    NotMarkable = -9,
    /// Part of the range is not mapped; the rest is marked. (ENOMEM)
    NotMapped = -10,
    /// Marked memory cannot be taken back because it cannot be written to; it stays marked. (EACCES)
    NotWritable = -11,
    /// No memory for the notes that marks need. (EAGAIN)
    OutOfMemory = -12,
    /// The kernel refuses; look at seccomp filters and at "vrange doctor". (EPERM)
    Refused = -16,
    /// It would have to wait for another thread. (EAGAIN)
    WouldWait = -17,
    /// The buffer is not pinned. (EINVAL)
    NotPinned = -18,
    /// The buffer is pinned, or the kernel refused: a part of the contents stays. (EBUSY)
    Busy = -19,
    /// A mistake of this library, of which standard error has more. (ENOTRECOVERABLE)
    Internal = -20,
}

impl Status {
    /// Everything that is returned.
    const ALL: [Self; 19] = [
        Self::Ok,
        Self::Purged,
        Self::NullPointer,
        Self::InvalidSize,
        Self::OutOfAddressSpace,
        Self::LimitReached,
        Self::TooManyRanges,
        Self::Unsupported,
        Self::InvalidSettings,
        Self::InvalidRange,
        Self::NotMarkable,
        Self::NotMapped,
        Self::NotWritable,
        Self::OutOfMemory,
        Self::Refused,
        Self::WouldWait,
        Self::NotPinned,
        Self::Busy,
        Self::Internal,
    ];

    pub(crate) fn code(self) -> c_int {
        self as c_int
    }

    /// The number of C programs that fits best; 0 for success.
    pub(crate) fn errno(self) -> c_int {
        match self {
            Self::Ok | Self::Purged => 0,
            Self::NullPointer
            | Self::InvalidSize
            | Self::InvalidSettings
            | Self::InvalidRange
            | Self::NotMarkable
            | Self::NotPinned => libc::EINVAL,
            Self::OutOfAddressSpace | Self::TooManyRanges | Self::NotMapped => libc::ENOMEM,
            Self::LimitReached => libc::ENOSPC,
            Self::Unsupported => libc::ENOTSUP,
            Self::NotWritable => libc::EACCES,
            Self::Refused => libc::EPERM,
            Self::OutOfMemory | Self::WouldWait => libc::EAGAIN,
            Self::Busy => libc::EBUSY,
            Self::Internal => libc::ENOTRECOVERABLE,
        }
    }

    fn text(self) -> &'static CStr {
        match self {
            Self::Ok => c"done, and nothing was lost",
            Self::Purged => c"pinned, and some pages were lost",
            Self::NullPointer => c"a pointer that must not be null is null",
            Self::InvalidSize => c"a range has between 1 byte and 16 TiB",
            Self::OutOfAddressSpace => {
                c"no address space for the range; look at `ulimit -v`, vm.overcommit_memory and vm.max_map_count"
            }
            Self::LimitReached => c"the range is larger than the heap's limit; raise the limit",
            Self::TooManyRanges => {
                c"the heap has no room for another range; use a second heap or larger ranges"
            }
            Self::Unsupported => c"this kernel's page size is not 4 KiB, which this build is made for",
            Self::InvalidSettings => {
                c"the reserve is not smaller than the limit, or a setting is not known to this version"
            }
            Self::InvalidRange => {
                c"the range must start at a page (4 KiB) and be at least a page long, or empty"
            }
            Self::NotMarkable => c"only private anonymous memory that is not locked can be marked",
            Self::NotMapped => c"a part of the range is not mapped; the rest of it is marked",
            Self::NotWritable => c"marked memory cannot be written to; make it writable and unmark it again",
            Self::OutOfMemory => c"no memory to note marks in; try again, or look at `ulimit -v`",
            Self::Refused => c"the kernel refuses; look at seccomp filters and at `vrange doctor`",
            Self::WouldWait => c"another thread is busy with the buffer; pin it without `try` to wait",
            Self::NotPinned => c"the buffer is not pinned",
            Self::Busy => c"the buffer is pinned, or the kernel refused; a part of the contents stays",
            Self::Internal => c"a mistake of libvrange; please report what standard error says",
        }
    }
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSize => Self::InvalidSize,
            ErrorKind::OutOfAddressSpace => Self::OutOfAddressSpace,
            ErrorKind::LimitReached => Self::LimitReached,
            ErrorKind::TooManyRanges => Self::TooManyRanges,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::InvalidSettings => Self::InvalidSettings,
            ErrorKind::InvalidRange => Self::InvalidRange,
            ErrorKind::NotMarkable => Self::NotMarkable,
            ErrorKind::NotMapped => Self::NotMapped,
            ErrorKind::NotWritable => Self::NotWritable,
            ErrorKind::OutOfMemory => Self::OutOfMemory,
            // Kinds that a later version of the library adds are the kernel's refusals.
            _ => Self::Refused,
        }
    }
}

/// What a status means and what to do about it, in a sentence. Never null, and never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn vrange_strerror(status: c_int) -> *const c_char {
    let known = Status::ALL.into_iter().find(|known| known.code() == status);
    known.map_or(c"not a status of libvrange", Status::text).as_ptr()
}

/// The version of the library in use, such as "0.1.0". Never null, and never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn vrange_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
