//! `libvrange`: the library `vrange` for C and C++. The header is `include/vrange.h`, made from this crate by
//! `cargo xtask header`; the manual pages are in `man/`.
//!
//! One file a noun: [`heap`], [`buffer`], [`reclaimer`], [`marks`], [`stats`], [`status`]. Every function's name begins with
//! `vrange_`. A function that can fail returns a number, 0 or more for success, less for failure, and sets `errno` when it
//! fails. Pointers that must not be null are checked. A panic, which would be a mistake of this library, ends at the border
//! ([`border`]) and is a status like others.
//!
//! What a caller can do wrong here that Rust's compiler would not let it do is in the documentation of each function, and in
//! its `# Safety`.

mod border;
pub mod buffer;
pub mod heap;
pub mod marks;
pub mod reclaimer;
pub mod stats;
pub mod status;
