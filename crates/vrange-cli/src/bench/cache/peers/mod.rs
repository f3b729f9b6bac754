//! The caches. Others are each as its own documentation has them at their best: weighed by the bytes of values, with the fastest hasher that it
//! offers, its own number of shards, and values that a hit neither copies nor looks for twice.

mod foyer;
mod moka;
mod ours;
mod quick_cache;

pub(super) use foyer::Foyer;
pub(super) use moka::Moka;
pub(super) use ours::Vrange;
pub(super) use quick_cache::QuickCache;
