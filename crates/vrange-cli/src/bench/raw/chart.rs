//! The operations on marks as a picture, each beside its peer.

use super::Op;
use crate::bench::chart::by_size::{self, Compared};
use crate::bench::table::Table;
use crate::failure::Failure;

/// What is compared in a panel: ours, and the others. (Advice that is passed on is about no bytes at all.)
const PANELS: [Compared<Op>; 2] = [
    ("a mark and its end", &[Op::MarkUnmark], &[Op::VmaFlagPair]),
    ("a mark alone, and one told at once", &[Op::Mark, Op::MarkNow], &[Op::MadvFree]),
];

/// Draws the picture. `command`: what draws it.
pub(super) fn draw(table: &Table<Op>, command: &str) -> Result<String, Failure> {
    by_size::draw_compared(
        table,
        &PANELS,
        "Marks on a program's own memory, by their size",
        "system calls",
        command,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_without_figures_has_no_line() {
        let mut table = Table::default();
        table.add_one(Op::Mark, 4096, 100.0);
        table.add_one(Op::MadvFree, 4096, 1000.0);
        let picture = draw(&table, "vrange bench raw").expect("a string takes all");
        assert!(picture.contains("a mark alone") && picture.contains("madv_free"), "{picture}");
        assert!(!picture.contains("a mark and its end") && !picture.contains("mark_now"), "{picture}");
    }
}
