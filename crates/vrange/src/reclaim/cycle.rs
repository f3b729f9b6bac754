//! One turn of the reclaimer: read how short memory is, decide, act.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vrange_os::kernel_file::Root;
use vrange_os::process::{self, ProcessId};
use vrange_os::{Span, clock};

use super::offers::Offers;
use super::pool::Pool;
use super::reserve::{Marks, Need, Reserve, Target};
use super::selection::{self, Picks};
use super::shortage::{REMEMBERED, SHORTAGE};
use crate::inner::Inner;
use crate::pressure::{Level, Readers};
use crate::settings::Content;
use crate::sync::thread;

/// Offered in one turn, before the level is read again and a `fork` may get in between.
const OFFER_STEP_BYTES: u64 = 64 << 20;
/// Released in one go, before the level is read again: many processes may be releasing for the same one, and what is released
/// is lost.
const RELEASE_STEP_BYTES: u64 = 1 << 20;
/// Where nothing can be offered, one in this many of the bytes that are missing is released in one go, if that is more: as many
/// processes may act on the same reading without releasing too much. With 1 MiB always, groups were killed here.
const RELEASED_SHARE: u64 = 8;
/// Free memory is offered when it has been left alone for this long.
const FREE_CONTENT_OFFERED_AFTER: Duration = Duration::from_millis(100);
/// How often a heap of free memory is looked at.
const FREE_CONTENT_WAIT: Duration = Duration::from_millis(250);
/// How often it is looked whether the process was moved to another cgroup, what the system takes, and whether ages need to be
/// cut.
const RARE: Duration = Duration::from_secs(2);

/// What one turn did, and when the next is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Bytes of memory handed to the kernel.
    pub offered_bytes: u64,
    /// Bytes of memory dropped.
    pub released_bytes: u64,
    /// Call again after this long at the latest; sooner does no harm.
    pub wait: Duration,
}

/// What the ranges of all pools add up to, in bytes of their length.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    unoffered: u64,
    offered: u64,
    /// What of that is free memory.
    offered_free: u64,
}

/// Reads, decides and acts. Opens kernel files at its first turn; allocates nothing after.
#[derive(Debug)]
pub(crate) struct Cycle {
    root: Root,
    /// Whose kernel files are open.
    process: ProcessId,
    readers: Option<Readers>,
    reserve: Reserve,
    picks: Picks,
    ticks: TickRate,
    rare_due: Instant,
    offers: Offers,
    jitter: Jitter,
    /// Turns in a row in which headroom was desperate and nothing could be offered.
    undone_turns: u32,
    /// Memory was short in the last turn.
    is_short: bool,
}

impl Cycle {
    pub(crate) fn new(root: Root) -> Self {
        let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            root,
            process: process::current(),
            readers: None,
            reserve: Reserve::new(processors),
            picks: Picks::new(),
            ticks: TickRate::start(),
            rare_due: Instant::now(),
            offers: Offers::default(),
            jitter: Jitter::new(),
            undone_turns: 0,
            is_short: false,
        }
    }

    /// Was a reserve short in the last turn, or memory filling up?
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Does the system take offers, as far as is known?
    pub(crate) fn can_offer(&self) -> bool {
        self.reserve.can_offer
    }

    /// What was last read, with the marks that the reserve has there.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&Level, Marks)> {
        let levels: &[Level] = self.readers.as_ref().map_or(&[], Readers::last);
        levels.iter().map(|level| (level, self.reserve.marks(level)))
    }

    /// How many ticks of the clock by which ranges age.
    pub(crate) fn ticks_of(&self, duration: Duration) -> u64 {
        self.ticks.of(duration)
    }

    /// The wait after the last turn took this much longer than asked for.
    pub(crate) fn note_lateness(&mut self, late: Duration) {
        self.reserve.note_lateness(late);
    }

    /// One turn over `pools`.
    pub(crate) fn turn(&mut self, pools: &[Arc<dyn Pool>]) -> Step {
        let now = Instant::now();
        self.enter_process();
        self.ticks.measure_early();
        if now >= self.rare_due {
            self.rare_due = now + RARE;
            self.rarely(pools);
        }
        let totals = totals(pools);
        let need = self.decide(pools, totals);
        if need.would_be_short {
            SHORTAGE.note(self.ticks.of(REMEMBERED));
        }
        let mut step = Step { wait: need.wait, ..Step::default() };
        // Offers first: they make headroom. Releases only make what is offered quicker to have.
        if need.offer_bytes > 0 {
            self.make_headroom(pools, need.offer_bytes.min(OFFER_STEP_BYTES), &mut step);
        }
        if let Some(target) = need.release {
            step.released_bytes += self.release_ahead(pools, target);
        }
        let others_have: usize = pools.iter().map(|pool| pool.offer_what_others_have()).sum();
        step.offered_bytes += Span::new(0, others_have).bytes() as u64;
        self.mend_undone_offers(pools, &need, &mut step);
        self.offers.acted(step.offered_bytes);
        self.see_to_free_content(pools, &mut step);
        self.keep_limits(pools, &mut step);
        step.wait = if step.offered_bytes + step.released_bytes > 0 {
            // Time has passed, and others have gone on: read again at once.
            Duration::ZERO
        } else {
            // A turn over very many ranges takes long: while there is nothing to do it may take a quarter of a processor.
            step.wait.max(now.elapsed().min(Duration::from_millis(5)) * 3)
        };
        step.wait = self.jitter.shorten(step.wait);
        step
    }

    /// Offers the coldest. Where nothing can be offered at all, they are released instead, which every kernel can do: one small
    /// step, after which the next turn reads the level again. What is refused for a reason of its own, such as locked memory,
    /// is kept.
    fn make_headroom(&mut self, pools: &[Arc<dyn Pool>], bytes: u64, step: &mut Step) {
        if self.reserve.can_offer {
            let offered = selection::offer_coldest(&mut self.picks, pools, bytes);
            step.offered_bytes += offered.bytes;
            if offered.was_refused {
                self.reserve.can_offer = can_offer(pools);
            }
        }
        if !self.reserve.can_offer {
            let bytes = (bytes / RELEASED_SHARE).max(RELEASE_STEP_BYTES);
            step.released_bytes += selection::release_coldest(&mut self.picks, pools, bytes).bytes;
        }
    }

    /// In a child made by `fork`, some of the open files speak of the parent.
    fn enter_process(&mut self) {
        let process = process::current();
        if self.process != process {
            self.process = process;
            self.readers = None;
            self.jitter = Jitter::new();
        }
    }

    fn decide(&mut self, pools: &[Arc<dyn Pool>], totals: Totals) -> Need {
        self.reserve.wanted_bytes = pools.iter().filter_map(|pool| pool.reserve_bytes()).max();
        let readers = self.readers.get_or_insert_with(|| Readers::open(&self.root));
        let levels = readers.read();
        self.offers.observe(levels, pools, (totals.offered, totals.offered_free));
        let mut need = self.reserve.decide(levels, &self.offers);
        self.is_short = need.offer_bytes > 0 || need.release.is_some() || need.is_desperate;
        pools.iter().for_each(|pool| pool.note_room(need.room_bytes));
        if totals.unoffered == 0 {
            need.offer_bytes = 0;
        }
        need
    }

    /// Releases the coldest offered ranges in small steps, reading the level again between them.
    fn release_ahead(&mut self, pools: &[Arc<dyn Pool>], target: Target) -> u64 {
        let mut released = 0;
        while released < target.bytes {
            let step = selection::release_offered(
                &mut self.picks,
                pools,
                RELEASE_STEP_BYTES.min(target.bytes - released),
            );
            released += step.bytes;
            if step.bytes == 0 || self.free_bytes_of(&target) >= target.free_bytes {
                break;
            }
        }
        released
    }

    fn free_bytes_of(&mut self, target: &Target) -> u64 {
        let levels: &[Level] = self.readers.as_mut().map_or(&[], Readers::read);
        levels.iter().find(|level| level.kind == target.level).map_or(u64::MAX, |level| level.free_bytes)
    }

    /// An offer can come undone behind our back: the kernel may copy offered pages into a huge page, which is dirty. When
    /// headroom stays low though all is offered, it is offered again; if that does not help either, it is released, which
    /// needs nothing from the kernel's taste.
    fn mend_undone_offers(&mut self, pools: &[Arc<dyn Pool>], need: &Need, step: &mut Step) {
        // As long as there is enough to offer, that helps. (A trickle does not, nor what is kept for another process's sake.)
        let helped = step.offered_bytes > 0 && step.offered_bytes >= need.offer_bytes.min(OFFER_STEP_BYTES);
        if !need.is_desperate || helped {
            self.undone_turns = 0;
            return;
        }
        let totals = totals(pools);
        if totals.offered == 0 {
            self.undone_turns = 0;
            return;
        }
        // While the kernel's lists show what was offered, the group is simply full, and all is well.
        if self.offers.listed_bytes() >= totals.offered / 2 {
            self.undone_turns = 0;
            return;
        }
        self.undone_turns += 1;
        match self.undone_turns {
            // The kernel's counters lag; the next reading may show what this turn has offered.
            1..4 => {}
            4 => step.offered_bytes += selection::offer_again(&mut self.picks, pools, totals.offered).bytes,
            5..8 => {}
            _ => {
                step.released_bytes +=
                    selection::release_offered(&mut self.picks, pools, RELEASE_STEP_BYTES).bytes;
            }
        }
    }

    /// Free memory decays. Heaps of this kind are looked at even when memory is plentiful.
    fn see_to_free_content(&mut self, pools: &[Arc<dyn Pool>], step: &mut Step) {
        for pool in pools {
            if let Content::Free { decay } = pool.content() {
                // A range whose offer is refused counts as just used, and would never be old enough to be released.
                let offer_after = if self.reserve.can_offer {
                    FREE_CONTENT_OFFERED_AFTER.min(decay)
                } else {
                    Duration::MAX
                };
                let offer_ticks = self.ticks.of(offer_after);
                selection::let_decay(&**pool, offer_ticks, self.ticks.of(decay));
                step.wait = step.wait.min(FREE_CONTENT_WAIT);
            }
        }
    }

    /// Releases the coldest free memory of a pool that holds more of it than it may.
    fn keep_limits(&mut self, pools: &[Arc<dyn Pool>], step: &mut Step) {
        for pool in pools {
            let excess = pool.excess_bytes();
            if excess > 0 {
                let pool = std::slice::from_ref(pool);
                step.released_bytes += selection::release_coldest_free(&mut self.picks, pool, excess).bytes;
            }
        }
    }

    fn rarely(&mut self, pools: &[Arc<dyn Pool>]) {
        self.ticks.measure();
        // At the first turn, since every range that is refused loses its place in the order; and again after a refusal, since a
        // lack of descriptors passes. No more often: it makes a mapping, for which the process may have to wait.
        if self.readers.is_none() || !self.reserve.can_offer {
            self.reserve.can_offer = can_offer(pools);
        }
        if let Some(readers) = &mut self.readers {
            if readers.moved() {
                *readers = Readers::open(&self.root);
            }
            self.reserve.cpu_quota = readers.cpu_quota();
        }
        let now = Inner::now();
        pools.iter().for_each(|pool| pool.cut_ages(now));
    }
}

fn can_offer(pools: &[Arc<dyn Pool>]) -> bool {
    pools.iter().all(|pool| pool.can_offer())
}

fn totals(pools: &[Arc<dyn Pool>]) -> Totals {
    let mut totals = Totals::default();
    for pool in pools {
        let is_free = matches!(pool.content(), Content::Free { .. });
        pool.each_unused(&mut |unused| {
            let unoffered = Span::new(0, unused.unoffered_pages).bytes() as u64;
            let offered = unused.bytes().saturating_sub(unoffered);
            totals.unoffered += unoffered;
            totals.offered += offered;
            totals.offered_free += if is_free && unused.decays { offered } else { 0 };
        });
    }
    totals
}

/// Keeps the reclaimers of many processes out of step. They read the same level; if all read it at the same moment, each
/// would release what one should, before any could see what the others did.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn new() -> Self {
        // Two processes rarely get here in the same tick, and an odd seed is never zero.
        Self(clock::ticks() << 32 | u64::from(std::process::id()) << 1 | 1)
    }

    /// The wait, or up to a quarter less.
    fn shorten(&mut self, wait: Duration) -> Duration {
        // Marsaglia's xorshift: good enough to be different.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let share = u32::from(self.0.to_ne_bytes()[3]);
        wait - wait / 4 * share / 255
    }
}

/// How long a tick of [`clock`] is, measured against the system's clock.
#[derive(Debug)]
struct TickRate {
    started: Reading,
    ticks_per_second: u64,
    measured: bool,
}

impl TickRate {
    fn start() -> Self {
        // A tick is a microsecond or so, until measured.
        Self { started: Reading::take(), ticks_per_second: 1_000_000, measured: false }
    }

    /// As soon as it can be done.
    fn measure_early(&mut self) {
        if !self.measured {
            self.measure();
        }
    }

    fn measure(&mut self) {
        let now = Reading::take();
        let ticks = u128::from(now.ticks.wrapping_sub(self.started.ticks));
        let microseconds = now.at.duration_since(self.started.at).as_micros();
        if microseconds > 10_000 {
            self.measured = true;
            self.ticks_per_second =
                u64::try_from(ticks * 1_000_000 / microseconds).unwrap_or(u64::MAX).max(1);
        }
    }

    fn of(&self, duration: Duration) -> u64 {
        let ticks = duration.as_micros().saturating_mul(u128::from(self.ticks_per_second)) / 1_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    ticks: u64,
}

impl Reading {
    fn take() -> Self {
        Self::take_of(clock::ticks, Instant::now)
    }

    /// The clocks cannot be read at once, and the thread may lose its processor in between: the best of some attempts.
    fn take_of(mut ticks: impl FnMut() -> u64, mut now: impl FnMut() -> Instant) -> Self {
        const ATTEMPTS: usize = 4;
        let attempt = || {
            let before = ticks();
            let at = now();
            (ticks().wrapping_sub(before), Self { at, ticks: before })
        };
        let attempts = std::iter::repeat_with(attempt).take(ATTEMPTS);
        attempts.min_by_key(|(apart, _)| *apart).expect("more than none").1
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn waits_are_shortened_by_a_quarter_at_most_and_differ() {
        let mut jitter = Jitter::new();
        let waits: Vec<Duration> = (0..100).map(|_| jitter.shorten(Duration::from_secs(1))).collect();
        assert!(waits.iter().all(|wait| (750..=1000).contains(&wait.as_millis())), "{waits:?}");
        let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(distinct.len() > 30, "{waits:?}");
        assert_eq!(jitter.shorten(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn clocks_are_read_together_though_the_processor_is_lost_in_between() {
        let start = Instant::now();
        // The thread sleeps between the first two readings.
        let ticks = Cell::new(0);
        let tick = |count: u64| ticks.replace(ticks.get() + count);
        let read_ticks = || tick(1);
        let now = || {
            if ticks.get() < 10 {
                tick(50_000);
            }
            start + Duration::from_micros(ticks.get())
        };
        let reading = Reading::take_of(read_ticks, now);
        let microseconds = reading.at.duration_since(start).as_micros();
        assert!(u128::from(reading.ticks).abs_diff(microseconds) <= 2, "{reading:?}");
    }
}
