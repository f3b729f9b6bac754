//! The reader's side. What is read may have been written by any program: no number and no text in it is trusted.

use std::fmt;
use std::time::{Duration, SystemTime};

use zerocopy::FromBytes as _;

use super::layout::{
    self, AGES, FILE_BYTES, Figures, Header, HeapRecord, LevelRecord, MAGIC, NowRecord, VERSION,
};
use crate::stats::{Now, Pages, Stats};

/// What a process has published, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The process that wrote it, by the number that it knows itself: in a namespace of process ids, its own there. A file that was
    /// inherited or passed on has another process's number.
    pub process: u32,
    /// Counts up with each snapshot that the process has published.
    pub sequence: u64,
    /// When it was taken.
    pub taken: SystemTime,
    /// The same by a clock that goes on evenly, for rates between two snapshots of a process.
    pub taken_monotonic: Duration,
    /// Nothing is volatile and the reclaimer sleeps. What is pinned or empty may have changed since.
    pub is_parked: bool,
    /// The system takes offers. If not, the coldest ranges are released instead when memory gets short.
    pub can_offer: bool,
    /// What can wake the reclaimer.
    pub sources: Sources,
    /// Turns of the reclaimer.
    pub turns: u64,
    /// How many waits of the reclaimer a pressure source has ended.
    pub pressure_wakes: u64,
    /// How bad it was the last time.
    pub last_pressure: Option<Severity>,
    /// Where memory may run short: the machine first, then cgroups with a limit, the process's own first.
    pub levels: Vec<LevelView>,
    /// The heaps. Those that the program drives itself ([`build_manual`](crate::HeapBuilder::build_manual)) are not among them.
    pub heaps: Vec<HeapView>,
}

/// A heap, as its process has published it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapView {
    /// The first 32 bytes of its name, without control characters. Empty for [`HeapKind::Marks`] and [`HeapKind::Rest`].
    pub name: String,
    /// What it is.
    pub kind: HeapKind,
    /// It holds an allocator's free memory, and no data.
    pub is_free_memory: bool,
    /// The most that it may hold.
    pub limit_bytes: Option<u64>,
    /// Its counts, as [`Heap::stats`](crate::Heap::stats) returns them. Of marks: no ranges, and as `empty` those pages of which nothing is
    /// left.
    pub stats: Stats,
    /// Bytes that are volatile or offered, in whole ranges, by the time since their last unpin, youngest first.
    pub ages: Vec<Age>,
}

/// See [`HeapView::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeapKind {
    /// A heap.
    Heap,
    /// All marks on memory of the program's own, see [`raw`](crate::raw).
    Marks,
    /// What so many heaps add up to, for which there was no more room.
    Rest(u64),
}

/// How much was left alone for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Age {
    /// Less than this long; `None` for the last.
    pub below: Option<Duration>,
    /// Bytes.
    pub bytes: u64,
}

/// A place where memory may run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelView {
    /// `None`: the machine. Cgroups are counted from the process's own (0) to the root, without those that have no memory controller.
    pub cgroup_height: Option<u64>,
    /// The memory there is, or the cgroup's limit.
    pub limit_bytes: u64,
    /// What could be allocated with no reclaim at all.
    pub free_bytes: u64,
    /// What could be allocated without anybody losing more than page cache and offered pages.
    pub headroom_bytes: u64,
    /// The reserve: ranges are offered when the headroom falls below this …
    pub low_bytes: u64,
    /// … until it is above this.
    pub high_bytes: u64,
}

/// How bad a pressure source said that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Severity {
    /// Memory was being reclaimed, or somebody waited for memory.
    Reclaiming,
    /// Next to an OOM kill.
    Critical,
}

/// One kind of pressure source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Pressure stall information (PSI), of the machine or the group.
    Stall,
    /// Events of cgroup v1 (`memory.pressure_level`).
    PressureLevel,
    /// Events of cgroup v2 (`memory.events`).
    Events,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stall, Self::PressureLevel, Self::Events];

    const fn bit(self) -> u64 {
        match self {
            Self::Stall => 1,
            Self::PressureLevel => 2,
            Self::Events => 4,
        }
    }
}

/// A set of pressure sources. With none, only time wakes the reclaimer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(u64);

impl Sources {
    /// Adds one.
    pub(crate) fn add(&mut self, source: Source) {
        self.0 |= source.bit();
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Is it one of them?
    pub const fn has(self, source: Source) -> bool {
        self.0 & source.bit() != 0
    }
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// It is something else, or nonsense.
    Malformed,
    /// Another version of the library wrote it.
    OtherVersion(u64),
    /// Nothing has been written yet, or both copies were being written while they were read: read again.
    NotYet,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("no figures of a heap are in it"),
            Self::OtherVersion(version) => {
                write!(f, "the figures are of version {version}, and this reads version {VERSION}")
            }
            Self::NotYet => f.write_str("nothing has been published yet"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Snapshot {
    /// Makes sense of a file's contents: of the newer of two copies that is whole.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn parse(file: &[u8]) -> Result<Self, Unreadable> {
        if file.len() != FILE_BYTES {
            return Err(Unreadable::Malformed);
        }
        let (header, _) = Header::read_from_prefix(file).map_err(|_| Unreadable::Malformed)?;
        if header.magic != MAGIC {
            return Err(Unreadable::Malformed);
        }
        if header.version != VERSION {
            return Err(Unreadable::OtherVersion(header.version));
        }
        let process = u32::try_from(header.process).map_err(|_| Unreadable::Malformed)?;
        let newest = [0, 1].into_iter().filter_map(|copy| whole_copy(file, copy));
        let newest = newest.max_by_key(|figures| figures.sequence).ok_or(Unreadable::NotYet)?;
        Ok(Self::of(process, &newest))
    }

    fn of(process: u32, figures: &Figures) -> Self {
        let used = |count: u64, most: usize| usize::try_from(count).unwrap_or(most).min(most);
        let levels = &figures.levels[..used(figures.level_count, figures.levels.len())];
        let heaps = &figures.heaps[..used(figures.heap_count, figures.heaps.len())];
        let since_epoch = Duration::from_nanos(figures.realtime_ns);
        Self {
            process,
            sequence: figures.sequence,
            taken: SystemTime::UNIX_EPOCH + since_epoch,
            taken_monotonic: Duration::from_nanos(figures.monotonic_ns),
            is_parked: figures.is_parked != 0,
            can_offer: figures.can_offer != 0,
            sources: Sources(figures.sources),
            turns: figures.turns,
            pressure_wakes: figures.pressure_wakes,
            last_pressure: match figures.last_severity {
                0 => None,
                1 => Some(Severity::Reclaiming),
                _ => Some(Severity::Critical),
            },
            levels: levels.iter().map(LevelView::of).collect(),
            heaps: heaps.iter().map(HeapView::of).collect(),
        }
    }
}

/// One of the two copies, unless it was never written or is being written.
fn whole_copy(file: &[u8], copy: u64) -> Option<Figures> {
    let place = layout::place_of(copy);
    let figures = Figures::read_from_bytes(file.get(place..place + size_of::<Figures>())?).ok()?;
    let is_whole = figures.sequence != 0
        && figures.checksum == figures.sum()
        && layout::place_of(figures.sequence) == place;
    is_whole.then_some(figures)
}

impl LevelView {
    fn of(record: &LevelRecord) -> Self {
        Self {
            cgroup_height: record.height.checked_sub(1),
            limit_bytes: record.limit_bytes,
            free_bytes: record.free_bytes,
            headroom_bytes: record.headroom_bytes,
            low_bytes: record.low_bytes,
            high_bytes: record.high_bytes,
        }
    }
}

impl HeapView {
    /// A name for people and labels: the heap's own, `marks`, or how many others it is.
    pub fn label(&self) -> String {
        match self.kind {
            HeapKind::Heap => self.name.clone(),
            HeapKind::Marks => "marks".to_owned(),
            HeapKind::Rest(count) => format!("{count} others"),
        }
    }

    fn of(record: &HeapRecord) -> Self {
        let kind = match record.kind {
            layout::MARKS => HeapKind::Marks,
            layout::REST => HeapKind::Rest(record.merged),
            _ => HeapKind::Heap,
        };
        Self {
            name: name_of(&record.name),
            kind,
            is_free_memory: record.is_free_memory != 0,
            limit_bytes: Some(record.limit_bytes).filter(|limit| *limit != layout::NONE),
            stats: Stats {
                empty: now_of(record.empty),
                pinned: now_of(record.pinned),
                marked: now_of(record.marked),
                offered_now: now_of(record.offered_now),
                in_transit: now_of(record.in_transit),
                offered: Pages::of_bytes(record.offered_bytes),
                rescued: Pages::of_bytes(record.rescued_bytes),
                lost: Pages::of_bytes(record.lost_bytes),
                released: Pages::of_bytes(record.released_bytes),
            },
            ages: AGES_BELOW
                .iter()
                .zip(record.age_bytes)
                .map(|(&below, bytes)| Age { below, bytes })
                .collect(),
        }
    }
}

/// Where the classes of age end.
pub(crate) const AGES_BELOW: [Option<Duration>; AGES] = [
    Some(Duration::from_secs(1)),
    Some(Duration::from_secs(10)),
    Some(Duration::from_secs(60)),
    Some(Duration::from_secs(600)),
    Some(Duration::from_secs(3600)),
    None,
];

fn now_of(record: NowRecord) -> Now {
    Now { ranges: record.ranges, pages: Pages::of_bytes(record.bytes) }
}

/// Text that may be shown on a terminal.
fn name_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests;
