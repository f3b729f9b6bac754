//! Random programs and threads over the real kernel, compared with plain memory, and controls that show what goes wrong
//! without the protocol.
//!
//! The kernel's taking is played by `MADV_PAGEOUT`, which drops offered pages at once and needs neither root nor
//! pressure. `VRANGE_TEST_SCALE=soak` makes everything much longer.

mod controls;
mod locked;
mod programs;
mod stress;

/// How many times longer than usual the tests are to run.
fn scale() -> u32 {
    vrange_testing::scale().pick(1, 30)
}
