//! How a process is started so that it runs on an allocator in one of its configurations, and how to tell that it did.
//!
//! What was looked at, by counting system calls (`strace -f`) of both workloads between start and report, with Debian 12's tcmalloc
//! 2.10, jemalloc 5.3 and glibc 2.36, and with mimalloc 3.3:
//! * `keep`, and `cleared`, which is set up in the same way: no madvise, no munmap, and no brk that makes the heap smaller, in all four.
//! * `dontneed`: one `MADV_DONTNEED` for each block that is freed, of its whole length, in all three.
//! * `free`: the same with `MADV_FREE`, in both, and no `MADV_DONTNEED`.
//! * `marks`: no `MADV_DONTNEED` while the workload runs, and a handful of `MADV_FREE`, by the reclaimer, in all three.
//! * `default` of glibc: in `churn` the heap is made smaller after each round. In `search` nearly nothing is given back: glibc raises
//!   its thresholds when a large block is freed.
//!
//! Nothing else is set, so each is as fast as it comes: thread caches, numbers of arenas, and the huge pages that mimalloc asks for,
//! unlike the others, where the system gives them to those who ask.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::Report;
use super::setting::{Allocator, Config, Setting};
use crate::run::library::{self, Library};
use crate::run::{PRELOAD, environment, setup};

/// Variables that begin so could change what is measured.
const FOREIGN: [&str; 6] = ["LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_", "MIMALLOC_", "TCMALLOC_", "VRANGE_"];

const TCMALLOC: &str = setup::TCMALLOC.libraries[0];
const JEMALLOC: &str = setup::JEMALLOC.libraries[0];
const GLIBC: &str = "libc.so.6";

/// `oversize_threshold:0`: blocks of 8 MiB and more come from the same arenas as others, and not from one that all threads share,
/// that is made when it is first needed, and that would have no hooks.
const JEMALLOC_KEEP: &str = "dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0";
/// Also for `free` and `marks`: what differs there is the hooks. (`muzzy_decay_ms:-1` beside `dirty_decay_ms:0` does not make it use
/// `MADV_FREE`: jemalloc 5.3 skips the lazy way where the decay is 0.)
const JEMALLOC_AT_ONCE: &str = environment::JEMALLOC_SETTINGS;

/// The largest threshold that glibc takes is 32 MiB; more than any block here. The other value is 1 TiB: never.
const GLIBC_KEEP: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1099511627776";

/// How the library's report at the end of a process begins, which is there if something was marked.
const MARKED: &str = "vrange: free memory of ";

/// This project's libraries, if they are there.
#[derive(Debug)]
pub(super) struct Libraries {
    preload: Result<PathBuf, String>,
    mimalloc: Result<PathBuf, String>,
}

/// What a process is started with.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// Whether the process has to install the hooks by which jemalloc uses `MADV_FREE`.
    pub(super) lazy: bool,
    /// Whether the process has to set each block to zero before it uses it.
    pub(super) clear: bool,
    /// The file that `malloc` has to come from.
    allocator_file: String,
    /// The library that has to be there and to mark something.
    marks_by: Option<PathBuf>,
}

impl Libraries {
    pub(super) fn find() -> Self {
        let find = |library| library::find(library).map_err(|failure| failure.reason());
        Self { preload: find(Library::Preload), mimalloc: find(Library::Mimalloc) }
    }
}

impl Launch {
    /// Or why that cannot be had.
    pub(super) fn new(setting: Setting, libraries: &Libraries, decay: Duration) -> Result<Self, String> {
        match setting.allocator {
            Allocator::Tcmalloc | Allocator::Jemalloc => Self::of_the_system(setting, libraries, decay),
            Allocator::Mimalloc => Self::mimalloc(setting.config, libraries, decay),
            Allocator::Glibc => Ok(Self::glibc(setting.config)),
        }
    }

    fn of_the_system(setting: Setting, libraries: &Libraries, decay: Duration) -> Result<Self, String> {
        let (file, (variable, value)) = match setting.allocator {
            Allocator::Tcmalloc => (TCMALLOC, tcmalloc(setting.config)),
            _ => (JEMALLOC, jemalloc(setting.config)),
        };
        let mut launch = Self::preloading(file.into(), file);
        launch.set(variable, value);
        launch.lazy = setting.config == Config::Free;
        launch.clear = setting.config == Config::Cleared;
        if setting.config == Config::Marks {
            let library = libraries.preload.clone()?;
            let mut list = library.clone().into_os_string();
            list.push(":");
            list.push(file);
            launch.set(PRELOAD, list);
            launch.mark(library, decay);
        }
        Ok(launch)
    }

    fn mimalloc(config: Config, libraries: &Libraries, decay: Duration) -> Result<Self, String> {
        let library = libraries.mimalloc.clone()?;
        let file = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut launch = Self::preloading(library.clone().into(), &file);
        if config == Config::Marks {
            launch.mark(library, decay);
            return Ok(launch);
        }
        launch.set("VRANGE_MALLOC", "off");
        launch.set("MIMALLOC_PURGE_DELAY", if config == Config::Keep { "-1" } else { "0" });
        if config == Config::Free {
            launch.set("MIMALLOC_PURGE_DECOMMITS", "0");
        }
        Ok(launch)
    }

    fn glibc(config: Config) -> Self {
        let mut launch = Self::of(GLIBC);
        if config == Config::Keep {
            launch.set("GLIBC_TUNABLES", GLIBC_KEEP);
        }
        launch
    }

    fn preloading(list: OsString, allocator_file: &str) -> Self {
        let mut launch = Self::of(allocator_file);
        launch.set(PRELOAD, list);
        launch
    }

    /// With nothing set.
    fn of(allocator_file: &str) -> Self {
        Self {
            variables: Vec::new(),
            lazy: false,
            clear: false,
            allocator_file: allocator_file.to_owned(),
            marks_by: None,
        }
    }

    fn set(&mut self, variable: &'static str, value: impl Into<OsString>) {
        self.variables.retain(|(name, _)| *name != variable);
        self.variables.push((variable, value.into()));
    }

    /// As `vrange run --malloc … --decay … --stats` does it.
    fn mark(&mut self, library: PathBuf, decay: Duration) {
        self.set("VRANGE_MODE", "implicit");
        self.set("VRANGE_MALLOC", "on");
        self.set("VRANGE_DECAY", decay.as_secs_f64().to_string());
        self.set("VRANGE_STATS", "1");
        self.marks_by = Some(library);
    }

    /// Did the process run as it was meant to? A library that cannot be loaded is no more than a line on standard error to the
    /// dynamic linker, and one without hooks for the allocator marks nothing. `said`: what it wrote to standard error.
    pub(super) fn check(&self, report: &Report, said: &str) -> Result<(), String> {
        if !is_file(&report.malloc_from, &self.allocator_file) {
            let packaged = [setup::TCMALLOC, setup::JEMALLOC];
            let packaged = packaged.iter().find(|packaged| packaged.libraries[0] == self.allocator_file);
            let install = packaged.map(|packaged| format!("; install it (Debian: {})", packaged.package));
            return Err(format!("{} was not loaded{}", self.allocator_file, install.unwrap_or_default()));
        }
        let Some(library) = &self.marks_by else { return Ok(()) };
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        if !is_file(&report.madvise_from, &name) {
            return Err(format!("{name} was not loaded"));
        }
        if said.contains(MARKED) {
            return Ok(());
        }
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.map(|line| format!(": {line}")).unwrap_or_default();
        Err(format!("{name} marked nothing of this allocator's{last}"))
    }
}

/// Is it a variable of ours that is not to be handed down?
pub(super) fn is_foreign(variable: &OsStr) -> bool {
    FOREIGN.iter().any(|start| variable.as_encoded_bytes().starts_with(start.as_bytes()))
}

fn tcmalloc(config: Config) -> (&'static str, &'static str) {
    match config {
        Config::Keep => ("TCMALLOC_RELEASE_RATE", "0"),
        _ => ("TCMALLOC_AGGRESSIVE_DECOMMIT", "1"),
    }
}

fn jemalloc(config: Config) -> (&'static str, &'static str) {
    match config {
        Config::Keep | Config::Cleared => ("MALLOC_CONF", JEMALLOC_KEEP),
        _ => ("MALLOC_CONF", JEMALLOC_AT_ONCE),
    }
}

fn is_file(path: &str, name: &str) -> bool {
    Path::new(path).file_name().is_some_and(|file| file == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_millis(1500);

    fn libraries() -> Libraries {
        Libraries {
            preload: Ok(PathBuf::from("/lib/libvrange_preload.so")),
            mimalloc: Err("there is none".to_owned()),
        }
    }

    fn report(malloc_from: &str, madvise_from: &str) -> Report {
        Report {
            records_per_second: 1.0,
            resident_bytes: None,
            peak_bytes: 1,
            malloc_from: malloc_from.to_owned(),
            madvise_from: madvise_from.to_owned(),
            version: None,
        }
    }

    #[test]
    fn marks_come_first_and_know_their_decay() {
        let setting = Allocator::Tcmalloc.with(Config::Marks);
        let launch = Launch::new(setting, &libraries(), DECAY).expect("the library is there");
        let value = |name| launch.variables.iter().filter(move |(of, _)| *of == name).map(|(_, value)| value);
        assert_eq!(
            value(PRELOAD).collect::<Vec<_>>(),
            ["/lib/libvrange_preload.so:libtcmalloc_minimal.so.4"]
        );
        assert_eq!(value("VRANGE_DECAY").collect::<Vec<_>>(), ["1.5"]);
        assert_eq!(value("TCMALLOC_AGGRESSIVE_DECOMMIT").collect::<Vec<_>>(), ["1"]);
        assert!(launch.variables.iter().all(|(name, _)| is_foreign(OsStr::new(name))));
        assert!(!is_foreign(OsStr::new("PATH")));
    }

    #[test]
    fn what_is_not_there_is_not_started() {
        for config in [Config::Keep, Config::Marks] {
            let why = Launch::new(Allocator::Mimalloc.with(config), &libraries(), DECAY).err();
            assert_eq!(why.as_deref(), Some("there is none"));
        }
    }

    #[test]
    fn a_run_without_what_it_was_to_show_does_not_count() {
        let setting = Allocator::Jemalloc.with(Config::Marks);
        let launch = Launch::new(setting, &libraries(), DECAY).expect("the library is there");
        let (jemalloc, ours, libc) = ("/lib/libjemalloc.so.2", "/lib/libvrange_preload.so", "/lib/libc.so.6");
        let why = |malloc, madvise, said| launch.check(&report(malloc, madvise), said).err();
        let marked = "vrange: free memory of vrange (process 7)\n";
        assert_eq!(why(jemalloc, ours, marked), None);
        assert!(why(libc, ours, marked).is_some_and(|why| why.contains("libjemalloc2")));
        assert!(why(jemalloc, libc, marked).is_some_and(|why| why.contains("libvrange_preload.so")));
        assert!(
            why(jemalloc, ours, "\n").is_some_and(|why| why.ends_with("marked nothing of this allocator's"))
        );
        let refused = "vrange: jemalloc is not hooked: it is too old\n";
        assert!(why(jemalloc, ours, refused).is_some_and(|why| why.ends_with("it is too old")));
    }
}
