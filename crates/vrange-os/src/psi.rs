//! Pressure stall information: the kernel wakes us when tasks have waited for memory for long enough
//! (the kernel's `Documentation/accounting/psi.rst`).
//!
//! It is a late and coarse signal. A trigger reports at most once in its window, and short bursts often report nothing;
//! it wakes a watcher that would otherwise sleep, and guarantees nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::kernel_file::{BUFFER_BYTES, KernelFile, Missing, Root, lines};

/// Report when some task has waited for memory for 150 ms of the last 2 s. Without `CAP_SYS_RESOURCE` the kernel only
/// takes windows that are multiples of 2 s (since 6.5; none at all before).
///
/// The kernel overwrites the last byte that it is given with the end of the string, so that byte must not be part of
/// the number.
const SOME_150_MS_IN_2_S: &[u8] = b"some 150000 2000000\0";

/// The pressure file of the whole machine, as an absolute path.
pub const MACHINE: &str = "/proc/pressure/memory";

/// The name of the pressure file in a directory of cgroup v2.
pub const OF_GROUP: &str = "memory.pressure";

/// An armed trigger. Its descriptor reports `POLLPRI` when memory was short, which the poll itself takes back, and
/// `POLLERR` for ever once the cgroup it belongs to has vanished.
#[derive(Debug)]
pub struct Trigger {
    descriptor: OwnedFd,
}

impl Trigger {
    /// Arms a trigger on `path`. A descriptor holds one trigger (a second write is `EBUSY`), so each has its own; there
    /// may be any number of them on one file.
    ///
    /// # Errors
    /// `ENOENT`: the kernel was built without PSI, or this is no directory of cgroup v2. `EOPNOTSUPP`: PSI is switched
    /// off (`psi=0`). `EACCES`, `EPERM`, `EROFS`: we may not. `EINVAL`: the kernel is older than 6.5 and we lack
    /// `CAP_SYS_RESOURCE`, or it knows no triggers (before 5.2).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Missing> {
        let path = path.as_ref();
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(errno) => return Err(Missing::os(path, "open", errno)),
        };
        match rustix::io::write(&descriptor, SOME_150_MS_IN_2_S) {
            Ok(_) => Ok(Self { descriptor }),
            Err(errno) => Err(Missing::os(path, "write", errno)),
        }
    }
}

impl AsFd for Trigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What pressure stall information can do for us on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Whether the averages can be read, with the reason if not.
    pub readable: Result<(), Missing>,
    /// Whether this process may set triggers, with the reason if not.
    pub trigger: Result<(), Missing>,
}

/// Finds out by trying, on the machine's pressure file.
pub fn probe(root: &Root) -> Support {
    let path = root.join(MACHINE);
    Support { readable: check_readable(&path), trigger: Trigger::open(&path).map(drop) }
}

fn check_readable(path: &Path) -> Result<(), Missing> {
    let file = KernelFile::open(path)?;
    let mut buffer = [0; BUFFER_BYTES];
    let text = file.read(&mut buffer).map_err(|error| Missing { path: path.to_owned(), error })?;
    if lines(text).any(|line| line.starts_with(b"some avg10=")) {
        Ok(())
    } else {
        Err(Missing::malformed(path, "line of averages"))
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use vrange_testing::skipped;

    use super::*;
    use crate::poll::{PollFd, PollFlags, poll};

    fn folder_with(text: &str) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("proc/pressure")).expect("a folder in it");
        std::fs::write(folder.path().join("proc/pressure/memory"), text).expect("a file in it");
        let root = Root::at(folder.path());
        (folder, root)
    }

    #[test]
    fn the_trigger_is_written_whole() {
        let (_folder, root) = folder_with("");
        Trigger::open(root.join(MACHINE)).expect("a plain file takes it");
        let written = std::fs::read(root.join(MACHINE)).expect("reading it back");
        assert_eq!(written, b"some 150000 2000000\0");
    }

    #[test]
    fn a_malformed_and_an_absent_file_are_told_apart() {
        let (_folder, root) = folder_with("some\n");
        assert!(matches!(probe(&root).readable, Err(missing) if missing.error.errno().is_none()));
        let (_folder, root) = folder_with("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(probe(&root), Support { readable: Ok(()), trigger: Ok(()) });
        let nowhere = probe(&Root::at("/proc/self/fdinfo"));
        assert!(matches!(nowhere.readable, Err(missing) if missing.error.is_absent()));
        assert!(matches!(nowhere.trigger, Err(missing) if missing.error.is_absent()));
    }

    #[test]
    fn the_real_kernel_takes_the_trigger_or_says_why_not() {
        let support = probe(&Root::real());
        match support.trigger {
            Ok(()) => assert_eq!(support.readable, Ok(())),
            Err(missing) => assert!(missing.error.errno().is_some(), "{missing}"),
        }
    }

    #[test]
    fn a_descriptor_holds_one_trigger() {
        let Ok(trigger) = Trigger::open(MACHINE) else {
            return skipped("this process may not set a trigger");
        };
        assert_eq!(rustix::io::write(&trigger, SOME_150_MS_IN_2_S), Err(Errno::BUSY));
    }

    #[test]
    fn a_trigger_says_that_its_group_has_vanished() {
        let parents = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let Some(parent) = parents.into_iter().find(|parent| parent.join("cgroup.controllers").exists())
        else {
            return skipped("no cgroup v2 here");
        };
        let group = parent.join(format!("vrange-test-psi-{}", std::process::id()));
        if std::fs::create_dir(&group).is_err() {
            return skipped("needs the right to make a cgroup");
        }
        let trigger = Trigger::open(group.join(OF_GROUP));
        std::fs::remove_dir(&group).expect("an empty group can be removed");
        let Ok(trigger) = trigger else {
            return skipped("this process may not set a trigger");
        };
        let mut entries = [PollFd::new(&trigger, PollFlags::PRI)];
        poll(&mut entries, Some(std::time::Duration::from_secs(5))).expect("polling");
        assert!(entries[0].revents().contains(PollFlags::ERR), "{:?}", entries[0].revents());
    }
}
