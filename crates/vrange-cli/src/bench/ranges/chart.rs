//! The operations on ranges as a picture, each beside its peers.

use super::Op;
use crate::bench::chart::by_size::{self, Compared};
use crate::bench::table::Table;
use crate::failure::Failure;

/// What is compared in a panel: ours, and the others.
const PANELS: [Compared<Op>; 4] = [
    ("no longer in use, and in use again", &[Op::UnpinPin], &[Op::VmaFlagPair, Op::TagPages]),
    ("handed to the kernel", &[Op::Offer, Op::OfferMany], &[Op::MadvFree]),
    ("taken back while it is still there", &[Op::Rescue], &[Op::FreeRetouch, Op::Refault]),
    ("dropped, and filled again", &[Op::Release, Op::Refill], &[Op::DontNeed, Op::Refault]),
];

/// Draws the picture. `command`: what draws it.
pub(super) fn draw(table: &Table<Op>, command: &str) -> Result<String, Failure> {
    by_size::draw_compared(
        table,
        &PANELS,
        "Operations on a range, by its size",
        "what one would do without it",
        command,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples::Operation as _;

    #[test]
    fn every_operation_that_has_peers_is_shown_beside_one_of_them() {
        for op in Op::ALL.iter().filter(|op| !op.peers().is_empty()) {
            let is_compared = |(_, ours, peers): &Compared<Op>| {
                ours.contains(op) && peers.iter().any(|peer| op.peers().contains(peer))
            };
            assert!(PANELS.iter().any(is_compared), "{op:?}");
        }
    }
}
