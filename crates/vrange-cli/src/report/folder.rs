//! The folder of a report: it is filled beside its place under another name, and gets its own when it is complete.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::benches::Bench;
use crate::failure::Failure;

/// The page itself.
pub(super) const PAGE: &str = "index.html";
/// By which a page of ours is known.
pub(super) const GENERATOR: &str = "vrange report";
/// Set aside before anything is measured: a report takes less.
const ROOM_BYTES: u64 = 1 << 20;
const ROOM: &str = ".room";

/// A folder that is being filled. Dropping it removes what is not published.
#[derive(Debug)]
pub(super) struct Folder {
    /// Where it is to be.
    place: PathBuf,
    /// Where it is until then.
    draft: PathBuf,
}

impl Folder {
    /// An empty folder beside `place`, with room for a report.
    ///
    /// # Errors
    /// There cannot be a report in this place, or what is there already is none, or there is no room.
    pub(super) fn beside(place: &Path) -> Result<Self, Failure> {
        let place = checked(place)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let draft = place.with_file_name(name);
        fs::create_dir(&draft).map_err(|error| {
            Failure::io("making a folder beside", place.display(), &error)
                .hint("name one in a folder that you may write to")
        })?;
        let folder = Self { place, draft };
        folder.set_room_aside()?;
        Ok(folder)
    }

    /// Better found out now than after an hour of measurements.
    fn set_room_aside(&self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| self.failed(&self.place, &error);
        let file = File::create_new(self.draft.join(ROOM)).map_err(failed)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, ROOM_BYTES) {
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(failed(errno.into())),
            // Not every file system can set room aside.
            _ => Ok(()),
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The file system is full, or the like.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        // There with the first file only.
        let _ = fs::remove_file(self.draft.join(ROOM));
        let written = File::create_new(self.draft.join(name)).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            // Some file systems find out here that they are full.
            file.sync_all()
        });
        written.map_err(|error| self.failed(&self.place.join(name), &error))
    }

    fn failed(&self, subject: &Path, error: &std::io::Error) -> Failure {
        let failure = Failure::io("writing", subject.display(), error);
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => failure.hint(format!(
                "nothing is left of this report; make room in {}, or name another folder",
                self.place.parent().unwrap_or(Path::new("/")).display()
            )),
            _ => failure,
        }
    }

    /// Gives the folder its name, in one step. A report that was there is gone then.
    ///
    /// # Errors
    /// Something else has come to that place in the meantime, or the file system refuses.
    pub(super) fn publish(self) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::io("giving the report its name,", self.place.display(), &error);
        // Only ever over an empty folder.
        let Err(error) = fs::rename(&self.draft, &self.place) else { return Ok(()) };
        if !is_report(&self.place) {
            return Err(failed(error));
        }
        let permissions = fs::metadata(&self.place).map_err(failed)?.permissions();
        fs::set_permissions(&self.draft, permissions).map_err(failed)?;
        // The older report is removed with what is dropped here.
        match rustix::fs::renameat_with(CWD, &self.draft, CWD, &self.place, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(_) => self.replace_in_two_steps().map_err(failed),
        }
    }

    /// Where the file system cannot exchange two names.
    fn replace_in_two_steps(&self) -> std::io::Result<()> {
        let older = self.draft.with_extension("older");
        fs::rename(&self.place, &older)?;
        if let Err(error) = fs::rename(&self.draft, &self.place) {
            fs::rename(&older, &self.place)?;
            return Err(error);
        }
        fs::remove_dir_all(&older)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Not there if it was published.
        let _ = fs::remove_dir_all(&self.draft);
    }
}

/// The full path of a place where a report may be.
fn checked(place: &Path) -> Result<PathBuf, Failure> {
    let refused = |why: &str, hint: &str| {
        Err(Failure::usage(format!("{} {why}", place.display())).hint(hint.to_owned()))
    };
    let another = "name another folder, or one that does not exist yet";
    let Ok(metadata) = fs::metadata(place) else {
        if place.is_symlink() {
            return refused("is a link to nothing", another);
        }
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match (fs::canonicalize(parent), place.file_name()) {
            (Ok(parent), Some(name)) if parent.is_dir() => Ok(parent.join(name)),
            _ => refused("cannot be: the folder that it would be in does not exist", "make that first"),
        };
    };
    if !metadata.is_dir() {
        return refused("is not a folder", another);
    }
    let place = fs::canonicalize(place).map_err(|error| Failure::io("finding", place.display(), &error))?;
    if std::env::current_dir().is_ok_and(|current| current == place) || is_mounted(&place) {
        return refused("cannot be replaced: it is mounted, or the current folder", "name a folder in it");
    }
    let mut entries =
        fs::read_dir(&place).map_err(|error| Failure::io("reading", place.display(), &error))?;
    if entries.next().is_some() && !is_report(&place) {
        return refused("holds something that is not a report of this program's", another);
    }
    Ok(place)
}

/// Is it the root of a file system?
fn is_mounted(folder: &Path) -> bool {
    rustix::fs::statx(CWD, folder, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A page of ours, and beside it nothing that could be somebody else's.
fn is_report(folder: &Path) -> bool {
    let is_ours = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_file())
                && is_written_here(entry.file_name().as_bytes())
        })
    };
    let generator = format!("<meta name=\"generator\" content=\"{GENERATOR} ");
    fs::read_to_string(folder.join(PAGE)).is_ok_and(|page| page.contains(&generator))
        && fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_ours))
}

fn is_written_here(name: &[u8]) -> bool {
    let of_bench = |bench: Bench| {
        let rest = name.strip_prefix(bench.name().as_bytes());
        [Some(&b".json"[..]), Some(&b".svg"[..])].contains(&rest)
    };
    [PAGE.as_bytes(), b"report.json"].contains(&name) || Bench::ALL.into_iter().any(of_bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &str) -> String {
        format!("<meta name=\"generator\" content=\"{GENERATOR} 1\"/>{words}")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_report_takes_the_place_of_nothing_of_an_empty_folder_and_of_an_older_one() {
        let above = tempfile::tempdir().expect("a folder");
        let place = above.path().join("report");
        for words in ["first", "second", "third"] {
            if words == "second" {
                fs::remove_dir_all(&place).expect("the first");
                fs::create_dir(&place).expect("a folder");
            }
            let folder = Folder::beside(&place).expect("there is room");
            folder.write(PAGE, &page(words)).expect("there is room");
            folder.write("cache.json", words).expect("there is room");
            folder.publish().expect("the place is good");
            assert_eq!(fs::read_to_string(place.join(PAGE)).expect("the page"), page(words));
            assert_eq!(names(&place), ["cache.json", PAGE]);
            assert_eq!(names(above.path()), ["report"], "something is left beside it");
        }
    }

    #[test]
    fn an_older_report_can_be_replaced_where_names_cannot_be_exchanged() {
        let above = tempfile::tempdir().expect("a folder");
        let place = above.path().join("report");
        for words in ["first", "second"] {
            let folder = Folder::beside(&place).expect("there is room");
            folder.write(PAGE, &page(words)).expect("there is room");
            match words {
                "first" => folder.publish().expect("the place is good"),
                _ => folder.replace_in_two_steps().expect("the place is good"),
            }
            assert_eq!(fs::read_to_string(place.join(PAGE)).expect("the page"), page(words));
            assert_eq!(names(above.path()), ["report"], "something is left beside it");
        }
    }

    #[test]
    fn what_is_not_published_is_gone() {
        let above = tempfile::tempdir().expect("a folder");
        let folder = Folder::beside(&above.path().join("report")).expect("there is room");
        folder.write(PAGE, "half a page").expect("there is room");
        drop(folder);
        assert_eq!(names(above.path()), Vec::<String>::new());
    }

    #[test]
    fn nobodys_files_are_taken_for_a_report() {
        let above = tempfile::tempdir().expect("a folder");
        let place = above.path().join("folder");
        let is_refused =
            || Folder::beside(&place).is_err_and(|failure| failure.report().contains("not a report"));
        fs::create_dir(&place).expect("a folder");
        fs::write(place.join(PAGE), "<p>a page of somebody's</p>").expect("a file");
        assert!(is_refused());
        fs::write(place.join(PAGE), page("ours")).expect("a file");
        assert!(!is_refused());
        fs::write(place.join("notes.txt"), "somebody's").expect("a file");
        assert!(is_refused());
        fs::remove_file(place.join("notes.txt")).expect("it was there");
        fs::create_dir(place.join("demo.svg")).expect("a folder");
        assert!(is_refused());
    }

    #[test]
    fn what_comes_to_the_place_meanwhile_stays() {
        let above = tempfile::tempdir().expect("a folder");
        let place = above.path().join("report");
        let folder = Folder::beside(&place).expect("there is room");
        folder.write(PAGE, &page("ours")).expect("there is room");
        fs::create_dir(&place).expect("a folder");
        fs::write(place.join("notes.txt"), "somebody's").expect("a file");
        assert!(folder.publish().is_err());
        assert_eq!(names(&place), ["notes.txt"]);
        assert_eq!(names(above.path()), ["report"]);
    }

    #[test]
    fn places_where_nothing_can_be_are_refused() {
        for place in ["/proc/self/status", "/no/such/folder/report", "/", "/proc", "."] {
            let failure = Folder::beside(Path::new(place)).expect_err(place);
            assert!(failure.report().contains(place), "{}", failure.report());
        }
    }
}
