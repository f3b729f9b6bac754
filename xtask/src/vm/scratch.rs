//! A folder for one guest's files, gone when the guest is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder's name is this and the number of the process that made it.
const PREFIX: &str = "run-";

/// A folder that is removed with all it holds when this is dropped.
pub(super) struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// Makes an empty folder inside `parent`, which is made too where it is missing.
    ///
    /// # Errors
    /// The disk is full, or the folder must not be written.
    pub(super) fn make(parent: &Path) -> Result<Self> {
        remove_abandoned(parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file of `length_bytes` in the folder that takes room only where it is written.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(super) fn sparse_file(&self, name: &str, length_bytes: u64) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::File::create(&path)
            .and_then(|file| file.set_len(length_bytes))
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what runs that were killed have left. Failures are left to the next run.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if maker.is_some_and(|process| {
            process == std::process::id() || !Path::new("/proc").join(process.to_string()).exists()
        }) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_owner() {
        let parent = std::env::temp_dir().join(format!("xtask-scratch-test-{}", std::process::id()));
        let scratch = ScratchFolder::make(&parent).unwrap();
        let file = scratch.sparse_file("disk", 1 << 40).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 40);
        drop(scratch);
        assert!(!file.exists());
        // No process has this number: the kernel's limit is 2^22.
        let abandoned = parent.join("run-4294967295");
        fs::create_dir(&abandoned).unwrap();
        drop(ScratchFolder::make(&parent).unwrap());
        assert!(!abandoned.exists());
        fs::remove_dir(&parent).unwrap();
    }
}
