//! What has changed between two looks at the figures, as events of crate `tracing`.

use std::collections::BTreeMap;

use tracing::{debug, info, warn};

use super::{LevelView, Severity, Snapshot};

/// Of all events.
const TARGET: &str = "vrange";

/// Compares figures with those before. To be fed by the program, every few seconds: neither the reclaimer nor a pin calls a subscriber,
/// which may allocate and lock.
///
/// Events have the target `vrange`. Of a heap, with its name and the bytes since the last look: *offered* and *released* (debug), *lost*
/// (info). Of the process: *memory pressure*, with what a source said (info); *memory is short*, with the place where headroom has
/// fallen below the reserve (warn), and *memory is no longer short* (info).
#[derive(Debug, Default)]
pub struct Changes {
    totals: BTreeMap<String, Totals>,
    pressure_wakes: u64,
    is_short: bool,
    /// There is something to compare with.
    has_seen: bool,
}

/// Bytes of a heap.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    offered: u64,
    lost: u64,
    released: u64,
}

impl Changes {
    /// With nothing to compare with: the first figures make no events but of memory that is short.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of what has changed.
    pub fn trace(&mut self, snapshot: &Snapshot) {
        self.trace_heaps(snapshot);
        self.trace_pressure(snapshot);
        self.has_seen = true;
    }

    fn trace_heaps(&mut self, snapshot: &Snapshot) {
        let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
        for heap in &snapshot.heaps {
            let sum = totals.entry(heap.label()).or_default();
            sum.offered = sum.offered.saturating_add(heap.stats.offered.bytes());
            sum.lost = sum.lost.saturating_add(heap.stats.lost.bytes());
            sum.released = sum.released.saturating_add(heap.stats.released.bytes());
        }
        for (heap, now) in totals.iter().filter(|_| self.has_seen) {
            // A heap that is new has nothing before; the totals of one that is gone go with it.
            let before = self.totals.get(heap).copied().unwrap_or_default();
            let [offered, lost, released] = [
                now.offered.saturating_sub(before.offered),
                now.lost.saturating_sub(before.lost),
                now.released.saturating_sub(before.released),
            ];
            if offered > 0 {
                debug!(target: TARGET, heap = heap.as_str(), bytes = offered, "offered");
            }
            if lost > 0 {
                info!(target: TARGET, heap = heap.as_str(), bytes = lost, "lost");
            }
            if released > 0 {
                debug!(target: TARGET, heap = heap.as_str(), bytes = released, "released");
            }
        }
        self.totals = totals;
    }

    fn trace_pressure(&mut self, snapshot: &Snapshot) {
        let wakes = snapshot.pressure_wakes.saturating_sub(self.pressure_wakes);
        if self.has_seen && wakes > 0 {
            let severity = match snapshot.last_pressure {
                Some(Severity::Critical) => "critical",
                _ => "reclaiming",
            };
            info!(target: TARGET, times = wakes, severity, "memory pressure");
        }
        self.pressure_wakes = snapshot.pressure_wakes;
        let short = snapshot.levels.iter().find(|level| level.headroom_bytes < level.low_bytes);
        match short {
            Some(level) if !self.is_short => {
                let (headroom, reserve) = (level.headroom_bytes, level.low_bytes);
                let level = name_of(level);
                warn!(target: TARGET, level, headroom_bytes = headroom, reserve_bytes = reserve, "memory is short");
            }
            None if self.is_short => info!(target: TARGET, "memory is no longer short"),
            _ => {}
        }
        self.is_short = short.is_some();
    }
}

fn name_of(level: &LevelView) -> String {
    level.cgroup_height.map_or("machine".to_owned(), |height| format!("cgroup{height}"))
}
