//! What a program is run with: its own allocator where that can be hooked, or another.

use std::ffi::{OsStr, OsString};

use super::allocator::{self, Allocator, Found};
use super::library::Library;
use super::preload::Preload;
use super::program::Program;
use crate::command_line::MallocChoice;
use crate::failure::Failure;

/// What is done about the program's allocator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// Which library of ours is preloaded.
    pub(super) library: Library,
    /// The allocator that it hooks, if any.
    pub(super) hooked: Option<Hooked>,
    /// The system's library that is preloaded as well.
    pub(super) brought: Option<&'static str>,
    /// What the user should know.
    pub(super) warning: Option<String>,
}

/// The allocators that can be hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hooked {
    /// By the functions that it calls.
    Tcmalloc,
    /// By `mallctl`.
    Jemalloc,
    /// The one that comes with our library.
    Mimalloc,
}

/// An allocator that the system has as a library.
pub(crate) struct Packaged {
    hooked: Hooked,
    name: &'static str,
    /// The first that is installed is taken.
    pub(crate) libraries: &'static [&'static str],
    /// Debian's.
    pub(crate) package: &'static str,
}

/// gperftools'.
pub(crate) const TCMALLOC: Packaged = Packaged {
    hooked: Hooked::Tcmalloc,
    name: "tcmalloc",
    libraries: &["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
    package: "libtcmalloc-minimal4",
};

/// Version 5.
pub(crate) const JEMALLOC: Packaged = Packaged {
    hooked: Hooked::Jemalloc,
    name: "jemalloc",
    libraries: &["libjemalloc.so.2"],
    package: "libjemalloc2",
};

/// Decides. `others` is what the user preloads himself.
///
/// # Errors
/// What was asked for is not installed or cannot be hooked, or the program would not use it.
pub(super) fn choose(choice: MallocChoice, program: &Program, others: &Preload) -> Result<Setup, Failure> {
    let found = || allocator::find(program, &others.list());
    match choice {
        MallocChoice::Auto => Ok(automatic(&found()?)),
        MallocChoice::Mimalloc => replaceable(&found()?).map(|()| hooking(Hooked::Mimalloc)),
        MallocChoice::Tcmalloc => TCMALLOC.setup(&found()?, program, others),
        MallocChoice::Jemalloc => JEMALLOC.setup(&found()?, program, others),
        MallocChoice::None => Ok(hooking_nothing(None)),
    }
}

fn hooking(hooked: Hooked) -> Setup {
    let library = if hooked == Hooked::Mimalloc { Library::Mimalloc } else { Library::Preload };
    Setup { library, hooked: Some(hooked), brought: None, warning: None }
}

fn hooking_nothing(warning: Option<String>) -> Setup {
    Setup { library: Library::Preload, hooked: None, brought: None, warning }
}

/// The allocator that the program has, if it can be hooked; ours instead of the C library's.
fn automatic(found: &Found) -> Setup {
    match hooks_of(found.allocator) {
        Some(hooked) => hooking(hooked),
        None if found.allocator == Allocator::Glibc => hooking(Hooked::Mimalloc),
        None => hooking_nothing(Some(not_marked(found))),
    }
}

fn hooks_of(allocator: Allocator) -> Option<Hooked> {
    match allocator {
        Allocator::Tcmalloc => Some(Hooked::Tcmalloc),
        Allocator::Jemalloc => Some(Hooked::Jemalloc),
        Allocator::Glibc | Allocator::TcmallocWithoutHooks | Allocator::Unknown => None,
    }
}

fn not_marked(found: &Found) -> String {
    let object = found.object.display();
    let what = match (found.allocator, found.is_linked_in) {
        (Allocator::TcmallocWithoutHooks, true) => {
            format!("{object} has tcmalloc linked in, which cannot be hooked")
        }
        (Allocator::TcmallocWithoutHooks, false) => without_hooks(&object),
        (_, true) => format!("{object} has an allocator of its own linked in"),
        (_, false) => format!("memory comes from {object}, an allocator that vrange does not know"),
    };
    let hint = if found.is_linked_in {
        "no preloaded library can replace it; `--malloc none` does not warn"
    } else {
        "`--malloc mimalloc` replaces it; `--malloc none` does not warn"
    };
    format!("{what}: what the program frees is not marked ({hint})")
}

fn without_hooks(object: &impl std::fmt::Display) -> String {
    format!("{object} is a tcmalloc that was built with hidden visibility, so it cannot be hooked")
}

/// Would the program use an allocator that is preloaded?
fn replaceable(found: &Found) -> Result<(), Failure> {
    if !found.is_linked_in {
        return Ok(());
    }
    let object = found.object.display();
    Err(Failure::cannot_run(format!(
        "{object} has an allocator linked in, which no preloaded library can replace"
    ))
    .hint("`--malloc auto` uses it if it can, `--malloc none` leaves it alone"))
}

impl Packaged {
    /// The program's own, or the system's.
    fn setup(&self, found: &Found, program: &Program, others: &Preload) -> Result<Setup, Failure> {
        if hooks_of(found.allocator) == Some(self.hooked) {
            return Ok(hooking(self.hooked));
        }
        replaceable(found)?;
        for library in self.libraries {
            let found = allocator::find(program, &others.after([OsString::from(library)]))?;
            if found.object.file_name() != Some(OsStr::new(library)) {
                continue;
            }
            if hooks_of(found.allocator) == Some(self.hooked) {
                return Ok(Setup { brought: Some(library), ..hooking(self.hooked) });
            }
            let message = match found.allocator {
                Allocator::TcmallocWithoutHooks => without_hooks(&found.object.display()),
                _ => format!("{} is not the {} that vrange knows", found.object.display(), self.name),
            };
            return Err(Failure::cannot_run(message).hint("use `--malloc mimalloc`"));
        }
        let program = program.file.display();
        Err(Failure::cannot_run(format!(
            "{program} is not linked with {}, and {} is not installed",
            self.name, self.libraries[0]
        ))
        .hint(format!("install it; Debian's package is {}", self.package)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn found(allocator: Allocator, is_linked_in: bool) -> Found {
        Found { allocator, object: PathBuf::from("/a/file"), is_linked_in }
    }

    #[test]
    fn an_allocator_that_can_be_hooked_is_kept() {
        for linked_in in [false, true] {
            assert_eq!(automatic(&found(Allocator::Jemalloc, linked_in)), hooking(Hooked::Jemalloc));
        }
        assert_eq!(automatic(&found(Allocator::Tcmalloc, false)), hooking(Hooked::Tcmalloc));
        assert_eq!(hooking(Hooked::Tcmalloc).library, Library::Preload);
        assert_eq!(automatic(&found(Allocator::Glibc, false)), hooking(Hooked::Mimalloc));
        assert_eq!(hooking(Hooked::Mimalloc).library, Library::Mimalloc);
    }

    #[test]
    fn an_allocator_that_cannot_be_hooked_is_left_alone_with_a_warning() {
        for (allocator, linked_in, says) in [
            (Allocator::Unknown, false, "from /a/file, an allocator that vrange does not know"),
            (Allocator::Unknown, false, "`--malloc mimalloc` replaces it"),
            (Allocator::Unknown, true, "/a/file has an allocator of its own linked in"),
            (Allocator::Unknown, true, "no preloaded library can replace it"),
            (Allocator::TcmallocWithoutHooks, false, "hidden visibility"),
            (Allocator::TcmallocWithoutHooks, true, "has tcmalloc linked in"),
        ] {
            let setup = automatic(&found(allocator, linked_in));
            assert_eq!((setup.library, setup.hooked), (Library::Preload, None));
            let warning = setup.warning.expect("a warning");
            assert!(warning.contains(says) && warning.contains("is not marked"), "{warning}");
        }
    }

    #[test]
    fn what_is_not_installed_is_named() {
        let this = crate::run::program::check(&std::env::current_exe().expect("a path")).expect("a program");
        let nowhere =
            Packaged { libraries: &["libno-such-malloc.so.9"], package: "no-such-malloc9", ..JEMALLOC };
        let glibc = found(Allocator::Glibc, false);
        let failure = nowhere.setup(&glibc, &this, &Preload::read(OsStr::new(""))).expect_err("it was found");
        for part in
            ["not linked with jemalloc, and libno-such-malloc.so.9 is not installed", "no-such-malloc9)"]
        {
            assert!(failure.report().contains(part), "{}", failure.report());
        }
    }

    #[test]
    fn only_what_is_linked_in_cannot_be_replaced() {
        assert!(replaceable(&found(Allocator::Unknown, false)).is_ok());
        let failure = replaceable(&found(Allocator::Jemalloc, true)).expect_err("it would not be used");
        assert!(failure.report().contains("/a/file has an allocator linked in"), "{}", failure.report());
    }
}
