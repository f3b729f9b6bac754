//! The figures as they are printed, and as JSON has them.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use vrange::observe::{Age, HeapKind, HeapView, LevelView, Severity, Source};
use vrange::{Now, Stats};

use crate::processes::{Closed, Process};

/// A process and its heaps. Bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessFigures {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// The user that it runs as.
    pub(crate) user: u32,
    /// Seconds since the process has published this. `None`: its clock is ahead of ours.
    pub(crate) age_seconds: Option<f64>,
    /// Counts up with each time that it has.
    pub(crate) sequence: u64,
    /// Nothing is volatile, and its reclaimer sleeps.
    pub(crate) parked: bool,
    /// Turns of the reclaimer so far.
    pub(crate) turns: u64,
    pub(crate) resident_bytes: u64,
    /// What of it could go: volatile or offered, as far as it is resident.
    pub(crate) reclaimable_bytes: u64,
    /// The kernel takes offers from it.
    pub(crate) can_offer: bool,
    pub(crate) pressure: PressureFigures,
    pub(crate) levels: Vec<LevelFigures>,
    pub(crate) heaps: Vec<HeapFigures>,
    /// By the process's own clock, for rates.
    #[serde(skip)]
    pub(crate) taken: Duration,
}

/// What has told the reclaimer of memory that gets short.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PressureFigures {
    /// What could: `psi`, `pressure_level`, `events`.
    pub(crate) sources: Vec<&'static str>,
    /// How often one has.
    pub(crate) wakes: u64,
    /// What it said the last time: `reclaiming` or `critical`.
    pub(crate) last: Option<&'static str>,
}

/// A place where memory may run short. Bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LevelFigures {
    /// `machine` or `cgroup`.
    pub(crate) kind: &'static str,
    /// Of a cgroup: 0 is the process's own, 1 its parent.
    pub(crate) height: Option<u64>,
    pub(crate) limit_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) headroom_bytes: u64,
    /// The reserve: offering begins below …
    pub(crate) reserve_low_bytes: u64,
    /// … and ends above.
    pub(crate) reserve_high_bytes: u64,
}

/// A heap. Bytes of whole ranges are their lengths, whether or not all is in memory.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeapFigures {
    pub(crate) name: String,
    /// `heap`, `marks`, or `rest`.
    pub(crate) kind: &'static str,
    /// `cache` or `free`.
    pub(crate) content: &'static str,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) empty: NowFigures,
    pub(crate) pinned: NowFigures,
    /// Volatile, and not offered to the kernel yet.
    pub(crate) volatile: NowFigures,
    /// Offered to the kernel, which may have taken some.
    pub(crate) offered: NowFigures,
    pub(crate) in_transit: NowFigures,
    /// Running totals.
    pub(crate) offered_bytes_total: u64,
    pub(crate) rescued_bytes_total: u64,
    pub(crate) lost_bytes_total: u64,
    pub(crate) released_bytes_total: u64,
    /// Volatile and offered bytes by the time since the last unpin.
    pub(crate) ages: Vec<AgeFigures>,
}

/// Ranges in one phase.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct NowFigures {
    pub(crate) ranges: u64,
    pub(crate) bytes: u64,
}

/// One class of age.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct AgeFigures {
    /// `None`: any longer time.
    pub(crate) below_seconds: Option<u64>,
    pub(crate) bytes: u64,
}

/// A process that could not be looked into.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClosedFigures {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) user: u32,
    /// A word for programs.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

impl ProcessFigures {
    pub(crate) fn of(process: &Process) -> Self {
        let Process { identity, resident_bytes, snapshot } = process;
        let heaps: Vec<HeapFigures> = snapshot.heaps.iter().map(HeapFigures::of).collect();
        let reclaimable = sum(&heaps, |heap| heap.volatile.bytes.saturating_add(heap.offered.bytes));
        Self {
            pid: identity.pid,
            name: identity.name.clone(),
            user: identity.user,
            age_seconds: SystemTime::now()
                .duration_since(snapshot.taken)
                .ok()
                .map(|age| (age.as_secs_f64() * 1e3).round() / 1e3),
            sequence: snapshot.sequence,
            parked: snapshot.is_parked,
            turns: snapshot.turns,
            resident_bytes: *resident_bytes,
            reclaimable_bytes: reclaimable.min(*resident_bytes),
            can_offer: snapshot.can_offer,
            pressure: PressureFigures {
                sources: Source::ALL
                    .into_iter()
                    .filter(|source| snapshot.sources.has(*source))
                    .map(source_name)
                    .collect(),
                wakes: snapshot.pressure_wakes,
                last: snapshot.last_pressure.map(|severity| match severity {
                    Severity::Critical => "critical",
                    _ => "reclaiming",
                }),
            },
            levels: snapshot.levels.iter().map(LevelFigures::of).collect(),
            heaps,
            taken: snapshot.taken_monotonic,
        }
    }

    /// Adds up one figure of all heaps.
    pub(crate) fn sum(&self, figure: impl Fn(&HeapFigures) -> u64) -> u64 {
        sum(&self.heaps, figure)
    }

    /// The level whose headroom is nearest to its reserve.
    pub(crate) fn tightest_level(&self) -> Option<&LevelFigures> {
        self.levels.iter().min_by_key(|level| level.headroom_bytes.saturating_sub(level.reserve_low_bytes))
    }
}

/// Whatever a hostile program writes.
fn sum(heaps: &[HeapFigures], figure: impl Fn(&HeapFigures) -> u64) -> u64 {
    heaps.iter().map(figure).fold(0, u64::saturating_add)
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Stall => "psi",
        Source::PressureLevel => "pressure_level",
        Source::Events => "events",
        _ => "other",
    }
}

impl LevelFigures {
    fn of(level: &LevelView) -> Self {
        Self {
            kind: if level.cgroup_height.is_some() { "cgroup" } else { "machine" },
            height: level.cgroup_height,
            limit_bytes: level.limit_bytes,
            free_bytes: level.free_bytes,
            headroom_bytes: level.headroom_bytes,
            reserve_low_bytes: level.low_bytes,
            reserve_high_bytes: level.high_bytes,
        }
    }
}

impl HeapFigures {
    fn of(heap: &HeapView) -> Self {
        let kind = match heap.kind {
            HeapKind::Marks => "marks",
            HeapKind::Rest(_) => "rest",
            _ => "heap",
        };
        let Stats {
            empty, pinned, marked, offered_now, in_transit, offered, rescued, lost, released, ..
        } = heap.stats;
        Self {
            name: heap.label(),
            kind,
            content: if heap.is_free_memory { "free" } else { "cache" },
            limit_bytes: heap.limit_bytes,
            empty: NowFigures::of(empty),
            pinned: NowFigures::of(pinned),
            volatile: NowFigures::of(marked),
            offered: NowFigures::of(offered_now),
            in_transit: NowFigures::of(in_transit),
            offered_bytes_total: offered.bytes(),
            rescued_bytes_total: rescued.bytes(),
            lost_bytes_total: lost.bytes(),
            released_bytes_total: released.bytes(),
            ages: heap.ages.iter().map(AgeFigures::of).collect(),
        }
    }
}

impl NowFigures {
    fn of(now: Now) -> Self {
        Self { ranges: now.ranges, bytes: now.pages.bytes() }
    }
}

impl AgeFigures {
    fn of(age: &Age) -> Self {
        Self { below_seconds: age.below.map(|below| below.as_secs()), bytes: age.bytes }
    }
}

impl ClosedFigures {
    pub(crate) fn of(closed: &Closed) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self {
            pid: closed.identity.pid,
            name: closed.identity.name.clone(),
            user: closed.identity.user,
            reason: closed.reason.code(),
            message: closed.reason.sentence(closed.identity.user == own),
        }
    }
}
