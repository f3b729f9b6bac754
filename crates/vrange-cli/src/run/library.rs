//! Where the library to preload is.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

const NAME: &str = "libvrange_preload.so";

/// Looks where it lies beside this command: installed (`bin/` and `lib/`), or built (the same folder).
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let command = std::env::current_exe()
        .map_err(|error| Failure::io("finding", "the path of this command", &error))?;
    let folder = command.parent().unwrap_or(Path::new("/"));
    let mut places = ["../lib", ".", "deps"].into_iter().map(|place| folder.join(place).join(NAME));
    let found = places.find_map(|place| place.canonicalize().ok());
    let library = found.ok_or_else(|| {
        Failure::run(format!("{NAME} is neither in {0} nor in {0}/../lib", folder.display()))
            .hint("install it with `cargo xtask install --prefix DIR`, or build it with `cargo build -p vrange-preload`")
    })?;
    // The list in which it will stand is divided by these.
    if library.to_string_lossy().contains([' ', ':']) {
        return Err(Failure::run(format!("the path {} has a space or a colon in it", library.display()))
            .hint("LD_PRELOAD cannot name it; install to another place"));
    }
    Ok(library)
}
