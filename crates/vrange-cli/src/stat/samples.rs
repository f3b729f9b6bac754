//! Made-up figures for tests.

use std::time::Duration;

use super::figures::{AgeFigures, NowFigures, PressureFigures};
use super::{HeapFigures, LevelFigures, ProcessFigures};

/// A heap in which every amount is the same.
pub(crate) fn heap(name: &str, bytes: u64) -> HeapFigures {
    let now = NowFigures { ranges: 1, bytes };
    let ages = [Some(1), Some(600), Some(3600), None];
    HeapFigures {
        name: name.to_owned(),
        kind: "heap",
        content: "cache",
        limit_bytes: None,
        empty: now,
        pinned: now,
        volatile: now,
        offered: now,
        in_transit: now,
        offered_bytes_total: bytes,
        rescued_bytes_total: bytes,
        lost_bytes_total: bytes,
        released_bytes_total: bytes,
        ages: ages.map(|below_seconds| AgeFigures { below_seconds, bytes }).to_vec(),
    }
}

/// A level with plenty of room.
pub(crate) fn level(height: Option<u64>, bytes: u64) -> LevelFigures {
    LevelFigures {
        kind: if height.is_some() { "cgroup" } else { "machine" },
        height,
        limit_bytes: bytes,
        free_bytes: bytes,
        headroom_bytes: bytes,
        reserve_low_bytes: bytes / 6,
        reserve_high_bytes: bytes / 5,
    }
}

/// A process with three levels and one heap, a quarter of it.
pub(crate) fn process(pid: u32, name: &str, bytes: u64) -> ProcessFigures {
    ProcessFigures {
        pid,
        name: name.to_owned(),
        user: 0,
        age_seconds: Some(0.25),
        sequence: 1,
        parked: false,
        turns: 17,
        resident_bytes: bytes,
        reclaimable_bytes: bytes / 2,
        can_offer: true,
        pressure: PressureFigures { sources: vec!["psi"], wakes: 3, last: Some("reclaiming") },
        levels: vec![level(None, bytes), level(Some(0), bytes), level(Some(2), bytes)],
        heaps: vec![heap("photos", bytes / 4)],
        taken: Duration::from_secs(100),
    }
}
