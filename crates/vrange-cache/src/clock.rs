//! Time, as deadlines count it.

use std::time::{Duration, Instant};

/// Microseconds since the cache was made; [`NEVER`](Self::NEVER) for what does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) const NEVER: Self = Self(u64::MAX);
}

/// The monotonic clock (`CLOCK_MONOTONIC`, see clock_gettime(2)), which no change of the date moves. It stands still while the machine
/// sleeps.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Tests move time forward.
    #[cfg(test)]
    pub(crate) skipped_us: std::sync::atomic::AtomicU64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(test)]
            skipped_us: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Relaxed: the test's own thread moves it.
        #[cfg(test)]
        let elapsed = elapsed.saturating_add(self.skipped_us.load(std::sync::atomic::Ordering::Relaxed));
        Moment(elapsed)
    }

    /// The end of something that lives so long from now on: never sooner, and for no time at all, at once. What would outlive the clock does not end.
    pub(crate) fn deadline(&self, time_to_live: Option<Duration>) -> Moment {
        let Some(time_to_live) = time_to_live else { return Moment::NEVER };
        if time_to_live.is_zero() {
            return Moment(0);
        }
        let microseconds = u64::try_from(time_to_live.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        // Now may be a part of a microsecond later than the clock says.
        Moment(self.now().0.saturating_add(microseconds).saturating_add(1))
    }

    /// Is the deadline past? What has none costs no look at the clock.
    #[inline]
    pub(crate) fn is_past(&self, deadline: Moment) -> bool {
        deadline != Moment::NEVER && self.now() >= deadline
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_over_at_once_and_any_other_is_not_cut_short() {
        let clock = Clock::start();
        for _ in 0..10_000 {
            assert!(clock.is_past(clock.deadline(Some(Duration::ZERO))));
            let begin = Instant::now();
            let deadline = clock.deadline(Some(Duration::from_nanos(1_500)));
            while !clock.is_past(deadline) {}
            assert!(begin.elapsed() >= Duration::from_nanos(1_500));
        }
        assert!(!clock.is_past(clock.deadline(None)));
        assert!(!clock.is_past(clock.deadline(Some(Duration::MAX))));
    }
}
