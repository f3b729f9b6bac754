//! Which files the demo reads: regular, readable, not empty, not too large, on one file system, through no symbolic
//! link, in an order that mixes the directories and is the same every time.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::shuffle::Shuffle;

/// Directory entries looked at before the search is called off.
const ENTRIES_MAX: usize = 200_000;
/// Files handed to the cache; more would make the list itself large beside a small limit.
const FILES_MAX: usize = 20_000;
/// A file may take this part of the memory; a larger one would make the order of loss a matter of few files.
pub(crate) const SHARE_OF_MEMORY: u64 = 16;

/// The files that were found.
#[derive(Debug)]
pub(crate) struct Choice {
    /// Their paths, in the order in which to read them.
    pub(crate) paths: Vec<PathBuf>,
    /// Their sizes together, when they were found.
    pub(crate) total_bytes: u64,
}

/// Finds files below `directory`, up to twice `memory_bytes` together.
///
/// # Errors
/// The directory cannot be listed, holds no file that can be used, or a signal came.
pub(crate) fn choose(directory: &Path, memory_bytes: u64, interrupt: &Interrupt) -> Result<Choice, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("cannot read {}: {error}", directory.display()))
            .hint("give a directory that you may read")
    };
    let device = std::fs::metadata(directory).map_err(unreadable)?.dev();
    drop(std::fs::read_dir(directory).map_err(unreadable)?);
    let mut found = walk(directory, device, memory_bytes / SHARE_OF_MEMORY, interrupt)?;
    if found.is_empty() {
        return Err(Failure::usage(format!("{} holds no file that can be cached", directory.display()))
            .hint(format!(
                "readable regular files of 1 B to {} are",
                crate::size::human(memory_bytes / SHARE_OF_MEMORY)
            )));
    }
    // Sorted first: the order in which a file system lists its entries is nobody's promise.
    found.sort_unstable();
    Shuffle::new().shuffle(&mut found);
    let mut total_bytes = 0;
    let mut paths = Vec::new();
    for (path, bytes) in found {
        if total_bytes >= memory_bytes.saturating_mul(2) || paths.len() == FILES_MAX {
            break;
        }
        total_bytes += bytes;
        paths.push(path);
    }
    Ok(Choice { paths, total_bytes })
}

/// Lists files breadth first. What cannot be read is passed over, as `find` does.
fn walk(
    directory: &Path,
    device: u64,
    bytes_max: u64,
    interrupt: &Interrupt,
) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let mut waiting = VecDeque::from([directory.to_path_buf()]);
    let mut found = Vec::new();
    let mut entries = 0;
    while let Some(directory) = waiting.pop_front() {
        interrupt.check()?;
        let Ok(listing) = std::fs::read_dir(&directory) else { continue };
        for entry in listing.flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return Ok(found);
            }
            // Does not follow symbolic links.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                waiting.push_back(entry.path());
            } else if metadata.is_file() && (1..=bytes_max).contains(&metadata.len()) {
                // A name that is not UTF-8 does not fit in a line of JSON.
                if entry.path().to_str().is_some() {
                    found.push((entry.path(), metadata.len()));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_empty_and_large_files_are_passed_over() {
        let scratch = tempfile::tempdir().expect("a directory");
        let memory_bytes = 64 << 10;
        fs::create_dir(scratch.path().join("below")).expect("a directory");
        fs::write(scratch.path().join("below/good"), b"contents").expect("a file");
        fs::write(scratch.path().join("empty"), b"").expect("a file");
        fs::write(scratch.path().join("large"), vec![1; 4097]).expect("a file");
        std::os::unix::fs::symlink("below/good", scratch.path().join("link")).expect("a link");
        std::os::unix::fs::symlink("..", scratch.path().join("below/cycle")).expect("a link");
        let choice = choose(scratch.path(), memory_bytes, &Interrupt::default()).expect("one file fits");
        assert_eq!(choice.paths, [scratch.path().join("below/good")]);
        assert_eq!(choice.total_bytes, 8);
    }

    #[test]
    fn a_directory_without_files_is_an_error_with_a_hint() {
        let scratch = tempfile::tempdir().expect("a directory");
        let failure = choose(scratch.path(), 1 << 20, &Interrupt::default()).expect_err("nothing to cache");
        assert!(failure.report().contains("holds no file that can be cached"), "{}", failure.report());
    }
}
