//! Memory that one process writes and others may read, as a file without a name in any folder: a sealed memfd. It is found below
//! `/proc`, and gone with its process.
//!
//! The writer has nothing to fear from readers, which cannot write or resize it. Readers have to fear the writer, which may be any
//! program: [`SealedFile::open`] looks at what a descriptor is before it opens it, and its reads neither wait nor fault.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use crate::OsError;

/// A program with a smaller `RLIMIT_MEMLOCK` may need all of it for memory of its own.
const LOCK_LIMIT_BYTES_MIN: u64 = 1 << 20;

/// The writer's side: shared memory of a fixed size.
#[derive(Debug)]
pub struct SealedMemory {
    base: *mut u8,
    bytes: usize,
    is_locked: bool,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone and is written through `&mut self` only, so any one thread may have it.
unsafe impl Send for SealedMemory {}

impl SealedMemory {
    /// Makes a file of as many bytes as `contents`, which it begins with. It shows as `/memfd:NAME` among the descriptors of the calling
    /// thread, is closed by `exec`, and its memory is not inherited by children.
    ///
    /// It is locked into memory where `RLIMIT_MEMLOCK` leaves plenty. Six system calls or so.
    ///
    /// # Errors
    /// The failing call: `memfd_create` (no descriptor is left, a seccomp filter, `vm.memfd_noexec`), `pwrite` or `mmap` (no memory),
    /// `fcntl(F_ADD_SEALS)`.
    pub fn create(name: &str, contents: &[u8]) -> Result<Self, OsError> {
        let file = memfd(name)?;
        // A write, and no store to the mapping, so that a lack of memory is an error and no signal.
        let written =
            rustix::io::pwrite(&file, contents, 0).map_err(|errno| OsError::new("pwrite", errno))?;
        if written != contents.len() {
            return Err(OsError::new("pwrite", Errno::NOSPC));
        }
        let bytes = contents.len();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping wherever the kernel likes; it cannot overlap memory in use.
        let base = unsafe { mmap(null_mut(), bytes, protection, flags, &file, 0) }
            .map_err(|errno| OsError::new("mmap", errno))?;
        let mut memory = Self { base: base.cast(), bytes, is_locked: false, file };
        memory.seal()?;
        // A child would share it, and keep it from being freed.
        // SAFETY: no byte of the mapping changes.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxDontFork) };
        memory.lock();
        Ok(memory)
    }

    fn seal(&self) -> Result<(), OsError> {
        let fixed = SealFlags::SHRINK | SealFlags::GROW;
        // Linux 5.1: nobody else may write, either. What is mapped already stays writable.
        let all = fixed | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        let sealed = rustix::fs::fcntl_add_seals(&self.file, all)
            .or_else(|_| rustix::fs::fcntl_add_seals(&self.file, fixed | SealFlags::SEAL));
        sealed.map_err(|errno| OsError::new("fcntl(F_ADD_SEALS)", errno))
    }

    fn lock(&mut self) {
        let limit = getrlimit(Resource::Memlock).current;
        if limit.is_none_or(|bytes| bytes >= LOCK_LIMIT_BYTES_MIN) {
            // SAFETY: the mapping is this value's own, and no byte of it changes.
            let locked = unsafe { mlock_with(self.base.cast(), self.bytes, MlockFlags::empty()) };
            self.is_locked = locked.is_ok();
        }
    }

    /// Is it kept from being swapped out? A store may otherwise wait for memory.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Copies `bytes` to `offset`. No system call. A reader may see any part of it done.
    ///
    /// # Panics
    /// It would reach past the end.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.bytes), "written past the end of the sealed memory");
        // SAFETY: the range lies inside the mapping, as was just checked.
        let place = unsafe { self.base.add(offset) };
        // SAFETY: as above; the mapping is written by nobody else, its size is sealed, and `bytes` cannot lie in it, since no
        // reference to it is ever handed out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }
}

impl AsFd for SealedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SealedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `create` made; nobody else knows it.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}

fn memfd(name: &str) -> Result<OwnedFd, OsError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3. Before, it is not known; since then, a system may insist on it.
    rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .map_err(|errno| OsError::new("memfd_create", errno))
}

/// The reader's side: the sealed memory of some process.
#[derive(Debug)]
pub struct SealedFile {
    file: OwnedFd,
}

/// Why a descriptor of another process is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReadable {
    /// The kernel refused, or the process is gone.
    Os(OsError),
    /// It is something else, or not sealed, or of another size. Nothing of it was opened.
    NoSealedMemory,
}

impl From<OsError> for NotReadable {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

impl SealedFile {
    /// Opens what `path`, a descriptor below `/proc`, refers to, if it is sealed memory of `bytes` bytes. Safe for any descriptor of any
    /// process: no file system of a user's and no device is asked or opened.
    ///
    /// # Errors
    /// See [`NotReadable`]. `EACCES`: the process belongs to somebody else. `ENOENT`, `ESRCH`: it is gone.
    pub fn open(path: &Path, bytes: usize) -> Result<Self, NotReadable> {
        let failed = |call| move |errno| OsError::new(call, errno);
        // Without opening what is there, which might be a pipe, a device, or a file of a file system that never answers.
        let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open(O_PATH)"))?;
        // The kernel keeps all memfds in one mount of its own. Its number is told without asking the file system.
        let own = memfd("vrange-reader")?;
        if mount_of(&found)? != mount_of(&own)? {
            return Err(NotReadable::NoSealedMemory);
        }
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(again, flags, Mode::empty()).map_err(failed("open"))?;
        // What shares the mount and is no memfd (SysV shared memory) has no seals and is refused here.
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| NotReadable::NoSealedMemory)?;
        let size = rustix::fs::fstat(&file).map_err(failed("fstat"))?.st_size;
        let is_fixed = seals.contains(SealFlags::SHRINK | SealFlags::GROW);
        if !is_fixed || usize::try_from(size) != Ok(bytes) {
            return Err(NotReadable::NoSealedMemory);
        }
        Ok(Self { file })
    }

    /// Reads all of it into `bytes`. One system call, which takes no fault that the other process could answer. The other process may be
    /// writing meanwhile.
    ///
    /// # Errors
    /// What `pread` answers, or `EIO` for less than `bytes` can hold.
    pub fn read(&self, bytes: &mut [u8]) -> Result<(), OsError> {
        match rustix::io::pread(&self.file, &mut *bytes, 0) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(_) => Err(OsError::new("pread", Errno::IO)),
            Err(errno) => Err(OsError::new("pread", errno)),
        }
    }
}

/// The mount that an open file of this process lies in.
fn mount_of(file: impl AsFd) -> Result<u64, OsError> {
    let info = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
    let failed = |error: &std::io::Error| {
        OsError::new("read(/proc/self/fdinfo)", Errno::from_io_error(error).unwrap_or(Errno::IO))
    };
    let text = std::fs::read_to_string(info).map_err(|error| failed(&error))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    number
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| OsError::new("read(/proc/self/fdinfo)", Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;

    const BYTES: usize = 8192;

    fn descriptor(file: impl AsFd) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
    }

    #[test]
    fn what_is_written_is_read() {
        let mut memory = SealedMemory::create("vrange-test", &[7; BYTES]).expect("a memfd");
        let path = descriptor(&memory.file);
        let link = std::fs::read_link(&path).expect("a link");
        assert!(link.to_string_lossy().starts_with("/memfd:vrange-test"), "{}", link.display());
        memory.write(BYTES - 3, &[1, 2, 3]);
        let file = SealedFile::open(&path, BYTES).expect("sealed memory");
        let mut bytes = [0; BYTES];
        file.read(&mut bytes).expect("reading");
        assert_eq!((&bytes[..4], &bytes[BYTES - 4..]), (&[7; 4][..], &[7, 1, 2, 3][..]));
        // Readable after its writer is gone, and unchanged.
        drop(memory);
        file.read(&mut bytes).expect("reading");
        assert_eq!(&bytes[BYTES - 3..], &[1, 2, 3]);
    }

    #[test]
    fn readers_can_neither_write_nor_resize_it() {
        let memory = SealedMemory::create("vrange-test", &[0; BYTES]).expect("a memfd");
        let writable = rustix::fs::open(descriptor(&memory.file), OFlags::RDWR, Mode::empty());
        let Ok(file) = writable else { return };
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
        assert!(rustix::fs::ftruncate(&file, 2 * BYTES as u64).is_err());
        let seals = rustix::fs::fcntl_get_seals(&file).expect("seals");
        if seals.contains(SealFlags::FUTURE_WRITE) {
            assert_eq!(rustix::io::pwrite(&file, &[1], 0), Err(Errno::PERM));
        } else {
            vrange_testing::skipped("before Linux 5.1 a memfd cannot be closed to writers");
        }
    }

    #[test]
    #[should_panic(expected = "past the end")]
    fn nothing_is_written_past_the_end() {
        let mut memory = SealedMemory::create("vrange-test", &[0; BYTES]).expect("a memfd");
        memory.write(BYTES - 1, &[1, 2]);
    }

    #[test]
    fn nothing_else_is_opened() {
        let refused = |path: &Path| {
            assert_eq!(
                SealedFile::open(path, BYTES).err(),
                Some(NotReadable::NoSealedMemory),
                "{}",
                path.display()
            );
        };
        // A pipe that nobody writes to: opening it would wait for ever.
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .expect("a pipe");
        refused(&pipe);
        refused(Path::new("/dev/zero"));
        refused(Path::new("/proc/self/mem"));
        refused(folder.path());
        let mut ordinary = tempfile::tempfile().expect("a file");
        ordinary.write_all(&[0; BYTES]).expect("writing");
        refused(&descriptor(&ordinary));
        // Memory that its owner can still shrink under a reader, and memory of another size.
        let open = memfd("vrange-test").expect("a memfd");
        rustix::fs::ftruncate(&open, BYTES as u64).expect("a size");
        refused(&descriptor(&open));
        let longer = SealedMemory::create("vrange-test", &[0; 2 * BYTES]).expect("a memfd");
        refused(&descriptor(&longer.file));
        let gone = SealedFile::open(Path::new("/proc/self/fd/999999"), BYTES);
        assert!(matches!(gone, Err(NotReadable::Os(error)) if error.errno() == Errno::NOENT));
    }
}
