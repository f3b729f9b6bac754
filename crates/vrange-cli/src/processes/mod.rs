//! The processes that have volatile memory, found in `/proc` without configuration, and what they publish of it.
//!
//! Any process may be hostile: it may name a thread as ours is named and a file as ours is named, open anything as any descriptor, and
//! write anything into the file. What is believed of a process is what it says of itself, once that has been made harmless, and only
//! where nothing but sealed memory was opened to read it.

mod folder;
mod publication;
mod wanted;

use std::collections::BTreeMap;

use vrange::observe::Snapshot;

use folder::ProcessFolder;
use publication::Publication;
pub(crate) use publication::Reason;
pub(crate) use wanted::Wanted;

/// A process, and what it has published.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    /// Its memory, as the kernel counts it (`VmRSS`).
    pub(crate) resident_bytes: u64,
    pub(crate) snapshot: Snapshot,
}

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Its name, without control characters.
    pub(crate) name: String,
    /// The last part of the path that it was started by, which the kernel does not cut.
    pub(crate) program: String,
    /// The user that it runs as.
    pub(crate) user: u32,
}

/// A process that has the reclaimer's thread and cannot be looked into.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) identity: Identity,
    pub(crate) reason: Reason,
}

/// What one look has found, by process number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) open: Vec<Process>,
    pub(crate) closed: Vec<Closed>,
}

/// Looks again and again. What it has found once stays open, so that a further look costs a few system calls a process.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    known: BTreeMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    folder: ProcessFolder,
    publication: Publication,
}

impl Watch {
    /// Looks at all processes that are wanted. Those that end meanwhile are left out.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(crate) fn look(&mut self, wanted: &Wanted) -> std::io::Result<Found> {
        let mut found = Found::default();
        let mut known = BTreeMap::new();
        let own = std::process::id();
        for pid in folder::processes()? {
            if pid == own {
                continue;
            }
            let before = self.known.remove(&pid);
            if let Some(now) = look_at(pid, before, wanted, &mut found) {
                known.insert(pid, now);
            }
        }
        self.known = known;
        Ok(found)
    }
}

/// Looks at one process. Returns what to keep of it; it was gone, or is none of those that are wanted, if that is nothing.
fn look_at(pid: u32, known: Option<Known>, wanted: &Wanted, found: &mut Found) -> Option<Known> {
    // In the folder of a process whose number was given to another since, nothing can be read any more.
    let known = known.filter(|known| known.publication.is_current(&known.folder));
    let Known { folder, publication } = match known {
        Some(known) => known,
        None => {
            let folder = ProcessFolder::open(pid)?;
            let publication = Publication::find(&folder)?;
            Known { folder, publication }
        }
    };
    let status = folder.status()?;
    let identity = Identity { pid, name: status.name, program: folder.program(), user: status.user };
    if !wanted.has(&identity) {
        return None;
    }
    match publication.read(status.own_number) {
        Ok(snapshot) => {
            found.open.push(Process { identity, resident_bytes: status.resident_bytes, snapshot });
            Some(Known { folder, publication })
        }
        Err(Reason::Gone) => None,
        Err(reason) => {
            found.closed.push(Closed { identity, reason });
            // Looked for anew the next time.
            None
        }
    }
}

/// Text that may be shown on a terminal.
fn harmless(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
