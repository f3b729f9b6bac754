//! What one process has published: found, opened, and read.

use rustix::io::Errno;
use vrange::observe::{self, Snapshot, Unreadable};
use vrange_os::sealed::{NotReadable, SealedFile};

use super::folder::ProcessFolder;

/// Reading takes microseconds and writing less, so that two whole copies are missed this often only by somebody's intent.
const READS_MAX: u32 = 8;

/// The files of a process that may have the figures. More than one if somebody has made more.
#[derive(Debug)]
pub(super) struct Publication {
    files: Vec<Opened>,
    /// Why there are none.
    refusal: Reason,
}

/// A file, and as which descriptor it was found. It is not to be read after the process has closed it, as `exec` does.
#[derive(Debug)]
struct Opened {
    file: SealedFile,
    below: String,
}

/// Why nothing of a process with the reclaimer's thread can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It has ended.
    Gone,
    /// The kernel says that it is somebody else's.
    NotPermitted,
    /// There is no such file.
    NothingPublished,
    /// There is one that cannot be read.
    Unreadable(Unreadable),
}

impl Reason {
    /// For programs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::NotPermitted => "not_permitted",
            Self::NothingPublished => "nothing_published",
            Self::Unreadable(Unreadable::OtherVersion(_)) => "other_version",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// For people, with what they can do.
    pub(crate) fn sentence(self, is_own_user: bool) -> String {
        match self {
            Self::Gone => "it has ended".to_owned(),
            Self::NotPermitted if is_own_user => {
                "not permitted: it is closed to other processes (see PR_SET_DUMPABLE in prctl(2)), or has capabilities that this one \
                 lacks; try sudo"
                    .to_owned()
            }
            Self::NotPermitted => {
                "not permitted: it runs as another user; run this as that user, or with sudo".to_owned()
            }
            Self::NothingPublished => {
                "nothing is published: its library is older, or memfd_create(2) was refused, or nothing was volatile yet"
                    .to_owned()
            }
            Self::Unreadable(why) => why.to_string(),
        }
    }
}

impl Publication {
    /// `None`: the process has no thread with the reclaimer's name.
    pub(super) fn find(process: &ProcessFolder) -> Option<Self> {
        let threads = process.reclaimers();
        if threads.is_empty() {
            return None;
        }
        let mut found = Self { files: Vec::new(), refusal: Reason::NothingPublished };
        for thread in threads {
            found.add_files_of(process, &thread);
        }
        Some(found)
    }

    fn add_files_of(&mut self, process: &ProcessFolder, thread: &str) {
        // The table of descriptors is the thread's own, or the process's.
        let folder = format!("{thread}/fd");
        let descriptors = match process.entries(&folder) {
            Ok(descriptors) => descriptors,
            Err(errno) => return self.refuse(errno),
        };
        for descriptor in descriptors {
            let below = format!("{folder}/{descriptor}");
            if !is_named(process, &below) {
                continue;
            }
            match SealedFile::open(&process.path(&below), observe::FILE_BYTES) {
                Ok(file) => self.files.push(Opened { file, below }),
                Err(NotReadable::Os(error)) => self.refuse(error.errno()),
                Err(NotReadable::NoSealedMemory) => {}
            }
        }
    }

    fn refuse(&mut self, errno: Errno) {
        if matches!(errno, Errno::ACCESS | Errno::PERM) {
            self.refusal = Reason::NotPermitted;
        }
    }

    /// Is anything open, and still the process's?
    pub(super) fn is_current(&self, process: &ProcessFolder) -> bool {
        !self.files.is_empty() && self.files.iter().all(|opened| is_named(process, &opened.below))
    }

    /// The newest figures that the process says are its own.
    pub(super) fn read(&self, own_number: u32) -> Result<Snapshot, Reason> {
        let mut newest: Result<Snapshot, Reason> = Err(self.refusal);
        for opened in &self.files {
            match read(&opened.file) {
                // One that was inherited, or passed on.
                Ok(snapshot) if snapshot.process != own_number => {}
                Ok(snapshot) if newest.as_ref().is_ok_and(|other| other.sequence >= snapshot.sequence) => {}
                Err(_) if newest.is_ok() => {}
                other => newest = other,
            }
        }
        newest
    }
}

/// A name is no proof, but saves opening what has another.
fn is_named(process: &ProcessFolder, below: &str) -> bool {
    let name = format!("/memfd:{} ", observe::FILE_NAME);
    process.link(below).is_some_and(|link| link.starts_with(name.as_bytes()))
}

fn read(file: &SealedFile) -> Result<Snapshot, Reason> {
    let mut bytes = vec![0; observe::FILE_BYTES];
    let mut last = Unreadable::NotYet;
    for _ in 0..READS_MAX {
        file.read(&mut bytes).map_err(|_| Reason::Gone)?;
        match Snapshot::parse(&bytes) {
            Ok(snapshot) => return Ok(snapshot),
            Err(Unreadable::NotYet) => {}
            Err(other) => last = other,
        }
    }
    Err(Reason::Unreadable(last))
}
