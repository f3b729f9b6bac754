//! What happens in a second: the difference between a process's figures and those that it has published before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stat::ProcessFigures;

/// Bytes in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) offered: u64,
    pub(super) lost: u64,
    pub(super) released: u64,
}

/// What was seen of each process.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: BTreeMap<u32, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    sequence: u64,
    taken: Duration,
    totals: Rates,
    rates: Rates,
}

impl History {
    /// Takes in the figures of all processes; those that are not among them are forgotten.
    pub(super) fn update(&mut self, processes: &[ProcessFigures]) {
        let seen = processes.iter().map(|process| (process.pid, self.next(process)));
        self.seen = seen.collect();
    }

    /// Of a process that was among the last. A reclaimer that sleeps does nothing.
    pub(super) fn rates(&self, process: &ProcessFigures) -> Rates {
        match self.seen.get(&process.pid) {
            Some(seen) if !process.parked => seen.rates,
            _ => Rates::default(),
        }
    }

    fn next(&self, process: &ProcessFigures) -> Seen {
        let now = Seen {
            sequence: process.sequence,
            taken: process.taken,
            totals: Rates {
                offered: process.sum(|heap| heap.offered_bytes_total),
                lost: process.sum(|heap| heap.lost_bytes_total),
                released: process.sum(|heap| heap.released_bytes_total),
            },
            rates: Rates::default(),
        };
        match self.seen.get(&process.pid) {
            // Nothing newer was published.
            Some(before) if before.sequence == now.sequence => *before,
            // (Otherwise it is another process that has got the number.)
            Some(before) if before.sequence < now.sequence => Seen { rates: between(before, &now), ..now },
            _ => now,
        }
    }
}

fn between(before: &Seen, now: &Seen) -> Rates {
    let time = now.taken.saturating_sub(before.taken).as_micros();
    // The totals of a heap that is gone go with it.
    let rate = |before: u64, now: u64| {
        let bytes = u128::from(now.saturating_sub(before));
        (bytes * 1_000_000).checked_div(time).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    };
    Rates {
        offered: rate(before.totals.offered, now.totals.offered),
        lost: rate(before.totals.lost, now.totals.lost),
        released: rate(before.totals.released, now.totals.released),
    }
}
