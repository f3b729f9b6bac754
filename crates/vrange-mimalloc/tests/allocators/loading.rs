//! Libraries beside the hooks: allocators that are loaded later, and what the user preloads himself.

use tempfile::NamedTempFile;

use crate::reentry::watched;
use crate::support::{Allocator, Preload, after, compiled, plain, preload, run};

/// A program on libc's allocator, or on mimalloc, that loads the other two for itself.
///
/// tcmalloc finds the hooks by their names, also then. In a process with a reclaimer (here: mimalloc's) they mark; in another one they
/// give the memory to the kernel, as tcmalloc would. jemalloc is not hooked: it is hidden from everybody else, and gives memory back in
/// its own way.
#[test]
fn allocators_that_a_program_loads_later_give_back() {
    let [tcmalloc, jemalloc, mimalloc] = [Allocator::Tcmalloc, Allocator::Jemalloc, Allocator::Mimalloc];
    if !(tcmalloc.is_here() && jemalloc.is_here()) {
        return;
    }
    let libraries = [tcmalloc, jemalloc].map(|allocator| allocator.system_library().expect("one of two").0);
    for (hooks, turned_on) in [(tcmalloc.hooks(), true), (tcmalloc.hooks(), false), (mimalloc.hooks(), true)]
    {
        let mut command = plain("dlopened", &libraries);
        tcmalloc.configure(&mut command);
        jemalloc.configure(&mut command);
        // jemalloc has more thread-local data than libc keeps room for.
        command.env("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=65536");
        command.env("VRANGE_DECAY", "0.3").env("VRANGE_STATS", "1");
        if turned_on {
            command.env("VRANGE_MALLOC", "on");
        }
        preload(&mut command, Preload::First, &hooks);
        let ran = run(command);
        if ran.is_skipped() {
            return;
        }
        let ran = ran.said(libraries[0]).said(libraries[1]);
        let is_marked = hooks == mimalloc.hooks();
        assert_eq!(ran.mib("marked") > 0.0, is_marked, "{ran}");
    }
}

/// With `RTLD_DEEPBIND` a library would be given libc's `malloc` and `free` before mimalloc's. (With tcmalloc and jemalloc it is, also where they
/// are linked and there is nothing of this project.)
#[test]
fn a_library_that_prefers_its_own_symbols_has_the_programs_allocator() {
    let library = compiled("plugin.so");
    let name = library.file_name().and_then(|name| name.to_str()).expect("a plain name");
    for deep in ["0", "1"] {
        run(plain("plugged", &[name, deep])).said("all blocks are freed");
        run(Allocator::Mimalloc.run("plugged", &[name, deep])).said("all blocks are freed").marked();
    }
}

/// Such a program may be started by one that runs with the library.
#[test]
fn a_program_with_an_allocator_of_its_own_keeps_it() {
    run(plain("own_malloc", &[])).said("all blocks are its own");
    for allocator in Allocator::each() {
        run(allocator.run("own_malloc", &[])).said("all blocks are its own");
    }
}

#[test]
fn the_users_own_wrapper_of_malloc_sees_all_calls() {
    for allocator in Allocator::each() {
        for place in [Preload::First, Preload::AfterHooks] {
            let mut command = allocator.run("give_back", &["idle", "1024", "64"]);
            command.env("VRANGE_DECAY", "0.3");
            preload(&mut command, place, &compiled("watch.so"));
            let ran = run(command).said("given back").marked();
            let (calls, _) = watched(&ran.told).expect("the library tells");
            // What comes behind an allocator is not asked.
            let is_behind = allocator == Allocator::Mimalloc && place == Preload::AfterHooks;
            assert_eq!(calls > 100, !is_behind, "{ran}");
        }
    }
}

#[test]
fn nothing_is_told_into_a_file_of_the_programs() {
    for allocator in Allocator::each() {
        let file = NamedTempFile::new().expect("a file");
        let command = allocator.run("lowest", &[file.path().to_str().expect("a plain path")]);
        run(after("exec 2>&-", &[], &command)).said("done");
        assert_eq!(file.as_file().metadata().expect("the file").len(), 0, "{allocator}");
    }
}

#[test]
fn what_cannot_be_understood_is_told_once() {
    for allocator in Allocator::each() {
        let mut command = allocator.run("give_back", &["nothing", "1024", "1"]);
        command.env("VRANGE_DECAY", "soon");
        let ran = run(command).said("holds");
        assert_eq!(ran.told.matches("VRANGE_DECAY=soon").count(), 1, "{ran}");
    }
}
