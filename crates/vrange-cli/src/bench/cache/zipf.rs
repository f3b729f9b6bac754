//! Keys as YCSB draws them: Zipf's law, with what is popular scattered over all keys.

use crate::shuffle::Shuffle;

/// The skew of YCSB's workloads.
const THETA: f64 = 0.99;
/// YCSB draws ranks of ten billion, whatever the number of keys, so that the sum below is needed for one number only.
const RANKS: f64 = 10_000_000_000.0;
/// The sum of 1/rank^THETA over all of them, as YCSB has it.
const ZETA: f64 = 26.469_028_201_783_02;

/// YCSB's `ScrambledZipfianGenerator`: a rank by the method of Gray and others (SIGMOD 1994, "Quickly generating
/// billion-record synthetic databases"), and that rank's FNV hash modulo the number of keys.
///
/// Ranks beyond the number of keys are folded onto keys, too, so popularity is a mixture: of a million keys, the million first
/// ranks draw 58 % of what is read, and the rest is spread evenly.
#[derive(Debug)]
pub(super) struct Zipf {
    keys: u64,
    shuffle: Shuffle,
    eta: f64,
}

impl Zipf {
    /// Keys from 0 to below `keys`, which must not be 0; one of many sequences.
    pub(super) fn numbered(keys: u64, number: u64) -> Self {
        let two = 1.0 + 0.5_f64.powf(THETA);
        let eta = (1.0 - (2.0 / RANKS).powf(1.0 - THETA)) / (1.0 - two / ZETA);
        Self { keys: keys.max(1), shuffle: Shuffle::numbered(number), eta }
    }

    pub(super) fn key(&mut self) -> u64 {
        fnv(self.rank()) % self.keys
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to ten billion")]
    fn rank(&mut self) -> u64 {
        let uniform = self.shuffle.fraction();
        let share = uniform * ZETA;
        if share < 1.0 {
            return 0;
        }
        if share < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        (RANKS * (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - THETA))) as u64
    }
}

/// FNV-1a of the eight bytes, the lowest first.
fn fnv(number: u64) -> u64 {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 1_099_511_628_211;
    number.to_le_bytes().iter().fold(START, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_is_known() {
        // FNV-1a of "a" and seven zero bytes, by hand from the definition.
        assert_eq!(fnv(0), 0xa8c7_f832_281a_39c5);
    }

    #[test]
    fn the_first_ranks_have_the_share_that_the_law_gives_them() {
        const DRAWS: u32 = 1_000_000;
        let mut zipf = Zipf::numbered(1 << 20, 1);
        let mut first = 0;
        let mut thousand = 0;
        for _ in 0..DRAWS {
            let rank = zipf.rank();
            first += u32::from(rank == 0);
            thousand += u32::from(rank < 1000);
        }
        let share = |count| f64::from(count) / f64::from(DRAWS);
        // 1/26.469; and the sum of 1/rank^0.99 up to a thousand, which is 7.729, over the same, is 0.292. From the third rank on the method
        // puts an integral in place of the sum, so that it comes out at 0.298.
        assert!((share(first) - 0.0378).abs() < 0.002, "{first}");
        assert!((share(thousand) - 0.2983).abs() < 0.003, "{thousand}");
    }

    #[test]
    fn keys_stay_below_their_number_and_differ_from_sequence_to_sequence() {
        let draw = |number| {
            let mut zipf = Zipf::numbered(1000, number);
            (0..10_000).map(|_| zipf.key()).collect::<Vec<_>>()
        };
        assert!(draw(1).iter().all(|key| *key < 1000));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
