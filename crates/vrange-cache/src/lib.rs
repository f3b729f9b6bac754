//! A cache with no size to choose.
#![doc = include_str!("../docs/overview.md")]

#[doc = include_str!("../docs/behaviour.md")]
pub mod behaviour {}

/// Keeps the README's examples true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "http-cache")]
pub mod adapters;
mod builder;
mod cache;
mod clock;
mod counters;
mod entry;
mod error;
mod flight;
mod index;
mod inner;
mod log;
mod policy;
mod sync;
mod told;
mod value;

pub use builder::Builder;
pub use cache::Cache;
pub use counters::Stats;
pub use entry::{Entry, Fetched};
pub use error::{Error, ErrorKind};
pub use told::Cause;
pub use value::Value;
