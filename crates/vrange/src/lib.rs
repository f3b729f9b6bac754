//! Volatile memory for Linux.
#![doc = include_str!("../docs/overview.md")]

#[doc = include_str!("../docs/your_process.md")]
pub mod your_process {}

/// Keeps the README's examples true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(not(loom))]
mod buffer;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod fork;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod heap;
#[cfg(not(loom))]
mod pressure;
mod range;
#[cfg(not(loom))]
mod reclaim;
#[cfg(not(loom))]
mod space;
#[cfg(not(loom))]
mod stats;
mod sync;

#[cfg(not(loom))]
pub use buffer::{Buffer, Phase};
#[cfg(not(loom))]
pub use error::{Error, ErrorKind};
#[cfg(not(loom))]
pub use guard::{LostBytes, Pinned, Purged, ReadGuard, WriteGuard};
#[cfg(not(loom))]
pub use heap::{Content, Heap, HeapBuilder, Order};
#[cfg(not(loom))]
pub use reclaim::{Reclaimer, Step};
#[cfg(not(loom))]
pub use stats::{Now, Pages, Stats};
