//! Other caches, each as its own documentation has it at its best: weighed by the bytes of values, with the fastest hasher that it
//! offers, its own number of shards, and values that a hit neither copies nor looks for twice.

mod foyer;
mod moka;
mod quick_cache;

pub(super) use foyer::Foyer;
pub(super) use moka::Moka;
pub(super) use quick_cache::QuickCache;
