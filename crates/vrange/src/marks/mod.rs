//! Marks on memory that is not ours: any private anonymous mapping of the process.
//!
//! Two kinds of memory can be marked, and the difference is what we can know of its end:
//!
//! * *Adopted* memory: somebody has promised to say so before it is unmapped. A mark is a bit, and an offer comes later, if
//!   memory gets short: [`block`], [`offers`].
//! * All other memory. An offer that came later could hit something else that was mapped there meanwhile, so it comes with
//!   the mark, and nothing is done to the page afterwards but in the unmark: [`at_once`].
//!
//! [`address_map`] finds the block of an address. Nothing here allocates, or takes a lock that an allocator could want.

#[cfg(not(loom))]
mod address_map;
#[cfg(not(loom))]
mod at_once;
mod block;
#[cfg(not(loom))]
mod engine;
#[cfg(not(loom))]
mod offers;
mod page_set;
#[cfg(not(loom))]
mod policy;
#[cfg(not(loom))]
mod unmark;

#[cfg(not(loom))]
pub(crate) use at_once::keep_what_is_there;
#[cfg(not(loom))]
pub use engine::Mark;
#[cfg(not(loom))]
pub(crate) use engine::{Kind, MARKS, Marks, Sums};
