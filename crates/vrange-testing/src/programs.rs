//! Random programs, which shrink when they fail.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Runs as many random programs, or as many as `PROPTEST_CASES` says. `run` panics where one shows a mistake. Returns the seed by
/// which they can be run again.
///
/// # Panics
/// With the smallest program that was found to fail (within a minute), and the seed.
#[track_caller]
pub fn run_programs<S: Strategy>(count: u32, programs: &S, run: impl Fn(S::Value)) -> RngSeed {
    let mut config = Config { failure_persistence: None, max_shrink_time: 60_000, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    }
    let seed = config.rng_seed;
    let outcome = TestRunner::new(config).run(programs, |program| {
        run(program);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nagain with PROPTEST_RNG_SEED={seed}");
    }
    seed
}
