//! How much is to go: arithmetic over readings, no system call.
//!
//! The *reserve* is the headroom that is kept: what a level could hand out at once, free or taken from clean page cache and
//! offered pages. When a level's headroom falls under its low mark, ranges are offered until it is above the high mark.
//! Offering makes headroom out of volatile memory without losing anything; the kernel takes of it what it needs. Page
//! cache is headroom, so nothing is ever offered to make room for it.
//!
//! What the kernel takes, it takes in the thread that needs memory, which slows that thread down. So a part of a cgroup's
//! reserve is kept truly free, as kswapd does it for the machine and nobody for a cgroup: while memory that cannot be
//! reclaimed grows, the coldest offered ranges are released at the rate of its growth. That part is half of the ordinary
//! reserve. Measured on 6.18, the processor time of a process that faults in 300 MiB of a 512 MiB group beside 448 MiB volatile,
//! compared with its time alone: 1.45 to 1.7 with nothing kept free, 0.95 to 1.15 with a quarter, 0.9 to 1.0 with half
//! and with more. And what is kept free is lost beyond need, so there is to be no more of it than helps.

use std::time::Duration;

use super::offers::Offers;
use crate::pressure::{Level, LevelKind, MAX_LEVELS};

const MIB: u64 = 1 << 20;

/// The low mark of a cgroup: a sixth of the limit, within these.
const CGROUP_LOW_BYTES: std::ops::RangeInclusive<u64> = 2 * MIB..=40 * MIB;
/// The low mark of the machine: 1/64 of its memory, within these. kswapd keeps a part of that free by itself.
const MACHINE_LOW_BYTES: std::ops::RangeInclusive<u64> = 32 * MIB..=512 * MIB;

/// Memory that one processor can fault in, in bytes a second. The wait for the next reading and the reserve under a CPU
/// quota are sized by it. (4 KiB pages: about 2 GB/s measured; huge pages are faster, and come from a share of the
/// reserve.)
const FAULT_BYTES_PER_SECOND: u64 = 2_500_000_000;
/// How long the kernel lets a group run on its quota, and how long it can keep it waiting: cgroup's default period.
const QUOTA_PERIOD_MS: u64 = 100;

/// A wait that ends this much too late is usual: the marks allow for it.
const LATENESS_USUAL: Duration = Duration::from_millis(2);
/// More than this is no busy scheduler but a stopped machine, for which no reserve would be large enough.
const LATENESS_MAX: Duration = Duration::from_millis(40);
/// The share of the remembered lateness that is forgotten at each reading is one in this many.
const FADING: u32 = 256;

/// The shortest wait between two readings.
const WAIT_MIN: Duration = Duration::from_micros(500);
/// The longest, when memory is far from short.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// After growth was seen, readings stay close together this many times.
const WATCHFUL_READINGS: u32 = 40;
/// Growth that is noise: counters of the kernel lag by some pages a processor.
const NOISE_BYTES: u64 = MIB / 2;

/// Where offering begins and ends for one level, in bytes of headroom, and what is kept truly free while the level fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) low_bytes: u64,
    pub(crate) high_bytes: u64,
    pub(crate) free_bytes: u64,
}

/// What one round of readings asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Offer this much.
    pub(crate) offer_bytes: u64,
    /// Release this much, as far as [`Target::level`] stays short of free memory.
    pub(crate) release: Option<Target>,
    /// A level's headroom is under its low mark, or would be if all free memory that is offered were taken back.
    pub(crate) would_be_short: bool,
    /// This much could be had beyond the high mark, without taking anybody's offers.
    pub(crate) room_bytes: u64,
    /// A level's headroom is under half its low mark. If nothing is left to offer, offers have come undone.
    pub(crate) is_desperate: bool,
    /// Read again after this long.
    pub(crate) wait: Duration,
}

/// Memory to be released for the sake of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) level: LevelKind,
    /// Release at most this much …
    pub(crate) bytes: u64,
    /// … and no more once this much is free.
    pub(crate) free_bytes: u64,
}

/// The policy. Remembers what it saw last, to tell growth from fullness.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// The owner's wish.
    pub(crate) wanted_bytes: Option<u64>,
    /// Processor time that our cgroups grant, in processors.
    pub(crate) cpu_quota: Option<f64>,
    /// Does the system take offers? If not, all headroom is memory that the reclaimer has released in time: the kernel takes
    /// nothing in the thread that needs memory, so it has to begin earlier.
    pub(crate) can_offer: bool,
    processors: u64,
    /// How late the reclaimer wakes up on this machine, of late: the worst, fading.
    lateness: Duration,
    last_unreclaimable: [Option<u64>; MAX_LEVELS],
    watchful: u32,
}

/// The headroom at which offering ends in a cgroup with this limit, where nothing makes the reserve larger.
pub(crate) fn high_bytes_in_cgroup(limit_bytes: u64, wanted_bytes: Option<u64>) -> u64 {
    let level = Level {
        kind: LevelKind::Cgroup { height: 0 },
        limit_bytes,
        free_bytes: 0,
        headroom_bytes: 0,
        unreclaimable_bytes: 0,
        lazyfree_bytes: 0,
    };
    Reserve { wanted_bytes, ..Reserve::new(1) }.marks(&level).high_bytes
}

impl Reserve {
    pub(crate) fn new(processors: usize) -> Self {
        Self {
            wanted_bytes: None,
            cpu_quota: None,
            can_offer: true,
            processors: processors.max(1) as u64,
            lateness: Duration::ZERO,
            last_unreclaimable: [None; MAX_LEVELS],
            watchful: 0,
        }
    }

    /// The marks of a level.
    pub(crate) fn marks(&self, level: &Level) -> Marks {
        let (share, bounds) = match level.kind {
            LevelKind::Machine => (64, MACHINE_LOW_BYTES),
            LevelKind::Cgroup { .. } => (6, CGROUP_LOW_BYTES),
        };
        let by_size = (level.limit_bytes / share).clamp(*bounds.start(), *bounds.end());
        let usual_bytes = self.wanted_bytes.unwrap_or(by_size).min(level.limit_bytes / 2);
        let low_bytes = match self.wanted_bytes {
            Some(_) => usual_bytes,
            None => {
                let usual_bytes = if self.can_offer { by_size } else { 2 * by_size };
                (usual_bytes + self.throttled_bytes() + self.missed_bytes()).min(level.limit_bytes / 2)
            }
        };
        let high_bytes = low_bytes + low_bytes * 2 / 5;
        // Offering early costs nothing but time, so a late reclaimer offers more. What is released is lost.
        Marks { low_bytes, high_bytes, free_bytes: usual_bytes / 2 }
    }

    /// What others can fault in while this process waits for processor time.
    fn throttled_bytes(&self) -> u64 {
        let Some(quota) = self.cpu_quota else { return 0 };
        // A quota of 1000 or more per mille lets one thread, ours, always run.
        let waiting_per_mille = 1000u64.saturating_sub(per_mille(quota));
        FAULT_BYTES_PER_SECOND / 1000 * QUOTA_PERIOD_MS * waiting_per_mille / 1000
    }

    /// The reclaimer woke up this much later than it wanted to.
    pub(crate) fn note_lateness(&mut self, late: Duration) {
        self.lateness = late.max(self.lateness - self.lateness / FADING);
    }

    /// What others can fault in while the reclaimer wants to run and does not.
    fn missed_bytes(&self) -> u64 {
        let late = self.lateness.saturating_sub(LATENESS_USUAL).min(LATENESS_MAX);
        let microseconds = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        FAULT_BYTES_PER_SECOND / 1_000_000 * microseconds
    }

    /// Decides from one round of readings.
    pub(crate) fn decide(&mut self, levels: &[Level], offers: &Offers) -> Need {
        let mut need = Need { wait: WAIT_MAX, room_bytes: u64::MAX, ..Need::default() };
        let mut slack_bytes = u64::MAX;
        let mut growing = false;
        for level in levels {
            let marks = self.marks(level);
            let headroom = level.headroom_bytes.saturating_sub(offers.stale_bytes(level));
            if headroom < marks.low_bytes {
                need.offer_bytes = need.offer_bytes.max(marks.high_bytes - headroom);
            }
            need.would_be_short |= headroom.saturating_sub(offers.free_bytes()) < marks.low_bytes;
            // What was taken back from an offer may be listed as offered still, so this is no more than there is.
            let taken_from_nobody = headroom.saturating_sub(level.lazyfree_bytes);
            need.room_bytes = need.room_bytes.min(taken_from_nobody.saturating_sub(marks.high_bytes));
            need.is_desperate |= headroom < marks.low_bytes / 2;
            let growth = self.growth(level, offers.offered_last_bytes());
            growing |= growth > NOISE_BYTES;
            if let Some(target) = ahead_of_need(level, &marks, growth) {
                need.release = Some(match need.release {
                    Some(other) if other.bytes >= target.bytes => other,
                    _ => target,
                });
            }
            // Half the reserve may be gone before the next reading.
            slack_bytes = slack_bytes.min(headroom.saturating_sub(marks.low_bytes / 2));
        }
        self.watchful = if growing { WATCHFUL_READINGS } else { self.watchful.saturating_sub(1) };
        need.wait = self.wait(slack_bytes);
        need
    }

    /// By how much the memory that reclaim cannot get has grown since the last round. What was offered since made memory
    /// reclaimable without making anybody smaller.
    fn growth(&mut self, level: &Level, offered_bytes: u64) -> u64 {
        let last = self.last_unreclaimable[level.kind.index()].replace(level.unreclaimable_bytes);
        last.map_or(0, |last| (level.unreclaimable_bytes + offered_bytes).saturating_sub(last))
    }

    /// The nearer the mark, the shorter. Half of the time in which all processors together could use up the slack.
    fn wait(&self, slack_bytes: u64) -> Duration {
        let bytes_per_microsecond = FAULT_BYTES_PER_SECOND * self.processors / 1_000_000;
        let by_slack = Duration::from_micros(slack_bytes / bytes_per_microsecond / 2);
        let most = if self.watchful > 0 { by_slack / 4 } else { by_slack };
        most.clamp(WAIT_MIN, WAIT_MAX)
    }
}

/// What to release so that a thread that fills the level need not reclaim by itself.
fn ahead_of_need(level: &Level, marks: &Marks, growth_bytes: u64) -> Option<Target> {
    let is_cgroup = matches!(level.kind, LevelKind::Cgroup { .. });
    if !is_cgroup || growth_bytes <= NOISE_BYTES || level.free_bytes >= marks.free_bytes {
        return None;
    }
    let missing = marks.free_bytes - level.free_bytes;
    let bytes = missing.min(growth_bytes + growth_bytes / 4);
    Some(Target { level: level.kind, bytes, free_bytes: marks.free_bytes })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000 before the cast"
)]
fn per_mille(quota: f64) -> u64 {
    (quota * 1000.0).clamp(0.0, 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(limit_mib: u64, headroom_mib: u64) -> Level {
        Level {
            kind: LevelKind::Cgroup { height: 0 },
            limit_bytes: limit_mib * MIB,
            free_bytes: headroom_mib * MIB,
            headroom_bytes: headroom_mib * MIB,
            unreclaimable_bytes: (limit_mib - headroom_mib) * MIB,
            lazyfree_bytes: 0,
        }
    }

    #[test]
    fn offers_begin_under_the_low_mark_and_reach_the_high_one() {
        let mut reserve = Reserve::new(2);
        let marks = reserve.marks(&group(512, 100));
        assert_eq!((marks.low_bytes, marks.high_bytes, marks.free_bytes), (40 * MIB, 56 * MIB, 20 * MIB));
        let plenty = reserve.decide(&[group(512, 41)], &Offers::default());
        assert_eq!((plenty.offer_bytes, plenty.would_be_short), (0, false));
        let little = reserve.decide(&[group(512, 39)], &Offers::default());
        assert_eq!((little.offer_bytes, little.would_be_short), (17 * MIB, true));
        assert!(reserve.decide(&[group(512, 19)], &Offers::default()).is_desperate);
    }

    #[test]
    fn memory_would_be_short_without_the_free_memory_that_is_offered() {
        let mut reserve = Reserve::new(2);
        let level = Level { lazyfree_bytes: 80 * MIB, ..group(512, 100) };
        let need = reserve.decide(&[level], &Offers::of_free_memory(80 * MIB));
        assert_eq!((need.offer_bytes, need.would_be_short), (0, true));
        let need = reserve.decide(&[group(512, 100)], &Offers::default());
        assert_eq!((need.offer_bytes, need.would_be_short), (0, false));
    }

    #[test]
    fn pages_that_were_taken_back_are_no_headroom() {
        let mut reserve = Reserve::new(2);
        let level = Level { lazyfree_bytes: 30 * MIB, ..group(512, 60) };
        assert_eq!(reserve.decide(&[level], &Offers::default()).offer_bytes, 26 * MIB);
    }

    #[test]
    fn page_cache_is_headroom_and_its_growth_releases_nothing() {
        let mut reserve = Reserve::new(2);
        let full_of_cache = Level { free_bytes: 0, headroom_bytes: 300 * MIB, ..group(512, 300) };
        let first = reserve.decide(&[full_of_cache], &Offers::default());
        let second = reserve.decide(&[full_of_cache], &Offers::default());
        assert_eq!((first.offer_bytes, first.release), (0, None));
        assert_eq!((second.offer_bytes, second.release), (0, None));
    }

    #[test]
    fn growth_of_memory_in_use_releases_as_much_ahead() {
        let mut reserve = Reserve::new(2);
        let _ = reserve.decide(&[group(512, 16)], &Offers::default());
        let need = reserve.decide(&[group(512, 12)], &Offers::default());
        let target = need.release.expect("the level fills");
        assert_eq!((target.bytes, target.free_bytes), (5 * MIB, 20 * MIB));
        // What was offered meanwhile is not taken for shrinking.
        let mut offers = Offers::default();
        offers.acted(3 * MIB);
        let need = reserve.decide(&[group(512, 12)], &offers);
        assert_eq!(need.release.map(|target| target.bytes), Some(3 * MIB + 3 * MIB / 4));
    }

    #[test]
    fn readings_come_closer_as_the_mark_does() {
        let mut reserve = Reserve::new(2);
        let far = reserve
            .decide(&[Level { kind: LevelKind::Machine, ..group(24 << 10, 20 << 10) }], &Offers::default())
            .wait;
        let near = reserve.decide(&[group(512, 100)], &Offers::default()).wait;
        let at = reserve.decide(&[group(512, 40)], &Offers::default()).wait;
        assert!(
            far >= Duration::from_millis(500) && near < far / 10 && at < near / 2,
            "{far:?} {near:?} {at:?}"
        );
        assert_eq!(reserve.decide(&[group(512, 1)], &Offers::default()).wait, WAIT_MIN);
    }

    #[test]
    fn waking_up_late_makes_the_reserve_larger_for_a_while() {
        let mut reserve = Reserve::new(2);
        reserve.note_lateness(Duration::from_millis(1));
        assert_eq!(reserve.marks(&group(512, 100)).low_bytes, 40 * MIB);
        reserve.note_lateness(Duration::from_millis(12));
        assert_eq!(reserve.marks(&group(512, 100)).low_bytes, 40 * MIB + 25_000_000);
        assert_eq!(reserve.marks(&group(512, 100)).free_bytes, 20 * MIB, "offers make up for it, not losses");
        (0..2000).for_each(|_| reserve.note_lateness(Duration::ZERO));
        assert_eq!(reserve.marks(&group(512, 100)).low_bytes, 40 * MIB);
    }

    #[test]
    fn where_nothing_can_be_offered_the_reserve_is_twice_as_large() {
        let mut reserve = Reserve::new(2);
        reserve.can_offer = false;
        let marks = reserve.marks(&group(512, 100));
        assert_eq!((marks.low_bytes, marks.high_bytes), (80 * MIB, 112 * MIB));
        assert_eq!(reserve.marks(&group(6, 5)).low_bytes, 3 * MIB, "not more than half");
    }

    #[test]
    fn a_quota_makes_the_reserve_larger_and_a_wish_replaces_it() {
        assert_eq!(high_bytes_in_cgroup(4096 * MIB, None), 56 * MIB);
        assert_eq!(high_bytes_in_cgroup(4096 * MIB, Some(10 * MIB)), 14 * MIB);
        let mut reserve = Reserve::new(2);
        reserve.cpu_quota = Some(0.2);
        assert_eq!(reserve.marks(&group(4096, 100)).low_bytes, 40 * MIB + 200_000_000);
        assert_eq!(reserve.marks(&group(256, 100)).low_bytes, 128 * MIB, "not more than half");
        reserve.wanted_bytes = Some(7 * MIB);
        assert_eq!(reserve.marks(&group(256, 100)).low_bytes, 7 * MIB);
    }
}
