//! A small random number generator that starts the same way every time, so that two runs can be compared.

/// Marsaglia's xorshift64*; good enough to mix files and to vary sizes.
#[derive(Debug)]
pub(crate) struct Shuffle {
    state: u64,
}

impl Shuffle {
    /// Starts the sequence that every run of the demo has.
    pub(crate) fn new() -> Self {
        Self::numbered(0)
    }

    /// Starts one of many sequences: one for each of several threads.
    pub(crate) fn numbered(number: u64) -> Self {
        // The product is even, so the state is odd: 0 would stay 0.
        Self { state: 0x9e37_79b9_7f4a_7c15 ^ number.wrapping_mul(0x5851_f42d_4c95_7f2e) }
    }

    /// A number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.mixed() >> 32).unwrap_or(usize::MAX) % bound
    }

    /// A number from 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "as many bits as fit")]
    pub(crate) fn fraction(&mut self) -> f64 {
        const BITS: u32 = f64::MANTISSA_DIGITS;
        (self.mixed() >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64
    }

    fn mixed(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Brings the items into an order without pattern (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_every_item_and_repeats_itself() {
        let mut items: Vec<u32> = (0..1000).collect();
        Shuffle::new().shuffle(&mut items);
        let mut again: Vec<u32> = (0..1000).collect();
        Shuffle::new().shuffle(&mut again);
        assert_eq!(items, again);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn each_number_has_a_sequence_of_its_own() {
        let start = |number| {
            let mut sequence = Shuffle::numbered(number);
            [(); 4].map(|()| sequence.below(1 << 20))
        };
        assert_eq!(start(1), start(1));
        assert_ne!(start(1), start(2));
    }
}
