//! Files in which the kernel tells how it is doing (`/proc`, cgroup directories), opened once and read again and again.
//!
//! Whoever watches for memory pressure reads at the very moment when memory is short. So all that can fail for want of
//! memory or descriptors happens in [`KernelFile::open`]; [`KernelFile::read`] is one `pread(2)` into a buffer of the
//! caller's, and the parsers below work in place. None of them allocates and none of them panics, whatever the file
//! holds.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::OsError;

/// Enough for the longest file that is read repeatedly (`memory.stat` and `/proc/meminfo` stay below 3 KiB), so that
/// one buffer serves them all.
pub const BUFFER_BYTES: usize = 8 << 10;

/// The folder under which `proc` and `sys` are looked for: `/`, or a folder of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    folder: PathBuf,
}

impl Default for Root {
    fn default() -> Self {
        Self::real()
    }
}

impl Root {
    /// The running system.
    pub fn real() -> Self {
        Self::at("/")
    }

    /// A folder that looks like the root of a system.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where `absolute`, a path as the kernel would write it, is found under this root.
    pub fn join(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.folder.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Why a kernel file could not be used. Small and `Copy`, because making one must not allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The kernel refused.
    Os(OsError),
    /// The file could be read and does not hold what it should; the text says what was looked for.
    Malformed(&'static str),
}

impl ReadError {
    /// The kernel's answer, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os(error) => Some(error.errno()),
            Self::Malformed(_) => None,
        }
    }

    /// No such file: what it would tell is not a feature of this kernel, or of this cgroup.
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(error) => error.fmt(f),
            Self::Malformed(expected) => write!(f, "no {expected} in it"),
        }
    }
}

impl std::error::Error for ReadError {}

/// A kernel file that something would be known from, and why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The file or directory.
    pub path: PathBuf,
    /// What went wrong with it.
    pub error: ReadError,
}

impl Missing {
    /// Records that `call` on `path` failed with `errno`.
    pub fn os(path: impl Into<PathBuf>, call: &'static str, errno: Errno) -> Self {
        Self { path: path.into(), error: ReadError::Os(OsError::new(call, errno)) }
    }

    /// Records that `path` does not hold what was `expected`.
    pub fn malformed(path: impl Into<PathBuf>, expected: &'static str) -> Self {
        Self { path: path.into(), error: ReadError::Malformed(expected) }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for Missing {}

/// A kernel file, open for reading for as long as this lives.
#[derive(Debug)]
pub struct KernelFile {
    descriptor: OwnedFd,
}

impl KernelFile {
    /// Opens `path` with `O_CLOEXEC`.
    ///
    /// # Errors
    /// What `open(2)` answers, with the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Missing> {
        let path = path.as_ref();
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(descriptor) => Ok(Self { descriptor }),
            Err(errno) => Err(Missing::os(path, "open", errno)),
        }
    }

    /// Reads the file as it is now, from its start. One `pread(2)`: the kernel writes such a file anew for each read
    /// from its start, and a second call for the end of the file would only make it do so again. Allocates nothing.
    ///
    /// What does not fit is left out; [`lines`] takes care of a last line that was cut.
    ///
    /// # Errors
    /// What `pread(2)` answers. `ENODEV`: the cgroup was removed.
    pub fn read<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], ReadError> {
        loop {
            match rustix::io::pread(&self.descriptor, &mut *buffer, 0) {
                Ok(length) => return Ok(buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ReadError::Os(OsError::new("pread", errno))),
            }
        }
    }

    /// Reads a file that holds one number, `None` where it says `max`, cgroup v2's word for no limit.
    ///
    /// # Errors
    /// As [`read`](Self::read), or the file holds no number.
    pub fn read_number_or_max(&self) -> Result<Option<u64>, ReadError> {
        let mut buffer = [0; 64];
        match self.read(&mut buffer)? {
            b"max\n" => Ok(None),
            text => number(text).map(Some),
        }
    }

    /// Reads a file that holds one number.
    ///
    /// # Errors
    /// As [`read`](Self::read), or the file holds no number.
    pub fn read_number(&self) -> Result<u64, ReadError> {
        let mut buffer = [0; 64];
        number(self.read(&mut buffer)?)
    }
}

impl AsFd for KernelFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The complete lines of `text`, without their ends. A last line that lacks its end was cut short, and half a number is
/// a wrong number, so it is left out.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

/// The decimal number that `digits` is, unless it is something else or too large for 64 bits.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(digit) }
    })
}

/// The number of a file that holds one line with one number.
///
/// # Errors
/// [`ReadError::Malformed`] for anything else, a line without its end among it.
pub fn number(text: &[u8]) -> Result<u64, ReadError> {
    text.strip_suffix(b"\n").and_then(decimal).ok_or(ReadError::Malformed("number"))
}

/// The numbers behind `keys` in a file of lines like `key 123` (cgroup files) or `key:   123 kB` (`/proc/meminfo`), in
/// the order of `keys`; `None` where a key does not occur or no number follows it. Stops at the line that answers the
/// last of them.
pub fn numbers<const KEYS: usize>(text: &[u8], keys: [&str; KEYS]) -> [Option<u64>; KEYS] {
    let mut found = [None; KEYS];
    let mut left = KEYS;
    for line in lines(text) {
        let Some(end) = line.iter().position(|&byte| byte == b' ' || byte == b':') else {
            continue;
        };
        let (key, rest) = line.split_at(end);
        let Some(index) = keys.iter().position(|wanted| wanted.as_bytes() == key) else {
            continue;
        };
        if found[index].is_some() {
            continue;
        }
        let value = rest.strip_prefix(b":").unwrap_or(rest).trim_ascii();
        found[index] = value.split(|&byte| byte == b' ').next().and_then(decimal);
        left -= usize::from(found[index].is_some());
        if left == 0 {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_all_digits_and_ends_its_line() {
        assert_eq!(number(b"42\n"), Ok(42));
        assert_eq!(number(b"18446744073709551615\n"), Ok(u64::MAX));
        for bad in [&b""[..], b"\n", b"42", b"-1\n", b"4 2\n", b"18446744073709551616\n", b"max\n", b"\xff\n"]
        {
            assert_eq!(number(bad), Err(ReadError::Malformed("number")), "{bad:?}");
        }
    }

    #[test]
    fn a_line_that_was_cut_is_not_a_line() {
        let text = b"file 100\nanon 250\ninactive_file 12";
        assert_eq!(numbers(text, ["anon", "inactive_file", "file"]), [Some(250), None, Some(100)]);
        assert_eq!(numbers(b"a x\nb\n\nc  7 kB\nd:\n", ["a", "b", "c", "d"]), [None, None, Some(7), None]);
    }

    #[test]
    fn a_file_is_read_anew_each_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("limit");
        std::fs::write(&path, "max\n").expect("writing");
        let file = KernelFile::open(&path).expect("opening");
        assert_eq!(file.read_number_or_max(), Ok(None));
        std::fs::write(&path, "4096\n").expect("writing");
        assert_eq!(file.read_number_or_max(), Ok(Some(4096)));
        assert_eq!(file.read_number(), Ok(4096));
        assert_eq!(file.read(&mut [0; 2]), Ok(&b"40"[..]));
        assert_eq!(file.read(&mut []), Ok(&b""[..]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = KernelFile::open("/proc/self/no such file").expect_err("it does not exist");
        assert!(missing.error.is_absent());
        assert_eq!(
            missing.to_string(),
            "/proc/self/no such file: open: No such file or directory (os error 2)"
        );
        let directory = KernelFile::open("/proc/self").expect("a directory opens");
        assert_eq!(directory.read(&mut [0; 8]).expect_err("and does not read").errno(), Some(Errno::ISDIR));
    }
}
