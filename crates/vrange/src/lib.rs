//! Volatile memory for Linux.
#![doc = include_str!("../docs/overview.md")]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "the models use a part of what is here"))]

#[doc = include_str!("../docs/your_process.md")]
pub mod your_process {}

/// Keeps the README's examples true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Keeps the compiler refusing what it must refuse.
#[cfg(doctest)]
#[doc = include_str!("../docs/misuse.md")]
struct Misuse;

#[cfg(not(loom))]
mod bare;
#[cfg(not(loom))]
mod buffer;
#[cfg(all(test, not(loom)))]
mod engine_tests;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod guard;
#[cfg(not(loom))]
mod heap;
#[cfg(not(loom))]
mod inner;
mod marks;
#[cfg(all(test, loom))]
mod model;
#[cfg(not(loom))]
pub mod observe;
#[cfg(not(loom))]
mod prefetch;
#[cfg(not(loom))]
mod pressure;
mod range;
#[cfg(not(loom))]
pub mod raw;
#[cfg(not(loom))]
mod reclaim;
#[cfg(not(loom))]
mod settings;
mod sleeper;
#[cfg(not(loom))]
mod space;
#[cfg(not(loom))]
mod stats;
mod sync;

#[cfg(not(loom))]
pub use bare::BarePin;
#[cfg(not(loom))]
pub use buffer::{Buffer, Phase};
#[cfg(not(loom))]
pub use error::{Error, ErrorKind};
#[cfg(not(loom))]
pub use guard::{LostBytes, Pinned, Purged, ReadGuard, WriteGuard};
#[cfg(not(loom))]
pub use heap::{Heap, HeapBuilder};
#[cfg(not(loom))]
pub use reclaim::{Reclaimer, Step};
#[cfg(not(loom))]
pub use settings::{Content, Order};
#[cfg(not(loom))]
pub use stats::{Now, Pages, Stats};
