//! Measurements, beside what one would do without the library.

mod mapping;
pub(crate) mod ranges;
pub(crate) mod raw;
mod samples;
mod table;
mod targets;
