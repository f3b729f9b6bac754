//! How a program is started.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vrange_testing::{copy_program, skipped, without_allocator_settings};

/// Seconds after which freed memory goes back. Short, so that tests need not wait for it.
const DECAY_SECONDS: &str = "1";

const VRANGE: &str = env!("CARGO_BIN_EXE_vrange");
/// What `vrange run` preloads: for an allocator that is there, and with an allocator of its own.
const LIBRARIES: [&str; 2] = ["libvrange_preload.so", "libvrange_mimalloc.so"];

/// gperftools' library, by the name under which the dynamic linker knows it.
const TCMALLOC: &str = "libtcmalloc_minimal.so.4";
const JEMALLOC: &str = "libjemalloc.so.2";

/// As it is, or through `vrange run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As the user would start it who knows nothing of vrange.
    Plain,
    /// On tcmalloc, which gives memory back at once, with nothing of ours: what tcmalloc keeps in its caches is its own affair.
    Tcmalloc,
    /// On the mimalloc that comes with the library, which gives memory back by itself, with nothing of ours.
    Mimalloc,
    /// Through `vrange run`, with this word after `--malloc`.
    Malloc(&'static str),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => write!(f, "the plain run"),
            Self::Tcmalloc => write!(f, "the run on tcmalloc"),
            Self::Mimalloc => write!(f, "the run on mimalloc"),
            Self::Malloc(malloc) => write!(f, "vrange run --malloc {malloc}"),
        }
    }
}

impl Way {
    /// A command that becomes this program, with nothing of the surroundings that changes its allocator.
    pub(crate) fn command(self, program: &Path) -> Command {
        self.command_by(Path::new(VRANGE), program, &[])
    }

    /// As [`command`](Self::command); each process that marks anything says so at its end, for [`assert_marked`](Self::assert_marked).
    pub(crate) fn command_with_stats(self, program: &Path) -> Command {
        self.command_by(Path::new(VRANGE), program, &["--stats"])
    }

    /// As [`command`](Self::command), by a copy of the command, with more options.
    pub(crate) fn command_by(self, vrange: &Path, program: &Path, options: &[&str]) -> Command {
        let mut command = match self {
            Self::Plain | Self::Tcmalloc | Self::Mimalloc => Command::new(program),
            Self::Malloc(malloc) => {
                let mut command = Command::new(vrange);
                command.args(["run", "--malloc", malloc, "--decay", DECAY_SECONDS]);
                command.args(options).arg("--").arg(program);
                command
            }
        };
        without_allocator_settings(&mut command);
        if self == Self::Mimalloc {
            let library = built("libvrange_mimalloc.so").expect("looked for before");
            command.env("LD_PRELOAD", library).env("VRANGE_MALLOC", "off").env("MIMALLOC_PURGE_DELAY", "0");
        }
        if self == Self::Tcmalloc {
            command.env("LD_PRELOAD", TCMALLOC).env("TCMALLOC_AGGRESSIVE_DECOMMIT", "1");
        }
        command
    }

    /// Copies the command and its libraries into a folder, for a user who may not read where they were built.
    pub(crate) fn copy_command(folder: &Path) -> PathBuf {
        let vrange = folder.join("vrange");
        copy_program(VRANGE, &vrange);
        for (library, path) in LIBRARIES.iter().filter_map(|library| Some((library, built(library)?))) {
            fs::copy(path, folder.join(library)).expect("a copy of a library");
        }
        vrange
    }

    /// Is all here that programs need that bring one of `own` allocators with them (none: that of the C library)? Says what is
    /// missing.
    pub(crate) fn is_here(self, own: Option<&str>) -> bool {
        let missing = self.missing(own);
        if let Some(what) = &missing {
            skipped(what);
        }
        missing.is_none()
    }

    fn missing(self, own: Option<&str>) -> Option<String> {
        let Self::Malloc(malloc) = self else { return None };
        let malloc = if malloc == "auto" { own.unwrap_or("mimalloc") } else { malloc };
        let library = LIBRARIES[usize::from(malloc == "mimalloc")];
        if built(library).is_none() {
            return Some(format!("{library} is not built; run `cargo test --workspace`"));
        }
        let system = match malloc {
            "tcmalloc" => TCMALLOC,
            "jemalloc" => JEMALLOC,
            _ => return None,
        };
        let tried = Command::new("/bin/true").env("LD_PRELOAD", system).output().expect("/bin/true");
        // The dynamic linker goes on without what it does not find.
        (!tried.stderr.is_empty()).then(|| format!("{system} is not installed"))
    }

    /// Were the allocator's hooks at work in a program that was started with statistics?
    ///
    /// # Panics
    /// They were not, or a run without us says that they were.
    #[track_caller]
    pub(crate) fn assert_marked(self, errors: &str) {
        let marked = errors.lines().any(|line| {
            let number =
                line.trim_start().strip_prefix("marked ").and_then(|rest| rest.split_whitespace().next());
            number.is_some_and(|mib| mib.parse::<f64>().is_ok_and(|mib| mib > 0.0))
        });
        assert_eq!(
            marked,
            matches!(self, Self::Malloc(_)),
            "{self}: has anything been marked? It said:\n{errors}"
        );
    }
}

/// Where cargo has put a library, if it is built.
fn built(library: &str) -> Option<PathBuf> {
    let folder = Path::new(VRANGE).parent().expect("a folder");
    [folder.join(library), folder.join("deps").join(library)].into_iter().find(|path| path.exists())
}
