//! One range: its state, what is known of its pages, and what may be done to it.
//!
//! The way of a range, from file to file:
//!
//! 1. A guard is dropped: [`state`] makes the range *volatile*. One exchange; nobody else is told.
//! 2. The reclaimer chooses the range (outside this folder) and [`protocol`] *offers* it: [`witness`] notes in the
//!    [`page_map`] what each page holds, and the system takes over.
//! 3. The kernel takes pages, or does not.
//! 4. Somebody pins the range again: [`protocol`] *rescues* it, [`witness`] finds out which pages are lost, by loads and
//!    by the store in [`dirty`], and [`state`] makes the range *pinned*.
//!
//! This folder knows neither policy nor pressure.

pub(crate) mod gate;
#[cfg(not(loom))]
pub(crate) mod page_map;
#[cfg(not(loom))]
pub(crate) mod protocol;
#[cfg(not(loom))]
mod share_record;
#[cfg(not(loom))]
pub(crate) mod sharing;
#[cfg(not(loom))]
pub(crate) mod slots;
pub(crate) mod state;
pub(crate) mod wakes;

#[cfg(not(loom))]
mod dirty;
#[cfg(not(loom))]
pub(crate) mod witness;

#[cfg(not(loom))]
pub(crate) use witness::Memory;
