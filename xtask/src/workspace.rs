//! Where the workspace is, and which of its files belong to the project.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::CommandExt;

/// The workspace this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the workspace from the folder of this crate, which is one level below its root.
    ///
    /// # Errors
    /// The crate's folder has been moved away since the program was built.
    pub(crate) fn find() -> Result<Self> {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = crate_folder
            .parent()
            .context("the xtask crate has no parent folder")?
            .canonicalize()
            .with_context(|| format!("the workspace of {} is gone; build again", crate_folder.display()))?;
        Ok(Self { root })
    }

    /// The folder that holds the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where build products and caches go: `CARGO_TARGET_DIR`, or `target` inside the workspace.
    pub(crate) fn target_folder(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => self.root.join(folder),
            None => self.root.join("target"),
        }
    }

    /// A `cargo` command that runs in the workspace, with the cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        command
    }

    /// The files git tracks, and those it would track after `git add`, relative to the root and sorted.
    ///
    /// New files are included so that the rules are met before a commit, not after it.
    ///
    /// # Errors
    /// git is missing, or this is no clone.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let listing = Command::new("git")
            .current_dir(&self.root)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output_text()
            .context("the list of the project's files comes from git")?;
        let mut files: Vec<PathBuf> =
            listing.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        files.sort();
        files.dedup();
        // A file that was deleted but not yet committed is still listed.
        files.retain(|path| self.root.join(path).is_file());
        Ok(files)
    }
}

/// The target triple that the compiler in use builds for by default.
///
/// # Errors
/// `rustc -vV` fails or has no `host:` line.
pub(crate) fn host_triple() -> Result<String> {
    let version = Command::new("rustc").arg("-vV").output_text()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` does not name its host")?.to_owned())
}
