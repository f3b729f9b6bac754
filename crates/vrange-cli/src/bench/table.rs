//! Rows of results, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::samples::{Operation, Samples};
use crate::size::human;

/// One operation at one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The operation's name.
    op: &'static str,
    /// Length of the range.
    bytes: usize,
    /// Median time, in nanoseconds.
    ns: f64,
    /// This time over the time of each peer: 0.01 is a hundred times cheaper.
    ratio_to: BTreeMap<&'static str, f64>,
}

impl Row {
    /// A row of something that is not done over and over, beside one thing that it is compared with.
    pub(crate) fn single(op: &'static str, bytes: usize, ns: f64, ratio_to: (&'static str, f64)) -> Self {
        let ratio_to = BTreeMap::from([(ratio_to.0, significant(ratio_to.1))]);
        Self { op, bytes, ns: significant(ns), ratio_to }
    }
}

/// Medians by operation and size.
#[derive(Debug)]
pub(crate) struct Table<O> {
    median_ns: BTreeMap<(O, usize), f64>,
}

impl<O> Default for Table<O> {
    fn default() -> Self {
        Self { median_ns: BTreeMap::new() }
    }
}

impl<O: Operation> Table<O> {
    /// Adds the medians of one size.
    pub(crate) fn add(&mut self, bytes: usize, samples: &Samples<O>) {
        for &op in O::ALL {
            if let Some(ns) = samples.median_ns(op) {
                self.median_ns.insert((op, bytes), ns);
            }
        }
    }

    /// Adds a single figure.
    pub(crate) fn add_one(&mut self, op: O, bytes: usize, ns: f64) {
        self.median_ns.insert((op, bytes), ns);
    }

    /// The median of one operation at one size.
    pub(crate) fn ns(&self, op: O, bytes: usize) -> Option<f64> {
        self.median_ns.get(&(op, bytes)).copied()
    }

    /// The medians of one operation at every size it was measured at.
    pub(crate) fn all_ns(&self, op: O) -> impl Iterator<Item = (usize, f64)> {
        self.median_ns.iter().filter(move |((of, _), _)| *of == op).map(|((_, bytes), ns)| (*bytes, *ns))
    }

    /// The largest ratio of an operation to its peer, over all sizes.
    pub(crate) fn worst(&self, ns: impl Fn(&Self, usize) -> Option<f64>, peer: O) -> Option<f64> {
        self.all_ns(peer).filter_map(|(bytes, peer_ns)| Some(ns(self, bytes)? / peer_ns)).reduce(f64::max)
    }

    /// Everything, operation by operation.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |(&(op, bytes), &ns): (&(O, usize), &f64)| {
            let ratio = |&peer: &O| Some((peer.name(), significant(ns / self.ns(peer, bytes)?)));
            Row {
                op: op.name(),
                bytes,
                ns: significant(ns),
                ratio_to: op.peers().iter().filter_map(ratio).collect(),
            }
        };
        self.median_ns.iter().map(row).collect()
    }

    /// The rows as a table.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{:<26}{:>9} {:>12}   times the cost of\n", "operation", "size", "median");
        for row in self.rows() {
            let ratios = row.ratio_to.iter().map(|(peer, ratio)| format!("{peer} {ratio}"));
            let ratios = ratios.collect::<Vec<_>>().join(", ");
            let size = human(u64::try_from(row.bytes).unwrap_or(u64::MAX));
            let line = format!("{:<26}{size:>9} {:>12}   {ratios}", row.op, human_ns(row.ns));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// A time in the unit that suits it.
pub(crate) fn human_ns(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Three significant digits; more would be noise.
pub(crate) fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::ranges::Op;

    #[test]
    fn ratios_are_taken_at_the_same_size() {
        let mut small = Samples::default();
        small.add(Op::Offer, Duration::from_nanos(300), 1);
        small.add(Op::MadvFree, Duration::from_nanos(200), 1);
        let mut large = Samples::default();
        large.add(Op::Offer, Duration::from_nanos(900), 1);
        let mut table = Table::default();
        table.add(4096, &small);
        table.add(8192, &large);
        let rows = table.rows();
        assert_eq!(rows[0].ratio_to["madv_free"], 1.5);
        assert!(rows[1].ratio_to.is_empty());
        assert!(table.text().contains("madv_free 1.5"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(significant(123_456.0), 123_000.0);
        assert_eq!(significant(0.012_345), 0.0123);
        assert_eq!(significant(0.0), 0.0);
        assert_eq!(human_ns(1500.0), "1.5 µs");
    }
}
