//! What allocators give back, kept: free memory is marked volatile instead of being handed to the kernel page by page.
//!
//! `madvise(MADV_DONTNEED)` for 4 MiB costs a fifth of a millisecond, and touching the memory again two milliseconds more. A mark costs
//! some tens of nanoseconds, and so does its end; the kernel hears of it only if the memory stays free, or gets short.
//!
//! | allocator | how it is told | |
//! |---|---|---|
//! | gperftools' tcmalloc | it calls two functions of its own by name, which a preloaded library can define | [`tcmalloc`] |
//! | jemalloc 5 | extent hooks, set for each arena | [`jemalloc`] |
//! | mimalloc 3 | arenas in our memory, with a callback for commit and decommit | crate `vrange-allocator` |
//!
//! glibc's own allocator cannot be told: it has had no hooks since 2.34 (`__morecore` is gone), and calls `madvise`, `munmap` and
//! `brk` from inside, where no preloaded function of these names is asked (600 such calls traced, none seen). A program that
//! brings no allocator is given mimalloc.
//!
//! All hooks come down to three functions of [`free_memory`]. They are called from inside an allocator, with its locks held: they
//! allocate nothing, start nothing, write no log, and wait at most for a piece of an offer (140 µs).

pub mod free_memory;
pub mod jemalloc;
pub mod report;
pub mod settings;
pub mod tcmalloc;

pub use settings::Settings;

/// What allocators and the kernel deal in.
const PAGE_BYTES: usize = vrange_os::PAGE_BYTES;
