//! The promise C10 of the contract, on the real kernel: that pages are moved, merged and split is no loss.
//!
//! A test program of its own: compaction takes pages of the whole machine off the kernel's lists, and others count theirs.

mod c10;
mod c10_huge;
mod c10_ksm;
#[expect(dead_code, unused_imports, reason = "most of it is for the other promises")]
mod support;
