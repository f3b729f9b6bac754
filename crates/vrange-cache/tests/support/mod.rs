//! What the tests of the cache share: bytes that say what they are, and heaps that nobody else works on.

use vrange::{Heap, Reclaimer};

/// Fills with bytes that follow from `seed` and are never zero, as those of lost pages are.
pub(crate) fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in bytes.chunks_mut(8) {
        // SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed = (mixed ^ mixed >> 31) | 0x0101_0101_0101_0101;
        chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
    }
}

/// Bytes as [`fill`] makes them.
pub(crate) fn value(seed: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    fill(&mut value, seed);
    value
}

/// A heap that nobody but the test works on: what is offered or released was asked for by the test.
pub(crate) fn quiet_heap() -> (Heap, Reclaimer) {
    Heap::builder().build_manual().expect("a heap")
}
