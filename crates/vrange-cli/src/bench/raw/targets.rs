//! The goals of marks.

use super::op::Op;
use crate::bench::table::{Table, human_ns};
use crate::bench::targets::{Target, over};

const PIECE: usize = 64 << 10;
const GIB: usize = 1 << 30;

/// Compares what was measured with what it ought to be.
pub(super) fn all(table: &Table<Op>) -> Vec<Target> {
    const PASS_NS: f64 = 20.0;
    let pair = over(table.ns(Op::VmaFlagPair, PIECE), table.ns(Op::MarkUnmark, PIECE));
    let gib = over(table.ns(Op::MadvFree, GIB), table.ns(Op::Mark, GIB));
    let now = table.worst(|table, bytes| table.ns(Op::MarkNow, bytes), Op::MadvFree);
    let passes = table.all_ns(Op::PassThrough);
    let added =
        passes.filter_map(|(bytes, ns)| Some(ns - table.ns(Op::OtherAdvice, bytes)?)).reduce(f64::max);
    vec![
        Target::at_least("mark+unmark of 64 KiB, against a flag pair", 40.0, pair),
        Target::at_least("mark of 1 GiB, against MADV_FREE of it", 500.0, gib),
        Target::at_most("implicit mark, against bare MADV_FREE", 1.1, now),
        Target {
            what: "other advice, through the preloaded library",
            goal: format!("under {PASS_NS} ns more"),
            found: added.map_or("not measured".to_owned(), |ns| format!("{} more", human_ns(ns))),
            reached: added.map(|ns| ns < PASS_NS),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_reached() {
        let mut table = Table::default();
        assert!(all(&table).iter().all(|target| target.reached.is_none()));
        table.add_one(Op::MarkUnmark, PIECE, 100.0);
        table.add_one(Op::VmaFlagPair, PIECE, 4100.0);
        table.add_one(Op::MarkNow, PIECE, 1200.0);
        table.add_one(Op::MadvFree, PIECE, 1000.0);
        table.add_one(Op::PassThrough, PIECE, 119.0);
        table.add_one(Op::OtherAdvice, PIECE, 100.0);
        let reached: Vec<_> = all(&table).iter().map(|target| target.reached).collect();
        assert_eq!(reached, [Some(true), None, Some(false), Some(true)]);
    }
}
