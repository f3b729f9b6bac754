//! Allocators, C programs, and one run on the other.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::{NamedTempFile, TempDir};
use vrange_testing::{MemoryGroup, scale, skipped};

pub(crate) const MIB: u64 = 1 << 20;
const PRELOAD: &str = "LD_PRELOAD";
/// What `vrange run` sets for jemalloc.
const JEMALLOC: &str = "dirty_decay_ms:0,muzzy_decay_ms:0,oversize_threshold:0";
/// How a program says that it cannot do its work here (check.h).
const SKIPPED: i32 = 77;

/// What a program allocates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocator {
    /// gperftools', with the library that hooks what is there.
    Tcmalloc,
    /// As above.
    Jemalloc,
    /// The library that brings it.
    Mimalloc,
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcmalloc => "tcmalloc",
            Self::Jemalloc => "jemalloc",
            Self::Mimalloc => "mimalloc",
        })
    }
}

impl Allocator {
    /// All that are installed. Of the others a line says what is missing.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        [Self::Tcmalloc, Self::Jemalloc, Self::Mimalloc].into_iter().filter(|allocator| allocator.is_here())
    }

    /// The system's library, and the Debian package that has it.
    pub(crate) fn system_library(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tcmalloc => Some(("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4")),
            Self::Jemalloc => Some(("libjemalloc.so.2", "libjemalloc2")),
            Self::Mimalloc => None,
        }
    }

    pub(crate) fn is_here(self) -> bool {
        let Some((library, package)) = self.system_library() else { return true };
        let is_here = is_installed(library);
        if !is_here {
            skipped(&format!("{self}: no {library}; it is in Debian's {package}"));
        }
        is_here
    }

    /// The library of this project that is preloaded.
    pub(crate) fn hooks(self) -> PathBuf {
        library(if self == Self::Mimalloc { "libvrange_mimalloc.so" } else { "libvrange_preload.so" })
    }

    /// Gives the command the environment in which its program runs on this allocator with hooks.
    pub(crate) fn prepare(self, command: &mut Command) {
        command.env("VRANGE_MALLOC", "on").env("VRANGE_STATS", "1").env(PRELOAD, self.hooks());
        if let Some((library, _)) = self.system_library() {
            preload(command, Preload::Last, Path::new(library));
        }
        self.configure(command);
    }

    /// Has the allocator tell of what is free, as `vrange run` does.
    pub(crate) fn configure(self, command: &mut Command) {
        let _ = match self {
            Self::Tcmalloc => command.env("TCMALLOC_AGGRESSIVE_DECOMMIT", "1"),
            Self::Jemalloc => command.env("MALLOC_CONF", JEMALLOC),
            Self::Mimalloc => command,
        };
    }

    /// A program of this folder on this allocator, with hooks. (Nothing else in its environment.)
    pub(crate) fn run(self, name: &str, arguments: &[&str]) -> Command {
        let mut command = plain(name, arguments);
        self.prepare(&mut command);
        command
    }

    /// The same as it is where nothing is ever given back, and nothing is hooked.
    pub(crate) fn run_and_keep(self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.run(name, arguments);
        command.env("VRANGE_MALLOC", "off");
        let _ = match self {
            Self::Tcmalloc => {
                command.env_remove("TCMALLOC_AGGRESSIVE_DECOMMIT").env("TCMALLOC_RELEASE_RATE", "0")
            }
            Self::Jemalloc => command.env("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1"),
            Self::Mimalloc => command.env("MIMALLOC_PURGE_DELAY", "-1"),
        };
        command
    }
}

/// Is there such a library where the compiler, and so the dynamic linker, looks for it?
fn is_installed(library: &str) -> bool {
    let found = Command::new(compiler()).arg(format!("-print-file-name={library}")).output();
    let found = found.expect("a C compiler").stdout;
    // What is not found is printed as it was asked for.
    String::from_utf8_lossy(&found).trim() != library
}

/// A library of this project, where cargo has put it for this test.
fn library(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().expect("a folder");
    let places = [folder.join(name), folder.join("..").join(name)];
    places.into_iter().find(|path| path.exists()).expect("cargo builds the library for its tests")
}

fn compiler() -> OsString {
    std::env::var_os("CC").unwrap_or_else(|| "cc".into())
}

/// A program of the folder, compiled once. One that is named `….so` is a library.
pub(crate) fn compiled(name: &str) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    static COMPILED: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().expect("no test has failed to compile one");
    let make = || {
        let path = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path().join(name);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
        let source = folder.join(name.trim_end_matches(".so")).with_extension("c");
        let mut command = Command::new(compiler());
        // Calls of the allocator are what is tested: none is to be thought away.
        command.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-pthread"]);
        if name.ends_with(".so") {
            command.args(["-shared", "-fPIC"]);
        }
        let status = command.arg("-o").arg(&path).arg(source).args(["-ldl", "-Wl,-rpath,$ORIGIN"]).status();
        assert!(status.expect("a C compiler").success(), "{name}");
        path
    };
    compiled.entry(name.to_owned()).or_insert_with(make).clone()
}

/// A program of this folder by itself: on libc's allocator.
pub(crate) fn plain(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(compiled(name));
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Where a library comes among those that are preloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preload {
    First,
    /// Behind the library of this project, which is the first so far.
    AfterHooks,
    Last,
}

/// Has one more library preloaded.
pub(crate) fn preload(command: &mut Command, place: Preload, library: &Path) {
    let value = value_of(command, PRELOAD).unwrap_or_default();
    let value = value.to_str().expect("plain paths");
    let mut libraries: Vec<_> = value.split(':').filter(|library| !library.is_empty()).collect();
    let index = match place {
        Preload::First => 0,
        Preload::AfterHooks => 1,
        Preload::Last => libraries.len(),
    };
    libraries.insert(index, library.to_str().expect("a plain path"));
    command.env(PRELOAD, libraries.join(":"));
}

/// What the user has in `MALLOC_CONF`, which `vrange run` puts behind its own.
pub(crate) fn configure_jemalloc(command: &mut Command, more: &str) {
    let mut value = value_of(command, "MALLOC_CONF").expect("a command for jemalloc");
    value.push(",");
    value.push(more);
    command.env("MALLOC_CONF", value);
}

fn value_of(command: &Command, name: &str) -> Option<OsString> {
    command.get_envs().find(|(other, _)| *other == name)?.1.map(Into::into)
}

/// The same command, started by a shell that does something first. The environment is for the program, not for the shell.
pub(crate) fn after(preparation: &str, arguments: &[&Path], command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let count = arguments.len();
    shell.args(["-c", &format!("{preparation}\nshift {count} && exec \"$@\"")]).arg("sh").args(arguments);
    shell.arg("env");
    for (name, value) in command.get_envs() {
        let mut pair = name.to_owned();
        pair.push("=");
        pair.push(value.unwrap_or_default());
        shell.arg(pair);
    }
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// The same command in a memory cgroup.
pub(crate) fn inside(group: &MemoryGroup, command: &Command) -> Command {
    after("echo 0 > \"$1\" || exit", &[&group.entry()], command)
}

/// A group in which memory gets short, or a line that says why there is none.
pub(crate) fn group(purpose: &str, mib: u64) -> Option<MemoryGroup> {
    MemoryGroup::make(purpose, mib * MIB).map_err(|why| skipped(&why)).ok()
}

/// Another process in a group, which takes pages away all the time, as long as this lives.
pub(crate) struct Squeezer {
    _process: Started,
    _file: NamedTempFile,
}

impl Squeezer {
    /// It needs `needed_mib` of the group's `mib` MiB now and then, and fills the rest with page cache. `None`, and a line that says why,
    /// where no file has one.
    pub(crate) fn start(group: &MemoryGroup, mib: u64, needed_mib: u64) -> Option<Self> {
        let folder = vrange_testing::folder_on_disk("/var/tmp").map_err(|why| skipped(&why)).ok()?;
        let file = NamedTempFile::new_in(folder).expect("a file");
        // It takes no room on the disk, but in the page cache.
        file.as_file().set_len(2 * mib * MIB).expect("a long file");
        let path = file.path().to_str().expect("a plain path");
        let squeezer = inside(group, &plain("give_back", &["squeeze", &needed_mib.to_string(), path]));
        Some(Self { _process: start(squeezer), _file: file })
    }
}

/// A group with such a process.
pub(crate) struct Squeezed {
    // Dropped in this order.
    _squeezer: Squeezer,
    pub(crate) group: MemoryGroup,
}

impl Squeezed {
    /// `None`, and a line that says why, where there is none.
    pub(crate) fn new(purpose: &str, mib: u64, needed_mib: u64) -> Option<Self> {
        let group = group(purpose, mib)?;
        Some(Self { _squeezer: Squeezer::start(&group, mib, needed_mib)?, group })
    }
}

/// How long a program may be silent where it is to say something, or to end.
fn time_max() -> Duration {
    Duration::from_secs(scale().pick(180, 1800))
}

/// A program that runs. Dropping it ends it.
pub(crate) struct Started {
    what: String,
    child: Child,
    to: Option<ChildStdin>,
    lines: Receiver<String>,
    told: Option<JoinHandle<String>>,
    said: String,
}

/// Starts a program.
#[track_caller]
pub(crate) fn start(mut command: Command) -> Started {
    let what = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a process");
    let output = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
    let mut errors = child.stderr.take().expect("a pipe was asked for");
    let (heard, lines) = channel();
    // Both end when the program closes its output, at its end.
    std::thread::spawn(move || {
        // Nobody listens any more once the program is dropped.
        let _ = output.lines().map_while(Result::ok).map(|line| heard.send(line)).find(Result::is_err);
    });
    let told = std::thread::spawn(move || {
        let mut told = Vec::new();
        // What cannot be read has not been told.
        let _ = errors.read_to_end(&mut told);
        String::from_utf8_lossy(&told).into_owned()
    });
    let to = child.stdin.take();
    Started { what, child, to, lines, told: Some(told), said: String::new() }
}

impl Started {
    /// What it says next; `None` when it has ended.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Option<String> {
        match self.lines.recv_timeout(time_max()) {
            Ok(line) => {
                self.said.push_str(&line);
                self.said.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs: {}\n{}", self.what, self.said),
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let to = self.to.as_mut().expect("it was not told to end");
        // That it has ended is noticed when it does not answer.
        let _ = writeln!(to, "{line}");
    }

    /// Lets it come to its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        drop(self.to.take());
        while self.hear().is_some() {}
        let until = Instant::now() + time_max();
        let status = loop {
            match self.child.try_wait().expect("a child to wait for") {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "it hangs: {}\n{}", self.what, self.said),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let told = self.told.take().expect("taken here alone").join().expect("it reads");
        Ran { what: self.what.clone(), status, said: std::mem::take(&mut self.said), told }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended, with what it said and, on standard error, told.
#[derive(Debug)]
pub(crate) struct Ran {
    what: String,
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
    pub(crate) told: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}{}", self.what, self.status, self.said, self.told)
    }
}

impl Ran {
    /// A number of the report on free memory. 0 where there is none.
    pub(crate) fn mib(&self, what: &str) -> f64 {
        let number = |line: &str| {
            line.trim().strip_prefix(what)?.trim().split_once(" MiB")?.0.trim().parse::<f64>().ok()
        };
        self.told.lines().find_map(number).unwrap_or(0.0)
    }

    /// By SIGKILL, which is what the kernel sends when memory is exhausted?
    pub(crate) fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// It has said that it cannot do its work here, which a line repeats.
    pub(crate) fn is_skipped(&self) -> bool {
        let is_skipped = self.status.code() == Some(SKIPPED);
        if is_skipped {
            skipped(self.said.trim());
        }
        is_skipped
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// It succeeded, and said this.
    #[track_caller]
    pub(crate) fn said(self, what: &str) -> Self {
        assert!(self.status.success() && self.said.contains(what), "{what}: {self}");
        self
    }

    /// It freed memory that was marked.
    #[track_caller]
    pub(crate) fn marked(self) -> Self {
        assert!(self.mib("marked") > 0.0, "nothing was marked: {self}");
        self
    }
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(command: Command) -> Ran {
    start(command).finish()
}
