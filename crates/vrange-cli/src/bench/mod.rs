//! Measurements, beside what one would do without the library.

pub(crate) mod cache;
pub(crate) mod chart;
pub(crate) mod machine;
pub(crate) mod malloc;
mod mapping;
mod memory;
mod progress;
pub(crate) mod ranges;
pub(crate) mod raw;
mod samples;
pub(crate) mod table;
mod targets;

/// What has to be typed for the same results.
fn typed(bench: &str, quick: bool) -> String {
    format!("vrange bench {bench}{}", if quick { " --quick" } else { "" })
}
