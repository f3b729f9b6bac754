//! Which allocator a program would run with.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::loaded;
use super::program::Program;
use super::symbols::{Symbols, TCMALLOC_COMMIT, TCMALLOC_RELEASE};
use crate::failure::Failure;

const GLIBC: &str = "libc.so.6";

/// The allocators that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocator {
    /// The C library's own, which has no hooks.
    Glibc,
    /// gperftools' tcmalloc.
    Tcmalloc,
    /// The same, built so that it calls its own functions whatever is preloaded.
    TcmallocWithoutHooks,
    /// jemalloc, under the names of the C library.
    Jemalloc,
    /// Any other.
    Unknown,
}

/// The allocator that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Which it is.
    pub(super) allocator: Allocator,
    /// The file that it is in.
    pub(super) object: PathBuf,
    /// It is in the program itself, which never looks for another.
    pub(super) is_linked_in: bool,
}

/// Looks through the program and what would be loaded with it.
///
/// # Errors
/// The dynamic linker does not say what it would load, or a file cannot be read.
pub(super) fn find(program: &Program, preload: &OsStr) -> Result<Found, Failure> {
    if let Some(allocator) = in_program(&Symbols::of_program(&program.file)?) {
        return Ok(Found { allocator, object: program.file.clone(), is_linked_in: true });
    }
    // The first that has it is asked for memory; what comes after that is not.
    for object in loaded::objects(program, preload)? {
        let name = object.file_name().unwrap_or_default();
        // The dynamic linker's is for itself, until the C library's is there.
        if object == program.linker {
            continue;
        }
        let allocator =
            if name == GLIBC { Some(Allocator::Glibc) } else { in_library(&Symbols::of_library(&object)?) };
        if let Some(allocator) = allocator {
            return Ok(Found { allocator, object, is_linked_in: false });
        }
    }
    Err(Failure::cannot_run(format!("{} is linked with no C library", program.file.display()))
        .hint("with `--malloc none` nobody looks for its allocator"))
}

/// What a library serves `malloc` with, if it does.
fn in_library(symbols: &Symbols) -> Option<Allocator> {
    if !symbols.exports("malloc") {
        return None;
    }
    Some(if symbols.exports("mallctl") {
        Allocator::Jemalloc
    } else if symbols.exports("tc_malloc") {
        // Marks without their ends would lose data, so both calls must be seen.
        let seen = symbols.leaves_open(TCMALLOC_RELEASE) && symbols.leaves_open(TCMALLOC_COMMIT);
        if seen { Allocator::Tcmalloc } else { Allocator::TcmallocWithoutHooks }
    } else {
        Allocator::Unknown
    })
}

/// What a program brings along, under the usual names or, for itself alone, under others.
fn in_program(symbols: &Symbols) -> Option<Allocator> {
    if symbols.exports("mallctl") {
        return Some(Allocator::Jemalloc);
    }
    let under_another_name = ["je_mallctl", "_rjem_mallctl", "mi_malloc"];
    in_library(symbols)
        .or_else(|| under_another_name.iter().any(|name| symbols.defines(name)).then_some(Allocator::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_told_by_what_it_exports() {
        let (release, commit) = (TCMALLOC_RELEASE, TCMALLOC_COMMIT);
        let tcmalloc = ["malloc", "tc_malloc", release, commit];
        for (exported, open, allocator) in [
            (&["malloc", "mallctl"][..], &[][..], Some(Allocator::Jemalloc)),
            (&tcmalloc, &[commit, release], Some(Allocator::Tcmalloc)),
            // Hidden, or linked to keep their own; one alone is no use.
            (&["malloc", "tc_malloc"], &[], Some(Allocator::TcmallocWithoutHooks)),
            (&tcmalloc, &[], Some(Allocator::TcmallocWithoutHooks)),
            (&tcmalloc, &[release], Some(Allocator::TcmallocWithoutHooks)),
            (&["malloc", "mi_malloc"], &[], Some(Allocator::Unknown)),
            (&["malloc"], &[], Some(Allocator::Unknown)),
            // Under other names only: nobody calls them who asks for `malloc`.
            (&["mallctl", "mi_malloc", "tc_malloc"], &[], None),
            (&[], &[], None),
        ] {
            assert_eq!(in_library(&Symbols::new(exported, open, &[])), allocator, "{exported:?} {open:?}");
        }
    }

    #[test]
    fn a_program_has_what_it_defines_for_itself_too() {
        for (exported, internal, allocator) in [
            (&["malloc", "mallctl"][..], &[][..], Some(Allocator::Jemalloc)),
            (&["mallctl"], &[], Some(Allocator::Jemalloc)),
            (&["malloc"], &["malloc", "mallctl"], Some(Allocator::Unknown)),
            (&[], &["_rjem_mallctl"], Some(Allocator::Unknown)),
            (&["je_mallctl"], &[], Some(Allocator::Unknown)),
            (&[], &["mi_malloc"], Some(Allocator::Unknown)),
            (&["malloc", "tc_malloc", TCMALLOC_RELEASE], &[], Some(Allocator::TcmallocWithoutHooks)),
            (&[], &["tc_malloc"], None),
            (&[], &[], None),
        ] {
            assert_eq!(
                in_program(&Symbols::new(exported, &[], internal)),
                allocator,
                "{exported:?} {internal:?}"
            );
        }
    }
}
