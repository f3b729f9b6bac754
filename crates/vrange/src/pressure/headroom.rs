//! From what the kernel's files say to a [`Level`].

use vrange_os::cgroup::{FileMemory, Reading};
use vrange_os::meminfo::MemInfo;

use super::{Level, LevelKind};

/// The machine. `MemAvailable` is the kernel's own estimate (`si_mem_available` in `mm/show_mem.c`): free memory above
/// the watermarks, page cache but for a part that must stay, reclaimable slab; offered pages are in it already.
pub(super) fn of_machine(info: &MemInfo) -> Level {
    let lists_bytes = info.file_lists_bytes.unwrap_or(0);
    Level {
        kind: LevelKind::Machine,
        limit_bytes: info.total_bytes,
        free_bytes: info.free_bytes,
        headroom_bytes: info.available_bytes,
        unreclaimable_bytes: info.total_bytes.saturating_sub(info.available_bytes),
        lazyfree_bytes: lists_bytes.saturating_sub(info.page_cache_bytes.unwrap_or(lists_bytes)),
    }
}

/// The cgroup `height` levels above our own, or `None` if it has no limit.
///
/// Reclaimable slab is not counted, though the kernel counts it for the machine: shrinkers give it back slowly and not
/// page by page, and to offer too much costs little.
pub(super) fn of_cgroup(height: usize, reading: &Reading) -> Option<Level> {
    let memory_limit_bytes = reading.limits.of_memory_bytes();
    let with_swap =
        reading.limits.memory_and_swap_bytes.map(|limit| (limit, reading.memory_and_swap_usage_bytes));
    let limit_bytes = memory_limit_bytes.into_iter().chain(with_swap.map(|(limit, _)| limit)).min()?;

    let reclaimable_bytes = easily_reclaimed_bytes(&reading.file, limit_bytes);
    let with_memory = memory_limit_bytes.map(|limit| (limit, reading.usage_bytes));
    // Each limit is an allowance of its own, and an allocation needs both. Usage may be above a limit (one that was
    // lowered, or `memory.high`), and then reclaim has to make up for that first: subtract last.
    let tightest = |extra_bytes: u64| {
        let room = |(limit, usage): (u64, u64)| limit.saturating_add(extra_bytes).saturating_sub(usage);
        with_memory.into_iter().chain(with_swap).map(room).min().unwrap_or(0)
    };
    Some(Level {
        kind: LevelKind::Cgroup { height },
        limit_bytes,
        free_bytes: tightest(0),
        headroom_bytes: tightest(reclaimable_bytes),
        unreclaimable_bytes: reading.usage_bytes.saturating_sub(reclaimable_bytes),
        lazyfree_bytes: lazyfree_bytes(&reading.file),
    })
}

/// Clean page cache and offered pages, less what the kernel finds hard to get: for the machine, `si_mem_available`
/// leaves out half of the page cache or the low watermark, whichever is less, since that much of it is in use (programs
/// and libraries that run) and would be read back at once. A cgroup has no watermark, so one is computed from the limit.
fn easily_reclaimed_bytes(file: &FileMemory, limit_bytes: u64) -> u64 {
    let clean_bytes = file.lists_bytes.saturating_sub(file.dirty_bytes).saturating_sub(file.writeback_bytes);
    clean_bytes - (clean_bytes / 2).min(low_watermark_bytes(limit_bytes))
}

/// The low watermark that the kernel would give a machine with this much memory: `min_free_kbytes` and a quarter, where
/// `min_free_kbytes` is 4 √(KiB of memory), between 128 KiB and 256 MiB (`calculate_min_free_kbytes` in
/// `mm/page_alloc.c`). 2.5 MiB for 256 MiB, 10 MiB for 4 GiB.
fn low_watermark_bytes(limit_bytes: u64) -> u64 {
    let min_free_kib = (4 * (limit_bytes / 1024).isqrt()).clamp(128, 256 << 10);
    min_free_kib * 1024 * 5 / 4
}

fn lazyfree_bytes(file: &FileMemory) -> u64 {
    file.page_cache_bytes.map_or(0, |page_cache_bytes| file.lists_bytes.saturating_sub(page_cache_bytes))
}

#[cfg(test)]
mod tests {
    use vrange_os::cgroup::Limits;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn reading(max_mib: u64, usage_mib: u64, lists_mib: u64) -> Reading {
        Reading {
            limits: Limits { max_bytes: Some(max_mib * MIB), ..Limits::default() },
            usage_bytes: usage_mib * MIB,
            memory_and_swap_usage_bytes: 0,
            file: FileMemory { lists_bytes: lists_mib * MIB, ..FileMemory::default() },
        }
    }

    fn level(reading: &Reading) -> Level {
        of_cgroup(0, reading).expect("limited")
    }

    #[test]
    fn watermarks_are_the_kernels() {
        assert_eq!(low_watermark_bytes(256 * MIB), 2560 << 10);
        assert_eq!(low_watermark_bytes(4096 * MIB), 10 * MIB);
        assert_eq!(low_watermark_bytes(0), 160 << 10);
        assert_eq!(low_watermark_bytes(u64::MAX), 320 * MIB);
    }

    #[test]
    fn page_cache_at_the_limit_is_headroom() {
        let streaming = level(&reading(256, 256, 200));
        assert_eq!(streaming.free_bytes, 0);
        assert_eq!(streaming.headroom_bytes, 200 * MIB - (2560 << 10));
        assert_eq!(streaming.unreclaimable_bytes + streaming.headroom_bytes, 256 * MIB);
    }

    #[test]
    fn dirty_page_cache_is_not() {
        let mut writing = reading(256, 256, 200);
        writing.file.dirty_bytes = 150 * MIB;
        writing.file.writeback_bytes = 48 * MIB;
        // Half of what is left is below the watermark.
        assert_eq!(level(&writing).headroom_bytes, MIB);
        // The counters are not taken at one instant, so they may contradict each other.
        writing.file.writeback_bytes = 100 * MIB;
        assert_eq!(level(&writing).headroom_bytes, 0);
    }

    #[test]
    fn a_limit_below_usage_is_made_up_for_first() {
        let lowered = level(&reading(100, 150, 60));
        assert_eq!(
            (lowered.free_bytes, lowered.headroom_bytes),
            (0, 10 * MIB - low_watermark_bytes(100 * MIB))
        );
        assert_eq!(level(&reading(100, 150, 20)).headroom_bytes, 0);
    }

    #[test]
    fn the_lowest_of_max_and_high_counts() {
        let mut slowed = reading(256, 100, 0);
        slowed.limits.high_bytes = Some(120 * MIB);
        assert_eq!((level(&slowed).limit_bytes, level(&slowed).headroom_bytes), (120 * MIB, 20 * MIB));
        slowed.limits.max_bytes = None;
        assert_eq!(level(&slowed).headroom_bytes, 20 * MIB);
        slowed.limits.high_bytes = None;
        assert_eq!(of_cgroup(0, &slowed), None);
    }

    #[test]
    fn swap_that_is_used_up_makes_the_joint_limit_the_tighter_one() {
        let mut swapped = reading(256, 200, 0);
        swapped.limits.memory_and_swap_bytes = Some(300 * MIB);
        swapped.memory_and_swap_usage_bytes = 290 * MIB;
        assert_eq!((level(&swapped).free_bytes, level(&swapped).headroom_bytes), (10 * MIB, 10 * MIB));
        assert_eq!(level(&swapped).limit_bytes, 256 * MIB);
    }

    #[test]
    fn offered_pages_are_counted_once_and_named() {
        let mut offered = reading(256, 250, 100);
        offered.file.page_cache_bytes = Some(30 * MIB);
        assert_eq!(level(&offered).lazyfree_bytes, 70 * MIB);
        assert_eq!(level(&offered).headroom_bytes, 106 * MIB - (2560 << 10));
    }

    #[test]
    fn absurd_numbers_saturate() {
        let mut absurd = reading(1, 1, 1);
        absurd.usage_bytes = u64::MAX;
        absurd.file.lists_bytes = u64::MAX;
        absurd.limits.max_bytes = Some(u64::MAX);
        assert_eq!(level(&absurd).free_bytes, 0);
        let info = MemInfo {
            total_bytes: 1,
            free_bytes: 5,
            available_bytes: 9,
            file_lists_bytes: None,
            page_cache_bytes: Some(3),
            swap_total_bytes: 0,
            swap_free_bytes: 0,
        };
        assert_eq!((of_machine(&info).unreclaimable_bytes, of_machine(&info).lazyfree_bytes), (0, 0));
    }
}
