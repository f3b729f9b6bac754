//! Which ranges go, and when.
//!
//! * [`pool`] is what it picks from;
//! * [`selection`] finds the coldest ranges;
//! * [`reserve`] decides how much is to go: pure arithmetic over readings;
//! * [`offers`] keeps account of what was offered and is still to be had;
//! * [`shortage`] is what allocators are told of it;
//! * [`cycle`] reads, decides and acts once;
//! * [`bounds`] is what pinning and unpinning threads do themselves;
//! * [`runtime`] is the process's one thread that does this over and over, its sleep, and what happens around a `fork`;
//! * [`report`] fills in the figures that others may see;
//! * [`manual`] is the same for a program that does it itself.

pub(crate) mod bounds;
mod cycle;
mod manual;
mod offers;
pub(crate) mod pool;
mod report;
pub(crate) mod reserve;
pub(crate) mod runtime;
pub(crate) mod selection;
pub(crate) mod shortage;

pub use cycle::Step;
pub use manual::Reclaimer;
