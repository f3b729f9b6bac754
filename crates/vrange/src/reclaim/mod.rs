//! Which ranges go, and when.
//!
//! * [`selection`] finds the coldest ranges;
//! * [`reserve`] decides how much is to go: pure arithmetic over readings;
//! * [`offers`] keeps account of what was offered and is still to be had;
//! * [`cycle`] reads, decides and acts once;
//! * [`runtime`] is the process's one thread that does this over and over, and its sleep.

#[cfg(not(loom))]
mod cycle;
#[cfg(not(loom))]
mod offers;
#[cfg(not(loom))]
mod reserve;
#[cfg(not(loom))]
pub(crate) mod runtime;
#[cfg(not(loom))]
pub(crate) mod selection;
mod sleeper;

#[cfg(not(loom))]
pub use cycle::{Reclaimer, Step};
#[cfg(not(loom))]
pub(crate) use sleeper::Sleeper;
