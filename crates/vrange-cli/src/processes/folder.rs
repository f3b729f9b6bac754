//! The folder of a process below `/proc`, held open: a number that is given to another process meanwhile changes nothing.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, readlinkat, statat};
use vrange::observe;

use super::harmless;

/// No file that is read here is longer, in a process that means well.
const FILE_BYTES_MAX: usize = 64 << 10;
/// Threads that are looked at in one process, and descriptors of one thread.
const ENTRIES_MAX: usize = 1 << 16;

/// The numbers of all processes.
pub(super) fn processes() -> std::io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct ProcessFolder {
    folder: OwnedFd,
}

/// What the kernel says of a process.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) name: String,
    /// The effective user.
    pub(super) user: u32,
    /// The number that the process knows itself by, which differs in a namespace of process ids.
    pub(super) own_number: u32,
    pub(super) resident_bytes: u64,
}

impl ProcessFolder {
    /// `None`: there is no such process.
    pub(super) fn open(pid: u32) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        Some(Self { folder })
    }

    /// Of a file below, as a path that stays the process's.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{below}", self.folder.as_raw_fd()))
    }

    /// `None`: the process is gone.
    pub(super) fn status(&self) -> Option<Status> {
        Status::parse(&self.read("status")?)
    }

    /// The last part of the path that the process was started by; empty where there is none.
    pub(super) fn program(&self) -> String {
        let line = self.read("cmdline").unwrap_or_default();
        let path = line.split(|byte| *byte == 0).next().unwrap_or_default();
        harmless(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default())
    }

    /// The folders, below this one, of the threads that are named as the reclaimer's is.
    pub(super) fn reclaimers(&self) -> Vec<String> {
        // A folder has a link from each of those in it, and two more. Most processes have one thread, and that is not ours.
        if statat(&self.folder, "task", AtFlags::empty()).is_ok_and(|task| task.st_nlink == 3) {
            return Vec::new();
        }
        let tasks = self.entries("task").unwrap_or_default();
        let is_reclaimer = |task: &String| {
            self.read(&format!("{task}/comm"))
                .is_some_and(|name| name.trim_ascii_end() == observe::THREAD_NAME.as_bytes())
        };
        tasks.into_iter().map(|task| format!("task/{task}")).filter(is_reclaimer).collect()
    }

    /// What is in a folder below this one.
    ///
    /// # Errors
    /// The kernel's answer: `EACCES` for the descriptors of somebody else's process.
    pub(super) fn entries(&self, below: &str) -> rustix::io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.folder, below, flags, Mode::empty())?;
        let entries = Dir::new(folder)?.take(ENTRIES_MAX).flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    /// Where a link below points, as far as the kernel tells.
    pub(super) fn link(&self, below: &str) -> Option<Vec<u8>> {
        Some(readlinkat(&self.folder, below, Vec::new()).ok()?.into_bytes())
    }

    /// The beginning of a file below.
    fn read(&self, below: &str) -> Option<Vec<u8>> {
        let file = openat(&self.folder, below, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = Vec::new();
        let mut part = [0; 4096];
        while text.len() < FILE_BYTES_MAX {
            match rustix::io::read(&file, &mut part) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&part[..length]),
                Err(rustix::io::Errno::INTR) => {}
                // The process has ended.
                Err(_) => return None,
            }
        }
        Some(text)
    }
}

impl Status {
    fn parse(text: &[u8]) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.split(|byte| *byte == b'\n');
            lines.find_map(|line| Some(line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?.trim_ascii()))
        };
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        let words = |name| field(name).map(|value| value.split(|byte: &u8| byte.is_ascii_whitespace()));
        // Before Linux 4.1 there is no `NSpid`.
        let own_number = words("NSpid").or_else(|| words("Tgid"))?.next_back()?;
        Some(Self {
            name: harmless(field("Name")?),
            user: u32::try_from(number(words("Uid")?.nth(1)?)?).ok()?,
            own_number: u32::try_from(number(own_number)?).ok()?,
            // A process that is ending has no memory any more.
            resident_bytes: words("VmRSS").and_then(|mut words| number(words.next()?)).unwrap_or(0) * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_whatever_the_name() {
        let text = b"Name:\tevil\x1b[2J\\nUid: 7\nTgid:\t4242\nUid:\t1000\t1001\t1000\t1000\nNSpid:\t4242\t17\t1\nVmRSS:\t    1234 kB\n";
        let status = Status::parse(text).expect("a status");
        assert_eq!(status.name, "evil\u{fffd}[2J\\nUid: 7");
        assert_eq!((status.user, status.own_number, status.resident_bytes), (1001, 1, 1234 * 1024));
        let old = Status::parse(b"Name:\ta\nTgid:\t42\nUid:\t0\t0\t0\t0\n").expect("a status");
        assert_eq!((old.own_number, old.resident_bytes), (42, 0));
        assert!(Status::parse(b"").is_none());
    }

    #[test]
    fn this_process_is_found_and_one_that_never_was_is_not() {
        // In a process of its own: other tests of this program have heaps.
        vrange_testing::in_child(|| {
            let own = ProcessFolder::open(std::process::id()).expect("it runs");
            assert_eq!(own.status().expect("a status").own_number, std::process::id());
            assert!(own.reclaimers().is_empty(), "it has no heap");
            assert!(!own.program().is_empty());
            assert!(own.entries("fd").is_ok_and(|entries| entries.len() > 2));
            // The largest number that Linux gives is 2^22.
            assert!(ProcessFolder::open(1 << 23).is_none());
        });
    }
}
