//! Which ranges go, and when.
//!
//! * [`selection`] finds the coldest ranges;
//! * [`reserve`] decides how much is to go: pure arithmetic over readings;
//! * [`cycle`] reads, decides and acts once;
//! * [`runtime`] is the process's one thread that does this over and over, and its sleep.

mod cycle;
mod reserve;
pub(crate) mod runtime;
pub(crate) mod selection;
mod sleeper;

pub use cycle::{Reclaimer, Step};
pub(crate) use sleeper::Sleeper;
