//! Real programs on hooked allocators: each does the same work plainly and through `vrange run`, with the same results.
//!
//! Servers are started on a loopback port or a socket in a directory of the test's own, and ended by their process number. Of
//! those that free much of what they had, resident memory comes back to what the plain run keeps.
//!
//! A program that is not installed, and an allocator that is not here, is a `skipped:` line of its own test. What takes long
//! (memcached, PostgreSQL, a C++ compiler) runs with `VRANGE_TEST_SCALE=soak`.

mod compiler;
mod git;
mod memcached;
mod postgresql;
mod prefork;
mod python;
mod redis;
mod sqlite;
mod support;

const MIB: u64 = 1 << 20;
