//! What this process itself has published, for itself.

use std::path::PathBuf;

use vrange_os::sealed::SealedFile;

use super::publisher::place;
use super::{FILE_BYTES, Snapshot, Unreadable};

/// Reads the figures of the process that it is in, as others read them: the reclaimer and the threads that pin are not disturbed. So
/// they are as old as those: up to a second while memory is plentiful.
///
/// ```
/// use vrange::observe::OwnFigures;
///
/// let mut figures = OwnFigures::new();
/// match figures.read() {
///     Ok(snapshot) => println!("{} heaps", snapshot.heaps.len()),
///     Err(why) => println!("{why}"),
/// }
/// ```
#[derive(Debug, Default)]
pub struct OwnFigures {
    /// Where it was opened, and the file.
    opened: Option<(u64, SealedFile)>,
    bytes: Vec<u8>,
}

impl OwnFigures {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The figures. One system call, once the file is open: for that, one descriptor of the program's, with `O_CLOEXEC`.
    ///
    /// # Errors
    /// [`Unreadable::NotYet`] before the process's first unpin, in a child that has not unpinned anything since the `fork`, and where
    /// `/proc` is not there.
    pub fn read(&mut self) -> Result<Snapshot, Unreadable> {
        let snapshot = self.read_published();
        match snapshot {
            // In a child, the file may be the parent's.
            Ok(snapshot) if snapshot.process != std::process::id() => {
                self.opened = None;
                Err(Unreadable::NotYet)
            }
            other => other,
        }
    }

    fn read_published(&mut self) -> Result<Snapshot, Unreadable> {
        let place = place();
        if self.opened.as_ref().is_none_or(|(opened, _)| *opened != place) {
            let path = path_of(place).ok_or(Unreadable::NotYet)?;
            let file = SealedFile::open(&path, FILE_BYTES).map_err(|_| Unreadable::NotYet)?;
            self.opened = Some((place, file));
        }
        let (_, file) = self.opened.as_ref().ok_or(Unreadable::NotYet)?;
        self.bytes.resize(FILE_BYTES, 0);
        file.read(&mut self.bytes).map_err(|_| Unreadable::NotYet)?;
        Snapshot::parse(&self.bytes)
    }
}

/// The thread and its descriptor.
fn path_of(place: u64) -> Option<PathBuf> {
    let (thread, descriptor) = (place >> u32::BITS, place & u64::from(u32::MAX));
    (thread != 0).then(|| PathBuf::from(format!("/proc/self/task/{thread}/fd/{descriptor}")))
}
