//! Is there enough memory for the demo? One that presses the whole machine would hurt others, and prove nothing.

use vrange_os::cgroup::{Controller, Hierarchies, Reading};
use vrange_os::kernel_file::{BUFFER_BYTES, Root};
use vrange_os::meminfo::MemInfoFile;

use crate::failure::Failure;
use crate::size::human;

/// Fails if the machine, or a cgroup around this process, has less than `needed_bytes` to give.
pub(crate) fn check(needed_bytes: u64) -> Result<(), Failure> {
    let Some(room_bytes) = room_bytes(&Root::real()) else { return Ok(()) };
    if room_bytes >= needed_bytes {
        return Ok(());
    }
    Err(Failure::run(format!(
        "only {} of memory are available here, not {}",
        human(room_bytes),
        human(needed_bytes)
    ))
    .hint(format!("end something large, or try --memory {}M", (room_bytes >> 20) * 3 / 4)))
}

/// What can be had; none where no kernel file tells.
fn room_bytes(root: &Root) -> Option<u64> {
    let mut buffer = [0; BUFFER_BYTES];
    let machine = MemInfoFile::open(root).ok().and_then(|file| file.read(&mut buffer).ok());
    let levels = Hierarchies::read(root)
        .and_then(|hierarchies| hierarchies.group_of(Controller::Memory))
        .map(|group| group.memory_levels(false).0)
        .unwrap_or_default();
    let groups =
        levels.iter().filter_map(|level| level.read(&mut buffer).ok().flatten()).filter_map(of_group);
    machine.map(|machine| machine.available_bytes).into_iter().chain(groups).min()
}

fn of_group(reading: Reading) -> Option<u64> {
    let limit_bytes = reading.limits.of_memory_bytes()?;
    let cache_bytes = reading.file.page_cache_bytes.unwrap_or(0);
    Some(limit_bytes.saturating_sub(reading.usage_bytes).saturating_add(cache_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_machine_has_an_exbibyte() {
        let failure = check(1 << 60).expect_err("an exbibyte was found");
        assert!(failure.report().contains("--memory"), "{}", failure.report());
    }

    #[test]
    fn kernel_files_that_are_missing_forbid_nothing() {
        assert_eq!(room_bytes(&Root::at("/nonexistent")), None);
    }
}
