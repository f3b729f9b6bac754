//! What the reclaimer tells others of: it fills in the figures that are [published](crate::observe).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use vrange_os::System as _;
use vrange_os::linux::Linux;

use super::cycle::Cycle;
use super::pool::Pool;
use crate::inner::Inner;
use crate::observe::layout::{AGES, Figures, HEAPS_MAX, HeapRecord, LEVELS_MAX, LevelRecord, REST};
use crate::observe::{AGES_BELOW, Publisher};
use crate::pressure::{LevelKind, Severity, Sources, Woken};

/// Figures are at most this old when somebody reads them, beside the reclaimer's own wait.
const PUBLISHED_EVERY: Duration = Duration::from_millis(100);
/// Of a reclaimer that is always at work, publishing takes one part in this many: a heap may have very many ranges.
const SHARE: u32 = 200;

/// What is published, and when it is due again.
#[derive(Debug)]
pub(crate) struct Report {
    publisher: Publication,
    due: Instant,
    turns: u64,
    pressure_wakes: u64,
    last_severity: u64,
}

#[derive(Debug)]
enum Publication {
    /// Not tried: nothing was turned yet.
    NotYet,
    Open(Publisher),
    /// The system refuses. Nobody will see anything, and nothing else is different.
    Refused,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            publisher: Publication::NotYet,
            due: Instant::now(),
            turns: 0,
            pressure_wakes: 0,
            last_severity: 0,
        }
    }

    /// The reclaimer's wait has ended.
    pub(crate) fn woken(&mut self, woken: Woken) {
        if let Some(severity) = woken.by_pressure {
            self.pressure_wakes += 1;
            self.last_severity = match severity {
                Severity::Reclaiming => 1,
                Severity::Critical => 2,
            };
        }
    }

    /// A turn over `pools` has been done. Publishes, if the last time is a while ago. Allocates the first time, and not after.
    pub(crate) fn turned(&mut self, pools: &[Arc<dyn Pool>], cycle: &Cycle, sources: Option<&Sources>) {
        self.turns += 1;
        if Instant::now() >= self.due {
            self.publish(pools, cycle, sources, false);
        }
    }

    /// The reclaimer is about to sleep for as long as nothing is volatile: these are the last figures until then.
    pub(crate) fn parked(&mut self, pools: &[Arc<dyn Pool>], cycle: &Cycle, sources: Option<&Sources>) {
        self.publish(pools, cycle, sources, true);
    }

    fn publish(
        &mut self,
        pools: &[Arc<dyn Pool>],
        cycle: &Cycle,
        sources: Option<&Sources>,
        is_parked: bool,
    ) {
        if matches!(self.publisher, Publication::NotYet) {
            self.publisher = Publisher::open().map_or(Publication::Refused, Publication::Open);
        }
        let Publication::Open(publisher) = &mut self.publisher else { return };
        // To bring a page back from swap takes memory, of which there is none.
        if cycle.is_short() && publisher.may_be_swapped() && has_swap() {
            return;
        }
        let begun = Instant::now();
        let figures = publisher.figures();
        figures.monotonic_ns = nanoseconds(ClockId::Monotonic);
        figures.realtime_ns = nanoseconds(ClockId::Realtime);
        figures.is_parked = is_parked.into();
        figures.turns = self.turns;
        figures.pressure_wakes = self.pressure_wakes;
        figures.last_severity = self.last_severity;
        figures.sources = sources.map_or(0, |sources| sources.kinds().bits());
        fill_levels(figures, cycle);
        fill_heaps(figures, pools, cycle);
        publisher.publish();
        self.due = Instant::now() + PUBLISHED_EVERY.max(begun.elapsed() * SHARE);
    }
}

fn has_swap() -> bool {
    Linux::get().is_ok_and(Linux::has_swap)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

fn fill_levels(figures: &mut Figures, cycle: &Cycle) {
    figures.can_offer = cycle.can_offer().into();
    figures.level_count = 0;
    for (place, (level, marks)) in figures.levels.iter_mut().zip(cycle.levels().take(LEVELS_MAX)) {
        *place = LevelRecord {
            height: match level.kind {
                LevelKind::Machine => 0,
                LevelKind::Cgroup { height } => height as u64 + 1,
            },
            limit_bytes: level.limit_bytes,
            free_bytes: level.free_bytes,
            headroom_bytes: level.headroom_bytes,
            low_bytes: marks.low_bytes,
            high_bytes: marks.high_bytes,
        };
        figures.level_count += 1;
    }
}

/// Those for which there is no room are added up in the last place.
fn fill_heaps(figures: &mut Figures, pools: &[Arc<dyn Pool>], cycle: &Cycle) {
    let bounds = AGES_BELOW.map(|below| below.map_or(u64::MAX, |below| cycle.ticks_of(below)));
    let mut count = 0;
    for pool in pools {
        let mut record = HeapRecord::default();
        if !pool.describe(&mut record) {
            continue;
        }
        record.age_bytes = ages(&**pool, &bounds);
        match figures.heaps.get_mut(count) {
            Some(place) => {
                *place = record;
                count += 1;
            }
            None => merge_into(&mut figures.heaps[HEAPS_MAX - 1], &record),
        }
    }
    figures.heap_count = count as u64;
}

fn merge_into(last: &mut HeapRecord, record: &HeapRecord) {
    if last.kind != REST {
        let first = std::mem::take(last);
        last.merge(&first);
    }
    last.merge(record);
}

/// Bytes of unused ranges by age. `bounds`: where each class ends, in ticks.
fn ages(pool: &dyn Pool, bounds: &[u64; AGES]) -> [u64; AGES] {
    let now = Inner::now();
    let mut bytes = [0; AGES];
    pool.each_unused(&mut |unused| {
        let age = unused.seen.generation().age(now);
        let class = bounds.iter().position(|bound| age < *bound).unwrap_or(AGES - 1);
        bytes[class] += unused.bytes();
    });
    bytes
}
