//! Limits in cgroup v2 (the kernel's `Documentation/admin-guide/cgroup-v2.rst`).

use std::path::Path;

use super::write;

/// Sees to it that groups below `directory` have files of the memory controller.
///
/// # Errors
/// It is not switched on here, and cannot be: not ours to change, or the group holds processes (v2 lets a group hold
/// processes or hand controllers down, not both, except at the root).
pub(super) fn hand_down_memory_controller(directory: &Path) -> Result<(), String> {
    let path = directory.join("cgroup.subtree_control");
    let handed_down =
        std::fs::read_to_string(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    if handed_down.split_whitespace().any(|controller| controller == "memory") {
        return Ok(());
    }
    write(directory, "cgroup.subtree_control", "+memory")
}

/// Sets the limit, and keeps the group off swap so that the outcome does not depend on how much of it there is.
pub(super) fn set_limit(directory: &Path, limit_bytes: u64) -> Result<(), String> {
    write(directory, "memory.max", &limit_bytes.to_string())?;
    // Missing where the kernel is built without swap; then there is nothing to keep off.
    let _ = write(directory, "memory.swap.max", "0");
    Ok(())
}
