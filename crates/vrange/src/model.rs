//! How loom is run on the models beside the code.
//!
//! Loom skips orders that it takes for equal to one it has tried, and for that it remembers only the last access to each
//! word: of two loads before a store, the order of the first and the store is not tried. So models let every thread take
//! part by an exchange, and the controls, models with a mistake, show that what is looked for can be found.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// A thread is interrupted in the middle at most this often. Each control is found with two.
const PREEMPTIONS_MAX: usize = 3;

/// Runs `model` in every order of its steps.
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    check_within(PREEMPTIONS_MAX, model);
}

/// As [`check`], in orders with at most this many preemptions: for models of many steps. `LOOM_MAX_PREEMPTIONS` goes before
/// either.
pub(crate) fn check_within(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions_max));
    builder.check(model);
}

/// Why loom rejects `model`, which has a mistake on purpose: shows that the model would notice.
pub(crate) fn mistake_in(model: impl Fn() + Sync + Send + 'static) -> String {
    let failure = catch_unwind(AssertUnwindSafe(|| check(model))).expect_err("the mistake goes unnoticed");
    match failure.downcast::<String>() {
        Ok(message) => *message,
        Err(failure) => (*failure.downcast::<&str>().expect("panics carry messages")).to_owned(),
    }
}
