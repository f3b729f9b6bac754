//! What is read, in which order.

use serde::{Deserialize, Serialize};

use super::zipf::Zipf;
use crate::shuffle::Shuffle;

/// The longest scan of YCSB's workload E; lengths are spread evenly.
const SCAN_MAX: usize = 100;
/// One operation of so many is a scan.
const SCAN_EVERY: usize = 20;

/// A pattern of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Trace {
    /// Scrambled Zipf, skew 0.99.
    Zipf,
    /// 95 % of the operations read a key of the above, 5 % read 1 to 100 consecutive keys from such a key on, as those of YCSB's
    /// workload E do: 73 % of the reads are part of a scan.
    Scan,
    /// Every other read is of the next key of an endless sweep over all keys, the others are scrambled Zipf.
    Flood,
}

impl Trace {
    pub(super) const ALL: [Self; 3] = [Self::Zipf, Self::Scan, Self::Flood];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Scan => "scan",
            Self::Flood => "flood",
        }
    }

    /// The same reads every time.
    pub(super) fn reads(self, keys: u64) -> Reads {
        Reads {
            trace: self,
            keys,
            zipf: Zipf::numbered(keys, 1),
            shuffle: Shuffle::numbered(2),
            next: 0,
            left: 0,
        }
    }
}

/// The keys of a trace, without end.
#[derive(Debug)]
pub(super) struct Reads {
    trace: Trace,
    keys: u64,
    zipf: Zipf,
    shuffle: Shuffle,
    /// Of a scan or sweep.
    next: u64,
    /// Of a scan; of a sweep, whether it is its turn.
    left: usize,
}

impl Reads {
    fn sequential(&mut self) -> u64 {
        let key = self.next;
        self.next = (key + 1) % self.keys;
        self.left -= 1;
        key
    }
}

impl Iterator for Reads {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.left > 0 {
            return Some(self.sequential());
        }
        let key = self.zipf.key();
        match self.trace {
            Trace::Zipf => {}
            Trace::Scan if self.shuffle.below(SCAN_EVERY) == 0 => {
                self.next = key;
                self.left = 1 + self.shuffle.below(SCAN_MAX);
                return Some(self.sequential());
            }
            Trace::Scan => {}
            Trace::Flood => self.left = 1,
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followers(trace: Trace) -> f64 {
        const READS: u32 = 200_000;
        let mut before = u64::MAX - 1;
        let mut count = 0_u32;
        for key in trace.reads(1 << 20).take(200_000) {
            count += u32::from(key == before + 1);
            before = key;
        }
        f64::from(count) / f64::from(READS)
    }

    #[test]
    fn scans_are_as_long_and_as_many_as_they_should_be() {
        assert!(followers(Trace::Zipf) < 0.01);
        // 0.05 × 49.5 of 0.95 + 0.05 × 50.5.
        assert!((followers(Trace::Scan) - 0.713).abs() < 0.02, "{}", followers(Trace::Scan));
    }

    #[test]
    fn a_flood_reads_every_key_in_order() {
        let sweep: Vec<_> = Trace::Flood.reads(5).skip(1).step_by(2).take(7).collect();
        assert_eq!(sweep, [0, 1, 2, 3, 4, 0, 1]);
    }
}
