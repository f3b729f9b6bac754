//! Limits in cgroup v1 (the kernel's `Documentation/admin-guide/cgroup-v1/memory.rst`).

use std::path::Path;

use super::write;

/// Sets the limit, and keeps the group off swap so that the outcome does not depend on how much of it there is.
pub(super) fn set_limit(directory: &Path, limit_bytes: u64) -> Result<(), String> {
    write(directory, "memory.limit_in_bytes", &limit_bytes.to_string())?;
    // Missing where the kernel is built without swap; then there is nothing to keep off.
    let _ = write(directory, "memory.swappiness", "0");
    Ok(())
}
