//! mimalloc 3 whose free memory is volatile, as the allocator of a Rust program:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: vrange_allocator::Mimalloc = vrange_allocator::Mimalloc;
//! # let block = vec![1u8; 1 << 20];
//! # assert_eq!(block[1 << 19], 1);
//! ```
//!
//! Memory that the program frees is marked, which costs nanoseconds, instead of being handed to the kernel, which costs half a millisecond a
//! MiB with the page faults that follow. It is offered to the kernel after a tenth of a second, and released after ten seconds; when memory
//! gets short the kernel takes what is offered.
//!
//! mimalloc asks a callback to commit and decommit parts of its arenas, and its arenas lie in memory of ours:
//!
//! * They are reserved when the program starts, before mimalloc makes one of its own, and more of them before they are full. What was
//!   never used of them cannot be accessed.
//! * `purge_delay` becomes 0 once the reclaimer runs: what is free is marked at once, since that costs nothing. (`MIMALLOC_PURGE_DELAY` still
//!   decides.)
//! * `page_commit_on_demand` is off whatever the environment says: with it, mimalloc would commit pages of its own past the callback, and
//!   live data would stay marked.
//! * A program that limits its address space itself (`RLIMIT_AS`) calls [`make_room`] before.
//! * Where the kernel does not overcommit (`vm.overcommit_memory=2`), a reservation would be counted as used, so mimalloc is left as it is.
//!
//! The variables `VRANGE_MALLOC` (`off`: mimalloc as it is), `VRANGE_DECAY` (seconds), `VRANGE_LIMIT` (bytes) and `VRANGE_STATS` (`1`) are read
//! when the program starts: see [`Settings`](vrange_malloc::Settings). What happens to the process is told in the documentation of
//! `vrange`.

mod arena;
mod global;
mod huge_pages;
mod reservation;
mod steps;

pub use arena::{LARGE_BYTES, before_large_allocation, make_room, start};
pub use global::Mimalloc;
