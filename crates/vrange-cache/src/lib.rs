//! A cache with no size to choose.
#![doc = include_str!("../docs/overview.md")]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "the models use a part of what is here"))]

#[doc = include_str!("../docs/behaviour.md")]
pub mod behaviour {}

/// Keeps the README's examples true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(feature = "http-cache", not(loom)))]
pub mod adapters;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod cache;
#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod counters;
#[cfg(not(loom))]
mod entry;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod flight;
mod index;
#[cfg(not(loom))]
mod inner;
#[cfg(not(loom))]
mod log;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
mod policy;
mod sync;
#[cfg(not(loom))]
mod told;
/// Of the log, what the models are of.
#[cfg(loom)]
#[path = "log/turn.rs"]
mod turn;
#[cfg(not(loom))]
mod value;

#[cfg(not(loom))]
pub use builder::Builder;
#[cfg(not(loom))]
pub use cache::Cache;
#[cfg(not(loom))]
pub use counters::Stats;
#[cfg(not(loom))]
pub use entry::{Entry, Fetched};
#[cfg(not(loom))]
pub use error::{Error, ErrorKind};
#[cfg(not(loom))]
pub use told::Cause;
#[cfg(not(loom))]
pub use value::Value;
