//! Where the library to preload is.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The libraries that can be preloaded: one of them into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// The advice, and hooks for an allocator that the program has.
    Preload,
    /// The same, and an allocator of its own.
    Mimalloc,
}

impl Library {
    /// Both, for whoever looks for either.
    pub(super) const ALL: [Self; 2] = [Self::Preload, Self::Mimalloc];

    /// The name of the file.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Preload => "libvrange_preload.so",
            Self::Mimalloc => "libvrange_mimalloc.so",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Preload => "vrange-preload",
            Self::Mimalloc => "vrange-mimalloc",
        }
    }
}

/// Names the folder that the libraries are in, wherever this command is.
const FOLDER: &str = "VRANGE_LIBDIR";

/// Looks in the folder that the environment names. Without that, where it lies beside this command: installed (`bin/` and `lib/`), or
/// built (the same folder).
pub(crate) fn find(library: Library) -> Result<PathBuf, Failure> {
    let folder = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty());
    let library = match folder {
        Some(folder) => in_folder(library, Path::new(&folder))?,
        None => beside_this_command(library)?,
    };
    // The list in which it will stand is divided by these.
    if library.to_string_lossy().contains([' ', ':']) {
        return Err(Failure::run(format!("the path {} has a space or a colon in it", library.display()))
            .hint("LD_PRELOAD cannot name it; install to another place"));
    }
    Ok(library)
}

/// No other place counts then: who names one wants what is there, and no other version of it.
fn in_folder(library: Library, folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join(library.file_name());
    path.canonicalize().map_err(|error| {
        Failure::io("looking for", path.display(), &error)
            .hint(format!("{FOLDER} names the folder; without it the libraries beside this command are used"))
    })
}

fn beside_this_command(library: Library) -> Result<PathBuf, Failure> {
    let name = library.file_name();
    let command = std::env::current_exe()
        .map_err(|error| Failure::io("finding", "the path of this command", &error))?;
    let folder = command.parent().unwrap_or(Path::new("/"));
    let mut places = ["../lib", ".", "deps"].into_iter().map(|place| folder.join(place).join(name));
    let found = places.find_map(|place| place.canonicalize().ok());
    found.ok_or_else(|| {
        Failure::run(format!("{name} is neither in {0} nor in {0}/../lib", folder.display())).hint(format!(
            "install it with `cargo xtask install --prefix DIR`, build it with `cargo build -p {}`, or name its folder in {FOLDER}",
            library.package()
        ))
    })
}
