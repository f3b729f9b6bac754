//! Measurements.

pub(crate) mod ranges;
