//! Rows of results, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::samples::{Op, Samples};
use crate::size::human;

/// One operation at one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// The operation's name.
    op: &'static str,
    /// Length of the range.
    bytes: usize,
    /// Median time, in nanoseconds.
    ns: f64,
    /// This time over the time of each peer: 0.01 is a hundred times cheaper.
    ratio_to: BTreeMap<&'static str, f64>,
}

/// Medians by operation and size.
#[derive(Debug, Default)]
pub(super) struct Table {
    median_ns: BTreeMap<(Op, usize), f64>,
}

impl Table {
    /// Adds the medians of one size.
    pub(super) fn add(&mut self, bytes: usize, samples: &Samples) {
        for op in Op::ALL {
            if let Some(ns) = samples.median_ns(op) {
                self.median_ns.insert((op, bytes), ns);
            }
        }
    }

    /// Adds what a pin waits at most while `bytes` are being offered.
    pub(super) fn add_wait(&mut self, wait: &super::tail::Wait) {
        self.median_ns.insert((Op::PinWhileOffering, wait.offered_bytes), wait.p999_ns);
    }

    /// The median of one operation at one size.
    pub(super) fn ns(&self, op: Op, bytes: usize) -> Option<f64> {
        self.median_ns.get(&(op, bytes)).copied()
    }

    /// The medians of one operation at every size it was measured at.
    pub(super) fn all_ns(&self, op: Op) -> impl Iterator<Item = (usize, f64)> {
        self.median_ns.iter().filter(move |((of, _), _)| *of == op).map(|((_, bytes), ns)| (*bytes, *ns))
    }

    /// Everything, operation by operation.
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |(&(op, bytes), &ns): (&(Op, usize), &f64)| {
            let ratio = |&peer: &Op| Some((peer.name(), significant(ns / self.ns(peer, bytes)?)));
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
    pub(super) fn text(&self) -> String {
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
pub(super) fn human_ns(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// Three significant digits; more would be noise.
fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
