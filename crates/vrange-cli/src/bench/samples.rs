//! Times of operations, round by round, and their medians.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is measured.
pub(crate) trait Operation: Copy + Ord + std::fmt::Debug + 'static {
    /// All of them, in the order in which they are shown.
    const ALL: &'static [Self];

    /// The name in rows.
    fn name(self) -> &'static str;

    /// The peers that do the same work another way.
    fn peers(self) -> &'static [Self];
}

/// Times by operation.
#[derive(Debug)]
pub(crate) struct Samples<O> {
    times_ns: BTreeMap<O, Vec<f64>>,
}

impl<O> Default for Samples<O> {
    fn default() -> Self {
        Self { times_ns: BTreeMap::new() }
    }
}

impl<O: Operation> Samples<O> {
    /// Adds what `times` operations took together.
    pub(crate) fn add(&mut self, op: O, took: Duration, times: usize) {
        let times = u32::try_from(times).unwrap_or(u32::MAX).max(1);
        self.times_ns.entry(op).or_default().push(took.as_secs_f64() * 1e9 / f64::from(times));
    }

    /// The median, in nanoseconds; none for what was not measured.
    pub(crate) fn median_ns(&self, op: O) -> Option<f64> {
        let mut times = self.times_ns.get(&op)?.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ranges::Op;

    #[test]
    fn the_median_ignores_what_is_far_off() {
        let mut samples = Samples::default();
        for micros in [1, 2, 1000] {
            samples.add(Op::Offer, Duration::from_micros(micros), 2);
        }
        assert_eq!(samples.median_ns(Op::Offer), Some(1000.0));
        assert_eq!(samples.median_ns(Op::Rescue), None);
    }
}
