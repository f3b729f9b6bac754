//! The threads of a process, by the names that they gave themselves.

use std::fs;
use std::path::PathBuf;

/// The name of the library's thread.
const RECLAIMER: &str = "vrange-reclaim";

/// The folder of each thread of a process (`self`, or a number) below `/proc`, and its name.
///
/// # Panics
/// There is no such process.
#[track_caller]
pub fn threads_of(process: &str) -> Vec<(PathBuf, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the list of threads");
    let named = |folder: PathBuf| {
        let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
        Some((folder, name))
    };
    tasks.filter_map(|task| named(task.ok()?.path())).collect()
}

/// The folders of those that have the reclaimer's name. A thread names itself once it runs, so that of one that was just started may
/// not be among them yet.
///
/// # Panics
/// There is no such process.
#[track_caller]
pub fn reclaimers_of(process: &str) -> Vec<PathBuf> {
    let threads = threads_of(process).into_iter();
    threads.filter(|(_, name)| name == RECLAIMER).map(|(folder, _)| folder).collect()
}
