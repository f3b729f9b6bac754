//! The operations on ranges as a picture, each beside its peers.

use super::Op;
use crate::bench::chart::Heading;
use crate::bench::chart::by_size::{self, Line, Panel};
use crate::bench::samples::Operation as _;
use crate::bench::table::Table;
use crate::failure::Failure;

/// What is compared in a panel: ours, and the others.
const PANELS: [(&str, &[Op], &[Op]); 4] = [
    ("no longer in use, and in use again", &[Op::UnpinPin], &[Op::VmaFlagPair, Op::TagPages]),
    ("handed to the kernel", &[Op::Offer, Op::OfferMany], &[Op::MadvFree]),
    ("taken back while it is still there", &[Op::Rescue], &[Op::FreeRetouch, Op::Refault]),
    ("dropped, and filled again", &[Op::Release, Op::Refill], &[Op::DontNeed, Op::Refault]),
];

/// Draws the picture. `command`: what draws it.
pub(super) fn draw(table: &Table<Op>, command: &str) -> Result<String, Failure> {
    let line = |op: &Op| Line { name: op.name(), points: table.all_ns(*op).collect() };
    let panels = PANELS.map(|(title, ours, peers)| Panel {
        title: title.to_owned(),
        ours: ours.iter().map(line).collect(),
        peers: peers.iter().map(line).collect(),
    });
    let heading = Heading {
        title: "Operations on a range, by its size".to_owned(),
        command: command.to_owned(),
        notes: vec![
            "Medians of one run, in turns; both axes are logarithmic. Thick lines, green and blue: this library. The others: what one \
             would do without it."
                .to_owned(),
        ],
        legend: Vec::new(),
    };
    by_size::draw(&heading, &panels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_that_has_peers_is_shown_beside_one_of_them() {
        for op in Op::ALL.iter().filter(|op| !op.peers().is_empty()) {
            let is_compared = |(_, ours, peers): &(&str, &[Op], &[Op])| {
                ours.contains(op) && peers.iter().any(|peer| op.peers().contains(peer))
            };
            assert!(PANELS.iter().any(is_compared), "{op:?}");
        }
    }
}
